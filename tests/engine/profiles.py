"""How much random testing: little where every kernel runs as plain Python."""

from __future__ import annotations

from kvatlas.jit import COMPILED

EXAMPLES = 60 if COMPILED else 6
STEPS = 50 if COMPILED else 25
