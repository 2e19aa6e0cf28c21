"""CSV and Parquet: a file each, read back with what was in the document."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_builders import FIGURES, NASTY, run_document

from kvatlas.report import whole_files
from kvatlas.report.run_document import Table
from kvatlas.report.run_tables import run_csv, run_parquet
from kvatlas.report.whole_files import write_folder, write_parts

NAMES = ["figures", "series", "table_preempted", "table_failures", "histogram_free_runs"]


def test_csv_files() -> None:
    files = dict(run_csv(run_document(unknown=("fragmentation.efi",))))
    assert list(files) == [f"{name}.csv" for name in NAMES]
    rows = {name: list(csv.DictReader(io.StringIO(text.decode()))) for name, text in files.items()}
    figures = {row["name"]: row for row in rows["figures.csv"]}
    assert set(figures) == set(FIGURES)
    assert float(figures["usage.peak"]["value"]) == 1.0
    assert figures["fragmentation.efi"] == {
        "name": "fragmentation.efi",
        "value": "",
        "unavailable": "nobody could know",
    }
    assert len(rows["series.csv"]) == 50
    assert rows["series.csv"][3]["hit_rate"] == ""
    assert rows["table_preempted.csv"][3]["name"] == NASTY
    assert rows["table_failures.csv"] == []
    assert rows["histogram_free_runs.csv"][0] == {"from": "1.0", "to": "2.0", "count": "5.0"}


def test_parquet_files_hold_the_same() -> None:
    files = dict(run_parquet(run_document()))
    assert list(files) == [f"{name}.parquet" for name in NAMES]
    tables = {name: pq.read_table(io.BytesIO(data)) for name, data in files.items()}
    figures = tables["figures.parquet"]
    read = figures.to_pydict()
    assert dict(zip(read["name"], read["value"], strict=True)) == FIGURES
    assert figures.schema.field("unavailable").type == pa.string()
    series = tables["series.parquet"].to_pydict()
    assert series["hit_rate"][3] is None
    assert tables["table_preempted.parquet"].to_pydict()["name"][3] == NASTY
    assert tables["table_failures.parquet"].num_rows == 0


def test_a_column_of_many_types_becomes_text() -> None:
    table = Table("t", ("a", "b"), ((1, None), ("two", 2), (None, 2.5)))
    files = dict(run_parquet(run_document(tables={"t": table})))
    read = pq.read_table(io.BytesIO(files["table_t.parquet"])).to_pydict()
    assert read == {"a": ["1", "two", None], "b": [None, 2.0, 2.5]}


def test_a_folder_is_made_and_files_are_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    written = write_folder(folder, run_csv(run_document()))
    assert sorted(written) == sorted(folder.iterdir())

    def broken() -> object:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(folder / "series.csv", broken())  # type: ignore[arg-type]
    assert sorted(written) == sorted(folder.iterdir())
    assert (folder / "series.csv").read_bytes().startswith(b"start_s,")


def test_gzip_by_suffix_gives_equal_bytes(tmp_path: Path) -> None:
    import gzip

    for name in ("a.gz", "b.gz"):
        write_parts(tmp_path / name, [b"one ", b"two"])
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"one two"
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert b"".join(whole_files.gzipped([])) != b""
