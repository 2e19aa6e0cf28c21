"""What one KV block takes, to say in blocks what an out-of-memory error costs.

Owns: the three sources of that figure. Leaves to others: the layers of a model (`kvatlas.model`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.budget.measured import measured
from kvatlas.budget.startup_log import StartupLog
from kvatlas.engine.layers import block_bytes, group_layers
from kvatlas.errors import InputError
from kvatlas.model import attention_block_size, kv_layers, load_model
from kvatlas.model.catalogue import catalogue_config

__all__ = ["KvBlock", "kv_block_of_log", "kv_block_of_model", "kv_block_of_size"]

_GIB = 1 << 30
_USUAL_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class KvBlock:
    """One block of the KV cache on one rank.

    Attributes:
        size_bytes: what it takes. tokens: how many it holds, None where unknown.
        source: where the figure is from. exact: whether it is more than an estimate.
    """

    size_bytes: int
    tokens: int | None
    source: str
    exact: bool = True

    def blocks(self, size_bytes: int) -> int:
        """Return how many blocks make up at least so many bytes."""
        return -(-max(0, size_bytes) // self.size_bytes)


def kv_block_of_model(
    model: str, *, block_size: int | None = None, kv_dtype: str = "auto", tp: int = 1
) -> KvBlock:
    """Return a block of `model`, as vLLM lays it out on one of `tp` ranks.

    Raises: InputError: not a model, or ranks that cannot share it.
    """
    if block_size is not None and block_size < 1:
        raise InputError("must be at least 1", field="block_size", value=block_size)
    facts = load_model(model)
    asked = block_size or (64 if "mla" in facts.kinds else _USUAL_TOKENS)
    groups = group_layers(kv_layers(facts, asked, kv_dtype, tp=tp))
    return KvBlock(
        size_bytes=block_bytes(groups),
        tokens=attention_block_size(facts, asked, kv_dtype, tp=tp),
        source=model,
    )


def kv_block_of_size(size_bytes: int) -> KvBlock:
    """Return a block of so many bytes. Raises: InputError for none."""
    if size_bytes < 1:
        raise InputError("a block takes at least 1 byte", field="block_bytes", value=size_bytes)
    return KvBlock(size_bytes=size_bytes, tokens=None, source="given")


def kv_block_of_log(log: StartupLog) -> KvBlock | None:
    """Return a block by what a server said when it started, None where it did not say enough.

    By its model, where that is a known name on one pipeline stage. Else an estimate: memory is
    printed with two decimals, and tokens as the longest request counts them.
    """
    known = _of_known_model(log)
    if known is not None:
        return known
    real = measured(log)
    if not real.kv_bytes or real.kv_bytes < 0:
        return None
    if real.num_blocks:
        return KvBlock(
            size_bytes=max(1, real.kv_bytes // real.num_blocks),
            tokens=_tokens(log),
            source=f"the log: {real.num_blocks:,} blocks",
            exact=False,
        )
    if not real.kv_tokens:
        return None
    tokens = _tokens(log) or _USUAL_TOKENS
    return KvBlock(
        size_bytes=max(1, real.kv_bytes * tokens // real.kv_tokens),
        tokens=tokens,
        source=f"the log: {real.kv_tokens:,} tokens, taken to be in blocks of {tokens}",
        exact=False,
    )


def _of_known_model(log: StartupLog) -> KvBlock | None:
    """Return the block of the model that a log names; names of files are not followed."""
    said = log.config
    name, ranks = said.get("model", ""), said.get("tensor_parallel_size", "1")
    known = catalogue_config(name)
    if known is None or said.get("pipeline_parallel_size", "1") != "1":
        return None
    if not (ranks.isascii() and ranks.isdigit() and len(ranks) < 6):
        return None
    try:
        return kv_block_of_model(
            known[0],
            block_size=_tokens(log),
            kv_dtype=said.get("kv_cache_dtype", "auto"),
            tp=int(ranks),
        )
    except InputError:
        return None  # a dtype or a number of ranks of which its layout is not known


def _tokens(log: StartupLog) -> int | None:
    """Return tokens per block, where vLLM raised it and said so."""
    return max((facts.block_size or 0 for facts in log.workers.values()), default=0) or None
