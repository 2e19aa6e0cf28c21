"""A prompt log's rows: the JSONL keys that are known, and a chat as one text.

A row needs a prompt: `prompt` (text or token ids), `messages` (chat), or `prompt_token_ids`,
`input_tok_ids`, `input_ids`. Further keys are optional: `tools`; the answer as token ids
(`output_token_ids`, `output_tok_ids`) or text (`response`, `completion`, `output`) or length
(`output_tokens`, `output_length`, `completion_tokens`, `output_toks`, `max_tokens`); the time as
`arrival_time_ns`, `timestamp_ms`, `arrival_time_ms`, or in seconds as `arrival_time_s`,
`arrival_time`, `timestamp` (ISO 8601 too); `session_id`, `conversation_id` or `session`;
`cache_salt` or `lora_name`; `priority`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kvatlas.workload.readers.text import line_chunks

__all__ = ["BadRow", "PromptRow", "Scalar", "first_given", "holds_prompts"]

Scalar = str | int | float


class BadRow(Exception):
    """`(what, field)` of a row that cannot be used."""


class PromptRow(msgspec.Struct, gc=False):
    """One request of a prompt log; keys that are not listed are ignored."""

    prompt: str | list[int] | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[Any] | None = None
    prompt_token_ids: list[int] | None = None
    input_tok_ids: list[int] | None = None
    input_ids: list[int] | None = None
    output_token_ids: list[int] | None = None
    output_tok_ids: list[int] | None = None
    response: Any = None
    completion: Any = None
    output: Any = None
    output_tokens: int | None = None
    output_length: int | None = None
    completion_tokens: int | None = None
    output_toks: int | None = None
    max_tokens: int | None = None
    arrival_time_ns: int | None = None
    timestamp_ms: float | None = None
    arrival_time_ms: float | None = None
    arrival_time_s: float | None = None
    arrival_time: float | None = None
    timestamp: float | str | None = None
    session_id: Scalar | None = None
    conversation_id: Scalar | None = None
    session: Scalar | None = None
    cache_salt: Scalar | None = None
    lora_name: str | None = None
    priority: int = 0

    def prompt_tokens(self) -> list[int] | None:
        """Return the prompt's token ids, None for a text."""
        if isinstance(self.prompt, list):
            return self.prompt
        tokens: list[int] | None = first_given(
            self.prompt_token_ids, self.input_tok_ids, self.input_ids
        )
        return tokens

    def output_ids(self) -> list[int] | None:
        """Return the output's token ids, if given."""
        tokens: list[int] | None = first_given(self.output_token_ids, self.output_tok_ids)
        return tokens

    def output_text(self) -> str | None:
        """Return the answer, if it is given as text."""
        answer = first_given(self.response, self.completion, self.output)
        return answer if isinstance(answer, str) else None

    def prompt_text(self) -> bytes:
        """Return a text prompt; messages added at the end of a chat only ever append bytes.

        A chat is its tools (chat templates put them first), then each message's role and content.
        Raises: BadRow when there is none.
        """
        if isinstance(self.prompt, str):
            return self.prompt.encode()
        if self.messages is None:
            raise BadRow("no prompt, messages or token ids", "prompt")
        parts = [] if self.tools is None else [_json(self.tools), b"\n"]
        for message in self.messages:
            content = message.pop("content", None)
            parts += [str(message.pop("role", "")).encode(), b"\n"]
            parts.append(content.encode() if isinstance(content, str) else _json(content))
            parts += [_json(message) if message else b"", b"\n\n"]
        return b"".join(parts)


class _Peek(msgspec.Struct):
    prompt: msgspec.Raw = msgspec.Raw(b"null")
    messages: msgspec.Raw = msgspec.Raw(b"null")
    prompt_token_ids: msgspec.Raw = msgspec.Raw(b"null")
    input_tok_ids: msgspec.Raw = msgspec.Raw(b"null")
    input_ids: msgspec.Raw = msgspec.Raw(b"null")


def holds_prompts(path: Path) -> bool:
    """Return whether the first row of `path` has a prompt itself, not only its length."""
    for chunk in line_chunks(path):
        for _, line in chunk.lines():
            try:
                row = msgspec.json.decode(line, type=_Peek)
            except (msgspec.MsgspecError, RecursionError):
                return False
            held = (getattr(row, name) for name in row.__struct_fields__)
            return any(bytes(value).lstrip()[:1] in (b'"', b"[") for value in held)
    return False


def first_given(*values: Any) -> Any:
    """Return the first value that is not None, else None."""
    return next((value for value in values if value is not None), None)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
