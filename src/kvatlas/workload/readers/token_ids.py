"""JSONL traces with the token ids themselves, of the prompt and (usually) of the output.

Keys: `input_tok_ids` or `prompt_token_ids`; `output_tok_ids` or `output_token_ids`; optional
`input_toks` and `output_toks` (must agree with the lists; `output_toks` is needed without a list);
`arrival_time_ns`, or seconds as `arrival_time_s`, `arrival_time` or `timestamp`. A request is cut
into blocks of `identity_tokens` over prompt *and* output, so a follow-up turn that repeats an
answer finds it. A block's raw id is the 64-bit BLAKE2b of its tokens: two different blocks are
confused only if they collide *and* follow the same prefix.
Source of the first form: casys-kaist/LLMServingSim, workloads/.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from kvatlas.errors import InputError
from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.block_hash import check_span
from kvatlas.workload.readers.columns import FieldNames, Identities, Rows, int_column
from kvatlas.workload.readers.jsonl import field_names, rows_of
from kvatlas.workload.readers.text import Chunk

__all__ = ["READER"]

_NAMES = FieldNames("arrival time", "input_toks", "output_toks")
_UNKNOWN_TOKEN = -(2**62)  # stands for an output token that the trace does not have


class _Request(msgspec.Struct, gc=False):
    input_tok_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    output_tok_ids: list[int] | None = None
    output_token_ids: list[int] | None = None
    input_toks: int | None = None
    output_toks: int | None = None
    arrival_time_ns: int | None = None
    arrival_time_s: float | None = None
    arrival_time: float | None = None
    timestamp: float | None = None

    def prompt(self) -> list[int] | None:
        return self.prompt_token_ids if self.input_tok_ids is None else self.input_tok_ids

    def output(self) -> list[int] | None:
        return self.output_token_ids if self.output_tok_ids is None else self.output_tok_ids

    def seconds(self) -> float | None:
        given = (self.arrival_time_s, self.arrival_time, self.timestamp)
        return next((value for value in given if value is not None), None)


class _Requests:
    """Columns of the requests read so far; the first one decides what all of them must have."""

    def __init__(self, path: Path, identity_tokens: int, sort: bool) -> None:
        self.rows = Rows(path, _NAMES, sort=sort)
        self.identities = Identities(identity_tokens)
        self.units_per_s = 1.0
        self._first_ns = 0

    def add(self, decoded: Sequence[_Request], chunk: Chunk) -> None:
        """Append a chunk's requests. Raises: InputError naming the first bad line."""
        if not len(self.rows):
            self.identities.with_outputs = decoded[0].output() is not None
            if decoded[0].arrival_time_ns is not None:
                self.units_per_s, self._first_ns = 1e9, decoded[0].arrival_time_ns
        prompts: list[int] = []
        outputs: list[int] = []
        arrivals: list[float] = []
        for row, request in enumerate(decoded):
            prompts.append(self._length(request.prompt(), request.input_toks, "input", row, chunk))
            outputs.append(self._output_length(request, row, chunk))
            arrivals.append(self._arrival(request, row, chunk))
        line_of = chunk.line_number
        first_row = len(self.rows)
        self.rows.add(
            np.array(arrivals, dtype=np.float64),
            int_column(prompts, chunk.file, _NAMES.prompt, line_of),
            int_column(outputs, chunk.file, _NAMES.output, line_of),
            line_of,
        )
        digests = [self._blocks(r, row, first_row, chunk) for row, r in enumerate(decoded)]
        counts = np.array([len(digest) // 8 for digest in digests], dtype=np.int64)
        self.identities.add(np.frombuffer(b"".join(digests), dtype=np.int64), counts)

    def _length(
        self, tokens: list[int] | None, given: int | None, side: str, row: int, chunk: Chunk
    ) -> int:
        if tokens is None:
            raise _bad("the token ids are missing", chunk, row, f"{side}_tok_ids")
        if given is not None and given != len(tokens):
            what = f"{len(tokens):,} token ids are listed"
            raise _bad(what, chunk, row, f"{side}_toks", given)
        return len(tokens)

    def _output_length(self, request: _Request, row: int, chunk: Chunk) -> int:
        if self.identities.with_outputs:
            return self._length(request.output(), request.output_toks, "output", row, chunk)
        if request.output() is not None:
            what = "token ids of an output, which the first request does not have"
            raise _bad(what, chunk, row, "output_tok_ids")
        if request.output_toks is None:
            raise _bad("the field is missing", chunk, row, "output_toks")
        return request.output_toks

    def _arrival(self, request: _Request, row: int, chunk: Chunk) -> float:
        if self.units_per_s != 1.0:
            if request.arrival_time_ns is None:
                raise _bad("the field is missing", chunk, row, "arrival_time_ns")
            since_first = request.arrival_time_ns - self._first_ns
            if abs(since_first) >= 2**63:
                what = "the number does not fit in 64 bits"
                raise _bad(what, chunk, row, "arrival_time_ns", request.arrival_time_ns)
            return float(since_first)
        seconds = request.seconds()
        if seconds is None:
            raise _bad("the field is missing", chunk, row, "arrival_time_ns")
        return seconds

    def _blocks(self, request: _Request, row: int, first_row: int, chunk: Chunk) -> bytes:
        """Return the 8-byte digest of each block of the request's tokens, one after another."""
        tokens = array("q")
        try:
            tokens.fromlist(request.prompt() or [])
            if self.identities.with_outputs:
                # An empty output is read as one token, whose id nobody knows.
                tokens.fromlist(request.output() or [_UNKNOWN_TOKEN - first_row - row])
        except OverflowError:
            raise _bad("a token id does not fit in 64 bits", chunk, row, "input_tok_ids") from None
        data = tokens.tobytes()
        step = 8 * self.identities.tokens_per_id
        return b"".join(
            blake2b(data[start : start + step], digest_size=8).digest()
            for start in range(0, len(data), step)
        )


def _bad(what: str, chunk: Chunk, row: int, field: str, value: object = None) -> InputError:
    return InputError(
        what,
        file=str(chunk.file),
        line=chunk.line_number(row),
        field=field,
        value=value,
        remedy="correct or remove the request",
    )


def _sniff(head: bytes, path: Path) -> bool:
    return bool(field_names(head) & {"input_tok_ids", "prompt_token_ids"})


def _read(
    path: Path, *, limit: int | None = None, identity_tokens: int = 16, sort: bool = False
) -> Workload:
    check_span("identity_tokens", identity_tokens)
    requests = _Requests(path, identity_tokens, sort)
    for decoded, chunk in rows_of(path, msgspec.json.Decoder(_Request), limit):
        requests.add(decoded, chunk)
    return requests.rows.finish(units_per_s=requests.units_per_s, identities=requests.identities)


READER = Reader(
    name="token-ids",
    summary="JSONL with the token ids of prompts and outputs",
    sniff=_sniff,
    read=_read,
    options={
        "identity_tokens": "tokens that one identity covers (16); must divide the block size",
        "sort": "order the requests by arrival instead of refusing a disorderly file",
    },
)
