"""All that is measured of a run's events, in one pass.

Owns: which analysers there are and the order of their figures. Leaves to others: each of them, and
what a report makes of their results.
"""

from __future__ import annotations

from kvatlas.events import Chunk, Header
from kvatlas.measure.churn import Churn
from kvatlas.measure.contention import Contention
from kvatlas.measure.course import Course
from kvatlas.measure.figures import Figures
from kvatlas.measure.fragmentation.tracker import FragmentationTracker
from kvatlas.measure.life import BlockLife
from kvatlas.measure.misses import MissAttribution
from kvatlas.measure.pollution import Pollution
from kvatlas.measure.reuse import ReuseAnalyzer
from kvatlas.measure.temporal import TemporalUse

__all__ = ["RunMeasurement"]

_OF_REUSE = (
    "attribution.",
    "prefix.block_hit",
    "prefix.evicted_never",
    "prefix.evicted_premature",
    "prefix.pollution",
    "prefix.request_",
    "prefix.reuse_",
    "prefix.token_hit",
)


class RunMeasurement:
    """Every analyser of events, fed with resolved chunks.

    Memory: O(blocks + requests + keys). Cost: some 0.1 us per event and 50 ns per block id.

    Attributes:
        course, fragmentation, temporal, reuse, misses, pollution, life, contention, churn: the
            analysers, whose `result()` may be asked for at any time.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.course = Course(header)
        self.fragmentation = FragmentationTracker(header)
        self.temporal = TemporalUse(header)
        self.reuse = ReuseAnalyzer(header)
        self.misses = MissAttribution(header)
        self.pollution = Pollution(header)
        self.life = BlockLife(header)
        self.contention = Contention(header)
        self.churn = Churn(header)
        self._analysers = (
            self.course,
            self.reuse,
            self.misses,
            self.pollution,
            self.temporal,
            self.contention,
            self.fragmentation,
            self.life,
            self.churn,
        )

    def feed(self, chunk: Chunk) -> None:
        """Let every analyser see a resolved chunk."""
        for analyser in self._analysers:
            analyser.feed(chunk)

    def figures(self) -> Figures:
        """Return everything by name; where two analysers know a figure, they agree."""
        sheet = Figures()
        for analyser in self._analysers:
            analyser.figures(sheet)
        if self.header.workload.get("prefix_known") is False:
            # Every prompt was replayed as if nobody shared it: that says nothing of reuse.
            unknown = [name for name in sheet.values if name.startswith(_OF_REUSE)]
            sheet.lack(
                "the trace has lengths only: which prompts share a prefix is unknown", *unknown
            )
        return sheet
