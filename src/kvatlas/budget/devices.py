"""Devices, as far as their memory is concerned.

Owns: how many bytes the driver offers on each, and where that figure comes from. Leaves to others:
what is put there.

vLLM counts with the driver's total (`cudaMemGetInfo`), which is 1% to 8% below the nominal size:
ECC, page tables and firmware take the rest, and it moves by some MiB from driver to driver. A
figure in GiB with two decimals is right to 5 MiB. Where no public output was found, the nominal
size stands here and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

__all__ = ["DEVICES", "Device", "find_device"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One kind of accelerator.

    Attributes:
        name: what the command line calls it.
        title: its full name.
        total_bytes: what the driver says, or the nominal size.
        reported: whether `total_bytes` is from a driver's output.
        nominal_gb: as the vendor sells it, 0 where there is none.
        source: where `total_bytes` is from.
        blackwell: compute capability 10.x, which captures CUDA graphs of up to 1,024 tokens.
    """

    name: str
    title: str
    total_bytes: int
    reported: bool
    nominal_gb: int
    source: str
    blackwell: bool = False


def _gib(gib: float) -> int:
    """Return bytes of a figure that was printed in GiB, to a whole MiB."""
    return round(gib * 1024) * _MIB


def _known(
    name: str, title: str, total: int, nominal: int, source: str, *, blackwell: bool = False
) -> Device:
    return Device(
        name=name,
        title=title,
        total_bytes=total,
        reported=True,
        nominal_gb=nominal,
        source=source,
        blackwell=blackwell,
    )


_VLLM = "github.com/vllm-project/vllm"

DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        device.name: device
        for device in (
            _known("a10g", "NVIDIA A10G", 22723 * _MIB, 24, "torch device properties, 22723 MiB"),
            _known("a10", "NVIDIA A10", _gib(21.99), 24, "github.com/zai-org/CogVLM/issues/236"),
            _known("l4", "NVIDIA L4", _gib(22.03), 24, "PyTorch's OOM messages on an L4"),
            _known("l40s", "NVIDIA L40S", 45589 * _MIB, 48, "torch device properties, 45589 MiB"),
            _known(
                "rtx-4090",
                "NVIDIA GeForce RTX 4090",
                _gib(23.52),
                24,
                "github.com/Soul-AILab/SoulX-FlashTalk/issues/5",
            ),
            _known(
                "rtx-5090",
                "NVIDIA GeForce RTX 5090",
                _gib(31.37),
                32,
                f"{_VLLM}/issues/14452",
            ),
            _known(
                "rtx-pro-6000",
                "NVIDIA RTX PRO 6000 Blackwell",
                _gib(95.01),
                96,
                "torch device properties, 95.01 GiB",
            ),
            _known(
                "v100-32gb",
                "NVIDIA V100 32 GB",
                _gib(31.74),
                32,
                "github.com/haotian-liu/LLaVA/issues/812",
            ),
            _known(
                "a100-40gb",
                "NVIDIA A100 40 GB",
                40326 * _MIB,
                40,
                "torch device properties of an A100-PCIE-40GB, 40326 MiB",
            ),
            _known("a100-80gb", "NVIDIA A100 80 GB", _gib(79.15), 80, f"{_VLLM}/issues/4408"),
            _known(
                "h100-pcie",
                "NVIDIA H100 PCIe",
                81008 * _MIB,
                80,
                "torch device properties, 81008 MiB",
            ),
            _known(
                "h100",
                "NVIDIA H100 SXM 80 GB HBM3",
                81089 * _MIB,
                80,
                "torch device properties, 81089 MiB: github.com/stas00/ml-engineering",
            ),
            _known(
                "h200", "NVIDIA H200", 143156 * _MIB, 141, "torch device properties, 143156 MiB"
            ),
            _known(
                "b200",
                "NVIDIA B200",
                _gib(178.36),
                180,
                f"{_VLLM}/pull/21489",
                blackwell=True,
            ),
            _known(
                "gb200", "NVIDIA GB200", _gib(184.31), 186, f"{_VLLM}/issues/43951", blackwell=True
            ),
            _known(
                "gb300",
                "NVIDIA GB300",
                _gib(276.50),
                288,
                "github.com/NVIDIA-NeMo/Megatron-Bridge/issues/2221",
                blackwell=True,
            ),
            _known("mi300x", "AMD Instinct MI300X", _gib(191.98), 192, "PyTorch's OOM messages"),
            _known("mi325x", "AMD Instinct MI325X", _gib(255.98), 256, f"{_VLLM}/issues/41962"),
            Device(
                name="v100-16gb",
                title="NVIDIA V100 16 GB",
                total_bytes=16 << 30,
                reported=False,
                nominal_gb=16,
                source="nominal",
            ),
            Device(
                name="mi355x",
                title="AMD Instinct MI355X",
                total_bytes=288 * 10**9,
                reported=False,
                nominal_gb=288,
                source="nominal",
            ),
        )
    }
)
"""Devices by name."""


def find_device(name: str) -> Device:
    """Return the device called `name`, in any case, or one of as many bytes: "80GiB".

    Raises:
        InputError: neither a known device nor a size.
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    wanted = _ALIASES.get(wanted, wanted)
    if wanted in DEVICES:
        return DEVICES[wanted]
    try:
        total = parse_bytes(name)
    except InputError:
        raise InputError(
            "no such device",
            field="device",
            value=name,
            remedy=f"give a size such as 80GiB, or one of {', '.join(DEVICES)}",
        ) from None
    if not total:
        raise InputError("a device without memory", field="device", value=name)
    return Device(
        name=name,
        title=f"a device of {name}",
        total_bytes=total,
        reported=False,
        nominal_gb=0,
        source="as given",
    )


_ALIASES = {
    "4090": "rtx-4090",
    "5090": "rtx-5090",
    "a100": "a100-80gb",
    "a100-40": "a100-40gb",
    "a100-80": "a100-80gb",
    "h100-80gb": "h100",
    "h100-sxm": "h100",
    "rtx4090": "rtx-4090",
    "rtx5090": "rtx-5090",
    "v100": "v100-32gb",
    "v100-16": "v100-16gb",
    "v100-32": "v100-32gb",
}
