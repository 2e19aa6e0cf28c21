"""Chaining against a naive model: equal ids exactly where whole prefixes and roots are equal."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvatlas.workload import Chainer, chain_ids

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
RAW = st.one_of(st.integers(0, 3), INT64)
REQUESTS = st.lists(st.tuples(st.integers(0, 2), st.lists(RAW, max_size=8)), max_size=30)


def flatten(requests: list[tuple[int, list[int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    raw = np.array([value for _, ids in requests for value in ids], dtype=np.int64)
    offsets = np.cumsum([0, *(len(ids) for _, ids in requests)], dtype=np.int64)
    return raw, offsets, np.array([root for root, _ in requests], dtype=np.int32)


def naive(requests: list[tuple[int, list[int]]]) -> list[int]:
    """Number whole prefixes by first appearance."""
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    return [
        known.setdefault((root, tuple(ids[: end + 1])), len(known))
        for root, ids in requests
        for end in range(len(ids))
    ]


@settings(deadline=None)  # the first call compiles
@given(REQUESTS)
def test_equal_ids_exactly_where_prefixes_are_equal(
    requests: list[tuple[int, list[int]]],
) -> None:
    ids, num_ids = chain_ids(*flatten(requests))

    expected = naive(requests)
    assert ids.tolist() == expected
    assert num_ids == len(set(expected))
    assert ids.dtype == np.int32


@settings(deadline=None)
@given(REQUESTS, st.lists(st.integers(0, 30), max_size=4))
def test_chaining_in_pieces_is_chaining_at_once(
    requests: list[tuple[int, list[int]]], cuts: list[int]
) -> None:
    chainer = Chainer()
    edges = [0, *sorted(min(cut, len(requests)) for cut in cuts), len(requests)]
    pieces = [chainer.extend(*flatten(requests[low:high])) for low, high in pairwise(edges)]
    assert np.concatenate(pieces).tolist() == naive(requests)
    assert chainer.num_ids == len(set(naive(requests)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_many_branches_outgrow_the_first_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests = [(0, [int(a), int(b)]) for a, b in rng.integers(0, 2000, size=(3000, 2))]
    chainer = Chainer()
    got = np.concatenate(
        [chainer.extend(*flatten(requests[k : k + 700])) for k in range(0, 3000, 700)]
    )
    assert got.tolist() == naive(requests)


def test_nothing_is_chained_to_nothing() -> None:
    ids, num_ids = chain_ids(np.empty(0), np.zeros(1), np.empty(0))
    assert ids.size == 0
    assert num_ids == 0


def test_chained_ids_stay_as_they_are() -> None:
    raw, offsets = np.array([0, 1, 2, 0, 1, 3, 0, 4]), np.array([0, 3, 6, 8])
    ids, num_ids = chain_ids(raw, offsets, np.zeros(3))
    assert ids.tolist() == raw.tolist()
    assert num_ids == 5


UNCOMPILED = """
import numpy as np
from kvatlas.workload import chain_ids
low, high = -2**63, 2**63 - 1
raw = np.array([low, high, 7, low, high, 8, high], dtype=np.int64)
ids, n = chain_ids(raw, np.array([0, 3, 6, 7]), np.array([0, 0, 3]))
assert ids.tolist() == [0, 1, 2, 0, 1, 3, 4] and n == 5, ids
"""


def test_runs_uncompiled_without_overflow() -> None:
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNCOMPILED], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("root", [0, 5])
def test_roots_part_equal_prefixes(root: int) -> None:
    ids, num_ids = chain_ids(np.array([1, 1]), np.array([0, 1, 2]), np.array([0, root]))
    assert num_ids == (1 if root == 0 else 2)
    assert ids[0] == 0
