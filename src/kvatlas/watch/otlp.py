"""The metrics for an OpenTelemetry collector: OTLP over HTTP, as JSON.

Owns: the message and sending it. Leaves to others: the metrics (`metric_table`), when it is sent
(`web.exporter`). Needs no package: the message is JSON by OTLP's own rules (opentelemetry-proto 1,
64-bit numbers as text, field names in lowerCamelCase).
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

import kvatlas
from kvatlas.errors import InputError
from kvatlas.watch.metric import Metric
from kvatlas.watch.metric_table import METRICS
from kvatlas.watch.moment import Moment

__all__ = ["otlp_endpoint", "otlp_headers", "otlp_message", "send_otlp"]

_CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
_UNITS = {"bytes": "By", "seconds": "s", "ratio": "1"}
_PATH = "/v1/metrics"
_TIMEOUT_S = 5.0


def otlp_endpoint(url: str) -> str:
    """Return where metrics are sent to for a collector's address. Raises: InputError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(
            "not an address", field="--otlp", value=url, remedy="write http://127.0.0.1:4318"
        )
    return url if parts.path.endswith(_PATH) else url.rstrip("/") + _PATH


def otlp_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the headers that OTEL_EXPORTER_OTLP_HEADERS asks for: `name=value,name=value`."""
    pairs = environment.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(",")
    named = (pair.partition("=") for pair in pairs)
    return {name.strip(): unquote(value.strip()) for name, sign, value in named if sign}


def otlp_message(moments: Sequence[Moment], now_ns: int, since_ns: int) -> bytes:
    """Return an ExportMetricsServiceRequest as JSON.

    Args:
        moments: one per engine.
        now_ns, since_ns: Unix time, and since when counters count where an engine does not say.
    """
    metrics = [found for metric in METRICS if (found := _metric(metric, moments, now_ns, since_ns))]
    scope = {"name": "kvatlas", "version": kvatlas.__version__}
    resource = {"attributes": _attributes({"service.name": "kvatlas"})}
    groups = [{"resource": resource, "scopeMetrics": [{"scope": scope, "metrics": metrics}]}]
    # Names of files may hold what is no text: it is replaced.
    return json.dumps({"resourceMetrics": groups}, ensure_ascii=False).encode("utf-8", "replace")


def send_otlp(endpoint: str, headers: Mapping[str, str], message: bytes) -> str:
    """Post a message and wait for the answer; return what went wrong, "" when nothing did."""
    request = urllib.request.Request(
        endpoint, message, {**headers, "Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"the collector answered {error.code}"
    except (OSError, ValueError, HTTPException) as error:
        return f"{getattr(error, 'reason', error)}"


def _metric(
    metric: Metric, moments: Sequence[Moment], now_ns: int, since_ns: int
) -> dict[str, Any] | None:
    points = []
    for moment in moments:
        begun_ns = since_ns
        if moment.wall_unix_s is not None:
            begun_ns = min(now_ns, int(1e9 * (moment.wall_unix_s - moment.time_s)))
        for values, value in metric.samples(moment):
            if value is None:
                continue
            labels = dict(zip(metric.labels, values, strict=True))
            point: dict[str, Any] = {
                "attributes": _attributes({"engine": moment.engine, **labels}),
                "timeUnixNano": str(now_ns),
                "asDouble": float(value),
            }
            if metric.kind == "counter":
                point["startTimeUnixNano"] = str(begun_ns)
            points.append(point)
    if not points:
        return None
    said: dict[str, Any] = {"name": metric.name, "description": metric.help}
    unit = _UNITS.get(metric.name.removesuffix("_total").rsplit("_", 1)[-1])
    if unit:
        said["unit"] = unit
    if metric.kind == "counter":
        counted = {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True}
        return {**said, "sum": {"dataPoints": points, **counted}}
    return {**said, "gauge": {"dataPoints": points}}


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]
