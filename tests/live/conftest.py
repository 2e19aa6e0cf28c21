"""What the tests of a real server share: models, one process with vLLM imported, recordings' ends.

Owns: fixtures, and skipping all of it where vLLM is not installed. Leaves to others: the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from load import Asked, draw_requests
from offline import Offline, offline_runs
from process_site import installed_vllm
from seen import seen
from tiny_models import make_hybrid, make_llama

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and skip it without vLLM."""
    missing = installed_vllm() is None
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.filterwarnings("default"))
            if missing:
                item.add_marker(pytest.mark.skip(reason="the real vLLM is not installed here"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of the tiny models by name."""
    folder = tmp_path_factory.mktemp("models")
    return {"llama": make_llama(folder / "llama"), "hybrid": make_hybrid(folder / "hybrid")}


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offline]:
    """Return offline runs that share one import of vLLM."""
    with offline_runs(tmp_path_factory.mktemp("offline") / "runs") as runs:
        yield runs


@pytest.fixture(scope="session")
def requests_150() -> list[Asked]:
    """Return requests that preempt each other in the tiny pool."""
    return draw_requests(150)


@pytest.fixture(scope="session", autouse=True)
def compiled_view(
    offline: Offline, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Compile what reads recordings, so that no test waits for it while its engine runs."""
    folder = tmp_path_factory.mktemp("compiled")
    offline.start(models["llama"], draw_requests(20), record=folder)
    offline.finish()
    assert seen(folder).requests.finished == 20


@pytest.fixture(scope="session")
def plain_answers(
    offline: Offline, models: dict[str, Path], requests_150: list[Asked]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return what the models answer to these requests when nothing records."""
    answers = {}
    for name, model in models.items():
        offline.start(model, requests_150, record=None)
        answers[name] = offline.finish()
    return answers
