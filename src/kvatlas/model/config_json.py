"""Hugging Face's config.json, read with care.

Owns: opening the file, finding the language model's part, and handing out checked values. Leaves
to others: what the values mean (`layout`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvatlas.errors import InputError

__all__ = ["Config", "read_config"]

_MAX_FILE_BYTES = 16 * 2**20
_REQUIRED = object()
MAX_COUNT = 1_000_000
"""No count in a config (heads, layers, channels) is larger; beyond it the file is nonsense."""


@dataclass(frozen=True, slots=True)
class Config:
    """The language model's part of a config, whose getters raise one-line errors.

    Attributes:
        values: the fields of the language model.
        whole: the file's outermost fields; the same as `values` in a text-only model.
        file: where they come from, for the errors.
    """

    values: Mapping[str, Any]
    whole: Mapping[str, Any]
    file: str | None = None

    @property
    def model_type(self) -> str:
        """The language model's `model_type`. Raises: InputError if there is none."""
        found = self.values.get("model_type") or self.whole.get("model_type")
        if not isinstance(found, str):
            raise self.error(
                "not a model config: it names no model_type", remedy="give the model's config.json"
            )
        return found

    def error(
        self,
        what: str,
        *,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> InputError:
        """Return an error that names the file."""
        return InputError(what, file=self.file, field=field, value=value, remedy=remedy)

    def count(self, field: str, default: object = _REQUIRED, *, most: int = MAX_COUNT) -> int:
        """Return a count of at least 1; `default` where the field is missing or null.

        Raises:
            InputError: missing without a default, not a whole number, or out of 1..`most`.
        """
        found = self.values.get(field)
        if found is None:
            found = default
        if found is _REQUIRED:
            raise self.error("missing from the config", field=field)
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
            raise self.error(
                "cannot be right",
                field=field,
                value=found,
                remedy=f"a whole number from 1 to {most} is expected",
            )
        return found

    def optional_count(self, field: str, default: int | None = None) -> int | None:
        """Return a count, or None where the field says null or 0; `default` where missing."""
        if field not in self.values:
            return default
        return self.count(field, most=2**31 - 1) if self.values[field] else None

    def names(self, field: str) -> list[str] | None:
        """Return a list of names, None where missing. Raises: InputError for anything else."""
        found = self.values.get(field)
        if found is None:
            return None
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise self.error("must be a list of names", field=field, value=found)
        return found


def read_config(path: Path) -> Config:
    """Return the config in `path`, a file or a directory with a config.json.

    Raises:
        InputError: no such file, too large, not JSON, or not an object.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise InputError("too large for a model config", file=file)
        # Not msgspec: Python writes these files, and some hold its `Infinity`.
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(
            "cannot read the model config",
            file=file,
            value=error.strerror,
            remedy="give the path of a config.json",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            "not JSON", file=file, value=str(error), remedy="give the model's config.json"
        ) from None
    return as_config(found, str(file))


def as_config(whole: object, file: str | None = None) -> Config:
    """Return decoded JSON as a `Config`; multimodal models keep theirs under `text_config`."""
    if not isinstance(whole, dict):
        raise InputError(
            "not a model config: the file holds no JSON object",
            file=file,
            remedy="give the model's config.json",
        )
    text = whole.get("text_config")
    return Config(values=text if isinstance(text, dict) else whole, whole=whole, file=file)
