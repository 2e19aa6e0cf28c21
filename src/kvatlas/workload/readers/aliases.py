"""The names that the plain formats know their columns by, and the time unit that a name implies."""

from __future__ import annotations

from kvatlas.registry import named

__all__ = ["ARRIVAL_UNITS", "OUTPUT_NAMES", "PROMPT_NAMES", "TIME_UNITS", "units_per_s"]

TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}

_ARRIVAL_STEMS = ("arrival", "arrivaltime", "arrivaltimestamp", "arrivedat", "timestamp", "time")
_SECONDS = ("t", "ts", "starttime", "start", "sendtime", "requesttime", "arrivalseconds", "seconds")

ARRIVAL_UNITS: dict[str, str] = {
    **{stem + suffix: unit for stem in _ARRIVAL_STEMS for suffix, unit in
       (("", "s"), ("s", "s"), ("sec", "s"), ("ms", "ms"), ("us", "us"), ("ns", "ns"))},
    **dict.fromkeys(_SECONDS, "s"),
}  # fmt: skip
"""Normalised name of an arrival column -> its unit, in order of preference."""

PROMPT_NAMES = (
    "input",
    "prompt",
    "inputlength",
    "inputtokens",
    "prompttokens",
    "promptlength",
    "inputlen",
    "promptlen",
    "inputtoks",
    "requesttokens",
    "contexttokens",
    "numprefilltokens",
    "prefilltokens",
    "prefill",
    "isl",
    "in",
)
OUTPUT_NAMES = (
    "output",
    "completion",
    "outputlength",
    "outputtokens",
    "completiontokens",
    "outputlen",
    "outputtoks",
    "responsetokens",
    "generatedtokens",
    "numdecodetokens",
    "decodetokens",
    "decode",
    "maxtokens",
    "osl",
    "out",
)


def units_per_s(time_unit: str | None, arrival_name: str) -> float:
    """Return units per second of a column by its forced `time_unit` or else by its name.

    Raises: InputError for an unknown unit.
    """
    if time_unit is None:
        return TIME_UNITS[ARRIVAL_UNITS[arrival_name]]
    return named(TIME_UNITS, time_unit, "time unit", field="time_unit")
