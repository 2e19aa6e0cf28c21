"""The pages on JSON, measurements and events say what the commands write, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command import kvatlas, replayed
from docs.tables import measurement_names

from kvatlas.measure.request_changes import QUANTITIES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SIZES = ("--limit", 80, "--blocks", 400, "--arrivals", "timed")


def page(name: str) -> str:
    """Return a page of the reference."""
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return what stands under a heading."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names(text: str) -> set[str]:
    """Return the names in the first column of the tables."""
    rows = re.findall(r"^\| (`.*?`) \| ", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a small replay under pressure."""
    path = tmp_path_factory.mktemp("documented") / "run.parquet"
    replay = replayed(*SIZES, "--events", path)
    path.with_suffix(".names").write_text("\n".join(replay["measurements"]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report(recording: Path) -> Any:
    """Return the JSON of its report, findings' changes replayed."""
    return kvatlas("report", recording, "--json", "-").json


def test_the_measurements_of_a_report_are_those_of_the_page(report: Any) -> None:
    documented = measurement_names(page("measurements"), "events")
    assert len(documented) == len(set(documented))
    assert set(documented) == set(report["measurements"])


def test_a_replay_with_events_has_the_measurements_of_both(recording: Path) -> None:
    found = recording.with_suffix(".names").read_text(encoding="utf-8").split()
    text = page("measurements")
    assert set(found) == {*measurement_names(text, "replay"), *measurement_names(text, "events")}


def test_the_keys_of_a_report_are_those_of_the_page(report: Any) -> None:
    text = page("report-json")
    assert names(text.split("\n## ")[0]) == set(report)
    assert report["findings"]
    assert names(section(text, "findings")) == set(report["findings"][0])


def test_series_tables_and_histograms_are_those_of_the_page(report: Any) -> None:
    text = page("report-json")
    assert names(section(text, "series")) == set(report["series"]["columns"])
    assert names(section(text, "histograms")) == set(report["histograms"])
    rows = re.findall(r"^\| `(\w+)` \| .* \| (`.*`) \|$", section(text, "tables"), re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", columns) for name, columns in rows}
    assert documented == {name: table["columns"] for name, table in report["tables"].items()}


def test_the_keys_of_a_comparison_are_those_of_the_page(recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.arrows"
    replayed("--limit", 80, "--blocks", 800, "--arrivals", "timed", "--events", other)
    said = kvatlas("diff", recording, other, "--json", "-").json
    text = page("diff-json")
    assert names(text.split("\n## ")[0]) == set(said)
    requests = section(text, "requests")
    quantities = {quantity.name for quantity in QUANTITIES}
    assert set(said["requests"]) == quantities == {q for q in quantities if f"`{q}`" in requests}
    assert names(requests) == set(said["requests"]["hit_tokens"])
    assert names(section(text, "prompt_sizes")) == set(said["prompt_sizes"][0])


def test_the_columns_of_a_file_are_those_of_the_page(recording: Path) -> None:
    import pyarrow.parquet as pq
    from docs.tables import event_columns

    assert names(event_columns()) == set(pq.ParquetFile(recording).schema_arrow.names)


def test_the_header_is_that_of_the_page() -> None:
    from docs.tables import event_groups, event_header

    from kvatlas.events import Group, Header

    assert names(event_header()) == set(Header.__struct_fields__)
    assert names(event_groups()) == set(Group.__struct_fields__)


def samples(name: str) -> list[str]:
    """Return the lines with numbers of the sample output on a page of the guide."""
    text = (REFERENCE.parent / "guide" / f"{name}.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.rstrip() for line in block.splitlines() if re.search(r"\d", line)]


def test_the_samples_of_map_and_diff_are_what_they_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "84")
    before, after = tmp_path / "before.parquet", tmp_path / "after.parquet"
    for blocks, path in ((3000, before), (6000, after)):
        done = kvatlas("replay", "--blocks", blocks, "--arrivals", "timed", "--events", path)
        assert (done.code, done.err) == (0, "")
    for name, args in (("map", ("map", before, "--at", "50%")), ("diff", ("diff", before, after))):
        printed = {line.rstrip() for line in kvatlas(*args).out.splitlines()}
        assert [line for line in samples(name) if line not in printed] == []
