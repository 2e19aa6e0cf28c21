"""Bytes between addresses, as compiled code: copy, copy past the caches, and zero.

Owns: the operations, and their plain-Python twins for `NUMBA_DISABLE_JIT=1`. Leaves to others:
which addresses (`_copy_kernel`). Addresses are integers, so one compiled version serves every
dtype, backend and layout; whoever calls has checked every bound.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from kvatlas.jit import COMPILED

LINE_BYTES = 64
"""What a cache holds together; a store past the caches writes whole lines."""
_LINES_AT_ONCE = 4


def _copy_intrinsic(typing: Any, target: Any, source: Any, num_bytes: Any) -> Any:
    from numba.core import cgutils, types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, frm, size = args
        pointer = cgutils.voidptr_t
        cgutils.raw_memcpy(
            builder, builder.inttoptr(to, pointer), builder.inttoptr(frm, pointer), size, 1
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


def _stream_intrinsic(typing: Any, target: Any, source: Any, num_bytes: Any) -> Any:
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba.core import cgutils, types

    whole = ir.IntType(64)
    line = ir.VectorType(whole, LINE_BYTES // 8)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, frm, size = args
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])

        def copy_lines(offset: Any, count: int) -> None:
            loaded = []
            for index in range(count):
                place = builder.add(offset, ir.Constant(whole, index * LINE_BYTES))
                address = builder.inttoptr(builder.add(frm, place), line.as_pointer())
                loaded.append((place, builder.load(address, align=1)))
            for place, value in loaded:
                address = builder.inttoptr(builder.add(to, place), line.as_pointer())
                builder.store(value, address, align=LINE_BYTES).set_metadata("nontemporal", hint)

        step, one = (ir.Constant(whole, count * LINE_BYTES) for count in (_LINES_AT_ONCE, 1))
        body = builder.sub(size, builder.srem(size, step))
        zero = ir.Constant(whole, 0)
        with cgutils.for_range_slice(builder, zero, body, step, whole) as (offset, _):
            copy_lines(offset, _LINES_AT_ONCE)
        with cgutils.for_range_slice(builder, body, size, one, whole) as (offset, _):
            copy_lines(offset, 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


def _zero_intrinsic(typing: Any, target: Any, num_bytes: Any) -> Any:
    from numba.core import cgutils, types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.memset(builder, builder.inttoptr(args[0], cgutils.voidptr_t), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


def _load_intrinsic(bits: int) -> Any:
    def load(typing: Any, address: Any) -> Any:
        from llvmlite import ir
        from numba.core import types

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            return builder.load(pointer, align=1)

        return (types.uint64 if bits == 64 else types.uint8)(types.int64), code

    return load


def _fence_intrinsic(typing: Any) -> Any:
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


def _plain_copy(target: int, source: int, num_bytes: int) -> None:
    ctypes.memmove(int(target), int(source), int(num_bytes))


def _plain_zero(target: int, num_bytes: int) -> None:
    ctypes.memset(int(target), 0, int(num_bytes))


def _plain_load_word(address: int) -> Any:
    return np.uint64(ctypes.c_uint64.from_address(int(address)).value)


def _plain_load_byte(address: int) -> Any:
    return np.uint8(ctypes.c_uint8.from_address(int(address)).value)


def _plain_fence() -> None:
    """Python's own locks order its threads."""


def _operation(intrinsic: Any, plain: Any) -> Any:
    if not COMPILED:
        return plain
    from numba import extending

    return extending.intrinsic(intrinsic)


copy_bytes = _operation(_copy_intrinsic, _plain_copy)
"""`copy_bytes(target, source, num_bytes)`: two spans that do not overlap, as memcpy does it."""

stream_bytes = _operation(_stream_intrinsic, _plain_copy)
"""`stream_bytes(target, source, num_bytes)`: whole lines to a 64-byte-aligned target.

A plain store reads the line that it overwrites first; a streaming one does not, which is a third of
the traffic. memcpy streams only what is some hundred MB in one call, and no block is that large.
"""

zero_bytes = _operation(_zero_intrinsic, _plain_zero)
"""`zero_bytes(target, num_bytes)`."""

load_word = _operation(_load_intrinsic(64), _plain_load_word)
"""`load_word(address)`: the 8 bytes there, however aligned, as np.uint64."""

load_byte = _operation(_load_intrinsic(8), _plain_load_byte)
"""`load_byte(address)`: the byte there, as np.uint8."""

fence = _operation(_fence_intrinsic, _plain_fence)
"""`fence()`: what was streamed is seen by other threads before what this one does next."""
