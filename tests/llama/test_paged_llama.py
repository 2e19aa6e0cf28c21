"""One pass of the paged Llama: logits as Hugging Face's, however the tokens are cut and lie."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed here")
pytest.importorskip("transformers", reason="the comparison needs transformers")

import torch
from hf_reference import SHAPES, Reference, reference
from plain_storage import PlainStorage

from kvatlas.errors import InputError
from kvatlas.llama import LlamaShape, LlamaWeights, PagedChunk, PagedLlama

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

CLOSE = 5e-5  # fp32: logits up to 8, 1e-5 seen


@pytest.fixture(params=sorted(SHAPES))
def model(request: pytest.FixtureRequest) -> Reference:
    """Return each of the models."""
    return reference(request.param)


def their_logits(model: Reference, tokens: list[int]) -> torch.Tensor:
    """Return Hugging Face's logits at every position."""
    with torch.inference_mode():
        return model.theirs(torch.tensor([tokens])).logits[0]


def test_whole_prompts_side_by_side(model: Reference) -> None:
    # GIVEN prompts of many lengths in blocks that lie anywhere WHEN one pass computes all of them
    rng = Random(1)
    storage = PlainStorage(model.shape, 400, 4)
    free = rng.sample(range(1, 400), 399)
    chunks = [
        PagedChunk(prompt, 0, [free.pop() for _ in range(-(-len(prompt) // 4))])
        for prompt in model.prompts[:12]
    ]
    logits = model.ours.forward(chunks, storage)
    # THEN each has the logits it would have alone
    for chunk, ours in zip(chunks, logits, strict=True):
        theirs = their_logits(model, list(chunk.token_ids))[-1]
        assert (ours - theirs).abs().max() < CLOSE


@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_a_prompt_in_chunks(model: Reference, block_size: int) -> None:
    # GIVEN a prompt WHEN it comes in chunks of any size, decodes of one token included
    rng = Random(block_size)
    prompt = max(model.prompts, key=len)
    num_blocks = len(prompt) // block_size + 9
    storage = PlainStorage(model.shape, num_blocks, block_size)
    table = rng.sample(range(1, num_blocks), num_blocks - 1)
    theirs, start = their_logits(model, prompt), 0
    while start < len(prompt):
        chunk = PagedChunk(prompt[start : start + rng.choice([1, 1, 2, 5, 11])], start, table)
        # THEN the logits after each chunk are those of the whole prompt there
        ours = model.ours.forward([chunk], storage)[0]
        assert (ours - theirs[chunk.end - 1]).abs().max() < CLOSE
        start = chunk.end


def test_a_hit_in_the_step_that_fills_it(model: Reference) -> None:
    # GIVEN two requests with one beginning, of which the second starts behind the shared block
    prompt = model.prompts[0][:1] + list(range(20))
    storage = PlainStorage(model.shape, 12, 8)
    chunks = [PagedChunk(prompt[:9], 0, [3, 4]), PagedChunk(prompt[8:], 8, [3, 7, 5])]
    # WHEN both are computed in one pass THEN the second has seen what the first one stored in it
    ours = model.ours.forward(chunks, storage)
    theirs = their_logits(model, prompt)
    assert (ours[0] - theirs[8]).abs().max() < CLOSE
    assert (ours[1] - theirs[-1]).abs().max() < CLOSE


def test_any_block_that_is_wrong_is_noticed(model: Reference) -> None:
    # GIVEN a long prompt in the pool, and another one
    prompt, other = sorted(model.prompts, key=len)[-2:]
    blocks = len(prompt) // 4
    storage = PlainStorage(model.shape, 2 * blocks + 4, 4)
    table, others = list(range(1, blocks + 2)), list(range(blocks + 2, 2 * blocks + 4))
    chunks = [PagedChunk(prompt[:-1], 0, table), PagedChunk(other, 0, others)]
    model.ours.forward(chunks, storage)
    theirs = their_logits(model, prompt)[-1]
    for wrong in range(blocks):
        if prompt[4 * wrong : 4 * wrong + 4] != other[4 * wrong : 4 * wrong + 4]:
            # WHEN any one block of its table is the other prompt's
            mixed = [*table[:wrong], others[wrong], *table[wrong + 1 :]]
            last = PagedChunk(prompt[-1:], len(prompt) - 1, mixed)
            ours = model.ours.forward([last], storage)[0]
            # THEN the logits are far from right: the comparison of tokens can fail
            assert (ours - theirs).abs().max() > 100 * CLOSE, wrong


def test_parameters_under_the_names_of_checkpoints() -> None:
    # GIVEN a shape WHEN parameters are drawn THEN the same seed draws the same, and names are kept
    shape = LlamaShape(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_size=4,
    )
    first, again = LlamaWeights.random(shape, 3), LlamaWeights.random(shape, 3)
    assert torch.equal(first.layers[1].down_proj, again.layers[1].down_proj)
    assert not torch.equal(first.head, LlamaWeights.random(shape, 4).head)
    state = {"model.embed_tokens.weight": first.embedding[:, :-1]}
    with pytest.raises(InputError, match=r"model.embed_tokens.weight.*\[11, 8\].*\[11, 7\]"):
        LlamaWeights.from_state_dict(shape, state)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "at least one chunk"),
        ([PagedChunk([], 0, [1])], "needs a token"),
        ([PagedChunk([1, 2, 3], 6, [1, 2])], "no slot for token 8"),
        ([PagedChunk([101], 0, [1])], "token_ids.*below 101"),
        ([PagedChunk([1], 0, [9])], "block_ids.*below 9"),
        ([PagedChunk([1], 0, [-1])], "block_ids.*below 9"),
    ],
)
def test_chunks_that_cannot_be_computed(chunks: list[PagedChunk], message: str) -> None:
    model = reference("grouped")
    storage = PlainStorage(model.shape, 9, 4)
    with pytest.raises(InputError, match=message):
        model.ours.forward(chunks, storage)


def test_lower_precision_in_the_pool(model: Reference) -> None:
    # GIVEN a pool of bfloat16 under an fp32 model WHEN a prompt is decoded from it
    prompt = max(model.prompts, key=len)
    storage = PlainStorage(model.shape, len(prompt), 4)
    storage.layers = [layer.bfloat16() for layer in storage.layers]
    table = list(range(1, len(prompt)))
    model.ours.forward([PagedChunk(prompt[:-1], 0, table)], storage)
    ours = model.ours.forward([PagedChunk(prompt[-1:], len(prompt) - 1, table)], storage)[0]
    # THEN it works, and the logits carry the rounding of 8 bits: not fp32's, not far off
    error = (ours - their_logits(model, prompt)[-1]).abs().max()
    assert CLOSE < error < 20


def test_a_model_in_float64_needs_no_other_code() -> None:
    # GIVEN the same weights in fp64 THEN they agree with fp32 as far as fp32 goes
    model = reference("grouped")
    state = {name: tensor.double() for name, tensor in model.theirs.state_dict().items()}
    precise = PagedLlama(model.shape, LlamaWeights.from_state_dict(model.shape, state))
    storage = PlainStorage(model.shape, 30, 4)
    prompt = model.prompts[0]
    logits = precise.forward([PagedChunk(prompt, 0, list(range(1, 30)))], storage)
    assert logits.dtype == torch.float64
    assert (logits[0] - their_logits(model, prompt)[-1]).abs().max() < CLOSE
