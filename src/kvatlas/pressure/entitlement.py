"""Who comes first, and what a request needs at its end.

Owns: the order of requests on the ladder. Leaves to others: what follows from it (`oom_handler`).
"""

from __future__ import annotations

from collections.abc import Iterable

from kvatlas.engine import EngineConfig, Request

__all__ = ["Entitlement", "blocks_at_end"]

_LATEST = 1 << 62


class Entitlement:
    """Sorts requests by priority, then by who came first; memory: one number per request here."""

    def __init__(self) -> None:
        self._arrivals: dict[str, int] = {}
        self._arrived = 0

    def __contains__(self, name: str) -> bool:
        return name in self._arrivals

    def of(self, request: Request) -> tuple[int, int]:
        """Return what requests are sorted by; one that is unknown yet comes after its equals."""
        return request.priority, self._arrivals.get(request.request_id, _LATEST)

    def order(self, requests: Iterable[Request]) -> list[Request]:
        """Return requests, the most entitled first; those unknown yet come as they are given."""
        return sorted(requests, key=self.of)

    def note(self, request: Request) -> None:
        """Let a request have come now, unless it has before."""
        if request.request_id not in self._arrivals:
            self._arrivals[request.request_id] = self._arrived
            self._arrived += 1

    def forget(self, name: str) -> None:
        """Forget a request that is done, or was never there."""
        self._arrivals.pop(name, None)


def blocks_at_end(request: Request, config: EngineConfig) -> int:
    """Return the blocks that a request holds at most; O(groups)."""
    # The last token is never computed.
    tokens = min(request.num_prompt_tokens + request.max_tokens - 1, config.max_model_len)
    needed = 0
    for spec in config.groups:
        blocks = -(-tokens // spec.block_size)
        cap = spec.admission_cap(config.max_in_flight_tokens, config.max_model_len)
        needed += blocks if cap is None else min(blocks, cap)
    return needed
