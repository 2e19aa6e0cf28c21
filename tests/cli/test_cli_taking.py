"""`takes`: a dataclass of flags makes a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from kvatlas.cli.help import GroupedCommand
from kvatlas.cli.shared_flags import option
from kvatlas.cli.taking import setting_flag, takes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """Flags of several verbs."""

    limit: Annotated[int | None, option("--limit", help="So many.", panel="Last")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags(_Base):
    """The flags of one."""

    trace: Annotated[str, typer.Argument(help="What.")]
    max_num_seqs: int = setting_flag("max_num_seqs", "First")
    arrivals: str = setting_flag("arrivals", "First", default="timed")
    swap: str = setting_flag("swap", "Second")
    host_bandwidth: str | None = setting_flag("host_bandwidth", "Second")
    prefix_caching: bool = setting_flag("prefix_caching", "Second")
    given: frozenset[str] = frozenset()


def run(*words: str) -> tuple[_Flags | None, str]:
    """Return what a command of these flags gets, and what it prints."""
    got: list[_Flags] = []

    @takes(_Flags, panels=("First", "Second"))
    def verb(flags: _Flags) -> None:
        """Do it."""
        got.append(flags)

    app = typer.Typer(rich_markup_mode=None)
    app.command("verb", cls=GroupedCommand)(verb)
    done = CliRunner().invoke(app, list(words))
    return (got[0] if got else None), done.output


def test_what_is_left_out_is_usual_and_what_is_typed_is_told() -> None:
    flags, _ = run("t.jsonl")
    assert flags == _Flags(trace="t.jsonl", given=frozenset({"trace"}))
    assert (flags.max_num_seqs, flags.arrivals, flags.host_bandwidth) == (256, "timed", None)
    flags, _ = run("t.jsonl", "--no-prefix-caching", "--host-bandwidth", "2GB/s", "--limit", "3")
    assert flags == _Flags(
        trace="t.jsonl",
        prefix_caching=False,
        host_bandwidth="2GB/s",
        limit=3,
        given=frozenset({"trace", "prefix_caching", "host_bandwidth", "limit"}),
    )


def test_help_has_the_named_groups_first() -> None:
    _, text = run("--help")
    assert "Do it." in text
    places = [text.index(word) for word in ("What.", "First:", "Second:", "Last:")]
    assert places == sorted(places)
    assert "--max-num-seqs N" in text
    assert "given" not in text


@pytest.mark.parametrize("words", [(), ("t.jsonl", "--max-num-seqs", "many")])
def test_what_is_missing_or_of_the_wrong_type_is_refused(words: tuple[str, ...]) -> None:
    flags, text = run(*words)
    assert flags is None
    assert "Error" in text
