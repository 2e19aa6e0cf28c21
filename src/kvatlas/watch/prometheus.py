"""Moments in Prometheus's text format.

Owns: turning the table of metrics into what a scraper reads, in the format that it asks for. Leaves
to others: the metrics (`metric_table`), when moments are made (`web.hub`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kvatlas.watch.metric_table import METRICS
from kvatlas.watch.moment import Moment

__all__ = ["exposition"]


def exposition(moments: Sequence[Moment], accept: str = "") -> tuple[bytes, str]:
    """Return a scrape of `moments`, one per engine, and its content type.

    Args:
        moments: labels tell them apart; of two with the same one the last counts.
        accept: the scraper's Accept header.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Moments(moments))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _Moments(Collector):
    """What `prometheus_client` asks for families."""

    def __init__(self, moments: Iterable[Moment]) -> None:
        self._moments = {_text(moment.engine): moment for moment in moments}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a sample."""
        for metric in METRICS:
            labels = ("engine", *metric.labels)
            family: CounterMetricFamily | GaugeMetricFamily
            if metric.kind == "counter":
                family = CounterMetricFamily(metric.name, metric.help, labels=labels)
            else:
                family = GaugeMetricFamily(metric.name, metric.help, labels=labels)
            for engine, moment in self._moments.items():
                seen = set()
                for values, value in metric.samples(moment):
                    row = (engine, *map(_text, values))
                    if value is not None and row not in seen:
                        seen.add(row)
                        family.add_metric(row, value)
            if family.samples:
                yield family


def _text(label: str) -> str:
    """Return a label that can be encoded: file names may hold bytes that are no text."""
    return label.encode("utf-8", "replace").decode("utf-8")
