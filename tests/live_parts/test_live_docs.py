"""The pages about live recordings name what there is: variables, fields, versions, numbers."""

from __future__ import annotations

import re
from pathlib import Path

from kvatlas.events.live.memory_sample import SampleLine
from kvatlas.live.plugin import SUPPORTED, read_history_settings, read_settings
from kvatlas.wire.layout import FORMAT_VERSION
from kvatlas.wire.segment_log import HEAD_BYTES

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guide" / "live.md").read_text(encoding="utf-8")
DEVICE_GUIDE = (ROOT / "docs" / "guide" / "device-tools.md").read_text(encoding="utf-8")
FORMAT = (ROOT / "docs" / "reference" / "recording-format.md").read_text(encoding="utf-8")


def test_every_variable_is_documented_with_its_default(tmp_path: Path) -> None:
    variable = r"^\| `(KVATLAS_\w+)` \| (?:`(\S+)`)? ?\|"
    documented = dict(re.findall(variable, GUIDE + DEVICE_GUIDE, re.MULTILINE))
    sources = (ROOT / "src" / "kvatlas" / "live").glob("*.py")
    read = {
        name
        for path in sources
        for name in re.findall(r'"(KVATLAS_\w+)"', path.read_text(encoding="utf-8"))
    }
    assert set(documented) == read
    # The defaults as written give the settings that nothing gives.
    here = {"KVATLAS_RECORD": str(tmp_path), "KVATLAS_MEMORY_HISTORY": str(tmp_path)}
    defaults = {name: text for name, text in documented.items() if text} | here
    assert read_settings(defaults) == read_settings(here)
    assert read_history_settings(defaults) == read_history_settings(here)


def test_the_versions_are_those_of_the_code() -> None:
    assert SUPPORTED == ("0.32",)
    assert "it knows 0.32" in GUIDE
    assert f"version of the format, {FORMAT_VERSION} |" in FORMAT
    rows = re.findall(r"^\| (\d+) to (\d+) \|", FORMAT, re.MULTILINE)
    assert [int(first) for first, _ in rows] == list(range(0, HEAD_BYTES, 8))
    assert [int(last) for _, last in rows] == list(range(7, HEAD_BYTES, 8))


def test_every_field_of_a_sample_is_documented() -> None:
    section = FORMAT.split("## Samples of memory")[1].split("`gc`:")[0]
    documented = re.findall(r"`(\w+)`(?=[^|\n]*\|[^|\n]+\|$)", section, re.MULTILINE)
    assert sorted(documented) == sorted(SampleLine.__struct_fields__)
