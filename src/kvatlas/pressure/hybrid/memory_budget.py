"""`MemoryBudget`: the bytes that device blocks and a host tier share in a replay.

Owns: the numbers, and the divisions that they allow. Leaves to others: the replay that is run under
it (`budgeted_replay`), moving it (`loop`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.workload_rows import blocks_needed
from kvatlas.errors import InputError
from kvatlas.pressure.hybrid.tuning import Division, Prices, Space, Tuning, space
from kvatlas.workload import Workload

__all__ = ["MemoryBudget"]

_ROOM_FOR_LARGEST = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """One budget for the blocks on the device and those in the host tier.

    Attributes:
        budget_bytes: bytes times their price.
        block_bytes: bytes of a block in all layers.
        device_price: what a byte on the device takes of the budget; a byte of the host takes 1.
        device_blocks: on the device at first, None for half of the budget.
        tuning: the loop's knobs, None to keep the division as it starts.
        null_blocks: blocks on the device that hold nothing and are paid for: vLLM's null block.

    Raises: InputError: numbers that cannot be, a budget of less than a block in each part.
    """

    budget_bytes: int
    block_bytes: int
    device_price: float = 1.0
    device_blocks: int | None = None
    tuning: Tuning | None = field(default_factory=Tuning)
    null_blocks: int = 0

    def __post_init__(self) -> None:
        if self.block_bytes < 1:
            raise InputError("must be at least 1", field="block_bytes", value=self.block_bytes)
        if not 1e-3 <= self.device_price <= 1e6:
            raise InputError("must be 0.001 to 1e6", field="device_price", value=self.device_price)
        if self.most.device_blocks < 1 or self.most.host_blocks < 1:
            raise InputError(
                f"room for less than one block of {self.block_bytes:,} bytes on the device and one "
                "on the host",
                field="memory_budget",
                value=self.budget_bytes,
                remedy="give more",
            )
        device, most = self.device_blocks, self.most.device_blocks
        if device is not None and not 1 <= device <= most:
            raise InputError(
                f"this budget buys 1 to {most:,} blocks on the device, and one for the host",
                field="device_blocks",
                value=device,
            )

    @property
    def spendable_bytes(self) -> float:
        """The budget less what blocks take that hold nothing."""
        return self.budget_bytes - self.null_blocks * self.device_price * self.block_bytes

    @property
    def prices(self) -> Prices:
        """What a byte takes of the budget in each part."""
        return Prices(device=self.device_price)

    @property
    def most(self) -> Division:
        """The most that each part can become: all but a block of the other."""
        blocks = self.spendable_bytes / self.block_bytes
        device = int((blocks - 1) / self.device_price)
        return Division(max(0, device), max(0, int(blocks - self.device_price)), 0)

    def configured(self, config: EngineConfig) -> EngineConfig:
        """Return `config` with as many blocks as there can ever be in either part."""
        most = self.most
        return config.with_(num_blocks=most.device_blocks + 1, host_blocks=most.host_blocks)

    def divisions(self, workload: Workload, config: EngineConfig) -> tuple[Space, Division]:
        """Return the divisions under which everybody can be served, and the first one.

        The device keeps room for the largest request, and a tenth more where that is to be had.
        Where `device_blocks` is given, for the largest of those that fit it. O(N).
        """
        most, device = self.most, self.device_blocks
        reach = most.device_blocks if device is None else device
        needed = blocks_needed(workload, config)
        largest = int(np.max(needed[needed <= reach], initial=1))
        least = int(_ROOM_FOR_LARGEST * largest / (1 - min(config.watermark, 0.9))) + 1
        least = min(least, reach)
        whole = space(
            int(self.spendable_bytes),
            self.block_bytes,
            prices=self.prices,
            most=most,
            step_share=(self.tuning or Tuning()).step_share,
            least=Division(least, 1, 0),
        )
        if device is None:
            half = int(self.spendable_bytes / 2 / (self.device_price * self.block_bytes))
            device = max(half, least)
        rest = self.spendable_bytes - self.device_price * device * self.block_bytes
        host = min(max(1, int(rest / self.block_bytes)), most.host_blocks)
        return whole, Division(device, host, 0)
