"""One failure of a log, explained.

Owns: which of a failure's two sides decides. Leaves to others: the verdicts themselves.
"""

from __future__ import annotations

from kvatlas.budget.startup_log import StartupLog
from kvatlas.errors import InvariantError
from kvatlas.oom.failures import Failure
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message_verdict import message_verdict
from kvatlas.oom.refusal_verdict import refusal_verdict
from kvatlas.oom.verdict import OomVerdict

__all__ = ["explain_failure"]


def explain_failure(
    failure: Failure, *, startup: StartupLog | None = None, block: KvBlock | None = None
) -> OomVerdict:
    """Return why a failure of a log came and what to change; O(1).

    `startup`: what the server said when it started; `block`: one KV block, to say costs in blocks.
    """
    if failure.message is not None:
        return message_verdict(failure.message, phase=failure.phase, startup=startup, block=block)
    if failure.refusal is None:
        raise InvariantError("a failure without figures and without a refusal")
    return refusal_verdict(failure.refusal, startup=startup, block=block)
