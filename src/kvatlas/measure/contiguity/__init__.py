"""Contiguity: how the blocks of each request, and the free ones, lie in the pool's order of ids.

Owns: the block table of every request at its end, and looks at the free blocks along the way. What
it says is what a placement strategy is compared by. Leaves to others: the course over time
(`kvatlas.measure.fragmentation`), views.
"""

from kvatlas.measure.contiguity.analyser import Contiguity
from kvatlas.measure.contiguity.result import ContiguityResult, FreeRuns, TableEnds

__all__ = ["Contiguity", "ContiguityResult", "FreeRuns", "TableEnds"]
