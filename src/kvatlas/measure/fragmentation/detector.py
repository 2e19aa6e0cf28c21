"""`FragmentationDetector`: who breaks the runs, and what that costs.

Owns: ranking requests and sessions. Leaves to others: counting runs (`tracker`, `layout`), and
sentences on what they cost (`reading`).

A *break* is a place in a block table where the next block does not follow: a table of r runs has
r - 1. One that is never broken takes one descriptor to copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.events.header import Header
from kvatlas.measure.fragmentation.layout import Layout
from kvatlas.measure.fragmentation.patterns import Pattern
from kvatlas.measure.fragmentation.reading import Reading, read_honestly
from kvatlas.measure.fragmentation.result import FragmentationResult

__all__ = ["Detection", "FragmentationDetector", "Hotspot"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hotspot:
    """A request or session whose block tables are broken.

    Attributes:
        number: of the request (its row) or session.
        requests: how many it is made of; 1 for a request.
        blocks, runs: in all of its tables.
        breaks: runs beyond the first one of each request.
        breaks_share: of the breaks of all requests, 0 to 1.
        free_edges: ends of free runs that its blocks bound; None where only the course is known.
    """

    number: int
    requests: int
    blocks: int
    runs: int
    breaks: int
    breaks_share: float
    free_edges: int | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found, the worst first.

    Attributes:
        requests, sessions: over the whole recording, by the last table that each request gave back.
        holders: requests at the layout's moment, by the ends of free runs that they bound.
        pattern: of the free blocks at that moment.
        readings: what it means, in sentences.
    """

    requests: tuple[Hotspot, ...]
    sessions: tuple[Hotspot, ...]
    holders: tuple[Hotspot, ...]
    pattern: Pattern | None
    readings: tuple[Reading, ...]


class FragmentationDetector:
    """Names the `most` worst requests, sessions and holders; O(R log R + T log T)."""

    def __init__(self, header: Header, *, most: int = 10) -> None:
        if most < 1:
            raise InputError("must be at least 1", field="most", value=most)
        self.header, self.most = header, most

    def detect(
        self, result: FragmentationResult | None = None, layout: Layout | None = None
    ) -> Detection:
        """Return what the tracker's result, the layout of a moment, or both tell."""
        return Detection(
            requests=self._requests(result) if result is not None else (),
            sessions=self._sessions(result) if result is not None else (),
            holders=self._holders(layout) if layout is not None else (),
            pattern=layout.pattern if layout is not None else None,
            readings=read_honestly(self.header, result, layout),
        )

    def _requests(self, result: FragmentationResult) -> tuple[Hotspot, ...]:
        found = result.requests
        return self._worst(np.arange(found.runs.size), found.blocks, found.runs, found.runs > 0)

    def _sessions(self, result: FragmentationResult) -> tuple[Hotspot, ...]:
        found = result.requests
        held = found.runs > 0
        return self._worst(found.session, found.blocks, found.runs, held & (found.session >= 0))

    def _holders(self, layout: Layout) -> tuple[Hotspot, ...]:
        tables = layout.tables
        request, at = np.unique(tables.request, return_inverse=True)
        # A request has a table per KV cache group.
        blocks, runs, edges = (
            np.bincount(at, weights=values, minlength=request.size).astype(np.int64)
            for values in (tables.blocks, tables.runs, tables.free_edges)
        )
        return self._worst(request, blocks, runs, runs > 0, edges)

    def _worst(
        self,
        number: NDArray[np.integer],
        blocks: I32 | I64,
        runs: I32 | I64,
        counted: NDArray[np.bool_],
        edges: I64 | None = None,
    ) -> tuple[Hotspot, ...]:
        """Add up by number what is counted, and return the worst: by edges, else by breaks."""
        breaks = np.maximum(runs.astype(np.int64) - 1, 0)
        all_breaks = int(breaks[runs > 0].sum())
        names, at = np.unique(number[counted], return_inverse=True)
        sums = [
            np.bincount(at, weights=values[counted], minlength=names.size).astype(np.int64)
            for values in (np.ones(runs.size), blocks, runs, breaks)
        ]
        if edges is not None:
            sums.append(np.bincount(at, weights=edges[counted], minlength=names.size).astype(int))
        rank = np.argsort(-sums[-1], kind="stable")[: self.most]
        hotspots = [
            Hotspot(
                number=int(names[i]),
                requests=int(sums[0][i]),
                blocks=int(sums[1][i]),
                runs=int(sums[2][i]),
                breaks=int(sums[3][i]),
                breaks_share=float(sums[3][i] / all_breaks) if all_breaks else 0.0,
                free_edges=int(sums[4][i]) if edges is not None else None,
            )
            for i in rank.tolist()
            if sums[-1][i] > 0
        ]
        return tuple(hotspots)
