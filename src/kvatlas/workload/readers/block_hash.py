"""What the JSONL formats with a list of block hashes share: Mooncake's and Bailian's.

Owns: turning decoded rows with `hash_ids` into columns and identities, and the rule for how many
ids a prompt has. Leaves to the readers: field names, units, block size, links between turns.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import id_counts
from kvatlas.workload.readers.columns import FieldNames, Identities, Rows, int_column
from kvatlas.workload.readers.text import Chunk

__all__ = ["LAST_BLOCK", "NAMES", "HashedRow", "HashedRows", "check_choice", "check_span"]

NAMES = FieldNames("timestamp", "input_length", "output_length")
LAST_BLOCK = ("kept", "dropped", "either")


class HashedRow(Protocol):
    """A decoded request with one raw id per block of its prompt."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


class HashedRows:
    """Rows and identities of a trace of block hashes, appended chunk by chunk.

    `last_block` says whether the file lists an id for a prompt's partial last block: "kept",
    "dropped", or "either". A dropped one gets an identity of its own, shared with no other request,
    since what it holds is unknown. `with_outputs`: the ids cover prompt and output.
    """

    def __init__(
        self, rows: Rows, tokens_per_id: int, last_block: str, *, with_outputs: bool = False
    ) -> None:
        self.rows, self.last_block = rows, last_block
        self.identities = Identities(tokens_per_id, with_outputs=with_outputs)
        self._dropped = 0

    def add(
        self,
        decoded: Sequence[HashedRow],
        chunk: Chunk,
        roots: NDArray[np.int64] | None = None,
    ) -> None:
        """Append rows, `roots` their salts (none). Raises: InputError naming the first bad line."""
        file, line_of = chunk.file, chunk.line_number
        prompt = int_column([r.input_length for r in decoded], file, NAMES.prompt, line_of)
        output = int_column([r.output_length for r in decoded], file, NAMES.output, line_of)
        arrival = np.array([r.timestamp for r in decoded], dtype=np.float64)
        first_row = len(self.rows)
        self.rows.add(arrival, prompt, output, line_of)
        raw = array("q")
        try:
            for row in decoded:
                raw.fromlist(row.hash_ids)
        except OverflowError:
            raise self._wide_id(decoded, chunk) from None
        flat = np.frombuffer(raw, dtype=np.int64)
        given = np.array([len(r.hash_ids) for r in decoded], dtype=np.int64)
        covered = prompt + np.maximum(output, 1) if self.identities.with_outputs else prompt
        wanted = id_counts(covered, self.identities.tokens_per_id)
        short = self._check_counts(covered, given, wanted, chunk)
        if short.any():
            flat = self._with_last_blocks(flat, given, short, first_row)
        self.identities.add(flat, wanted, roots)

    def notes(self) -> list[str]:
        """Return what a user must know about the identities."""
        if not self._dropped:
            return []
        return [
            f"{self._dropped:,} prompts end in a partial block that the file gives no id; "
            "it is taken to be shared with no other request"
        ]

    def _check_counts(
        self,
        covered: NDArray[np.int64],
        given: NDArray[np.int64],
        wanted: NDArray[np.int64],
        chunk: Chunk,
    ) -> NDArray[np.bool_]:
        """Return which rows lack the id of their partial last block."""
        span = self.identities.tokens_per_id
        short: NDArray[np.bool_] = (given == wanted - 1) & (covered % span != 0)
        good = given == wanted
        if self.last_block == "dropped":
            good = (good & (covered % span == 0)) | short
        elif self.last_block == "either":
            good |= short
        if not good.all():
            row = int((~good).argmax())
            tokens, ids, due = int(covered[row]), int(given[row]), int(wanted[row])
            if self.last_block == "dropped":
                due = tokens // span
            covers = "prompt and output" if self.identities.with_outputs else "prompt"
            raise InputError(
                f"{ids:,} ids for {tokens:,} {covers} tokens; {due:,} ids of {span} tokens are due",
                file=str(chunk.file),
                line=chunk.line_number(row),
                field="hash_ids",
                remedy=_span_remedy(tokens, ids, bool(short[row])),
            )
        return short

    def _with_last_blocks(
        self,
        flat: NDArray[np.int64],
        given: NDArray[np.int64],
        short: NDArray[np.bool_],
        first_row: int,
    ) -> NDArray[np.int64]:
        """Insert an id used nowhere else at the end of each `short` row's ids."""
        self._dropped += int(short.sum())
        ends = np.cumsum(given)[short]
        # Bit 62 and up keep clear of any sane file's ids; the row makes each one unique.
        own = np.iinfo(np.int64).min + first_row + np.flatnonzero(short)
        return np.insert(flat, ends, own)

    def _wide_id(self, decoded: Sequence[HashedRow], chunk: Chunk) -> InputError:
        for number, row in enumerate(decoded):
            for value in row.hash_ids:
                if not -(2**63) <= value < 2**63:
                    return InputError(
                        "the id does not fit in 64 bits",
                        file=str(chunk.file),
                        line=chunk.line_number(number),
                        field="hash_ids",
                        value=value,
                        remedy="renumber the ids",
                    )
        return InputError("an id does not fit in 64 bits", file=str(chunk.file), field="hash_ids")


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(
            "unknown choice", field=field, value=value, remedy=f"use one of {', '.join(choices)}"
        )


def check_span(field: str, value: object) -> None:
    """Raise InputError unless `value` is a number of tokens that an identity can cover."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 20:
        raise InputError(
            "not a number of tokens per identity",
            field=field,
            value=value,
            remedy="give a whole number from 1 to 1048576",
        )


def _span_remedy(tokens: int, ids: int, short: bool) -> str:
    if short:
        return "if the file leaves out partial last blocks, pass --last-block dropped"
    fits = [span for span in (16, 32, 64, 128, 256, 512, 1024) if -(-tokens // span) == ids]
    if fits:
        return f"if its blocks have {fits[0]} tokens, pass --tokens-per-id {fits[0]}"
    return "correct or remove the request"
