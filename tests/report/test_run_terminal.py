"""The report on a run in a terminal: the verdict first, everything said, nothing unsafe."""

from __future__ import annotations

from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_builders import NASTY, finding, run_document, time_series

from kvatlas.report.figure_text import column_title, figure_text, figure_title
from kvatlas.report.plain_text import plain
from kvatlas.report.run_document import TimeSeries
from kvatlas.report.run_terminal import print_findings, print_run
from kvatlas.report.sparkline import resample, sparkline


def shown(columns: int = 80, **changes: Any) -> str:
    out = StringIO()
    print_run(Console(file=out, width=columns, highlight=False), run_document(**changes))
    return out.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_fits_the_terminal(columns: int) -> None:
    text = shown(columns, partial="it was cut off")
    assert max(len(line) for line in text.splitlines()) <= columns


def test_the_verdict_comes_first_with_evidence_change_and_measured_effect() -> None:
    text = " ".join(shown().split())
    places = [
        text.index(said)
        for said in (
            "mooncake_conversation on vLLM 0.32",
            "12,031 requests · 20,000 blocks of 16 tokens",
            "Verdict",
            "DO More blocks would keep what is asked for again",
            "30% of the missed tokens had been cached",
            "Change --blocks 40000",
            "Measured token hit rate 14.4% -> 23.0%",
            "queue time p99 2.98 s -> 1.5 s",
            "by kvatlas replay t.jsonl --blocks 40000",
            "OK More blocks",
            "Over time",
            "14.4% of the prompt tokens at first admission",
            "Why tokens were missed 123,456,789 prompt tokens",
            "Fragmentation",
        )
    ]
    assert places == sorted(places)


def test_says_what_was_measured() -> None:
    text = " ".join(shown().split())
    for said in (
        "99.99% found something, 1.0% found all that can be found",
        "1,000,000 of them asked for again (premature)",
        "Capacity 30.0%",
        "52.3% mean over time, 100% at its peak",
        "812 on average over time, the largest of 97 blocks",
        "98.0% (free: empty and evictable), 50.0% (empty only)",
        "25.0% in pieces of 16",
        "What it costs External fragmentation costs no allocation here: blocks are equal.",
        "31 s median, 64 s at 90%, 40 s mean (allocated to evicted)",
        "30, 12,756 computed tokens lost for good",
        "139 at admission, 30 while decoding",
        "2.59 s in which a later request would have fitted",
        "Most preempted",
        "and 5 more (--json or --csv has them all)",
        "Note something that a reader must know",
    ):
        assert said in text, said
    for unsaid in ("PARTIAL", "not known:", "None", "nan"):
        assert unsaid not in text


def test_external_fragmentation_never_alarms() -> None:
    text = shown(findings=())
    assert "Nothing stands out" in text
    part = text[text.index("External index") : text.index("Life of blocks")]
    assert "costs no allocation" in " ".join(part.split())
    assert text.count("no allocation") == 1
    # Where nothing is said about it, as for pages of several sizes, the view promises nothing.
    assert "no allocation" not in shown(findings=(), notes=())


def test_what_is_not_known_says_why() -> None:
    text = " ".join(shown(unknown=("prefix.token_hit_rate", "prefix.block_hit_rate")).split())
    assert "Hit rate not known: nobody could know" in text
    missing = tuple(f"attribution.{name}" for name in ("cold", "capacity", "granularity",
                                                        "configuration"))  # fmt: skip
    assert "Not known nobody could know" in " ".join(shown(unknown=missing).split())


def test_a_part_says_so_first() -> None:
    assert shown(partial="it was cut off").strip().startswith("PARTIAL: it was cut off")


def test_nothing_from_a_trace_reaches_the_terminal() -> None:
    text = shown(title=NASTY, notes=(NASTY,), findings=(finding(title=NASTY, evidence=(NASTY,)),))
    for character in ("\x1b", "\u202e", "\r", "\x07"):
        assert character not in text
    assert "\\x1b[31m" in text


def test_findings_alone() -> None:
    out = StringIO()
    print_findings(Console(file=out, width=80), run_document())
    assert "Verdict" in out.getvalue()
    assert "Over time" not in out.getvalue()


def test_without_a_course_there_is_no_chart() -> None:
    empty = TimeSeries(np.zeros(0), np.zeros(0), {})
    assert "Over time" not in shown(series=empty)
    nothing = time_series(4)
    nothing = TimeSeries(
        nothing.start_s, nothing.end_s, {name: np.full(4, np.nan) for name in nothing.columns}
    )
    assert "Evictions" not in shown(series=nothing)


def test_a_terminal_of_ascii_gets_ascii_charts() -> None:
    assert sparkline(np.array([0.0, 0.5, 1.0, np.nan]), 1.0, ascii_only=True) == "_+# "
    assert sparkline(np.array([0.0, 1e-9, 1.0]), 1.0) == "▁▂█"


def test_resampling_keeps_means_and_totals() -> None:
    start, end = np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 4.0])
    values = np.array([4.0, 1.0, np.nan])
    # Over [0, 2): 1 s of 4 and 1 s of 1; over [2, 4): 1 s of 1, and what is not known.
    np.testing.assert_allclose(resample(start, end, values, 2), [2.5, 1.0])
    np.testing.assert_allclose(resample(start, end, values, 2, total=True), [4.5, 0.5])
    assert np.isnan(resample(start, end, np.full(3, np.nan), 2)).all()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("prefix.token_hit_rate", 0.143789, "14.4%"),
        ("usage.peak", 1.0, "100%"),
        ("queue.time_p99_s", 2.98, "2.98 s"),
        ("churn.allocated_blocks_per_s", 12.5, "12.5/s"),
        ("prefix.evicted_blocks", 1234.0, "1,234"),
        ("running.time_weighted", 0.5, "0.5"),
        ("waste.prefill_evictions", 1, "1"),
        ("device.total_bytes", 2048.0, "2 KiB"),
        ("wasted_slot_s", 1234.4, "1,234 slot·s"),
    ],
)
def test_a_figure_has_its_unit(name: str, value: float, said: str) -> None:
    assert figure_text(name, value) == said


def test_names_in_words() -> None:
    assert figure_title("prefix.token_hit_rate") == "token hit rate"
    assert figure_title("queue.time_p99_s") == "queue time p99"
    assert column_title("lost_s") == "lost"
    assert plain("a" * 70) == "a" * 59 + "…"
