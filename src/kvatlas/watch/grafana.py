"""The Grafana dashboard: what `/metrics` tells, drawn.

Owns: Grafana's JSON around them. Leaves to others: the panels and their queries (`grafana_panels`).

Grafana's dashboard JSON, schema version 39 (Grafana 10.4 and later load it). The data source is a
variable, so that it imports into any Grafana without editing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kvatlas.watch.grafana_panels import SECTIONS, Panel

__all__ = ["dashboard", "dashboard_json", "queries"]

_COLUMNS = 24
_HIGH, _ROW_HIGH, _STAT_HIGH = 8, 1, 4
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def queries() -> Iterator[str]:
    """Yield every PromQL expression of the dashboard."""
    for _, panels in SECTIONS:
        for panel in panels:
            for expression, _legend in panel.queries:
                yield expression


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return {
        "uid": "kvatlas",
        "title": "kvatlas: KV-cache memory",
        "description": "Memory of vLLM's KV cache, from `kvatlas serve`.",
        "tags": ["kvatlas", "vllm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_data_source(), _engines()]},
        "panels": list(_panels()),
    }


def dashboard_json() -> bytes:
    """Return the dashboard as a JSON file."""
    return (json.dumps(dashboard(), indent=2) + "\n").encode()


def _data_source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }


def _engines() -> dict[str, Any]:
    return {
        "name": "engine",
        "label": "Engine",
        "type": "query",
        "datasource": _SOURCE,
        "definition": "label_values(kvatlas_engine_info, engine)",
        "query": {"query": "label_values(kvatlas_engine_info, engine)", "refId": "engines"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Yield rows and panels in a grid of 24 columns, from left to right and down."""
    number, y = 1, 0
    for title, panels in SECTIONS:
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": _ROW_HIGH}
        yield {"id": number, "type": "row", "title": title, "collapsed": False,
               "gridPos": place, "panels": []}  # fmt: skip
        number, x, y, high = number + 1, 0, y + _ROW_HIGH, 0
        for panel in panels:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + high
            high = _STAT_HIGH if panel.look == "stat" else _HIGH
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": high})
            number, x = number + 1, x + panel.width
        y += high


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.look == "stat":
        options: dict[str, Any] = {
            "colorMode": "none",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    else:
        stacked = panel.look == "stack"
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 60 if stacked else 10,
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": "stat" if panel.look == "stat" else "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend,
                "range": True,
            }
            for i, (expression, legend) in enumerate(panel.queries)
        ],
    }
