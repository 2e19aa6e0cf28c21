"""How a plain function over arrays becomes compiled code, and where that code is kept.

Owns: the two decorators `kernel` and `inlined`, the on-disk cache and its key. Leaves to others:
what the kernels do. With `NUMBA_DISABLE_JIT=1` both decorators hand the function back unchanged and
numba is not even imported, so the same source runs (slowly) under a debugger.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

COMPILED: bool = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
"""False when `NUMBA_DISABLE_JIT` asks for plain Python."""


_MADE_OF = {
    "device": ("storage/arena",),
    "engine": ("eviction", "placement", "tiers"),
    "tiers": ("eviction",),
}
"""Per package those below it, events aside, whose kernels are parts of its own."""


@cache
def cache_dir(package: str) -> Path:
    """Return the folder of the compiled kernels of `kvatlas.<package>`, by its sources' state.

    Numba looks only at the file of the function it loads, so a changed callee in another file would
    be missed. The folder's name therefore carries a digest of the path, size and modification time
    of every source file that a kernel of this package may be made of: the engine's files, or the
    package's `_*kernel.py`, those of the packages that it is built on, and those of the
    events and the runs (under a millisecond).
    """
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    own = list((root / package).rglob("*.py" if package == "engine" else "_*kernel.py"))
    for below in _MADE_OF.get(package, ()):
        own += (root / below).glob("_*kernel.py")
    shared = [Path(__file__), root / "records.py"]
    shared += [*(root / "events").glob("*.py"), *(root / "runs").glob("_*kernel.py")]
    for path in sorted({*own, *shared}):
        stat = path.stat()
        digest.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    asked, user_caches = os.environ.get("KVATLAS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    base = Path(asked) if asked else Path(user_caches or Path.home() / ".cache") / "kvatlas"
    return base / "kernels" / f"{package}-{digest.hexdigest()}"


def entry(function: F) -> F:
    """Compile `function` on its first call from Python and keep the machine code on disk."""
    return _compile(function, cache=True)


def kernel(function: F) -> F:
    """Compile `function` as a part of the entries that call it; Python cannot call it itself."""
    return _compile(function, part=True)


def inlined(function: F) -> F:
    """Like `kernel`, for the small functions of hot loops: always inlined by LLVM."""
    return _compile(function, part=True, forceinline=True)


def _compile(function: F, *, part: bool = False, **options: Any) -> F:
    if not COMPILED:
        return function
    import numba

    _use_cache_dir(function.__module__)
    if part:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        options["pipeline_class"] = _part_compiler()
    # _nrt=False: kernels allocate nothing, so the reference counting of every array in every
    # argument is left out; it cost nine tenths of the run time and half of the compile time.
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=False, **options)(function)
    _ignore_literals(dispatcher)
    if options.get("cache"):
        _load_at_once(dispatcher)
    return cast(F, dispatcher)


@cache
def _part_compiler() -> type:
    """Return a Numba compiler that stops before optimisation and machine code.

    A part is linked into its callers and optimised there; doing both for each of ninety parts too
    takes twice as long as compiling the whole engine.
    """
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler

    numbers = count()

    class NoEnvironment:
        """The code generator of a part: it has no machine code to hand an environment to."""

        def __init__(self, codegen: Any) -> None:
            self._codegen = codegen

        def __getattr__(self, name: str) -> Any:
            return getattr(self._codegen, name)

        def set_env(self, name: str, environment: object) -> None:
            pass

    class PartLibrary(JITCodeLibrary):  # type: ignore[misc]
        def _optimize_final_module(self) -> None:
            pass

        def _finalize_final_module(self) -> None:
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name: str) -> int:
            self._ensure_finalized()
            return 0

        @property
        def codegen(self) -> Any:
            return NoEnvironment(self._codegen)

    class PartCompiler(Compiler):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.state.library = PartLibrary(
                self.state.targetctx.codegen(), f"kvatlas.part.{next(numbers)}"
            )

    return PartCompiler


def _use_cache_dir(module: str) -> None:
    """Tell Numba where the next function's machine code lies, unless the user has said so."""
    from numba.core import config

    chosen = config.CACHE_DIR
    if not os.environ.get("NUMBA_CACHE_DIR") and (not chosen or chosen in _ours):
        package = module.split(".")[1] if module.startswith("kvatlas.") else "engine"
        config.CACHE_DIR = str(cache_dir(package))
        _ours.add(config.CACHE_DIR)


def _load_at_once(dispatcher: Any) -> None:
    """Load machine code from disk without readying the compiler first, as Numba does.

    That takes 0.2 s (it imports every implementation that any function could need) and kernels that
    allocate nothing need none of it. Where nothing is on disk the compiler still readies itself.
    """
    store = dispatcher._cache
    load, guard = (
        getattr(store, name, None)
        for name in ("_load_overload", "_guard_against_spurious_io_errors")
    )
    if load is None or guard is None:
        return  # a Numba that names them otherwise: slower, not wrong

    def load_overload(signature: object, target_context: object) -> object:
        with guard():
            return load(signature, target_context)

    store.load_overload = load_overload


_ours: set[str] = set()


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
