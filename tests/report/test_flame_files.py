"""Flame graph files: what speedscope and the collapsed form say is what was given."""

from __future__ import annotations

import json

from kvatlas.device import Frame
from kvatlas.report.flame_files import StackWeight, collapsed, speedscope

MAIN, STEP = Frame("main", "app.py", 3), Frame("step;x", "app.py", 9)
NATIVE = Frame("at::_ops::mm::call()\n", "", 0)
WEIGHTS = (
    StackWeight((NATIVE, STEP, MAIN), 700),
    StackWeight((STEP, MAIN), 300),
    StackWeight((), 24),
    StackWeight((MAIN,), 0),
)


def test_speedscope_names_each_call_once() -> None:
    """GIVEN stacks WHEN written THEN samples run from the outermost call, weights are bytes."""
    file = json.loads(speedscope("t", "kvatlas 1", [("held", WEIGHTS), ("stuck", WEIGHTS[:1])]))
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = [frame["name"] for frame in file["shared"]["frames"]]
    assert len(frames) == len(set(frames)) == 4
    held, stuck = file["profiles"]
    named = [[frames[at] for at in sample] for sample in held["samples"]]
    assert named == [["main", "step;x", NATIVE.name], ["main", "step;x"], ["stack not known"]]
    assert held["weights"] == [700, 300, 24]
    assert (held["startValue"], held["endValue"], held["unit"]) == (0, 1024, "bytes")
    assert stuck["endValue"] == 700
    assert {profile["type"] for profile in file["profiles"]} == {"sampled"}
    assert "file" not in file["shared"]["frames"][frames.index(NATIVE.name)]


def test_collapsed_is_one_line_for_each_stack() -> None:
    """GIVEN names with line ends and semicolons WHEN collapsed THEN no line is torn."""
    lines = collapsed(WEIGHTS).decode().splitlines()
    assert lines == [
        "main (app.py:3);step,x (app.py:9) 300",
        "main (app.py:3);step,x (app.py:9);at::_ops::mm::call()\\n 700",
        "stack not known 24",
    ]
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == 1024
