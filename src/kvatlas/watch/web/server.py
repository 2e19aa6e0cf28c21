"""The server: a socket of its own, one process, and an end that does not wait for its viewers.

Owns: binding, the limits of connections, Ctrl-C. Leaves to others: what is answered (`app`).
"""

from __future__ import annotations

import ipaddress
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from kvatlas.errors import InputError
from kvatlas.watch.web.hub import Hub

__all__ = ["bind", "is_loopback", "make_server"]

_MOST_CONNECTIONS = 200
_GRACE_S = 2
_SEND_BUFFER_BYTES = 1 << 16


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`: a loopback address, or `localhost`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name may mean anything tomorrow


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises: InputError."""
    name = host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(
            name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        taken = "choose another --port" if name else "name a --host"
        raise InputError(
            f"cannot listen there: {error.strerror or error}",
            field="--host, --port",
            value=f"{host}:{port}",
            remedy=taken,
        ) from error
    # Its connections inherit it: what a viewer who sleeps has not read yet is soon out of date.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    listening.setblocking(False)
    return listening


def make_server(app: ASGIApp, hub: Hub) -> uvicorn.Server:
    """Return the server; `run(sockets=[...])` answers until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="error",
        access_log=False,  # addresses may hold a token
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return _Server(config, hub)


class _Server(uvicorn.Server):
    """Ends the streams first: they would go on as long as somebody watches."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._hub.close()
        super().handle_exit(sig, frame)
