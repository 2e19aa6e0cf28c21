"""Writing a recording: Parquet, or an Arrow stream that can be read up to any cut.

Owns: the file, its header, the thread that encodes while the engine runs on. Leaves to others:
columns (`columns`), reading (`recording`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header
from kvatlas.events.schema import BY_COMPLETE, BY_INTERRUPTED, COLUMNS, ENDED, EVENT

__all__ = ["HEADER_KEY", "STREAM_SUFFIXES", "EventWriter"]

HEADER_KEY = b"kvatlas.events"
STREAM_SUFFIXES = (".arrow", ".arrows", ".ipc")
"""Files with these endings are Arrow streams; all others are Parquet."""

_BATCHES_AHEAD = 2
_STREAM_ROWS = 1 << 14
"""Rows of a stream's batch: what a cut loses at most."""


class EventWriter:
    """Writes chunks to a file, in a thread of its own.

    A Parquet file appears at `path` when it is closed, whole. A stream grows at `path`, and what
    is in it stays readable whatever happens to the process.

    Args:
        path: where to.
        header: what holds for the whole recording.
        sessions: (R,) the session of each request, -1 without.
        names: (R,) each request's own id.

    Raises: InputError when the file cannot be written.
    """

    def __init__(
        self,
        path: str,
        header: Header,
        *,
        sessions: NDArray[np.int32] | None = None,
        names: Sequence[str | None] | None = None,
    ) -> None:
        from kvatlas.events.columns import arrow_schema

        self.path = Path(path)
        self.events = 0
        self._sessions, self._names = sessions, names
        self._schema = arrow_schema({HEADER_KEY: header.encode()})
        self._streams = self.path.suffix in STREAM_SUFFIXES
        self._unfinished = self.path
        if not self._streams:
            self._unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._last = (0, 0.0)
        self._error: BaseException | None = None
        self._sink = self._open()
        self._queue: Queue[Any] = Queue(_BATCHES_AHEAD)
        self._thread = Thread(target=self._work, name="kvatlas-events", daemon=True)
        self._thread.start()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def append(self, chunk: Chunk) -> None:
        """Add a chunk, whose memory may be used again at once. Raises: InputError."""
        from kvatlas.events.columns import to_arrow

        if len(chunk.rows) == 0:
            return
        last = chunk.rows[-1]
        self._last = (int(last["step"]), float(last["time_ms"]))
        self.events += len(chunk.rows)
        batch = to_arrow(chunk, self._schema, self._sessions, self._names)
        step = _STREAM_ROWS if self._streams else batch.num_rows
        for start in range(0, batch.num_rows, step):
            self._put(batch.slice(start, step))

    def close(self, *, interrupted: bool = False) -> None:
        """Add the event `ended` and finish the file. Raises: InputError."""
        end = np.zeros(1, EVENT)
        for column in COLUMNS:
            end[column.name] = column.absent
        end["blocks_at"] = -1
        end["event"] = ENDED
        end["cause"] = BY_INTERRUPTED if interrupted else BY_COMPLETE
        end["step"], end["time_ms"] = self._last
        self.append(Chunk(end, np.empty(0, np.int32)))
        self._finish()
        try:
            self._raise()
            if self._unfinished != self.path:
                self._unfinished.replace(self.path)
        except OSError as error:
            self._clear()
            raise self._unwritable(error) from error
        except InputError:
            self._clear()
            raise

    def abandon(self) -> None:
        """Give up: a Parquet file leaves nothing behind, a stream what it has."""
        self._finish()
        self._clear()

    def _clear(self) -> None:
        if not self._streams:
            self._unfinished.unlink(missing_ok=True)

    def _open(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self._streams:
                options = pa.ipc.IpcWriteOptions(compression="zstd", emit_dictionary_deltas=True)
                return pa.ipc.new_stream(str(self._unfinished), self._schema, options=options)
            return pq.ParquetWriter(
                str(self._unfinished),
                self._schema,
                # Split by bytes, the ids would take half the room, but duckdb before 2.0 cannot
                # read that.
                compression="zstd",
                compression_level=1,
                use_dictionary=["event", "cause"],
                write_statistics=False,
            )
        except OSError as error:
            raise self._unwritable(error) from error

    def _put(self, batch: object) -> None:
        self._raise()
        self._queue.put(batch)

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._sink.write_batch(batch)
                except BaseException as error:
                    self._error = error

    def _finish(self) -> None:
        self._queue.put(None)
        self._thread.join()
        try:
            self._sink.close()
        except OSError as error:
            self._error = self._error or error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._unwritable(self._error) from self._error

    def _unwritable(self, error: BaseException) -> InputError:
        return InputError(
            f"cannot be written: {getattr(error, 'strerror', None) or error}",
            file=str(self.path),
            field="--events",
            remedy="choose another path",
        )
