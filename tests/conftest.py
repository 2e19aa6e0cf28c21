"""How random tests run everywhere: the same examples on every machine, however slow it is.

Also where public traces lie: `KVATLAS_SHARED` names a folder with `traces` and `oracle`. Without it
the tests look for `shared` beside the repository, and skip what they do not find.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests import random_courses
from tests.processor_time import ProcessorTime

settings.register_profile(
    "kvatlas",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("kvatlas")

if os.environ.get("KVATLAS_SHARED"):
    os.environ.setdefault("KVATLAS_TRACES", str(Path(os.environ["KVATLAS_SHARED"]) / "traces"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--processor-time", action="store_true", help="print which files took how much of it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not random_courses.FULL:
        random_courses.cut(items)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--processor-time"):
        config.pluginmanager.register(ProcessorTime())
