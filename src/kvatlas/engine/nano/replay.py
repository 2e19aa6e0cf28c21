"""`NanoReplay`: a workload through the nano-vLLM profile, with the surface of `Replay`.

Owns: setting the engine up as nano-vLLM's and running it in slices. Leaves to others: each step
(`drive`), the result (`engine.replay`), reports (`kvatlas.report`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from kvatlas.engine.kernels.drive import BLOCKED, DONE
from kvatlas.engine.kernels.stream import U32
from kvatlas.engine.nano import drive as nano_drive
from kvatlas.engine.nano.build import adapt, engine_config, grow
from kvatlas.engine.nano.check import check_nano_engine
from kvatlas.engine.nano.config import NanoConfig
from kvatlas.engine.replay import DriveConfig, Replay
from kvatlas.events import Chunk
from kvatlas.workload.model import Workload

_SLICE_STEPS = 1 << 16
_SLICE_TOKENS = 1 << 24


class NanoReplay(Replay):
    """One workload on one simulated nano-vLLM; `run()` once, then read the result.

    The decisions carry the same names as under the vLLM profile. What they mean here:

    * `steps`: calls of the scheduler, each either prefill or decode.
    * `empty_steps`: calls that scheduled nothing, where nano-vLLM's assertion fails; each sets the
      first waiting request aside (or ends the replay with `block_like_vllm`).
    * `scheduled_tokens`: prompt tokens computed (hits not counted), 1 per decoded sequence.
    * `preemptions`: sequences that lost all blocks because a decoding one needed a block.
    * `admissions_new`, `admissions_resumed`: block tables handed out, the first time or again.
    * `prefix_queries`, `prefix_hits`: tokens of the admitted sequences, and those of them that
      cached blocks held, at first admissions; `preempted_queries`, `preempted_hits` at later ones,
      where generated tokens count as well. A refused lookup is not counted.
    * `peak_usage`, `mean_usage`: blocks that some sequence holds over all blocks (there is no null
      block), after each scheduling; the mean is over steps.
    * `mean_running`: sequences that hold blocks. In nano-vLLM's books a prompt between two chunks
      still waits, and sequences beyond `max_num_seqs` run without being scheduled: both count.
    * `alloc_sha256`, `freelist_sha256`: the same stream of words as under the vLLM profile, ids
      from 0.

    What is set aside: requests whose tokens, the last one excepted, need more blocks than the pool
    has; and without chunked prefill, at their turn, those longer than `max_num_batched_tokens`. An
    output's length is the trace's, whichever of the end-of-sequence token and `max_tokens` ended
    it.

    Memory: the pool and its index (about 90 bytes per block), some 170 bytes per request, and block
    tables for the sequences that hold blocks at one time.

    Raises:
        InputError: a block size that does not fit the workload's identities.
    """

    def __init__(
        self,
        workload: Workload,
        config: NanoConfig,
        drive: DriveConfig | None = None,
        *,
        checksum: bool = False,
        on_words: Callable[[U32], None] | None = None,
        on_events: Callable[[Chunk], None] | None = None,
    ) -> None:
        self.nano_config = config
        super().__init__(
            workload,
            engine_config(config, workload.num_requests),
            drive,
            checksum=checksum,
            on_words=on_words,
        )
        self.engine = adapt(self.engine, config)
        if on_events is not None:
            self.listen(on_events)

    def slices(
        self, *, max_steps: int = _SLICE_STEPS, max_tokens: int = _SLICE_TOKENS
    ) -> Iterator[None]:
        """Run slice after slice, yielding between them, until done or blocked."""
        chunked_prefill = int(self.nano_config.rules.chunked_prefill)
        while True:
            started = time.perf_counter()
            status = nano_drive.drive(
                self.engine,
                self._step,
                self._arrivals,
                self._step_time,
                self._sink,
                self._progress,
                chunked_prefill,
                max_steps,
                max_tokens,
            )
            self._drain()
            if status == nano_drive.NEED_SLOTS:
                self._grow()
            elif status == BLOCKED:
                row = int(self._progress.state.blocked_row)
                if self.drive_config.block_like_vllm:
                    self._blocked = row
                    return
                nano_drive.set_aside(self.engine)
                self._rejected.append(row)
            self._engine_s += time.perf_counter() - started
            if status == DONE:
                self._partial = False
                return
            if status != nano_drive.NEED_SLOTS:
                yield

    def check(self) -> None:
        """Check every invariant of the engine; O(blocks + requests). Raises InvariantError."""
        check_nano_engine(self.engine)

    def _grow(self) -> None:
        self.engine, self._step = grow(self.engine, self._step)
        self._progress = self._progress._replace(finished=self._step.preempted.copy())
        self._sink = self._make_sink()
        if self._on_events is not None:
            self.engine = self.engine._replace(pool=self._logged_pool())
