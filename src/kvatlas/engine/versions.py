"""Engine versions are data: which rule changed when.

Owns: the rule sets. Leaves to others: applying them (a rule is an integer field that a kernel
branches on). To follow the next vLLM: run `make test-vllm` against it, find the first divergence,
name the rule here with the pull request that changed it, and branch on it where it acts.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.errors import InputError


@dataclass(frozen=True)
class RuleSet:
    """The rules on which versions differ.

    Attributes:
        version: the name users give.
        prepend_unhashed: freed blocks without cached content go to the head of the free queue
            (vLLM PR #42656); before, every freed block went to its tail.
    """

    version: str
    prepend_unhashed: bool


_RULES = {
    "0.32": RuleSet("0.32", prepend_unhashed=True),
    "pre-42656": RuleSet("pre-42656", prepend_unhashed=False),
}

VLLM_VERSIONS: tuple[str, ...] = tuple(_RULES)
"""Known versions, the default first."""


def rules(version: str) -> RuleSet:
    """Return the rule set of `version`; patch releases (0.32.1) count as their minor version.

    Raises:
        InputError: an unknown version.
    """
    for name in (version, ".".join(version.split(".")[:2])):
        if name in _RULES:
            return _RULES[name]
    raise InputError(
        "unknown engine version",
        field="engine_version",
        value=version,
        remedy=f"use one of {', '.join(VLLM_VERSIONS)}",
    )
