"""The report on a run as JSON: every figure, reasons, no NaN."""

from __future__ import annotations

import json

import numpy as np
import pytest
from run_builders import FIGURES, NASTY, run_document

from kvatlas.report.run_document import Table
from kvatlas.report.run_json import run_json


def test_everything_is_there() -> None:
    document = run_document()
    said = json.loads(run_json(document))
    assert said["schema"] == 1
    assert (said["partial"], said["partial_reason"]) == (False, None)
    assert said["measurements"] == FIGURES
    assert said["findings"][0]["effect"] == {
        "figure": "prefix.token_hit_rate",
        "before": 0.143789,
        "after": 0.23,
        "command": "kvatlas replay t.jsonl --blocks 40000",
        "others": [{"figure": "queue.time_p99_s", "before": 2.98, "after": 1.5}],
    }
    assert said["findings"][1]["effect"] is None
    assert said["tables"]["preempted"]["rows"][3][1] == NASTY
    assert said["tables"]["failures"]["rows"] == []
    assert said["histograms"]["free_runs"]["edges"] == [1, 2, 4, 8]
    assert len(said["series"]["end_s"]) == 50
    assert said["series"]["columns"]["hit_rate"][3] is None
    assert said["notes"][1] == "something that a reader must know"


def test_what_is_not_known_is_null_with_its_reason() -> None:
    said = json.loads(run_json(run_document(unknown=("fragmentation.efi",), partial="cut off")))
    assert said["measurements"]["fragmentation.efi"] is None
    assert said["unavailable"] == {"fragmentation.efi": "nobody could know"}
    assert (said["partial"], said["partial_reason"]) == (True, "cut off")


@pytest.mark.parametrize(
    ("cell", "said"),
    [(np.int64(3), 3), (np.float64(2.5), 2.5), (float("nan"), None), (4.0, 4), (None, None)],
)
def test_cells_become_plain(cell: float, said: object) -> None:
    table = Table("t", ("a",), ((cell,),))
    assert json.loads(run_json(run_document(tables={"t": table})))["tables"]["t"]["rows"] == [
        [said]
    ]
