"""The built-in workloads: a registry of traffic generators, each one file and one line here.

Owns: `GENERATORS`, `generate`, and the listing of names and knobs. A generator turns its knobs (a
frozen dataclass) and a random generator into a `Draft`; it is deterministic from the seed.
Identities cover `TOKENS_PER_ID` tokens; a pool's blocks should be a multiple of that. With blocks
that divide it, the partial block at the end of a prompt counts as that prompt's own (a little reuse
is lost, none is invented).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvatlas.errors import InputError
from kvatlas.registry import named
from kvatlas.workload.generators.agents import AgentsKnobs, agents
from kvatlas.workload.generators.bursts import BurstsKnobs, bursts
from kvatlas.workload.generators.conversation import ConversationKnobs, conversation
from kvatlas.workload.generators.draft import Draft
from kvatlas.workload.generators.fragmentation import (
    CombKnobs,
    MixedSizesKnobs,
    SawtoothKnobs,
    SurvivorsKnobs,
    comb,
    mixed_sizes,
    sawtooth,
    survivors,
)
from kvatlas.workload.generators.knobs import KnobInfo, changed, knob_infos, make_knobs
from kvatlas.workload.generators.retrieval import RetrievalKnobs, retrieval
from kvatlas.workload.model import Workload

__all__ = [
    "DEFAULT_GENERATOR",
    "GENERATORS",
    "TOKENS_PER_ID",
    "Generator",
    "KnobInfo",
    "generate",
    "names",
]

TOKENS_PER_ID = 16
DEFAULT_GENERATOR = "conversation"
"""The workload of `kvatlas replay` without a trace."""


@dataclass(frozen=True, slots=True)
class Generator:
    """One built-in workload: `draw(knobs, rng)` returns its requests."""

    name: str
    summary: str
    knobs: type[Any]
    draw: Callable[[Any, np.random.Generator], Draft]

    @property
    def knob_infos(self) -> tuple[KnobInfo, ...]:
        """The knobs with their defaults, units and meaning, for help texts."""
        return knob_infos(self.knobs)


GENERATORS: dict[str, Generator] = {
    generator.name: generator
    for generator in (
        Generator("conversation", "multi-turn chat of a few apps", ConversationKnobs, conversation),
        Generator("agents", "coding agents in tool loops, with subagents", AgentsKnobs, agents),
        Generator("retrieval", "questions about shared documents", RetrievalKnobs, retrieval),
        Generator("bursts", "requests that arrive in bursts", BurstsKnobs, bursts),
        Generator("comb", "short- and long-lived requests in turn", CombKnobs, comb),
        Generator("sawtooth", "prompts that ramp up and collapse", SawtoothKnobs, sawtooth),
        Generator("survivors", "few very long-lived among churn", SurvivorsKnobs, survivors),
        Generator("mixed-sizes", "few large among many small", MixedSizesKnobs, mixed_sizes),
    )
}


def names() -> tuple[str, ...]:
    """Return the names of the built-in workloads, the default first."""
    return tuple(GENERATORS)


def generate(name: str, *, seed: int = 0, **knobs: Any) -> Workload:
    """Return the built-in workload `name` drawn from `seed` (any whole number >= 0).

    Equal arguments give equal workloads on every machine with the same NumPy version. Knob values
    may be text, as a command line gives them. O(N log N + M) for N requests with M ids.

    Raises: InputError, one line, for an unknown name or knob (listing the known ones) or a value of
    the wrong type or out of range.
    """
    generator = named(GENERATORS, name, "built-in workload")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("must be a whole number, 0 or more", field="seed", value=seed)
    chosen = make_knobs(name, generator.knobs, knobs)
    draft = generator.draw(chosen, np.random.default_rng(seed))
    shown = "".join(f", {knob}={value}" for knob, value in changed(chosen).items())
    return draft.workload(name, f"generated: {name}(seed={seed}{shown})", TOKENS_PER_ID)
