"""Shapes of a Llama: what is read from a config.json, and what is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from kvatlas.errors import InputError
from kvatlas.llama import LlamaShape

CONFIG: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
}


def test_a_config_is_read() -> None:
    shape = LlamaShape.from_config(CONFIG)
    assert (shape.num_layers, shape.num_kv_heads, shape.head_size) == (32, 8, 128)
    assert (shape.rope_theta, shape.rms_norm_eps) == (500000.0, 1e-5)


def test_newer_and_older_names() -> None:
    newer = CONFIG | {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}
    assert LlamaShape.from_config(newer).rope_theta == 7.0
    older = {name: CONFIG[name] for name in CONFIG if name != "num_key_value_heads"}
    assert LlamaShape.from_config(older).num_kv_heads == 32
    assert LlamaShape.from_config(CONFIG | {"head_dim": 64}).head_size == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act.*gelu"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type.*llama3"),
        ({"num_hidden_layers": None}, "num_hidden_layers.*whole number"),
        ({"num_hidden_layers": 0}, "num_layers.*at least 1"),
        ({"num_key_value_heads": 5}, "num_kv_heads.*divisor"),
        ({"head_dim": 127}, "head_size.*pairs"),
    ],
)
def test_what_this_model_does_not_compute(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LlamaShape.from_config(CONFIG | changes)


def test_importing_needs_no_torch() -> None:
    # GIVEN a fresh interpreter WHEN every module of the package is imported
    code = (
        "import kvatlas.llama as llama, sys\n"
        "for name in llama.__all__: getattr(llama, name)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # THEN torch has not been
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed here")
def test_without_torch_one_line_says_what_to_install() -> None:
    from kvatlas.llama import LlamaWeights

    with pytest.raises(InputError, match=r"needs torch; pip install 'kvatlas\[torch\]'"):
        LlamaWeights.random(LlamaShape.from_config(CONFIG))
