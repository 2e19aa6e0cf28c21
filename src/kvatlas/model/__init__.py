"""Models as their KV memory sees them: layers, heads, windows, states; no torch, no weights.

`load_model` reads a Hugging Face config.json or knows the name, `kv_layers` gives each layer its
page, and `pool_from_memory` says how many blocks a memory size holds.
"""

from kvatlas.model.catalogue import CATALOGUE, catalogue_names
from kvatlas.model.facts import LayerFacts, LayerKind, ModelFacts, RecurrentState
from kvatlas.model.pages import KV_DTYPES, attention_block_size, bytes_per_token, kv_layers
from kvatlas.model.plan import PoolPlan, load_config, load_model, pool_from_memory

__all__ = [
    "CATALOGUE",
    "KV_DTYPES",
    "LayerFacts",
    "LayerKind",
    "ModelFacts",
    "PoolPlan",
    "RecurrentState",
    "attention_block_size",
    "bytes_per_token",
    "catalogue_names",
    "kv_layers",
    "load_config",
    "load_model",
    "pool_from_memory",
]
