"""What Hugging Face's Llama says: greedy tokens, their logits, and how narrow each choice was.

Owns: tiny randomly initialised models, and a memory of their answers. Leaves to others: everything
that is compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kvatlas.llama import LlamaShape, LlamaWeights, PagedLlama

MAX_OUTPUT = 24
PROMPTS = 48
torch.set_num_threads(1)  # tiny matrices: a second thread only waits


@dataclass(frozen=True)
class Answer:
    """Greedy output of a prompt: tokens, logits [tokens, vocabulary], top-1 minus top-2 of each."""

    tokens: tuple[int, ...]
    logits: torch.Tensor
    margins: tuple[float, ...]


class Reference:
    """One randomly initialised `LlamaForCausalLM`, ours with its weights, and prompts for both.

    Its parameters are drawn ten times larger than usual, so that a token depends on all the
    context: with the usual ones a model answers from its last token, and would not notice a wrong
    block. The prompts share beginnings of any length, so that requests hit each other's blocks.
    """

    def __init__(self, heads: int, kv_heads: int, head_size: int, layers: int, seed: int) -> None:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=101,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_size,
            max_position_embeddings=256,
            initializer_range=0.25,
            tie_word_embeddings=seed % 2 == 1,
        )
        self.theirs = LlamaForCausalLM(config).eval()
        self.shape = LlamaShape.from_config(config.to_dict())
        self.ours = PagedLlama(
            self.shape, LlamaWeights.from_state_dict(self.shape, self.theirs.state_dict())
        )
        self.prompts = _prompts(Random(seed), self.shape.vocab_size)
        self._answers: dict[tuple[int, ...], Answer] = {}

    def answer(self, prompt: Sequence[int]) -> Answer:
        """Return MAX_OUTPUT greedy tokens of `generate`, computed once per prompt."""
        known = self._answers.get(tuple(prompt))
        if known is None:
            known = self._answers[tuple(prompt)] = self._generate(list(prompt))
        return known

    def _generate(self, prompt: list[int]) -> Answer:
        with torch.inference_mode():
            made = self.theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=MAX_OUTPUT,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        logits = torch.cat(made.logits)
        best = logits.topk(2).values
        return Answer(
            tokens=tuple(made.sequences[0, len(prompt) :].tolist()),
            logits=logits,
            margins=tuple((best[:, 0] - best[:, 1]).tolist()),
        )


def _prompts(rng: Random, vocabulary: int) -> list[list[int]]:
    documents = [[rng.randrange(vocabulary) for _ in range(60)] for _ in range(3)]
    return [
        rng.choice(documents)[: rng.randrange(61)]
        + [rng.randrange(vocabulary) for _ in range(rng.randrange(1, 20))]
        for _ in range(PROMPTS)
    ]


SHAPES = {
    "grouped": (4, 2, 12, 2, 10),
    "one-key-head": (6, 1, 8, 3, 11),
    "as-many-key-heads": (3, 3, 16, 2, 12),
}


@cache
def reference(name: str) -> Reference:
    """Return the model of one of `SHAPES`."""
    return Reference(*SHAPES[name])
