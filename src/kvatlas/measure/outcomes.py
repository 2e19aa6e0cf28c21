"""What became of each request, read from the events of a run.

Owns: when it came, ran first and was done, what it found in the cache, what preemptions cost it.
Leaves to others: comparing two runs (`diff`), everything about blocks. Raw chunks are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header, schema

__all__ = ["OutcomeCollector", "Outcomes"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_ROWS = (schema.ARRIVED, schema.LOOKED_UP, schema.ADMITTED, schema.PREEMPTED, schema.FINISHED)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """N requests: (N,) each; NaN and -1 where it did not come to that.

    Attributes:
        arrived_s, admitted_s, finished_s: on the run's clock; first admission; finished means
            served, so neither set aside nor aborted.
        prompt_tokens: as they arrived.
        session: whom they belong to.
        hit_tokens: found in the cache at first admission; NaN without a lookup or a cache.
        preemptions: how often.
        lost_tokens: computed tokens that preemptions threw away.
    """

    arrived_s: F64
    admitted_s: F64
    finished_s: F64
    prompt_tokens: I64
    session: I64
    hit_tokens: F64
    preemptions: I64
    lost_tokens: I64

    @property
    def queue_s(self) -> F64:
        """From arrival to first admission."""
        return self.admitted_s - self.arrived_s


class OutcomeCollector:
    """Collects outcomes chunk by chunk. O(rows) in all, vectorised; memory O(requests)."""

    def __init__(self, header: Header) -> None:
        size = header.num_requests
        self._size = size
        self._times = {kind: np.full(size, np.nan) for kind in (_ROWS[0], _ROWS[2], _ROWS[4])}
        self._prompt = np.full(size, schema.NONE, np.int64)
        self._session = np.full(size, schema.NONE, np.int64)
        self._hits = np.full(size, np.nan)
        self._preemptions = np.zeros(size, np.int64)
        self._lost = np.zeros(size, np.int64)

    def feed(self, chunk: Chunk) -> None:
        """Take the events of a chunk, raw or resolved."""
        rows = chunk.rows[np.isin(chunk.rows["event"], _ROWS)]
        rows = rows[(rows["request"] >= 0) & (rows["request"] < self._size)]
        event, cause = rows["event"], rows["cause"]
        arrived = rows[event == schema.ARRIVED]
        self._first(schema.ARRIVED, arrived)
        self._prompt[arrived["request"]] = arrived["tokens"]
        self._session[arrived["request"]] = arrived["session"]
        self._first(schema.ADMITTED, rows[(event == schema.ADMITTED) & (cause == schema.BY_NEW)])
        self._first(schema.FINISHED, rows[(event == schema.FINISHED) & (cause == schema.BY_LENGTH)])
        found = rows[
            (event == schema.LOOKED_UP) & (cause == schema.BY_NEW) & (rows["computed_tokens"] >= 0)
        ]
        self._hits[found["request"]] = found["computed_tokens"]
        lost = rows[event == schema.PREEMPTED]
        np.add.at(self._preemptions, lost["request"], 1)
        np.add.at(self._lost, lost["request"], np.maximum(lost["computed_tokens"], 0))

    def result(self) -> Outcomes:
        """Return what is known so far."""
        return Outcomes(
            arrived_s=self._times[schema.ARRIVED].copy(),
            admitted_s=self._times[schema.ADMITTED].copy(),
            finished_s=self._times[schema.FINISHED].copy(),
            prompt_tokens=self._prompt.copy(),
            session=self._session.copy(),
            hit_tokens=self._hits.copy(),
            preemptions=self._preemptions.copy(),
            lost_tokens=self._lost.copy(),
        )

    def _first(self, kind: int, rows: NDArray[np.void]) -> None:
        times = self._times[kind]
        whose: NDArray[np.int32] = rows["request"]
        rows = rows[np.isnan(times[whose])]
        requests, first = np.unique(rows["request"], return_index=True)
        times[requests] = rows["time_ms"][first] / 1e3
