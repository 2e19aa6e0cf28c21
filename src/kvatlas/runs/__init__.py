"""Sets of ids and the maximal runs of consecutive ones in them, exact after every change.

Owns: `RunIndex` and the compiled structures it is made of. Leaves to others: what the ids are: the
measurements keep free blocks in it, placement what it may hand out.
"""

from kvatlas.runs.run_index import RunIndex

__all__ = ["RunIndex"]
