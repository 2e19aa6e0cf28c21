"""Recordings of the real Scheduler, verified: the recorder, its reader and the twin together.

Run by `make test-vllm`. Random cases as everywhere here; a failure prints the case as a line that
makes it again, and the first difference.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from cases import make_case
from groups import FAMILIES
from steps import RealRun

from kvatlas.engine.replay import never_fits
from kvatlas.engine.verifying import engine_config, verify_calls
from kvatlas.errors import InputError
from kvatlas.events.live.call_reader import Calls
from kvatlas.live.session import Session, Settings

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SEEDS, MOST_STEPS = 6, 300
MODELLED = [family for family in FAMILIES if "mamba" not in family]


@pytest.mark.parametrize("family", MODELLED)
def test_a_recorded_scheduler_is_identical(family: str, tmp_path: Path) -> None:
    """GIVEN random loads on the real Scheduler WHEN recorded and verified THEN all is identical."""
    calls = verified = 0
    for seed in range(SEEDS):
        case = make_case(family, seed)
        refused = [row for row, never in enumerate(never_fits(case.workload, case.config)) if never]
        run = RealRun(case, refused)
        said: list[str] = []
        folder = tmp_path / str(seed)
        session = Session(run.scheduler, Settings(folder, memory_interval_s=None), said.append)
        for _ in islice(run.steps(), MOST_STEPS):
            pass
        session.close()
        assert said == [], case
        recorded = Calls(session.folder)
        try:
            config = engine_config(recorded.header)
        except InputError:
            continue  # settings that the twin does not take, such as hits inside of blocks
        if recorded.facts.live["unmodelled"]:
            continue
        found = verify_calls(config, recorded)
        assert found.divergence is None, f"{case}\n{found.divergence}"
        assert recorded.ended
        assert not recorded.unmodelled
        calls += found.calls
        verified += 1
    assert not verified or calls > 100
