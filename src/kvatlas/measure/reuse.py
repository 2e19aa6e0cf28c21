"""Who reuses what, and what the prefix cache holds in vain.

Owns: `ReuseAnalyzer`: hit rates by name, reuse within and across sessions, top prefixes,
duplicates, stranded blocks, unhashed tails. Leaves to others: the compiled loops (`_reuse_kernel`,
`_reach_kernel`), joining keys into prefixes (`prefixes`), what became of evicted content
(`pollution`), why tokens were missed (`misses`).

All of it is about the blocks of the first full-attention group.

* Block hit rate: blocks hit / blocks asked for; a lookup asks for the full blocks before its last
  token. Request-any: requests that hit at least one token / requests. Request-full: requests that
  hit every block they asked for (and asked for one) / requests.
* Duplicates: blocks whose content an earlier block has too.
* Stranded: cached blocks with some block before them in their prefix cached nowhere. All that
  descend from a gone block count, not only its children, each until the chain is whole again.
* Unhashed tails: used blocks without a key: the unfinished block at the end of each running
  request's table, and blocks of finished tokens that are cached a step later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kvatlas.events import Chunk, Header
from kvatlas.measure._reach_kernel import PREFIX
from kvatlas.measure._reuse_kernel import HOLDER, LOOKUPS, READER, REUSE, Reuse, follow_reuse
from kvatlas.measure.feeding import NO_REFERENCE_GROUP, reference_group, writable
from kvatlas.measure.figures import Figures
from kvatlas.measure.keys import KeyTable
from kvatlas.measure.prefixes import ServedPrefix, served_prefixes
from kvatlas.records import one_record, records

__all__ = ["HeldInVain", "LookupCounts", "ReuseAnalyzer", "ReuseResult"]

_OFF = "prefix caching is off: nothing is looked up"
_NO_LOOKUP = "no request was admitted"
_NO_RESUMED = "no preempted request was admitted again"


@dataclass(frozen=True, slots=True)
class LookupCounts:
    """What the cache was asked for, and what it had.

    Attributes:
        requests: admissions; `some` of them hit a token, `full` every block they asked for.
        asked_tokens, hit_tokens, asked_blocks, hit_blocks: sums over them.
    """

    requests: int
    some: int
    full: int
    asked_tokens: int
    hit_tokens: int
    asked_blocks: int
    hit_blocks: int


@dataclass(frozen=True, slots=True)
class HeldInVain:
    """A number of blocks over the time of the recording.

    Attributes:
        mean: time-weighted, None when the clock stood still.
        peak: the most that lasted for some time.
        now: at the end.
    """

    mean: float | None
    peak: int
    now: int


@dataclass(frozen=True, slots=True)
class ReuseResult:
    """Reuse so far.

    Attributes:
        first: lookups of first admissions; resumed: of admissions after a preemption.
        within_session, across_sessions, unknown_session: blocks hit at first admissions, by the
            request that used the block last: of the same session, of another one, or one of the two
            has no known session.
        readmitted: blocks hit at later admissions.
        duplicates, stranded, unhashed_tails: blocks.
        block_size: tokens (slots) per block.
        prefixes: those that served most tokens, the most first.
    """

    first: LookupCounts
    resumed: LookupCounts
    within_session: int
    across_sessions: int
    unknown_session: int
    readmitted: int
    duplicates: HeldInVain
    stranded: HeldInVain
    unhashed_tails: HeldInVain
    block_size: int
    prefixes: tuple[ServedPrefix, ...]


class ReuseAnalyzer:
    """Follows cached prefixes through a stream of resolved chunks.

    O(1) per block event, and O(1) per key that becomes stranded or reachable again. Memory: 32
    bytes per key, 16 per request, 12 per block.

    Args:
        header: of the recording.
        most_prefixes: how many prefixes the result names.
    """

    def __init__(self, header: Header, *, most_prefixes: int = 20) -> None:
        self.header = header
        self._most_prefixes = most_prefixes
        self._group = reference_group(header)
        sizes = [group.block_size for group in header.groups]
        self._keys = KeyTable(header.num_keys, PREFIX)
        self._readers = records(header.num_requests, READER)
        self._blocks = records(header.num_blocks, HOLDER)
        self._lookups = records(2, LOOKUPS)
        self._counts = one_record(
            REUSE,
            group=-1 if self._group is None else self._group,
            block_size=sizes[self._group or 0],
            step=math.lcm(*sizes),
        )

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + ids + keys that change their state)."""
        rows, ids = writable(chunk)
        self._keys.make_room(rows)
        follow_reuse(
            Reuse(
                self._keys.rows,
                self._keys.index,
                self._readers,
                self._blocks,
                self._lookups,
                self._counts,
            ),
            rows,
            ids,
        )

    def result(self) -> ReuseResult:
        """Return what is known so far; O(keys)."""
        counts = self._counts
        block_size = int(counts.block_size)
        return ReuseResult(
            first=_lookup_counts(self._lookups[0]),
            resumed=_lookup_counts(self._lookups[1]),
            within_session=int(counts.within),
            across_sessions=int(counts.across),
            unknown_session=int(counts.unknown),
            readmitted=int(counts.readmitted),
            duplicates=_held(counts, "duplicates"),
            stranded=_held(counts, "stranded"),
            unhashed_tails=_held(counts, "tails"),
            block_size=block_size,
            prefixes=served_prefixes(
                self._keys.rows, self._keys.keys(), block_size, self._most_prefixes
            ),
        )

    def figures(self, sheet: Figures) -> None:
        """Put the figures named `prefix.*` that are about reuse."""
        result = self.result()
        first, resumed = result.first, result.resumed
        off = "" if self.header.caching else _OFF
        lacking = off or ("" if self._group is not None else NO_REFERENCE_GROUP)
        for name, part, whole, otherwise in (
            ("token_hit_rate", first.hit_tokens, first.asked_tokens, off or _NO_LOOKUP),
            ("request_any", first.some, first.requests, off or _NO_LOOKUP),
            (
                "readmission_token_hit_rate",
                resumed.hit_tokens,
                resumed.asked_tokens,
                off or _NO_RESUMED,
            ),
        ):
            sheet.ratio(f"prefix.{name}", part, 0 if off else whole, otherwise)
        hits = result.within_session + result.across_sessions + result.unknown_session
        known = hits - result.unknown_session
        no_session = "no block was hit" if hits == 0 else "the sessions of requests are not known"
        for name, part, whole, otherwise in (
            ("block_hit_rate", first.hit_blocks, first.asked_blocks, _NO_LOOKUP),
            ("request_full", first.full, first.requests, _NO_LOOKUP),
            ("readmission_block_hit_rate", resumed.hit_blocks, resumed.asked_blocks, _NO_RESUMED),
            ("reuse_within_session", result.within_session, known, no_session),
            ("reuse_across_sessions", result.across_sessions, known, no_session),
            ("reuse_unknown_session", result.unknown_session, hits, "no block was hit"),
        ):
            sheet.ratio(f"prefix.{name}", part, 0 if lacking else whole, lacking or otherwise)
        for name, held, size in (
            ("duplicate_blocks", result.duplicates, 1),
            ("stranded_blocks", result.stranded, 1),
            ("unhashed_tail_blocks", result.unhashed_tails, 1),
            ("unhashed_tail_slots", result.unhashed_tails, result.block_size),
        ):
            mean, peak = f"prefix.{name}_mean", f"prefix.{name}_peak"
            if lacking:
                sheet.lack(lacking, mean, peak)
            elif held.mean is None:
                sheet.lack("the clock stood still", mean, peak)
            else:
                sheet.put(mean, held.mean * size)
                sheet.put(peak, held.peak * size)


def _lookup_counts(sums: Any) -> LookupCounts:
    return LookupCounts(**{name: int(sums[name]) for name in LookupCounts.__slots__})


def _held(counts: Any, name: str) -> HeldInVain:
    span_ms = float(counts.span_ms)
    return HeldInVain(
        mean=float(counts[f"{name}_ms"]) / span_ms if span_ms > 0 else None,
        peak=int(counts[f"most_{name}"]),
        now=int(counts[name]),
    )
