"""A workload's description in a terminal, on every built-in workload."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from kvatlas.report.describe_terminal import print_description
from kvatlas.workload import Workload, generate
from kvatlas.workload.describe import describe
from kvatlas.workload.generators import names


def shown(workload: Workload) -> str:
    out = StringIO()
    console = Console(file=out, width=80, highlight=False)
    print_description(console, describe(workload, block_size=16))
    return out.getvalue()


@pytest.mark.parametrize("name", names())
def test_fits_and_says_the_same_headings(name: str) -> None:
    text = shown(generate(name).head(200))
    assert max(len(line) for line in text.splitlines()) <= 80
    for heading in ("Lengths", "Sharing", "Sessions", "Arrivals"):
        assert f"\n{heading}" in text


def test_lengths_alone_and_one_moment() -> None:
    workload = generate("bursts").head(5)
    bare = workload.with_(
        ids=np.zeros(0, np.int32),
        id_offsets=np.zeros(6, np.int64),
        num_ids=0,
        prefix_known=False,
        outputs_identified=False,
        arrival_s=np.zeros(5),
    )
    text = " ".join(shown(bare).split())
    assert "Not known the trace has lengths only" in text
    assert "all requests come at one moment" in text
