"""Requests that share beginnings, and a client that sends them to an OpenAI-compatible server.

Owns: drawing requests (seeded) and sending them. Leaves to others: the server (`server`) and
running the same requests offline (`offline`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

FIRST_TOKEN, TOKENS = 3, 512  # 0, 1 and 2 are the tiny models' special tokens


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its name, its prompt as token ids, and how many tokens it gets."""

    name: str
    prompt: tuple[int, ...]
    max_tokens: int


def draw_requests(count: int, *, seed: int = 5, families: int = 8) -> list[Asked]:
    """Draw requests of 33 to 222 prompt tokens and 4 to 60 answers.

    Every request begins like its family, which is up to five blocks of 32, and one in 16 repeats
    an earlier prompt to the last token. The same count, seed and families give the same requests.
    """
    rng = random.Random(seed)

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(rng.randrange(FIRST_TOKEN, TOKENS) for _ in range(number))

    beginnings = [tokens(32 * rng.randint(1, 5)) for _ in range(families)]
    asked: list[Asked] = []
    for number in range(count):
        if asked and rng.random() < 1 / 16:
            prompt = rng.choice(asked).prompt
        else:
            prompt = rng.choice(beginnings) + tokens(rng.randint(1, 62))
        asked.append(Asked(f"req-{seed}-{number}", prompt, rng.randint(4, 60)))
    return asked


def draw_short_requests(count: int, *, seed: int = 6) -> list[Asked]:
    """Draw requests that make many events in little time: a block or two, a token or two."""
    rng = random.Random(seed)
    return [
        Asked(
            f"short-{seed}-{number}",
            tuple(rng.randrange(FIRST_TOKEN, TOKENS) for _ in range(rng.randint(33, 64))),
            rng.randint(1, 2),
        )
        for number in range(count)
    ]


def send(
    url: str, model: str, requests: Sequence[Asked], *, in_flight: int = 32
) -> dict[str, tuple[int, ...]]:
    """Send all requests, at most `in_flight` at a time, and return the answers by name.

    A request that the server does not answer (it was killed) is missing in the result.
    """
    return asyncio.run(_send(url, model, requests, in_flight))


def send_and_leave(url: str, model: str, requests: Sequence[Asked]) -> int:
    """Ask and hang up after the first token of each; return how many were hung up on."""
    return asyncio.run(_send_and_leave(url, model, requests))


async def _send(
    url: str, model: str, requests: Sequence[Asked], in_flight: int
) -> dict[str, tuple[int, ...]]:
    answers: dict[str, tuple[int, ...]] = {}
    waiting = iter(requests)

    async def one_line(client: httpx.AsyncClient) -> None:
        for asked in waiting:
            try:
                reply = await client.post("/v1/completions", **_call(model, asked))
            except httpx.TransportError:
                return
            if reply.status_code != httpx.codes.OK:
                return
            answers[asked.name] = tuple(reply.json()["choices"][0]["token_ids"])

    async with _client(url) as client:
        await asyncio.gather(*(one_line(client) for _ in range(in_flight)))
    return answers


async def _send_and_leave(url: str, model: str, requests: Sequence[Asked]) -> int:
    left = 0
    async with _client(url) as client:
        for first in range(0, len(requests), 8):
            several = requests[first : first + 8]
            left += sum(await asyncio.gather(*(_leave(client, model, one) for one in several)))
    return left


async def _leave(client: httpx.AsyncClient, model: str, asked: Asked) -> bool:
    async with client.stream("POST", "/v1/completions", **_call(model, asked, True)) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                return True
    return False


def _client(url: str) -> httpx.AsyncClient:
    # A connection of its own for each: a server closes idle ones, perhaps while they are reused.
    return httpx.AsyncClient(
        base_url=url, timeout=120, limits=httpx.Limits(max_keepalive_connections=0)
    )


def _call(model: str, asked: Asked, stream: bool = False) -> dict[str, Any]:
    body = {
        "model": model,
        "prompt": list(asked.prompt),
        "max_tokens": asked.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": stream,
    }
    return {"json": body, "headers": {"X-Request-Id": asked.name}}
