"""`kvatlas serve`: what it does.

Owns: checking the flags, the token, the lines that say where the page is, opening a browser. Leaves
to others: the server (`kvatlas.watch.web`), what is watched (`kvatlas.watch.source`).
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import webbrowser
from dataclasses import dataclass

from kvatlas.errors import InputError

__all__ = ["ServeFlags", "run_serve"]

_SHORTEST_TOKEN = 16
_LIVE_EXTRA = ("prometheus_client", "starlette", "uvicorn")


@dataclass(frozen=True, slots=True)
class ServeFlags:
    """What was asked for."""

    run: str | None
    host: str = "127.0.0.1"
    port: int = 8480
    token: str | None = None
    open_page: bool = True
    speed: float | None = None
    otlp: str | None = None
    grafana: str | None = None


def run_serve(flags: ServeFlags) -> None:
    """Serve until Ctrl-C, or write the dashboard. Raises: InputError naming the flag."""
    if flags.grafana is not None:
        _write_dashboard(flags.grafana)
        return
    _check(flags)
    _require_extra()
    from kvatlas.watch.otlp import otlp_endpoint
    from kvatlas.watch.watches import open_watch
    from kvatlas.watch.web.app import make_app
    from kvatlas.watch.web.exporter import Exporter
    from kvatlas.watch.web.gate import Pass
    from kvatlas.watch.web.hub import Hub
    from kvatlas.watch.web.server import bind, is_loopback, make_server

    endpoint = None if flags.otlp is None else otlp_endpoint(flags.otlp)
    watch = open_watch(str(flags.run), flags.speed)
    token = flags.token
    if token is None and not is_loopback(flags.host):
        token = secrets.token_urlsafe(32)
    elif token is not None and not is_loopback(flags.host):
        _require_long(token)
    with bind(flags.host, flags.port) as listening:
        bound, port = listening.getsockname()[:2]
        host = socket.gethostname() if bound in ("0.0.0.0", "::") else bound
        hub = Hub(watch)
        app = make_app(
            hub,
            None if token is None else Pass(token, port),
            None if endpoint is None else Exporter(hub, endpoint),
        )
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        _say(flags, address, made=token if flags.token is None else None)
        if flags.open_page and is_loopback(flags.host) and _has_browser():
            webbrowser.open(address)
        try:
            make_server(app, hub).run(sockets=[listening])
        except KeyboardInterrupt:
            return  # how a server is meant to end


def _check(flags: ServeFlags) -> None:
    if flags.run is None:
        raise InputError(
            "nothing to watch", field="RUN",
            remedy="name the folder that KVATLAS_RECORD names, or a recording",
        )  # fmt: skip
    if not 0 <= flags.port <= 65535:
        raise InputError("must be 0 to 65535", field="--port", value=flags.port)
    if flags.token is not None and not _fits_a_header(flags.token):
        raise InputError(
            "cannot be sent in a header", field="--token",
            remedy="use letters, digits and punctuation, without spaces",
        )  # fmt: skip


def _fits_a_header(token: str) -> bool:
    return bool(token) and all("!" <= character <= "~" for character in token)


def _require_long(token: str) -> None:
    """Refuse a token that can be tried out."""
    if len(token) < _SHORTEST_TOKEN:
        raise InputError(
            f"shorter than {_SHORTEST_TOKEN} characters", field="--token",
            remedy="leave it out: then a good one is made and printed",
        )  # fmt: skip


def _require_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in _LIVE_EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(
            f"kvatlas serve needs {', '.join(missing)}", remedy="pip install 'kvatlas[live]'"
        )


def _write_dashboard(path: str) -> None:
    from kvatlas.cli.files import require_writable, write_output
    from kvatlas.watch.grafana import dashboard_json

    require_writable(path, "--grafana")
    write_output(path, dashboard_json(), "--grafana")


def _say(flags: ServeFlags, address: str, *, made: str | None) -> None:
    lines = [f"kvatlas: watching {flags.run}"]
    lines.append(f"  page     {address}" + (f"?token={made}" if made else ""))
    lines.append(f"  metrics  {address}metrics")
    if made:
        lines.append(f"  token    {made}")
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201


def _has_browser() -> bool:
    """Return whether there is a screen: some systems would open a text browser in this terminal."""
    if not sys.stderr.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
