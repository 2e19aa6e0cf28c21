"""A pickle machine that knows numbers, strings, tuples, lists and dicts, and nothing else.

Owns: opcodes of protocols 0 to 5, the stack, the memo, limits on both, and that no name of a class
or function is ever looked up. Leaves to others: bytes (`pickle_source`), which dict becomes a row
of which table (`columns`).

`pickle.Unpickler` with its globals forbidden would be as safe, but builds a dict for every event:
some kilobytes for each, where 60 bytes will do. Here a container is closed once it is handed to the
one it lies in; pickles write children first, so it is whole by then.
"""

from __future__ import annotations

import re
from struct import Struct
from struct import error as StructError
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.columns import Columns
from kvatlas.device.pickle_source import Source
from kvatlas.device.pickle_values import FrameToken, OpenDict, OpenList, RowToken
from kvatlas.errors import InputError

__all__ = ["PickleMachine"]

_MOST_MARKS = 64
_MOST_HEIGHT = 32
_MOST_CONTAINERS = 1_000_000
"""Lists and dicts that are no rows or stacks (yet)."""
_MOST_VALUES = 1 << 25
"""On the stack. A writer that does not cut its lists leaves a token per event there."""
_MOST_INTEGER_BYTES = 9
_MOST_RUNS = 1 << 14
"""Runs of gets whose meaning is kept."""

_LONG_BINGET, _BINGET, _APPENDS = b"jhe"
_GETS: Final = re.compile(rb"(?:h.|j.{4})+", re.DOTALL)
_KINDS: Final = re.compile(rb"(?:h.)+|(?:j.{4})+", re.DOTALL)
_FAR = np.dtype([("opcode", "u1"), ("index", "<u4")])
_INT32, _UINT16, _UINT32 = Struct("<i"), Struct("<H"), Struct("<I")
_UINT64, _DOUBLE = Struct("<Q"), Struct(">d")
_REFUSED = {
    b"c": "GLOBAL",
    b"i": "INST",
    b"o": "OBJ",
    b"R": "REDUCE",
    b"b": "BUILD",
    b"P": "PERSID",
    b"Q": "BINPERSID",
    b"\x81": "NEWOBJ",
    b"\x92": "NEWOBJ_EX",
    b"\x82": "EXT1",
    b"\x83": "EXT2",
    b"\x84": "EXT4",
    b"\x93": "STACK_GLOBAL",
    b"\x97": "NEXT_BUFFER",
    b"\x98": "READONLY_BUFFER",
    b"B": "BINBYTES",
    b"C": "SHORT_BINBYTES",
    b"\x8e": "BINBYTES8",
    b"\x96": "BYTEARRAY8",
    b"\x8f": "EMPTY_SET",
    b"\x90": "ADDITEMS",
    b"\x91": "FROZENSET",
}


