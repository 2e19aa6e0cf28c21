"""The traffic generators: valid columns, determinism, and the statistics that they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload import Workload, chain_ids, generate
from kvatlas.workload.describe import describe
from kvatlas.workload.generators import GENERATORS, TOKENS_PER_ID, names
from kvatlas.workload.generators.bursts import BurstsKnobs, bursts

SMALL = {name: 60 if name == "agents" else 300 for name in names()}


def same(one: Workload, other: Workload) -> bool:
    columns = ("arrival_s", "prompt_tokens", "output_tokens", "ids", "id_offsets", "parent")
    return all(np.array_equal(getattr(one, c), getattr(other, c)) for c in columns)


def gap_cv(arrival_s: NDArray[np.float64]) -> float:
    gaps_s = np.diff(arrival_s)
    return float(gaps_s.std() / gaps_s.mean())


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("rows", [1, 2, 37])
def test_any_size_gives_a_valid_workload(name: str, rows: int) -> None:
    workload = generate(name, seed=3, num_requests=rows)
    workload.check()
    assert workload.num_requests == rows
    assert workload.arrival_s[0] == 0
    assert workload.tokens_per_id == TOKENS_PER_ID
    assert workload.notes and workload.prefix_known


@pytest.mark.parametrize("name", names())
def test_ids_are_those_of_chain_ids(name: str) -> None:
    workload = generate(name, num_requests=SMALL[name])
    ids, num_ids = chain_ids(workload.ids, workload.id_offsets, workload.salt)
    assert num_ids == workload.num_ids
    assert np.array_equal(ids, workload.ids)


@pytest.mark.parametrize("name", names())
def test_equal_seeds_give_equal_workloads(name: str) -> None:
    rows = SMALL[name]
    one = generate(name, seed=5, num_requests=rows)
    assert same(one, generate(name, seed=5, num_requests=rows))
    # The comb and the sawtooth are patterns without chance.
    assert same(one, generate(name, seed=6, num_requests=rows)) == (name in ("comb", "sawtooth"))


def test_source_names_the_seed_and_the_changed_knobs() -> None:
    workload = generate("bursts", seed=4, num_requests="20", shape="on-off")
    assert workload.source == "generated: bursts(seed=4, num_requests=20, shape=on-off)"
    assert workload.name == "bursts"


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"turns": 3}, "turns: the workload conversation has no such knob; its knobs are num_req"),
        ({"num_requests": 0}, "num_requests: must be at least 1 (got 0); the default is 2000 req"),
        ({"num_requests": 2.5}, "num_requests: must be a whole number (got 2.5); the default"),
        ({"num_requests": True}, "num_requests: must be a whole number (got True)"),
        ({"think_s": "soon"}, "think_s: must be a finite number (got soon); the default is 20"),
        ({"think_s": math.nan}, "think_s: must be a finite number (got nan)"),
        ({"think_s": 0}, "think_s: must be above 0 (got 0)"),
        ({"mean_turns": "0.5"}, "mean_turns: must be at least 1 (got 0.5)"),
        ({"seed": -1}, "seed: must be a whole number, 0 or more (got -1)"),
    ],
)
def test_bad_knobs_are_one_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        generate("conversation", **knobs)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_bad_choices_and_names_list_what_is_known() -> None:
    with pytest.raises(InputError, match="use one of gamma, on-off"):
        generate("bursts", shape="square")
    with pytest.raises(InputError, match="use one of conversation, agents"):
        generate("chat")
    with pytest.raises(InputError, match="must be at most high_tokens = 10"):
        generate("sawtooth", low_tokens=11, high_tokens=10)
    with pytest.raises(InputError, match="four times the system prompts"):
        generate("agents", max_context_tokens=1000)


def test_every_knob_is_documented() -> None:
    for generator in GENERATORS.values():
        assert {info.name for info in generator.knob_infos} >= {"num_requests"}
        for info in generator.knob_infos:
            assert info.what
            assert info.unit or isinstance(info.default, (str, float))


class TestConversation:
    def test_means(self) -> None:
        # GIVEN sessions that end at once, so that none is cut off
        workload = generate(
            "conversation", seed=1, num_requests=30_000, think_s=1e-6, output_tokens_per_s=1e9
        )
        # THEN the means are those of the knobs
        first = workload.parent < 0
        turns = np.bincount(workload.session)
        assert turns.mean() == pytest.approx(3.5, rel=0.03)
        assert turns.std() == pytest.approx(math.sqrt(3.5 * 2.5), rel=0.05)
        later = np.flatnonzero(~first)
        before = workload.parent[later]
        covered = (workload.prompt_tokens + workload.output_tokens)[before]
        new_text = workload.prompt_tokens[later] - covered
        assert new_text.min() >= 1
        assert new_text.mean() == pytest.approx(250, rel=0.05)
        assert workload.output_tokens.mean() == pytest.approx(270, rel=0.02)
        starts_s = workload.arrival_s[first]
        assert 1 / np.diff(starts_s).mean() == pytest.approx(2.0, rel=0.03)
        assert gap_cv(starts_s) == pytest.approx(1.0, abs=0.03)

    def test_a_turn_waits_for_the_answer_and_the_user(self) -> None:
        workload = generate("conversation", seed=2, num_requests=20_000)
        later = np.flatnonzero(workload.parent >= 0)
        before = workload.parent[later]
        answer_s = workload.output_tokens[before] / 50
        think_s = workload.arrival_s[later] - workload.arrival_s[before] - answer_s
        assert think_s.min() > 0
        # Long pauses are cut off by the end of the workload, so the median is the fair check.
        assert np.median(think_s) == pytest.approx(20 * math.exp(-0.5), rel=0.05)

    def test_a_turn_begins_with_every_full_block_of_the_turn_before(self) -> None:
        workload = generate("conversation", num_requests=400, seed=8)
        covered = workload.prompt_tokens + workload.output_tokens
        for row in np.flatnonzero(workload.parent >= 0):
            before = workload.parent[row]
            shared = int(covered[before]) // TOKENS_PER_ID
            mine = workload.ids[workload.id_offsets[row] :][: shared + 1]
            theirs = workload.ids[workload.id_offsets[before] :][: shared + 1]
            assert np.array_equal(mine[:shared], theirs[:shared])
            if covered[before] % TOKENS_PER_ID:
                assert mine[shared] != theirs[shared]

    def test_contexts_stay_within_the_limit(self) -> None:
        workload = generate("conversation", num_requests=2000, max_context_tokens=2048)
        assert (workload.prompt_tokens + workload.output_tokens).max() <= 2048

    def test_the_default_is_what_its_docs_say(self) -> None:
        found = describe(generate("conversation"))
        assert found.requests == 2000
        assert found.sharing is not None and found.sessions is not None
        assert found.sharing.ceiling_token_hit_rate == pytest.approx(0.83, abs=0.02)
        assert found.sharing.distinct_ids == pytest.approx(67_000, rel=0.05)
        assert found.arrivals.gap_cv == pytest.approx(1.1, abs=0.1)


class TestAgents:
    def test_loops_share_and_grow(self) -> None:
        workload = generate("agents", seed=1, num_requests=3000)
        found = describe(workload)
        assert found.sharing is not None
        assert found.sharing.ceiling_token_hit_rate == pytest.approx(0.96, abs=0.015)
        later = np.flatnonzero(workload.parent >= 0)
        grown = workload.prompt_tokens[later] > workload.prompt_tokens[workload.parent[later]]
        # Only the first call of a subagent starts anew, under a shorter prompt most of the time.
        assert 0.9 < grown.mean() < 1

    def test_means(self) -> None:
        instant = {"tool_s": 1e-6, "output_tokens_per_s": 1e9, "max_context_tokens": 1_000_000}
        workload = generate("agents", seed=2, num_requests=20_000, **instant)
        calls = np.bincount(workload.session)
        assert calls.mean() == pytest.approx(16 + 15 * 0.05 * 6, rel=0.06)
        assert workload.output_tokens.mean() == pytest.approx(150, rel=0.02)
        assert gap_cv(workload.arrival_s[workload.parent < 0]) == pytest.approx(1.0, abs=0.06)

    def test_without_subagents_every_call_extends_the_one_before(self) -> None:
        workload = generate("agents", seed=3, num_requests=400, subagent_probability=0)
        covered = workload.prompt_tokens + workload.output_tokens
        later = np.flatnonzero(workload.parent >= 0)
        assert (workload.prompt_tokens[later] > covered[workload.parent[later]]).all()


class TestRetrieval:
    def test_popularity_is_zipf(self) -> None:
        workload = generate("retrieval", seed=1, num_requests=20_000, document_sigma=0)
        # A prompt's identity inside the document (preamble 250, so block 20 is) names the document.
        named = workload.ids[workload.id_offsets[:-1] + 20]
        _, picks = np.unique(named, return_counts=True)
        share = np.sort(picks)[::-1] / picks.sum()
        harmonic = sum(1 / k for k in range(1, 401))
        assert share[0] == pytest.approx(1 / harmonic, rel=0.05)
        assert share[1] == pytest.approx(1 / 2 / harmonic, rel=0.08)
        assert workload.prompt_tokens.mean() == pytest.approx(5310, rel=0.01)
        assert gap_cv(workload.arrival_s) == pytest.approx(1.0, abs=0.03)

    def test_only_the_same_documents_in_the_same_order_are_shared(self) -> None:
        workload = generate(
            "retrieval",
            num_requests=500,
            num_documents=2,
            documents_per_request=2,
            question_tokens=1,
        )
        blocks_of_four_orders = 1 + 4 + 2  # the preamble, the pairs, and their first documents
        documents = np.unique(workload.ids[workload.id_offsets[1:] - 40])
        assert documents.size <= blocks_of_four_orders
        found = describe(workload)
        assert found.sharing is not None
        assert found.sharing.ceiling_token_hit_rate > 0.95


def arrivals(knobs: BurstsKnobs) -> NDArray[np.float64]:
    """Return the arrivals alone: without identities, many are cheap."""
    return bursts(knobs, np.random.default_rng(1)).arrival_s


class TestBursts:
    @pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
    def test_gamma_gaps_have_the_asked_variation(self, cv: float) -> None:
        arrival_s = arrivals(BurstsKnobs(num_requests=100_000, cv=cv))
        assert gap_cv(arrival_s) == pytest.approx(cv, rel=0.03)
        assert 1 / np.diff(arrival_s).mean() == pytest.approx(8, rel=0.03)

    def test_on_off_gaps_follow_the_interrupted_poisson_process(self) -> None:
        arrival_s = arrivals(BurstsKnobs(num_requests=400_000, shape="on-off"))
        a, b, rate_on = 1 / 5, 1 / 20, 8 * 25 / 5
        expected = math.sqrt(1 + 2 * rate_on * a / (a + b) ** 2)
        assert expected == pytest.approx(16.0, abs=0.1)
        assert gap_cv(arrival_s) == pytest.approx(expected, rel=0.05)
        assert 1 / np.diff(arrival_s).mean() == pytest.approx(8, rel=0.05)

    def test_lengths(self) -> None:
        workload = generate("bursts", seed=1, num_requests=50_000)
        assert workload.output_tokens.mean() == pytest.approx(200, rel=0.03)
        assert workload.output_tokens.std() == pytest.approx(200 * math.sqrt(math.e - 1), rel=0.1)


class TestFragmentation:
    def test_comb_alternates(self) -> None:
        workload = generate("comb", num_requests=10)
        assert workload.prompt_tokens.tolist() == [512] * 10
        assert workload.output_tokens.tolist() == [8, 1024] * 5
        assert np.allclose(np.diff(workload.arrival_s), 0.1)

    def test_sawtooth_ramps_up_and_collapses(self) -> None:
        workload = generate("sawtooth", num_requests=10, period=5, low_tokens=100, high_tokens=500)
        assert workload.prompt_tokens.tolist() == [100, 200, 300, 400, 500] * 2

    def test_survivors_are_few_and_long(self) -> None:
        workload = generate("survivors", seed=1, num_requests=10_000)
        lives = workload.output_tokens == 8192
        assert lives.sum() == 200
        churn = workload.prompt_tokens[~lives]
        assert (churn.min(), churn.max()) == (64, 1024)
        assert churn.mean() == pytest.approx((64 + 1024) / 2, rel=0.02)
        assert gap_cv(workload.arrival_s) == pytest.approx(1.0, abs=0.05)

    def test_mixed_sizes_are_two(self) -> None:
        workload = generate("mixed-sizes", seed=1, num_requests=10_000)
        sizes, counts = np.unique(workload.prompt_tokens, return_counts=True)
        assert sizes.tolist() == [128, 8192]
        assert counts[1] / 10_000 == pytest.approx(0.1, abs=0.01)

    @pytest.mark.parametrize("name", ["comb", "sawtooth", "survivors", "mixed-sizes"])
    def test_nothing_is_shared(self, name: str) -> None:
        workload = generate(name, num_requests=200)
        assert workload.num_ids == workload.ids.size
