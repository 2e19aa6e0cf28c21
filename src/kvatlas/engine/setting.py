"""One setting of an engine as a field of a dataclass that says all there is to say about it.

Owns: the declaration (`setting`), and its reading (`settings_of`). Leaves to others: which settings
there are (`settings`). Imports nothing heavy, because `--help` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Setting", "SettingValue", "setting", "settings_of"]

SettingValue = int | float | bool | str
"""What a setting can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, wherever it is said.

    Attributes:
        field: of `EngineConfig` or `DriveConfig`.
        key: in the `config` of the JSON and of recordings.
        flag: of `kvatlas replay`.
        default: when nobody says.
        help: one sentence for the command line; panel: the group it stands in.
        metavar: what stands behind the flag, None for a switch.
        own: not vLLM's: recordings that do not say it were made without it.
        nano_has: what nano-vLLM has in its place, in words; "" where it has the setting too.
        in_bytes: typed as bytes, such as 25GB/s; 0 is what nobody gave, None where it is said.
        one_way: a switch that has no `--no-`.
    """

    field: str
    key: str
    flag: str
    default: SettingValue
    help: str
    panel: str
    metavar: str | None
    own: bool
    nano_has: str
    in_bytes: bool
    one_way: bool

    @property
    def name(self) -> str:
        """The flag as a Python name."""
        return self.flag[2:].replace("-", "_")

    @property
    def usual(self) -> SettingValue | None:
        """What a flag that is left out holds, and the JSON of a replay without it."""
        return self.said(self.default)

    @property
    def is_whole(self) -> bool:
        """Whether its value is a whole number."""
        return type(self.default) is int

    def said(self, value: SettingValue) -> SettingValue | None:
        """Return the value of the field as the JSON says it."""
        return None if self.in_bytes and not value else value

    def value(self, said: SettingValue | None) -> SettingValue | None:
        """Return what the JSON says as a value of the field."""
        if not self.in_bytes:
            return said
        return float(said or 0) if isinstance(self.default, float) else said or 0

    def words(self, said: SettingValue | None) -> tuple[str, str]:
        """Return the flag and its value as one types them; the value is empty for a switch."""
        if isinstance(said, bool):
            return self.flag if said or self.one_way else f"--no-{self.flag[2:]}", ""
        return self.flag, str(said).removesuffix(".0")


def setting(
    default: SettingValue,
    panel: str,
    help: str,
    metavar: str | None = None,
    *,
    key: str | None = None,
    flag: str | None = None,
    own: bool = False,
    nano_has: str = "",
    in_bytes: bool = False,
    one_way: bool = False,
) -> Any:
    """Declare a field; its key in the JSON is its name, and the flag is the key, unless given.

    The rest is as in `Setting`.
    """
    more = {"own": own, "nano_has": nano_has, "in_bytes": in_bytes, "one_way": one_way}
    said = {"panel": panel, "help": help, "metavar": metavar, "key": key, "flag": flag}
    return field(default=default, metadata=said | more)


def settings_of(declared: type[DataclassInstance]) -> tuple[Setting, ...]:
    """Return the settings of a dataclass in the order of its fields."""
    settings = []
    for each in fields(declared):
        said: dict[str, Any] = {**each.metadata, "default": each.default}
        said["key"] = said["key"] or each.name
        said["flag"] = said["flag"] or "--" + said["key"].replace("_", "-")
        settings.append(Setting(field=each.name, **said))
    return tuple(settings)
