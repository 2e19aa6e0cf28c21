"""The command line's side: progress, Ctrl-C, and whether changes are tried at all."""

from __future__ import annotations

import os
import signal

import msgspec
import pytest
from runs import Run, run

from kvatlas.cli.what_if import findings_of
from kvatlas.plan import verdict
from kvatlas.workload import generate


@pytest.fixture(scope="module")
def recorded() -> Run:
    """The default workload, cut short, in a cache that is too small."""
    one = run(generate("conversation").head(300), num_blocks=2000, max_num_seqs=16)
    config = one.config | {"limit": 300}
    return Run(one.workload, msgspec.structs.replace(one.header, config=config), one.figures)


def test_findings_are_those_of_the_verdict(recorded: Run) -> None:
    header = recorded.header
    wanted = verdict(recorded.figures, header.config, header.workload, recorded.workload)
    assert findings_of(recorded.figures, header, workload=recorded.workload) == wanted
    assert wanted[0].effect is not None
    # AND the same when the requests have to be made again
    assert findings_of(recorded.figures, header) == wanted


def test_nothing_is_tried_when_nobody_asks(recorded: Run) -> None:
    findings = findings_of(recorded.figures, recorded.header, wanted=False)
    assert findings[0].change == "--blocks 4000"
    assert findings[0].effect is None
    assert findings[0].effect_note == "Not replayed: nobody asked for it."


def test_a_part_of_a_run_is_not_compared_with_a_whole(recorded: Run) -> None:
    findings = findings_of(
        recorded.figures, recorded.header, workload=recorded.workload, partial="it was cut off"
    )
    assert findings[0].effect is None
    assert "the recording is a part: it was cut off" in findings[0].effect_note


def test_ctrl_c_ends_the_trying_and_keeps_the_findings(
    recorded: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN Ctrl-C while the first change is replayed
    pressed: list[str] = []

    def press(self: object, done: int, total: int | None = None, what: str | None = None) -> None:
        if not pressed and what is not None and "--blocks" in what:
            pressed.append(what)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("kvatlas.cli.progress.ProgressLine.update", press)
    findings = findings_of(recorded.figures, recorded.header, workload=recorded.workload)
    # THEN the findings are there, without an effect
    assert pressed == ["trying --blocks 4000"]
    assert findings[0].rule == "capacity-bound"
    assert findings[0].effect is None
    assert findings[0].effect_note == "Not replayed: interrupted."
