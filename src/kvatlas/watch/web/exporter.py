"""Sending the metrics on, every few seconds, for as long as the server runs.

Owns: the rhythm, and saying once what goes wrong. Leaves to others: the message (`otlp`). Nothing
waits for a collector: what it does not take is gone, and the next message holds the newest numbers.
"""

from __future__ import annotations

import asyncio
import logging
import time

from kvatlas.watch.otlp import otlp_headers, otlp_message, send_otlp
from kvatlas.watch.web.hub import Hub

__all__ = ["Exporter"]


class Exporter:
    """Sends to one collector.

    Args:
        endpoint: as `otlp_endpoint` gives it.
        interval_s: between two messages.

    Attributes:
        sent, failed: messages so far.
    """

    def __init__(self, hub: Hub, endpoint: str, *, interval_s: float = 10.0) -> None:
        self.sent = self.failed = 0
        self._hub, self._endpoint, self._interval_s = hub, endpoint, interval_s
        self._headers = otlp_headers()
        self._since_ns = time.time_ns()
        self._said = ""

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            wrong = await asyncio.to_thread(self._send)
            if wrong:
                self.failed += 1
            else:
                self.sent += 1
            if wrong != self._said and wrong:
                logging.getLogger("uvicorn.error").error("%s: %s", self._endpoint, wrong)
            self._said = wrong

    def _send(self) -> str:
        moments = self._hub.moments()
        message = otlp_message(moments, time.time_ns(), self._since_ns)
        return send_otlp(self._endpoint, self._headers, message)
