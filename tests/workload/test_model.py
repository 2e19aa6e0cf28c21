"""The promises of `Workload`: kept ones pass `check`, each broken one is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_builders import same, workload, workloads

from kvatlas.errors import InvariantError
from kvatlas.workload import Workload


def example() -> Workload:
    return workload([32, 20, 48], [[1, 2], [1, 3], [1, 2, 4]], parents=[-1, -1, 0])


@settings(deadline=None)
@given(workloads())
def test_a_valid_workload_passes(w: Workload) -> None:
    w.check()


@settings(deadline=None)
@given(workloads(), st.integers(-1, 14))
def test_every_head_is_valid_and_a_prefix(w: Workload, n: int) -> None:
    head = w.head(n)
    head.check()
    rows = max(0, min(n, w.num_requests))
    assert head.num_requests == rows
    assert head.prompt_tokens.tolist() == w.prompt_tokens[:rows].tolist()
    assert head.ids.tolist() == w.ids[: w.id_offsets[rows]].tolist()  # first appearance: unchanged
    assert head.parent.tolist() == w.parent[:rows].tolist()


@settings(deadline=None)
@given(workloads(), st.data())
def test_a_changed_id_is_noticed_or_harmless(w: Workload, data: st.DataObject) -> None:
    """A single changed identity either breaks a promise or leaves a valid chain."""
    if not w.ids.size:
        return
    place = data.draw(st.integers(0, w.ids.size - 1))
    ids = w.ids.copy()
    ids[place] = data.draw(st.integers(0, w.num_ids - 1))
    changed = w.with_(ids=ids)
    try:
        changed.check()
    except InvariantError:
        return
    assert_chained(changed)


def assert_chained(w: Workload) -> None:
    prefixes: dict[int, tuple[int, ...]] = {}
    for row in range(w.num_requests):
        own = w.ids[w.id_offsets[row] : w.id_offsets[row + 1]].tolist()
        for end, name in enumerate(own):
            prefix = (-1 - int(w.salt[row]), *own[: end + 1])
            assert prefixes.setdefault(name, prefix) == prefix


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"arrival_s": np.array([0.0, 2.0, 1.0])}, "arrival_s must not decrease"),
    ({"arrival_s": np.array([0.0, np.nan, 1.0])}, "arrival_s must be finite"),
    ({"arrival_s": np.array([-1.0, 0.0, 1.0])}, "arrival_s must start at 0"),
    ({"arrival_s": np.array([0.0, 1.0, 2.0], dtype=np.float32)}, "arrival_s must be float64"),
    ({"prompt_tokens": np.array([32, 0, 48], dtype=np.int32)}, "prompt_tokens must be at least 1"),
    ({"output_tokens": np.array([1, 1], dtype=np.int32)}, "output_tokens must have shape"),
    ({"output_tokens": np.full(3, 2**30, np.int32)}, "output_tokens must be at most"),
    ({"tokens_per_id": 0}, "tokens_per_id"),
    ({"tokens_per_id": 32}, "ceil(covered / tokens_per_id)"),
    ({"outputs_identified": True}, "ceil(covered / tokens_per_id)"),
    ({"prefix_known": False}, "length-only"),
    ({"num_ids": 3}, "below num_ids"),
    ({"num_ids": 5}, "reach num_ids"),
    ({"num_ids": 2**40}, "num_ids"),
    ({"ids": np.array([0, 1, 0, 2, 0, 1, 2], dtype=np.int32), "num_ids": 3}, "one prefix only"),
    ({"ids": np.array([0, 1, 0, 3, 0, 1, 3], dtype=np.int32)}, "dense"),
    ({"ids": np.array([0, 1, 0, 2, 0, 1, -3], dtype=np.int32)}, "negative"),
    ({"ids": np.array([0.0] * 7)}, "int32 or int64"),
    ({"id_offsets": np.array([0, 2, 4, 6], dtype=np.int64)}, "end at the number of ids"),
    ({"id_offsets": np.array([1, 2, 4, 7], dtype=np.int64)}, "start at 0"),
    ({"session": np.array([0, 2, 0], dtype=np.int32)}, "session must be dense"),
    ({"session": np.array([0, -2, 0], dtype=np.int32)}, "session"),
    ({"session": np.array([0, 1, 1], dtype=np.int32)}, "same session"),
    ({"parent": np.array([-1, 1, 0], dtype=np.int32)}, "earlier row"),
    ({"parent": np.array([-1, -2, 0], dtype=np.int32)}, "parent"),
    ({"salt": np.array([0, 0, -1], dtype=np.int32)}, "salt"),
    ({"salt": np.array([0, 0, 2**31 - 1], dtype=np.int32)}, "salt"),
    ({"salt": np.array([0, 1, 0], dtype=np.int32)}, "one prefix only"),
]


@pytest.mark.parametrize(("changes", "promise"), BROKEN, ids=[promise for _, promise in BROKEN])
def test_a_broken_promise_is_named(changes: dict[str, Any], promise: str) -> None:
    example().check()
    with pytest.raises(InvariantError) as caught:
        example().with_(**changes).check()
    assert promise in str(caught.value)


def test_sums_and_sizes() -> None:
    w = example()
    assert w.num_requests == 3
    assert w.total_prompt_tokens == 100
    assert w.columnar_bytes == 3 * (8 + 6 * 4) + 7 * 4 + 4 * 8
    assert same(w, w.with_())
    assert not same(w, w.with_(name="other"))


def test_head_renumbers_what_is_not_numbered_by_appearance() -> None:
    w = example().with_(
        ids=np.array([3, 1, 3, 2, 3, 1, 0], dtype=np.int32),
        session=np.array([1, 0, 1], dtype=np.int32),
        salt=np.zeros(3, dtype=np.int32),
    )
    w.check()
    head = w.head(1)
    head.check()
    assert head.num_ids == 2
    assert head.session.tolist() == [0]


def test_head_keeps_salts_dense() -> None:
    w = workload([16, 16, 16], [[1], [1], [1]], salts=[3, 0, 2])
    w.head(1).check()
    assert w.head(1).salt.tolist() == [1]
    assert w.head(2).salt.tolist() == [1, 0]
