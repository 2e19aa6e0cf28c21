"""The stream of decisions: what every step did, as 32-bit words, for checksums and comparisons.

Owns: the words' order, which is that of the recorded reference results. Leaves to others: when a
step is over (`drive`) and what is done with the words (`replay`).

Per step: STEP number; ADMIT row hit-tokens block-ids for every new, then every resumed request;
GROW row new-ids for every running request that grew; PREEMPT row, by row. Ids of later KV cache
groups follow a GROUP word. Mode 2 adds SCHEDULED free-blocks and (row, tokens) of all scheduled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.kernels.state import I64, NEW_KIND, NONE, RESUMED_KIND, RUN_KIND, Engine, Step
from kvatlas.jit import inlined, kernel

U32 = NDArray[np.uint32]

# Words that separate the decision stream's parts.
STEP_WORD, ADMIT_WORD, GROW_WORD, PREEMPT_WORD = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
GROUP_WORD, SCHEDULED_WORD = 0xFFFFFFFB, 0xFFFFFFFA

_NO_ROW = 1 << 62


class Sink(NamedTuple):
    """The stream of decisions as 32-bit words; mode 0 off, 1 what the checksum covers, 2 all."""

    words: U32
    used: I64  # (1,)
    mode: int
    step_words: int  # upper bound of the words of one step


@inlined
def put(sink: Sink, word: int) -> None:
    at = sink.used[0]
    sink.words[at] = word
    sink.used[0] = at + 1


@kernel
def _put_blocks(engine: Engine, sink: Sink, group: int, slot: int, first: int) -> None:
    at = sink.used[0]
    for i in range(first, engine.tables[group, slot].length):
        sink.words[at] = engine.table[group, slot, i]
        at += 1
    sink.used[0] = at


@kernel
def write_step(engine: Engine, step: Step, sink: Sink, number: int) -> None:
    """Append the decisions of one step in the order of the recorded checksums."""
    requests, tables = engine.requests, engine.tables
    num_groups = engine.groups.shape[0]
    put(sink, STEP_WORD)
    put(sink, number)
    for kind in (NEW_KIND, RESUMED_KIND):
        for entry in range(step.info.entries):
            if step.entries[entry].kind != kind:
                continue
            row = step.entries[entry].row
            put(sink, ADMIT_WORD)
            put(sink, row)
            put(sink, step.entries[entry].hit)
            for group in range(num_groups):
                if group > 0:
                    put(sink, GROUP_WORD)
                _put_blocks(engine, sink, group, requests[row].slot, 0)
    for entry in range(step.info.entries):
        if step.entries[entry].kind != RUN_KIND:
            continue
        row = step.entries[entry].row
        slot = requests[row].slot
        grown = False
        for group in range(num_groups):
            if tables[group, slot].length > step.old_length[group, entry]:
                grown = True
        if grown:
            put(sink, GROW_WORD)
            put(sink, row)
            for group in range(num_groups):
                if group > 0:
                    put(sink, GROUP_WORD)
                _put_blocks(engine, sink, group, slot, step.old_length[group, entry])
    count = step.info.preempted
    if count > 0:
        last = NONE
        for _ in range(count):
            smallest = _NO_ROW
            for i in range(count):
                row = step.preempted[i]
                if last < row < smallest:
                    smallest = row
            put(sink, PREEMPT_WORD)
            put(sink, smallest)
            last = smallest
    if sink.mode == 2:
        put(sink, SCHEDULED_WORD)
        put(sink, engine.pool.info.free)
        for entry in range(step.info.entries):
            put(sink, step.entries[entry].row)
            put(sink, step.entries[entry].tokens)
