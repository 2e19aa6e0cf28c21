"""The sheet of figures: finite numbers, or None with a reason."""

from __future__ import annotations

import math

import pytest

from kvatlas.measure import Figures


def test_a_figure_is_a_number_or_has_a_reason() -> None:
    figures = Figures()
    figures.put("a.count", 3)
    figures.ratio("a.share", 1.0, 4.0, "nothing came")
    figures.ratio("b.share", 0.0, 0.0, "nothing came")
    figures.lack("nobody looked", "c.one", "c.two")
    assert figures.values == {
        "a.count": 3,
        "a.share": 0.25,
        "b.share": None,
        "c.one": None,
        "c.two": None,
    }
    assert figures.unavailable == {
        "b.share": "nothing came",
        "c.one": "nobody looked",
        "c.two": "nobody looked",
    }
    assert figures["a.share"] == 0.25


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"a\.share"):
        Figures().put("a.share", value)
