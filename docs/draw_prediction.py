"""Draw a recording beside what the twin predicts: `python docs/draw_prediction.py RECORDING OUT`.

Replays the recording under its own settings (`kvatlas replay RECORDING --json -`) and draws usage,
hit rate and preemptions over time, recorded and predicted, with the error of each. Everything in
the picture, its numbers included, comes from that JSON. The SVG refers to nothing outside itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LEFT, RIGHT = 860, 62, 18
TOP, PANEL, GAP, BOTTOM = 92, 118, 40, 48
RECORDED, PREDICTED, INK, FAINT = "#1f6fb2", "#d9622b", "#20262e", "#c9d0d8"
PANELS = (
    ("usage", "Usage: blocks held, share of the pool", True),
    ("hit_rate", "Token hit rate so far", True),
    ("preemptions", "Preemptions so far", False),
)


def main() -> None:
    """Replay and write the picture."""
    recording, target = sys.argv[1:]
    command = [sys.executable, "-m", "kvatlas.cli", "replay", recording, "--json", "-"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    Path(target).write_text("\n".join(picture(said)) + "\n", encoding="utf-8")


def picture(said: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the SVG."""
    height = TOP + len(PANELS) * (PANEL + GAP) + BOTTOM - GAP
    prediction, workload = said["prediction"], said["workload"]
    span_s = prediction["bounds_s"][-1]
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>'
    title = (
        f"{workload['requests']:,} requests to a vLLM server, "
        f"{said['config']['usable_blocks']:,} blocks of {said['config']['block_size']} tokens"
    )
    yield text(LEFT, 24, title, size=15, weight=600)
    for x, color, name in ((LEFT, RECORDED, "recorded"), (LEFT + 110, PREDICTED, "predicted")):
        yield f'<path d="M{x} 43h24" stroke="{color}" stroke-width="2.5"/>'
        yield text(x + 30, 47, name)
    for at, (name, label, share) in enumerate(PANELS):
        yield from panel(prediction, name, label, share, TOP + at * (PANEL + GAP))
    base = TOP + len(PANELS) * (PANEL + GAP) - GAP
    for tick in ticks(span_s):
        x = LEFT + tick / span_s * (WIDTH - LEFT - RIGHT)
        yield text(x, base + 16, f"{tick:g}", anchor="middle")
    yield text(WIDTH - RIGHT, base + 32, "seconds since the first request", anchor="end")
    yield text(LEFT, base + 32, step_time(prediction["step_time"]), size=12)
    yield "</svg>"


def panel(
    prediction: dict[str, Any], name: str, label: str, share: bool, top: float
) -> Iterator[str]:
    """Yield one quantity over time, both ways."""
    lines = [prediction[side][name] for side in ("recorded", "predicted")]
    most = max((value for line in lines for value in line if value is not None), default=1.0)
    scale = 1.0 if share and most > 0.5 else max(most, 1e-9)
    for part in (0.0, 0.5, 1.0):
        y = top + PANEL * (1 - part)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{FAINT}" stroke-width="1"/>'
        shown = f"{100 * part * scale:.0f}%" if share else f"{part * scale:,.0f}"
        yield text(LEFT - 6, y + 4, shown, anchor="end", size=12)
    for line, color in zip(lines, (RECORDED, PREDICTED), strict=True):
        yield (
            f'<path d="{path(line, prediction["bounds_s"], scale, top)}" fill="none" '
            f'stroke="{color}" stroke-width="2" stroke-linejoin="round"/>'
        )
    error = prediction["error"][name]
    unit = " points" if share else ""
    factor = 100 if share else 1
    off = f"off by {factor * error['mean']:.1f}{unit} in the mean"
    yield text(LEFT, top - 7, label, weight=600)
    yield text(WIDTH - RIGHT, top - 7, off, anchor="end", size=12)


def path(
    values: Sequence[float | None], bounds_s: Sequence[float], scale: float, top: float
) -> str:
    """Return a line through the middles of the intervals, broken where nothing is known."""
    words, pen_up = [], True
    for at, value in enumerate(values):
        if value is None:
            pen_up = True
            continue
        middle = (bounds_s[at] + bounds_s[at + 1]) / 2 / bounds_s[-1]
        x = LEFT + middle * (WIDTH - LEFT - RIGHT)
        words.append(f"{'M' if pen_up else 'L'}{x:.1f} {top + PANEL * (1 - value / scale):.1f}")
        pen_up = False
    return "".join(words)


def step_time(fit: dict[str, Any] | None) -> str:
    """Return what the clock of the prediction is, with its error."""
    if fit is None:
        return "the recording's own clock"
    return (
        f"a step: {fit['base_ms']:.3g} ms + {fit['per_ktok_ms']:.3g} ms per 1,000 tokens, off by "
        f"{100 * fit['median_error']:.0f}% in the median"
    )


def ticks(span_s: float) -> list[float]:
    """Return round moments, some five to ten of them."""
    step = next(
        step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1e9) if span_s / step < 10
    )
    return [number * step for number in range(int(span_s / step) + 1)]


def text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, weight: int = 400
) -> str:
    """Return a line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{INK}">{escape(words)}</text>'
    )


if __name__ == "__main__":
    main()
