"""The stream of moments that a page listens to: server-sent events, one page, one engine.

Owns: what is sent when, and giving up on a browser that does not read. Leaves to others: making
moments (`hub`).

Events: `engines` (whom one can watch, whenever that changes), `moment` (everything but the course
so far, and of that only what is new since the last one; all of it at the beginning, so that a page
that was away misses nothing), `beat` (nothing is new: the connection lives). A moment is made when
the last one has left, so a slow reader gets fewer of them and never old ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Send

from kvatlas.watch.moment import History, Moment
from kvatlas.watch.web.hub import Hub

__all__ = ["MOST_VIEWERS", "Viewers", "history_since"]

MOST_VIEWERS = 48
"""Streams at once; each holds one moment at most."""
_BEAT_S = 5.0
_PATIENCE_S = 30.0
_WHOLE_EVERY = 60


class Viewers:
    """The streams there are; a route answers with `stream`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._number = 0

    async def stream(self, request: Request) -> Response:
        """Answer with the stream of the engine that `?engine=` names, the newest by default."""
        if self._number >= MOST_VIEWERS:
            return PlainTextResponse(
                f"{MOST_VIEWERS} pages watch already\n", 503, {"retry-after": "10"}
            )
        return _Patient(
            self._counted(request.query_params.get("engine")), media_type="text/event-stream"
        )

    async def _counted(self, key: str | None) -> AsyncIterator[bytes]:
        self._number += 1
        try:
            yield b"retry: 1000\n\n"
            async for event in self._events(key):
                yield event
        finally:
            self._number -= 1

    async def _events(self, wanted: str | None) -> AsyncIterator[bytes]:
        hub = self._hub
        listed: object = None
        shown, seen, sent = "", 0, _Sent()
        while not hub.closing:
            key = wanted or hub.newest_key()
            if key is not None and key != shown:
                shown, seen, sent = key, 0, _Sent()
            entries = hub.engines()
            if (entries, key, hub.waiting_for) != listed:
                listed = (entries, key, hub.waiting_for)
                rows = [asdict(entry) for entry in entries]
                said = {"engines": rows, "shown": key, "waiting": hub.waiting_for}
                yield _event("engines", said)
            newest = None if key is None else await hub.newer(key, seen, _BEAT_S)
            if newest is not None:
                seen, moment = newest
                yield _event("moment", sent.fresh(moment))
            elif key is None or not any(entry.key == key for entry in entries):
                if wanted is not None and entries:
                    wanted = None  # it is gone: show what there is
                    continue
                await asyncio.sleep(hub.interval_s)
                yield _event("beat", {})
            else:
                yield _event("beat", {})


class _Sent:
    """What a page has of the course already."""

    def __init__(self) -> None:
        self._generation = -1
        self._end_s = 0.0
        self._left = 0

    def fresh(self, moment: Moment) -> dict[str, Any]:
        """Return a moment as the page gets it: `whole` says that its course starts anew."""
        ends = moment.history.end_s
        whole = (
            self._left == 0
            or moment.generation != self._generation
            or (bool(ends) and ends[-1] < self._end_s)
        )
        self._left = _WHOLE_EVERY if whole else self._left - 1
        course = moment.history if whole else history_since(moment.history, self._end_s)
        self._generation = moment.generation
        # The newest interval still grows: it is sent again as long as it is the newest.
        self._end_s = moment.history.start_s[-1] if ends else 0.0
        shown = msgspec.structs.asdict(moment)
        shown["history"], shown["whole"] = course, whole
        return shown


def history_since(history: History, second: float) -> History:
    """Return the intervals that end after `second`."""
    first = next((i for i, end in enumerate(history.end_s) if end > second), len(history.end_s))
    columns = msgspec.structs.asdict(history)
    return History(**{name: values[first:] for name, values in columns.items()})


class _Patient(StreamingResponse):
    """A stream that ends when nothing of it could be sent for long."""

    async def stream_response(self, send: Send) -> None:
        """Send; a browser that does not read ends it."""

        async def patient(message: Message) -> None:
            await asyncio.wait_for(send(message), _PATIENCE_S)

        try:
            await super().stream_response(patient)
        except TimeoutError:
            return


def _event(name: str, data: object) -> bytes:
    """Return a server-sent event; JSON has no line breaks of its own."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
