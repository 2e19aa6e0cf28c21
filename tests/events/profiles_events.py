"""How much random testing: little where every kernel runs as plain Python."""

from __future__ import annotations

from kvatlas.jit import COMPILED

EXAMPLES = 40 if COMPILED else 3
