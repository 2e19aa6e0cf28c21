"""The app: which address answers what.

Owns: the routes. Leaves to others: each answer, and who may ask (`gate`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kvatlas.watch.prometheus import exposition
from kvatlas.watch.web.controls import Controls
from kvatlas.watch.web.exporter import Exporter
from kvatlas.watch.web.gate import Gate, Pass
from kvatlas.watch.web.hub import Hub
from kvatlas.watch.web.page import asset, page_html
from kvatlas.watch.web.report_page import REPORT_POLICY
from kvatlas.watch.web.stream import Viewers

__all__ = ["make_app"]


def make_app(hub: Hub, entry: Pass | None, exporter: Exporter | None = None) -> ASGIApp:
    """Return the app behind its gate.

    Args:
        hub: what is watched.
        entry: the token, None where none is needed.
        exporter: who sends the metrics on meanwhile.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await hub.start()
        sending = None if exporter is None else asyncio.create_task(exporter.run())
        try:
            yield
        finally:
            if sending is not None:
                sending.cancel()
            await hub.stop()

    viewers, controls = Viewers(hub), Controls(hub)
    answers = _Answers(hub)
    app = Starlette(
        routes=[
            Route("/", answers.page, methods=["GET"]),
            Route("/assets/{name}", answers.asset, methods=["GET"]),
            Route("/api/stream", viewers.stream, methods=["GET"]),
            Route("/api/moment", answers.moment, methods=["GET"]),
            Route("/report", answers.report, methods=["GET"]),
            Route("/api/control", controls.obey, methods=["POST"]),
            Route("/metrics", answers.metrics, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Gate(app, entry)


class _Answers:
    """The short answers."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._scraping, self._reporting = asyncio.Lock(), asyncio.Lock()

    async def page(self, _: Request) -> Response:
        return Response(page_html(), media_type="text/html")

    async def asset(self, request: Request) -> Response:
        found = asset(request.path_params["name"])
        if found is None:
            return PlainTextResponse("not here\n", 404)
        headers = {"etag": found.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.data, media_type=found.type, headers=headers)

    async def moment(self, request: Request) -> Response:
        """Answer with the whole moment of an engine, for scripts."""
        key = request.query_params.get("engine") or self._hub.newest_key()
        newest = None if key is None else await self._hub.newer(key, 0, 5.0)
        if newest is None:
            return PlainTextResponse(f"{self._hub.waiting_for or 'no such engine'}\n", 404)
        return Response(msgspec.json.encode(newest[1]), media_type="application/json")

    async def report(self, request: Request) -> Response:
        """Answer with the report of an engine so far; one at a time, for it takes a while."""
        key = request.query_params.get("engine") or self._hub.newest_key()
        async with self._reporting:
            html = None if key is None else await asyncio.to_thread(self._hub.report, key)
        if html is None:
            return PlainTextResponse(f"{self._hub.waiting_for or 'no such engine'}\n", 404)
        headers = {"content-security-policy": REPORT_POLICY}
        return Response(html, media_type="text/html", headers=headers)

    async def metrics(self, request: Request) -> Response:
        """Answer a scraper; one at a time, for each makes fresh moments."""
        async with self._scraping:
            moments = await asyncio.to_thread(self._hub.moments)
        content, kind = exposition(moments, request.headers.get("accept", ""))
        return Response(content, headers={"content-type": kind})
