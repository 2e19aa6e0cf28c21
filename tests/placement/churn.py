"""A crowd of owners that take, share, cache and give back blocks, as fast as compiled code can.

Owns: a random sequence of calls on a pool. Leaves to others: looking whether all is right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels import prefix_index
from kvatlas.engine.kernels.state import NONE, Pool
from kvatlas.jit import entry, inlined

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_MASK = np.int64((1 << 47) - 1)


@inlined
def _draw(dice: I64, below: int) -> int:
    """Return a number from 0 to below `below`: a linear congruential generator of 47 bits."""
    dice[0] = (dice[0] * 25_214_903_917 + 11) & _MASK
    return int((dice[0] >> 16) % below)


@entry
def churn(pool: Pool, tables: I32, lengths: I64, dice: I64, calls: int) -> int:
    """Make `calls` random calls on `pool` for the owners of `tables`, (owners, most blocks).

    `dice` holds the generator's state and the next key. Returns blocks taken, shared, given back.
    """
    done = 0
    for _ in range(calls):
        owner = _draw(dice, tables.shape[0])
        table, length = tables[owner], lengths[owner]
        room = tables.shape[1] - length
        what = _draw(dice, 8)
        if what < 3 and length > 0:
            pool_.free_blocks(pool, table, length - 1, -1, -1)
            lengths[owner] = 0
            done += length
        elif what == 3 and dice[1] > 0:
            # A stretch of contents cached not long ago, up to the first that is lost.
            key = max(0, dice[1] - 1 - _draw(dice, 4 * pool.blocks.shape[0]))
            for _ in range(_draw(dice, max(1, room))):
                block = int(prefix_index.find(pool, 0, key, prefix_index.home(pool, key)))
                held = block == NONE
                for i in range(lengths[owner]):
                    held = held or table[i] == block
                if held:
                    break
                pool_.touch(pool, block)
                table[lengths[owner]] = block
                lengths[owner] += 1
                done += 1
                key += 1
        else:
            most = min(room, pool.info.free)
            count = min(most, _draw(dice, 4) if what < 6 else _draw(dice, tables.shape[1]))
            pool_.get_new_blocks(pool, count, table, length)
            lengths[owner] += count
            done += count
            full = count if what < 7 else count // 2
            for i in range(length, length + full * int(pool.info.caching)):
                key = int(dice[1])
                prefix_index.insert(pool, 0, key, int(table[i]), prefix_index.home(pool, key))
                pool.info.cached += 1
                dice[1] += 1
    return done
