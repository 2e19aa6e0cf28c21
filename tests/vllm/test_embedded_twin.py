"""Our public Scheduler, embedded, against vLLM's: tokens, stops and aborts, step by step.

The replay's driver is compared in `test_scheduler_twin`; here requests come and go at any step,
some end early with a stop token and some are aborted: waiting, running, or with output in flight.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from cases import Case, make_case
from groups import FAMILIES
from real import real_scheduler
from real_requests import RealRequests
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus

from kvatlas.engine import Request, Scheduler, SchedulerOutput
from kvatlas.engine.replay import never_fits

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SEEDS, STOP_TOKEN = 6, 7


class Embedded:
    """Both schedulers, stepped together."""

    def __init__(self, case: Case) -> None:
        self.case, self.rng = case, Random(case.seed)
        self.real: Any = real_scheduler(case.config)
        self.ours = Scheduler(case.config, max_num_requests=80, secret=b"test")
        self.requests = RealRequests(case)
        self.in_flight: deque[tuple[Any, Any, SchedulerOutput, dict[str, int]]] = deque()
        self.alive: set[str] = set()

    def run(self) -> None:
        """Serve all requests of the case that an empty pool could serve."""
        fits = [row for row, never in enumerate(never_fits(self.case.workload, self.case.config))
                if not never]  # fmt: skip
        waiting = deque(fits)
        depth = 1 + self.case.config.async_scheduling
        while waiting or self.alive or self.in_flight:
            for _ in range(min(len(waiting), self.rng.randrange(4))):
                self._add(waiting.popleft())
            if self.alive and self.rng.random() < 0.05:
                self._abort(self.rng.choice(sorted(self.alive)))
            assert self.ours.has_requests() == self.real.has_unfinished_requests()
            if self.ours.has_requests():
                self._schedule()
            while self.in_flight and (len(self.in_flight) >= depth or not self.alive):
                self._update()
        assert self.ours.usage == self.real.get_kv_cache_usage() == 0
        self.ours.check()

    def _add(self, row: int) -> None:
        real = self.requests.make(row)
        real.sampling_params.stop_token_ids = [STOP_TOKEN]
        ours = Request(
            real.request_id,
            real.prompt_token_ids,
            real.max_tokens,
            stop_token_ids=[STOP_TOKEN],
            priority=real.priority,
            cache_salt=real.cache_salt or "",
        )
        self.real.add_request(real)
        self.ours.add_request(ours)
        self.alive.add(real.request_id)

    def _abort(self, name: str) -> None:
        self.real.finish_requests(name, RequestStatus.FINISHED_ABORTED)
        self.ours.abort(name)
        self.alive.discard(name)

    def _schedule(self) -> None:
        real, ours = self.real.schedule(), self.ours.schedule()
        assert list(ours.num_scheduled_tokens.items()) == list(real.num_scheduled_tokens.items())
        assert set(ours.preempted) == set(real.preempted_req_ids or ())
        cached = real.scheduled_cached_reqs
        admitted = {new.req_id: new.num_computed_tokens for new in real.scheduled_new_reqs}
        admitted |= {
            name: computed
            for name, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True)
            if name in cached.resumed_req_ids
        }
        assert ours.num_computed_tokens == admitted
        assert {*ours.scheduled_new, *ours.scheduled_resumed} == set(admitted)
        for name, tables in ours.block_tables.items():
            assert tables == self.real.kv_cache_manager.get_block_ids(name)
        sampling = [name for name in real.num_scheduled_tokens
                    if not self.real.requests[name].is_prefill_chunk]  # fmt: skip
        assert list(ours.sampling) == sampling
        sampled = {name: self._sample(int(name)) for name in sampling}
        names = list(real.num_scheduled_tokens)
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: at for at, name in enumerate(names)},
            sampled_token_ids=[[sampled[name]] if name in sampled else [] for name in names],
        )
        self.in_flight.append((real, output, ours, sampled))

    def _sample(self, row: int) -> int:
        return STOP_TOKEN if self.rng.random() < 0.02 else self.requests.sample(row)

    def _update(self) -> None:
        real, output, ours, sampled = self.in_flight.popleft()
        finished = {
            done.request_id
            for outputs in self.real.update_from_output(real, output).values()
            for done in outputs.outputs
            if done.finish_reason is not None
        }
        assert {r.request_id for r in self.ours.update_from_output(ours, sampled)} == finished
        self.alive -= finished
        assert self.ours.usage == self.real.get_kv_cache_usage()


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("family", FAMILIES)
def test_embedded_scheduler_decides_alike(family: str, seed: int) -> None:
    case = make_case(family, 2000 + seed)
    config = case.config.with_(max_model_len=min(case.config.max_model_len, 4096))
    case = Case(family, seed, case.workload, case.raw_ids, config, case.drive, "sha256")
    Embedded(case).run()
