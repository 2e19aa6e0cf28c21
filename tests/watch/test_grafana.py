"""The dashboard: queries only what is scraped, panels that do not overlap, JSON that loads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from kvatlas.watch.grafana import dashboard, dashboard_json, queries
from kvatlas.watch.metric_table import METRICS

KNOWN = {metric.name: metric for metric in METRICS}
PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def test_every_query_names_what_is_scraped() -> None:
    """GIVEN each expression WHEN its names and labels are looked up THEN a scrape has them."""
    expressions = list(queries())
    assert len(expressions) > 25
    for expression in expressions:
        selectors = re.findall(r"\b(kvatlas_\w+)\{([^}]*)\}", expression)
        assert len(selectors) == len(re.findall(r"\bkvatlas_\w+", expression)) > 0
        for name, matchers in selectors:
            metric = KNOWN[name]
            labels = re.findall(r'(\w+)=~?"', matchers)
            assert set(labels) <= {"engine", *metric.labels}, expression
            assert "engine" in labels
            # Counters are only read through rate, apart from those whose total is what matters.
            rated = f"rate({name}{{" in expression
            assert rated == (metric.kind == "counter" and not name.startswith("kvatlas_recorder_"))
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert {each.strip() for each in grouped.split(",")} <= {
                "engine", *(label for name, _ in selectors for label in KNOWN[name].labels),
            }  # fmt: skip


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            (name, *_) = re.findall(r"\b(kvatlas_\w+)", target["expr"])
            kept = {"engine", *KNOWN[name].labels}
            if grouped := re.search(r"by \(([^)]*)\)", target["expr"]):
                kept = {each.strip() for each in grouped[1].split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, target


def test_the_variables_exist() -> None:
    whole = dashboard()
    names = {variable["name"] for variable in whole["templating"]["list"]}
    text = json.dumps({**whole, "templating": None})
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert used == names == {"datasource", "engine"}
    asked = whole["templating"]["list"][1]["definition"]
    assert asked == "label_values(kvatlas_engine_info, engine)"
    assert "kvatlas_engine_info" in KNOWN


def test_panels_are_numbered_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
    for a, b in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_it_is_of_the_schema_that_grafana_imports() -> None:
    """GIVEN the JSON WHEN its fields are checked one by one THEN each is what Grafana expects."""
    whole: dict[str, Any] = json.loads(dashboard_json())
    assert whole == dashboard()
    assert "id" not in whole  # an import would overwrite somebody's dashboard of that number
    for name, kind in (("uid", str), ("title", str), ("tags", list), ("schemaVersion", int),
                       ("panels", list), ("templating", dict), ("time", dict), ("links", list),
                       ("annotations", dict), ("refresh", str), ("timezone", str)):  # fmt: skip
        assert isinstance(whole[name], kind), name
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"] and panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == ["A", "B", "C"][: len(refs)]
        assert panel["fieldConfig"]["defaults"]["unit"] in {
            "short", "percentunit", "ops", "reqps", "bytes", "s",
        }  # fmt: skip


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool is installed")
def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"check:query:{i}", "expr": expression.replace("$__rate_interval", "1m")}
        for i, expression in enumerate(queries())
    ]
    path = tmp_path / "rules.json"  # YAML is a superset of JSON
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout
