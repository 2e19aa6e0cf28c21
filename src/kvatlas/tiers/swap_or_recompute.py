"""`SwapOrRecompute`: whether blocks come back sooner than they are computed again.

Owns: the two times and the verdict. Leaves to others: moving (`SwapManager`), the decision inside a
replay, which goes by the replay's own clock (`EngineConfig.swap`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvatlas.errors import InputError

__all__ = ["SwapDecision", "SwapOrRecompute"]


@dataclass(frozen=True, slots=True)
class SwapDecision:
    """What was weighed.

    Attributes:
        swap: whether moving is sooner.
        swap_s, recompute_s: seconds of either.
        text: one sentence with the numbers.
    """

    swap: bool
    swap_s: float
    recompute_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class SwapOrRecompute:
    """Bytes over a measured bandwidth against FLOPs over a measured rate.

    A token's K and V are `bytes_per_token`. Computing it again takes 2 FLOPs per parameter that it
    passes (`flops_per_token`) and, for each token that it attends to, the products with its key and
    its value: 4 FLOPs per layer, query head and element of a head (`flops_per_token_pair`). So the
    n tokens after the first c take

        n * flops_per_token + flops_per_token_pair * (n * c + n * (n + 1) / 2)

    The count is that of Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section
    2.1, forward pass. Llama 3.1 8B in bfloat16: 131,072 bytes (32 layers x 2 x 8 heads x 128 x 2),
    16.06e9 FLOPs (8.03e9 parameters), 524,288 per pair (4 x 32 layers x 32 heads x 128).

    Args:
        bytes_per_token: K and V in all layers.
        flops_per_token, flops_per_token_pair: see above.
        flops_per_s: what the device does in prefill, measured; half of its peak is usual.
        read_bandwidth: bytes per second back to the device, measured (`LevelStats.read_bandwidth`).
        write_bandwidth: bytes per second out of it; None: the same.
        overlapped: share of the moving that hides behind other work, 0 to 1.

    Raises:
        InputError: a number that is not positive.
    """

    bytes_per_token: float
    flops_per_token: float
    flops_per_token_pair: float = 0.0
    flops_per_s: float
    read_bandwidth: float
    write_bandwidth: float | None = None
    overlapped: float = 0.0

    def __post_init__(self) -> None:
        positive = ("bytes_per_token", "flops_per_token", "flops_per_s", "read_bandwidth")
        for name in positive:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError("must be a positive number", field=name, value=value)
        if not (math.isfinite(self.flops_per_token_pair) and self.flops_per_token_pair >= 0):
            raise InputError(
                "must be 0 or more", field="flops_per_token_pair", value=self.flops_per_token_pair
            )
        write = self.write_bandwidth
        if write is not None and not (math.isfinite(write) and write > 0):
            raise InputError("must be a positive number", field="write_bandwidth", value=write)
        if not 0.0 <= self.overlapped <= 1.0:
            raise InputError("must be from 0 to 1", field="overlapped", value=self.overlapped)

    def recompute_s(self, tokens: int, *, after: int = 0) -> float:
        """Return the seconds to compute `tokens` tokens that follow `after` others."""
        pairs = tokens * after + tokens * (tokens + 1) / 2
        flops = tokens * self.flops_per_token + pairs * self.flops_per_token_pair
        return flops / self.flops_per_s

    def swap_s(self, tokens: int, *, to_write: int = 0) -> float:
        """Return the seconds to bring `tokens` back, after `to_write` of them have gone out."""
        write = self.write_bandwidth or self.read_bandwidth
        moving = tokens / self.read_bandwidth + to_write / write
        return moving * self.bytes_per_token * (1.0 - self.overlapped)

    def decide(self, tokens: int, *, after: int = 0, to_write: int | None = None) -> SwapDecision:
        """Weigh both for `tokens` tokens that follow `after` others on the device.

        `to_write` of them are not in the tier yet (all by default, as at a preemption; 0 when they
        are there already, as at an admission). Raises: InputError for fewer than no tokens.
        """
        going = tokens if to_write is None else to_write
        if tokens < 0 or after < 0 or not 0 <= going <= tokens:
            raise InputError(
                "no such stretch of tokens", field="tokens", value=(tokens, after, to_write)
            )
        swap_s = self.swap_s(tokens, to_write=going)
        recompute_s = self.recompute_s(tokens, after=after)
        swap = swap_s < recompute_s
        sooner, later = ("moving", "computing") if swap else ("computing", "moving")
        text = (
            f"{tokens:,} tokens after {after:,}: moving takes {swap_s * 1e3:.3g} ms "
            f"({going:,} out), computing again {recompute_s * 1e3:.3g} ms: {sooner} is sooner "
            f"than {later}"
        )
        return SwapDecision(swap, swap_s, recompute_s, text)

    def break_even_bandwidth(self, tokens: int, *, after: int = 0) -> float:
        """Return the bytes per second, each way, below which a whole swap of `tokens` loses."""
        if tokens < 1:
            raise InputError("at least 1 token", field="tokens", value=tokens)
        bytes_moved = 2 * tokens * self.bytes_per_token * (1.0 - self.overlapped)
        return bytes_moved / self.recompute_s(tokens, after=after)
