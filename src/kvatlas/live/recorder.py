"""The recorder: collects a step's words and commits them; notices what goes wrong and carries on.

Owns: the buffer, request numbers, the clock, windows of sampling, what happens after an error or on
a full disk. Leaves to others: which calls are listened to (`hooks`), files (`kvatlas.wire`), what a
checkpoint says (`checkpoint`).

Nothing in here may raise into the engine. Words are collected in a list and committed when a call
of the scheduler is over, so that a recording ends with a whole step whatever kills the process.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvatlas.live.checkpoint import checkpoint_bytes, holds_blocks
from kvatlas.wire import layout
from kvatlas.wire.layout import MASK31, padded
from kvatlas.wire.segment_log import AT_FAULTS, AT_LOST, AT_ROWS, SegmentLog

__all__ = ["NONE", "Recorder"]

NONE = -1
_MOST_FAULTS = 100
"""After so many errors the recorder gives up: something is wrong with it, not with a request."""
_SAID_CHARS = 300
_DIGEST = struct.Struct("8i")


class Recorder:
    """One engine's recording.

    Args:
        folder: the engine's own.
        segment_bytes, most_bytes: see `SegmentLog`.
        engine: the scheduler, read when a checkpoint is due.
        clock_ns: nanoseconds, never going backwards (if it does, time stands still and it counts).
        say: gets one line for the server's log.

    Attributes:
        buffer: words that are not committed yet; hooks extend it.
        rows: numbers of the requests that the engine knows, by id.
        hashed: how many block hashes of each are written, by number.
        next_row: the number of the next request.
        faults: errors in hooks so far.
        lost_records: found no room on the disk.
        clock_steps_back: times the clock went backwards.
    """

    def __init__(
        self,
        folder: Path,
        *,
        engine: Any,
        segment_bytes: int,
        most_bytes: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.engine = engine
        self.buffer: list[int] = []
        self.rows: dict[str, int] = {}
        self.hashed: dict[int, int] = {}
        self.next_row = 0
        self.step = 0
        self.faults = self.lost_records = self.clock_steps_back = 0
        self.said_fault = ""
        self.stopped = False
        self.on_stop: Callable[[], None] = lambda: None
        self.on_checkpoint: Callable[[], None] = lambda: None
        self._say = say
        self._clock_ns, self._start_ns, self._last_us = clock_ns, clock_ns(), 0
        self._log = SegmentLog(folder, segment_bytes=segment_bytes, most_bytes=most_bytes)
        self._rows_written = 0
        # Bytes that stand in the batch behind so many words of the buffer.
        self._blobs: list[tuple[int, bytes]] = []
        self._missing = False

    def now_us(self) -> int:
        """Return microseconds since the recording began, never fewer than before."""
        now = (self._clock_ns() - self._start_ns) // 1000
        if now < self._last_us:
            # Stand still; from here on count on from there.
            self.clock_steps_back += 1
            if self.clock_steps_back == 1:
                self._say("kvatlas: the clock went backwards; recorded time stands still meanwhile")
            self._start_ns -= (self._last_us - now) * 1000
            return self._last_us
        self._last_us = now
        return now

    def elapsed_ms(self) -> float:
        """Return the same clock in milliseconds, for another thread."""
        return (self._clock_ns() - self._start_ns) / 1e6

    def begin(self) -> None:
        """Write the first checkpoint."""
        self._log.fresh = True
        self._missing = True
        self.flush()

    def row_of(self, request: Any) -> int:
        """Give a request its number and say all that is known of it."""
        name = request.request_id
        row = self.rows.get(name)
        if row is not None:
            return row
        row = self.number(name)
        now = self.now_us()
        said = name.encode(errors="replace")[:255]
        hashes = request.block_hashes
        size = len(hashes[0]) if hashes else 0
        data = padded(said) + padded(b"".join(hashes))
        sampling = request.sampling_params
        most = (sampling.max_tokens if sampling is not None else 1) or 0
        priority = request.priority & (1 << 62) - 1
        self.put(
            layout.ARRIVED, row, now & MASK31, now >> 31, request.num_prompt_tokens,
            min(most, MASK31), priority & MASK31, priority >> 31, len(said), size, len(hashes),
            data=data,
        )  # fmt: skip
        self.hashed[row] = len(hashes)
        return row

    def number(self, name: str) -> int:
        """Give a request the next number."""
        row, self.next_row = self.next_row, self.next_row + 1
        self.rows[name] = row
        self.hashed[row] = 0
        return row

    def forget(self, name: str) -> None:
        """Let a request that has ended go."""
        self.hashed.pop(self.rows.pop(name, NONE), None)

    def write_hashes(self, row: int, hashes: Any, needed: int) -> None:
        """Write the block hashes of a request that are new since the last time, up to `needed`."""
        first = self.hashed[row]
        if needed == first + 1 and len(hashes[first]) == _DIGEST.size:
            # A decoded block: what happens most often.
            head = layout.HASHED | 13 << 8
            self.buffer.extend((head, row, first, _DIGEST.size, 1, *_DIGEST.unpack(hashes[first])))
            self.hashed[row] = needed
            return
        new = hashes[first:needed]
        if new:
            data = padded(b"".join(new))
            self.put(layout.HASHED, row, first, len(new[0]), len(new), data=data)
            self.hashed[row] = first + len(new)

    def put(self, code: int, *words: int, data: bytes = b"") -> None:
        """Add a record; `data` are whole words that follow the others."""
        length = 1 + len(words) + len(data) // 4
        if length > layout.LONGEST_RECORD:
            raise ValueError(f"a record of {length} words")
        self.buffer.extend((code | length << 8, *words))
        if data:
            self._blobs.append((len(self.buffer), data))

    def insert(self, at: int, *words: int) -> None:
        """Put a record's words in front of those collected from `at` on."""
        self.buffer[at:at] = words
        self._blobs = [(end + len(words) * (end > at), data) for end, data in self._blobs]

    def flush(self) -> None:
        """Commit what was collected. O(words); a new segment takes a checkpoint: O(blocks)."""
        if self.stopped:
            self._drop()
            return
        try:
            log = self._log
            if self._blobs or self._missing or log.fresh or self._rows_written != self.next_row:
                self._commit()
            elif log.append(self.buffer):
                self.buffer.clear()
                if self._log.fresh:
                    self._write_checkpoint()
            else:
                self._lose()
        except Exception as error:
            self.fail(error)
            self._give_up(f"recording stops, vLLM goes on: {error}")

    def fail(self, error: BaseException) -> None:
        """Count an error of a hook; what was collected is dropped up to the next checkpoint."""
        self.faults += 1
        self.said_fault = f"{type(error).__name__}: {error}"[:_SAID_CHARS]
        self.lost_records += self._drop()
        self._missing = True
        if self.faults == 1:
            self._say(f"kvatlas: error while recording, vLLM is not affected: {self.said_fault}")
        if self.faults >= _MOST_FAULTS:
            self._give_up(f"recording stops after {self.faults} errors, vLLM goes on")

    def leave_gap(self) -> None:
        """Say that nothing is recorded from here on, until `go_on`."""
        now = self.now_us()
        self.put(layout.GAP, now & MASK31, now >> 31)
        self.flush()

    def go_on(self) -> None:
        """Record again, from a checkpoint."""
        live = self.engine.requests
        for name in [name for name in self.rows if name not in live]:
            self.forget(name)
        self._missing = True
        self.flush()

    def close(self) -> None:
        """End the recording properly."""
        if self.stopped:
            return
        now = self.now_us()
        self.put(layout.CLOSED, now & MASK31, now >> 31)
        # Nobody comes after this to find the room that there may be again.
        self._log.try_now()
        self.flush()
        self.stopped = True
        self._log.close()

    def _commit(self) -> None:
        """Commit what is not just some words."""
        if self._missing:
            # What is in the buffer leans on what was lost: a checkpoint takes its place.
            self._resume()
            return
        if not self._log.append_bytes(self._batch()):
            self._lose()
            return
        self.buffer.clear()
        self._blobs.clear()
        if self._rows_written != self.next_row:
            self._rows_written = self.next_row
            self._log.put(AT_ROWS, self._rows_written)
        if self._log.fresh:
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        self._tell_all_hashes()
        if not self._missing and self._log.append_bytes(checkpoint_bytes(self)):
            self._log.fresh = False
            self.on_checkpoint()
        else:
            self._lose()

    def _tell_all_hashes(self) -> None:
        """Who reads on from before a checkpoint has to know the hashes that it tells, too."""
        for name, request in self.engine.requests.items():
            row = self.rows.get(name)
            if row is not None and holds_blocks(self.engine, name):
                self.write_hashes(row, request.block_hashes, len(request.block_hashes))
        if self.buffer and not self._log.append_bytes(self._batch()):
            self._lose()
        self.buffer.clear()
        self._blobs.clear()

    def _batch(self) -> bytes:
        """Return the buffer with its blobs in their places."""
        parts, at = [], 0
        for end, data in self._blobs:
            parts += [struct.pack(f"{end - at}i", *self.buffer[at:end]), data]
            at = end
        parts.append(struct.pack(f"{len(self.buffer) - at}i", *self.buffer[at:]))
        return b"".join(parts)

    def _drop(self) -> int:
        """Forget what was collected; return how many records it was."""
        blobs = {end: len(data) // 4 for end, data in self._blobs}
        buffer = self.buffer
        count = at = 0
        while at < len(buffer):
            length = max(1, buffer[at] >> 8)
            # A record's words in the buffer end where its blob stands.
            ends = (end for end, words in blobs.items() if at < end == at + length - words)
            at = next(ends, at + length)
            count += 1
        buffer.clear()
        self._blobs.clear()
        return count

    def _lose(self) -> None:
        if not self._missing:
            self._say(f"kvatlas: recording waits for room: {self._log.full}; vLLM goes on")
        self.lost_records += self._drop()
        self._missing = True
        self._log.put(AT_LOST, self.lost_records)

    def _resume(self) -> None:
        """Say what was lost and begin anew, in place of what leans on it."""
        closes = len(self.buffer) >= 3 and self.buffer[-3] & 255 == layout.CLOSED
        end = self.buffer[-3:] if closes else []
        self.lost_records += self._drop() - int(closes)
        self._log.put(AT_LOST, self.lost_records)
        if not self._log.tries:
            return
        if self.lost_records:
            self.put(layout.LOST, self.lost_records & MASK31, self.lost_records >> 31)
        if self.faults:
            said = padded(self.said_fault.encode(errors="replace"))
            self.put(layout.FAULT, self.faults, data=said)
        batch = self._batch() + checkpoint_bytes(self) + struct.pack(f"{len(end)}i", *end)
        appended = self._log.append_bytes(batch)
        self.buffer.clear()
        self._blobs.clear()
        if appended:
            self._missing = self._log.fresh = False
            self._log.put(AT_ROWS, self.next_row)
            self._log.put(AT_LOST, self.lost_records)
            self._log.put(AT_FAULTS, self.faults)
            self.on_checkpoint()

    def _give_up(self, why: str) -> None:
        if self.stopped:
            return
        self.stopped = True
        self._log.put(AT_FAULTS, self.faults)
        self._log.put(AT_LOST, self.lost_records)
        self._log.close()
        self._say(f"kvatlas: {why}")
        self.on_stop()
