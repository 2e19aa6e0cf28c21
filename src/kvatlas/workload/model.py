"""The columnar `Workload`: what every reader and generator makes and every replay consumes.

It owns the columns and the promises between them (`check`). Reading files is left to `readers/`,
making traffic to `generators/`, and giving blocks their identities to `chain.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InvariantError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["MAX_TOKENS", "Workload", "id_counts"]

MAX_TOKENS = 100_000_000
"""Longest prompt or output that is believed: a longer one is a damaged file, not a request."""

_PIECE_IDS = 1 << 18  # what `check` looks at at a time, so that it needs little memory of its own

_ROW_COLUMNS = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "session": np.int32,
    "parent": np.int32,
    "priority": np.int32,
    "salt": np.int32,
}


def id_counts(covered_tokens: NDArray[Any], tokens_per_id: int) -> NDArray[np.int64]:
    """Return how many identities cover each of `covered_tokens` (N,): the ceiling, O(N)."""
    covered = covered_tokens.astype(np.int64, copy=False)
    return -(-covered // tokens_per_id)


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """N requests as columns, in the order of their arrival.

    Shapes and units: `arrival_s` (N,) seconds since the first request, non-decreasing, >= 0;
    `prompt_tokens` and `output_tokens` (N,) >= 1; `ids` (M,) flat identities of which request i
    owns `ids[id_offsets[i]:id_offsets[i + 1]]`. Two equal ids mean two equal prefixes up to the
    end of that span and equal salt, and the ids are dense, `0 .. num_ids - 1`. A request has
    `ceil(covered / tokens_per_id)` of them, where covered is the prompt, or prompt and output when
    `outputs_identified`; it has none when `prefix_known` is False (a length-only trace, in which
    reuse is unknown and replayed as none). The last identity may cover a partial span.

    `session` (N,) numbers conversations densely (-1: unknown), `parent` (N,) is the row of the
    previous turn (-1: none, else earlier than its child), `salt` (N,) is a dense LoRA or cache-salt
    number (0: none), `notes` are plain sentences that a user must read beside any result.
    """

    name: str
    source: str
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    tokens_per_id: int
    ids: NDArray[np.int32] | NDArray[np.int64]
    id_offsets: NDArray[np.int64]
    num_ids: int
    prefix_known: bool
    outputs_identified: bool
    session: NDArray[np.int32]
    parent: NDArray[np.int32]
    priority: NDArray[np.int32]
    salt: NDArray[np.int32]
    notes: tuple[str, ...] = ()

    @property
    def num_requests(self) -> int:
        """N, the number of requests."""
        return int(self.arrival_s.size)

    @property
    def total_prompt_tokens(self) -> int:
        """Sum of `prompt_tokens`, exact. O(N)."""
        return int(self.prompt_tokens.sum(dtype=np.int64))

    @property
    def columnar_bytes(self) -> int:
        """Bytes that the columns hold."""
        held = [getattr(self, field.name) for field in fields(self)]
        return sum(column.nbytes for column in held if isinstance(column, np.ndarray))

    def with_(self, **changes: Any) -> Self:
        """Return a copy with the named fields replaced; the other columns are shared."""
        return replace(self, **changes)

    def head(self, n: int) -> Workload:
        """Return the first `n` requests as a workload of its own, its numbers dense again. O(M)."""
        rows = max(0, min(n, self.num_requests))
        if rows == self.num_requests:
            return self
        cut = int(self.id_offsets[rows])
        ids, num_ids = _dense(self.ids[:cut])
        changes: dict[str, Any] = {name: getattr(self, name)[:rows].copy() for name in _ROW_COLUMNS}
        for name, lowest in (("session", 0), ("salt", 1)):
            column = changes[name]
            known = column >= lowest
            column[known] = lowest + _dense(column[known])[0]
        return replace(
            self, ids=ids, num_ids=num_ids, id_offsets=self.id_offsets[: rows + 1].copy(), **changes
        )

    def check(self) -> None:
        """Verify every promise of this class. O(N + M), a few milliseconds for 300,000 ids.

        Raises: InvariantError naming the first promise that is broken.
        """
        _check_columns(self)
        _check_links(self)
        _check_identities(self)


def _dense(ids: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Renumber `ids` densely and keep their order; a plain copy where they are dense already."""
    if ids.size == 0:
        return ids.copy(), 0
    top = int(ids.max()) + 1
    seen = np.zeros(top, dtype=np.bool_)
    seen[ids] = True
    number = np.cumsum(seen, dtype=ids.dtype)
    num_ids = int(number[-1])
    return (ids.copy(), top) if num_ids == top else ((number - 1)[ids], num_ids)


