"""Why prompt tokens were missed: every missed token of a first admission has one cause.

Owns: `MissAttribution`, the causes and their shares. Leaves to others: the compiled loop
(`_misses_kernel`), what evictions cost later (`pollution`).

A first admission asks for `tokens` and finds `computed_tokens`; the rest is missed. What follows in
the request's block table tells the keys it asked for, once its blocks are cached:

* cold: no block had that key before the lookup. Nothing but more sharing would help.
* capacity: some block had it before; it was evicted, or is out of reach because a block before it
  was (`stranded`). What a reset of the cache forgot counts here too.
* granularity: lost to block rounding or to vLLM's rule that the last prompt token is computed. The
  last full block of a prompt that ends with it is never asked for: granularity where its key was
  seen, else cold. A partial block has no key: it is cold where the block before it is, else
  granularity (so is a prompt shorter than a block).
* configuration: caching is off; or, with several KV cache groups, this group had every block up to
  there and another group's missing block ended the hit.

With several groups the blocks of the first full-attention group are judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kvatlas.events import Chunk, Header
from kvatlas.measure._misses_kernel import ADMISSION, KEY_HISTORY, VERDICTS, Judge, judge_rows
from kvatlas.measure.feeding import NO_REFERENCE_GROUP, reference_group, writable
from kvatlas.measure.figures import Figures
from kvatlas.measure.keys import KeyTable
from kvatlas.records import one_record, records

__all__ = ["CAUSES_OF_MISSES", "MissAttribution", "MissAttributionResult"]

CAUSES_OF_MISSES = ("cold", "capacity", "granularity", "configuration")
_NOTHING = "no prompt token was missed, as far as is known"


@dataclass(frozen=True, slots=True)
class MissAttributionResult:
    """Missed prompt tokens at first admissions, by cause; exact counts.

    cold + capacity + granularity + configuration + unknown = missed.

    Attributes:
        requests: first admissions.
        missed: tokens asked for and not found.
        cold, capacity, granularity, configuration: tokens, see the module.
        unknown: tokens of requests whose blocks were not cached before the recording ended, before
            they were aborted, or that have no full-attention group.
        cold_in_flight: part of cold: an earlier admitted request was computing the same prefix, and
            cached it after this lookup.
        capacity_stranded: part of capacity: the block itself was still cached, one before it was
            not. A block that came and went more than once between lookup and caching counts as not
            cached.
    """

    requests: int
    missed: int
    cold: int
    capacity: int
    granularity: int
    configuration: int
    unknown: int
    cold_in_flight: int
    capacity_stranded: int

    @property
    def attributed(self) -> int:
        """Missed tokens with a known cause."""
        return self.missed - self.unknown

    def shares(self) -> dict[str, float]:
        """Return the four causes as shares of the attributed tokens, empty when there are none."""
        if self.attributed == 0:
            return {}
        return {name: getattr(self, name) / self.attributed for name in CAUSES_OF_MISSES}


class MissAttribution:
    """Gives every missed prompt token its cause, from a stream of resolved chunks.

    O(1) per block event. Memory: 20 bytes per key, 56 per request, 4 per block.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self._group = reference_group(header)
        sizes = [group.block_size for group in header.groups]
        self._keys = KeyTable(header.num_keys, KEY_HISTORY)
        self._admissions = records(header.num_requests, ADMISSION)
        self._content = np.zeros(header.num_blocks, np.int32)
        self._verdicts = one_record(
            VERDICTS,
            group=-1 if self._group is None else self._group,
            block_size=sizes[self._group or 0],
            step=math.lcm(*sizes),
            several=int(len(sizes) > 1),
        )

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + ids)."""
        if self._group is None and self.header.caching:
            return
        rows, ids = writable(chunk)
        self._keys.make_room(rows)
        judge_rows(
            Judge(
                self._keys.rows, self._keys.index, self._admissions, self._content, self._verdicts
            ),
            rows,
            ids,
        )

    def result(self) -> MissAttributionResult:
        """Return the counts so far; O(1)."""
        counts = self._verdicts
        known = {name: int(getattr(counts, name)) for name in CAUSES_OF_MISSES}
        return MissAttributionResult(
            requests=int(counts.requests),
            missed=int(counts.missed),
            **known,
            unknown=int(counts.missed) - sum(known.values()),
            cold_in_flight=int(counts.in_flight),
            capacity_stranded=int(counts.stranded),
        )

    def figures(self, sheet: Figures) -> None:
        """Put the figures named `attribution.*`; shares are of the attributed tokens."""
        parts = ("cold_in_flight", "capacity_stranded")
        names = ("missed_tokens", "unknown_tokens", *CAUSES_OF_MISSES, *parts)
        if self._group is None and self.header.caching:
            sheet.lack(NO_REFERENCE_GROUP, *(f"attribution.{name}" for name in names))
            return
        misses = self.result()
        sheet.put("attribution.missed_tokens", misses.missed)
        sheet.put("attribution.unknown_tokens", misses.unknown)
        for name in (*CAUSES_OF_MISSES, *parts):
            sheet.ratio(f"attribution.{name}", getattr(misses, name), misses.attributed, _NOTHING)
