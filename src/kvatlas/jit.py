"""How a plain function over arrays becomes compiled code, and where that code is kept.

Owns: the two decorators `kernel` and `inlined`, the on-disk cache and its key. Leaves to others:
what the kernels do. With `NUMBA_DISABLE_JIT=1` both decorators hand the function back unchanged and
numba is not even imported, so the same source runs (slowly) under a debugger.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

COMPILED: bool = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
"""False when `NUMBA_DISABLE_JIT` asks for plain Python."""


def cache_dir() -> Path:
    """Return the folder of compiled kernels: one per state of the sources that hold kernels.

    Numba looks only at the file of the function it loads, so a changed callee in another file would
    be missed. The folder's name therefore carries a digest of every source file's path, size and
    modification time (some 50 `stat` calls, well under a millisecond).
    """
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(root.rglob("*.py")):
        stat = path.stat()
        digest.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    base = os.environ.get("KVATLAS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kvatlas"
    )
    return Path(base) / "kernels" / digest.hexdigest()


def entry(function: F) -> F:
    """Compile `function` on its first call from Python and keep the machine code on disk."""
    return _compile(function, cache=True)


def kernel(function: F) -> F:
    """Compile `function` as a part of the entries that call it; Python cannot call it itself."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: F) -> F:
    """Like `kernel`, for the small functions of hot loops: always inlined by LLVM."""
    return _compile(
        function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True
    )


def _compile(function: F, **options: bool) -> F:
    if not COMPILED:
        return function
    import numba

    _use_cache_dir()
    # _nrt=False: kernels allocate nothing, so the reference counting of every array in every
    # argument is left out; it cost nine tenths of the run time and half of the compile time.
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=False, **options)(function)
    _ignore_literals(dispatcher)
    return cast(F, dispatcher)


def _use_cache_dir() -> None:
    from numba.core import config

    if not os.environ.get("NUMBA_CACHE_DIR") and not config.CACHE_DIR:
        config.CACHE_DIR = str(cache_dir())


def _ignore_literals(dispatcher: Any) -> None:
    """Compile one version for all integers: a call with a constant would compile another one."""
    from numba.core.types import unliteral

    template = dispatcher.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return template(
            tuple(unliteral(arg) for arg in args),
            {name: unliteral(arg) for name, arg in dict(kws).items()},
        )

    dispatcher.get_call_template = get_call_template
