"""What a reader of a budget must know beside its figures.

Owns: the sentences. Leaves to others: every figure.
"""

from __future__ import annotations

from kvatlas.budget.beside import draft_weights, vision_parameters
from kvatlas.budget.quantization import WEIGHT_DTYPES, Quantization
from kvatlas.budget.request import BudgetRequest
from kvatlas.budget.waterfall import Waterfall
from kvatlas.budget.weights import Weight
from kvatlas.model import ModelFacts
from kvatlas.model.config_json import Config
from kvatlas.units import format_bytes

__all__ = ["model_notes", "start_notes"]


def start_notes(waterfall: Waterfall) -> list[str]:
    """Return how far off estimates may be, and where vLLM may find too little memory to start."""
    if waterfall.kv_basis == "given":
        return []
    notes = []
    if any(term.basis == "estimated" for term in waterfall.terms):
        notes.append(
            "in eight public starts that nothing was fitted to, the KV cache was 0.5 GiB larger to "
            "1.5 GiB smaller than estimated; --log LOG --use-log takes what a start measured"
        )
    free, wanted = waterfall.free_at_start_bytes, waterfall.requested_bytes
    if free >= wanted:
        return notes
    return [
        *notes,
        f"vLLM refuses to start where less than {format_bytes(wanted)} are free; about "
        f"{format_bytes(free)} may be, beside the CUDA context: use a smaller "
        "--gpu-memory-utilization if it does",
    ]


def model_notes(
    request: BudgetRequest,
    config: Config,
    facts: ModelFacts,
    quantization: Quantization,
    asked_block: int,
    block_size: int,
) -> list[str]:
    """Return what the figures leave out, and what they changed on their way."""
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
        notes.append(_vision_note(config))
    draft = draft_weights(config, facts)
    if draft:
        notes.append(_draft_note(request, draft, quantization))
    if quantization.note:
        notes.append(quantization.note)
    if quantization.name == "mxfp4":
        notes.append(_mxfp4_note(quantization))
    if request.parallel.dp > 1:
        notes.append(
            f"each of {request.parallel.dp} data-parallel ranks has a KV cache and requests of "
            "its own; the figures are those of one"
        )
    return notes


def _mxfp4_note(quantization: Quantization) -> str:
    """Return what is known of the padding of 4-bit experts."""
    if quantization.kernel is None:
        return (
            "vLLM's MXFP4 kernels pad the experts' matrices, which is not counted for a device of "
            "which only the size is known: gpt-oss is 6% larger with Triton on Hopper, 9% with "
            "Marlin"
        )
    return (
        f"experts are padded as vLLM's MXFP4 kernel on this device does, {quantization.kernel.name}"
        "; its start-up log names the kernel, and others pad differently"
    )


def _vision_note(config: Config) -> str:
    count = vision_parameters(config)
    size = "" if count is None else f" ({count:,} parameters, {format_bytes(2 * count)} in 16 bits)"
    return (
        f"a multimodal model: its vision tower{size} and what profiling it takes are not counted; "
        "start vLLM with --language-model-only, or leave room"
    )


def _draft_note(
    request: BudgetRequest, draft: tuple[Weight, ...], quantization: Quantization
) -> str:
    count = sum(weight.parameters for weight in draft)
    dtype = WEIGHT_DTYPES[request.dtype]
    size = sum(quantization.weight_bytes(each, request.parallel, dtype) for each in draft)
    return (
        f"layers for multi-token prediction ({count:,} parameters, {format_bytes(size)} on each "
        "rank of the last stage) are not counted: vLLM loads them where --speculative-config asks "
        "for them"
    )
