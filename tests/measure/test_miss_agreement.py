"""Two ways to say why tokens were missed, in the engine and from its events, say the same."""

from __future__ import annotations

from hypothesis import given, settings
from streams import Stream, streams

from kvatlas.jit import COMPILED
from kvatlas.measure.misses import MissAttribution

_EXAMPLES = 150 if COMPILED else 5


@settings(max_examples=_EXAMPLES)
@given(stream=streams())
def test_the_engine_and_its_events_agree(stream: Stream) -> None:
    """GIVEN any replay of one full-attention group WHEN judged both ways THEN counts are equal."""
    attribution = MissAttribution(stream.header)
    for chunk in stream.resolved():
        attribution.feed(chunk)
    found, sums = attribution.result(), stream.replay.sums()
    if not stream.header.caching:
        assert sums["missed"] == 0
        assert found.configuration == found.missed
        return
    assert found.unknown == 0
    assert (found.missed, found.cold, found.capacity) == (
        sums["missed"],
        sums["missed_cold"],
        sums["missed_capacity"],
    )
