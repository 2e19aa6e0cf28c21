"""The recipes of CONTRIBUTING.md work as they are written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.engine.versions import RuleSet
from kvatlas.errors import InputError
from kvatlas.events import Chunk, Resolver, schema
from kvatlas.measure import Figures
from kvatlas.report.document import ReplayDocument
from kvatlas.workload import generate, load

_TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def recipe(path: str) -> str:
    """Return the code block that begins with a comment naming `path`."""
    found = re.search(rf"^```python\n# {re.escape(path)}\n(.*?)^```$", _TEXT, re.M | re.S)
    assert found is not None, path
    return found[1]


def written(path: str, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module that the recipe for `path` makes, importable as `name`."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(recipe(path), path, "exec", dont_inherit=True), module.__dict__)
    return module


def test_a_trace_format_is_a_file_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN the recipe's reader and its line in the registry
    from kvatlas.workload import formats

    written("src/kvatlas/workload/readers/toy.py", "kvatlas.workload.readers.toy", monkeypatch)
    monkeypatch.setattr(formats, "_MODULES", {"toy": "toy:READER", **formats._MODULES})
    file = tmp_path / "trace.jsonl"
    file.write_text(
        '{"at_s": 1.5, "prompt": 100, "answer": 7, "blocks": [5, 9]}\n'
        '{"at_s": 2.0, "prompt": 128, "answer": 1, "blocks": [5, 8]}\n',
        encoding="utf-8",
    )
    # WHEN a file of that format is loaded THEN it is detected, chained and validated
    workload = load(file)
    assert workload.arrival_s.tolist() == [0.0, 0.5]
    assert workload.ids.tolist() == [0, 1, 0, 2]
    assert workload.tokens_per_id == 64
    file.write_text('{"at_s": 1, "prompt": 100, "answer": 7, "blocks": [5]}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"trace\.jsonl:1: .*2 ids of 64 tokens are due"):
        load(file)


def test_a_workload_is_a_dataclass_and_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvatlas.workload import generators

    name = "kvatlas.workload.generators.toy"
    toy = written("src/kvatlas/workload/generators/toy.py", name, monkeypatch)
    entry = generators.Generator("toy", "a toy", toy.ToyKnobs, toy.toy)
    monkeypatch.setitem(generators.GENERATORS, "toy", entry)
    workload = generate("toy", seed=1, num_requests=20, shared_tokens=160)
    workload.check()
    assert workload.num_requests == 20
    first = workload.ids[workload.id_offsets[:-1]]
    assert set(first.tolist()) == {0}


def test_a_version_is_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvatlas.engine import versions

    entry = eval(recipe("an entry of _RULES in src/kvatlas/engine/versions.py"), vars(versions))
    assert isinstance(entry, RuleSet)
    monkeypatch.setitem(versions._RULES, entry.version, entry)
    workload = generate("conversation", seed=0, num_requests=100)
    results = {
        version: Replay(workload, EngineConfig(num_blocks=1500, version=version)).run().decisions
        for version in ("toy", "pre-42656", "0.32")
    }
    assert results["toy"] == results["pre-42656"] != results["0.32"]


def test_a_measurement_is_a_class_over_events(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN the recipe's analyser and a replay of which every request is admitted
    toy = written("src/kvatlas/measure/toy.py", "kvatlas.measure.toy", monkeypatch)
    workload = generate("conversation", seed=0, num_requests=50)
    chunks: list[Chunk] = []
    replay = Replay(
        workload,
        EngineConfig(num_blocks=400),
        DriveConfig(arrivals="timed"),
        on_events=lambda chunk: chunks.append(chunk.copy()),
    )
    replay.run()
    # WHEN it is fed with the resolved events
    header = recording_header(replay, version="0", engine="vLLM")
    measured, resolver, sheet = toy.StepsWaited(header), Resolver(header), Figures()
    measured.figures(sheet)
    assert sheet.unavailable == {"toy.steps_waited_mean": "no request was admitted"}
    waited: list[int] = []
    arrived: dict[int, int] = {}
    for chunk in chunks:
        resolved = resolver.resolve(chunk)
        measured.feed(resolved)
        for row in resolved.rows:
            if row["event"] == schema.ARRIVED:
                arrived[int(row["request"])] = int(row["step"])
            elif row["event"] == schema.ADMITTED and row["cause"] == schema.BY_NEW:
                waited.append(int(row["step"]) - arrived[int(row["request"])])
    # THEN it says what a plain loop says
    measured.figures(sheet)
    assert len(waited) == 50
    assert max(waited) > 0
    assert sheet["toy.steps_waited_mean"] == pytest.approx(sum(waited) / 50)


def test_a_view_shows_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    view = written("src/kvatlas/report/replay_lines.py", "kvatlas.report.replay_lines", monkeypatch)
    figures = Figures()
    figures.put("usage.peak", 0.5)
    figures.lack("there is no clock", "queue.time_p50_s")
    document = ReplayDocument(
        version="0",
        engine="vLLM",
        config={},
        workload={},
        decisions={},
        figures=figures,
        timing={},
        exact="",
        modelled="",
    )
    assert view.replay_lines(document) == b"usage.peak 0.5\nqueue.time_p50_s -\n"
