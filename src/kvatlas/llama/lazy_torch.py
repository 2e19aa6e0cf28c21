"""torch on first use, so that importing this package neither needs nor loads it.

Owns: the one place that imports torch, and the error that names the extra. Leaves to others: all
computing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvatlas.errors import InputError


class _Torch:
    """Stands where the module `torch` would and loads it when something is taken from it."""

    def __getattr__(self, name: str) -> Any:
        try:
            module = import_module("torch")
        except ModuleNotFoundError as missing:
            raise InputError(
                "the paged Llama needs torch",
                field="torch",
                remedy="pip install 'kvatlas[torch]'",
            ) from missing
        return getattr(module, name)


if TYPE_CHECKING:
    import torch
else:
    torch = _Torch()

__all__ = ["torch"]
