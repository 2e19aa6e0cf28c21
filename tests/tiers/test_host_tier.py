"""The tier's index against the naive model, operation by operation, every invariant after each."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from naive_tier import BY_LEAF, MODELLED, NaiveTier, own_code

from kvatlas.errors import InputError, InvariantError
from kvatlas.tiers import TIER_POLICIES, HostTier
from kvatlas.tiers.build import make_store

_SLOPE = 16 / 30_630.0


def _path(rng: random.Random, length: int) -> list[int]:
    """Return keys of a random path in a small tree: key k hangs from (k - 1) // 2."""
    key = rng.randrange(60)
    path: list[int] = []
    while len(path) < length:
        path.append(key)
        if key == 0:
            break
        key = (key - 1) // 2
    return path[::-1]


def _parents(path: list[int]) -> list[int]:
    return [(key - 1) // 2 if key else -1 for key in path]


def _depth(key: int) -> int:
    return (key + 1).bit_length() - 1


class Both:
    """A tier and its model, told the same."""

    def __init__(self, policy: str, capacity: int) -> None:
        self.ours = HostTier(capacity, policy)
        # What a policy remembers of evicted contents is exact when their number is known.
        self.ours._store = make_store(capacity, policy, num_keys=128)
        self.naive = NaiveTier(capacity, policy, slope=_SLOPE)
        self.pinned: list[tuple[list[int], list[int]]] = []  # keys, slots

    def write(self, rng: random.Random) -> None:
        path = _path(rng, rng.randrange(1, 7))
        above = (path[0] - 1) // 2 if path[0] else None
        got = self.ours.reserve(path, _parents(path), [_depth(key) for key in path])
        assert got.fresh.tolist() == self.naive.reserve(path, above, _depth(path[0]))
        self.pinned.append((path[: got.fresh.size], got.slots.tolist()))

    def read(self, rng: random.Random) -> None:
        path = _path(rng, rng.randrange(1, 7))
        assert self.ours.lookup(path) == self.naive.lookup(path)
        found = self.naive.acquire(path)
        slots = self.ours.acquire(path).tolist()
        assert len(slots) == len(found)
        self.pinned.append((found, slots))

    def release(self, rng: random.Random) -> None:
        if not self.pinned:
            return
        keys, slots = self.pinned.pop(rng.randrange(len(self.pinned)))
        assert [self.ours.slot_of(key) for key in keys] == slots  # pinned: where they were
        self.ours.release(slots)
        for key in reversed(keys):
            self.naive.release(key)
        while len(self.naive.held) > self.naive.capacity and self.naive.evict():
            pass

    def discard(self, rng: random.Random) -> None:
        held = [key for key, one in self.naive.held.items() if one.pins == 0]
        if held:
            key = rng.choice(held)
            assert self.ours.discard([key, 69]) == 1
            del self.naive.held[key]

    def make_room(self, rng: random.Random) -> None:
        path = _path(rng, rng.randrange(1, 7))
        naive, there = self.naive, [key for key in path if key in self.naive.held]
        before = {key: self.ours.slot_of(key) for key in naive.held}
        for key in there:
            naive.held[key].pins += 1
        gone: list[int] = []
        while len(naive.held) + len(path) - len(there) > naive.capacity and len(gone) < len(path):
            known = set(naive.held)
            if not naive.held or not naive.evict():
                break
            gone += known - set(naive.held)
        for key in reversed(there):
            naive.release(key)
        got = self.ours.make_room(path)
        assert got.keys.tolist() == gone
        assert got.slots.tolist() == [before[key] for key in gone]
        if naive.policy != "lru":
            assert got.parents.tolist() == _parents(gone)

    def resize(self, rng: random.Random) -> None:
        size = rng.randrange(1, self.ours.num_slots + 1)
        while len(self.naive.held) > size and self.naive.evict():
            pass
        assert self.ours.resize(size) == len(self.naive.held)
        self.naive.capacity = size

    def compare(self) -> None:
        self.ours.check()
        stats, naive = self.ours.stats, self.naive
        held = {key: self.ours.slot_of(key) for key in range(70)}
        assert {key for key, slot in held.items() if slot is not None} == set(naive.held)
        assert (stats.used, stats.inserts, stats.evictions, stats.refusals) == (
            len(naive.held),
            naive.inserts,
            naive.evictions,
            naive.refusals,
        )
        assert stats.pinned == sum(one.pins > 0 for one in naive.held.values())
        if self.naive.policy == "lru":
            loose = [key for key, one in naive.held.items() if one.pins == 0]
            assert self.ours.keys() == sorted(loose, key=naive.order)


@pytest.mark.parametrize("policy", own_code(MODELLED))
@pytest.mark.parametrize("seed", range(4))
def test_follows_its_definition(policy: str, seed: int) -> None:
    """GIVEN paths of a tree WHEN written, read, pinned, resized THEN both agree on everything."""
    rng = random.Random(seed)
    both = Both(policy, rng.choice([1, 2, 5, 9, 17]))
    steps: list[Callable[[random.Random], None]] = [both.write, both.read, both.release]
    for _ in range(120):
        rare: list[Callable[[random.Random], None]] = [both.resize, both.discard, both.make_room]
        rng.choices([*steps, *rare], [4, 3, 6, 0.3, 0.5, 1])[0](rng)
        both.compare()


@pytest.mark.parametrize("policy", own_code(TIER_POLICIES))
def test_keeps_its_promises(policy: str) -> None:
    """GIVEN any policy WHEN many contents come and go THEN books hold and pinned slots stay."""
    rng, tier = random.Random(7), HostTier(23, policy)
    pinned: list[tuple[list[int], list[int]]] = []
    for number in range(2_000):
        path = _path(rng, rng.randrange(1, 7))
        if rng.random() < 0.5:
            got = tier.reserve(path, _parents(path), [_depth(key) for key in path])
            pinned.append((path[: got.slots.size], got.slots.tolist()))
        else:
            slots = tier.acquire(path).tolist()
            pinned.append((path[: len(slots)], slots))
        while len(pinned) > 3:
            keys, slots = pinned.pop(rng.randrange(len(pinned)))
            assert [tier.slot_of(key) for key in keys] == slots
            tier.release(slots)
        if number % 50 == 0:
            tier.check()
    stats = tier.stats
    assert stats.evictions > 500
    assert stats.used == stats.inserts - stats.evictions <= 23


@pytest.mark.parametrize("policy", own_code(BY_LEAF))
def test_by_leaf_leaves_no_hole(policy: str) -> None:
    """GIVEN the deepest block first, as devices evict WHEN room is short THEN no path is cut."""
    rng, tier = random.Random(3), HostTier(20, policy)
    for _ in range(800):
        for key in reversed(_path(rng, 7)):  # one at a time: children before what they hang from
            before = set(tier.keys())
            tier.release(tier.reserve([key], _parents([key]), [_depth(key)]).slots)
            after = set(tier.keys())
            for gone in before - after:
                assert not {2 * gone + 1, 2 * gone + 2} & (after - {key})


def test_large_and_fast() -> None:
    """GIVEN a hundred thousand keys spread over 62 bits THEN each is found and none other."""
    tier, rng = HostTier(50_000), np.random.default_rng(1)
    keys = np.unique(rng.integers(0, 2**62, 100_000))
    for start in range(0, keys.size, 1_000):
        tier.release(tier.reserve(keys[start : start + 1_000]).slots)
    held = set(tier.keys())
    assert len(held) == 50_000
    assert held == {int(key) for key in keys if int(key) in tier}
    tier.check()


def test_refuses_bad_input() -> None:
    """GIVEN nonsense THEN one clear line, and nothing has changed."""
    with pytest.raises(InputError, match="1 to"):
        HostTier(0)
    with pytest.raises(InputError, match="whole requests"):
        HostTier(4, "return-rate")
    with pytest.raises(InputError, match="unknown eviction policy"):
        HostTier(4, "newest")
    tier = HostTier(4)
    with pytest.raises(InputError, match="twice"):
        tier.reserve([1, 1])
    with pytest.raises(InputError, match="2\\*\\*62"):
        tier.reserve([-1])
    for bad in (["x"], [1.5], [True], [2**70], np.array([3.0])):
        with pytest.raises(InputError, match="whole numbers"):
            tier.lookup(bad)
    for column in ([0.5], [True]):
        with pytest.raises(InputError, match="parents: must be whole numbers"):
            tier.reserve([1], column)
    for size in (1.5, True):
        with pytest.raises(InputError, match="must be a whole number"):
            HostTier(size)  # type: ignore[arg-type]
    assert tier.lookup([]) == 0
    assert HostTier(np.int64(3)).num_slots == 3  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not pinned"):
        tier.release([0])
    with pytest.raises(InputError, match="not pinned"):
        tier.release([-1])
    with pytest.raises(InputError, match="4 slots"):
        tier.resize(5)
    with pytest.raises(InputError, match="one for each key"):
        tier.reserve([1, 2], [1])
    assert len(tier) == 0
    tier.check()


def test_check_sees_damage() -> None:
    """GIVEN a slot that forgot its pins THEN `check` says so."""
    tier = HostTier(4)
    tier.reserve([1, 2])
    tier._store.slots[0].pins = 0
    with pytest.raises(InvariantError, match="pins are miscounted"):
        tier.check()


@pytest.mark.parametrize("policy", own_code(("lru", "lfu")))
def test_a_resize_ends_when_pins_go(policy: str) -> None:
    """GIVEN pins that forbid a resize WHEN they go THEN so does what they kept."""
    tier = HostTier(4, policy)
    slots = tier.reserve([1, 2, 3]).slots
    assert tier.resize(1) == 3
    assert tier.stats.capacity == 1
    tier.check()
    assert tier.reserve([9]).slots.size == 0
    tier.release(slots[2:])
    assert len(tier) == 2
    tier.release(slots[:2])
    assert (len(tier), 1 in tier) == (1, True)
    tier.check()


@pytest.mark.parametrize("policy", own_code(("lru", "lfu")))
def test_forgets_only_what_nobody_pins(policy: str) -> None:
    tier = HostTier(5, policy)
    slots = tier.reserve([1, 2, 3]).slots
    tier.release(slots[1:])
    tier.resize(4)
    with pytest.raises(InputError, match="pinned cannot be forgotten"):
        tier.discard([2, 1])
    with pytest.raises(InputError, match="contents are pinned"):
        tier.clear()
    assert tier.lookup([1, 2, 3]) == 3
    tier.release(slots[:1])
    assert tier.clear() == 3
    assert (len(tier), tier.stats.capacity, tier.stats.inserts) == (0, 4, 3)
    tier.release(tier.reserve([7, 1]).slots)
    assert tier.lookup([7, 1, 2]) == 2
    tier.check()
