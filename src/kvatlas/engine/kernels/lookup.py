"""Prefix-cache lookup: the longest cached prefix that every KV cache group can serve.

Owns: one search per attention kind and the fixed point over the groups. Leaves to others: touching
what was found (`manager`) and keys (`identity`).
Mirrors `find_longest_cache_hit` of the managers in v1/core/single_type_kv_cache_manager.py and of
the coordinators in v1/core/kv_cache_coordinator.py, vLLM 0.32.0.

Groups with the same spec are looked up together (a *lookup unit*): a block counts only when every
member holds it. Results land in `engine.hits[g, :num_hits[g]]`, null blocks where nothing is
needed.
"""

from __future__ import annotations

from kvatlas.engine.kernels import prefix_index
from kvatlas.engine.kernels.attention import cdiv
from kvatlas.engine.kernels.identity import fill_keys, key_at
from kvatlas.engine.kernels.state import (
    CHUNKED,
    FULL,
    NONE,
    NULL_BLOCK,
    SLIDING,
    Engine,
)
from kvatlas.jit import inlined, kernel

_CHUNK = 64
"""Keys computed ahead of the probes: a lookup that misses at once costs one chunk."""


@inlined
def _found(engine: Engine, unit: int, key: int, at: int) -> bool:
    """Look `key` up in every group of `unit`; store the blocks at position `at` if all have it."""
    slot = prefix_index.home(engine.pool, key)
    for m in range(engine.units[unit].start, engine.units[unit].stop):
        group = engine.groups[m].member
        block = prefix_index.find(engine.pool, group, key, slot)
        if block == NONE:
            return False
        engine.hits[group, at] = block
    return True


@inlined
def _set_num_hits(engine: Engine, unit: int, count: int) -> None:
    for m in range(engine.units[unit].start, engine.units[unit].stop):
        engine.scratch[engine.groups[m].member].num_hits = count


@inlined
def _fill_null(engine: Engine, unit: int, start: int, stop: int) -> None:
    for m in range(engine.units[unit].start, engine.units[unit].stop):
        group = engine.groups[m].member
        for i in range(start, stop):
            engine.hits[group, i] = NULL_BLOCK


@kernel
def _find_full(
    engine: Engine,
    unit: int,
    row: int,
    max_length: int,
    alignment: int,
) -> int:
    """Left to right until the first miss; O(hits)."""
    group = engine.groups[engine.units[unit].start].member
    single = engine.units[unit].stop - engine.units[unit].start == 1
    block_size = engine.groups[group].block_size
    limit = max_length // block_size
    found = 0
    missed = False
    slot = 0
    before = NONE - 1
    while found < limit and not missed:
        count = min(_CHUNK, limit - found)
        fill_keys(engine, row, block_size, found, count)
        for i in range(count):
            key = engine.keys[i]
            if single:
                slot = prefix_index.follow(engine.pool, slot, before, key)
                before = key
                block = prefix_index.find(engine.pool, group, key, slot)
                if block == NONE:
                    missed = True
                    break
                engine.hits[group, found] = block
            elif not _found(engine, unit, key, found):
                missed = True
                break
            found += 1
    length = found * block_size
    length -= length % alignment
    _set_num_hits(engine, unit, cdiv(length, block_size))
    return int(length)


@kernel
def _find_sliding(
    engine: Engine,
    unit: int,
    row: int,
    max_length: int,
    alignment: int,
) -> int:
    """Right to left for a run that fills the window; O(max_length / block_size)."""
    group = engine.groups[engine.units[unit].start].member
    block_size = engine.groups[group].block_size
    needed = cdiv(engine.groups[group].window - 1, block_size)
    limit = max_length // block_size
    _fill_null(engine, unit, 0, limit)
    run = 0
    count = 0
    matched = False
    for i in range(limit - 1, -1, -1):
        key = key_at(engine, row, (i + 1) * block_size)
        if _found(engine, unit, key, i):
            if run == 0 and block_size != alignment and (i + 1) * block_size % alignment != 0:
                # An unaligned end cannot start a run: vLLM leaves the block null.
                _fill_null(engine, unit, i, i + 1)
                continue
            run += 1
            if run >= needed:
                count = i + run
                matched = True
                break
        else:
            # A group that had the block leaves no trace when another one lacked it.
            _fill_null(engine, unit, i, i + 1)
            run = 0
    if not matched:
        count = run
        while block_size != alignment and count * block_size % alignment != 0:
            count -= 1
    _set_num_hits(engine, unit, count)
    return int(count * block_size)


