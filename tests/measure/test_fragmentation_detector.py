"""Who breaks runs, and sentences only about what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from toy_streams import Story, toy_header

from kvatlas.errors import InputError
from kvatlas.events import Group, Header, schema
from kvatlas.events.snapshot import FragmentationSnapshot
from kvatlas.measure.fragmentation import (
    BlockLayoutAnalyzer,
    Detection,
    FragmentationDetector,
    FragmentationTracker,
    Layout,
    read_honestly,
)


def tracked(story: Story, header: Header) -> FragmentationTracker:
    tracker = FragmentationTracker(header)
    tracker.feed(story.chunk())
    return tracker


def three_requests() -> Story:
    """Request 0 of session 0 has 1 run, requests 1 and 2 of session 1 have 3 and 2."""
    story = Story()
    for request, session in ((0, 0), (1, 1), (2, 1), (3, -1)):
        story.arrive(request, session)
    tables = {0: [1, 2, 3], 1: [5, 7, 9], 2: [11, 12, 14], 3: [20, 18]}
    for request, table in tables.items():
        story.allocate(request, table)
    story.tell(schema.STEP, count=1, span_ms=8.0)
    story.at(8.0)
    for request in (0, 1, 2):
        story.free(request, tables[request][::-1], position=2, cause=schema.BY_FINISHED)
        story.finish(request)
    return story


def moment(tables: dict[int, list[int]], blocks: int) -> Layout:
    ref_count = np.zeros(blocks, np.int32)
    for table in tables.values():
        ref_count[table] += 1
    return BlockLayoutAnalyzer(
        FragmentationSnapshot(
            event=1,
            step=1,
            time_s=0.0,
            has_null=False,
            ref_count=ref_count,
            key=np.full(blocks, -1, np.int64),
            table_request=np.array(list(tables), np.int32),
            table_group=np.zeros(len(tables), np.int32),
            table_offsets=np.cumsum([0, *map(len, tables.values())]).astype(np.int64),
            table_blocks=np.concatenate([*tables.values()]).astype(np.int32),
        )
    ).layout()


def detect(most: int = 10) -> Detection:
    header = toy_header(30, 4)
    result = tracked(three_requests(), header).result()
    return FragmentationDetector(header, most=most).detect(result)


def test_requests_by_their_breaks() -> None:
    found = detect().requests
    assert [(spot.number, spot.runs, spot.breaks) for spot in found] == [(1, 3, 2), (2, 2, 1)]
    assert [spot.breaks_share for spot in found] == pytest.approx([2 / 3, 1 / 3])
    assert [spot.requests for spot in found] == [1, 1]
    assert len(detect(most=1).requests) == 1


def test_sessions_add_their_requests_up() -> None:
    (session,) = detect().sessions  # session 0 breaks nothing
    assert (session.number, session.requests, session.blocks) == (1, 2, 6)
    assert (session.runs, session.breaks, session.breaks_share) == (5, 3, 1.0)


def test_holders_by_the_free_runs_that_they_bound() -> None:
    """GIVEN  .0.1100...  WHEN asked who bounds free runs THEN request 0 does, four times."""
    layout = moment({0: [1, 5, 6], 1: [3, 4]}, 10)
    found = FragmentationDetector(toy_header(10, 2)).detect(layout=layout)
    assert [(spot.number, spot.free_edges, spot.breaks) for spot in found.holders] == [
        (0, 3, 1),
        (1, 1, 0),
    ]
    assert found.pattern is not None and found.pattern.name == "none"
    assert (found.requests, found.sessions) == ((), ())


def test_equal_blocks_fail_no_allocation() -> None:
    header = toy_header(30, 4)
    result = tracked(three_requests(), header).result()
    readings = read_honestly(header, result)
    assert [(reading.about, reading.costs) for reading in readings] == [
        ("allocation", False),
        ("transfer", False),
    ]
    assert f"index {result.free.efi_mean:.2f}" in readings[0].text
    assert "No block was moved or swapped" in readings[1].text
    assert math.isnan(FragmentationTracker(header).result().free.efi_mean)
    assert "index" not in read_honestly(header, FragmentationTracker(header).result())[0].text


def test_copies_cost_descriptors() -> None:
    story, header = three_requests(), toy_header(30, 4)
    story.tell(schema.SWAPPED_OUT, [20, 18], request=3, cause=schema.BY_HOST)
    transfer = read_honestly(header, tracked(story, header).result())[1]
    assert transfer.costs
    assert transfer.text == (
        "2 blocks were moved or swapped. A request's 3.0 blocks lay in 2.0 runs on average, and "
        "each run is a descriptor of its own when they are copied."
    )


def test_pages_of_several_sizes_are_said() -> None:
    groups = tuple(Group("FullAttentionSpec", 4, page_size_bytes=size) for size in (1024, 4096))
    (reading,) = read_honestly(toy_header(10, 2, groups=groups))
    assert (reading.about, reading.costs) == ("page_sizes", True)
    assert "1,024 to 4,096 bytes" in reading.text


def test_huge_pages_only_where_there_are_any() -> None:
    groups = (Group("FullAttentionSpec", 4, page_size_bytes=512 << 10),)  # 4 to a page of 2 MiB
    header, layout = toy_header(12, 1, groups=groups), moment({0: [0, 5, 11]}, 12)
    assert [reading.about for reading in read_honestly(header, layout=layout)] == ["allocation"]
    (_, pages) = read_honestly(header, layout=layout, huge_pages=True)
    assert pages.costs
    assert "hold 3 pages of 2 MiB where 1 would do" in pages.text
    large = (Group("FullAttentionSpec", 4, page_size_bytes=4 << 20),)
    header = toy_header(12, 1, groups=large)
    assert len(read_honestly(header, layout=layout, huge_pages=True)) == 1


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="most"):
        FragmentationDetector(toy_header(), most=0)
