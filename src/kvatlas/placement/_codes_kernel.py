"""Placements by the integer that compiled code branches on.

Owns: the numbers, without anything that loads a compiler. Leaves to others: what they stand for.
"""

from __future__ import annotations

QUEUE, SORTED, WINDOW, FIRST_FIT, BEST_FIT, BUDDY = range(6)
