"""The path of every request: its blocks from the first on, as a prefix cache sees them.

Owns: how many blocks a prompt has, which of them others could share, and what a hit block is worth
in tokens. Leaves to others: who used them last (`reuse_runs`).

The model is a prefix cache alone, without an engine around it: requests one after another in the
order of the trace. A request uses its path, then the cache gives up blocks until it fits. What
running requests pin, and that many run at once, is left out; a replay has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.measure.curves._reuse_runs_kernel import PathArrays
from kvatlas.workload import Workload
from kvatlas.workload.prompt_blocks import prompt_blocks

__all__ = ["Paths", "request_paths"]

I32 = NDArray[np.int32]
_MOST_BLOCKS = 2**31 - 2


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """N requests as paths of blocks.

    Attributes:
        workload: whose requests; block_size: tokens per block.
        arrays: what the compiled passes read.
        prompt_blocks: (N,) blocks of the prompt that are looked up.
        servable: (N,) leading blocks that count as hit tokens when they are found: vLLM computes at
            least the last prompt token itself, so a prompt that ends with a full block has one less
            than it looks up.
        last_block_tokens: (N,) tokens that a found last block serves beyond `servable` blocks:
            those of a partial block that is counted, else 0.
        count_partial, with_outputs: as asked for.
    """

    workload: Workload
    block_size: int
    arrays: PathArrays
    prompt_blocks: I32
    servable: I32
    last_block_tokens: I32
    count_partial: bool
    with_outputs: bool

    @property
    def num_requests(self) -> int:
        """N."""
        return self.workload.num_requests

    @property
    def queried_blocks(self) -> int:
        """Blocks looked up by all requests. O(N)."""
        return int(self.prompt_blocks.sum(dtype=np.int64))

    @property
    def total_blocks(self) -> int:
        """Blocks of all paths: the accesses of the pass. O(N)."""
        return int(self.arrays.blocks.sum(dtype=np.int64))


def request_paths(
    workload: Workload,
    block_size: int,
    *,
    count_partial: bool = False,
    with_outputs: bool = False,
) -> Paths:
    """Return the paths of a workload whose prefixes are known. O(N), whatever the block size.

    Args:
        workload: the requests.
        block_size: tokens per block; a divisor or a multiple of the workload's identities.
        count_partial: the partial block at the end of a prompt is a block like the others, as in
            most papers; vLLM caches full blocks only.
        with_outputs: the blocks that a request's answer fills are cached too, as in vLLM. They are
            hit where the trace identifies outputs, and only take room where it does not.

    Raises: InputError for a trace without prefixes, or a block size that does not fit it.
    """
    if count_partial and with_outputs:
        raise InputError(
            "a partial block at a prompt's end is filled by the answer: count one or the other",
            field="count_partial",
        )
    cut = prompt_blocks(workload, block_size, count_partial=count_partial)
    prompt = workload.prompt_tokens.astype(np.int64)
    servable, last_block_tokens = (prompt - 1) // block_size, np.zeros_like(prompt)
    looked_up = held = cut.counts
    if count_partial:
        servable = looked_up
        last_block_tokens = prompt - held * block_size
    elif with_outputs:
        # The last sampled token is never computed.
        held = (prompt + workload.output_tokens - 1) // block_size
    identified = held if with_outputs and workload.outputs_identified else looked_up
    if held.max(initial=0) > _MOST_BLOCKS:
        raise InputError("a request is too long", field="block_size", value=block_size)
    arrays = PathArrays(
        ids=workload.ids,
        id_offsets=workload.id_offsets,
        identified=identified.astype(np.int32),
        blocks=held.astype(np.int32),
        ids_per_block=cut.ids_per_block,
        blocks_per_id=cut.blocks_per_id,
    )
    return Paths(
        workload=workload,
        block_size=block_size,
        arrays=arrays,
        prompt_blocks=looked_up.astype(np.int32),
        servable=servable.astype(np.int32),
        last_block_tokens=last_block_tokens.astype(np.int32),
        count_partial=count_partial,
        with_outputs=with_outputs,
    )
