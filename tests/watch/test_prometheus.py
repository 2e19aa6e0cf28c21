"""What Prometheus reads: every name, the right numbers, nothing where nothing is known."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_server import Engines, played, record, served

from kvatlas.watch.board import Board
from kvatlas.watch.metric_table import METRICS
from kvatlas.watch.moment import Alert, Health, Moment
from kvatlas.watch.prometheus import exposition

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "prometheus.md"
SAMPLE = {
    "t_ms": 1.0, "rss_bytes": 10, "vms_bytes": 20, "cpu_s": 1.5,
    "torch": [{"device": 0, "allocated_bytes": 30, "reserved_bytes": 40}],
    "nvml": [{"device": 1, "used_bytes": 50, "total_bytes": 60}],
}  # fmt: skip

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("prometheus") / "run.arrows")


@pytest.fixture(scope="module")
def moment(recording: Path) -> Moment:
    board = Board(played(recording))
    while board.advance():
        pass
    return board.moment()


def full(moment: Moment) -> Moment:
    """Return a moment in which everything is known."""
    groups = [msgspec.structs.replace(row, used_bytes=4096) for row in moment.groups]
    return msgspec.structs.replace(
        moment,
        memory=[SAMPLE],
        groups=groups,
        alerts=[Alert("bad", "stalled", "text", 1.0)],
        health=Health(state="live", lost_events=3, bytes_bound=9, age_s=0.5, lag_events=7),
        pool=msgspec.structs.replace(moment.pool, bytes=1 << 20),
        waste=msgspec.structs.replace(moment.waste, internal=0.25, wasted_slots=5),
        free_runs=msgspec.structs.replace(moment.free_runs, efi=0.5),
    )


def scraped(*moments: Moment) -> Samples:
    content, _ = exposition(moments)
    found: Samples = {}
    for family in text_string_to_metric_families(content.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, wanted: str, /, **labels: str) -> float:
    """Return the only sample of a name with these labels."""
    found = [v for (n, own), v in samples.items() if n == wanted and set(labels.items()) <= own]
    assert len(found) == 1, (wanted, labels, found)
    return found[0]


def test_every_metric_is_scraped(moment: Moment) -> None:
    """GIVEN a moment in which all is known WHEN scraped THEN every metric is there, of its kind."""
    content, kind = exposition([full(moment)])
    assert kind.startswith("text/plain")
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", content.decode(), re.MULTILINE))
    assert kinds == {metric.name: metric.kind for metric in METRICS}
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", content.decode(), re.MULTILINE))
    assert helps == {metric.name: metric.help for metric in METRICS}


def test_the_numbers_are_the_moment_s(moment: Moment) -> None:
    samples = scraped(moment)
    pool, prefix, evictions = moment.pool, moment.prefix, moment.evictions
    assert value(samples, "kvatlas_pool_blocks", state="used") == pool.used_blocks
    blocks = [v for (name, _), v in samples.items() if name == "kvatlas_pool_blocks"]
    assert sum(blocks) == pool.total_blocks
    assert value(samples, "kvatlas_pool_live_slots") == pool.live_slots
    assert value(samples, "kvatlas_pool_slot_usage_ratio") == pool.slot_usage
    assert (
        value(samples, "kvatlas_prefix_queried_tokens_total", admission="first") == prefix.queries
    )
    assert value(samples, "kvatlas_prefix_hit_tokens_total", admission="first") == prefix.hits > 0
    causes = [v for (name, _), v in samples.items() if name == "kvatlas_evicted_blocks_total"]
    assert sum(causes) == evictions.total > 0
    assert value(samples, "kvatlas_evicted_premature_blocks_total") == evictions.premature
    assert value(samples, "kvatlas_preemptions_total") == moment.requests.preemptions > 0
    done = [v for (name, _), v in samples.items() if name == "kvatlas_requests_finished_total"]
    assert sum(done) == moment.requests.finished > 0
    assert value(samples, "kvatlas_computed_tokens_total") == moment.computed_tokens > 0
    assert value(samples, "kvatlas_engine_state", state="ended") == 1
    group = moment.groups[0]
    assert value(samples, "kvatlas_group_hit_blocks_total", group="0") == group.hit_blocks > 0


def test_what_is_not_known_has_no_sample(moment: Moment) -> None:
    """GIVEN a moment that lacks figures WHEN scraped THEN they are absent, never 0."""
    names = {name for name, _ in scraped(moment)}
    assert not {n for n in names if n.startswith(("kvatlas_process", "kvatlas_torch"))}
    assert "kvatlas_recording_age_seconds" not in names
    nobody = msgspec.structs.replace(
        moment, pool=msgspec.structs.replace(moment.pool, slot_usage=None)
    )
    assert "kvatlas_pool_slot_usage_ratio" not in {name for name, _ in scraped(nobody)}
    # Samples of the monitor of which everything is unknown.
    bare = msgspec.structs.replace(moment, memory=[{"t_ms": 1.0, "rss_bytes": None}])
    assert {name for name, _ in scraped(bare)} == names


def test_memory_and_devices(moment: Moment) -> None:
    samples = scraped(full(moment))
    assert value(samples, "kvatlas_process_resident_memory_bytes") == 10
    assert value(samples, "kvatlas_torch_reserved_bytes", device="0") == 40
    assert value(samples, "kvatlas_device_used_bytes", device="1") == 50
    assert value(samples, "kvatlas_alert", name="stalled", level="bad") == 1


def test_engines_are_told_apart_and_hostile_names_are_text(moment: Moment) -> None:
    """GIVEN labels of any bytes WHEN scraped THEN the text stays valid, one line a sample."""
    names = ['a"b', "c\\d\ne", 'x"} 1\nkvatlas_evil 1', "\udcff.arrows", "é"]
    moments = [msgspec.structs.replace(moment, engine=name) for name in names]
    samples = scraped(*moments)
    engines = {dict(labels)["engine"] for _, labels in samples}
    assert engines == {'a"b', "c\\d\ne", 'x"} 1\nkvatlas_evil 1', "?.arrows", "é"}
    assert not any(name == "kvatlas_evil" for name, _ in samples)


def test_counters_never_fall_while_a_recording_plays(recording: Path) -> None:
    feed = played(recording, speed=1.0)
    board = Board(feed)
    board.advance()
    playback = feed.playback()
    before: Samples = {}
    for part in range(1, 11):
        feed.seek(playback.first_s + part / 10 * (playback.last_s - playback.first_s))
        while board.advance():
            pass
        now = {key: v for key, v in scraped(board.moment()).items() if key[0].endswith("_total")}
        assert all(now[key] >= v for key, v in before.items())
        before = now
    assert len(before) > 20


def test_a_scrape_is_fresh_and_in_the_format_that_was_asked_for(recording: Path) -> None:
    with served(Engines(played(recording)), interval_s=60.0) as site:
        answer = site.ask("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert 'kvatlas_engine_info{engine="run.arrows"' in answer.text
        wanted = {"accept": "application/openmetrics-text; version=1.0.0"}
        answer = site.ask("/metrics", wanted)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool is installed")
def test_promtool_has_nothing_to_say(moment: Moment) -> None:
    for moments in ([moment], [full(moment)]):
        content, _ = exposition(moments)
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=content, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_page_s_words_are_names(moment: Moment) -> None:
    """GIVEN the reference page WHEN read THEN every name in its prose is scraped."""
    written = set(re.findall(r"\bkvatlas_[a-z_]+", PAGE.read_text(encoding="utf-8")))
    known: dict[str, Any] = {metric.name: metric for metric in METRICS}
    assert written <= set(known)
