"""What is public is exported, documented and cheap to import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import kvatlas

PACKAGES = (
    "kvatlas.budget",
    "kvatlas.defrag",
    "kvatlas.device",
    "kvatlas.engine",
    "kvatlas.engine.nano",
    "kvatlas.events",
    "kvatlas.llama",
    "kvatlas.measure",
    "kvatlas.measure.fragmentation",
    "kvatlas.model",
    "kvatlas.oom",
    "kvatlas.placement",
    "kvatlas.plan",
    "kvatlas.pressure",
    "kvatlas.pressure.hybrid",
    "kvatlas.report",
    "kvatlas.storage",
    "kvatlas.storage.arena",
    "kvatlas.tiers",
    "kvatlas.watch",
    "kvatlas.workload",
)
HEAVY = ("numba", "pandas", "plotly", "pooch", "pyarrow", "rich", "torch", "typer", "vllm")
ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference" / "python.md"


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert kvatlas.__version__ == version("kvatlas")


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_sorted_and_there(package: str) -> None:
    module = import_module(package)
    names = list(module.__all__)
    constants = [name for name in names if name.isupper()]
    assert names == [*sorted(constants), *sorted(set(names) - set(constants))]
    for name in names:
        assert hasattr(module, name), name


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_carry_docstrings(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        public = getattr(module, name)
        if inspect.isclass(public) or inspect.isfunction(public):
            assert inspect.getdoc(public), name
            if inspect.isclass(public):
                for method, what in vars(public).items():
                    if inspect.isfunction(what) and not method.startswith("_"):
                        assert inspect.getdoc(what), f"{name}.{method}"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = import_module("kvatlas.engine").Nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_in_the_reference(package: str) -> None:
    listed = re.findall(r"^::: (\S+)$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    module = import_module(package)
    exported = {name: getattr(module, name) for name in module.__all__}
    wanted = {
        f"{package}.{name}"
        for name, what in exported.items()
        if inspect.isclass(what) or inspect.isfunction(what)
    }
    assert wanted - set(listed) == set()


@pytest.mark.parametrize(
    "package", ["kvatlas", "kvatlas.engine", "kvatlas.workload", "kvatlas.cli"]
)
def test_importing_stays_light(package: str) -> None:
    # GIVEN a fresh interpreter WHEN the package is imported THEN nothing heavy comes with it
    code = f"import {package}, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & set(HEAVY) == set()


def test_all_errors_form_one_tree() -> None:
    errors = import_module("kvatlas.errors")
    classes = [what for what in vars(errors).values() if inspect.isclass(what)]
    own = [what for what in classes if what.__module__ == "kvatlas.errors"]
    assert len(own) >= 3
    assert all(issubclass(what, errors.KvatlasError) for what in own)


def test_every_dependency_is_used_and_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["data"]]
    names = {re.split(r"[^\w-]", wish, maxsplit=1)[0] for wish in wanted}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for name in sorted(names):
        assert re.search(rf"^\s*(import|from) {name}\b", sources, re.MULTILINE), name
        assert f"| {name} " in design, name
