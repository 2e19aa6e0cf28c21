"""A process that forks while it is recorded: the child leaves the recording alone."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from cases import make_case
from steps import RealRun

from kvatlas.events import open_recording
from kvatlas.live.session import Session, Settings

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]


def test_a_forked_child_that_ends_and_schedules_changes_nothing(tmp_path: Path) -> None:
    """GIVEN a recording WHEN a child goes on stepping and closes THEN the parent's is whole."""
    run = RealRun(make_case("full", 1))
    steps = run.steps()
    session = Session(run.scheduler, Settings(tmp_path, memory_interval_s=None), lambda line: None)
    for _ in islice(steps, 20):
        pass
    child = os.fork()
    if child == 0:
        # The scheduler is the child's own copy; the mapped segment is not.
        code = 1
        try:
            for _ in islice(steps, 20):
                pass
            session.scheduler.shutdown()
            session.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done = 20 + sum(1 for _ in islice(steps, 200))
    session.close()
    recording = open_recording(str(tmp_path))
    last = max(int(chunk.rows["step"].max()) for chunk in recording.resolved())
    assert recording.partial == ""
    assert last == done
    assert session.recorder.faults == 0
