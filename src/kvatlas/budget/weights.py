"""The tensors that a model's weights are made of, and how ranks share them.

Owns: the type, and one rank's share. Leaves to others: which tensors a model has (`parameters`),
bytes per element (`quantization`).

Source: vllm/model_executor/layers/linear.py, vocab_parallel_embedding.py and fused_moe (0.32.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvatlas.errors import InputError

__all__ = ["VOCAB_PADDING", "Parallel", "Part", "Split", "Weight"]

VOCAB_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this, so that ranks get equal shares."""

Part = Literal[
    "embedding",
    "output head",
    "attention",
    "recurrent",
    "mlp",
    "shared experts",
    "experts",
    "router",
    "norms",
]
Split = Literal["whole", "tensor", "kv heads", "experts", "vocab"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How a model is spread over devices.

    Attributes:
        tp, pp, dp: tensor-, pipeline- and data-parallel ranks.
        experts: whether whole experts are spread (`--enable-expert-parallel`), rather than each
            expert's matrices; either way over all tensor- and data-parallel ranks.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    experts: bool = False

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp"):
            if not 1 <= getattr(self, name) <= 4096:
                raise InputError(
                    "a number of ranks from 1 to 4096 is expected",
                    field=name,
                    value=getattr(self, name),
                )

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.tp * self.pp * self.dp

    @property
    def expert_ranks(self) -> int:
        """Ranks that share the experts."""
        return self.tp * self.dp


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Equal tensors of one place in the model.

    Attributes:
        part: what they belong to.
        layer: the layer, None for what lies before the first or behind the last.
        outputs, inputs: rows and columns; a vector has one column.
        copies: how many, such as experts.
        split: how ranks share them. `kv heads` is divided among `heads` ranks at most, and copied
            beyond; `experts` by the matrix or by the expert.
        heads: key-value heads, of `kv heads`.
        linear: a matrix that quantization may store in fewer bits.
        absorbed: MLA's expansion of the latent vector, of which vLLM keeps an unpacked copy.
        inner: which side of an expert's matrix is its own width; halves: how many of that width
            the side holds, two for a gate beside the upward projection.
    """

    part: Part
    layer: int | None
    outputs: int
    inputs: int = 1
    copies: int = 1
    split: Split = "whole"
    heads: int = 0
    linear: bool = True
    absorbed: bool = False
    inner: Literal["", "outputs", "inputs"] = ""
    halves: int = 1

    @property
    def parameters(self) -> int:
        """Elements over all ranks, without padding."""
        return self.outputs * self.inputs * self.copies

    def share(self, parallel: Parallel) -> tuple[int, int]:
        """Return the elements that one rank of its stage holds, and of how many matrices.

        Raises:
            InputError: ranks that vLLM cannot give equal shares.
        """
        each = self.outputs * self.inputs
        match self.split:
            case "whole":
                return self.parameters, self.copies
            case "vocab":
                rows = VOCAB_PADDING * -(-self.outputs // VOCAB_PADDING)
                return self._divided(rows * self.inputs, rows, parallel.tp, "tp"), 1
            case "kv heads":
                return self._divided(each, self.heads, min(parallel.tp, self.heads), "tp"), 1
            case "experts" if parallel.experts:
                most = -(-self.copies // parallel.expert_ranks)
                return each * most, most
            case "experts":
                shared = self._divided(each, each, parallel.expert_ranks, "tp")
                return shared * self.copies, self.copies
        return self._divided(each, each, parallel.tp, "tp") * self.copies, self.copies

    def _divided(self, elements: int, units: int, ranks: int, field: str) -> int:
        if units % ranks:
            raise InputError(
                f"the {self.part} cannot be divided equally over {ranks} ranks",
                field=field,
                value=ranks,
                remedy="use fewer ranks, a power of two",
            )
        return elements // ranks
