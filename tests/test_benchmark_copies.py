"""The benchmark of the storage's copies runs and its figures are whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.__main__ import main, parse
from benchmarks.copies import BLOCKS_PER_RUN, SHAPES

OPERATIONS = {"copy", "permute", "shift", "gather", "scatter", "digest", "indexing"}


def test_every_layout_has_every_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN copies of one MiB and no interpreter with torch WHEN they are measured
    tiny = ["copies", "--repeats=1", "--copy-mib=1", f"--vllm-python={tmp_path / 'none'}"]
    found = main(tiny)["copies"]
    # THEN every row has the bytes that it copied and the share of each operation
    assert len(found["rows"]) == len(SHAPES) * len(BLOCKS_PER_RUN)
    for row in found["rows"]:
        assert set(row["shares"]) == set(row["gb_per_s"]) == OPERATIONS
        assert all(share > 0 for share in row["shares"].values())
        assert row["copied_bytes"] >= 2**20
        assert row["copied_bytes"] % row["span_bytes"] == 0
    assert [row["span_bytes"] for row in found["rows"][::3]] == [2**12, 2**15, 2**16, 2**21]
    # AND torch's are missing for a reason
    assert found["torch_rows"] == []
    assert "No such file" in found["missing"]
    assert "missing" in capsys.readouterr().out


def test_copies_of_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["copies", "--copy-mib=0"])
    assert "--copy-mib" in capsys.readouterr().err
