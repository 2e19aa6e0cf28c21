"""Calls of compiled code one at a time, without looking at the types again.

Owns: the shortcut. Leaves to others: what is called. Numba's dispatcher looks at every member of a
NamedTuple to find out which version to run, 3 us; there is one version only, and calling it takes
0.3 us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["direct"]


def direct(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Call a compiled function once and return its machine code's own entry.

    Every later call must have arguments of the same types. Where the code is not compiled, or has
    several versions, it is the function itself.
    """
    function(*arguments)
    versions = list(getattr(function, "overloads", {}).values())
    found: Callable[..., Any] = (
        getattr(versions[0], "entry_point", function) if len(versions) == 1 else function
    )
    return found
