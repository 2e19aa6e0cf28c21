"""The table of settings: every setting once, and everything that follows from it agrees."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest

from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.engine.setting import Setting
from kvatlas.engine.settings import DRIVE_SETTINGS, ENGINE_SETTINGS, SETTINGS
from kvatlas.plan.command_line import flags_of
from kvatlas.tiers.registry import SWAPS, WRITE_BACKS

OTHERS = {
    # Settings of `EngineConfig` without a flag of their own: the pool's flags, or none, say them.
    "num_blocks",
    "block_size",
    "num_lookahead_tokens",
    "kv_cache_groups",
    "hash_block_size",
    "prefix_cache_retention_interval",
    "version",
}


def ids(setting: Setting) -> str:
    """Return what names a case."""
    return setting.key


def test_every_setting_is_declared_once() -> None:
    for names in (
        [each.field for each in SETTINGS.values()],
        [each.key for each in ENGINE_SETTINGS + DRIVE_SETTINGS],
        [each.flag for each in SETTINGS.values()],
    ):
        assert len(names) == len(set(names))
    assert {each.name for each in fields(EngineConfig)} == OTHERS | {
        each.field for each in ENGINE_SETTINGS
    }
    assert [each.name for each in fields(DriveConfig)] == [each.field for each in DRIVE_SETTINGS]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=ids)
def test_a_flag_has_the_settings_type_and_default(setting: Setting) -> None:
    hints = get_type_hints(ReplayFlags)
    default = {each.name: each.default for each in fields(ReplayFlags)}[setting.name]
    kind = str | None if setting.in_bytes else type(setting.default)
    assert hints[setting.name] == kind
    assert default == setting.usual
    assert isinstance(setting.default, bool) == (setting.metavar is None)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=ids)
def test_a_choice_names_what_there_is(setting: Setting) -> None:
    owner = EngineConfig if setting in ENGINE_SETTINGS else DriveConfig
    choices = get_args(get_type_hints(owner)[setting.field])
    shown = (setting.metavar or "").startswith("[")
    assert shown == bool(choices)
    if choices:
        assert setting.metavar == f"[{'|'.join(choices)}]"
        assert setting.default in choices
    known: dict[str, Any] = {"host_write_back": WRITE_BACKS, "swap": SWAPS}
    assert choices == tuple(known.get(setting.key, choices))


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=ids)
def test_what_is_said_is_read_again_and_a_default_need_not_be_said(setting: Setting) -> None:
    assert setting.value(setting.usual) == setting.default
    assert setting.flag not in flags_of({setting.key: setting.usual})
    other: Any = not setting.default if isinstance(setting.default, bool) else 7
    assert setting.value(setting.said(other)) == other
    said = flags_of({setting.key: other})
    flag, text = setting.words(other)
    assert said[flag] == text
    assert flag == (f"--no-{setting.flag[2:]}" if other is False else setting.flag)


def test_what_is_not_vllms_is_off_by_default() -> None:
    ours = {each.key: each.usual for each in SETTINGS.values() if each.own}
    assert ours == {
        "eviction_policy": "lru",
        "placement": "queue",
        "host_blocks": 0,
        "host_policy": "lru",
        "host_write_back": "evict",
        "host_bandwidth": None,
        "host_block_bytes": None,
        "swap": "auto",
        "forget_uncomputed": False,
        "lazy_free_steps": 0,
        "protect_waiting": 0,
        "preallocate_blocks": 0,
        "preallocate_predicted": False,
        "admission_growth": 0.0,
    }
    assert not EngineConfig(num_blocks=9).under_pressure
    for name in ("lazy_free_steps", "preallocate_predicted", "admission_growth"):
        assert EngineConfig(num_blocks=9).with_(**{name: 1}).under_pressure
    assert not EngineConfig(num_blocks=9, forget_uncomputed=True).under_pressure


@pytest.mark.parametrize(
    "line",
    [
        "import kvatlas, kvatlas.engine, kvatlas.engine.settings",
        "from kvatlas.engine import DriveConfig, EngineConfig, FullAttentionSpec",
        "from kvatlas.eviction import POLICIES; from kvatlas.placement import PLACEMENTS",
        "from kvatlas.tiers import TIER_POLICIES",
        "import kvatlas.pressure, kvatlas.storage.arena, kvatlas.defrag, kvatlas.llama",
    ],
)
def test_names_and_settings_need_no_compiler(line: str) -> None:
    told = f"{line}\nimport sys\nprint('numba' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
