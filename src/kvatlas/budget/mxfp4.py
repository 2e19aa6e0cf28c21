"""How vLLM's kernels of MXFP4 experts pad the matrices, and which kernel a device gets.

Owns: the multiples, one rank's bytes of an expert matrix under them. Leaves to others: the format
itself (`quantization`), which matrices there are (`parameters`).

Source: vllm/model_executor/layers/fused_moe/oracle/mxfp4.py
(`mxfp4_round_up_hidden_size_and_intermediate_size`, the order of backends); 0.32.0. How Triton's
layout on Hopper pads was read off two public starts of gpt-oss, 20B and 120B, which it meets to
0.06 GiB; Marlin meets a third, of 120B, to 0.08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvatlas.budget.devices import Device
from kvatlas.budget.weights import Parallel, Weight

__all__ = ["KERNELS", "ExpertKernel", "kernel_of"]

_GROUP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertKernel:
    """One kernel.

    Attributes:
        name: as vLLM's log says it.
        hidden: the hidden size is padded to a multiple of this; inner: an expert's own width on
            one rank; value_inputs: the inputs of a matrix, of its values only.
    """

    name: str
    hidden: int = 1
    inner: int = 1
    value_inputs: int = 1

    def padded(self, hidden: int, inner: int) -> tuple[int, int]:
        """Return the hidden size and an expert's own width on one rank, padded."""
        return _up(hidden, self.hidden), _up(inner, self.inner)

    def weight_bytes(self, weight: Weight, parallel: Parallel) -> int:
        """Return one rank's bytes of an expert matrix: 4-bit values, a scale byte to 32 of them."""
        ranks, copies = parallel.expert_ranks, weight.copies
        if parallel.experts:
            ranks, copies = 1, -(-weight.copies // parallel.expert_ranks)
        if weight.inner == "outputs":
            own = -(-weight.outputs // weight.halves // ranks)
            inputs, own = self.padded(weight.inputs, own)
            outputs = weight.halves * own
        else:
            outputs, inputs = self.padded(weight.outputs, -(-weight.inputs // ranks))
        values = outputs * _up(inputs, self.value_inputs) // 2
        return copies * (values + outputs * -(-inputs // _GROUP))


KERNELS: Mapping[str, ExpertKernel] = {
    "triton": ExpertKernel(name="Triton", inner=64, value_inputs=256),
    "marlin": ExpertKernel(name="Marlin", hidden=256, inner=128),
    "trtllm": ExpertKernel(name="FlashInfer TRT-LLM", hidden=256, inner=128),
    "rocm": ExpertKernel(name="ROCm's", hidden=256, inner=256),
}


def kernel_of(device: Device) -> ExpertKernel | None:
    """Return the kernel that vLLM 0.32 prefers on `device`, None where only a size is known."""
    if device.blackwell:
        return KERNELS["trtllm"]
    if "AMD" in device.title:
        return KERNELS["rocm"]
    if "NVIDIA H" in device.title:
        return KERNELS["triton"]
    return KERNELS["marlin"] if "NVIDIA" in device.title else None


def _up(size: int, multiple: int) -> int:
    return multiple * -(-size // multiple)
