"""The life of blocks: how long cached content stays, rests, and waits for its next use.

Owns: `BlockLife`, in full and with vLLM's sampling. Leaves to others: the compiled loop
(`_life_kernel`), whether an eviction was a mistake (`pollution`), who waited for whom (`reuse`).

A *use* is an entry into a block table: the allocation that computes a block, and each hit. A *life*
runs from the allocation to the eviction of cached content; blocks that were never cached have none
(design: "count cached blocks only").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvatlas.errors import InputError
from kvatlas.events import Chunk, Header
from kvatlas.measure._life_kernel import (
    GAP,
    GAP_BLOCKS,
    IDLE,
    LET_GO,
    LIFETIME,
    SAMPLED_GAP,
    SAMPLED_IDLE,
    SAMPLED_LIFETIME,
    follow_lives,
    make_lives,
)
from kvatlas.measure.distribution import Distribution, distribution_of, put_distribution
from kvatlas.measure.feeding import writable
from kvatlas.measure.figures import Figures

__all__ = ["VLLM_SAMPLE_RATE", "BlockLife", "BlockLifeResult", "SampledLife"]

VLLM_SAMPLE_RATE = 0.01
"""The rate of `--kv-cache-metrics-sample` unless told otherwise (vLLM 0.32.0)."""

_MS = 1e-3
_OFF = "prefix caching is off: no block is cached"
_NONE_ENDED = "no cached block was evicted"
_NONE_REUSED = "no cached block was used again"


@dataclass(frozen=True, slots=True, eq=False)
class SampledLife:
    """What vLLM's `KVCacheMetricsCollector` would have observed, quirks included.

    A block is watched from its allocation on, with the probability `rate`. At its eviction it
    reports; so does a block that was never cached, at its next allocation. Gaps lie between hits
    only (not between the allocation and the first hit), and of the last four hits.

    Attributes:
        rate: probability per allocation.
        watched: allocations that were sampled.
        lifetime_s, idle_s, reuse_gap_s: seconds.
    """

    rate: float
    watched: int
    lifetime_s: Distribution
    idle_s: Distribution
    reuse_gap_s: Distribution


@dataclass(frozen=True, slots=True, eq=False)
class BlockLifeResult:
    """The lives of cached blocks so far.

    Attributes:
        lifetime_s: allocation to eviction, of every life that ended.
        idle_s: last use to eviction. A request may hold a block long after the use that began it.
        let_go_s: the last owner's leaving to eviction: how long free content could be hit.
        reuse_gap_s: between two uses of a cached block.
        reuse_gap_blocks: other blocks of the pool that were used in between.
        ended: lives that ended in an eviction.
        unknown: of these, how many began before the recording: they have no lifetime.
        censored: lives cut off by the end of the recording (still cached) or by a reset.
        censored_age_s: mean age so far of the blocks still cached, None without.
        sampled: the same through vLLM's eyes.
    """

    lifetime_s: Distribution
    idle_s: Distribution
    let_go_s: Distribution
    reuse_gap_s: Distribution
    reuse_gap_blocks: Distribution
    ended: int
    unknown: int
    censored: int
    censored_age_s: float | None
    sampled: SampledLife


class BlockLife:
    """Follows every block through a stream of resolved chunks; O(1) per block event.

    Memory: some 60 bytes per block, 32 more for those that vLLM would sample.

    Args:
        header: of the recording.
        sample_rate: of vLLM's collector, above 0 and up to 1.
        seed: of the sampling.

    Raises: InputError when the rate is out of range.
    """

    def __init__(
        self, header: Header, *, sample_rate: float = VLLM_SAMPLE_RATE, seed: int = 0
    ) -> None:
        if not 0 < sample_rate <= 1:
            raise InputError("must be above 0, up to 1", field="sample_rate", value=sample_rate)
        self.header = header
        self._rate = sample_rate
        self._lives = make_lives(header.num_blocks, header.caching, sample_rate, seed)

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + ids)."""
        follow_lives(self._lives, *writable(chunk))

    def result(self) -> BlockLifeResult:
        """Return what is known so far; O(blocks)."""
        lives, info = self._lives, self._lives.info
        histograms = lives.histograms
        ages = info.now_ms - lives.blocks["born_ms"][lives.blocks["cached"] == 1]
        ages = ages[~np.isnan(ages)]
        return BlockLifeResult(
            lifetime_s=distribution_of(histograms, LIFETIME, _MS),
            idle_s=distribution_of(histograms, IDLE, _MS),
            let_go_s=distribution_of(histograms, LET_GO, _MS),
            reuse_gap_s=distribution_of(histograms, GAP, _MS),
            reuse_gap_blocks=distribution_of(histograms, GAP_BLOCKS),
            ended=int(info.ended),
            unknown=int(info.unknown),
            censored=int(info.cut) + int(lives.blocks["cached"].sum()),
            censored_age_s=float(ages.mean()) * _MS if ages.size else None,
            sampled=SampledLife(
                rate=self._rate,
                watched=int(info.sampled),
                lifetime_s=distribution_of(histograms, SAMPLED_LIFETIME, _MS),
                idle_s=distribution_of(histograms, SAMPLED_IDLE, _MS),
                reuse_gap_s=distribution_of(histograms, SAMPLED_GAP, _MS),
            ),
        )

    def figures(self, sheet: Figures) -> None:
        """Put the figures named `life.*`."""
        life = self.result()
        off = "" if self.header.caching else _OFF
        for name, unit, values, otherwise in (
            ("lifetime", "_s", life.lifetime_s, _NONE_ENDED),
            ("idle", "_s", life.idle_s, _NONE_ENDED),
            ("let_go", "_s", life.let_go_s, _NONE_ENDED),
            ("reuse_gap", "_s", life.reuse_gap_s, _NONE_REUSED),
            ("reuse_gap_blocks", "", life.reuse_gap_blocks, _NONE_REUSED),
            ("sampled_lifetime", "_s", life.sampled.lifetime_s, "no sampled block was evicted"),
            ("sampled_idle", "_s", life.sampled.idle_s, "no sampled block was evicted"),
            ("sampled_reuse_gap", "_s", life.sampled.reuse_gap_s, "no sampled block was hit twice"),
        ):
            put_distribution(sheet, f"life.{name}", unit, values, off or otherwise)
        lives = life.ended + life.censored
        sheet.ratio("life.censored_share", life.censored, lives, off or "no block was cached")
