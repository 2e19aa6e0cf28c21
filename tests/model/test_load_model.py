"""Finding a model by file, directory or name, and what the catalogue promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvatlas.errors import InputError
from kvatlas.model import CATALOGUE, load_model
from kvatlas.model.config_json import as_config
from kvatlas.model.families import FAMILIES
from kvatlas.model.layout import facts_from_config

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 512,
}


def test_a_file_with_python_infinity(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")]}))

    assert len(load_model(path).layers) == 4


def test_where_a_model_may_be(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(LLAMA))

    for path in (tmp_path / "tiny", tmp_path / "tiny" / "config.json"):
        model = load_model(path)
        assert (model.name, model.source) == ("tiny", str(tmp_path / "tiny" / "config.json"))
    assert load_model("Qwen/Qwen3-8B").name == "qwen3-8b"
    assert load_model("GPT-OSS-20B").kinds == {"sliding": 12, "full": 12}


@pytest.mark.parametrize("name", ["no-such-model", "", "a\0b", "x" * 5000, "no/such.json"])
def test_a_model_that_is_nowhere(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_model(name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_goes_before_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen3-8b").mkdir()
    assert load_model("qwen3-8b").source.startswith("Qwen/")
    (tmp_path / "qwen3-8b" / "config.json").write_text(json.dumps(LLAMA))
    assert load_model("qwen3-8b").kinds == {"full": 4}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_catalogue_entry_is_a_model(name: str) -> None:
    model = load_model(name)

    assert model.layers
    assert model.max_model_len
    assert model.source.endswith(": config.json")
    assert CATALOGUE[name]["model_type"] in FAMILIES


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=8)
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(CATALOGUE)),
    st.dictionaries(
        st.sampled_from(
            sorted(
                {key for fields in CATALOGUE.values() for key in fields} - {"source"}
                | {"layer_types", "no_rope_layers", "quantization_config", "use_sliding_window"}
            )
        ),
        JUNK,
        max_size=3,
    ),
)
def test_junk_in_a_field_gives_facts_or_one_line(name: str, junk: dict[str, Any]) -> None:
    try:
        model = facts_from_config(as_config({**CATALOGUE[name], **junk}), "junk")
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(layer.head_size >= 0 for layer in model.layers)
