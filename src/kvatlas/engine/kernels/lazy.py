"""Lazy deallocation: what a finished request held comes back some steps later.

Owns: the limbo of finished requests' block tables. Leaves to others: freeing (`pool`), and who is
in need (`manager`, which has them given back early before it refuses anybody).

Without policies (`Engine.pressure` is None) none of this exists in compiled code, as with
`evicting`. The blocks keep their owner meanwhile, so that they can be hit, but not be taken.
"""

from __future__ import annotations

from kvatlas.engine.kernels import evicting, tiering
from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels.pressure_state import Pressure
from kvatlas.engine.kernels.state import NONE, Engine
from kvatlas.events import schema
from kvatlas.jit import inlined, kernel


@inlined
def kept(engine: Engine, pressure: Pressure | None, row: int) -> bool:
    """Let the blocks of `row`, which has finished, stay for a while; False: free them now."""
    if pressure is None:
        return False
    return _kept(engine, pressure, row)


@kernel
def _kept(engine: Engine, pressure: Pressure, row: int) -> bool:
    info = pressure.info
    slot = engine.requests[row].slot
    if info.lazy_steps == 0 or slot == NONE:
        return False
    size = pressure.limbo.shape[0]
    if info.limbo_count == size:
        _give_back_oldest(engine, pressure)
        info.lazy_hurried += 1
    evicting.request_ends(engine, engine.pool.eviction, row)
    # A tier below may write what it gives back: now, while it is known whose it is.
    tiering.given_back(engine, engine.pool.tier, row, slot)
    place = pressure.limbo[(info.limbo_head + info.limbo_count) % size]
    place.slot = slot
    place.due = info.step + info.lazy_steps
    info.limbo_count += 1
    info.lazy_kept += 1
    engine.requests[row].slot = NONE
    return True


@inlined
def step_begins(engine: Engine, pressure: Pressure | None) -> None:
    """A scheduler step begins: what is due comes back before anything is decided."""
    if pressure is None:
        return
    info = pressure.info
    info.step += 1
    while info.limbo_count > 0 and pressure.limbo[info.limbo_head].due < info.step:
        _give_back_oldest(engine, pressure)


@inlined
def hurry(engine: Engine, pressure: Pressure | None) -> bool:
    """Give the oldest back now because somebody needs room; False when there is none."""
    if pressure is None:
        return False
    if pressure.info.limbo_count == 0:
        return False
    _give_back_oldest(engine, pressure)
    pressure.info.lazy_hurried += 1
    return True


@inlined
def quiet_steps(pressure: Pressure | None, steps: int) -> int:
    """Return how many of the next `steps` steps give nothing back."""
    if pressure is None:
        return steps
    info = pressure.info
    if info.limbo_count == 0:
        return steps
    return int(min(steps, pressure.limbo[info.limbo_head].due - info.step))


@inlined
def steps_passed(pressure: Pressure | None, steps: int) -> None:
    """Steps went by that `step_begins` did not see."""
    if pressure is None:
        return
    pressure.info.step += steps


@kernel
def _give_back_oldest(engine: Engine, pressure: Pressure) -> None:
    """Free the oldest table in limbo as `manager.free` would have done; O(blocks)."""
    info, log = pressure.info, engine.pool.log.info
    slot = int(pressure.limbo[info.limbo_head].slot)
    info.limbo_head = (info.limbo_head + 1) % pressure.limbo.shape[0]
    info.limbo_count -= 1
    request, group_before, cause = log.request, log.group, log.free_cause
    # For the events the request ended when it finished: these blocks are listed, as nobody's.
    log.request = NONE
    log.free_cause = schema.BY_FINISHED
    for group in range(engine.groups.shape[0]):
        log.group = group
        length = engine.tables[group, slot].length
        pool_.free_blocks(engine.pool, engine.table[group, slot], length - 1, -1, -1)
    engine.free_slots[engine.queue.free_slots] = slot
    engine.queue.free_slots += 1
    # Somebody else's allocation may be under way: the log speaks of it again.
    log.request, log.group, log.free_cause = request, group_before, cause
