"""The settings that rules propose to try, and how their values come about.

Owns: one `Change` per idea, shared by the rules. Leaves to others: which rule tries which.
"""

from __future__ import annotations

import math

from kvatlas.plan.rules.reading import Reading
from kvatlas.plan.rules.rule import Change

__all__ = [
    "ADMIT_BY_CHUNK",
    "CACHE_ON",
    "CAP_LONG_PROMPTS",
    "FCFS",
    "FEWER_SEATS",
    "FINE_BLOCKS",
    "HALF_BLOCKS",
    "HALF_BLOCK_SIZE",
    "HALF_BUDGET",
    "MORE_SEATS",
    "NO_ASYNC",
    "NO_WATERMARK",
    "PRIORITY",
    "TWICE_BLOCKS",
    "TWICE_BUDGET",
    "WATERMARK",
    "WHOLE_PROMPTS",
]

FINE_BLOCK_TOKENS = 16
"""vLLM's default block: at 16 tokens the rounding costs some 8 tokens per prompt."""
WATERMARK_SHARE = 0.01
"""The fixed watermark of vLLM V0, before it became a setting."""

_FEWEST_SEATS = 4
"""Running requests below which half of them is no way to serve."""


def _twice_blocks(reading: Reading) -> int:
    return 2 * int(reading.known("setting.num_blocks"))


def _half_blocks(reading: Reading) -> int | None:
    return int(reading.known("setting.num_blocks")) // 2 or None


def _fine_blocks(reading: Reading) -> int | None:
    size = int(reading.known("setting.block_size"))
    return FINE_BLOCK_TOKENS if size > FINE_BLOCK_TOKENS and size % FINE_BLOCK_TOKENS == 0 else None


def _half_block_size(reading: Reading) -> int | None:
    size = int(reading.known("setting.block_size"))
    # Half of 32 is what FINE_BLOCKS tries.
    return size // 2 if size % 2 == 0 and size // 2 > FINE_BLOCK_TOKENS else None


def _fewer_seats(reading: Reading) -> int | None:
    """Half of those that really run: half of an allowance that is never used changes nothing."""
    allowed = int(reading.known("setting.max_num_seqs"))
    running = reading["running.time_weighted"]
    used = allowed if running is None else min(allowed, math.ceil(running))
    return used // 2 if used >= _FEWEST_SEATS else None


def _more_seats(reading: Reading) -> int:
    return 2 * int(reading.known("setting.max_num_seqs"))


def _half_budget(reading: Reading) -> int | None:
    return int(reading.known("setting.max_num_batched_tokens")) // 2 or None


def _twice_budget(reading: Reading) -> int:
    return 2 * int(reading.known("setting.max_num_batched_tokens"))


def _watermark(reading: Reading) -> float | None:
    return WATERMARK_SHARE if reading["setting.watermark"] == 0 else None


def _no_watermark(reading: Reading) -> float | None:
    return 0.0 if reading["setting.watermark"] else None


def _cap_long_prompts(reading: Reading) -> int | None:
    if reading["setting.long_prefill_token_threshold"]:
        return None
    # A quarter of the step: three more prompts can be computed beside the long one.
    return int(reading.known("setting.max_num_batched_tokens")) // 4 or None


TWICE_BLOCKS = Change(
    "num_blocks", "`--blocks` x 2", _twice_blocks, price="twice the memory for the cache"
)
HALF_BLOCKS = Change("num_blocks", "`--blocks` / 2", _half_blocks)
FINE_BLOCKS = Change(
    "block_size", f"`--block-size {FINE_BLOCK_TOKENS}`, the memory kept", _fine_blocks
)
HALF_BLOCK_SIZE = Change("block_size", "`--block-size` / 2, the memory kept", _half_block_size)
FEWER_SEATS = Change(
    "max_num_seqs", "`--max-num-seqs`, half of those that run on average", _fewer_seats
)
MORE_SEATS = Change("max_num_seqs", "`--max-num-seqs` x 2", _more_seats)
HALF_BUDGET = Change("max_num_batched_tokens", "`--max-num-batched-tokens` / 2", _half_budget)
TWICE_BUDGET = Change(
    "max_num_batched_tokens",
    "`--max-num-batched-tokens` x 2",
    _twice_budget,
    price="more device memory for activations",
)
WATERMARK = Change("watermark", f"`--watermark {WATERMARK_SHARE:g}`", _watermark)
NO_WATERMARK = Change("watermark", "`--watermark 0`", _no_watermark)
CAP_LONG_PROMPTS = Change(
    "long_prefill_token_threshold",
    "`--long-prefill-token-threshold`, a quarter of the token budget",
    _cap_long_prompts,
)
CACHE_ON = Change("prefix_caching", "`--prefix-caching`", lambda reading: True)
NO_ASYNC = Change(
    "async_scheduling",
    "`--no-async-scheduling`",
    lambda reading: False if reading["setting.async_scheduling"] else None,
    price="the device waits for the scheduler between steps, which the replay's clock does not see",
)
ADMIT_BY_CHUNK = Change(
    "reserve_full_isl",
    "`--no-reserve-full-isl`",
    lambda reading: False if reading["setting.reserve_full_isl"] else None,
)
WHOLE_PROMPTS = Change(
    "reserve_full_isl",
    "`--reserve-full-isl`",
    lambda reading: True if reading["setting.reserve_full_isl"] == 0 else None,
)
PRIORITY = Change(
    "policy",
    "`--policy priority`",
    lambda reading: None if reading["setting.is_priority"] else "priority",
    needs_priorities=True,
)
FCFS = Change(
    "policy",
    "`--policy fcfs`",
    lambda reading: "fcfs" if reading["setting.is_priority"] else None,
)
