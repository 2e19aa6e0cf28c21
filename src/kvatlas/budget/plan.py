"""A whole budget: from a request to the waterfall, the pool, and whether it fits.

Owns: which figure goes where, the stage that decides. Leaves to others: each figure, the sentence
that says what to do (`verdict`), notes (`notes`), the flags (`flags`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.budget.estimates import (
    Shapes,
    capture_sizes,
    default_batch,
    shapes_of,
    start_bytes,
)
from kvatlas.budget.fit import GroupFacts, Pool, group_facts, stage_block_bytes
from kvatlas.budget.notes import model_notes, start_notes
from kvatlas.budget.parameters import num_layers, weights_of
from kvatlas.budget.quantization import (
    WEIGHT_DTYPES,
    Quantization,
    on_device,
    quantization_of,
)
from kvatlas.budget.ranks import Stage, stages_of
from kvatlas.budget.request import BudgetRequest
from kvatlas.budget.terms import budget_terms
from kvatlas.budget.waterfall import Basis, Waterfall, requested_bytes
from kvatlas.budget.weights import Weight
from kvatlas.engine.layers import LayerGroup, group_layers, padding_bytes_per_block
from kvatlas.errors import InputError
from kvatlas.model import ModelFacts, attention_block_size, bytes_per_token, kv_layers, load_config
from kvatlas.model.layout import facts_from_config

__all__ = ["Budget", "StageBudget", "budget"]

BLOCK_TOKENS = 16
MLA_BLOCK_TOKENS = 64
"""Tokens per block where nobody asks: vLLM's own, and what its MLA kernels want."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBudget:
    """One pipeline stage's device.

    Attributes:
        stage: what it holds of the model.
        waterfall: its memory.
        block_bytes: of one block there.
        num_blocks: that would fit there alone; 0 where there is no memory for any.
    """

    stage: Stage
    waterfall: Waterfall
    block_bytes: int
    num_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What becomes of the memory; bytes are one rank's.

    Attributes:
        name: the model's; source: where its config is from.
        request: what was asked.
        facts: the model's KV layout.
        parameters: of the language model, over all ranks.
        part_parameters: by part.
        quantization: how matrices are stored.
        stages: every pipeline stage; `tightest` is the one that decides the number of blocks.
        groups: the KV cache groups.
        pool: what all ranks can have.
        block_size: tokens per block of the attention layers.
        token_bytes: what one more token takes on one rank, all stages together.
        max_model_len, max_num_seqs, max_num_batched_tokens: as vLLM would run.
        capture_sizes: batch sizes of CUDA graphs, empty without any.
        notes: plain sentences that a user must read.
    """

    name: str
    source: str
    request: BudgetRequest
    facts: ModelFacts
    parameters: int
    part_parameters: dict[str, int]
    quantization: Quantization
    stages: tuple[StageBudget, ...]
    groups: tuple[GroupFacts, ...]
    pool: Pool
    block_size: int
    token_bytes: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    capture_sizes: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def tightest(self) -> StageBudget:
        """The stage that holds the fewest blocks; the first of equals."""
        return min(self.stages, key=lambda each: (each.num_blocks, each.waterfall.kv_bytes))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to judge: those asked for, or the longest request."""
        return self.request.lengths or (self.max_model_len,)

    @property
    def blocks_after_buffer(self) -> int:
        """Blocks left when the recommended fragmentation buffer stays free."""
        buffer = self.request.buffers.recommended_bytes
        return min(
            max(0, each.waterfall.kv_bytes - buffer) // each.block_bytes for each in self.stages
        )


