"""What one device's memory goes to besides the KV cache, in vLLM's order.

Owns: which term is exact, estimated, given or measured, and the words for it. Leaves to others:
estimates (`estimates`), weights (`ranks`), adding up (`waterfall`).
"""

from __future__ import annotations

from kvatlas.budget.estimates import Shapes, activation_bytes, graph_bytes, outside_bytes
from kvatlas.budget.ranks import Stage
from kvatlas.budget.request import BudgetRequest
from kvatlas.budget.waterfall import Term

__all__ = ["budget_terms"]

_GIVEN_BY = {
    "activation_bytes": "--activation-memory",
    "graph_bytes": "--cuda-graph-memory",
    "outside_bytes": "--non-torch-memory",
}


def budget_terms(
    request: BudgetRequest,
    stage: Stage,
    shapes: Shapes,
    sizes: list[int],
    batch: tuple[int, int],
) -> list[Term]:
    """Return what one device's memory goes to besides the KV cache.

    Args:
        request: what was asked, with the figures that are given or measured.
        stage: the device's stage of the model.
        shapes: the model's widest tensors.
        sizes: batch sizes of CUDA graphs, empty without any.
        batch: tokens and requests of the largest step.
    """
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
    how = "workspaces and library handles: public logs say 0.07 to 1.4 GiB"
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
