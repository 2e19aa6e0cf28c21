"""A pickle machine that knows numbers, strings, tuples, lists and dicts, and nothing else.

Owns: the loop over opcodes of protocols 0 to 5, and that no name of a class or function is ever
looked up. Leaves to others: bytes (`pickle_source`), rare opcodes (`pickle_opcodes`), the stack and
what becomes of containers (`pickle_stack`).

`pickle.Unpickler` with its globals forbidden would be as safe, but builds a dict for every event: a
kilobyte for each with its stack, where 70 bytes will do.
"""

from __future__ import annotations

import re
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from kvatlas.device.pickle_opcodes import RareOpcodes, integer_of
from kvatlas.device.pickle_stack import MOST_MARKS
from kvatlas.device.pickle_values import OpenDict, OpenList
from kvatlas.errors import InputError

__all__ = ["PickleMachine"]

_GETS: Final = re.compile(rb"(?:h.|j.{4})+", re.DOTALL)
_INT32, _UINT16, _UINT32 = Struct("<i"), Struct("<H"), Struct("<I")


class PickleMachine(RareOpcodes):
    """Runs one pickle; rows go into `columns`, and `run` returns what the pickle is.

    Time: O(bytes). Memory: the columns, distinct strings and stacks, 12 bytes per memoised value.
    """

    def run(self) -> Any:
        """Return the pickle's value, rows aside. Raises: InputError, in one line."""
        try:
            return self._run()
        except (IndexError, StructError, UnicodeDecodeError) as error:
            raise InputError(
                "not a whole pickle",
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
                if len(marks) > MOST_MARKS:
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
                stack.append(integer_of(window[at : at + length], length))
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
            elif opcode == 0x65:  # APPENDS
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

    def _result(self) -> Any:
        if len(self._stack) != 1 or self._marks:
            raise InputError("not a whole pickle: values are left over at its end")
        return self._closed(self._stack[0])

    def _gets(self, window: bytes, start: int) -> int:
        """Push a list's run of memoised values undecoded, if it is one. Return where it ends.

        Four fifths of a snapshot are such runs: the frames of its stacks.
        """
        found = _GETS.match(window, start)
        if found is None or window[found.end() : found.end() + 1] != b"e":
            return start
        self._stack.append(found.group())
        return found.end()
