"""What broken runs cost in the run that is shown, in sentences; and nothing about what they do not.

Owns: which costs of the metrics page apply. Leaves to others: the numbers (`result`, `layout`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvatlas.events.header import Header
from kvatlas.measure.fragmentation.layout import Layout
from kvatlas.measure.fragmentation.result import FragmentationResult

__all__ = ["HUGE_PAGE_BYTES", "Reading", "read_honestly"]

HUGE_PAGE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """One sentence.

    Attributes:
        about: `allocation`, `transfer`, `page_sizes` or `huge_pages`.
        costs: whether broken runs cost something there, in this run.
        text: the sentence.
    """

    about: str
    costs: bool
    text: str


def read_honestly(
    header: Header,
    result: FragmentationResult | None = None,
    layout: Layout | None = None,
    *,
    huge_pages: bool = False,
) -> tuple[Reading, ...]:
    """Return what contiguity means here; a sentence only about what applies.

    `huge_pages` says that the pool lies on huge pages (or VMM) that are mapped and unmapped one by
    one, which no event tells.
    """
    readings = [_allocation(header, result)]
    if result is not None:
        readings.append(_transfer(result))
    if huge_pages and layout is not None:
        readings += _huge_pages(header, layout)
    return tuple(readings)


def _allocation(header: Header, result: FragmentationResult | None) -> Reading:
    sizes = sorted({group.page_size_bytes for group in header.groups if group.page_size_bytes > 0})
    if len(sizes) > 1:
        return Reading(
            "page_sizes",
            True,
            f"The KV cache groups have pages of {len(sizes)} sizes ({sizes[0]:,} to {sizes[-1]:,} "
            "bytes): a large one is free only when all the small ones in its place are.",
        )
    index = ""
    if result is not None and not math.isnan(result.free.efi_mean):
        index = f" (index {result.free.efi_mean:.2f}, mean over time)"
    return Reading(
        "allocation",
        False,
        "Any free block serves any request, so scattered free blocks fail no allocation: "
        f"external fragmentation{index} costs nothing by itself here.",
    )


def _transfer(result: FragmentationResult) -> Reading:
    held = result.requests.runs > 0
    runs, blocks = (
        int(values[held].sum(dtype="int64"))
        for values in (result.requests.runs, result.requests.blocks)
    )
    if result.copied_blocks == 0:
        return Reading(
            "transfer", False, "No block was moved or swapped, so broken runs cost no copies."
        )
    detail = ""
    if runs > 0:
        requests = int(held.sum())
        detail = (
            f" A request's {blocks / requests:,.1f} blocks lay in {runs / requests:,.1f} runs on "
            "average, and each run is a descriptor of its own when they are copied."
        )
    return Reading(
        "transfer", runs > 0, f"{result.copied_blocks:,} blocks were moved or swapped.{detail}"
    )


def _huge_pages(header: Header, layout: Layout) -> list[Reading]:
    page = max((group.page_size_bytes for group in header.groups), default=0)
    blocks_per_page = HUGE_PAGE_BYTES // page if page > 0 else 0
    if blocks_per_page < 2:
        return []
    pinned, packed = layout.pinned_pages(blocks_per_page)
    return [
        Reading(
            "huge_pages",
            pinned > packed,
            f"The used blocks hold {pinned:,} pages of 2 MiB where {packed:,} would do.",
        )
    ]
