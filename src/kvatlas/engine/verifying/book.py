"""What the calls imply of each request: tokens, computed, in flight, as vLLM's scheduler counts.

Owns: the counts that a call of the manager depends on but does not carry. Leaves to others: blocks.
Mirrors `_update_after_schedule`, `_preempt_request` and `update_from_output` of
v1/core/sched/scheduler.py and async_scheduler.py, vLLM 0.32.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvatlas.engine.kernels.state import NONE
from kvatlas.engine.verifying.verdict import Difference, DifferenceFound
from kvatlas.events.live.calls import Arrived, Hashed, Sampled, StepEnded

__all__ = ["Book", "Tracked"]


@dataclass(slots=True)
class Tracked:
    """A live request.

    Attributes:
        num_tokens: prompt and output so far.
        keys: numbers of its block hashes so far.
        computed, in_flight, placeholders, stale: vLLM's num_computed_tokens,
            num_in_flight_tokens, num_output_placeholders, num_stale_output_tokens.
        boundary: vLLM's shared_prefix_boundary.
        running: whether it holds blocks.
    """

    row: int
    name: str
    prompt: int
    num_tokens: int
    keys: list[int] = field(default_factory=list)
    computed: int = 0
    in_flight: int = 0
    placeholders: int = 0
    stale: int = 0
    boundary: int = 0
    running: bool = False


class Book:
    """All live requests, the steps whose outputs are awaited, and a number for every hash.

    Memory: per distinct hash some 150 bytes; per live request its keys.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.requests: dict[int, Tracked] = {}
        self.running = 0
        self._number: dict[bytes, int] = {}
        self._hashes: list[bytes] = []
        self._awaited: dict[int, dict[int, tuple[int, bool]]] = {}

    def number(self, digest: bytes) -> int:
        """Return the number of a hash, a new one on first sight."""
        number = self._number.get(digest)
        if number is None:
            number = self._number[digest] = len(self._hashes)
            self._hashes.append(digest)
        return number

    def hash_of(self, number: int) -> str:
        """Return the start of a hash, for people."""
        return self._hashes[number].hex()[:8] if number < len(self._hashes) else "hash unknown"

    def request(self, row: int) -> Tracked:
        """Return a live request. Raises: DifferenceFound where nobody with that row lives."""
        tracked = self.requests.get(row)
        if tracked is None:
            raise DifferenceFound(Difference("request", f"row {row}", "no such live request"))
        return tracked

    def arrive(self, call: Arrived) -> None:
        """Let a request come."""
        if call.row in self.requests:
            raise DifferenceFound(Difference("request", "arrives", "is there already"))
        self.requests[call.row] = Tracked(
            call.row, call.name, call.prompt_tokens, call.prompt_tokens,
            [self.number(digest) for digest in call.hashes],
        )  # fmt: skip

    def hash(self, call: Hashed) -> None:
        """Add hashes of a request's later blocks."""
        tracked = self.request(call.row)
        known = len(tracked.keys)
        if call.first != known:
            raise DifferenceFound(
                Difference("first hash", f"of block {call.first}", f"{known} blocks are known")
            )
        tracked.keys.extend(self.number(digest) for digest in call.hashes)

    def start(self, tracked: Tracked, hit_tokens: int) -> None:
        """Let a request run that has just been given its first slots."""
        if not tracked.running:
            tracked.running = True
            self.running += 1
            tracked.computed = hit_tokens

    def stop(self, tracked: Tracked) -> None:
        """Let a request run no more."""
        if tracked.running:
            tracked.running = False
            self.running -= 1

    def preempt(self, tracked: Tracked) -> None:
        """Forget what a request has computed; output in flight is stale."""
        self.stop(tracked)
        tracked.computed = tracked.placeholders = 0
        tracked.stale = tracked.in_flight

    def leave(self, tracked: Tracked) -> None:
        """Forget a request."""
        self.stop(tracked)
        del self.requests[tracked.row]

    def scheduled(self, call: StepEnded) -> None:
        """Advance what was scheduled in a step."""
        awaited = {}
        for row, tokens in zip(call.rows, call.new_tokens, strict=True):
            tracked = self.request(row)
            tracked.computed += tokens
            tracked.in_flight += tokens
            samples = tracked.computed >= tracked.num_tokens + tracked.placeholders
            if self.asynchronous and samples:
                tracked.placeholders += 1
            awaited[row] = tokens, samples
        if awaited:
            self._awaited[call.step] = awaited

    def sampled(self, call: Sampled) -> list[Tracked]:
        """Take in a step's output; return who has got some of it just now.

        The recorder cannot say whose a token is once the request has ended with it: it is theirs
        who sample in this step, live still, and are not named.
        """
        got = dict(zip(call.rows, call.counts, strict=True))
        scheduled = self._awaited.pop(call.step, None)
        if scheduled is None:
            if got:
                raise DifferenceFound(
                    Difference("output", f"of step {call.step}", "no such step awaits its output")
                )
            return []
        delivered = []
        nameless = NONE in got
        for row, (tokens, samples) in scheduled.items():
            request = self.requests.get(row)
            if request is None:
                continue
            count = got.get(row, int(nameless and samples))
            self._take(request, tokens, count)
            if count:
                delivered.append(request)
        return delivered

    def _take(self, request: Tracked, tokens: int, count: int) -> None:
        """Settle `tokens` scheduled tokens of a request, which gave `count` new ones."""
        request.in_flight -= tokens
        is_stale = request.stale > 0
        if is_stale:
            request.stale = max(0, request.stale - tokens)
        request.num_tokens += count
        if self.asynchronous and not is_stale:
            request.placeholders = max(0, request.placeholders - count)
