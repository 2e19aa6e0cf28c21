"""What vLLM's own residency metrics observe, beside what is counted from the twin's events.

The real Scheduler runs with a real `KVCacheMetricsCollector` that watches every block, on the
simulated clock; `BlockLife` sees the events of the same case.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("vllm.v1.core.kv_cache_metrics", reason="the real vLLM is not installed here")

from cases import make_case
from steps import RealRun
from twin import run_twin
from vllm.v1.core import kv_cache_metrics as metrics

from kvatlas.engine.recorded import recording_header
from kvatlas.engine.replay import Replay
from kvatlas.events import Resolver
from kvatlas.measure import BlockLife

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("family", ["full", "full+window"])
@pytest.mark.parametrize("seed", range(8))
def test_the_collector_observes_the_same(
    family: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a case WHEN every block is sampled THEN lifetimes, idle times and gaps are equal."""
    case = make_case(family, seed)
    twin = run_twin(case)
    real = RealRun(case, twin.result.rejected, twin.set_aside)
    collector = metrics.KVCacheMetricsCollector(1.0)
    real.pool.metrics_collector = collector
    monkeypatch.setattr(metrics.time, "monotonic_ns", lambda: round(real._clock_ms * 1e6))
    for _ in real.steps():
        pass
    monkeypatch.undo()
    observed = collector.drain_events()

    replay = Replay(case.workload, case.config, case.drive)
    life = BlockLife(recording_header(replay, version="test", engine="vLLM"), sample_rate=1.0)
    resolver = Resolver(life.header)
    replay.listen(lambda chunk: life.feed(resolver.resolve(chunk)))
    for _ in replay.slices():
        pass
    found = life.result().sampled
    for name, values in (
        ("lifetime_s", [one.lifetime_seconds for one in observed]),
        ("idle_s", [one.idle_seconds for one in observed]),
        ("reuse_gap_s", [gap for one in observed for gap in one.reuse_gaps_seconds]),
    ):
        ours = getattr(found, name)
        assert ours.count == len(values), (name, case)
        assert ours.total == pytest.approx(np.sum(values), abs=1e-6 * max(1, len(values))), name
        if values:
            assert (ours.least, ours.most) == pytest.approx((min(values), max(values)), abs=1e-6)
