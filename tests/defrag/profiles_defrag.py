"""How much random testing: little where every kernel runs as plain Python."""

from __future__ import annotations

from kvatlas.jit import COMPILED

EXAMPLES = 60 if COMPILED else 4