def budget(request: BudgetRequest) -> Budget:
    """Return the budget of `request`. Cost: O(tensors), some milliseconds.

    Raises:
        InputError: not a model, ranks that cannot share it, or settings that vLLM would refuse.
    """
    name, config = load_config(request.model)
    facts = facts_from_config(config, name, config.file or "")
    weights = weights_of(config, facts)
    quantization = on_device(quantization_of(config, request.quantization), request.device)
    layers = num_layers(config)
    stages = stages_of(
        weights, layers, request.parallel, quantization, WEIGHT_DTYPES[request.dtype]
    )
    tokens, sequences = _batch(request)
    longest = _max_model_len(request, facts)
    asked_block = request.block_size or (MLA_BLOCK_TOKENS if "mla" in facts.kinds else BLOCK_TOKENS)
    tp = request.parallel.tp
    groups = group_layers(
        kv_layers(
            facts,
            asked_block,
            request.kv_dtype,
            tp=tp,
            enable_prefix_caching=request.enable_prefix_caching,
            max_model_len=longest,
        )
    )
    shapes = shapes_of(weights, config.optional_count("num_experts_per_tok", 0) or 0, layers)
    sizes = [] if request.enforce_eager else capture_sizes(request.device, tokens, sequences)
    found = tuple(
        _stage(request, stage, groups, shapes, sizes, (tokens, sequences)) for stage in stages
    )
    block_size = attention_block_size(facts, asked_block, request.kv_dtype, tp=tp)
    return Budget(
        name=name,
        source=config.file or "",
        request=request,
        facts=facts,
        parameters=sum(weight.parameters for weight in weights),
        part_parameters=_by_part(weights),
        quantization=quantization,
        stages=found,
        groups=group_facts(groups, padding_bytes_per_block(groups), _kinds(facts, groups)),
        pool=Pool(
            num_blocks=min(each.num_blocks for each in found),
            groups=tuple(group.spec for group in groups),
            # Async scheduling, vLLM's default, has one batch more in flight than there are stages.
            in_flight_tokens=(request.parallel.pp + 1) * tokens,
        ),
        block_size=block_size,
        token_bytes=bytes_per_token(facts, request.kv_dtype, tp=tp),
        max_model_len=longest,
        max_num_seqs=sequences,
        max_num_batched_tokens=tokens,
        capture_sizes=tuple(sizes),
        notes=(
            *model_notes(request, config, facts, quantization, asked_block, block_size),
            *start_notes(found[0].waterfall),
        ),
    )


def _stage(
    request: BudgetRequest,
    stage: Stage,
    groups: tuple[LayerGroup, ...],
    shapes: Shapes,
    sizes: list[int],
    batch: tuple[int, int],
) -> StageBudget:
    first, end = stage.layers
    block = stage_block_bytes(groups, first, end)
    terms = tuple(budget_terms(request, stage, shapes, sizes, batch))
    total = request.device.total_bytes
    requested = requested_bytes(total, request.gpu_memory_utilization)
    basis: Basis = "estimated"
    kv = requested - sum(term.size_bytes for term in terms)
    if request.kv_cache_memory_bytes is not None:
        kv, basis = request.kv_cache_memory_bytes, "given"
    waterfall = Waterfall(
        total_bytes=total,
        requested_bytes=requested,
        terms=terms,
        kv_bytes=kv,
        kv_basis=basis,
        free_at_start_bytes=total - start_bytes(request.parallel),
    )
    waterfall.check()
    # A stage without attention layers does not limit the pool, but needs its null block.
    num_blocks = max(0, kv) // block if block else 2**31 - 1
    return StageBudget(
        stage=stage, waterfall=waterfall, block_bytes=max(1, block), num_blocks=num_blocks
    )


def _batch(request: BudgetRequest) -> tuple[int, int]:
    tokens, sequences = default_batch(request.device)
    tokens = request.max_num_batched_tokens or tokens
    # A server for so many requests is started for so many, if a step has as many tokens.
    sequences = request.max_num_seqs or min(request.concurrency or sequences, tokens)
    if sequences > tokens:
        raise InputError(
            "a step has fewer tokens than requests",
            field="max_num_batched_tokens",
            value=tokens,
            remedy=f"--max-num-seqs is {sequences}: give at least as many tokens",
        )
    return tokens, sequences


def _max_model_len(request: BudgetRequest, facts: ModelFacts) -> int:
    own = facts.max_model_len
    longest = request.max_model_len or own or max(request.lengths, default=0)
    if not longest:
        raise InputError(
            "the config does not say how long a request may be",
            field="max_model_len",
            remedy="give --max-model-len",
        )
    if own is not None and longest > own:
        raise InputError(
            "longer than the model was made for",
            field="max_model_len",
            value=longest,
            remedy=f"its config says {own:,}",
        )
    for length in request.lengths:
        if length > longest:
            raise InputError(
                "longer than a request may be",
                field="length",
                value=length,
                remedy=f"--max-model-len is {longest:,}",
            )
    return longest


def _by_part(weights: tuple[Weight, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for weight in weights:
        found[weight.part] = found.get(weight.part, 0) + weight.parameters
    return found


def _kinds(facts: ModelFacts, groups: tuple[LayerGroup, ...]) -> list[str]:
    kind_of = {f"layers.{layer.index}": layer.kind for layer in facts.layers}
    return [
        ", ".join(dict.fromkeys(kind_of[name] for name in group.layer_names)) for group in groups
    ]
