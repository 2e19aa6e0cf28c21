"""`kvatlas replay --memory-budget`: from flags to one budget for the device and the host tier.

Owns: which flags go together, what the first division is. Leaves to others: the divisions
(`kvatlas.pressure.hybrid`), the pool's layers (`pools`), the tier (`host_tier`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kvatlas.cli.pools import PoolChoice, choose_pool
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.pressure.hybrid import MemoryBudget

__all__ = ["choose_budget", "refuse_budget"]

_WITHOUT_BUDGET = {
    "device_price": 1.0,
    "budget_interval": 64,
    "budget_step": 1 / 32,
    "budget_least_gain": 0.01,
}


def choose_budget(flags: ReplayFlags) -> tuple[MemoryBudget, PoolChoice, ReplayFlags] | None:
    """Return the budget, the pool as large as it can become, and the flags of a tier as large.

    None without `--memory-budget`. Raises: InputError naming a field.
    """
    if flags.memory_budget is None:
        for name, usual in _WITHOUT_BUDGET.items():
            if name in flags.given or getattr(flags, name) != usual:
                raise InputError(
                    "there is no budget that this could be about",
                    field=name,
                    value=getattr(flags, name),
                    remedy="add --memory-budget",
                )
        return None
    from kvatlas.pressure.hybrid import MemoryBudget, Tuning

    for name, none in (("host_memory", None), ("host_blocks", 0)):
        if getattr(flags, name) != none:
            raise InputError(
                "the host tier gets what the budget leaves it",
                field=name,
                value=getattr(flags, name),
                remedy="leave it out; --blocks or --kv-memory says how the device starts",
            )
    if not flags.prefix_caching:
        raise InputError(
            "a budget is divided by what is found in the prefix cache",
            field="memory_budget",
            value=flags.memory_budget,
            remedy="leave out --no-prefix-caching",
        )
    if flags.budget_interval < 0:
        raise InputError(
            "must be at least 0",
            field="budget_interval",
            value=flags.budget_interval,
            remedy="0 keeps the first division",
        )
    for name in ("budget_step", "budget_least_gain"):
        if flags.budget_interval == 0 and name in flags.given:
            raise InputError(
                "nothing is moved with --budget-interval 0",
                field=name,
                value=getattr(flags, name),
                remedy="leave one of the two out",
            )
    total = parse_bytes(flags.memory_budget, field="memory_budget")
    started = flags.blocks is not None or flags.kv_memory is not None
    pool = choose_pool(flags if started else _as_if_all_were_the_devices(flags, total))
    groups = pool.groups or ()
    if len(groups) > 1 or not all(isinstance(each, FullAttentionSpec) for each in groups):
        raise InputError(
            "a host tier, which shares the budget, is modelled for one group of full attention",
            field="memory_budget",
            value=flags.memory_budget,
            remedy="leave it out for this model",
        )
    block_bytes = int(pool.said.get("bytes_per_block") or 0)
    if flags.host_block_bytes is not None:
        block_bytes = parse_bytes(flags.host_block_bytes, field="host_block_bytes")
    if block_bytes == 0:
        raise InputError(
            "how many blocks a budget buys depends on their bytes",
            field="memory_budget",
            value=flags.memory_budget,
            remedy="add --model, or --host-block-bytes such as 2MiB",
        )
    tuning = None
    if flags.budget_interval:
        tuning = Tuning(
            interval=flags.budget_interval,
            step_share=flags.budget_step,
            least_gain=flags.budget_least_gain,
        )
    budget = MemoryBudget(
        budget_bytes=total,
        block_bytes=block_bytes,
        device_price=flags.device_price,
        tuning=tuning,
        null_blocks=1,
    )
    most = budget.most
    if started:
        _require_within(flags, pool.num_blocks, most.device_blocks + 1)
        budget = replace(budget, device_blocks=pool.num_blocks - 1)
    notes = tuple(note for note in pool.notes if not note.startswith("no --blocks given"))
    pool = replace(pool, num_blocks=most.device_blocks + 1, notes=notes)
    said = pool.said | {"blocks_from": "--memory-budget"}
    if pool.said.get("bytes_per_block"):  # of the model's layers: what the pool can become
        said["kv_memory_bytes"] = pool.num_blocks * int(pool.said["bytes_per_block"] or 0)
    pool = replace(pool, said=said)
    return budget, pool, replace(flags, host_blocks=most.host_blocks)


def refuse_budget(flags: ReplayFlags, *, recorded: bool) -> None:
    """Refuse a budget where sizes are recorded, or are to be. Raises: InputError."""
    if flags.memory_budget is None:
        return
    if recorded:
        raise InputError(
            "a recording brings sizes of its own",
            field="--memory-budget",
            value=flags.memory_budget,
            remedy="leave it out",
        )
    for name in ("events", "html"):
        if getattr(flags, name) is not None:
            raise InputError(
                "a recording cannot say that the pool has changed its size",
                field=f"--{name}",
                value=getattr(flags, name),
                remedy="leave it out, or --memory-budget",
            )


def _require_within(flags: ReplayFlags, num_blocks: int, most: int) -> None:
    """Refuse a start that the budget does not buy, counted as the user counts. Raises."""
    if not 2 <= num_blocks <= most:
        in_bytes = flags.kv_memory is not None
        raise InputError(
            f"this budget buys 2 to {most:,} blocks on the device, the null block included"
            + (f", and this is {num_blocks:,}" if in_bytes else ""),
            field="kv_memory" if in_bytes else "blocks",
            value=flags.kv_memory if in_bytes else flags.blocks,
            remedy="stay within that, or raise --memory-budget",
        )


def _as_if_all_were_the_devices(flags: ReplayFlags, total: int) -> ReplayFlags:
    """Return the flags of a pool that takes the whole budget, for the bytes of a model's block."""
    if flags.model is None:
        return flags
    return replace(flags, kv_memory=str(int(total / flags.device_price)))
