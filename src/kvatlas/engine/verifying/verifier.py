"""Call by call: what the recording says a call did, and what it does to the twin.

Owns: which call of the twin answers which recorded one, counting, the first divergence. Leaves to
others: the twin (`twin`), the requests' counts (`book`), blocks in one form (`effects`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.verifying.book import Book, Tracked
from kvatlas.engine.verifying.effects import NOTHING, Effects, differences, of_recording
from kvatlas.engine.verifying.twin import Twin
from kvatlas.engine.verifying.verdict import (
    Difference,
    DifferenceFound,
    Divergence,
    Verification,
)
from kvatlas.engine.verifying.whole_calls import whole_calls
from kvatlas.engine.verifying.wording import MANAGER_CALLS, name_of, outcome, short, word
from kvatlas.events.live.calls import (
    Allocated,
    Arrived,
    Cached,
    Call,
    Effect,
    Evicted,
    Finished,
    Freed,
    FreedLater,
    Hashed,
    LookedUp,
    PoppedForFree,
    Preempted,
    Reset,
    Sampled,
    StepBegan,
    StepEnded,
)

__all__ = ["Verifier", "verify_calls"]

_REMEMBERED = 8


def verify_calls(
    config: EngineConfig,
    calls: Iterable[Call],
    on_progress: Callable[[int], None] | None = None,
) -> Verification:
    """Make `calls` through a twin under `config` and compare, up to the first divergence.

    Cost: some 15 us a call and 1 us a block. `on_progress` gets the calls made so far, now and
    then. Raises: InputError when a recording cannot be read on.
    """
    verifier = Verifier(config)
    for number, call in enumerate(whole_calls(calls)):
        if not verifier.feed(call):
            break
        if on_progress is not None and number % 4096 == 0:
            on_progress(verifier.calls)
    return verifier.result()


class Verifier:
    """Takes calls one at a time; says False from the first divergence on.

    Attributes:
        calls: calls of the manager so far.
        divergence: the first difference.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.twin = Twin(config)
        self.book = Book(asynchronous=config.async_scheduling)
        self.calls = 0
        self.divergence: Divergence | None = None
        self._step = self._steps = self._requests = 0
        self._blocks: Counter[str] = Counter()
        self._served: dict[int, int] = {}
        self._last: deque[tuple[int, int, Call]] = deque(maxlen=_REMEMBERED)
        self._due: dict[int, Tracked] = {}
        self._caches_output = config.async_scheduling and config.enable_prefix_caching
        self._hash_block = config.resolved_hash_block_size
        self._on: dict[type, Callable[[Any], None]] = {
            Arrived: self._arrived,
            Hashed: self.book.hash,
            StepBegan: self._step_began,
            LookedUp: self._looked_up,
            Allocated: self._allocated,
            Cached: self._cached,
            Preempted: self._preempted,
            Freed: self._freed,
            Finished: self._finished,
            PoppedForFree: self._popped,
            FreedLater: self._freed_later,
            Reset: self._reset,
            Evicted: self._evicted,
            StepEnded: self._step_ended,
            Sampled: self._sampled,
        }

    def feed(self, call: Call) -> bool:
        """Make the next call; True while everything is identical."""
        if self.divergence is not None:
            return False
        kind = type(call)
        if kind in MANAGER_CALLS:
            self.calls += 1
        try:
            self._on[kind](call)
        except DifferenceFound as found:
            self.divergence = self._say(call, found.differences)
            return False
        self._last.append((self.calls, self._step, call))
        return True

    def result(self) -> Verification:
        """Return how far both sides agree."""
        return Verification(
            calls=self.calls,
            steps=self._steps,
            requests=self._requests,
            blocks=dict(sorted(self._blocks.items())),
            divergence=self.divergence,
        )

    # Steps and requests

    def _arrived(self, call: Arrived) -> None:
        _compare("prompt tokens", call.prompt_tokens, max(1, call.prompt_tokens))
        self.book.arrive(call)
        self._requests += 1

    def _step_began(self, call: StepBegan) -> None:
        self._settle()
        self._step = call.step
        self._served.clear()

    def _step_ended(self, call: StepEnded) -> None:
        found = []
        for what, recorded, twin in (
            ("scheduled", dict(zip(call.rows, call.new_tokens, strict=True)), self._served),
            ("running", call.running, self.book.running),
            ("free blocks", call.free_blocks, self.twin.free_blocks),
            ("cached keys", call.cached_keys, self.twin.cached_keys),
        ):
            if recorded != twin:
                found.append(Difference(what, short(recorded, twin), short(twin, recorded)))
        if found:
            raise DifferenceFound(*found)
        self.book.scheduled(call)
        self._steps += 1

    def _sampled(self, call: Sampled) -> None:
        self._settle()
        for request in self.book.sampled(call):
            if request.running and self._completes(request):
                self._due[request.row] = request

    def _preempted(self, call: Preempted) -> None:
        self._settle()
        request = self.book.request(call.row)
        self._served.pop(call.row, None)
        self.book.preempt(request)

    def _finished(self, call: Finished) -> None:
        request = self.book.request(call.row)
        _compare("tokens", call.num_tokens, request.num_tokens)
        if request.running:
            raise DifferenceFound(Difference("blocks", "none was freed", "are held"))
        self._served.pop(call.row, None)
        self.book.leave(request)

    def _completes(self, request: Tracked) -> bool:
        """Whether vLLM caches a block because of the token that a request has just got.

        With asynchronous scheduling only: else it did when it scheduled the token.
        """
        return self._caches_output and _ready(request) % self._hash_block == 0

    def _settle(self, row: int | None = None) -> None:
        """Cache what output has completed though there is no call on record: nothing may be new."""
        due = list(self._due) if row is None else [row] if row in self._due else []
        for late in due:
            request = self._due.pop(late)
            self._compare_effects((), self.twin.cache(request, _ready(request)))

    # The manager

    def _looked_up(self, call: LookedUp) -> None:
        request = self.book.request(call.row)
        _compare("tokens asked for", call.num_tokens, request.num_tokens)
        if call.hit_tokens >= 0:
            _compare("hit tokens", call.hit_tokens, self.twin.lookup(request))

    def _allocated(self, call: Allocated) -> None:
        request = self.book.request(call.row)
        new_tokens = call.new_tokens
        if request.running and (not call.served or new_tokens < 1):
            # The tokens of a call that came to nothing are not on record: at most all there are.
            left = request.num_tokens + request.placeholders - request.computed
            new_tokens = min(left, new_tokens) if new_tokens >= 1 else left
        served, effects = self.twin.allocate(
            request,
            new_tokens,
            call.hit_tokens,
            call.full_sequence_must_fit,
            # vLLM says so itself; what a recording says of it is inferred.
            self.book.running > 0,
            call.lookahead,
        )
        found = []
        if served != call.served:
            words = {True: "slots were given", False: "refused"}
            found.append(Difference("answer", words[call.served], words[served]))
        self._compare_effects(call.effects, effects, found)
        if served:
            self.book.start(request, call.hit_tokens)
            self._served[call.row] = new_tokens

    def _cached(self, call: Cached) -> None:
        request = self.book.request(call.row)
        self._due.pop(call.row, None)
        self._compare_effects(call.effects, self.twin.cache(request, _ready(request)))

    def _freed(self, call: Freed) -> None:
        self._settle(call.row)
        request = self.book.request(call.row)
        self._compare_effects(call.effects, self.twin.free(request))
        self.book.stop(request)

    def _popped(self, call: PoppedForFree) -> None:
        self._settle(call.row)
        request = self.book.request(call.row)
        self.twin.pop(request)
        self.book.stop(request)

    def _freed_later(self, call: FreedLater) -> None:
        blocks = [block for effect in call.effects for block in effect.blocks]
        self._compare_effects(call.effects, self.twin.free_later(blocks))

    def _evicted(self, call: Evicted) -> None:
        blocks = [block for effect in call.effects for block in effect.blocks]
        self._compare_effects(call.effects, self.twin.evict(blocks))

    def _reset(self, call: Reset) -> None:
        _compare("done", call.done, self.twin.reset())

    def _compare_effects(
        self, recorded: tuple[Effect, ...], twin: Effects, found: list[Difference] | None = None
    ) -> None:
        """Raise what differs, with what was `found` before."""
        theirs = of_recording(recorded, self.book.number) if recorded else NOTHING
        differing = [*(found or ()), *differences(theirs, twin, self.book.hash_of)]
        if differing:
            raise DifferenceFound(*differing)
        for kind, blocks in twin.items():
            self._blocks[kind] += len(blocks)

    # Words

    def _say(self, call: Call, found: tuple[Difference, ...]) -> Divergence:
        row = getattr(call, "row", None)
        kind = type(call)
        return Divergence(
            call=self.calls,
            step=self._step,
            request=row,
            name=self._name(row),
            made=name_of(kind),
            differences=found,
            before=tuple(self._line(*last) for last in self._last),
        )

    def _name(self, row: int | None) -> str:
        request = None if row is None else self.book.requests.get(row)
        return "" if request is None else request.name

    def _line(self, number: int, step: int, call: Call) -> str:
        row = getattr(call, "row", None)
        about = "" if row is None else f" of request {row}"
        return f"call {number:,}, step {step:,}: {name_of(type(call))}{about}{outcome(call)}"


def _ready(request: Tracked) -> int:
    """Tokens that asynchronous scheduling caches: what is computed and has its token."""
    return request.computed - request.placeholders


def _compare(what: str, recorded: object, twin: object) -> None:
    if recorded != twin:
        raise DifferenceFound(Difference(what, word(recorded), word(twin)))
