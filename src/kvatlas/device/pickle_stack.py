"""The stack, the memo and the open containers of a pickle while it is read.

Owns: when a container is closed and what takes its place, and the limits on all three. Leaves to
others: which opcode does what (`pickle_machine`, `pickle_opcodes`), which dict becomes a row of
which table (`columns`).

A container is closed once it is handed to the one it lies in: pickles write children first, so it
is whole by then. A row or a stack goes into the tables at once, and only a token stays.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.columns import Columns
from kvatlas.device.pickle_values import FrameToken, OpenDict, OpenList, RowToken
from kvatlas.errors import InputError

__all__ = ["BINGET", "MOST_MARKS", "PickleStack"]

MOST_MARKS = 64
_MOST_HEIGHT = 32
_MOST_CONTAINERS = 1_000_000
"""Lists and dicts that are no rows or stacks (yet)."""
_MOST_VALUES = 1 << 25
"""On the stack. A writer that does not cut its lists leaves a token per event there."""
_MOST_RUNS = 1 << 14
"""Runs of gets whose meaning is kept."""

BINGET = 0x68
_KINDS: Final = re.compile(rb"(?:h.)+|(?:j.{4})+", re.DOTALL)
_FAR = np.dtype([("opcode", "u1"), ("index", "<u4")])


class PickleStack:
    """What a pickle machine works on: 12 bytes per memoised value, 8 per one on the stack."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._frame_of: NDArray[np.int32] = np.full(1024, -1, np.int32)
        self._runs: dict[bytes, NDArray[np.int32]] = {}
        self._containers = 0

    def _check_sizes(self) -> None:
        """Refuse what grows without end; once per window."""
        if len(self._stack) > _MOST_VALUES or len(self._memo) > _MOST_VALUES:
            raise InputError("a pickle that piles up more values than a snapshot can have")
        if self._containers > _MOST_CONTAINERS:
            raise InputError(
                "more lists and dicts than a snapshot has, events and blocks aside",
                value=self._containers,
            )

    def _remember(self, value: Any, index: int) -> None:
        memo = self._memo
        if index != len(memo):
            if index > len(memo) + MOST_MARKS:
                raise InputError("memo numbers with gaps", value=index)
            while len(memo) < index:
                memo.append(None)
        if index < len(memo):
            raise InputError("a memo number is used twice", value=index)
        memo.append(value)
        kind = type(value)
        if kind is OpenDict or kind is OpenList:
            value.memo = index

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if type(target) is not OpenDict or target.closed is not None or len(items) % 2:
            raise InputError("the pickle changes a dict after its use")
        for place in range(0, len(items), 2):
            key, value = items[place], items[place + 1]
            if type(key) is not str:
                raise InputError("a key that is no string", value=str(key))
            kind = type(value)
            if kind is OpenList or kind is OpenDict:
                value = self._closed(value)
                self._nest(target, value)
            target[key] = value

    def _make_row(self, target: OpenDict) -> Any:
        """Turn a dict into a row if it is one; whoever remembers it remembers that."""
        token = self._columns.row_of(target)
        if token is None:
            return target
        self._containers -= 1
        self._replace(target, token)
        if type(token) is FrameToken and target.memo >= 0:
            self._fit_frames()
            self._frame_of[target.memo] = token.number
        if self._stack and self._stack[-1] is target:
            self._stack[-1] = token
        return token

    def _replace(self, container: OpenDict | OpenList, token: Any) -> None:
        container.closed = token
        if container.memo >= 0:
            self._memo[container.memo] = token

    def _closed(self, value: Any) -> Any:
        """Return what an open container has become."""
        if value.__class__ is OpenDict:
            if value.closed is None:
                self._make_row(value)
                if value.closed is None:
                    value.closed = value
            return value.closed
        if value.__class__ is OpenList:
            if value.closed is None:
                if value.frames and (value.values or value.rows_of is not None):
                    raise InputError("a list of stack frames with something else in it")
                if value.values or value.rows_of is not None:
                    value.closed = value
                else:  # a stack, or an empty list: which is also one
                    self._containers -= 1
                    self._replace(value, self._columns.stack_of(value.frames))
            return value.closed
        return value

    def _nest(self, outer: OpenDict | OpenList, inner: Any) -> None:
        if inner is outer:
            raise InputError("a list or dict that holds itself")
        kind = type(inner)
        if kind is OpenDict or kind is OpenList:
            outer.height = max(outer.height, inner.height + 1)
            if outer.height > _MOST_HEIGHT:
                raise InputError("lists and dicts lie too deep in each other", value=outer.height)

    def _extend(self, target: Any, items: list[Any]) -> None:
        if type(target) is not OpenList or target.closed is not None:
            raise InputError("the pickle changes a list after its use")
        rows = 0
        for item in items:
            if item.__class__ is bytes:
                self._extend_gets(target, item)
                continue
            if item is target:
                raise InputError("a list or dict that holds itself")
            value = self._closed(item)
            kind = type(value)
            if kind is RowToken:
                if target.rows_of is None:
                    target.rows_of = value
                    target.first_row = self._columns.unclaimed(value)
                if target.rows_of is not value:
                    raise InputError("a list of events with something else in it")
                rows += 1
            elif kind is FrameToken:
                target.frames.append(np.array([value.number], np.int32))
            else:
                self._nest(target, value)
                target.values.append(value)
        if rows and target.rows_of is not None:
            self._columns.claim(target.rows_of, target.first_row + target.num_rows, rows)
            target.num_rows += rows

    def _extend_gets(self, target: OpenList, run: bytes) -> None:
        """Append what a run of gets means. The same bytes mean the same frames ever after."""
        numbers = self._runs.get(run)
        if numbers is None:
            indices = [
                np.frombuffer(part.group(), np.uint8)[1::2].astype(np.uint32)
                if run[part.start()] == BINGET
                else np.frombuffer(part.group(), _FAR)["index"]
                for part in _KINDS.finditer(run)
            ]
            index = np.concatenate(indices)
            if int(index.max()) >= len(self._memo):
                raise IndexError
            self._fit_frames()
            numbers = self._frame_of[index]
            if int(numbers.min()) < 0:
                self._extend(target, [self._memo[at] for at in index.tolist()])
                return
            if len(self._runs) >= _MOST_RUNS:
                self._runs.clear()
            self._runs[run] = numbers
        target.frames.append(numbers)

    def _fit_frames(self) -> None:
        short = len(self._memo) - self._frame_of.size
        if short > 0:
            more = np.full(max(short, self._frame_of.size), -1, np.int32)
            self._frame_of = np.concatenate([self._frame_of, more])
