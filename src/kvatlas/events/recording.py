"""Reading a recording: Parquet or an Arrow stream, whole or cut off, never trusted.

Owns: opening a file, telling what it is not, chunks in bounded memory. Leaves to others: checking
each event (`resolve`, `state`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kvatlas.errors import InputError
from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header, decode_header
from kvatlas.events.resolve import Resolver
from kvatlas.events.schema import BY_INTERRUPTED, ENDED, EVENT, EVICTED, NONE
from kvatlas.events.writer import HEADER_KEY

__all__ = ["AnyRecording", "Recording", "open_recording"]

_BATCH_ROWS = 1 << 17
_PARQUET_MAGIC = b"PAR1"
_STREAM_MAGIC = b"\xff\xff\xff\xff"

CUT_OFF = "the recording is cut off: everything up to the cut is shown"
INTERRUPTED = "the run was interrupted: everything up to there is shown"


class AnyRecording(Protocol):
    """What a recording is to those who read it, whoever wrote it; see `Recording`."""

    path: str
    header: Header
    names: dict[int, str]
    partial: str
    events: int

    def chunks(self) -> Iterator[Chunk]:
        """Yield the events in order. Raises: InputError."""
        ...

    def resolved(self) -> Iterator[Chunk]:
        """Yield the events with the ids of all blocks, in pieces of bounded size."""
        ...


class Recording:
    """A recording on disk; every pass over it reads the file again.

    Attributes:
        path: the file.
        header: what holds for the whole recording.
        names: requests' own ids, known after a pass.
        partial: why it is only a part, empty when it is whole; known after a pass.
        events: events seen by the last full pass.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: dict[int, str] = {}
        self.partial = ""
        self.events = 0
        self._parquet = _is_parquet(path)
        metadata = self._metadata()
        if HEADER_KEY not in metadata:
            raise InputError(
                "not a recording of kvatlas", file=path,
                remedy="record one with: kvatlas replay --events",
            )  # fmt: skip
        self.header: Header = decode_header(metadata[HEADER_KEY], path)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the events in order, some 100,000 at a time. Raises: InputError."""
        from kvatlas.events.columns import from_arrow

        self.names, self.partial, self.events = {}, CUT_OFF, 0
        left = Chunk(np.empty(0, EVENT), np.empty(0, np.int32))
        for batch in self._batches():
            chunk, left = _split(left, from_arrow(batch, self.names, self.path))
            if len(chunk.rows) and chunk.rows["event"][-1] == ENDED:
                interrupted = chunk.rows["cause"][-1] == BY_INTERRUPTED
                self.partial = INTERRUPTED if interrupted else ""
            self.events += len(chunk.rows)
            yield chunk

    def resolved(self) -> Iterator[Chunk]:
        """Yield the events with the ids of all blocks, in pieces of bounded size."""
        resolver = Resolver(self.header, self.path)
        for chunk in self.chunks():
            yield from resolver.pieces(chunk)

    def _metadata(self) -> dict[bytes, bytes]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self._parquet:
                schema = pq.ParquetFile(self.path).schema_arrow
            else:
                with pa.OSFile(self.path) as source, pa.ipc.open_stream(source) as stream:
                    schema = stream.schema
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error
        return dict(schema.metadata or {})

    def _batches(self) -> Iterator[Any]:
        return self._parquet_batches() if self._parquet else self._stream_batches()

    def _parquet_batches(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.path, read_dictionary=["event", "cause"])
            yield from file.iter_batches(batch_size=_BATCH_ROWS)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _stream_batches(self) -> Iterator[Any]:
        import pyarrow as pa

        with pa.OSFile(self.path) as source:
            try:
                stream = pa.ipc.open_stream(source)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged(error) from error
            while True:
                try:
                    batch = stream.read_next_batch()
                except StopIteration:
                    return
                except (pa.ArrowException, OSError, ValueError):
                    # Cut in the middle of a batch: what came before it is whole.
                    return
                yield batch

    def _damaged(self, error: BaseException) -> InputError:
        said = " ".join(str(error).split())[:80]
        return InputError(
            f"damaged: {said}", file=self.path, remedy="record again; a file that ends in .arrows "
            "can be read up to any cut",
        )  # fmt: skip


def open_recording(path: str) -> AnyRecording:
    """Open a recording: a file, or a folder that a live server's recorder wrote.

    Raises: InputError saying what it is not.
    """
    if Path(path).is_dir():
        from kvatlas.events.live.recording import LiveRecording

        return LiveRecording(path)
    return Recording(path)


def _split(left: Chunk, chunk: Chunk) -> tuple[Chunk, Chunk]:
    """Return `left` and `chunk` as one, less evictions at its end, and those.

    A file may be batched anywhere, but an eviction's blocks are named by the allocation after it.
    """
    if len(left.rows):
        chunk = Chunk(np.concatenate((left.rows, chunk.rows)), chunk.ids)
    rows = chunk.rows
    waiting = (rows["event"] == EVICTED) & (rows["blocks_at"] == NONE)
    stop = len(rows)
    while stop and waiting[stop - 1]:
        stop -= 1
    return Chunk(rows[:stop], chunk.ids), Chunk(rows[stop:], chunk.ids)


def _is_parquet(path: str) -> bool:
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError("a directory, not a recording", file=path)
        with file.open("rb") as opened:
            head = opened.read(4)
            size = opened.seek(0, 2)
            opened.seek(max(0, size - 4))
            tail = opened.read(4)
    except OSError as error:
        raise InputError(f"{error.strerror}", file=path, remedy="name a recording") from error
    if head == _PARQUET_MAGIC:
        if size < 12 or tail != _PARQUET_MAGIC:
            raise InputError(
                "cut off: a Parquet file is read from its end, which is missing",
                file=path,
                value=f"{size:,} bytes",
                remedy="record to a file that ends in .arrows: it can be read up to any cut",
            )
        return True
    if head != _STREAM_MAGIC:
        raise InputError(
            "not a recording: neither Parquet nor an Arrow stream" if size else "an empty file",
            file=path,
            remedy="record one with: kvatlas replay --events",
        )
    return False
