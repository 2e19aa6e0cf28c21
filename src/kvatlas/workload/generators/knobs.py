"""Knobs of the generators: declared once as dataclass fields, checked and documented from there.

Owns: the declaration (`knob`), the parsing of what a user gave (`make_knobs`) and the listing for
help texts (`KnobInfo`). Leaves to others: what a knob does.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kvatlas.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

K = TypeVar("K", bound="DataclassInstance")
KnobValue = int | float | str


def knob(
    default: KnobValue,
    unit: str,
    what: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare one knob of a generator's dataclass; its type is the type of `default`.

    `unit` is a word such as "tokens", `at_least` and `at_most` are inclusive, `above` is not.
    """
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata={"unit": unit, "what": what, **limits})


@dataclass(frozen=True, slots=True)
class KnobInfo:
    """One knob as help texts and the documentation show it."""

    name: str
    default: KnobValue
    unit: str
    what: str


def knob_infos(knobs: type[DataclassInstance]) -> tuple[KnobInfo, ...]:
    """Return the knobs of a generator in their order of declaration."""
    return tuple(
        KnobInfo(f.name, cast(KnobValue, f.default), f.metadata["unit"], f.metadata["what"])
        for f in dataclasses.fields(knobs)
    )


def make_knobs(generator: str, knobs: type[K], given: Mapping[str, object]) -> K:
    """Return the knobs of `generator` with the values in `given`; text is parsed ("0.5", "200").

    Raises: InputError, one line that lists the knobs, for an unknown name; and naming the knob for
    a value of the wrong type or out of range.
    """
    known = {f.name: f for f in dataclasses.fields(knobs)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(
            f"the workload {generator} has no such knob",
            field=unknown[0],
            remedy=f"its knobs are {', '.join(known)}",
        )
    return knobs(**{name: _checked(known[name], value) for name, value in given.items()})


def changed(knobs: DataclassInstance) -> dict[str, KnobValue]:
    """Return the knobs whose values differ from their defaults."""
    values = {f.name: (getattr(knobs, f.name), f.default) for f in dataclasses.fields(knobs)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _checked(field: dataclasses.Field[Any], given: object) -> KnobValue:
    value = _parsed(field, given)
    limits = field.metadata
    if isinstance(value, str):
        if limits["choices"] and value not in limits["choices"]:
            raise InputError(
                "unknown choice",
                field=field.name,
                value=value,
                remedy=f"use one of {', '.join(limits['choices'])}",
            )
        return value
    for limit, text, holds in (
        ("at_least", "at least", operator.ge),
        ("at_most", "at most", operator.le),
        ("above", "above", operator.gt),
    ):
        bound = limits[limit]
        if bound is not None and not holds(value, bound):
            raise InputError(
                f"must be {text} {bound:g}",
                field=field.name,
                value=given,
                remedy=f"the default is {field.default} {limits['unit']}".rstrip(),
            )
    return value


def _parsed(field: dataclasses.Field[Any], given: object) -> KnobValue:
    wanted = type(field.default)
    try:
        if wanted is str:
            return given if isinstance(given, str) else _fail()
        if isinstance(given, bool):
            _fail()
        if wanted is int:
            return int(given) if isinstance(given, str) else operator.index(cast(Any, given))
        value = float(cast(Any, given))
        return value if math.isfinite(value) else _fail()
    except (TypeError, ValueError) as error:
        kind = {int: "a whole number", float: "a finite number", str: "a word"}[wanted]
        raise InputError(
            f"must be {kind}",
            field=field.name,
            value=given if isinstance(given, str) else repr(given),
            remedy=f"the default is {field.default} {field.metadata['unit']}".rstrip(),
        ) from error


def _fail() -> Any:
    raise TypeError