@kernel
def _find_chunked(
    engine: Engine,
    unit: int,
    row: int,
    max_length: int,
) -> int:
    """Null up to the last chunk's start, then left to right until the first miss."""
    group = engine.groups[engine.units[unit].start].member
    block_size = engine.groups[group].block_size
    chunk = engine.groups[group].window
    limit = max_length // block_size
    found = max_length // chunk * chunk // block_size
    _fill_null(engine, unit, 0, found)
    while found < limit and _found(
        engine,
        unit,
        key_at(engine, row, (found + 1) * block_size),
        found,
    ):
        found += 1
    _set_num_hits(engine, unit, found)
    return int(found * block_size)


@kernel
def _find_mamba(
    engine: Engine,
    unit: int,
    row: int,
    max_length: int,
    alignment: int,
) -> int:
    """Right to left for one aligned state; O(max_length / block_size)."""
    group = engine.groups[engine.units[unit].start].member
    block_size = engine.groups[group].block_size
    for i in range(max_length // block_size - 1, -1, -1):
        if (i + 1) * block_size % alignment != 0:
            continue
        key = key_at(engine, row, (i + 1) * block_size)
        if _found(engine, unit, key, i):
            _fill_null(engine, unit, 0, i)
            _set_num_hits(engine, unit, i + 1)
            return int((i + 1) * block_size)
    _set_num_hits(engine, unit, 0)
    return 0


@kernel
def _find_unit(
    engine: Engine,
    unit: int,
    row: int,
    max_length: int,
) -> int:
    kind = engine.units[unit].kind
    align = engine.config.scheduler_block
    if kind == FULL:
        return _find_full(engine, unit, row, max_length, align)
    if kind == SLIDING:
        return _find_sliding(engine, unit, row, max_length, align)
    if kind == CHUNKED:
        return _find_chunked(engine, unit, row, max_length)
    return _find_mamba(engine, unit, row, max_length, align)


@kernel
def find_longest_cache_hit(
    engine: Engine,
    row: int,
    max_length: int,
) -> tuple[int, int]:
    """Return (hit tokens, tokens of a shared prefix that a sparse group has not cached).

    Each lookup unit accepts the candidate length or shrinks it; a shrink restarts the round, except
    for full attention, which is downward closed and only trimmed. With one full-attention unit and
    one other a single round is enough. The second value is 0 with a single group.
    """
    groups = engine.groups
    num_units = engine.units.shape[0]
    if engine.config.hybrid == 0:
        length = _find_unit(engine, 0, row, max_length)
        return length, 0
    simple = num_units == 2 and engine.units[0].kind == FULL
    for g in range(groups.shape[0]):
        engine.scratch[g].num_hits = NONE if engine.groups[g].kind == FULL else 0
    hit_length = max_length
    longest = 0
    while True:
        current = hit_length
        for unit in range(num_units):
            group = engine.groups[engine.units[unit].start].member
            if engine.groups[group].kind == FULL and engine.scratch[group].num_hits != NONE:
                current = min(
                    current, engine.scratch[group].num_hits * engine.groups[group].block_size
                )
                continue
            current = _find_unit(engine, unit, row, current)
            longest = max(longest, current)
        if current >= hit_length:
            break
        hit_length = current
        if simple:
            break
    for unit in range(num_units):
        group = engine.groups[engine.units[unit].start].member
        if engine.groups[group].kind == FULL:
            _set_num_hits(engine, unit, cdiv(hit_length, engine.groups[group].block_size))
    return hit_length, longest - hit_length
