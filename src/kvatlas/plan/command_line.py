"""Settings as the flags of `kvatlas replay`, so that everything tried can be typed again.

Owns: which flag says which setting, and which need not be said. Leaves to others: the flags
themselves (`kvatlas.cli`), which a test holds this to.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from kvatlas.engine.setting import SettingValue
from kvatlas.engine.settings import SETTINGS
from kvatlas.units import format_bytes, parse_bytes

__all__ = [
    "FROM_MEMORY",
    "NANO",
    "NANO_BLOCK_SIZE",
    "NANO_LACKS",
    "change_between",
    "command_of",
    "flags_of",
]

NANO = "nano-vllm"
NANO_BLOCK_SIZE = 256
FROM_MEMORY = "--kv-memory"
"""What `blocks_from` says of a pool whose size is given in bytes."""

NANO_LACKS = {each.key: each.nano_has for each in SETTINGS.values() if each.nano_has}
"""Settings that nano-vLLM does not have, in words."""

_DEFAULTS: dict[str, SettingValue | None] = {
    # What a flag says when it is left out.
    "block_size": 16,
    **{each.key: each.usual for each in SETTINGS.values()},
    "format": None,
    "limit": None,
    "seed": None,
    "sort": False,
    "last_block": None,
    "tokens_per_id": None,
    "identity_tokens": None,
}


def flags_of(said: Mapping[str, Any]) -> dict[str, str]:
    """Return flags and values (empty for a switch), without those that say a default."""
    nano = said.get("engine") == NANO
    flags: dict[str, str] = {}
    if nano:
        flags["--engine"] = NANO
    if said.get("engine_version") is not None:
        flags["--engine-version"] = str(said["engine_version"])
    if said.get("blocks_from") == FROM_MEMORY:
        flags["--model"] = str(said.get("model"))
        flags["--kv-memory"] = _exact_bytes(said["kv_memory_bytes"])
    else:
        flags["--blocks"] = str(said.get("num_blocks"))
    for name, usual in _DEFAULTS.items():
        default = NANO_BLOCK_SIZE if nano and name == "block_size" else usual
        value = said.get(name, default)
        if value is None or value == default or (nano and name in NANO_LACKS):
            continue
        flag, text = _flag(name, value)
        flags[flag] = text
    return flags


def command_of(said: Mapping[str, Any]) -> str:
    """Return the replay's command line, quoted for a shell."""
    trace = said.get("trace")
    words = ["kvatlas", "replay", *([] if trace is None else [str(trace)])]
    for flag, value in flags_of(said).items():
        words += [flag, value] if value else [flag]
    return shlex.join(words)


def change_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the flags that turn the settings `before` into those `after`."""
    old, new = flags_of(before), flags_of(after)
    words = [f"{flag} {text}".strip() for flag, text in new.items() if old.get(flag) != text]
    for name, value in _DEFAULTS.items():
        flag = _flag_name(name)
        was, is_now = ({flag, f"--no-{flag[2:]}"} & set(flags) for flags in (old, new))
        if was and not is_now:
            # Back to what it is when nobody says.
            if flag == "--block-size" and after.get("engine") == NANO:
                value = NANO_BLOCK_SIZE
            words.append(" ".join(_flag(name, value)).strip())
    return " ".join(words)


def _flag(name: str, value: SettingValue | None) -> tuple[str, str]:
    if name in SETTINGS:
        return SETTINGS[name].words(value)
    return _flag_name(name), "" if isinstance(value, bool) else str(value)


def _flag_name(name: str) -> str:
    return SETTINGS[name].flag if name in SETTINGS else "--" + name.replace("_", "-")


def _exact_bytes(size: int) -> str:
    """Return bytes as a flag takes them, in a unit only where nothing is lost."""
    short = format_bytes(size).replace(" ", "")
    return short if parse_bytes(short) == size else str(size)
