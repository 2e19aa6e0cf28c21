"""`kvatlas replay --block-size auto`: the block size from the trace, the same memory in its blocks.

Owns: where there is a choice, which other flags count blocks and are counted anew. Leaves to
others: the choice (`kvatlas.plan.auto_block_size`), its words (`kvatlas.report.memory_words`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kvatlas.cli.block_size_words import AUTO
from kvatlas.cli.pools import BLOCK_SIZES
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.cli.engines import EngineChoice
    from kvatlas.workload import Workload

__all__ = ["chosen_for", "refuse_auto"]


def refuse_auto(flags: ReplayFlags, *, recorded: bool) -> None:
    """Refuse a choice where there is none to make. Raises: InputError."""
    if flags.block_size != AUTO:
        return
    if recorded:
        raise InputError(
            "a recording brings a block size of its own",
            field="--block-size",
            value="auto",
            remedy="give a number",
        )
    if flags.engine != "vllm":
        raise InputError(
            f"{flags.engine} has one block size",
            field="--block-size",
            value="auto",
            remedy="give a multiple of 256",
        )


def chosen_for(
    flags: ReplayFlags,
    choice: EngineChoice,
    workload: Workload,
    choose: Callable[[ReplayFlags], EngineChoice],
) -> EngineChoice:
    """Return the engine that `choose` makes of the flags with the block size chosen.

    `choice` is the engine with blocks of 16 tokens. What is counted in such blocks on the command
    line is the same memory afterwards. Raises: InputError where there is no choice.
    """
    from kvatlas.plan.auto_block_size import choose_block_size

    usual = BLOCK_SIZES[flags.engine]
    chosen = choose_block_size(workload, choice.config, choice.drive)
    size, notes = chosen.block_size, chosen.notes()
    if size != usual:
        before, flags = flags, _counted_anew(flags, usual, size)
        counted = [
            f"--{name.replace('_', '-')} {getattr(before, name)} becomes {getattr(flags, name)}"
            for name in ("blocks", "host_blocks", "host_block_bytes")
            if getattr(before, name) != getattr(flags, name)
        ]
        if counted:
            notes += (
                f"counted in blocks of {usual} tokens: in blocks of {size} {', '.join(counted)}",
            )
    found = choose(replace(flags, block_size=size))
    pool = replace(found.pool, notes=(*found.pool.notes, *notes))
    return replace(found, pool=pool, block_size_choice=chosen)


def _counted_anew(flags: ReplayFlags, usual: int, size: int) -> ReplayFlags:
    """Return the flags with blocks of `size` tokens in place of blocks of `usual`."""
    if flags.blocks is not None:
        flags = replace(flags, blocks=flags.blocks * usual // size)
    if flags.host_blocks:
        flags = replace(flags, host_blocks=max(1, flags.host_blocks * usual // size))
    if flags.host_block_bytes is not None:
        per_block = parse_bytes(flags.host_block_bytes, field="host_block_bytes")
        flags = replace(flags, host_block_bytes=str(per_block * size // usual))
    return flags