def _require(kept: bool | np.bool_, promise: str) -> None:
    if not kept:
        raise InvariantError(f"workload: {promise}")


def _check_columns(w: Workload) -> None:
    rows = w.num_requests
    for name, dtype in _ROW_COLUMNS.items():
        column = getattr(w, name)
        _require(column.shape == (rows,), f"{name} must have shape ({rows},)")
        _require(column.dtype == dtype, f"{name} must be {np.dtype(dtype).name}")
    _require(w.ids.ndim == 1 and w.ids.dtype in (np.int32, np.int64), "ids must be int32 or int64")
    _require(w.id_offsets.shape == (rows + 1,), f"id_offsets must have shape ({rows + 1},)")
    _require(w.id_offsets.dtype == np.int64, "id_offsets must be int64")
    _require(1 <= w.tokens_per_id <= MAX_TOKENS, f"tokens_per_id must be 1 to {MAX_TOKENS}")
    if rows == 0:
        return
    _require(np.isfinite(w.arrival_s).all(), "arrival_s must be finite")
    _require(w.arrival_s[0] >= 0, "arrival_s must start at 0 or later")
    _require((w.arrival_s[1:] >= w.arrival_s[:-1]).all(), "arrival_s must not decrease")
    for name in ("prompt_tokens", "output_tokens"):
        column = getattr(w, name)
        _require(column.min() >= 1, f"{name} must be at least 1")
        _require(column.max() <= MAX_TOKENS, f"{name} must be at most {MAX_TOKENS}")


def _check_identities(w: Workload) -> None:
    counts = np.diff(w.id_offsets)
    _require(w.id_offsets[0] == 0, "id_offsets must start at 0")
    _require(w.id_offsets[-1] == w.ids.size, "id_offsets must end at the number of ids")
    if not w.prefix_known:
        _require(w.ids.size == 0 and not counts.any(), "a length-only workload must have no ids")
        _require(w.num_ids == 0 and not w.outputs_identified, "a length-only workload has no ids")
        return
    covered = w.prompt_tokens.astype(np.int64)
    if w.outputs_identified:
        covered += w.output_tokens
    wanted = id_counts(covered, w.tokens_per_id)
    _require((counts == wanted).all(), "each request must have ceil(covered / tokens_per_id) ids")
    if w.ids.size == 0:
        _require(w.num_ids == 0, "num_ids must be 0 without ids")
        return
    _require(w.ids.min() >= 0, "ids must not be negative")
    _require(w.ids.max() == w.num_ids - 1, "ids must be below num_ids and reach num_ids - 1")
    _require(w.num_ids <= w.ids.size, "ids must be dense: every one below num_ids is used")
    # One parent per id: the id before it in the request, or the salt's root. That is exactly
    # "equal ids have equal prefixes", by induction along the chain.
    parent_of = np.full(w.num_ids, -1, dtype=w.ids.dtype)
    for ids, before in _id_pairs(w):
        parent_of[ids] = before
    _require((parent_of != -1).all(), "ids must be dense: every one below num_ids is used")
    for ids, before in _id_pairs(w):
        _require((parent_of[ids] == before).all(), "an id must follow one prefix only (chained)")


def _id_pairs(w: Workload) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield the ids and the one before each (-2 - salt at a request's first), in bounded pieces."""
    nonempty = np.flatnonzero(w.id_offsets[1:] > w.id_offsets[:-1])
    starts = w.id_offsets[nonempty]
    for low in range(0, w.ids.size, _PIECE_IDS):
        ids = w.ids[low : low + _PIECE_IDS]
        before = np.empty_like(ids)
        before[1:] = ids[:-1]
        before[0] = w.ids[low - 1]
        first, last = np.searchsorted(starts, (low, low + ids.size))
        before[starts[first:last] - low] = -2 - w.salt[nonempty[first:last]]
        yield ids, before


def _check_links(w: Workload) -> None:
    rows = w.num_requests
    if rows == 0:
        return
    _require(w.session.min() >= -1, "session must be -1 or more")
    known = w.session[w.session >= 0]
    if known.size:
        _require(known.max() < rows, "session must be dense")
        _require(np.bincount(known).all(), "session must be dense")
    _require(w.salt.min() >= 0 and w.salt.max() <= rows, "salt must be dense, from 0")
    _require(w.parent.min() >= -1, "parent must be -1 or a row")
    child = np.flatnonzero(w.parent >= 0)
    _require((w.parent[child] < child).all(), "parent must be an earlier row")
    _require(
        (w.session[w.parent[child]] == w.session[child]).all(), "parent must be of the same session"
    )