class PickleMachine:
    """Runs one pickle; rows go into `columns`, and `run` returns what the pickle is.

    Time: O(bytes). Memory: the columns, distinct strings and stacks, 12 bytes per memoised value.
    """

    def __init__(self, source: Source, columns: Columns) -> None:
        self._source, self._columns = source, columns
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._frame_of: NDArray[np.int32] = np.full(1024, -1, np.int32)
        self._strings: dict[bytes, str] = {}
        self._line_strings: dict[bytes, str] = {}
        self._tuples: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._runs: dict[bytes, NDArray[np.int32]] = {}
        self._containers = 0
        self._rare = {ord(opcode): getattr(self, f"_{name}") for opcode, name in _RARE.items()}

    def run(self) -> Any:
        """Return the pickle's value, rows aside. Raises: InputError, in one line."""
        try:
            return self._run()
        except (IndexError, StructError, UnicodeDecodeError) as error:
            raise InputError(
                "not a whole pickle",
                field=f"byte {self._source.offset}",
                remedy="the file is cut short or damaged: record it again",
            ) from error

    def _run(self) -> Any:
        source, stack, marks, memo = self._source, self._stack, self._marks, self._memo
        rare, strings = self._rare, self._strings
        window, at, limit = source.window, source.at, source.limit
        while True:
            if at >= limit:
                source.at = at
                source.refill()
                self._check_sizes()
                window, at, limit = source.window, source.at, source.limit
            opcode = window[at]
            at += 1
            if opcode == 0x68:  # BINGET
                stack.append(memo[window[at]])
                at += 1
            elif opcode == 0x6A:  # LONG_BINGET
                stack.append(memo[_UINT32.unpack_from(window, at)[0]])
                at += 4
            elif opcode == 0x94:  # MEMOIZE
                self._remember(stack[-1], len(memo))
            elif opcode == 0x28:  # MARK
                marks.append(len(stack))
                if len(marks) > _MOST_MARKS:
                    raise InputError("lists and dicts lie too deep in each other", value=len(marks))
                if stack and stack[-1].__class__ is OpenList:
                    at = self._gets(window, at)
            elif opcode == 0x75:  # SETITEMS
                mark = marks.pop()
                items = stack[mark:]
                del stack[mark:]
                self._set_items(stack[-1], items)
                self._make_row(stack[-1])
            elif opcode == 0x4A:  # BININT
                stack.append(_INT32.unpack_from(window, at)[0])
                at += 4
            elif opcode == 0x4B:  # BININT1
                stack.append(window[at])
                at += 1
            elif opcode == 0x8A:  # LONG1
                length = window[at]
                at += 1
                stack.append(_integer(window[at : at + length], length))
                at += length
            elif opcode == 0x8C:  # SHORT_BINUNICODE
                end = at + 1 + window[at]
                raw = window[at + 1 : end]
                text = strings.get(raw)
                if text is None or end > len(window):
                    source.at = at
                    self._short_text()
                    window, at, limit = source.window, source.at, source.limit
                else:
                    stack.append(text)
                    at = end
            elif opcode == 0x7D:  # EMPTY_DICT
                stack.append(OpenDict())
                self._containers += 1
            elif opcode == 0x5D:  # EMPTY_LIST
                stack.append(OpenList())
                self._containers += 1
            elif opcode == _APPENDS:
                mark = marks.pop()
                items = stack[mark:]
                del stack[mark:]
                self._extend(stack[-1], items)
            elif opcode == 0x4D:  # BININT2
                stack.append(_UINT16.unpack_from(window, at)[0])
                at += 2
            elif opcode == 0x2E:  # STOP
                source.at = at
                return self._result()
            else:
                source.at = at
                operation = rare.get(opcode)
                if operation is None:
                    self._refuse(opcode)
                else:
                    operation()
                window, at, limit = source.window, source.at, source.limit

    def _check_sizes(self) -> None:
        """Refuse what grows without end; once per window."""
        if len(self._stack) > _MOST_VALUES or len(self._memo) > _MOST_VALUES:
            raise InputError("a pickle that piles up more values than a snapshot can have")
        if self._containers > _MOST_CONTAINERS:
            raise InputError(
                "more lists and dicts than a snapshot has, events and blocks aside",
                value=self._containers,
            )

    def _result(self) -> Any:
        if len(self._stack) != 1 or self._marks:
            raise InputError("not a whole pickle: values are left over at its end")
        return self._closed(self._stack[0])

    def _refuse(self, opcode: int) -> None:
        name = _REFUSED.get(bytes([opcode]))
        if name is None:
            raise InputError(
                f"byte {self._source.offset - 1} is no pickle opcode",
                value=f"0x{opcode:02x}",
                remedy="give what torch.cuda.memory._dump_snapshot wrote",
            )
        value = None
        if name in ("GLOBAL", "INST"):
            parts = [self._source.line("a name", 1000).decode("ascii", "replace") for _ in "mn"]
            value = ".".join(parts)
        elif name == "STACK_GLOBAL":
            value = ".".join(str(part) for part in self._stack[-2:])
        raise InputError(
            f"the pickle asks for code or raw bytes ({name}), which a memory snapshot never needs",
            value=value,
            remedy="do not open this file with anything that runs pickles",
        )

    # What is on the stack

    def _gets(self, window: bytes, start: int) -> int:
        """Push a list's run of memoised values undecoded, if it is one. Return where it ends.

        Four fifths of a snapshot are such runs: the frames of its stacks.
        """
        found = _GETS.match(window, start)
        if found is None or window[found.end() : found.end() + 1] != b"e":
            return start
        self._stack.append(found.group())
        return found.end()

    def _remember(self, value: Any, index: int) -> None:
        memo = self._memo
        if index != len(memo):
            if index > len(memo) + _MOST_MARKS:
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
                if run[part.start()] == _BINGET
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

    # Opcodes that are rare

    def _to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _byte(self) -> int:
        return self._source.take(1, "an opcode")[0]

    def _proto(self) -> None:
        version = self._byte()
        if version > 5:
            raise InputError("a pickle protocol from the future", value=version)

    def _frame(self) -> None:
        length = _UINT64.unpack(self._source.take(8, "a frame's length"))[0]
        if length > self._source.remaining:
            raise InputError(
                f"a frame claims more bytes than the file has left ({self._source.remaining})",
                value=length,
                remedy="the file is cut short or damaged: record it again",
            )

    def _push_text(self, raw: bytes) -> None:
        text = self._strings.get(raw)
        if text is None:
            text = self._strings[raw] = raw.decode()
        self._stack.append(text)

    def _short_text(self) -> None:
        self._push_text(self._source.take(self._byte(), "a string"))

    def _text(self) -> None:
        length = _UINT32.unpack(self._source.take(4, "a string's length"))[0]
        self._push_text(self._source.take(length, "a string"))

    def _long_text(self) -> None:
        length = _UINT64.unpack(self._source.take(8, "a string's length"))[0]
        self._push_text(self._source.take(length, "a string"))

    def _line_text(self) -> None:
        raw = self._source.line("a string")
        text = self._line_strings.get(raw)
        if text is None:
            text = self._line_strings[raw] = raw.decode("raw-unicode-escape")
        self._stack.append(text)

    def _long4(self) -> None:
        length = _UINT32.unpack(self._source.take(4, "a number's length"))[0]
        self._stack.append(_integer(self._source.take(min(length, 64), "a number"), length))

    def _line_int(self) -> None:
        raw = self._source.line("a number", 32).removesuffix(b"L")
        flag = {b"00": False, b"01": True}.get(raw)
        self._stack.append(_decimal(raw) if flag is None else flag)

    def _line_float(self) -> None:
        raw = self._source.line("a number", 64)
        try:
            self._stack.append(float(raw))
        except ValueError:
            raise InputError("not a number", value=raw.decode("ascii", "replace")) from None

    def _float(self) -> None:
        self._stack.append(_DOUBLE.unpack(self._source.take(8, "a number"))[0])

    def _none(self) -> None:
        self._stack.append(None)

    def _true(self) -> None:
        self._stack.append(True)

    def _false(self) -> None:
        self._stack.append(False)

    def _push_tuple(self, items: list[Any]) -> None:
        if len(items) > 16 or not all(isinstance(item, int | str | float) for item in items):
            raise InputError("a tuple that is no short one of numbers and strings")
        made = tuple(items)
        self._stack.append(self._tuples.setdefault(made, made))

    def _empty_tuple(self) -> None:
        self._push_tuple([])

    def _tuple1(self) -> None:
        self._push_tuple([self._stack.pop()])

    def _tuple2(self) -> None:
        last = self._stack.pop()
        self._push_tuple([self._stack.pop(), last])

    def _tuple3(self) -> None:
        items = [self._stack.pop() for _ in range(3)]
        self._push_tuple(items[::-1])

    def _tuple(self) -> None:
        self._push_tuple(self._to_mark())

    def _list(self) -> None:
        items = self._to_mark()
        made = OpenList()
        self._containers += 1
        self._extend(made, items)
        self._stack.append(made)

    def _dict(self) -> None:
        items = self._to_mark()
        made = OpenDict()
        self._containers += 1
        self._set_items(made, items)
        self._stack.append(made)

    def _append(self) -> None:
        item = self._stack.pop()
        self._extend(self._stack[-1], [item])

    def _set_item(self) -> None:
        value = self._stack.pop()
        key = self._stack.pop()
        self._set_items(self._stack[-1], [key, value])

    def _pop(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _dup(self) -> None:
        self._stack.append(self._stack[-1])

    def _line_get(self) -> None:
        self._stack.append(self._memo[_index(_decimal(self._source.line("a memo number", 32)))])

    def _line_put(self) -> None:
        number = _index(_decimal(self._source.line("a memo number", 32)))
        self._remember(self._stack[-1], number)

    def _put(self) -> None:
        self._remember(self._stack[-1], self._byte())

    def _long_put(self) -> None:
        index = _UINT32.unpack(self._source.take(4, "a memo number"))[0]
        self._remember(self._stack[-1], index)


def _integer(raw: bytes, length: int) -> int:
    if length > _MOST_INTEGER_BYTES:
        raise InputError("an integer longer than any in a snapshot", value=f"{length} bytes")
    if len(raw) < length:
        raise IndexError
    return int.from_bytes(raw, "little", signed=True)


def _decimal(raw: bytes) -> int:
    if not re.fullmatch(rb"-?[0-9]{1,20}", raw):
        raise InputError("not a number", value=raw.decode("ascii", "replace"))
    return int(raw)


def _index(number: int) -> int:
    if number < 0:
        raise InputError("a memo number below 0", value=number)
    return number


_RARE = {
    "\x80": "proto",
    "\x95": "frame",
    "X": "text",
    "\x8d": "long_text",
    "V": "line_text",
    "\x8b": "long4",
    "I": "line_int",
    "L": "line_int",
    "F": "line_float",
    "G": "float",
    "N": "none",
    "\x88": "true",
    "\x89": "false",
    ")": "empty_tuple",
    "\x85": "tuple1",
    "\x86": "tuple2",
    "\x87": "tuple3",
    "t": "tuple",
    "l": "list",
    "d": "dict",
    "a": "append",
    "s": "set_item",
    "0": "pop",
    "1": "to_mark",
    "2": "dup",
    "g": "line_get",
    "p": "line_put",
    "q": "put",
    "r": "long_put",
}
