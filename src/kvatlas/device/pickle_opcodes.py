"""The opcodes of a pickle that are rare, and those that are refused.

Owns: one method per opcode. Leaves to others: the frequent ones and the loop (`pickle_machine`),
the stack and the memo (`pickle_stack`).
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Any

from kvatlas.device.columns import Columns
from kvatlas.device.pickle_source import Source
from kvatlas.device.pickle_stack import PickleStack
from kvatlas.device.pickle_values import OpenDict, OpenList
from kvatlas.errors import InputError

__all__ = ["RareOpcodes", "integer_of"]

_MOST_INTEGER_BYTES = 9
_UINT32, _UINT64, _DOUBLE = Struct("<I"), Struct("<Q"), Struct(">d")
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


class RareOpcodes(PickleStack):
    """Runs one opcode at a time; its operand is the next thing in `source`."""

    def __init__(self, source: Source, columns: Columns) -> None:
        super().__init__(columns)
        self._source = source
        self._strings: dict[bytes, str] = {}
        self._line_strings: dict[bytes, str] = {}
        self._tuples: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._rare = {ord(opcode): getattr(self, f"_{name}") for opcode, name in _RARE.items()}

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
        self._stack.append(integer_of(self._source.take(min(length, 64), "a number"), length))

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


def integer_of(raw: bytes, length: int) -> int:
    """Return a number of `length` bytes, the lowest first. Raises: InputError, IndexError."""
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
