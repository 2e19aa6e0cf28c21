"""The flags that say how a trace is read, the same for every verb that takes one.

Owns: which they are. Leaves to others: their help (`shared_flags`), what they mean
(`trace_source`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from kvatlas.cli.shared_flags import (
    Format,
    IdentityTokens,
    LastBlock,
    Limit,
    Seed,
    Sort,
    TokensPerId,
)

__all__ = ["ReadingFlags"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingFlags:
    """How a trace is read; `None` where nothing was given."""

    format: Format = None
    limit: Limit = None
    seed: Seed = None
    sort: Sort = False
    last_block: LastBlock = None
    tokens_per_id: TokensPerId = None
    identity_tokens: IdentityTokens = None

    def reading(self) -> dict[str, Any]:
        """Return these alone, by name."""
        return {each.name: getattr(self, each.name) for each in fields(ReadingFlags)}
