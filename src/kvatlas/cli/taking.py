"""A verb's flags as a dataclass: each flag is declared once, as a field.

Owns: from the fields to the command that typer calls, and which flags were typed. Leaves to others:
the fields (`*_flags`), what they mean.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from kvatlas.cli.shared_flags import option, switch
from kvatlas.engine.settings import SETTINGS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["setting_flag", "takes"]

F = TypeVar("F", bound="DataclassInstance")
_OPTION = "option"
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def setting_flag(key: str, panel: str | None = None, default: str | None = None) -> Any:
    """Declare a field that is the flag of the setting `key` of `SETTINGS`.

    The field's name is the flag's, its type the setting's; text or None for a number of bytes. Its
    group and its default are the setting's, unless given.
    """
    setting = SETTINGS[key]
    panel = panel or setting.panel
    if isinstance(setting.default, bool) and not setting.one_way:
        shown = switch(setting.flag[2:], on=setting.default, help=setting.help, panel=panel)
    else:
        shown = option(setting.flag, help=setting.help, panel=panel, metavar=setting.metavar)
    return field(default=default or setting.usual, metadata={_OPTION: shown})


def takes(
    flags: type[F], *, panels: Sequence[str] = ()
) -> Callable[[Callable[[F], None]], Callable[..., None]]:
    """Make a command of a function of `flags`: every field that has an option is a flag.

    An option is the field's annotation (`Annotated[int, option(...)]`) or that of `setting_flag`. A
    field `given` gets the names of the flags that the user typed. `panels` come first in the help,
    then the other groups in the order of the fields.
    """

    def command_of(verb: Callable[[F], None]) -> Callable[..., None]:
        def command(ctx: typer.Context, **values: Any) -> None:
            if any(each.name == "given" for each in fields(flags)):
                values["given"] = frozenset(name for name in values if _is_typed(ctx, name))
            verb(flags(**values))

        hints = get_type_hints(flags, include_extras=True)
        found = (_parameter(each, hints[each.name]) for each in fields(flags))
        shown = sorted(filter(None, found), key=lambda parameter: _place(parameter, panels))
        context = inspect.Parameter("ctx", _KEYWORD, annotation=typer.Context)
        command.__name__, command.__doc__ = verb.__name__, verb.__doc__
        command.__signature__ = inspect.Signature([context, *shown])  # type: ignore[attr-defined]
        return command

    return command_of


def _parameter(each: Field[Any], hint: Any) -> inspect.Parameter | None:
    """Return a field as a parameter that typer understands, None for one that is no flag."""
    if _OPTION in each.metadata:
        hint = Annotated[hint, each.metadata[_OPTION]]
    elif not hasattr(hint, "__metadata__"):
        return None
    default = inspect.Parameter.empty if each.default is MISSING else each.default
    return inspect.Parameter(each.name, _KEYWORD, annotation=hint, default=default)


def _place(parameter: inspect.Parameter, panels: Sequence[str]) -> int:
    """Return where a flag's group stands; arguments, which are in none, come before all."""
    panel = parameter.annotation.__metadata__[0].rich_help_panel
    if panel is None:
        return -1
    return panels.index(panel) if panel in panels else len(panels)


def _is_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
