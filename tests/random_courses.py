"""How many examples random tests try: a fifth of what they say, all where `make` asks for all.

Owns: cutting them down, unless `KVATLAS_COURSES=full` (`make test-variants` and others). Leaves to
others: how many a test says.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

FULL = os.environ.get("KVATLAS_COURSES") == "full"
SHARE, LEAST = 5, 8
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps those of a function, and its own pytest plugin changes them."""


def cut(items: Iterable[pytest.Item]) -> None:
    """Let each random test of `items` try a fifth of its examples, no fewer than `LEAST`."""
    done: set[int] = set()
    for item in items:
        function = getattr(item, "obj", None)
        if function is None or not is_hypothesis_test(function):
            continue
        machine = getattr(item, "cls", None)
        holder, name = (machine, "settings") if machine else (function, _SETTINGS)
        if id(holder) not in done:
            done.add(id(holder))
            setattr(holder, name, _fewer(getattr(holder, name)))


def _fewer(said: Any) -> settings:
    fewer = max(min(LEAST, said.max_examples), said.max_examples // SHARE)
    return settings(said, max_examples=fewer)
