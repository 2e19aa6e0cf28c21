"""Conditions on a comparison of two snapshots, such as `survival>+2%`: what a CI job fails on.

Owns: reading them and deciding. Leaves to others: the figures (`diff`), exit codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kvatlas.device.diff import Change, DeviceDiff
from kvatlas.device.settings import AllocatorSettings
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

__all__ = ["Condition", "Outcome", "judge", "parse_condition"]

_FIELD = "--fail-if"
_FORM = re.compile(
    r"\s*(?P<name>[a-z_]+)\s*(?:\((?P<settings>[^()]*)\))?\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?P<change>[+-]?)\s*(?P<number>[0-9][0-9.]*)\s*(?P<unit>%|[A-Za-z]*)\s*"
)
_COUNTS = frozenset(("allocs", "driver_calls", "ooms"))
_REMEDY = (
    "write survival>+2%, reserved>+512MiB, stuck>1GiB or survival(expandable_segments:True)>0%"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that must not be.

    Attributes:
        text: as given.
        name: a figure, or `survival`. settings: under which it is meant; None: the recorded ones.
        sign: `>`, `>=`, `<` or `<=`.
        share: the change as a share of what was before; None where the bound is no percentage.
        amount: the bound in bytes or as a count; `relative`: of the change, else of the value.
    """

    text: str
    name: str
    settings: AllocatorSettings | None
    sign: str
    share: float | None
    amount: int
    relative: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """A condition held against a comparison: whether it `is` so, and of which figure."""

    condition: Condition
    figure: Change
    met: bool


def parse_condition(text: str) -> Condition:
    """Return the condition of a text: a figure, a comparison, a bound.

    A bound with a sign or a percent sign is on the change, one without on the new value itself.
    Raises: InputError.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise InputError("no condition", field=_FIELD, value=text, remedy=_REMEDY)
    name, unit, number = match["name"], match["unit"], match["number"]
    if match["settings"] is not None and name != "survival":
        raise InputError(
            "only survival is meant under settings", field=_FIELD, value=text, remedy=_REMEDY
        )
    settings = None
    if match["settings"] is not None:
        try:
            settings = AllocatorSettings.parse(match["settings"])
        except InputError as error:
            error.field = f"{_FIELD}: {error.field}"
            raise
    minus = -1 if match["change"] == "-" else 1
    share, amount = None, 0
    if unit == "%":
        share = minus * _decimal(number, text) / 100
    elif name in _COUNTS:
        if unit or "." in number or len(number) > 18:
            raise InputError(
                "a count is a whole number without a unit", field=_FIELD, value=text, remedy=_REMEDY
            )
        amount = minus * int(number)
    else:
        amount = minus * parse_bytes(number + unit, field=_FIELD)
    return Condition(
        text=text.strip(),
        name=name,
        settings=settings,
        sign=match["sign"],
        share=share,
        amount=amount,
        relative=bool(match["change"]) or share is not None,
    )


def judge(condition: Condition, found: DeviceDiff) -> Outcome:
    """Return whether a comparison meets a condition. Raises: InputError for an unknown figure."""
    figure = _figure(condition, found)
    value: float = figure.change if condition.relative else figure.after
    bound: float = condition.amount
    if condition.share is not None:
        # Where nothing was before, no change is 0% and any other is beyond all bounds.
        bound = condition.share * figure.before
    met: Mapping[str, bool] = {
        ">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound,
    }  # fmt: skip
    return Outcome(condition, figure, met[condition.sign])


def _figure(condition: Condition, found: DeviceDiff) -> Change:
    if condition.name == "survival":
        wanted = "recorded" if condition.settings is None else condition.settings.text()
        index = 0 if condition.settings is None else 1
        for each in found.survivals[index:]:
            if each.name == wanted:
                return each
        raise InputError(
            "not tried under these settings", field=_FIELD, value=condition.text,
            remedy=f"add --settings {wanted!r}",
        )  # fmt: skip
    for each in found.figures:
        if each.name == condition.name:
            return each
    names = ", ".join(["survival", *(each.name for each in found.figures)])
    raise InputError("no such figure", field=_FIELD, value=condition.name, remedy=f"use {names}")


def _decimal(number: str, text: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise InputError("not a number", field=_FIELD, value=text, remedy=_REMEDY) from None
