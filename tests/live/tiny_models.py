"""Models of a few kilobytes that a real vLLM loads and serves on a CPU in milliseconds a step.

Owns: their configurations and their random weights. Leaves to others: serving them (`server`) and
running them offline (`offline`).

The weights are drawn here, not left to vLLM's dummy loader: its numbers are so small that a tiny
model answers from its last token alone, and an answer that does not depend on the KV cache could
not tell whether the cache was right. With these, attention decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

VOCABULARY = 512
HIDDEN, INNER, HEADS, HEAD_SIZE, LAYERS = 64, 128, 2, 32, 4
MAX_TOKENS = 4096
WINDOW_TOKENS = 128  # of the hybrid model: four blocks of 32

_SHARED = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "head_dim": HEAD_SIZE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": MAX_TOKENS,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
_GEMMA = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "tie_word_embeddings": True,
    "sliding_window": WINDOW_TOKENS,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
    "query_pre_attn_scalar": HEAD_SIZE,
}


def make_llama(folder: Path) -> Path:
    """Write a model with one group of full attention into a new folder and return it."""
    return _write(folder, _SHARED | _LLAMA, gemma=False)


def make_hybrid(folder: Path) -> Path:
    """Write a model of two groups, sliding window and full attention, and return its folder."""
    return _write(folder, _SHARED | _GEMMA, gemma=True)


def _write(folder: Path, config: dict[str, object], *, gemma: bool) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_safetensors(folder / "model.safetensors", dict(_weights(gemma=gemma)))
    return folder


def _weights(*, gemma: bool) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield every parameter by the name that the checkpoints of this architecture use."""
    rng = np.random.default_rng(20)

    def linear(outputs: int, inputs: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        return rng.normal(0, gain / np.sqrt(inputs), (outputs, inputs)).astype(np.float32)

    def scale(size: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        return np.full(size, gain - 1.0 if gemma else gain, np.float32)  # Gemma adds the 1 itself

    # Gemma multiplies what it looks up by sqrt(HIDDEN), here 8, and predicts with the same matrix.
    yield "model.embed_tokens.weight", linear(VOCABULARY, HIDDEN, 1.0 if gemma else 8.0)
    if not gemma:
        yield "lm_head.weight", linear(VOCABULARY, HIDDEN)
    yield "model.norm.weight", scale(HIDDEN)
    norms = {"input_layernorm": 1.0, "post_attention_layernorm": 1.0}
    if gemma:  # its layers norm what they add: three times louder than the token they add it to
        norms |= {"post_attention_layernorm": 3.0}
        norms |= {"pre_feedforward_layernorm": 1.0, "post_feedforward_layernorm": 3.0}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for norm, gain in norms.items():
            yield f"{at}.{norm}.weight", scale(HIDDEN, gain)
        yield f"{at}.self_attn.q_proj.weight", linear(HEADS * HEAD_SIZE, HIDDEN, 2.0)
        yield f"{at}.self_attn.k_proj.weight", linear(HEAD_SIZE, HIDDEN, 2.0)
        yield f"{at}.self_attn.v_proj.weight", linear(HEAD_SIZE, HIDDEN, 4.0)
        yield f"{at}.self_attn.o_proj.weight", linear(HIDDEN, HEADS * HEAD_SIZE, 4.0)
        if gemma:
            yield f"{at}.self_attn.q_norm.weight", scale(HEAD_SIZE)
            yield f"{at}.self_attn.k_norm.weight", scale(HEAD_SIZE)
        yield f"{at}.mlp.gate_proj.weight", linear(INNER, HIDDEN)
        yield f"{at}.mlp.up_proj.weight", linear(INNER, HIDDEN)
        yield f"{at}.mlp.down_proj.weight", linear(HIDDEN, INNER)


def _write_safetensors(path: Path, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
    """Write the safetensors format: length of the head, the head in JSON, the bytes."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        head[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.nbytes],
        }
        at += tensor.nbytes
    encoded = json.dumps(head).encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors.values():
            file.write(tensor.tobytes())
