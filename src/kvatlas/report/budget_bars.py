"""A device's memory as a waterfall of bars: predicted, and beside it what the log says.

Owns: which steps there are, where each begins and ends, their HTML. Leaves to others: the page
(`budget_html`), colours (`assets/budget.css`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from kvatlas.report.budget_buffers import buffer_rows
from kvatlas.report.budget_document import BudgetDocument
from kvatlas.units import format_bytes

__all__ = ["Step", "Track", "waterfall_bars", "waterfall_steps"]

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Track:
    """A stretch of the device: `first` to `first + size` bytes from its beginning."""

    first: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of the waterfall.

    Attributes:
        name: what it is; kind: its colour; basis: what the predicted figure rests on; how: why.
        predicted, real: where its memory lies; None where it is not known.
    """

    name: str
    kind: str
    basis: str = ""
    how: str = ""
    predicted: Track | None = None
    real: Track | None = None


def waterfall_steps(document: BudgetDocument) -> list[Step]:
    """Return the steps from the whole device down to the KV cache, then the buffers in it."""
    waterfall = document.found.tightest.waterfall
    real = None if document.log is None else document.log.real
    total, requested = waterfall.total_bytes, waterfall.requested_bytes
    given = waterfall.kv_basis == "given"
    real_total = None if real is None else real.total_bytes
    real_requested = None if real is None else real.requested_bytes
    steps = [
        Step(
            name="device",
            kind="device",
            basis="reported" if document.found.request.device.reported else "nominal",
            predicted=Track(0, total),
            real=None if real_total is None else Track(0, real_total),
        )
    ]
    if not given:
        left = None
        if real_total is not None and real_requested is not None:
            left = Track(real_requested, max(0, real_total - real_requested))
        track = Track(requested, total - requested)
        steps.append(
            Step(name="not requested", kind="rest", basis="exact", predicted=track, real=left)
        )
    end = waterfall.free_at_start_bytes if given else requested
    real_end = real_requested if real_requested is not None else end
    weights = [term for term in waterfall.terms if term.name.startswith("weights")]
    others = [term for term in waterfall.terms if not term.name.startswith("weights")]
    basis = next((term.basis for term in weights if term.basis != "exact"), "exact")
    rows = [("weights", sum(term.size_bytes for term in weights), basis, "shapes and dtype")]
    rows += [(term.name, term.size_bytes, term.basis, term.how) for term in others]
    measured = {} if real is None else {
        "weights": real.weight_bytes,
        "activations": real.activation_bytes,
        "CUDA graphs": real.graph_bytes,
        "outside PyTorch": real.outside_bytes,
    }  # fmt: skip
    for name, size, basis, how in rows:
        end -= size
        found = measured.get(name)
        # What the log does not say is as large as predicted, so that the rest stands in its place.
        real_end -= size if found is None else max(0, found)
        steps.append(
            Step(
                name=name,
                kind=name.split()[0].lower(),
                basis=basis,
                how=how,
                predicted=Track(end, size),
                real=None if found is None else Track(real_end, max(0, found)),
            )
        )
    kv, real_kv = waterfall.kv_bytes, None if real is None else real.kv_bytes
    steps.append(
        Step(
            name="KV cache",
            kind="kv" if kv > 0 else "lacking",
            basis=waterfall.kv_basis,
            how="--kv-cache-memory-bytes" if given else "what is left",
            predicted=_from_zero(kv),
            real=None if real_kv is None else _from_zero(real_kv),
        )
    )
    return [*steps, *_buffers(document, kv), *_suggestion(document)]


def _from_zero(size: int) -> Track:
    """Return so much memory from the device's beginning; what is lacking lies before it."""
    return Track(min(0, size), abs(size))


def _buffers(document: BudgetDocument, kv: int) -> Iterator[Step]:
    for name, size, basis, how in buffer_rows(document.found.request.buffers):
        first = max(0, kv - size)
        said = f"{basis}, recommended" if how.startswith("recommended") else basis
        yield Step(name=name, kind="buffer", basis=said, how=how, predicted=Track(first, size))


def _suggestion(document: BudgetDocument) -> Iterator[Step]:
    """Yield what vLLM suggests for the KV cache, and what it has counted twice there."""
    real = None if document.log is None else document.log.real
    if real is None or real.suggested is None or real.corrected is None:
        return
    first, size = real.suggested[0], real.corrected[0] - real.suggested[0]
    yield Step(
        name="suggested KV cache",
        kind="kv",
        how="vLLM's own --kv-cache-memory",
        real=_from_zero(first),
    )
    yield Step(
        name="graphs, counted twice",
        kind="twice",
        how=f"vLLM issue #57936: {format_bytes(size)} of CUDA graphs are taken off a second time",
        real=Track(first, size),
    )


def waterfall_bars(document: BudgetDocument) -> Iterator[str]:
    """Yield the picture: a row for each step, and a second bar in it where the log says one."""
    steps = waterfall_steps(document)
    tracks = [track for step in steps for track in (step.predicted, step.real) if track]
    low = min(0, *(track.first for track in tracks))
    high = max(track.first + track.size for track in tracks)
    real = document.log is not None
    yield f'<figure class="waterfall{" both" if real else ""}">'
    yield "<figcaption>Memory of one device</figcaption>"
    yield (
        '<p class="note">From the whole device down to the KV cache: each step takes its part off. '
        + ("Above: predicted; below, striped: what the log says. " if real else "")
        + "Point at a bar for what it rests on.</p>"
    )
    if real:
        yield '<div class="step head"><span></span><span></span><b>predicted</b><em>log</em></div>'
    for step in steps:
        yield f'<div class="step {escape(step.kind)}"><span>{escape(step.name)}'
        yield f" <small>{escape(step.basis)}</small></span>" if step.basis else "</span>"
        yield '<div class="track">'
        yield _bar("i", step.predicted, step, low, high)
        yield _bar("u", step.real, step, low, high)
        yield f"</div><b>{_size(step, step.predicted)}</b>"
        yield f"<em>{_size(step, step.real)}</em></div>" if real else "</div>"
    yield f'<div class="step axis"><span></span><div class="track">{_axis(low, high)}</div></div>'
    yield "</figure>"


def _bar(tag: str, track: Track | None, step: Step, low: int, high: int) -> str:
    if track is None:
        return ""
    left, width = (100 * each / (high - low) for each in (track.first - low, track.size))
    who = "log" if tag == "u" else "predicted"
    title = f"{step.name}, {who}: {format_bytes(track.size)}"
    title += f" ({step.how})" if step.how and (tag == "i" or step.predicted is None) else ""
    style = f"left:{left:.3f}%;width:{width:.3f}%"
    return f'<{tag} style="{style}" title="{escape(title)}"></{tag}>'


def _size(step: Step, track: Track | None) -> str:
    if track is None:
        return "–"
    below = step.kind in ("kv", "lacking") and track.first < 0
    return escape(format_bytes(-track.size if below else track.size))


def _axis(low: int, high: int) -> str:
    """Return some five round places on the axis, in GiB."""
    span = (high - low) / _GIB
    step = next((each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500) if span / each <= 6), 1000)
    marks = range(-(-low // (step * _GIB)) * step, int(high // _GIB) + 1, step)
    return "".join(
        f'<s style="left:{100 * (mark * _GIB - low) / (high - low):.3f}%">{mark:,}'
        f"{' GiB' if mark == marks[-1] else ''}</s>"
        for mark in marks
    )
