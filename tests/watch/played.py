"""Recordings in memory, played on a clock that a test moves."""

from __future__ import annotations

from collections.abc import Iterator

from streams import Stream

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import Chunk, Header
from kvatlas.watch.playing import FileFeed
from kvatlas.workload import generate


class Clock:
    """Seconds, as far as the test has moved them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class InMemory:
    """A recording that is nowhere on a disk."""

    def __init__(self, stream: Stream, partial: str = "") -> None:
        self.path, self.partial = "in-memory.arrows", partial
        self.header: Header = stream.header
        self.names = {row: f"chat-{row}" for row in range(stream.header.num_requests)}
        self._raw = stream.raw

    def chunks(self) -> Iterator[Chunk]:
        """Yield copies, as reading a file does."""
        yield from (chunk.copy() for chunk in self._raw)


def busy_stream(requests: int = 40, blocks: int = 260) -> Stream:
    """Replay conversations on a pool that is too small for them."""
    chunks: list[Chunk] = []
    replay = Replay(
        generate("conversation", seed=3, num_requests=requests),
        EngineConfig(num_blocks=blocks, max_num_seqs=12, max_num_batched_tokens=1024),
        DriveConfig(arrivals="timed"),
        on_events=lambda chunk: chunks.append(chunk.copy()),
    )
    replay.run()
    header = recording_header(replay, version="test", engine="vLLM 0.32")
    return Stream(header, tuple(chunks), replay)


def played(stream: Stream, speed: float = 1.0) -> tuple[FileFeed, Clock]:
    """Return a feed of the stream and its clock."""
    clock = Clock()
    return FileFeed(InMemory(stream), speed, clock=clock), clock
