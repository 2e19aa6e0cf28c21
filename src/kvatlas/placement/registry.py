"""The registry: which placements there are, and what each of them promises.

Owns: names, one sentence and source of each, the number that some take. Leaves to others: what they
do (`_spans_kernel`, `_window_kernel`), chosen by `code` in compiled code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kvatlas.errors import InputError
from kvatlas.placement import _codes_kernel as codes
from kvatlas.registry import Strategy, named

__all__ = ["PLACEMENTS", "PlacementPolicy", "placement_policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy(Strategy):
    """One way to choose which free block ids a request gets.

    The first of its knobs is what a number behind the name sets (`window:1.5`).

    Attributes:
        same_victims: the same contents are evicted as in vLLM's order, so every decision is the
            same up to the names of the blocks; the others lose some hits.
        by_address: keeps a set of ids to choose from; such a placement takes blocks that cache
            nothing first, whatever the version, and what the queue gives up next after them.
        any_free: by address, but among all free blocks: what they cache is not looked at.
        any_eviction: works under every eviction policy, not only under `lru`.
    """

    same_victims: bool
    by_address: bool = False
    any_free: bool = False
    any_eviction: bool = False


def _by_address(
    name: str, title: str, summary: str, source: str, code: int
) -> tuple[PlacementPolicy, PlacementPolicy]:
    """Return a placement by address in both scopes."""
    return (
        PlacementPolicy(
            name=name,
            title=title,
            summary=f"{summary}, of the blocks that cache nothing; then the queue's, sorted",
            source=source,
            same_victims=True,
            by_address=True,
            code=code,
        ),
        PlacementPolicy(
            name=f"{name}-any",
            title=f"{title}, any",
            summary=f"{summary}, of all free blocks, whatever they cache",
            source=source,
            same_victims=False,
            by_address=True,
            any_free=True,
            code=code,
        ),
    )


_ALL = (
    PlacementPolicy(
        name="queue",
        title="Queue",
        summary="the ids in the order in which the free queue gives its blocks up",
        source="vLLM's free queue",
        same_victims=True,
        any_eviction=True,
        code=codes.QUEUE,
    ),
    PlacementPolicy(
        name="sorted",
        title="Sorted",
        summary="the same blocks as the queue's, handed out by ascending id",
        source="kvatlas",
        same_victims=True,
        any_eviction=True,
        code=codes.SORTED,
    ),
    PlacementPolicy(
        name="window",
        title="Window",
        summary="of a few more blocks than needed, next in the queue, all but the shortest runs",
        source="kvatlas",
        same_victims=False,
        code=codes.WINDOW,
        knobs={
            "window_ratio": 1.25,
            "most_ratio": 16.0,
            "slack_share": 1 / 256,
            "short_blocks": 32,
            "follow_blocks": 16,
        },
    ),
    *_by_address(
        "first-fit",
        "First fit",
        "the lowest run that is long enough",
        "Knuth, The Art of Computer Programming, vol. 1, 2.5",
        codes.FIRST_FIT,
    ),
    *_by_address(
        "best-fit",
        "Best fit",
        "the shortest run that is long enough",
        "Knuth, The Art of Computer Programming, vol. 1, 2.5",
        codes.BEST_FIT,
    ),
    *_by_address(
        "buddy",
        "Buddy",
        "the smallest aligned piece of 2**k that is large enough",
        "Knowlton, CACM 1965",
        codes.BUDDY,
    ),
)

PLACEMENTS: Mapping[str, PlacementPolicy] = {policy.name: policy for policy in _ALL}
"""Every placement that an engine can run, by name; `queue` is vLLM's own."""


def placement_policy(name: str, eviction_policy: str = "lru") -> PlacementPolicy:
    """Return the placement of that name, `window:1.5` with its first knob set to that number.

    Raises: InputError that lists those there are; for one that cannot run under `eviction_policy`.
    """
    bare, colon, number = name.partition(":")
    found = named(PLACEMENTS, bare, "placement", field="placement")
    if eviction_policy != "lru" and not found.any_eviction:
        able = " or ".join(each.name for each in _ALL if each.any_eviction)
        raise InputError(
            f"{found.name} chooses among what the queue gives up, so LRU must evict, "
            f"not {eviction_policy}",
            field="placement",
            value=name,
            remedy=f"use {able} with this eviction policy",
        )
    return _with_number(found, name, number) if colon else found


def _with_number(policy: PlacementPolicy, name: str, number: str) -> PlacementPolicy:
    knob = next(iter(policy.knobs), None)
    if knob is None:
        raise InputError(
            f"{policy.name} takes no number", field="placement", value=name, remedy="leave it out"
        )
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 1.0 <= value < math.inf:
        raise InputError(
            f"{knob} must be a number of at least 1",
            field="placement",
            value=name,
            remedy=f"use for instance {policy.name}:{policy.knobs[knob]}",
        )
    return replace(policy, name=f"{policy.name}:{value:g}", knobs={**policy.knobs, knob: value})
