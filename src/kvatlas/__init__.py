"""kvatlas: see, replay and plan the KV-cache memory of LLM servers.

The public names live in its packages: `kvatlas.workload` (requests), `kvatlas.engine` (the twin),
`kvatlas.model` (bytes per block), `kvatlas.errors`. Importing this one costs nothing.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version(__name__)
