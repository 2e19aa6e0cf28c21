"""A whole budget: from a request to the waterfall, the pool, and whether it fits.

Owns: which figure goes where, the stage that decides, notes. Leaves to others: each figure, the
sentence that says what to do (`verdict`), the flags (`flags`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.budget.estimates import (
    Shapes,
    activation_bytes,
    capture_sizes,
    default_batch,
    graph_bytes,
    outside_bytes,
    shapes_of,
    start_bytes,
)
from kvatlas.budget.fit import GroupFacts, Pool, group_facts, stage_block_bytes
from kvatlas.budget.parameters import num_layers, weights_of
from kvatlas.budget.quantization import WEIGHT_DTYPES, Quantization, quantization_of
from kvatlas.budget.ranks import Stage, stages_of
from kvatlas.budget.request import BudgetRequest
from kvatlas.budget.waterfall import Basis, Term, Waterfall, requested_bytes
from kvatlas.budget.weights import Weight
from kvatlas.engine.layers import LayerGroup, group_layers, padding_bytes_per_block
from kvatlas.errors import InputError
from kvatlas.model import ModelFacts, attention_block_size, bytes_per_token, kv_layers, load_config
from kvatlas.model.config_json import Config
from kvatlas.model.layout import facts_from_config
from kvatlas.units import format_bytes

__all__ = ["Budget", "StageBudget", "budget"]

_MLA_BLOCK_TOKENS = 64
_GIVEN_BY = {
    "activation_bytes": "--activation-memory",
    "graph_bytes": "--cuda-graph-memory",
    "outside_bytes": "--non-torch-memory",
}


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
    quantization = quantization_of(config, request.quantization)
    layers = num_layers(config)
    stages = stages_of(
        weights, layers, request.parallel, quantization, WEIGHT_DTYPES[request.dtype]
    )
    tokens, sequences = _batch(request)
    longest = _max_model_len(request, facts)
    asked_block = request.block_size or (_MLA_BLOCK_TOKENS if "mla" in facts.kinds else 16)
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
            *_notes(request, config, facts, quantization, asked_block, block_size),
            *_start_notes(found[0].waterfall),
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
    terms = tuple(_terms(request, stage, shapes, sizes, batch))
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


def _terms(
    request: BudgetRequest,
    stage: Stage,
    shapes: Shapes,
    sizes: list[int],
    batch: tuple[int, int],
) -> list[Term]:
    tokens, sequences = batch
    tp = request.parallel.tp
    terms = [
        Term(name=f"weights: {part}", size_bytes=size, basis="exact", how="shapes and dtype")
        for part, size in stage.part_bytes.items()
    ]
    if stage.absorbed_bytes:
        how = "16-bit copies of MLA's quantized expansion (process_weights_after_loading)"
        terms.append(
            Term(
                name="weights: absorbed MLA",
                size_bytes=stage.absorbed_bytes,
                basis="exact",
                how=how,
            )
        )
    more = (request.loaded_bytes or 0) - stage.weight_bytes
    if more > 0:
        terms.append(
            Term(
                name="weights: beyond that",
                size_bytes=more,
                basis="measured" if "loaded_bytes" in request.from_log else "given",
                how="what loading took more than shapes say: padding, scales, allocator",
            )
        )
    peak = activation_bytes(
        shapes, tokens, sequences, tp, runner=request.runner, last_stage=stage.last
    )
    how = (
        f"profile run of {tokens:,} tokens, logits of {min(tokens, sequences):,} requests "
        f"({request.runner})"
    )
    terms.append(_or_given(request, "activations", "activation_bytes", peak, how))
    if request.enforce_eager:
        terms.append(Term(name="CUDA graphs", size_bytes=0, basis="exact", how="--enforce-eager"))
    else:
        graphs = graph_bytes(sizes, sequences, shapes, stage.layers[1] - stage.layers[0], tp)
        how = (
            f"{len(sizes)} batch sizes, 0.25 MiB per size and layer in pieces, 1 MiB per whole "
            "graph"
        )
        terms.append(_or_given(request, "CUDA graphs", "graph_bytes", graphs, how))
    how = "workspaces and library handles: public logs say 0.07 to 0.6 GiB"
    outside = outside_bytes(request.parallel)
    terms.append(_or_given(request, "outside PyTorch", "outside_bytes", outside, how))
    return terms


def _or_given(request: BudgetRequest, name: str, field: str, estimate: int, how: str) -> Term:
    given = getattr(request, field)
    if given is None:
        return Term(name=name, size_bytes=estimate, basis="estimated", how=how)
    if field in request.from_log:
        return Term(name=name, size_bytes=given, basis="measured", how="the log")
    return Term(name=name, size_bytes=given, basis="given", how=_GIVEN_BY[field])


def _batch(request: BudgetRequest) -> tuple[int, int]:
    tokens, sequences = default_batch(request.device)
    tokens = request.max_num_batched_tokens or tokens
    sequences = request.max_num_seqs or min(sequences, tokens)
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


def _start_notes(waterfall: Waterfall) -> list[str]:
    free, wanted = waterfall.free_at_start_bytes, waterfall.requested_bytes
    if free >= wanted or waterfall.kv_basis == "given":
        return []
    return [
        f"vLLM refuses to start where less than {format_bytes(wanted)} are free; about "
        f"{format_bytes(free)} may be, beside the CUDA context: use a smaller "
        "--gpu-memory-utilization if it does"
    ]


def _notes(
    request: BudgetRequest,
    config: Config,
    facts: ModelFacts,
    quantization: Quantization,
    asked_block: int,
    block_size: int,
) -> list[str]:
    notes = []
    if not request.device.reported:
        notes.append(
            f"{request.device.title}: {request.device.source}; what a driver offers is some "
            "percent less than a nominal size"
        )
    if block_size != asked_block:
        notes.append(
            f"block size {asked_block} became {block_size}: in a hybrid model an attention page "
            "must hold a recurrent state"
        )
    if "mla" in facts.kinds and request.block_size is None:
        notes.append(
            "vLLM's MLA kernels may require blocks of 32, 64 or 128 tokens, depending on the GPU"
        )
    if config.whole is not config.values or config.whole.get("vision_config"):
        notes.append(
            "a multimodal model: its vision tower and what profiling it takes are not counted; "
            "start vLLM with --language-model-only, or leave room"
        )
    if config.values.get("num_nextn_predict_layers"):
        notes.append("layers for multi-token prediction are not counted: vLLM loads them on demand")
    if quantization.note:
        notes.append(quantization.note)
    if quantization.name == "mxfp4":
        notes.append(
            "vLLM's MXFP4 kernels pad the experts' matrices: the weights are some 6% larger on one "
            "H100, up to a third with eight ranks"
        )
    if request.parallel.dp > 1:
        notes.append(
            f"each of {request.parallel.dp} data-parallel ranks has a KV cache and requests of "
            "its own; the figures are those of one"
        )
    return notes
