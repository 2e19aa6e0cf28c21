"""Verifying: the recorded calls of a live vLLM, made once more through the twin.

Owns: `Verifier`, call by call, and the first difference in words. Leaves to others: reading calls
(`kvatlas.events.live`), the rules themselves (`kvatlas.engine.kernels`), showing (`kvatlas.cli`).
"""

from kvatlas.engine.verifying.settings import engine_config
from kvatlas.engine.verifying.verdict import Difference, Divergence, Verification
from kvatlas.engine.verifying.verifier import Verifier, verify_calls

__all__ = [
    "Difference",
    "Divergence",
    "Verification",
    "Verifier",
    "engine_config",
    "verify_calls",
]
