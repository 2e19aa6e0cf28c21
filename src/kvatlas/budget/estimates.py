"""What no config says: activations, CUDA graphs, and memory outside PyTorch. Estimates, each with
its formula.

Owns: the formulas and the words for them. Leaves to others: what is measured instead
(`startup_log`), where the terms go (`waterfall`).

Sources: vllm/v1/worker/gpu/model_runner.py (`profile_run`), config/vllm.py
(`_set_cudagraph_sizes`), v1/worker/gpu_worker.py (0.32.0); the constants were fitted to public
start-up logs, which docs/guide/budget.md lists with what came out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvatlas.budget.devices import Device
from kvatlas.budget.weights import Parallel, Weight

__all__ = [
    "RUNNERS",
    "Shapes",
    "activation_bytes",
    "capture_sizes",
    "default_batch",
    "graph_bytes",
    "outside_bytes",
    "shapes_of",
    "start_bytes",
]

_MIB = 1 << 20
_ELEMENT = 2  # activations have 16 bits
_GRAPH_NODE_BYTES = 260 << 10
"""Driver memory per captured batch size and layer, in piecewise graphs; from public logs."""
_WHOLE_GRAPH_BYTES = _MIB
"""Per captured batch size, of graphs of the whole model: vLLM's own floor."""


RUNNERS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"v2": (8, 1), "v1": (56, 2), "v1-sort": (153, 2)}
)
"""Quarters of a byte per logit while sampling, and copies of the last states, by model runner.

`v2` (vLLM 0.32's own) samples its dummy requests from the 16-bit logits. `v1` makes a float32 copy,
probabilities and random numbers: 14 bytes. `v1-sort` (vLLM 0.9 to 0.11) sorted the logits too:
38.25 bytes, fitted to seven published measurements, which it meets to 0.05 GiB.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The widest tensors of a model, in elements per token, over all ranks.

    Attributes:
        hidden: of the residual stream.
        mixer: what the widest mixing layer projects to, and gives back.
        mlp: the widest dense or shared MLP's two intermediate results.
        expert_rows, expert: rows that experts make of a token, and elements of such a row.
        layers, vocab: how many there are.
    """

    hidden: int
    mixer: int
    mlp: int
    expert_rows: int
    expert: int
    layers: int
    vocab: int


def shapes_of(weights: tuple[Weight, ...], experts_per_token: int, num_layers: int) -> Shapes:
    """Return the shapes of a model from its tensors. Cost: O(tensors)."""
    mixer: dict[int | None, int] = {}
    mlp = expert = hidden = vocab = 0
    for weight in weights:
        if weight.part == "embedding":
            vocab, hidden = weight.outputs, weight.inputs
    for weight in weights:
        if not weight.linear or weight.inputs == 1:
            continue
        if weight.part in ("attention", "recurrent"):
            mixer[weight.layer] = mixer.get(weight.layer, 0) + weight.outputs
        elif weight.part in ("mlp", "shared experts") and weight.inputs == hidden:
            # Gate and upward projection, and what is left of them.
            mlp = max(mlp, weight.outputs + weight.outputs // 2)
        elif weight.part == "experts" and weight.outputs != hidden:
            expert = max(expert, max(weight.outputs, hidden) + weight.outputs // 2)
    return Shapes(
        hidden=hidden,
        mixer=max(mixer.values(), default=0),
        mlp=mlp,
        expert_rows=experts_per_token if expert else 0,
        expert=expert,
        layers=num_layers,
        vocab=vocab,
    )


def default_batch(device: Device) -> tuple[int, int]:
    """Return vLLM's own `max_num_batched_tokens` and `max_num_seqs` for `vllm serve` on `device`.

    Source: vllm/engine/arg_utils.py (`get_batch_defaults`), 0.32.0.
    """
    gib = device.total_bytes / (1 << 30)
    if gib >= 160:
        return 16384, 1024
    if gib >= 70 and "A100" not in device.title:
        return 8192, 1024
    return 2048, 256


def activation_bytes(
    shapes: Shapes,
    batched_tokens: int,
    sequences: int,
    tp: int,
    *,
    runner: str = "v2",
    last_stage: bool = True,
) -> int:
    """Return the peak of vLLM's profile run above the weights, on one rank: the larger of two.

    A batch of `batched_tokens` passes the layers: residual and hidden state, and the widest
    intermediate results of one layer. Then the last states of `sequences` requests become logits
    over the whole vocabulary, and those are sampled from (`RUNNERS`).
    """
    inside = max(
        shapes.mixer // tp,
        shapes.mlp // tp,
        shapes.hidden + shapes.expert_rows * shapes.expert // tp,
    )
    forward = batched_tokens * (2 * shapes.hidden + inside) * _ELEMENT
    if not last_stage:
        return forward
    rows = min(sequences, batched_tokens)
    quarters, copies = RUNNERS[runner]
    # Each rank makes its share of the logits, and gathers all of them before it samples.
    gathered = rows * (shapes.vocab + shapes.vocab // tp) * _ELEMENT if tp > 1 else 0
    sampled = max(gathered, rows * shapes.vocab * quarters // 4)
    states = (batched_tokens + copies * rows) * shapes.hidden * _ELEMENT
    return max(forward, sampled + states)


def capture_sizes(device: Device, batched_tokens: int, sequences: int) -> list[int]:
    """Return the batch sizes, in tokens, for which vLLM captures CUDA graphs by default."""
    most = min(2 * sequences, 1024 if device.blackwell else 512, batched_tokens)
    sizes = {size for size in (1, 2, 4) if size <= most}
    sizes |= set(range(8, min(most + 1, 256), 8)) | set(range(256, most + 1, 16))
    if batched_tokens <= most:
        sizes.add(batched_tokens)
    if sequences <= most:
        sizes.add(sequences)
    return sorted(sizes)


def graph_bytes(
    sizes: list[int], sequences: int, shapes: Shapes, stage_layers: int, tp: int
) -> int:
    """Return what CUDA graphs take: the pool of the largest one, and the driver's part of each.

    By default every size is captured twice: in pieces between attention layers for mixed batches,
    and, up to `sequences`, whole for decoding.
    """
    if not sizes:
        return 0
    pool = activation_bytes(shapes, sizes[-1], 0, tp, last_stage=False)
    whole = sum(size <= sequences for size in sizes)
    pieces = len(sizes) * (stage_layers + 1)
    return pool + pieces * _GRAPH_NODE_BYTES + whole * _WHOLE_GRAPH_BYTES


def outside_bytes(parallel: Parallel) -> int:
    """Return what grows outside PyTorch after start-up: kernels' workspaces, library handles.

    0.13 GiB alone and 0.55 GiB with two ranks: measured by llm-d with vLLM 0.11 on H100s.
    """
    return (136 if parallel.devices == 1 else 560) * _MIB


def start_bytes(parallel: Parallel) -> int:
    """Return what is taken before vLLM begins to count: the CUDA context, and NCCL's buffers."""
    return (512 if parallel.devices == 1 else 2048) * _MIB
