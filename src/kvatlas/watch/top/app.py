"""The terminal app: keys, resizing, and a screen that is drawn anew with each moment.

Owns: what each key does. Leaves to others: reading (`pump`), drawing (`drawing`).
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from kvatlas.watch.source import Playable, Watch
from kvatlas.watch.top.areas import By, Look, View
from kvatlas.watch.top.drawing import cells_wanted, draw, draw_waiting
from kvatlas.watch.top.help_text import HELP
from kvatlas.watch.top.pump import Pump, Shown

__all__ = ["TopApp"]

_SEEK_S = 10.0
_FASTEST, _SLOWEST = 1024.0, 1 / 16


class HelpScreen(ModalScreen[None]):
    """What the keys do and what the lines mean; any key leaves it."""

    def compose(self) -> ComposeResult:
        """Show the text."""
        yield Static(Text.from_markup(HELP), id="help")

    def on_key(self, event: events.Key) -> None:
        """Go back."""
        event.stop()
        self.dismiss()


class TopApp(App[None]):
    """`kvatlas top`.

    Args:
        watch: what to look at.
        interval_s: between two looks, seconds.
        ascii_only: no other characters.

    Attributes:
        failed: what went wrong inside, None when all is well.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; overflow: hidden hidden; }
    #frame { width: 100%; height: 100%; background: ansi_default; color: ansi_default; }
    HelpScreen { align: center middle; background: ansi_default; }
    #help { width: 78; max-width: 100%; height: auto; max-height: 100%; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c,ctrl+q", "quit", "quit", priority=True),
        Binding("ctrl+z", "suspend_process", "suspend"),
        Binding("question_mark,h,f1", "help_text", "help"),
        Binding("o,escape", "view('overview')", "overview"),
        Binding("m", "view('map')", "map"),
        Binding("r,t", "view('requests')", "requests"),
        Binding("d", "view('details')", "details"),
        Binding("b", "by", "owners"),
        Binding("n,tab", "engine(1)", "next engine"),
        Binding("p,shift+tab", "engine(-1)", "previous engine"),
        *(Binding(str(number), f"engine_at({number - 1})") for number in range(1, 10)),
        Binding("space", "pause", "pause"),
        Binding("full_stop,s", "step", "step"),
        Binding("left", f"seek({-_SEEK_S})", "back"),
        Binding("right", f"seek({_SEEK_S})", "on"),
        Binding("home", "seek_to(0.0)", "first"),
        Binding("end", "seek_to(1.0)", "last"),
        Binding("plus,equals_sign", "speed(2.0)", "faster"),
        Binding("minus", "speed(0.5)", "slower"),
    ]

    def __init__(self, watch: Watch, interval_s: float = 1.0, *, ascii_only: bool = False) -> None:
        super().__init__(ansi_color=True)
        self.failed: BaseException | None = None
        self._shown = Shown(note="looking")
        self._look = Look(ascii_only=ascii_only)
        self._pump = Pump(watch, interval_s, self._receive, self._fail)

    def compose(self) -> ComposeResult:
        """One widget: the frame."""
        yield Static(id="frame")

    def on_mount(self) -> None:
        """Begin to look, and leave cleanly when the system asks."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self.exit)
            except (ValueError, RuntimeError, NotImplementedError):
                break  # not the main thread: whoever runs us there has signals of their own
        self._show()
        self._pump.start()

    def on_unmount(self) -> None:
        """Stop looking."""
        self._pump.close()

    def on_resize(self) -> None:
        """Draw for the new size, and get as many cells as fit now."""
        self._show()
        self._pump.wake()

    def action_help_text(self) -> None:
        """Explain."""
        self.push_screen(HelpScreen())

    def action_view(self, view: View) -> None:
        """Show one thing in full, or the overview."""
        self._look = replace(self._look, view=view)
        self._show()
        self._pump.wake()

    def action_by(self) -> None:
        """Change what a cell of the map shows."""
        by: By = "owner" if self._look.by == "state" else "state"
        self._look = replace(self._look, by=by)
        self._show()

    def action_engine(self, offset: int) -> None:
        """Show another engine."""
        self._pump.select(offset)

    def action_engine_at(self, place: int) -> None:
        """Show the engine with this number."""
        self._pump.select_at(place)

    def action_pause(self) -> None:
        """Stand still, or go on; from the end, begin again."""
        player = self._pump.player()
        if player is None:
            return
        playback = player.playback()
        if playback.position_s >= playback.last_s and playback.last_s > playback.first_s:
            player.seek(playback.first_s)
            if playback.speed == 0:
                player.set_speed(1.0)
            player.pause(False)
        else:
            player.pause(not playback.paused)
        self._pump.wake()

    def action_step(self) -> None:
        """Go on by one step of the scheduler."""
        if (player := self._pump.player()) is not None:
            player.step()
            self._pump.wake()

    def action_seek(self, offset_s: float) -> None:
        """Go some seconds back or on."""
        if (player := self._pump.player()) is not None:
            player.seek(player.playback().position_s + offset_s)
            self._pump.wake()

    def action_seek_to(self, share: float) -> None:
        """Go to a share of the recording."""
        if (player := self._pump.player()) is not None:
            playback = player.playback()
            player.seek(playback.first_s + share * (playback.last_s - playback.first_s))
            self._pump.wake()

    def action_speed(self, factor: float) -> None:
        """Play faster or slower."""
        if (player := self._pump.player()) is not None:
            player.set_speed(_faster(player, factor))
            self._pump.wake()

    def _receive(self, shown: Shown) -> None:
        """Take a new state from the pump's thread."""
        if self.is_running:
            self.call_later(self._take, shown)

    def _take(self, shown: Shown) -> None:
        self._shown = shown
        self._show()

    def _fail(self, error: BaseException) -> None:
        self.failed = error
        if self.is_running:
            self.call_later(self.exit)

    def _show(self) -> None:
        width, height = self.size
        shown = self._shown
        look = replace(
            self._look,
            tabs=shown.tabs,
            selected=shown.selected,
            playable=shown.playable,
            note=shown.note,
        )
        self._pump.cells = cells_wanted(look, width, height)
        if shown.moment is None:
            lines = draw_waiting(look, width, height, server=shown.waits)
        else:
            lines = draw(shown.moment, look, width, height)
        frames = self.screen_stack[0].query("#frame") if self.screen_stack else ()
        for frame in frames:
            if isinstance(frame, Static):
                frame.update(Text("\n", no_wrap=True).join(lines))


def _faster(player: Playable, factor: float) -> float:
    speed = player.playback().speed
    if speed == 0:  # as fast as it goes: there is no faster
        return 0.0 if factor > 1 else _FASTEST
    return min(_FASTEST, max(_SLOWEST, speed * factor))
