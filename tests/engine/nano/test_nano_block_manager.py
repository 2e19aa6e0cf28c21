"""`BlockManager`: any sequence of operations against the plain model, checked after each one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from nano_model import ModelBlocks, ModelSequence

from kvatlas.engine.nano import BlockManager, Sequence
from kvatlas.errors import InputError, InvariantError

NUM_BLOCKS, BLOCK_SIZE = 12, 4


class BlockManagerMachine(RuleBasedStateMachine):
    """Sequences of few different tokens come, are computed in pieces, grow and go."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = BlockManager(NUM_BLOCKS, BLOCK_SIZE)
        self.model = ModelBlocks(NUM_BLOCKS, BLOCK_SIZE)
        self.waiting: list[tuple[Sequence, ModelSequence]] = []
        self.holding: list[tuple[Sequence, ModelSequence]] = []

    @precondition(lambda self: len(self.waiting) < 6)
    @rule(
        blocks=st.lists(st.integers(0, 2), max_size=5),
        tail=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    )
    def arrive(self, blocks: list[int], tail: list[int]) -> None:
        tokens = [token for block in blocks for token in (block, 0, 1, block)] + tail
        pair = (Sequence(tokens, block_size=BLOCK_SIZE), ModelSequence(0, list(tokens), 99))
        self.waiting.append(pair)

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(0, 99))
    def allocate(self, pick: int) -> None:
        at = pick % len(self.waiting)
        seq, model = self.waiting[at]
        hits = self.model.hits(model, self.model.wanted(model) - 1)
        new = self.model.wanted(model) - sum(self.model.owners[block] > 0 for block in hits)
        answer = self.manager.can_allocate(seq)
        assert answer == (len(hits) if new <= len(self.model.free) else -1)
        if answer == -1:
            with pytest.raises(InputError, match="cannot serve"):
                self.manager.allocate(seq, len(hits))
            return
        self.manager.allocate(seq, answer)
        self.model.take(model, hits)
        model.computed = len(hits) * BLOCK_SIZE
        assert seq.num_cached_tokens == model.computed
        self.holding.append(self.waiting.pop(at))

    @precondition(lambda self: self.holding)
    @rule(pick=st.integers(0, 99), tokens=st.integers(1, 9))
    def compute(self, pick: int, tokens: int) -> None:
        seq, model = self.holding[pick % len(self.holding)]
        tokens = min(tokens, len(model.tokens) - model.computed)
        if tokens == 0 or len(seq.block_table) * BLOCK_SIZE < model.computed + tokens:
            return
        seq.num_scheduled_tokens = tokens
        self.manager.hash_blocks(seq)
        seq.num_cached_tokens += tokens
        for i in range(model.computed // BLOCK_SIZE, (model.computed + tokens) // BLOCK_SIZE):
            self.model.publish(model, i)
        model.computed += tokens

    @precondition(lambda self: self.holding)
    @rule(pick=st.integers(0, 99), token=st.integers(0, 2))
    def append(self, pick: int, token: int) -> None:
        seq, model = self.holding[pick % len(self.holding)]
        if len(seq.block_table) < self.model.wanted(model):
            return  # its last token has no place yet
        seq.append_token(token)
        model.tokens.append(token)
        needs = len(model.tokens) % BLOCK_SIZE == 1
        assert self.manager.can_append(seq) == (not needs or bool(self.model.free))
        if not self.manager.can_append(seq):
            with pytest.raises(InputError, match="no block is free"):
                self.manager.may_append(seq)
            return
        self.manager.may_append(seq)
        if needs:
            model.table.append(self.model.pop())

    @precondition(lambda self: self.holding)
    @rule(pick=st.integers(0, 99), waits_again=st.booleans())
    def deallocate(self, pick: int, waits_again: bool) -> None:
        pair = self.holding.pop(pick % len(self.holding))
        self.manager.deallocate(pair[0])
        self.model.release(pair[1])
        pair[1].computed = 0
        assert pair[0].num_cached_tokens == 0
        if waits_again:
            self.waiting.append(pair)

    @invariant()
    def equals_the_model(self) -> None:
        self.manager.check()
        assert self.manager.free_block_ids == self.model.free
        assert self.manager.num_free_blocks == len(self.model.free)
        used = {block for block, owners in enumerate(self.model.owners) if owners > 0}
        assert self.manager.used_block_ids == used
        assert [self.manager.ref_count(block) for block in range(NUM_BLOCKS)] == self.model.owners
        for seq, model in self.holding:
            assert seq.block_table == model.table
        known = {
            block
            for prefix, block in self.model.newest.items()
            if self.model.content[block] == prefix
        }
        assert self.manager.num_cached_blocks == len(known)


TestBlockManagerMachine = BlockManagerMachine.TestCase
TestBlockManagerMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def computed(manager: BlockManager, seq: Sequence) -> Sequence:
    """Admit `seq` and compute all of it."""
    manager.allocate(seq, manager.can_allocate(seq))
    seq.num_scheduled_tokens = seq.num_tokens - seq.num_cached_tokens
    manager.hash_blocks(seq)
    seq.num_cached_tokens = seq.num_tokens
    return seq


def test_identities_hit_where_tokens_would() -> None:
    # GIVEN one sequence known by tokens, and the same known by block identities
    by_tokens, by_identity = BlockManager(8, 4), BlockManager(8, 4)
    computed(by_tokens, Sequence([1] * 4 + [2] * 4 + [3], block_size=4))
    computed(by_identity, Sequence.from_identities([1, 2], 9, block_size=4))
    # WHEN a second one shares one block and then differs
    tokens = Sequence([1] * 4 + [9] * 4 + [3], block_size=4)
    identities = Sequence.from_identities([1, 9], 9, block_size=4)
    # THEN both hit one block
    assert by_tokens.can_allocate(tokens) == by_identity.can_allocate(identities) == 1
    computed(by_tokens, tokens)
    computed(by_identity, identities)
    assert tokens.block_table == identities.block_table == [0, 3, 4]


def test_the_same_tokens_behind_another_prefix_do_not_hit() -> None:
    manager = BlockManager(8, 4)
    computed(manager, Sequence([1] * 4 + [2] * 4 + [3], block_size=4))
    assert manager.can_allocate(Sequence([7] * 4 + [2] * 4 + [3], block_size=4)) == 0
    assert manager.can_allocate(Sequence([2] * 4 + [3], block_size=4)) == 0


def test_a_key_collision_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a hash under which everything collides
    manager = BlockManager(8, 4)
    monkeypatch.setattr(
        "kvatlas.engine.nano.block_manager.hashlib.blake2b",
        lambda *_, **__: type("Digest", (), {"digest": lambda self: bytes(8)})(),
    )
    computed(manager, Sequence([1] * 4 + [2], block_size=4))
    # THEN the comparison of tokens tells them apart
    assert manager.can_allocate(Sequence([5] * 4 + [2], block_size=4)) == 0
    assert manager.can_allocate(Sequence([1] * 4 + [2], block_size=4)) == 1


def test_an_identity_named_late() -> None:
    manager = BlockManager(4, 4)
    seq = computed(manager, Sequence.from_identities([], 3, block_size=4))
    seq.append_token(0)
    seq.num_scheduled_tokens = 1
    with pytest.raises(InputError, match="no identity"):
        manager.hash_blocks(seq)
    seq.append_identity(5)
    manager.hash_blocks(seq)
    assert manager.can_allocate(Sequence.from_identities([5], 5, block_size=4)) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: BlockManager(0), "num_blocks: must be at least 1"),
        (lambda: BlockManager(4, 1), "block_size: must be at least 2"),
        (lambda: Sequence([]), "at least one token"),
        (lambda: Sequence.from_identities([1], 512), "2 identities"),
        (lambda: Sequence([1]).append_identity(3), "known by its tokens"),
    ],
)
def test_wrong_input_says_so(wrong: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        wrong()


def test_allocating_twice_is_refused() -> None:
    manager = BlockManager(4, 4)
    seq = computed(manager, Sequence([1, 2], block_size=4))
    with pytest.raises(InputError, match="holds blocks already"):
        manager.allocate(seq, 0)


@pytest.mark.parametrize("field", ["ref_count", "key", "next_free", "prev_free"])
def test_check_finds_damage(field: str) -> None:
    # GIVEN a pool in use
    manager = BlockManager(6, 4)
    computed(manager, Sequence(list(range(9)), block_size=4))
    manager.check()
    # WHEN one of its fields is changed behind its back
    manager._pool.blocks[field][4] += 1
    # THEN check() says so
    with pytest.raises(InvariantError):
        manager.check()
