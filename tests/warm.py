"""Compiles the engines that the tests share, before they start: `python -m tests.warm KIND`.

Each kind of engine (with an eviction policy, a placement, a tier below it, policies under pressure)
is machine code of its own, half a minute to compile. Test workers that need the same one at the
same time would each compile it; here one process per kind compiles it with all its doors, which
share most of their parts, and keeps it on disk.
Owns: which kinds there are, and calling everything of one once. Leaves to others: looking whether
anything is right.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvatlas.engine import BlockPool, EngineConfig, KVCacheManager, Replay, Request, Scheduler
from kvatlas.engine.nano import BlockManager, NanoConfig, NanoReplay, Sequence
from kvatlas.placement.allocators import BestFitAllocator
from kvatlas.tiers import HostTier
from kvatlas.workload import generate

PROMPT = [1, 2, 3, 4, 5, 6, 7, 8, 9]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def replay(**kind: Any) -> None:
    """Run a few requests through the driver."""
    workload = generate("conversation").head(20)
    Replay(workload, EngineConfig(num_blocks=900, max_num_seqs=24, **kind)).run()


def schedule(**kind: Any) -> None:
    """Serve one request step by step, abort another."""
    scheduler = Scheduler(EngineConfig(num_blocks=12, block_size=4, max_num_seqs=4, **kind))
    for name in ("served", "aborted"):
        scheduler.add_request(Request(name, PROMPT, max_tokens=3))
    output = scheduler.schedule()
    scheduler.update_from_output(output, dict.fromkeys(output.sampling, 7))
    scheduler.abort("aborted")


def manage(**kind: Any) -> None:
    """Let a manager look up, allocate, cache and free."""
    config = EngineConfig(num_blocks=12, block_size=4, max_num_seqs=4, **kind)
    manager, request = KVCacheManager(config), Request("r", PROMPT, max_tokens=3)
    hits, count = manager.get_computed_blocks(request)
    manager.allocate_slots(request, len(PROMPT) - count, count, hits)
    manager.cache_blocks(request, len(PROMPT))
    manager.free(request)
    manager.new_step_starts()
    manager.reset_prefix_cache()


def pool(**kind: Any) -> None:
    """Make every call on a pool of blocks."""
    blocks = BlockPool(12, **kind)
    ids = blocks.get_new_blocks(3)
    assert ids is not None
    blocks.cache_full_blocks(ids, [5, 6, 7])
    blocks.touch(ids)
    blocks.free_blocks(ids)
    blocks.free_blocks(ids)
    blocks.get_cached_block(5)
    blocks.evict_blocks(ids[:1])
    blocks.reset_prefix_cache()


def tier(policy: str) -> None:
    """Make every call on the index of a tier."""
    index = HostTier(4, policy)
    slots = index.reserve([1, 2, 3], [-1, 1, 2], [0, 1, 2]).slots
    index.release(slots)
    index.release(index.acquire([1, 2]))
    index.make_room([4, 5])
    index.discard([3])
    index.resize(1)


def nano() -> None:
    """Run the nano-vLLM profile, and its block manager."""
    NanoReplay(generate("conversation").head(5), NanoConfig(num_blocks=900, block_size=16)).run()
    manager, sequence = BlockManager(4, 4), Sequence(PROMPT, block_size=4)
    manager.allocate(sequence, manager.can_allocate(sequence))


def example(name: str) -> None:
    """Run an example, unheard."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def plain() -> None:
    """The engine as vLLM has it, stepwise checksums included, and nano-vLLM's."""
    for call in (replay, schedule, manage, pool):
        call()
    nano()


def parts() -> None:
    """What stands beside engines: a tier, an allocator, device memory, a byte arena."""
    tier("lru")
    allocator = BestFitAllocator(12)
    allocator.free(allocator.allocate(3) or [])
    allocator.allocate_run(2)
    for name in ("device_allocator", "byte_arena"):
        example(name)


def evicting() -> None:
    """An engine with another eviction policy."""
    for call in (replay, schedule, manage, pool):
        call(eviction_policy="lfu")


def placed() -> None:
    """An engine that chooses which free blocks it hands out."""
    for call in (replay, schedule, manage, pool):
        call(placement="sorted")


def tiered() -> None:
    """An engine over a host tier, and a tier that evicts by a policy."""
    for call in (replay, schedule):
        call(host_blocks=50)
    tier("lfu")


def pressed() -> None:
    """An engine with policies for when memory is short."""
    for call in (replay, schedule):
        call(lazy_free_steps=3)


def everything() -> None:
    """A scheduler with all of these but another eviction policy.

    Not the driver: kinds that combine many seams take minutes to compile, longer than their pairs.
    """
    schedule(placement="sorted", host_blocks=50, protect_waiting=3)


def tiered_and_pressed() -> None:
    """An engine that prefetches from a host tier."""
    replay(host_blocks=50, protect_waiting=3)


def tiered_by_policy() -> None:
    """An engine over a host tier that evicts by a policy."""
    replay(host_blocks=50, host_policy="lfu")


def tiered_by_policy_and_pressed() -> None:
    """The same that prefetches from it."""
    replay(host_blocks=50, host_policy="fifo", protect_waiting=3)


def evicting_and_tiered() -> None:
    """An engine with another eviction policy over a host tier."""
    replay(eviction_policy="lfu", host_blocks=50)


def evicting_and_placed() -> None:
    """An engine with another eviction policy whose victims are sorted."""
    replay(eviction_policy="lfu", placement="sorted")


def evicting_and_pressed() -> None:
    """An engine with another eviction policy that gives back late."""
    replay(eviction_policy="lfu", lazy_free_steps=3)


VARIANTS = (evicting, tiered, placed, pressed)
"""Engines with what vLLM's has not: the tests of them carry the marker `variants`."""
RARE = (
    evicting_and_tiered,
    everything,
    tiered_by_policy_and_pressed,
    evicting_and_placed,
    evicting_and_pressed,
    tiered_and_pressed,
    tiered_by_policy,
)
"""Engines with several such things at once, under the marker `rare`."""
KINDS: dict[str, Callable[[], None]] = {
    kind.__name__.replace("_", "-"): kind for kind in (plain, parts, *VARIANTS, *RARE)
}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        KINDS[name]()
