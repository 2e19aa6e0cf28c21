"""Two data-parallel engines behind one server: a recording each, and each is whole."""

from __future__ import annotations

from pathlib import Path

from load import Asked, send
from process_site import TINY_ENGINE, environment
from seen import Viewer, verified
from server import serving

from kvatlas.events.live.folders import engine_folders, read_facts


def test_two_engines_record_beside_each_other(
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, dict[str, tuple[int, ...]]],
    tmp_path: Path,
) -> None:
    record = tmp_path / "recordings"
    engine = TINY_ENGINE | {"data_parallel_size": 2, "api_server_count": 1}
    around = environment(tmp_path / "site", record=record, stand_in="fork")
    viewer = Viewer(record)
    with serving(models["llama"], tmp_path / "log", around, engine) as server:
        assert send(server.url, server.model, requests_150) == plain_answers["llama"]
        queries = server.metric("vllm:prefix_cache_queries_total")
        hits = server.metric("vllm:prefix_cache_hits_total")
        moments = viewer.wait_for(
            lambda moments: sum(moment.requests.finished for moment in moments) == len(requests_150)
        )
    viewer.close()

    assert [read_facts(folder).live["data_parallel_rank"] for folder in engine_folders(record)] == [
        0, 1
    ]  # fmt: skip
    first, second = moments
    assert first.requests.arrived + second.requests.arrived == len(requests_150)
    assert min(first.requests.arrived, second.requests.arrived) > 0
    assert first.prefix.queries + second.prefix.queries == queries
    assert first.prefix.hits + second.prefix.hits == hits
    result = verified(record)
    assert result.identical, result.text
    assert result.calls > 2 * len(requests_150)
