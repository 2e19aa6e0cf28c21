"""Figures in words: what they are called in a sentence, and their values beside each other.

Owns: names for people, and how many digits a comparison needs. Leaves to others: single values in
views (`kvatlas.report.numbers`).
"""

from __future__ import annotations

from kvatlas.report.numbers import count, percent, seconds

__all__ = ["figure_name", "from_to", "is_ratio", "spelled"]

_NAMES = {
    "allocation.failed_running": "blocks refused to running requests",
    "clock.simulated_s": "simulated time for the whole workload",
    "decisions.finished": "requests served",
    "decisions.scheduled_tokens": "tokens computed",
    "latency.e2e_mean_s": "mean time to the last token",
    "latency.tpot_p99_s": "time per token at the 99th percentile",
    "latency.ttft_mean_s": "mean time to the first token",
    "latency.ttft_p99_s": "time to the first token at the 99th percentile",
    "preemption.count": "preemptions",
    "preemption.waste": "tokens computed twice",
    "prefix.evicted_blocks": "evicted blocks",
    "prefix.token_hit_rate": "hit rate",
    "queue.head_refused_share": "time with the head of the queue refused",
    "queue.time_mean_s": "mean queue time",
    "usage.peak": "peak usage",
    "usage.time_weighted": "mean usage",
    "waste.internal_time_weighted": "internal waste",
}
_RATIO_ENDINGS = ("rate", "share", "waste", "weighted", "peak")
_MEANS_OF_COUNTS = ("running.time_weighted", "queue.length_time_weighted")


def figure_name(figure: str) -> str:
    """Return what a figure is called in a sentence; its own name where it has no other."""
    return _NAMES.get(figure, figure)


def is_ratio(figure: str) -> bool:
    """Return whether a figure is a share from 0 to 1."""
    return figure.endswith(_RATIO_ENDINGS) and figure not in _MEANS_OF_COUNTS


def spelled(figure: str, value: float) -> str:
    """Return a value with its unit: a share as a percentage, seconds as a span, else a count."""
    if is_ratio(figure):
        return percent(value)
    return seconds(value) if figure.endswith("_s") else count(round(value, 1))


def from_to(figure: str, before: float, after: float) -> str:
    """Return "hit rate 4.41% -> 4.40%", with digits enough to see the difference if there is one.

    Shares always have two decimals, so that a step of a hundredth of a point is seen.
    """
    if is_ratio(figure):
        for digits in (2, 3, 4):
            texts = f"{100 * before:.{digits}f}%", f"{100 * after:.{digits}f}%"
            if texts[0] != texts[1] or before == after:
                break
    else:
        texts = spelled(figure, before), spelled(figure, after)
        if texts[0] == texts[1] and before != after:
            unit = " s" if figure.endswith("_s") else ""
            texts = f"{before:.6g}{unit}", f"{after:.6g}{unit}"
    return f"{figure_name(figure)} {texts[0]} -> {texts[1]}"
