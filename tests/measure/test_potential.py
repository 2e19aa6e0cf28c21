"""The bounds in a replay's figures: in order, and those of the study."""

from __future__ import annotations

from dataclasses import replace

from streams import small_workload

from kvatlas.engine import EngineConfig, Replay
from kvatlas.measure import Conditions, measure_replay
from kvatlas.measure.curves import CapacityStudy

CONDITIONS = Conditions(usable_blocks=39, block_size=4)


def test_lru_alone_the_optimum_and_the_ceiling_come_in_order() -> None:
    for seed in range(12):
        workload = small_workload(seed, rows=40)
        replay = Replay(workload, EngineConfig(num_blocks=40, block_size=4, max_num_seqs=2))
        for _ in replay.slices():
            pass
        found = measure_replay(replay.result(), workload, CONDITIONS).values
        rates = [
            found[f"prefix.{name}_token_hit_rate"] or 0.0 for name in ("lru", "optimum", "ceiling")
        ]
        assert rates == sorted(rates)
        study = CapacityStudy(workload, 4, with_outputs=True)
        assert rates[0] == study.lru.tokens(39)[0] / workload.total_prompt_tokens
        assert found["capacity.knee_blocks"] == study.knee_blocks


def test_what_cannot_be_known_says_why() -> None:
    workload = small_workload(1)
    replay = Replay(workload, EngineConfig(num_blocks=80, block_size=4))
    for _ in replay.slices():
        pass
    for conditions, why in (
        (replace(CONDITIONS, block_size=None), "forget"),
        (replace(CONDITIONS, windowed=True), "forget"),
        (replace(CONDITIONS, block_size=3), "do not fit"),
    ):
        figures = measure_replay(replay.result(), workload, conditions)
        assert figures["prefix.optimum_token_hit_rate"] is None
        assert why in figures.unavailable["prefix.optimum_token_hit_rate"]
