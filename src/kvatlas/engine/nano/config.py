"""What a user may ask of the nano-vLLM profile, and which of its versions answers.

Owns: `NanoConfig`, validated on creation, and the versions as data. Leaves to others: the rules
themselves (`manager`, `scheduler`) and the arrays (`build`).

Sources: github.com/GeeeekExplorer/nano-vllm, nanovllm/engine/{block_manager,scheduler,sequence,
llm_engine}.py and nanovllm/config.py. Both mirrored states call themselves 0.2.0, so commits name
them:

* bb823b3 (2026-04-26, the newest): a prompt that exceeds the step's token budget is prefilled in
  chunks; admission looks the prefix up before it counts blocks, the last block of a prompt always
  computes, and a block is hashed once its tokens are computed.
* 9e8507e (2026-04-13, the last before chunked prefill, the same rules since June 2025): a prompt is
  admitted whole or not at all, admission counts every block as new, a full last block may hit
  too, and a prompt's blocks are hashed at admission, before they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kvatlas.errors import InputError


@dataclass(frozen=True)
class NanoRules:
    """The rules on which nano-vLLM's versions differ.

    Attributes:
        version: the short commit by which users name it.
        chunked_prefill: the four rules that came with chunked prefill (see the module).
    """

    version: str
    chunked_prefill: bool


_RULES = {
    "bb823b3": NanoRules("bb823b3", chunked_prefill=True),
    "9e8507e": NanoRules("9e8507e", chunked_prefill=False),
}

NANO_VERSIONS: tuple[str, ...] = tuple(_RULES)
"""Known versions, the default first."""


def nano_rules(version: str) -> NanoRules:
    """Return the rules of `version`, a commit of at least seven digits.

    Raises:
        InputError: an unknown version.
    """
    found = _RULES.get(version[:7])
    if found is None:
        raise InputError(
            "unknown nano-vLLM version",
            field="engine_version",
            value=version,
            remedy=f"use one of {', '.join(NANO_VERSIONS)}",
        )
    return found


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """The settings of one simulated nano-vLLM; defaults are nano-vLLM's own.

    Attributes:
        num_blocks: blocks in the pool (`num_kvcache_blocks`); all can be used, there is no null
            block.
        block_size: tokens per block (`kvcache_block_size`). nano-vLLM's attention kernel asks for
            multiples of 256, its bookkeeping for at least 2: a sequence gets its next block when
            its length modulo the block size is 1.
        max_num_seqs: sequences per step. Not a limit on those that hold blocks: prefill goes first
            and admits while blocks last, and decode serves the first `max_num_seqs` of them.
        max_num_batched_tokens: tokens per prefill step; decode steps ignore it.
        version: whose rules, one of `NANO_VERSIONS`.

    The scheduler has no watermark, no priorities, no switch for the prefix cache, and does not
    enforce a maximum model length.

    Raises:
        InputError: a value under which nano-vLLM cannot run.
    """

    num_blocks: int
    block_size: int = 256
    max_num_seqs: int = 512
    max_num_batched_tokens: int = 16384
    version: str = NANO_VERSIONS[0]

    def __post_init__(self) -> None:
        for name in ("num_blocks", "max_num_seqs", "max_num_batched_tokens"):
            if not 1 <= getattr(self, name) < 2**31:
                raise InputError(
                    "must be at least 1 and below 2**31", field=name, value=getattr(self, name)
                )
        if not 2 <= self.block_size < 2**31:
            raise InputError(
                "must be at least 2",
                field="block_size",
                value=self.block_size,
                remedy="nano-vLLM never appends a block of 1 token; its own default is 256",
            )
        nano_rules(self.version)

    @property
    def rules(self) -> NanoRules:
        """The version's rules."""
        return nano_rules(self.version)

    def with_(self, **changes: Any) -> NanoConfig:
        """Return a copy with `changes`, validated again."""
        return replace(self, **changes)
