"""A recording as a load: replayed again it decides the same, and what is not known is said."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.errors import InputError
from kvatlas.events import EventWriter, open_recording
from kvatlas.plan.recorded_load import recorded_load
from kvatlas.workload import Workload, generate

BLOCK = 16


def settings(rng: random.Random) -> EngineConfig:
    """A pool that evicts and preempts."""
    return EngineConfig(
        num_blocks=rng.choice([700, 1500, 4000]),
        block_size=BLOCK,
        max_num_seqs=rng.choice([8, 32]),
        max_num_batched_tokens=rng.choice([512, 2048]),
        max_model_len=16384,
        async_scheduling=rng.random() < 0.5,
    )


def load(seed: int, requests: int = 80) -> Workload:
    """Conversations cut into whole blocks: a recording knows prefixes block by block."""
    found = generate("conversation", seed=seed).head(requests)
    assert found.tokens_per_id % BLOCK == 0 or BLOCK % found.tokens_per_id == 0
    return found


def record(
    workload: Workload, config: EngineConfig, path: Path, *, steps: int | None = None
) -> Replay:
    """Replay into a file, to the end or for so many steps."""
    replay = Replay(workload, config, DriveConfig(arrivals="timed"))
    header = recording_header(replay, version="test", engine="vLLM 0.32")
    writer = EventWriter(str(path), header, sessions=workload.session)
    replay.listen(writer.append)
    for _ in replay.slices(max_steps=steps or 1 << 20):
        if steps is not None:
            break
    writer.close(interrupted=steps is not None)
    return replay


@pytest.mark.parametrize("seed", range(3))
def test_a_recorded_load_decides_as_it_did(seed: int, tmp_path: Path) -> None:
    """GIVEN a replay's events alone WHEN their load is replayed THEN every decision is the same."""
    config = settings(random.Random(seed))
    workload = load(seed)
    first = record(workload, config, tmp_path / "run.arrows").result().decisions
    found = recorded_load(open_recording(str(tmp_path / "run.arrows")))
    again = Replay(found.workload, config, DriveConfig(arrivals="timed")).run().decisions
    assert first["finished"] == workload.num_requests
    for name, value in first.items():
        assert again[name] == value, name
    assert found.workload.notes == ()
    np.testing.assert_array_equal(found.workload.output_tokens, workload.output_tokens)
    np.testing.assert_allclose(found.workload.arrival_s, workload.arrival_s - workload.arrival_s[0])


def test_requests_cut_by_the_end_are_counted(tmp_path: Path) -> None:
    """GIVEN a recording that stops midway WHEN read THEN it says how many answers are not known."""
    config = settings(random.Random(0))
    workload = load(3)
    replay = record(workload, config, tmp_path / "run.arrows", steps=60)
    finished = int(replay.result().decisions["finished"])
    found = recorded_load(open_recording(str(tmp_path / "run.arrows"))).workload
    cut = found.num_requests - finished
    assert cut > 0
    notes = " ".join(found.notes)
    assert f"{cut} requests still ran at the recording's end" in notes
    assert "interrupted" in notes
    rows = np.arange(found.num_requests)
    assert (found.output_tokens <= workload.output_tokens[rows]).all()


def test_without_a_cache_prefixes_are_unknown(tmp_path: Path) -> None:
    """GIVEN a run without prefix caching WHEN read THEN nothing is shared, and that is said."""
    config = settings(random.Random(1)).with_(enable_prefix_caching=False, num_blocks=4000)
    record(load(1, 20), config, tmp_path / "run.arrows")
    found = recorded_load(open_recording(str(tmp_path / "run.arrows"))).workload
    assert not found.prefix_known
    assert found.num_ids == 0
    assert any("unknown" in note for note in found.notes)


def test_nobody_served_is_one_line(tmp_path: Path) -> None:
    """GIVEN a recording without a served request WHEN read THEN InputError says so."""
    replay = record(load(1, 5), settings(random.Random(2)), tmp_path / "run.arrows")
    header = recording_header(replay, version="test", engine="vLLM 0.32")
    EventWriter(str(tmp_path / "empty.arrows"), header).close(interrupted=True)
    with pytest.raises(InputError, match="nobody was served"):
        recorded_load(open_recording(str(tmp_path / "empty.arrows")))
