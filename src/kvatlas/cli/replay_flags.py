"""What the user gave to `kvatlas replay`, as one value.

Owns: the fields, by the names of the flags. Leaves to others: the flags (`replay`), what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ReplayFlags"]


@dataclass(frozen=True, slots=True)
class ReplayFlags:
    """The flags; `None` where nothing was given and the default depends on other flags.

    `given` names those that the user typed: a recording has settings of its own for the others.
    """

    trace: str | None
    engine: str
    engine_version: str | None
    blocks: int | None
    kv_memory: str | None
    model: str | None
    block_size: int | None
    prefix_caching: bool
    eviction: str
    placement: str
    host_memory: str | None
    host_blocks: int
    host_policy: str
    host_write_back: str
    host_bandwidth: str | None
    host_block_bytes: str | None
    swap: str
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    policy: str
    watermark: float
    reserve_full_isl: bool
    long_prefill_token_threshold: int
    async_scheduling: bool
    lazy_free_steps: int
    protect_waiting: int
    preallocate_blocks: int
    preallocate_predicted: bool
    admission_growth: float
    arrivals: str
    queue_depth: int
    step_ms_base: float
    step_ms_per_ktok: float
    block_like_vllm: bool
    format: str | None
    limit: int | None
    seed: int | None
    sort: bool
    last_block: str | None
    tokens_per_id: int | None
    identity_tokens: int | None
    json: str | None
    html: str | None
    checksum: bool
    events: str | None
    given: frozenset[str] = frozenset()
