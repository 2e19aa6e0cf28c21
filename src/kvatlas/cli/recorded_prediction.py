"""What a replay of a recording says beside its own report: the recording, held against it.

Owns: listening to the replay, and putting the comparison into the document. Leaves to others: the
comparison (`kvatlas.measure.prediction`), the recording (`recorded_source`).
"""

from __future__ import annotations

from dataclasses import replace

from kvatlas.cli.recorded_source import RecordedSource
from kvatlas.cli.replay_events import EventFile
from kvatlas.cli.version import version
from kvatlas.engine.recorded import recording_header
from kvatlas.engine.replay import Replay
from kvatlas.events import Chunk
from kvatlas.measure.course import Course
from kvatlas.measure.prediction import predict
from kvatlas.report.document import ReplayDocument

__all__ = ["PredictionListener", "with_prediction"]


class PredictionListener:
    """Follows the course of a replay, and hands its events on to a file where one is written."""

    def __init__(self, replay: Replay, engine: str, events: EventFile | None) -> None:
        self.course = Course(recording_header(replay, version=version(), engine=engine))
        self._events = events
        replay.listen(self._hear)

    def _hear(self, chunk: Chunk) -> None:
        self.course.feed(chunk)
        if self._events is not None:
            self._events.append(chunk)


def with_prediction(
    document: ReplayDocument, source: RecordedSource, listener: PredictionListener
) -> ReplayDocument:
    """Return the document with what really happened beside it."""
    load, fit = source.load, source.step_fit
    prediction = predict(
        load.course,
        listener.course.result(),
        first_ms=load.first_ms,
        end_ms=load.end_ms,
        step_time=None if fit is None else fit.said(),
        changed=source.changed,
    )
    modelled = document.modelled
    if fit is not None and not {"step_ms_base", "step_ms_per_ktok"} & source.flags.given:
        modelled = (
            f"the clock: a step takes {fit.base_ms:.3g} ms + {fit.per_ktok_ms:.3g} ms per 1,000 "
            f"tokens, fitted to {fit.steps:,} recorded steps (see the error below)"
        )
    return replace(document, prediction=prediction, modelled=modelled)
