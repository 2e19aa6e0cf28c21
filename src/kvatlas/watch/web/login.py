"""The page that asks for the token.

Owns: its HTML. Leaves to others: who sees it (`gate`).
"""

from __future__ import annotations

from starlette.responses import HTMLResponse, Response

__all__ = ["LOGIN_PATH", "OPEN_STYLES", "login_page"]

LOGIN_PATH = "/login"
OPEN_STYLES = "/assets/page.css"
"""What it looks like: the one asset that everybody may have."""


def login_page(*, wrong: bool) -> Response:
    """Return the form as an answer 401; `wrong` says that the token was not the right one."""
    alarm = '<p class="alarm">That is not the token.</p>' if wrong else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>kvatlas</title><link rel="stylesheet" href="{OPEN_STYLES}"></head><body><main>'
        f'{alarm}<h1>kvatlas</h1><form method="post" action="{LOGIN_PATH}">'
        "<p><label>The token that <code>kvatlas serve</code> printed or was given "
        '<input name="token" type="password" autocomplete="current-password" required autofocus>'
        "</label> <button>Open</button></p></form></main></body></html>\n",
        401,
    )
