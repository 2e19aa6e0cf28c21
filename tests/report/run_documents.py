"""The document of a small real run, with frames: what a page is tried on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import Chunk, Header, resolved, schema
from kvatlas.events.snapshot import EVICTABLE, USED
from kvatlas.measure import Figures
from kvatlas.measure.frames import BlockFrames, take_frames
from kvatlas.report.run_document import Effect, Finding, Histogram, RunDocument, Table, TimeSeries
from kvatlas.workload import Workload, generate

EVIL = "</script><script>window.evil=1</script>"
"""A request's name that a careless page would run."""

F64 = NDArray[np.float64]
_INTERVALS = 90


@cache
def small_run(
    blocks: int = 2400, requests: int = 260, most_frames: int = 24
) -> tuple[Header, tuple[Chunk, ...], BlockFrames]:
    """Replay chats through a pool that is a little too small."""
    return recorded(
        generate("conversation", seed=11, num_requests=requests),
        EngineConfig(num_blocks=blocks, max_num_seqs=24, max_num_batched_tokens=2048),
        most_frames,
    )


def recorded(
    workload: Workload, config: EngineConfig, most_frames: int
) -> tuple[Header, tuple[Chunk, ...], BlockFrames]:
    """Replay `workload`; return header, raw chunks and frames."""
    raw: list[Chunk] = []
    replay = Replay(
        workload, config, DriveConfig(arrivals="timed"), on_events=lambda c: raw.append(c.copy())
    )
    replay.run()
    header = recording_header(replay, version="test", engine="vLLM 0.32")
    names = [f"chat-{row}" for row in range(workload.num_requests)]
    names[0::5] = [EVIL] * len(names[0::5])
    frames = take_frames(
        header,
        lambda: resolved((chunk.copy() for chunk in raw), header),
        most_frames=most_frames,
        names=names,
    )
    assert frames is not None
    return header, tuple(raw), frames


def run_document(**changes: Any) -> RunDocument:
    """Return the document of `small_run`; `changes` replace parts of it."""
    return replace(document_of(*small_run()), **changes)


def document_of(header: Header, chunks: tuple[Chunk, ...], frames: BlockFrames) -> RunDocument:
    """Return what can be said about a run without any analyser, and some that is made up."""
    rows = np.concatenate([chunk.rows for chunk in chunks])
    figures = _figures(rows, header)
    rate = float(figures["prefix.token_hit_rate"] or 0)
    return RunDocument(
        title="chats on vLLM 0.32",
        version="9.8.7",
        engine="vLLM 0.32",
        producer="replay",
        config={
            "num_blocks": header.num_blocks,
            "block_sizes": [16],
            "max_num_seqs": 24,
            "max_num_batched_tokens": 2048,
            "arrivals": "timed",
        },
        workload={"name": "chats", "requests": header.num_requests},
        partial="",
        figures=figures,
        series=_series(rows, header, frames),
        histograms=_histograms(frames),
        tables=_tables(rows),
        findings=_findings(header, rate),
        frames=frames,
        notes=("External fragmentation refuses no allocation in a pool of equal blocks.",),
    )


def _figures(rows: np.ndarray, header: Header) -> Figures:
    figures = Figures()
    asked = rows[(rows["event"] == schema.LOOKED_UP) & (rows["cause"] == schema.BY_NEW)]
    hits, tokens = int(asked["computed_tokens"].sum()), int(asked["tokens"].sum())
    steps = rows[rows["event"] == schema.STEP]
    spans = steps["count"] * steps["span_ms"]
    used = header.usable_blocks - steps["free_blocks"]
    figures.put("prefix.token_hit_rate", hits / tokens)
    figures.put("prefix.ceiling_token_hit_rate", min(1.0, 0.07 + hits / tokens))
    figures.put("usage.time_weighted", float((used * spans).sum() / spans.sum()) / used.max())
    figures.put("usage.peak", float(used.max()) / header.usable_blocks)
    figures.put("waste.internal_time_weighted", 0.0121)
    figures.put("preemption.count", int((rows["event"] == schema.PREEMPTED).sum()))
    figures.put("queue.time_p50_s", 0.412)
    figures.put("latency.ttft_p50_s", 0.713)
    for name, share in (("cold", 0.64), ("capacity", 0.27), ("granularity", 0.09)):
        figures.put(f"attribution.{name}", share)
    figures.put("attribution.configuration", 0.0)
    figures.put("attribution.cold_in_flight", 0.02)
    figures.put("attribution.missed_tokens", tokens - hits)
    figures.put("fragmentation.efi", 0.97)
    figures.put("fragmentation.largest_free_run", 41)
    figures.put("life.lifetime_p50_s", 38.2)
    figures.lack("the trace has no sessions", "prefix.reuse_within_session")
    return figures


