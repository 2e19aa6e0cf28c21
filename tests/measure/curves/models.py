"""A prefix cache the obvious way, block by block, and every policy's best by exhaustion.

Owns: the meaning of the curves, written from the metrics page. Leaves to others: being fast.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import combinations

import numpy as np

from kvatlas.measure.curves import Paths, request_paths
from kvatlas.workload import Workload, chain_ids

Block = tuple[int, ...]


def named_blocks(paths: Paths) -> list[list[Block]]:
    """Return per request the contents of its path: whole prefixes, so that equal means equal."""
    workload, size, span = paths.workload, paths.block_size, paths.workload.tokens_per_id
    named = []
    for row in range(workload.num_requests):
        ids = workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]].tolist()
        identified, blocks = int(paths.arrays.identified[row]), int(paths.arrays.blocks[row])
        path: list[Block] = []
        for depth in range(blocks):
            if depth >= identified:
                path.append((-1 - row, depth))
            elif size >= span:
                path.append((ids[min((depth + 1) * (size // span), len(ids)) - 1],))
            else:
                path.append((ids[depth * size // span], depth % (span // size)))
        named.append(path)
    return named


def lru_hits(paths: Paths, capacity: int) -> tuple[list[int], list[int]]:
    """Return hit blocks and hit tokens per request of an LRU cache, simulated block by block."""
    cache: OrderedDict[Block, None] = OrderedDict()
    hit_blocks, hit_tokens = [], []
    for row, path in enumerate(named_blocks(paths)):
        hits = 0
        for block in path[: int(paths.prompt_blocks[row])]:
            if block not in cache:
                break
            hits += 1
        # The deepest block is the least recent of the request's own.
        for block in reversed(path):
            cache.pop(block, None)
            cache[block] = None
        while len(cache) > capacity:
            cache.popitem(last=False)
        hit_blocks.append(hits)
        hit_tokens.append(served_tokens(paths, row, hits))
    return hit_blocks, hit_tokens


def served_tokens(paths: Paths, row: int, hits: int) -> int:
    """Return the prompt tokens that `hits` leading blocks serve."""
    prompt = int(paths.workload.prompt_tokens[row])
    if paths.count_partial:
        return min(hits * paths.block_size, prompt)
    return min(hits, (prompt - 1) // paths.block_size) * paths.block_size


def best_hits(paths: Paths, capacity: int) -> int:
    """Return the most hit blocks that any choice of what to keep can reach. Exponential."""
    named = named_blocks(paths)
    best = {frozenset[Block](): 0}
    for row, path in enumerate(named):
        after: dict[frozenset[Block], int] = {}
        for kept, so_far in best.items():
            hits = 0
            for block in path[: int(paths.prompt_blocks[row])]:
                if block not in kept:
                    break
                hits += 1
            there = sorted(kept | set(path))
            for size in range(min(capacity, len(there)) + 1):
                for chosen in combinations(there, size):
                    choice = frozenset(chosen)
                    after[choice] = max(after.get(choice, 0), so_far + hits)
        # What nobody asks for again only doubles the choices.
        wanted = {block for later in named[row + 1 :] for block in later}
        best = {}
        for kept, so_far in after.items():
            useful = frozenset(kept & wanted)
            best[useful] = max(best.get(useful, 0), so_far)
    return max(best.values())


def random_workload(
    seed: int, *, rows: int, span: int, longest: int, branching: int, outputs: bool = False
) -> Workload:
    """Draw requests that share prefixes of all lengths, some of them whole."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1, longest * span + 1, rows)
    answers = rng.integers(1, 2 * span + 1, rows)
    covered = prompts + answers if outputs else prompts
    counts = -(-covered // span)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    raw = rng.integers(0, branching, int(offsets[-1]))
    for row in range(1, rows):
        if rng.random() < 0.6:
            other = int(rng.integers(0, row))
            shared = int(rng.integers(0, min(counts[row], counts[other]) + 1))
            raw[offsets[row] : offsets[row] + shared] = raw[
                offsets[other] : offsets[other] + shared
            ]
    ids, num_ids = chain_ids(raw.astype(np.int64), offsets, np.zeros(rows, np.int32))
    none = np.full(rows, -1, np.int32)
    zeros = np.zeros(rows, np.int32)
    workload = Workload(
        name="random",
        source=f"seed {seed}",
        arrival_s=np.arange(rows, dtype=np.float64),
        prompt_tokens=prompts.astype(np.int32),
        output_tokens=answers.astype(np.int32),
        tokens_per_id=span,
        ids=ids,
        id_offsets=offsets.astype(np.int64),
        num_ids=num_ids,
        prefix_known=True,
        outputs_identified=outputs,
        session=none,
        parent=none.copy(),
        priority=zeros,
        salt=zeros.copy(),
    )
    workload.check()
    return workload


def random_paths(seed: int) -> Paths:
    """Draw a small workload and a way to look at it: any block size, partial blocks, outputs."""
    rng = np.random.default_rng(1_000_000 + seed)
    span = int(rng.choice([1, 2, 4, 8]))
    size = int(rng.choice([1, 2, 4, 8]))
    if span % size and size % span:
        size = span
    partial, outputs = bool(rng.integers(2)), bool(rng.integers(2))
    workload = random_workload(
        seed,
        rows=int(rng.integers(1, 60)),
        span=span,
        longest=int(rng.integers(1, 12)),
        branching=int(rng.integers(1, 4)),
        outputs=outputs,
    )
    return request_paths(
        workload, size, count_partial=partial, with_outputs=not partial and bool(rng.integers(2))
    )
