"""Reads prompts themselves, text or token ids, and keeps nothing of them but salted equalities.

Owns: the keyed hash chain that gives blocks their identities, and the columns of a prompt log. The
log's keys are in `prompt_rows`; `export` writes what comes out of here; the engine never needs it.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from kvatlas.errors import InputError
from kvatlas.workload.chain import chain_ids
from kvatlas.workload.formats import trace_name
from kvatlas.workload.model import MAX_TOKENS, Workload, id_counts
from kvatlas.workload.prompt_rows import BadRow, PromptRow, Scalar, first_given
from kvatlas.workload.readers.jsonl import rows_of
from kvatlas.workload.readers.links import SessionLabels
from kvatlas.workload.readers.order import sorted_by_arrival
from kvatlas.workload.readers.times import iso_ticks

__all__ = ["BYTES_PER_TOKEN", "read_prompts"]

BYTES_PER_TOKEN = 4
"""UTF-8 bytes that stand for one token of a text, as no tokenizer is at hand."""


def read_prompts(path: Path, *, key: bytes, tokens_per_id: int) -> Workload:
    """Return a prompt log as a workload in which only equalities are left. O(bytes of the file).

    A block's identity is BLAKE2b, keyed with `key`, over (the identity of the block before it, the
    block), so no table of known prompts can be matched against it. Prompts as token ids identify
    their outputs too if the first row lists output ids. Texts count `BYTES_PER_TOKEN` UTF-8 bytes
    as a token, and their outputs have a length only.

    Raises: InputError naming the first bad line.
    """
    log = _Log(key, tokens_per_id)
    for rows, chunk in rows_of(path, msgspec.json.Decoder(PromptRow), None):
        for number, row in enumerate(rows):
            try:
                log.add(row)
            except BadRow as bad:
                what, field = bad.args
                raise InputError(
                    what,
                    file=str(path),
                    line=chunk.line_number(number),
                    field=field,
                    remedy="correct or remove the request",
                ) from None
    if not log.prompt_tokens:
        raise InputError("the file holds no requests", file=str(path))
    return log.workload(path)


class _Log:
    """The rows read so far; of the prompts, digests only."""

    def __init__(self, key: bytes, tokens_per_id: int) -> None:
        self.key, self.tokens_per_id = key, tokens_per_id
        self.prompt_tokens = array("q")
        self.with_outputs: bool | None = None
        self._output_tokens = array("q")
        self._arrival_s = array("d")
        self._first_ns: int | None = None
        self._priority = array("i")
        self._raw = bytearray()
        self._sessions = SessionLabels()
        self._salts: dict[Scalar | None, int] = {None: 0}
        self._salt = array("i")
        self._texts = self._no_output = self._no_time = 0

    def add(self, row: PromptRow) -> None:
        """Append one row."""
        tokens, output = row.prompt_tokens(), row.output_ids()
        if tokens is not None:
            covered, prompt_tokens = self._token_bytes(tokens, output), len(tokens)
            step = 8 * self.tokens_per_id
        else:
            covered = row.prompt_text()
            prompt_tokens = -(-len(covered) // BYTES_PER_TOKEN)
            step = BYTES_PER_TOKEN * self.tokens_per_id
            self._texts += 1
            if self.with_outputs:
                raise BadRow("a text, where the first request has token ids with outputs", "prompt")
            self.with_outputs = False
        if not 1 <= prompt_tokens <= MAX_TOKENS:
            raise BadRow(f"a prompt of {prompt_tokens} tokens", "prompt")
        self.prompt_tokens.append(prompt_tokens)
        self._output_tokens.append(self._output_length(row, output))
        self._arrival_s.append(self._seconds(row))
        self._priority.append(_int32(row.priority, "priority"))
        label = first_given(row.session_id, row.conversation_id, row.session)
        self._sessions.add([b"" if label is None else repr(label).encode()])
        salt = first_given(row.cache_salt, row.lora_name)
        self._salt.append(self._salts.setdefault(salt, len(self._salts)))
        digest = b""
        for start in range(0, len(covered), step):
            block = covered[start : start + step]
            digest = blake2b(digest + block, key=self.key, digest_size=16).digest()
            self._raw += digest[:8]

    def _token_bytes(self, tokens: list[int], output: list[int] | None) -> bytes:
        if self.with_outputs is None:
            self.with_outputs = output is not None
        if self.with_outputs and not output:
            raise BadRow("no output token ids, which the first request has", "output_token_ids")
        try:
            return array("q", tokens + (output or []) if self.with_outputs else tokens).tobytes()
        except OverflowError:
            raise BadRow("a token id does not fit in 64 bits", "prompt_token_ids") from None

    def _output_length(self, row: PromptRow, output: list[int] | None) -> int:
        text = row.output_text()
        given = first_given(
            row.output_tokens,
            row.output_length,
            row.completion_tokens,
            row.output_toks,
            None if text is None else -(-len(text.encode()) // BYTES_PER_TOKEN),
            row.max_tokens,
        )
        if output is None and given is None:
            self._no_output += 1
        length: int = first_given(None if output is None else len(output), given, 1)
        if not 0 <= length <= MAX_TOKENS:
            raise BadRow(f"an output of {length} tokens", "output_tokens")
        return max(length, 1)

    def _seconds(self, row: PromptRow) -> float:
        milliseconds = first_given(row.timestamp_ms, row.arrival_time_ms)
        seconds = first_given(row.arrival_time_s, row.arrival_time, row.timestamp)
        ticks_ns = row.arrival_time_ns
        if isinstance(seconds, str):
            try:
                ticks_ns = int(iso_ticks([seconds.encode()])[0])
            except ValueError:
                raise BadRow("not an ISO 8601 time", "timestamp") from None
        if ticks_ns is not None:
            # Differences are exact: seconds since 1970 as a float would lose the microseconds.
            self._first_ns = ticks_ns if self._first_ns is None else self._first_ns
            return (ticks_ns - self._first_ns) / 1e9
        if milliseconds is not None:
            seconds = milliseconds / 1e3
        if seconds is None:
            self._no_time += 1
            return 0.0
        if not np.isfinite(seconds):
            raise BadRow("not a finite time", "timestamp")
        return float(seconds)

    def workload(self, path: Path) -> Workload:
        """Return what was read, in order of arrival."""
        rows = len(self.prompt_tokens)
        if 0 < self._no_time < rows:
            raise InputError(f"{self._no_time:,} of {rows:,} requests have no time", file=str(path))
        prompt = np.array(self.prompt_tokens, dtype=np.int64)
        output = np.array(self._output_tokens, dtype=np.int64)
        covered = prompt + output if self.with_outputs else prompt
        offsets = np.append(0, np.cumsum(id_counts(covered, self.tokens_per_id)))
        salt = np.array(self._salt, dtype=np.int32)
        ids, num_ids = chain_ids(np.frombuffer(self._raw, dtype=np.int64), offsets, salt)
        arrival_s = np.array(self._arrival_s)
        links = self._sessions.links()
        workload = Workload(
            name=trace_name(path),
            source=str(path),
            arrival_s=arrival_s - arrival_s.min(),
            prompt_tokens=prompt.astype(np.int32),
            output_tokens=output.astype(np.int32),
            tokens_per_id=self.tokens_per_id,
            ids=ids,
            id_offsets=offsets,
            num_ids=num_ids,
            prefix_known=True,
            outputs_identified=bool(self.with_outputs),
            session=links.session,
            parent=links.parent,
            priority=np.array(self._priority, dtype=np.int32),
            salt=salt,
            notes=tuple(self._notes()),
        )
        return sorted_by_arrival(workload)

    def _notes(self) -> list[str]:
        notes = []
        if self._texts:
            notes.append(
                f"{self._texts:,} prompts are text: {BYTES_PER_TOKEN} UTF-8 bytes are counted as "
                "one token, so lengths are approximate"
            )
        if self._no_output:
            notes.append(f"{self._no_output:,} requests give no output length; each is read as 1")
        if self._no_time:
            notes.append("no request has a time; all are taken to arrive at once, in file order")
        return notes


def _int32(value: int, field: str) -> int:
    if not -(2**31) <= value < 2**31:
        raise BadRow("the number does not fit in 32 bits", field)
    return value
