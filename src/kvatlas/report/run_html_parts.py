"""The smaller sections of a run's page: findings, headline figures, misses, facts.

Owns: their HTML. Leaves to others: their order (`run_html`), sentences (`run_facts`), figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from kvatlas.report import run_facts
from kvatlas.report.figure_text import column_title, figure_text, is_share
from kvatlas.report.numbers import count, percent
from kvatlas.report.run_document import Effect, Finding, RunDocument

__all__ = ["cards", "details", "facts", "findings", "misses"]

_TONES = {"act": ("▲", "Act"), "watch": ("●", "Watch"), "good": ("✓", "Good")}
_HEADLINE = (
    ("prefix.token_hit_rate", "Token hit rate", "of the prompt tokens came from the cache",
     "prefix.ceiling_token_hit_rate", "the mark: an unbounded cache"),
    ("usage.time_weighted", "Pool in use", "on average over time", "usage.peak", "the mark: peak"),
    ("waste.internal_time_weighted", "Internal waste", "of the slots held hold no token", "", ""),
    ("preemption.count", "Preemptions", "requests that lost their blocks and started over", "", ""),
    ("queue.time_p50_s", "Queue time", "median wait for admission", "", ""),
    ("latency.ttft_p50_s", "First token", "median time to the first token", "", ""),
)  # fmt: skip
_WORDS = {
    "prefix.token_hit_rate": "token hit rate",
    "prefix.block_hit_rate": "block hit rate",
    "usage.time_weighted": "pool in use",
    "waste.internal_time_weighted": "internal waste",
    "preemption.count": "preemptions",
    "preemption.recomputed_tokens": "tokens computed again",
    "preemption.waste": "tokens computed twice",
    "queue.head_refused_share": "time with the queue's head refused",
    "queue.head_refused_s": "time with the queue's head refused",
    "queue.time_p50_s": "median queue time",
    "queue.time_p99_s": "queue time, 99th percentile",
    "latency.ttft_p50_s": "median time to first token",
    "latency.ttft_p99_s": "time to first token, 99th percentile",
    "clock.simulated_s": "time to finish all",
}


def findings(document: RunDocument) -> Iterator[str]:
    """Yield the verdict."""
    yield '<section id="verdict"><h2>Verdict</h2>'
    if document.findings:
        yield (
            '<p class="sub">What stands out, the most important first. Where a change has numbers, '
            "they were measured by replaying the same requests with it; nothing is guessed.</p>"
        )
        yield f'<ol class="findings">{"".join(map(_finding, document.findings))}</ol>'
    else:
        yield '<p class="sub">No rule found anything to say about this run.</p>'
    yield "</section>"


def _finding(finding: Finding) -> str:
    sign, word = _TONES[finding.tone]
    evidence = "".join(f"<li>{_arrows(sentence)}</li>" for sentence in finding.evidence)
    parts = [
        f'<li class="finding {finding.tone}"><div class="tone"><span aria-hidden="true">{sign}'
        f"</span> {word}</div><div><h3>{escape(finding.title)}</h3><ul>{evidence}</ul></div>"
    ]
    aside = []
    if finding.change:
        aside.append(f'<p class="change">Change <code>{escape(finding.change)}</code></p>')
    if finding.effect is not None:
        aside += _effect(finding.effect)
    if finding.effect_note:
        aside.append(f'<p class="note">{_arrows(finding.effect_note)}</p>')
    if finding.effect is not None:
        aside.append(
            "<details><summary>How it was measured</summary><pre><code>"
            f"{escape(finding.effect.command)}</code></pre></details>"
        )
    parts.append(f'<div class="effect">{"".join(aside)}</div></li>')
    return "".join(parts)


def _arrows(sentence: str) -> str:
    return escape(sentence.replace(" -> ", " → "))


def _effect(effect: Effect) -> Iterator[str]:
    moved = escape(_moved(effect.figure, effect.before, effect.after))
    yield f'<p class="moved"><span>{escape(_words(effect.figure))}</span> <b>{moved}</b></p>'
    others = "".join(
        f"<tr><td>{escape(_words(name))}</td>"
        f'<td class="n">{escape(_moved(name, was, now))}</td></tr>'
        for name, was, now in effect.others
    )
    if others:
        yield f'<table class="small"><tbody>{others}</tbody></table>'


def _moved(name: str, before: float, after: float) -> str:
    was, now = _both(name, before, after)
    return f"stays at {now}" if was == now else f"{was} → {now}"


def _both(name: str, before: float, after: float) -> tuple[str, str]:
    """Return two values with as many digits as it takes to tell them apart."""
    if is_share(name) and max(abs(before), abs(after)) <= 1:
        for digits in (1, 2, 3, 4):
            texts = f"{100 * before:.{digits}f}%", f"{100 * after:.{digits}f}%"
            if texts[0] != texts[1]:
                return texts
    return figure_text(name, before), figure_text(name, after)


def _words(name: str) -> str:
    return _WORDS.get(name) or column_title(name.rsplit(".", 1)[-1])


def cards(document: RunDocument) -> Iterator[str]:
    """Yield a few headline figures."""
    values = document.figures.values
    shown = []
    for name, label, meaning, mark_name, mark_meaning in _HEADLINE:
        value = values.get(name)
        if value is None:
            if name in values and name == _HEADLINE[0][0]:
                why = f"not known: {document.figures.unavailable[name]}"
                shown.append(_card(label, "–", why, ""))
            continue
        mark = values.get(mark_name)
        meter = ""
        if mark is not None:
            meaning = f"{meaning}; {mark_meaning}, {figure_text(mark_name, mark)}"
            at = f'<u style="left:{100 * min(float(mark), 0.995):.2f}%"></u>'
            meter = f'<div class="meter"><i style="width:{100 * value:.2f}%"></i>{at}</div>'
        shown.append(_card(label, figure_text(name, value), meaning, meter))
    if shown:
        yield '<section id="figures"><h2>At a glance</h2><p class="sub">The run in a few numbers; '
        yield "the verdict above says which of them to worry about.</p>"
        yield f'<div class="cards">{"".join(shown)}</div>'
        yield "</section>"


def _card(name: str, value: str, what: str, meter: str) -> str:
    return (
        f'<div class="card"><span class="name">{escape(name)}</span><b>{escape(value)}</b>{meter}'
        f'<p class="what">{escape(what)}</p></div>'
    )


def misses(document: RunDocument) -> Iterator[str]:
    """Yield why prompt tokens were not found in the cache, as one bar that is whole."""
    values = document.figures.values
    shares = [(name, word, what, values.get(name)) for name, word, what in run_facts.MISSES]
    if any(name in values for name, *_ in shares):
        yield '<section id="misses"><h2>Why tokens were missed</h2>'
        known = [(w, m, float(share)) for _, w, m, share in shares if share is not None]
        if len(known) < len(shares):
            unknown = next(name for name, *_, share in shares if share is None)
            why = document.figures.unavailable.get(unknown, "not measured")
            yield f'<p class="sub">Not known: {escape(why)}</p>'
        else:
            yield from _misses(document, known)
        yield "</section>"


def _misses(document: RunDocument, known: list[tuple[str, str, float]]) -> Iterator[str]:
    tokens = document.figures.values.get("attribution.missed_tokens")
    whole = "" if tokens is None else f" {count(tokens)}"
    yield (
        f'<p class="sub">All{whole} prompt tokens that had to be computed at first admission, by '
        "cause. More memory can win back the capacity share, smaller blocks the granularity share; "
        "nothing helps against cold.</p>"
    )
    said = ", ".join(f"{word} {percent(share)}" for word, _, share in known)
    pieces = "".join(
        f'<i class="m{number}" style="width:{100 * share:.4f}%" title="{escape(word)} '
        f'{percent(share)}"></i>'
        for number, (word, _, share) in enumerate(known, 1)
        if share > 0
    )
    yield f'<div class="whole" role="img" aria-label="{escape(said)}">{pieces}</div>'
    in_flight = document.figures.values.get("attribution.cold_in_flight")
    yield '<dl class="causes">'
    for number, (word, meaning, share) in enumerate(known, 1):
        if number == 1 and in_flight:
            meaning += (
                f"; {percent(in_flight)} of all misses were being computed by another request at "
                "that moment"
            )
        yield (
            f'<dt><i class="m{number}"></i>{escape(word)} <b>{percent(share)}</b></dt>'
            f"<dd>{escape(meaning)}</dd>"
        )
    yield "</dl>"


def facts(document: RunDocument) -> Iterator[str]:
    """Yield all sections of sentences, and the notes."""
    yield '<section id="facts"><h2>All facts</h2><p class="sub">Everything measured, in '
    yield "words. Nothing here needs action that the verdict does not name.</p>"
    yield '<div class="columns">'
    for section in run_facts.sections(document):
        remark = f" <small>{escape(section.remark)}</small>" if section.remark else ""
        rows = "".join(
            f'<dt>{escape(fact.label)}</dt><dd class="{fact.tone}">{escape(fact.text)}</dd>'
            for fact in section.facts
        )
        yield f"<div><h3>{escape(section.title)}{remark}</h3><dl>{rows}</dl></div>"
    yield "</div>"
    for note in document.notes:
        yield f'<p class="sub">{escape(note)}</p>'
    yield "</section>"


def details(document: RunDocument) -> Iterator[str]:
    """Yield every measurement by its name, and the settings."""
    figures = document.figures
    measured = {
        name: f"not known: {figures.unavailable[name]}" if value is None else value
        for name, value in figures.values.items()
    }
    yield '<section id="details">'
    for title, rows in (
        ("Every measurement", measured),
        ("Settings", document.config),
        ("Workload", document.workload),
    ):
        if rows:
            yield f"<details><summary>{escape(title)}</summary>{_pairs(rows)}</details>"
    yield "</section>"


def _pairs(rows: Mapping[str, Any]) -> str:
    body = "".join(
        f"<tr><td><code>{escape(str(name))}</code></td>"
        f'<td class="n">{escape(_plain(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table><tbody>{body}</tbody></table>"


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, _some(value)))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _some(values: Iterable[Any]) -> list[Any]:
    return list(values)[:20]
