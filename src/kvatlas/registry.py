"""What users choose by name: one entry each, or one error that lists those there are.

Owns: what registries of strategies say of every entry, and the look-up. Leaves to others: the
entries (`kvatlas.eviction`, `kvatlas.placement` and others), what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TypeVar

from kvatlas.errors import InputError

__all__ = ["Strategy", "named"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to do what compiled code does in several ways.

    Attributes:
        name: what users type; title: what tables say.
        summary: one sentence.
        source: who published it and when, or that it is ours.
        code: what compiled code branches on.
        knobs: named numbers.
    """

    name: str
    title: str
    summary: str
    source: str
    code: int
    knobs: Mapping[str, float] = dataclass_field(default_factory=dict)


def named(table: Mapping[str, T], name: str, what: str, *, field: str | None = None) -> T:
    """Return the entry of that name. Raises: InputError, "unknown `what`", that lists the names."""
    found = table.get(name)
    if found is None:
        raise InputError(
            f"unknown {what}", field=field, value=name, remedy=f"use one of {', '.join(table)}"
        )
    return found