def _series(rows: np.ndarray, header: Header, frames: BlockFrames) -> TimeSeries:
    last_ms = float(rows["time_ms"].max())
    bounds = np.linspace(0, last_ms, _INTERVALS + 1)
    at = np.clip(np.searchsorted(bounds, rows["time_ms"], "right") - 1, 0, _INTERVALS - 1)

    def total(chosen: np.ndarray, weights: np.ndarray | None = None) -> F64:
        given = None if weights is None else weights[chosen]
        return np.bincount(at[chosen], given, _INTERVALS).astype(np.float64)

    steps = rows["event"] == schema.STEP
    lasting: F64 = rows["count"] * rows["span_ms"]
    spans = np.where(steps, lasting, 0.0)
    weight = total(steps, spans)

    def mean(column: np.ndarray) -> F64:
        with np.errstate(invalid="ignore", divide="ignore"):
            return total(steps, column * spans) / weight

    new = (rows["event"] == schema.LOOKED_UP) & (rows["cause"] == schema.BY_NEW)
    with np.errstate(invalid="ignore", divide="ignore"):
        hit_rate = total(new, rows["computed_tokens"]) / total(new, rows["tokens"])
    so_far = np.cumsum(total(new, rows["computed_tokens"])) / np.cumsum(total(new, rows["tokens"]))
    used = np.nan_to_num(mean(header.usable_blocks - rows["free_blocks"]))
    moments = [(f.time_s, int((f.state == EVICTABLE).sum())) for f in frames.frames()]
    times_s, blocks = (np.array(part, np.float64) for part in zip(*moments, strict=True))
    cached = np.interp(bounds[1:] / 1e3, times_s, blocks)
    evictable = np.minimum(cached, header.usable_blocks - used)
    return TimeSeries(
        bounds[:-1] / 1e3,
        bounds[1:] / 1e3,
        {
            "used": used,
            "evictable": evictable,
            "empty": header.usable_blocks - used - evictable,
            "waste": mean(rows["wasted_slots"]) / (16 * np.maximum(used, 1)),
            "hit_rate": hit_rate,
            "hit_rate_so_far": so_far,
            "running": mean(rows["running"]),
            "waiting": mean(rows["waiting"]),
            "preemptions": total(rows["event"] == schema.PREEMPTED),
            "failures": total(rows["event"] == schema.ALLOCATION_FAILED, rows["count"]),
            "evictions": total(rows["event"] == schema.EVICTED, rows["count"]),
        },
    )


def _histograms(frames: BlockFrames) -> dict[str, Histogram]:
    frame = list(frames.frames())[len(frames) // 3]
    free = np.concatenate(([0], (frame.state != USED).astype(int), [0]))
    bounds = np.flatnonzero(np.diff(free))
    lengths = bounds[1::2] - bounds[::2]
    edges = np.array([2.0**power for power in range(14)])
    lives = np.random.default_rng(1).lognormal(3, 1.2, 4000)
    spans: F64 = np.geomspace(0.1, 2000, 25)
    return {
        "free_runs": Histogram(
            "Lengths of free runs", "blocks", edges, np.histogram(lengths, edges)[0].astype(float)
        ),
        "lifetime": Histogram(
            "Lifetimes of cached blocks",
            "s",
            spans,
            np.histogram(lives, spans)[0].astype(float),
            "12% outlive the recording: their end is not known.",
        ),
    }


def _tables(rows: np.ndarray) -> dict[str, Table]:
    finished = rows[rows["event"] == schema.FINISHED][:14]
    cells = tuple(
        (
            int(row["request"]),
            EVIL if at == 0 else f"chat-{at}",
            int(row["tokens"]),
            0.31 / (at + 1),
        )
        for at, row in enumerate(finished)
    )
    columns = ("request", "name", "slots", "waste_share")
    return {
        "waste_by_request": Table("Requests that waste most slots", columns, cells),
        "prefixes": Table(
            "Prefixes that save most",
            ("tokens", "requests", "saved_tokens"),
            ((512, 83, 41_984), (1024, 20, 19_456)),
            "Counted at first admissions.",
        ),
    }


def _findings(header: Header, rate: float) -> tuple[Finding, ...]:
    more = 2 * header.num_blocks
    return (
        Finding(
            "more_blocks",
            "act",
            "More blocks would keep what is asked for again",
            (
                "27% of the missed prompt tokens had been cached and were evicted before the next "
                "request for them",
                "The median block lives 38 s, the median gap between uses is 61 s",
            ),
            f"--blocks {more}",
            Effect(
                "prefix.token_hit_rate",
                rate,
                min(1.0, rate + 0.06),
                f"kvatlas replay chats.jsonl --blocks {more} --max-num-seqs 24",
                (("queue.time_p99_s", 2.98, 1.5), ("preemption.count", 4, 0)),
            ),
        ),
        Finding(
            "preemptions",
            "watch",
            "A few requests were preempted",
            ("Their tokens are computed again: 0.2% of all",),
            effect_note="Not replayed: the trace is not at hand.",
        ),
        Finding(
            "block_size", "good", "The block size fits", ("1.2% of the slots held hold no token",)
        ),
    )
