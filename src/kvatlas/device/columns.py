"""The tables that a snapshot's pickle is written into while it is read.

Owns: which dict is an event, a block, a segment, a frame or an annotation, the types of its values,
and the interning of frames and stacks. Leaves to others: opcodes (`pickle_machine`), whether the
rows make sense together (`assembly`).
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.pickle_values import (
    BLOCK,
    EVENT,
    NOTE,
    SEGMENT,
    FrameToken,
    OpenDict,
    OpenList,
    RowToken,
    StackToken,
)
from kvatlas.errors import InputError

__all__ = ["ACTIONS", "BLOCK_STATES", "Columns"]

ACTIONS = (
    "alloc",
    "free_requested",
    "free_completed",
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
    "oom",
    "snapshot",
    "user_defined",
)
"""What an event can be, in the order of its codes."""
BLOCK_STATES = ("inactive", "active_allocated", "active_pending_free")
"""What a block can be, in the order of its codes."""

_ACTION_CODES = {name: code for code, name in enumerate(ACTIONS)}
_STATE_CODES = {name: code for code, name in enumerate(BLOCK_STATES)}
# Before torch 2.1 a block that waits for a stream was called so.
_STATE_CODES["active_awaiting_free"] = 2
_SEGMENT_TYPES = {"small": 0, "large": 1}
_EMPTY_STACK = 0
_LARGEST = 2**63 - 1


class _Table:
    """Rows of integers in one buffer, and how many of them are in lists."""

    def __init__(self, *names: str) -> None:
        self._names, self._rows = names, bytearray()
        self._pack = Struct(f"={len(names)}q").pack
        self._row_bytes = 8 * len(names)
        self.claimed = 0

    def __len__(self) -> int:
        return len(self._rows) // self._row_bytes

    def add(self, *values: int) -> None:
        self._rows += self._pack(*values)

    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """Return a copy of each column."""
        rows = np.frombuffer(self._rows, np.int64).reshape(-1, len(self._names))
        return {name: rows[:, at].copy() for at, name in enumerate(self._names)}


class Columns:
    """Takes in closed dicts; a row is 8 bytes a field."""

    def __init__(self) -> None:
        self.events = _Table(
            "action", "addr", "size", "stream", "time_us", "stack", "pool", "context", "metadata"
        )
        self.blocks = _Table("address", "size", "requested_size", "state", "stack")
        self.segments = _Table(
            "device",
            "address",
            "total_size",
            "allocated_size",
            "active_size",
            "requested_size",
            "stream",
            "large",
            "pool",
            "expandable",
            "stack",
            "first_block",
            "num_blocks",
        )
        self.notes = _Table("stage", "name", "device", "time_us")
        self._tables = {
            EVENT: self.events,
            BLOCK: self.blocks,
            SEGMENT: self.segments,
            NOTE: self.notes,
        }
        self.texts: list[str] = []
        self._text_numbers: dict[str, int] = {}
        self.frames = _Table("name", "filename", "line")
        self._frame_numbers: dict[tuple[int, int, int], int] = {}
        self.stack_frames = array("i")
        self.stack_ends = array("q", [0])
        self._stack_numbers: dict[bytes, int] = {b"": _EMPTY_STACK}
        self._stack_tokens = [StackToken(_EMPTY_STACK)]
        self.pools: list[tuple[int, int]] = [(0, 0)]
        self._pool_numbers: dict[Any, int] = {(0, 0): 0}

    # Rows in lists

    def unclaimed(self, token: RowToken) -> int:
        """Return the first row that is in no list yet."""
        return self._tables[token].claimed

    def claim(self, token: RowToken, first: int, count: int) -> None:
        """Note that a list holds `count` rows from `first` on. Raises: InputError."""
        table = self._tables[token]
        if first != table.claimed or first + count > len(table):
            raise InputError(f"one {token.name} is in two lists, or two lists are mixed up")
        table.claimed += count

    # Dicts

    def row_of(self, fields: OpenDict) -> RowToken | FrameToken | None:
        """Make a row of a dict that is one. Raises: InputError for a field of the wrong kind."""
        if "action" in fields:
            self._event(fields)
            return EVENT
        if "filename" in fields:
            return self._frame(fields)
        if "state" in fields:
            self._block(fields)
            return BLOCK
        if "total_size" in fields:
            self._segment(fields)
            return SEGMENT
        if "stage" in fields:
            self._note(fields)
            return NOTE
        return None

    def _event(self, fields: OpenDict) -> None:
        action = fields["action"]
        code = _ACTION_CODES.get(action) if type(action) is str else None
        if code is None:
            raise InputError("an event that no allocator writes", field="action", value=action)
        address = fields.get("addr")
        if address is None:
            address = fields.get("device_free", 0)
        self.events.add(
            code,
            _whole(address, "addr"),
            _whole(fields.get("size"), "size"),
            _stream(fields.get("stream", 0)),
            _whole(fields.get("time_us", 0), "time_us"),
            _stack(fields.get("frames")),
            self._pool(fields.get("pool_id")),
            self._text(fields.get("compile_context"), "compile_context"),
            self._text(fields.get("user_metadata"), "user_metadata"),
        )

    def _block(self, fields: OpenDict) -> None:
        state = fields["state"]
        code = _STATE_CODES.get(state) if type(state) is str else None
        if code is None:
            raise InputError(
                "a block in a state that no allocator knows", field="state", value=state
            )
        size = _whole(fields.get("size"), "size")
        # Before torch 2.1 a block's address and requested size were not written: -1 is "not known".
        address = fields.get("address")
        requested = fields.get("requested_size")
        self.blocks.add(
            -1 if address is None else _whole(address, "address"),
            size,
            -1 if requested is None else _whole(requested, "requested_size"),
            code,
            _stack(fields.get("frames")),
        )

    def _segment(self, fields: OpenDict) -> None:
        kind = fields.get("segment_type", "large")
        if type(kind) is not str or kind not in _SEGMENT_TYPES:
            raise InputError("neither small nor large", field="segment_type", value=kind)
        blocks = fields.get("blocks")
        if type(blocks) is not OpenList or blocks.rows_of is not BLOCK or blocks.values:
            raise InputError("a segment without blocks", field="blocks")
        requested = fields.get("requested_size")
        self.segments.add(
            _whole(fields.get("device", 0), "device"),
            _whole(fields.get("address"), "address"),
            _whole(fields["total_size"], "total_size"),
            _whole(fields.get("allocated_size"), "allocated_size"),
            _whole(fields.get("active_size"), "active_size"),
            -1 if requested is None else _whole(requested, "requested_size"),
            _stream(fields.get("stream", 0)),
            _SEGMENT_TYPES[kind],
            self._pool(fields.get("segment_pool_id")),
            _flag(fields.get("is_expandable", False), "is_expandable"),
            _stack(fields.get("frames")),
            blocks.first_row,
            blocks.num_rows,
        )

    def _note(self, fields: OpenDict) -> None:
        self.notes.add(
            self._text(fields["stage"], "stage"),
            self._text(fields.get("name"), "name"),
            _whole(fields.get("device", 0), "device"),
            _whole(fields.get("time_us", 0), "time_us"),
        )

    # What is interned

    def _frame(self, fields: OpenDict) -> FrameToken:
        frame = (
            self._text(fields.get("name"), "name"),
            self._text(fields["filename"], "filename"),
            _whole(fields.get("line", 0), "line"),
        )
        number = self._frame_numbers.get(frame)
        if number is None:
            number = self._frame_numbers[frame] = len(self.frames)
            self.frames.add(*frame)
        return FrameToken(number)

    def stack_of(self, pieces: list[NDArray[np.int32]]) -> StackToken:
        """Return the stack of these frames, innermost first; O(frames)."""
        if not pieces:
            return self._stack_tokens[_EMPTY_STACK]
        key = b"".join([piece.tobytes() for piece in pieces])
        number = self._stack_numbers.get(key)
        if number is None:
            number = self._stack_numbers[key] = len(self._stack_tokens)
            self._stack_tokens.append(StackToken(number))
            self.stack_frames.frombytes(key)
            self.stack_ends.append(len(self.stack_frames))
        return self._stack_tokens[number]

    def _pool(self, pool: Any) -> int:
        if pool is None:
            return 0
        number = self._pool_numbers.get(pool) if type(pool) is tuple else None
        if number is None:
            if (
                type(pool) is not tuple
                or len(pool) != 2
                or not all(type(part) is int and 0 <= part <= _LARGEST for part in pool)
            ):
                raise InputError("not the id of a memory pool", field="pool_id", value=str(pool))
            number = self._pool_numbers[pool] = len(self.pools)
            self.pools.append(pool)
        return number

    def _text(self, text: Any, field: str) -> int:
        if text is None:
            text = ""
        number = self._text_numbers.get(text) if type(text) is str else None
        if number is None:
            if type(text) is not str:
                raise InputError("not a text", field=field, value=str(type(text).__name__))
            number = self._text_numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


def _whole(value: Any, field: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise InputError(
            "not a whole number from 0 to 2**63 - 1",
            field=field,
            value=value if isinstance(value, int | float | str | None) else type(value).__name__,
        )
    return value


def _stream(value: Any) -> int:
    """Return a stream's handle as a signed number; it is an address, or a small number."""
    if type(value) is not int or not -(2**63) <= value < 2**64:
        raise InputError("not a stream", field="stream", value=str(value))
    return value if value <= _LARGEST else value - 2**64


def _flag(value: Any, field: str) -> int:
    if type(value) is not bool:
        raise InputError("neither true nor false", field=field, value=str(value))
    return int(value)


def _stack(value: Any) -> int:
    if value is None:
        return _EMPTY_STACK
    if type(value) is not StackToken:
        raise InputError("not a list of stack frames", field="frames")
    return value.number
