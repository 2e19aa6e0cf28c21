"""One rank's weights, by part, on each pipeline stage.

Owns: which layers a stage has, bytes by part, copies that vLLM makes of weights. Leaves to others:
what else is on the device (`waterfall`).

Source: vllm/distributed/utils.py (`get_pp_indices`);
vllm/model_executor/layers/attention/mla_attention.py (`process_weights_after_loading`); 0.32.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvatlas.budget.quantization import Quantization
from kvatlas.budget.weights import Parallel, Part, Weight
from kvatlas.errors import InputError

__all__ = ["Stage", "stages_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a rank of one pipeline stage holds.

    Attributes:
        rank: the stage; layers: its layers, first and one past the last.
        part_bytes: weights by part, in a fixed order, parts without any left out.
        absorbed_bytes: 16-bit copies that MLA makes of quantized projections.
        last: whether it makes the logits.
    """

    rank: int
    layers: tuple[int, int]
    part_bytes: dict[Part, int]
    absorbed_bytes: int
    last: bool

    @property
    def weight_bytes(self) -> int:
        """All of it."""
        return sum(self.part_bytes.values()) + self.absorbed_bytes


def stages_of(
    weights: Iterable[Weight],
    num_layers: int,
    parallel: Parallel,
    quantization: Quantization,
    dtype_bytes: int,
) -> tuple[Stage, ...]:
    """Return the pipeline stages of a model. Cost: O(tensors).

    Raises:
        InputError: more stages than layers, or ranks that cannot have equal shares.
    """
    if parallel.pp > num_layers:
        raise InputError(
            "more pipeline stages than layers",
            field="pp",
            value=parallel.pp,
            remedy=f"the model has {num_layers} layers",
        )
    bounds = _bounds(num_layers, parallel.pp)
    parts: list[dict[Part, int]] = [{} for _ in bounds]
    absorbed = [0] * len(bounds)
    stage_of_layer = [at for at, (first, end) in enumerate(bounds) for _ in range(end - first)]
    tied = True
    embedding = 0
    for weight in weights:
        size = quantization.weight_bytes(weight, parallel, dtype_bytes)
        if weight.layer is not None:
            at = stage_of_layer[weight.layer]
        else:
            at = 0 if weight.part == "embedding" else len(bounds) - 1
        if weight.absorbed and quantization.stores(weight):
            # Unpacked once to 16 bits beside itself; otherwise only seen in another shape.
            absorbed[at] += 2 * weight.share(parallel)[0]
        embedding = size if weight.part == "embedding" else embedding
        tied = tied and weight.part != "output head"
        parts[at][weight.part] = parts[at].get(weight.part, 0) + size
    if tied and len(bounds) > 1:
        parts[-1]["output head"] = embedding  # the last stage needs a copy of its own
    return tuple(
        Stage(
            rank=at,
            layers=(first, end),
            part_bytes=parts[at],
            absorbed_bytes=absorbed[at],
            last=at == len(bounds) - 1,
        )
        for at, (first, end) in enumerate(bounds)
    )


def _bounds(num_layers: int, stages: int) -> list[tuple[int, int]]:
    each, left = divmod(num_layers, stages)
    sizes = [each] * stages
    for back in range(2, left + 2):
        sizes[-back] += 1
    starts = [sum(sizes[:at]) for at in range(stages)]
    return [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
