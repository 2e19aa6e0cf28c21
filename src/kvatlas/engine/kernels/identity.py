"""Block keys: a number per (request, block) that is equal exactly when the whole prefix is equal.

Owns: the arithmetic from a request's identities to the keys that the prefix index stores. Leaves to
others: making identities prefix-chained (`workload.chain`) and what is done with keys.

A key names the prefix that ends at a block's last token. With identities of P tokens and hashes of
H tokens (`hash_block_size`), the prefix that ends at token e (a multiple of H) has

    key = ids[(e - 1) // P] * keys_per_id + ((e - 1) % P) // H      while e <= covered
    key = unique_start + e // H - covered // H - 1                  beyond (nobody else's)

where keys_per_id = max(1, P // H). P divides H or H divides P, so no two prefixes share a key.
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import Engine
from kvatlas.jit import kernel


@kernel
def fill_keys(engine: Engine, row: int, block_size: int, first: int, count: int) -> None:
    """Write the keys of blocks `first .. first + count` into `engine.keys`; O(count)."""
    ids, out, config, request = engine.ids, engine.keys, engine.config, engine.requests[row]
    per_id = config.tokens_per_id
    keys_per_id = config.keys_per_id
    hash_block = config.hash_block
    covered = request.covered
    id_start = request.id_start
    identified = min(count, max(0, covered // block_size - first))
    if per_id == block_size and keys_per_id == 1:
        for i in range(identified):
            out[i] = ids[id_start + first + i]
    else:
        stride = block_size // hash_block
        i = 0
        while i < identified:
            last = (first + i + 1) * block_size - 1
            page = last // per_id
            within = last - page * per_id
            base = ids[id_start + page] * keys_per_id + within // hash_block
            run = min(identified - i, (per_id - 1 - within) // block_size + 1)
            for k in range(run):
                out[i + k] = base + k * stride
            i += run
    unique = request.unique_start - covered // hash_block - 1
    per_block = block_size // hash_block
    for i in range(identified, count):
        out[i] = unique + (first + i + 1) * per_block


@kernel
def key_at(engine: Engine, row: int, end: int) -> int:
    """Return the key of the prefix of request `row` that ends at token `end`; O(1)."""
    config, request = engine.config, engine.requests[row]
    hash_block = config.hash_block
    if end <= request.covered:
        at = (end - 1) // config.tokens_per_id
        within = (end - 1) - at * config.tokens_per_id
        return int(engine.ids[request.id_start + at] * config.keys_per_id + within // hash_block)
    return int(request.unique_start + end // hash_block - request.covered // hash_block - 1)
