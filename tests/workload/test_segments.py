"""Segment trees to identities, against prompts written out token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvatlas.errors import InvariantError
from kvatlas.workload.generators.segments import identify


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], int]:
    count = draw(st.integers(1, 12))
    parent = [draw(st.integers(-1, segment - 1)) for segment in range(count)]
    tokens = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    leaf = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=12))
    return parent, tokens, leaf, draw(st.integers(1, 5))


def written_out(parent: list[int], tokens: list[int], segment: int) -> list[tuple[int, int]]:
    """Return a prompt's tokens; each is its segment and its place there, so all text is fresh."""
    above = written_out(parent, tokens, parent[segment]) if parent[segment] >= 0 else []
    return above + [(segment, place) for place in range(tokens[segment])]


@settings(deadline=None)  # the first example compiles
@given(trees())
def test_ids_are_equal_exactly_when_the_prefixes_are(
    tree: tuple[list[int], list[int], list[int], int],
) -> None:
    parent, tokens, leaf, span = tree
    ids, offsets, num_ids, covered = identify(
        np.array(parent), np.array(tokens), np.array(leaf), span
    )
    # The model: number the prefixes by first appearance, as tuples of tokens.
    numbers: dict[tuple[tuple[int, int], ...], int] = {}
    expected: list[int] = []
    for row, segment in enumerate(leaf):
        prompt = written_out(parent, tokens, segment)
        assert covered[row] == len(prompt)
        for end in range(span, len(prompt) + span, span):
            prefix = tuple(prompt[: min(end, len(prompt))])
            expected.append(numbers.setdefault(prefix, len(numbers)))
        assert offsets[row + 1] == len(expected)
    assert ids.tolist() == expected
    assert num_ids == len(numbers)


@pytest.mark.parametrize(("parent", "tokens"), [([-1, 1], [4, 4]), ([-1, 0], [4, 0])])
def test_broken_trees_are_refused(parent: list[int], tokens: list[int]) -> None:
    with pytest.raises(InvariantError):
        identify(np.array(parent), np.array(tokens), np.array([1]), 4)
