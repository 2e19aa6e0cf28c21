"""What a log says about running out of memory, as data.

Owns: `Failure`, `FailureLog`, which of several failures is the one to explain. Leaves to others:
reading (`failure_log`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom.message import OomMessage
from kvatlas.oom.phases import Call, Phase
from kvatlas.oom.refusals import Refusal

__all__ = ["Failure", "FailureLog"]

_WITHOUT_FIGURES = frozenset({"driver", "weights", "warm-up"})


@dataclass(slots=True, kw_only=True)
class Failure:
    """One failure, however often it is repeated.

    Attributes:
        line: of the log, from 1; who: the process in vLLM's words, "" where unsaid.
        message: PyTorch's figures, or None; refusal: vLLM's or the driver's, or None.
        phase: when in the server's life; None: the log does not tell.
        calls: the traceback before it, the outermost first.
        times: how often the log has it.
    """

    line: int
    who: str
    message: OomMessage | None
    refusal: Refusal | None
    phase: Phase | None
    calls: tuple[Call, ...]
    times: int = 1


@dataclass(slots=True, kw_only=True)
class FailureLog:
    """A whole log.

    Attributes:
        file: where it was read. lines: how many there are.
        failures: distinct ones of the last start that failed, in their order.
        failed_starts, starts: servers that failed, and that began; 0 where nothing says so.
        more: failures beyond those kept. cut: whether reading was interrupted.
        startup: what that start said about memory.
    """

    file: str
    lines: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed_starts: int = 0
    starts: int = 0
    more: int = 0
    cut: bool = False
    startup: StartupLog = field(default_factory=lambda: StartupLog(file=""))

    @property
    def first(self) -> Failure:
        """The failure to explain: the first one.

        Where that is an error without figures, the first one that has any is taken instead: a
        library's and PyTorch's error are often two sides of one failure.
        """
        first = self.failures[0]
        if first.refusal is not None and first.refusal.kind in _WITHOUT_FIGURES:
            return next((each for each in self.failures if each.message is not None), first)
        return first
