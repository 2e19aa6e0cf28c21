"""What `kvatlas budget` shows, frozen; every view gets the same.

Owns: the shape, and its JSON (docs/reference/budget-json.md). Leaves to others: every figure
(`kvatlas.budget`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvatlas.budget import Budget, Flag, LengthFit, Measured, RecordedLoad, Row, Verdict

__all__ = ["BudgetDocument", "LogSide"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


@dataclass(frozen=True, slots=True)
class LogSide:
    """What a start-up log says beside the prediction.

    Attributes:
        file: where it was read; version: vLLM's, None when it does not say.
        real: the figures.
        rows: predicted and real.
        notes: sentences.
    """

    file: str
    version: str | None
    real: Measured
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BudgetDocument:
    """A budget with everything that is said about it.

    Attributes:
        version: kvatlas's.
        config: settings by the names of their flags.
        found: the budget.
        verdict: whether it fits.
        fits: requests of each length.
        flags: vLLM's; command: the line that they make.
        replay: the line that replays a trace in such a pool, empty where it cannot say it.
        log: the real side, None without a log.
        load: the replayed snapshot, None without one.
    """

    version: str
    config: Mapping[str, Any]
    found: Budget
    verdict: Verdict
    fits: tuple[LengthFit, ...]
    flags: tuple[Flag, ...]
    command: str
    replay: str
    log: LogSide | None = None
    load: RecordedLoad | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        found = self.found
        device, buffers = found.request.device, found.request.buffers
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "config": dict(self.config),
            "verdict": asdict(self.verdict),
            "model": {
                "name": found.name,
                "source": found.source,
                "model_type": found.facts.model_type,
                "parameters": found.parameters,
                "parameters_by_part": dict(found.part_parameters),
                "quantization": found.quantization.name,
            },
            "device": {
                "name": device.name,
                "title": device.title,
                "total_bytes": device.total_bytes,
                "reported": device.reported,
                "source": device.source,
            },
            "stages": [
                {
                    "rank": each.stage.rank,
                    "layers": list(each.stage.layers),
                    "weight_bytes": each.stage.weight_bytes,
                    "total_bytes": each.waterfall.total_bytes,
                    "requested_bytes": each.waterfall.requested_bytes,
                    "terms": [asdict(term) for term in each.waterfall.terms],
                    "kv_bytes": each.waterfall.kv_bytes,
                    "kv_basis": each.waterfall.kv_basis,
                    "free_at_start_bytes": each.waterfall.free_at_start_bytes,
                    "unused_bytes": each.waterfall.unused_bytes,
                    "bytes_per_block": each.block_bytes,
                    "num_blocks": each.num_blocks,
                }
                for each in found.stages
            ],
            "tightest_stage": found.tightest.stage.rank,
            "kv_cache": {
                "num_blocks": found.pool.num_blocks,
                "num_blocks_after_buffer": found.blocks_after_buffer,
                "block_size": found.block_size,
                "bytes_per_token": found.token_bytes,
                "tokens": found.pool.capacity_tokens(found.max_model_len),
                "max_model_len": found.max_model_len,
                "max_concurrency": found.pool.concurrency(found.max_model_len),
                "longest": found.pool.longest(found.max_model_len),
                "groups": [asdict(group) for group in found.groups],
            },
            "lengths": [asdict(each) for each in self.fits],
            "buffers": asdict(buffers) | {"recommended_bytes": buffers.recommended_bytes},
            "flags": [asdict(flag) for flag in self.flags],
            "command": self.command,
            "replay": self.replay or None,
            "log": self._log(),
            "snapshot": None if self.load is None else asdict(self.load),
            "notes": list(found.notes),
        }

    def _log(self) -> dict[str, Any] | None:
        if self.log is None:
            return None
        return {
            "file": self.log.file,
            "vllm": self.log.version,
            "real": asdict(self.log.real),
            "rows": [asdict(row) for row in self.log.rows],
            "notes": list(self.log.notes),
        }
