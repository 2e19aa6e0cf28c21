"""Errors that name the flag.

Owns: which flag holds a setting of the engine or an option of a reader; names of a command's own
flags. Leaves to others: raising.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine.settings import SETTINGS
from kvatlas.errors import InputError

__all__ = ["naming_flags", "naming_own_flags"]

_FLAGS = {field.name for field in fields(ReplayFlags)}
_FLAG_OF_FIELD = {
    "num_blocks": "--blocks",
    "hash_block_size": "--block-size",
    "kv_cache_groups": "--model",
    "version": "--engine-version",
    "device_blocks": "--blocks",
    "interval": "--budget-interval",
    "step_share": "--budget-step",
    "least_gain": "--budget-least-gain",
    **{setting.field: setting.flag for setting in SETTINGS.values()},
}


@contextmanager
def naming_flags() -> Iterator[None]:
    """Let errors about a setting or an option name the flag that holds it."""
    try:
        yield
    except InputError as error:
        if error.line is None and error.field is not None:
            if error.field in _FLAG_OF_FIELD:
                error.field = _FLAG_OF_FIELD[error.field]
            elif error.field in _FLAGS:
                error.field = "--" + error.field.replace("_", "-")
        raise


@contextmanager
def naming_own_flags(fields: Collection[str], flag_of_field: Mapping[str, str]) -> Iterator[None]:
    """Let errors about what a command was given name the flag; not those about a file's content.

    `fields`: those whose flags have their names; `flag_of_field`: those whose flags have others.
    """
    try:
        yield
    except InputError as error:
        if error.line is None and error.file is None and error.field is not None:
            if error.field in flag_of_field:
                error.field = flag_of_field[error.field]
            elif error.field in fields:
                error.field = "--" + error.field.replace("_", "-")
        raise
