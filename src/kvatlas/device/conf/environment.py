"""The variables that settings stand in: which one PyTorch reads, and which one others look at.

Owns: the choice among variables, findings about it. Leaves to others: the text (`lint`).

Source: CUDAAllocatorConfig::instance of c10/cuda/CUDAAllocatorConfig.h, PyTorch 2.13 (which of two
variables counts was tried on its CPU build); vllm/device_allocator/alloc_conf.py and
vllm/config/vllm.py of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvatlas.device.conf.findings import Finding, Level
from kvatlas.device.conf.lint import Lint, lint_text

__all__ = ["VARIABLES", "Environment", "lint_environment"]

VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""In the order in which PyTorch asks for them; the first that is set counts, even an empty one."""

_UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"


@dataclass(frozen=True, slots=True)
class Environment:
    """The settings of an environment.

    Attributes:
        variable: the one that PyTorch reads, None where none is set.
        lint: of its text, None where none is set.
        findings: about the variables.
    """

    variable: str | None
    lint: Lint | None
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether PyTorch takes the settings and does what they say."""
        own = all(each.level == "note" for each in self.findings)
        return own and (self.lint is None or self.lint.clean)


def lint_environment(environment: Mapping[str, str]) -> Environment:
    """Return what PyTorch 2.13 makes of the settings in an environment."""
    held = [name for name in VARIABLES if name in environment]
    variable = held[0] if held else None
    lint = None if variable is None else lint_text(environment[variable])
    findings = [*_several(environment, held), *_names(environment, held, lint)]
    uncached = environment.get(_UNCACHED)
    if uncached and variable is not None:
        findings.append(
            _finding(
                "trap", "no-caching", f"{_UNCACHED} is set",
                "there is no caching allocator, so its settings do nothing, and there is no memory "
                "snapshot", f"unset {_UNCACHED}",
            )
        )  # fmt: skip
    return Environment(variable, lint, tuple(findings))


def _several(environment: Mapping[str, str], held: list[str]) -> list[Finding]:
    """Return what follows from more than one variable."""
    others = [name for name in held[1:] if environment[name] != environment[held[0]]]
    if not others:
        return []
    first, hidden = held[0], " and ".join(others)
    if environment[first]:
        what = f"{first} and {hidden} are set, and differ"
        says = f"PyTorch reads {first} alone"
        if VARIABLES[2] in others:
            says += (
                f"; vLLM 0.32, where it changes one setting for a while, begins from {VARIABLES[2]}"
            )
    else:
        what = f"{first} is set to an empty text, and {hidden} to another"
        says = f"PyTorch reads the empty one: {hidden} does nothing"
    return [_finding("trap", "several-variables", what, says, f"unset {first}")]


def _names(environment: Mapping[str, str], held: list[str], lint: Lint | None) -> list[Finding]:
    """Return what follows from a variable's name."""
    findings = []
    old = [name for name in held if name == VARIABLES[0] and environment[name]]
    if old:
        findings.append(
            _finding(
                "note", "older-name", f"{', '.join(old)} is an older name",
                "PyTorch 2.13 calls it PYTORCH_ALLOC_CONF, and still reads the older one first",
                "keep it while older versions of PyTorch run, which know no other",
            )
        )  # fmt: skip
    if VARIABLES[1] in held[:1]:
        findings.append(
            _finding(
                "note", "hip-variable", f"the settings stand in {VARIABLES[1]}",
                "PyTorch's CUDA build takes the settings from it that all devices share, but not "
                "those of its own, such as backend or per_process_memory_fraction",
                f"use {VARIABLES[2]}",
            )
        )  # fmt: skip
    expandable = lint is not None and lint.values.get("expandable_segments") is True
    if expandable and held == ["PYTORCH_ALLOC_CONF"]:
        findings.append(
            _finding(
                "trap", "connector-check-blind",
                "expandable_segments:True stands in PYTORCH_ALLOC_CONF alone",
                "vLLM 0.32 looks into PYTORCH_CUDA_ALLOC_CONF only when it refuses KV connectors "
                "with expandable segments: it would start one, and transfers may fail",
                "leave expandable segments out where KV blocks are transferred",
            )
        )  # fmt: skip
    return findings


def _finding(level: Level, rule: str, what: str, consequence: str, remedy: str) -> Finding:
    return Finding(
        level=level, rule=rule, column=None, what=what, consequence=consequence, remedy=remedy
    )
