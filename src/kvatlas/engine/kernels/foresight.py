"""Foresight: how long outputs will be, and what follows for admission and for decoding.

Owns: the prediction, blocks taken ahead of need, blocks that admission leaves for what runs. Leaves
to others: whether there is room (`demand`), admission otherwise (`scheduler`).

The prediction is the mean length of the finished outputs that were longer than what a request has
produced so far, E[L | L > produced], by buckets an eighth of an octave wide; before anybody has
finished there is none. The true length, which a replay's `max_tokens` holds, is not looked at.
"""

from __future__ import annotations

from kvatlas.engine.kernels.attention import cdiv
from kvatlas.engine.kernels.demand import blocks_to_allocate
from kvatlas.engine.kernels.pressure_state import Pressure
from kvatlas.engine.kernels.state import FULL, Engine
from kvatlas.jit import inlined, kernel


@kernel
def _bucket(tokens: int) -> int:
    """Return the bucket of an output of `tokens` tokens."""
    if tokens < 16:
        return max(0, tokens)
    octave = 4
    while tokens >> (octave + 1) > 0:
        octave += 1
    return 16 + (octave - 4) * 8 + ((tokens >> (octave - 3)) & 7)


@inlined
def learn(engine: Engine, pressure: Pressure | None, row: int) -> None:
    """Row `row` has finished: its output's length is known now; O(buckets)."""
    if pressure is None:
        return
    output = int(engine.requests[row].num_tokens - engine.requests[row].prompt)
    pressure.info.finished += 1
    for bucket in range(_bucket(output)):
        pressure.lengths[bucket].longer_count += 1
        pressure.lengths[bucket].longer_tokens += output


@kernel
def predicted_output(pressure: Pressure, produced: int) -> int:
    """Return the output tokens expected in the end of a request that has `produced` so many."""
    if pressure.info.finished == 0:
        return produced
    longer = pressure.lengths[_bucket(produced)]
    if longer.longer_count == 0:
        return produced + 1
    return int(max(produced + 1, cdiv(longer.longer_tokens, longer.longer_count)))


@inlined
def tokens_ahead(
    engine: Engine, pressure: Pressure | None, row: int, tokens: int, main_tokens: int, need: int
) -> int:
    """Return for how many tokens `row`, which needs a block to decode on, is to get blocks now.

    `tokens` unless more blocks than the `need` are free for it.
    """
    if pressure is None:
        return tokens
    info = pressure.info
    if info.ahead_blocks == 0 and info.ahead_predicted == 0:
        return tokens
    return _tokens_ahead(engine, pressure, row, tokens, main_tokens, need)


@kernel
def _tokens_ahead(
    engine: Engine, pressure: Pressure, row: int, tokens: int, main_tokens: int, need: int
) -> int:
    info, groups = pressure.info, engine.groups
    smallest = int(groups[0].block_size)
    for group in range(groups.shape[0]):
        smallest = min(smallest, int(groups[group].block_size))
    # A table has no room for more, and the model none beyond its longest request.
    most = min(int(engine.config.max_model_len), engine.table.shape[2] * smallest)
    if info.ahead_blocks > 0:
        most = min(most, tokens + int(info.ahead_blocks) * smallest)
    if info.ahead_predicted != 0:
        prompt = int(engine.requests[row].prompt)
        produced = int(engine.requests[row].num_tokens) - prompt
        most = min(most, prompt + predicted_output(pressure, produced))
    if most <= tokens:
        return tokens
    more = 0
    for group in range(groups.shape[0]):
        more += blocks_to_allocate(
            engine, group, row, most, main_tokens, main_tokens - 1, False, False
        )
    if more > engine.pool.info.free:
        return tokens
    info.allocated_ahead += max(0, more - need)
    return int(most)


@inlined
def growth_blocks(engine: Engine, pressure: Pressure | None, row: int) -> int:
    """Return the blocks that must stay free beyond what `row` needs to be admitted; O(running).

    Nothing while nobody runs: then whatever fits is admitted, as ever.
    """
    if pressure is None:
        return 0
    if pressure.info.growth == 0.0 or engine.queue.num_running == 0:
        return 0
    return _growth_blocks(engine, pressure, row)


@kernel
def _growth_blocks(engine: Engine, pressure: Pressure, row: int) -> int:
    """Add up what full attention will still take: windows and states free as they grow."""
    requests, groups = engine.requests, engine.groups
    longest = int(engine.config.max_model_len)
    blocks = 0
    for at in range(engine.queue.num_running + 1):
        other = row
        if at < engine.queue.num_running:
            other = int(engine.running[at])
        num_tokens, prompt = int(requests[other].num_tokens), int(requests[other].prompt)
        end = min(longest, prompt + predicted_output(pressure, num_tokens - prompt))
        for group in range(groups.shape[0]):
            if groups[group].kind != FULL:
                continue
            size = int(groups[group].block_size)
            held = cdiv(num_tokens, size)
            if other != row:
                held = int(engine.tables[group, requests[other].slot].length)
            blocks += max(0, cdiv(end, size) - held)
    return int(pressure.info.growth * blocks)


@inlined
def refused(engine: Engine, pressure: Pressure | None, growth: int) -> None:
    """Admission was refused; count it if it was for the predicted growth alone."""
    if pressure is None:
        return
    if growth > 0 and engine.pool.log.info.needed - growth <= engine.pool.info.free:
        pressure.info.held_back += 1


@inlined
def restless(pressure: Pressure | None) -> bool:
    """Whether a refusal may turn into an admission while no block changes hands."""
    if pressure is None:
        return False
    return bool(pressure.info.growth > 0.0)
