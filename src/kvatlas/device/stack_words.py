"""Stacks of calls as people read them: one line, and without the calls that say nothing.

Owns: which calls tell something, and how a call is written. Leaves to others: whose stacks they
are.

A stack recorded with C++ calls has some eighty of them: the allocator's own, dispatchers,
interpreters. What tells is the operator (`at::_ops::NAME::call`), the node of a backward pass
(`torch::autograd::generated::NAME::apply`), and Python's calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvatlas.device.snapshot import Frame

__all__ = ["call_name", "is_telling", "stack_name"]

_OPERATOR = re.compile(r"^at::_ops::(\w+)::call\b")
_NODE = re.compile(r"^torch::autograd::(?:generated::)?(\w+)::apply\(")
_LIBRARY = re.compile(r"(^|[\\/])(torch|site-packages|dist-packages|lib[\\/]python[0-9.]+)[\\/]")
_WRAPPERS = frozenset({"_call_impl", "_wrapped_call_impl"})
_PLUMBING = re.compile(
    r"^(torch::unwind|torch::CapturedTraceback|torch::cuda::|c10::cuda::|c10::impl::|at::detail::)"
)


def is_telling(call: Frame) -> bool:
    """Say whether a call tells something; of a stack where none does, all are shown."""
    if call.filename.endswith(".py"):
        return call.name not in _WRAPPERS
    return bool(_OPERATOR.match(call.name) or _NODE.match(call.name))


def call_name(call: Frame) -> str:
    """Return a call in a few words: its name, and where it is if that is known."""
    operator, node = _OPERATOR.match(call.name), _NODE.match(call.name)
    if operator:
        return f"op {operator[1]}"
    if node:
        return str(node[1])
    name = call.name.partition("(")[0] if "::" in call.name else call.name
    if call.filename in ("", "??"):
        return name or "?"
    place = "/".join(re.split(r"[\\/]", call.filename)[-2:])
    return f"{name} ({place}:{call.line})" if call.line else f"{name} ({place})"


def stack_name(calls: Sequence[Frame]) -> str:
    """Return a stack (the innermost call first) in one line: what was asked for, and by whom.

    What: the innermost call that tells something. By whom: the innermost one of the program itself,
    or the node of a backward pass.
    """
    if not calls:
        return "stack not known"
    telling = [call for call in calls if is_telling(call)]
    if not telling:
        inner = next((call for call in calls if not _PLUMBING.match(call.name)), calls[0])
        return call_name(inner)
    what = telling[0]
    own = next(
        (
            call
            for call in telling
            if call.filename.endswith(".py") and not _LIBRARY.search(call.filename)
        ),
        next((call for call in telling if _NODE.match(call.name)), what),
    )
    return call_name(what) if own is what else f"{call_name(what)} ← {call_name(own)}"
