"""From tokens to block keys: a chained, keyed hash for engines that embed the pool.

Owns: `BlockHasher`. Leaves to others: what is cached under the keys. Replays do not hash: their
identities are exact numbers (`identity`).
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections.abc import Sequence

_MASK = (1 << 62) - 1


class BlockHasher:
    """Chains blocks of tokens into 62-bit keys with BLAKE2b under a secret of this process.

    Two prefixes share a key by chance with probability 2**-62, and nobody can search for such a
    pair without the secret, so that one tenant cannot aim at another's cache. (vLLM: sha256 of
    (parent, tokens, extra keys); only equality matters to the decisions.)

    Args:
        block_size: tokens per key.
        secret: up to 64 bytes; random when left out. Give one to get the same keys again.
    """

    def __init__(self, block_size: int, secret: bytes | None = None) -> None:
        self.block_size = block_size
        self._secret = secrets.token_bytes(16) if secret is None else secret

    def root(self, extra: str = "") -> int:
        """Return the parent of the first block: differs per LoRA adapter, cache salt or tenant."""
        return self._digest(b"root" + extra.encode())

    def extend(self, parent: int, tokens: Sequence[int]) -> list[int]:
        """Return the keys of the full blocks in `tokens` that follow `parent`. O(tokens)."""
        keys = []
        for start in range(0, len(tokens) - self.block_size + 1, self.block_size):
            block = array("q", tokens[start : start + self.block_size]).tobytes()
            parent = self._digest(parent.to_bytes(8, "little") + block)
            keys.append(parent)
        return keys

    def _digest(self, data: bytes) -> int:
        digest = hashlib.blake2b(data, digest_size=8, key=self._secret).digest()
        return int.from_bytes(digest, "little") & _MASK
