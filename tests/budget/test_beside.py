"""What checkpoints hold beside the language model: counted, and said in a note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvatlas.budget import BudgetRequest, Parallel, budget, find_device
from kvatlas.budget.beside import draft_weights, vision_parameters
from kvatlas.model import load_config, load_model
from kvatlas.model.config_json import as_config

SIGLIP = {  # Gemma 3's
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "patch_size": 14,
    "image_size": 896,
}


def _tower(**fields: Any) -> int | None:
    return vision_parameters(as_config({"model_type": "llama", "vision_config": fields}))


def test_deepseeks_draft_layer_is_as_large_as_its_makers_say() -> None:
    """671 B and 14 B of multi-token prediction, which bring embedding and head of their own."""
    name, config = load_config("deepseek-v3")
    draft = sum(weight.parameters for weight in draft_weights(config, load_model(name)))
    ends = 2 * 129280 * 7168

    assert draft == pytest.approx(11.6e9, rel=0.005)
    assert (draft + ends) / 1e9 == pytest.approx(14, abs=0.6)
    whole = budget(BudgetRequest(model=name, device=find_device("4TB"))).parameters
    assert (whole + draft + ends) / 1e9 == pytest.approx(685, abs=0.6)


def test_a_note_says_what_the_draft_layer_takes_on_a_rank() -> None:
    notes = {
        tp: next(
            note
            for note in budget(
                BudgetRequest(
                    model="deepseek-v3", device=find_device("h200"), parallel=Parallel(tp=tp)
                )
            ).notes
            if "multi-token" in note
        )
        for tp in (1, 8)
    }
    assert "10.91 GiB on each rank" in notes[1]
    assert "1.55 GiB on each rank" in notes[8]
    plain = budget(BudgetRequest(model="llama-3.1-8b", device=find_device("h100"))).notes
    assert not any("multi-token" in note for note in plain)
    assert draft_weights(load_config("qwen3-8b")[1], load_model("qwen3-8b")) == ()


def test_gemmas_tower_is_as_large_as_its_file_says() -> None:
    assert _tower(**SIGLIP) == 416_866_032


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "another"},
        {"hidden_size": None},
        {"hidden_size": True},
        {"hidden_size": -1},
        {"hidden_size": 1 << 60},
        {"image_size": "large"},
        {"num_hidden_layers": [3]},
    ],
)
def test_a_tower_that_is_not_understood_has_no_figure(change: dict[str, Any]) -> None:
    assert _tower(**{**SIGLIP, **change}) is None
    missing = {key: value for key, value in SIGLIP.items() if key != next(iter(change))}
    assert _tower(**missing) is None


def test_a_note_says_what_the_tower_takes(tmp_path: Path) -> None:
    text = dict(load_config("gemma-3-12b")[1].values)
    fields = {"model_type": "gemma3", "text_config": text, "vision_config": SIGLIP}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    found = budget(BudgetRequest(model=tmp_path, device=find_device("h100")))

    note = next(note for note in found.notes if "multimodal" in note)
    assert "416,866,032 parameters, 795.11 MiB in 16 bits" in note
