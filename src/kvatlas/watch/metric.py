"""What a Prometheus metric is, and short ways to say one.

Owns: `Metric`. Leaves to others: which metrics there are (`metric_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kvatlas.watch.moment import GroupRow, Moment

__all__ = ["Metric", "count", "devices", "group", "memory", "one", "several"]

Kind = Literal["gauge", "counter"]
Sample = tuple[tuple[str, ...], float | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: as it is scraped; counters end in `_total`.
        kind: `gauge` or `counter`.
        help: one line.
        labels: besides `engine`.
        samples: label values and a value, of a moment.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Moment], Iterable[Sample]]


def one(name: str, help: str, value: Callable[[Moment], float | None]) -> Metric:
    """Return a gauge without labels."""
    return Metric(name, "gauge", help, (), lambda m: [((), value(m))])


def count(name: str, help: str, value: Callable[[Moment], float | None]) -> Metric:
    """Return a counter without labels."""
    return Metric(name, "counter", help, (), lambda m: [((), value(m))])


def several(
    kind: Kind,
    name: str,
    help: str,
    label: str,
    values: Callable[[Moment], Mapping[str, float | None]],
) -> Metric:
    """Return a metric with a sample per value of one label."""
    return Metric(
        name, kind, help, (label,), lambda m: [((key,), v) for key, v in values(m).items()]
    )


def group(
    kind: Kind,
    name: str,
    help: str,
    value: Callable[[GroupRow], float | None],
) -> Metric:
    """Return a metric with a sample per KV cache group."""
    return Metric(
        name,
        kind,
        help,
        ("group", "kind"),
        lambda m: [((str(row.group), row.kind), value(row)) for row in m.groups],
    )


def memory(moment: Moment, name: str) -> float | None:
    """Return a number of the monitor's newest sample."""
    return _number(moment.memory[-1], name) if moment.memory else None


def devices(source: str, name: str) -> Callable[[Moment], Iterator[Sample]]:
    """Return what yields a number of each device that a source of the monitor tells of."""

    def samples(moment: Moment) -> Iterator[Sample]:
        rows = moment.memory[-1].get(source) if moment.memory else None
        for row in rows or ():
            yield (str(row.get("device", "")),), _number(row, name)

    return samples


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None else float(value)
