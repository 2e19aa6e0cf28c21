"""Whether it fits, in one line, and what would make it fit.

Owns: the sentence and the remedies that are tried. Leaves to others: the arithmetic (`plan`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvatlas.budget.plan import Budget, budget
from kvatlas.budget.request import BudgetRequest
from kvatlas.errors import InputError
from kvatlas.units import format_bytes

__all__ = ["LengthFit", "Verdict", "length_fits", "verdict"]

_MOST_RANKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthFit:
    """Requests of one length.

    Attributes:
        tokens: of each request, prompt and output together.
        blocks: the most that one holds at once.
        requests: how many have room at the same time, `max_num_seqs` aside.
        concurrency: vLLM's own figure, a fraction.
    """

    tokens: int
    blocks: int
    requests: int
    concurrency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer.

    Attributes:
        fits: whether the wanted length and concurrency have room.
        line: the sentence.
        remedy: what to try, empty where it fits or nothing was found.
    """

    fits: bool
    line: str
    remedy: str = ""


def length_fits(found: Budget) -> tuple[LengthFit, ...]:
    """Return how many requests of each length have room."""
    return tuple(
        LengthFit(
            tokens=tokens,
            blocks=found.pool.blocks_per_request(tokens),
            requests=found.pool.requests(tokens),
            concurrency=found.pool.concurrency(tokens),
        )
        for tokens in found.lengths
    )


def verdict(found: Budget) -> Verdict:
    """Return whether the longest of the wanted lengths fits, as often as wanted.

    Cost: up to a dozen budgets where it does not fit.
    """
    line = _why_not(found)
    if line is None:
        return Verdict(fits=True, line=_why(found))
    return Verdict(fits=False, line=line, remedy=_remedy(found.request))


def _wanted(found: Budget) -> tuple[int, int]:
    return max(found.lengths), found.request.concurrency or 1


def _why(found: Budget) -> str:
    tokens, wanted = _wanted(found)
    blocks = wanted * found.pool.blocks_per_request(tokens)
    usable = found.pool.num_blocks - 1
    return (
        f"It fits: {_requests(wanted, tokens)} need{'s' if wanted == 1 else ''} {blocks:,} of "
        f"{usable:,} blocks; {found.pool.requests(tokens):,} such requests have room."
    )


def _why_not(found: Budget) -> str | None:
    """Return the sentence that says why not, None where it fits."""
    waterfall = found.tightest.waterfall
    request = found.request
    requested = waterfall.requested_bytes
    weights = found.tightest.stage.weight_bytes
    if waterfall.kv_bytes <= 0:
        return (
            f"It does not fit: weights take {format_bytes(weights)} of the "
            f"{format_bytes(requested)} that vLLM may use, everything together "
            f"{format_bytes(waterfall.taken_bytes)}: nothing is left for the KV cache."
        )
    if request.kv_cache_memory_bytes is not None and waterfall.unused_bytes < 0:
        return (
            f"It does not fit: {format_bytes(waterfall.kv_bytes)} of KV cache are "
            f"{format_bytes(-waterfall.unused_bytes)} more than there is."
        )
    tokens, wanted = _wanted(found)
    room = found.pool.requests(tokens)
    if room >= wanted:
        return None
    longest = found.pool.longest(found.max_model_len)
    if room == 0:
        return (
            f"It does not fit: one request of {tokens:,} tokens needs "
            f"{found.pool.blocks_per_request(tokens):,} blocks, and there are "
            f"{max(0, found.pool.num_blocks - 1):,}; the longest that fits is {longest:,} tokens."
        )
    return (
        f"It does not fit: {_requests(wanted, tokens)} need "
        f"{wanted * found.pool.blocks_per_request(tokens):,} blocks, and there are "
        f"{found.pool.num_blocks - 1:,}; {room:,} such requests have room."
    )


def _requests(count: int, tokens: int) -> str:
    who = "one request" if count == 1 else f"{count:,} requests"
    return f"{who} of {tokens:,} tokens"


def _remedy(request: BudgetRequest) -> str:
    """Return the first change, cheapest first, under which everything wanted fits."""
    if request.kv_cache_memory_bytes is not None:
        return _first(
            request, (("without --kv-cache-memory-bytes", {"kv_cache_memory_bytes": None}),)
        )
    changes: list[tuple[str, dict[str, object]]] = []
    for share in (0.95, 0.9, 0.85):
        if share != request.gpu_memory_utilization:
            text = f"with --gpu-memory-utilization {share:g}"
            changes.append((text, {"gpu_memory_utilization": share}))
    if request.kv_dtype == "auto":
        changes.append(("with --kv-cache-dtype fp8", {"kv_dtype": "fp8"}))
    parallel, ranks = request.parallel, 2 * request.parallel.tp
    while ranks <= _MOST_RANKS:
        text = f"with --tensor-parallel-size {ranks}"
        changes.append((text, {"parallel": replace(parallel, tp=ranks)}))
        ranks *= 2
    return _first(request, tuple(changes))


def _first(request: BudgetRequest, changes: tuple[tuple[str, dict[str, object]], ...]) -> str:
    for text, change in changes:
        try:
            tried = budget(replace(request, **change))  # type: ignore[arg-type]
        except InputError:
            continue  # ranks that cannot share this model, a dtype that it does not take
        if _why_not(tried) is None:
            return f"It fits {text}."
    return ""
