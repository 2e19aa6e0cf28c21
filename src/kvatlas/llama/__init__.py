"""A small Llama whose keys and values live in our block pool: what block tables are for, checked.

The public names below load lazily; computing needs the extra `torch`, importing does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.llama.batch import PagedChunk
    from kvatlas.llama.engine import LlamaEngine
    from kvatlas.llama.model import PagedLlama
    from kvatlas.llama.shape import LlamaShape
    from kvatlas.llama.weights import LlamaWeights

_HOME = {
    "LlamaEngine": "engine",
    "LlamaShape": "shape",
    "LlamaWeights": "weights",
    "PagedChunk": "batch",
    "PagedLlama": "model",
}

__all__ = ["LlamaEngine", "LlamaShape", "LlamaWeights", "PagedChunk", "PagedLlama"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
