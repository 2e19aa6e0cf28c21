"""From flags to the host tier below the device: how many blocks, of how many bytes, how fast.

Owns: which of these flags go together, and which one an error is about. Leaves to others: the rules
of the values (`EngineConfig`), and the tier (`kvatlas.tiers`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kvatlas.cli.pools import PoolChoice
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine.settings import ENGINE_SETTINGS, TIER
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

__all__ = ["host_settings", "naming_host_memory"]

_WITHOUT_TIER = tuple(
    setting
    for setting in ENGINE_SETTINGS
    if setting.panel == TIER and setting.field != "host_blocks"
)
_PER_SECOND = "/s"
_TOO_MANY_BLOCKS = 2**31
_BYTES_REMEDY = "add --host-block-bytes, such as 2MiB, or --model with --kv-memory"


def host_settings(flags: ReplayFlags, pool: PoolChoice) -> dict[str, Any]:
    """Return the settings of `EngineConfig` that make the host tier, nothing for none.

    Raises: InputError naming a field.
    """
    block_bytes = int(pool.said.get("bytes_per_block") or 0)
    if flags.host_block_bytes is not None:
        block_bytes = parse_bytes(flags.host_block_bytes, field="host_block_bytes")
    blocks = _blocks(flags, block_bytes)
    if blocks == 0:
        for setting in _WITHOUT_TIER:
            value = getattr(flags, setting.name)
            if value != setting.usual:
                raise InputError(
                    "there is no host tier that this could be about",
                    field=setting.name,
                    value=value,
                    remedy="add --host-memory or --host-blocks",
                )
        return {}
    bandwidth = 0.0
    if flags.host_bandwidth is not None:
        bandwidth = _bandwidth(flags.host_bandwidth)
        if bandwidth == 0:
            raise InputError(
                "no blocks move at 0 bytes per second", field="host_bandwidth", value=0
            )
        if block_bytes == 0:
            raise InputError(
                "how long a block takes depends on its bytes",
                field="host_bandwidth",
                value=flags.host_bandwidth,
                remedy=_BYTES_REMEDY,
            )
    typed = {each.field: getattr(flags, each.name) for each in _WITHOUT_TIER if not each.in_bytes}
    sizes = {"host_blocks": blocks, "host_bandwidth": bandwidth, "host_block_bytes": block_bytes}
    return typed | sizes


@contextmanager
def naming_host_memory(flags: ReplayFlags) -> Iterator[None]:
    """Let errors about the tier's blocks name the memory that was typed instead."""
    try:
        yield
    except InputError as error:
        if error.field == "host_blocks" and flags.host_memory is not None:
            error.field, error.value = "host_memory", flags.host_memory
        raise


def _bandwidth(text: str) -> float:
    """Return the bytes per second that `text` says."""
    try:
        return float(parse_bytes(text.removesuffix(_PER_SECOND), field="host_bandwidth"))
    except InputError as error:
        raise InputError(
            error.what.replace("byte size", "bandwidth"),
            field=error.field,
            value=text,
            remedy="write 25GB/s" if error.remedy else None,
        ) from None


def _blocks(flags: ReplayFlags, block_bytes: int) -> int:
    if flags.host_memory is None:
        return flags.host_blocks
    if flags.host_blocks:
        raise InputError(
            "two sizes for one host tier",
            field="host_memory",
            value=flags.host_memory,
            remedy="give either --host-blocks or --host-memory",
        )
    if block_bytes == 0:
        raise InputError(
            "how many blocks fit depends on their bytes",
            field="host_memory",
            value=flags.host_memory,
            remedy=_BYTES_REMEDY,
        )
    blocks = parse_bytes(flags.host_memory, field="host_memory") // block_bytes
    if blocks == 0:
        raise InputError(
            f"not even one block of {block_bytes:,} bytes fits",
            field="host_memory",
            value=flags.host_memory,
        )
    if blocks >= _TOO_MANY_BLOCKS:
        raise InputError(
            f"{blocks:,} blocks of {block_bytes:,} bytes; must be below 2**31 blocks",
            field="host_memory",
            value=flags.host_memory,
            remedy="use less memory, or larger blocks",
        )
    return blocks
