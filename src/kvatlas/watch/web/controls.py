"""What the page may do: move the time of a finished recording, for everybody who watches it.

Owns: reading a command. Leaves to others: the time itself (`kvatlas.watch.playing`), who may ask
(`gate`).
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kvatlas.watch.source import Playable
from kvatlas.watch.web.hub import Hub

__all__ = ["Command", "Controls"]

_MOST_BYTES = 1024
_FASTEST = 1e6


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        engine: its key.
        do: what to do; `to`: the speed (times its own clock), or the second to seek.
    """

    engine: str
    do: Literal["pause", "play", "step", "seek", "speed"]
    to: float = 0.0


class Controls:
    """The route for commands."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def obey(self, request: Request) -> Response:
        """Do what the JSON in the body says."""
        # Other sites' pages cannot send this type without being asked about it first.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("application/json, please\n", 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                return PlainTextResponse("too long\n", 413)
        try:
            command = msgspec.json.decode(body, type=Command)
        except msgspec.MsgspecError:
            return PlainTextResponse("not a command\n", 400)
        feed = self._hub.steer(command.engine)
        if feed is None:
            return PlainTextResponse("not a finished recording\n", 409)
        if command.do == "speed" and not 0 <= command.to <= _FASTEST:
            return PlainTextResponse(f"speed must be 0 to {_FASTEST:,.0f}\n", 400)
        await asyncio.to_thread(_apply, command, feed)  # it may be reading a file
        await self._hub.refresh(command.engine)
        return Response(status_code=204)


def _apply(command: Command, feed: Playable) -> None:
    if command.do == "seek":
        feed.seek(command.to)
    elif command.do == "speed":
        feed.set_speed(command.to)
    elif command.do == "step":
        feed.step()
    else:
        feed.pause(command.do == "pause")
