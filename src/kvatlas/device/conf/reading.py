"""A text of settings read as PyTorch reads it, token for token.

Owns: the tokens, the course of the parser, each value's form, and findings about single keys.
Leaves to others: what settings do together (`rules`), the environment.

Source: ConfigTokenizer of c10/core/AllocatorConfig.h and the keys of
c10/cuda/CUDAAllocatorConfig.h, PyTorch 2.13; what they do with odd texts was tried on its CPU
build, and tests/device/test_conf_beside_torch.py tries it again. A parser that expects a colon or a
comma takes whatever stands there, which is where settings get lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches

from kvatlas.device.conf.divisions import read_divisions
from kvatlas.device.conf.findings import Finding, Level
from kvatlas.device.conf.tokens import Stopped, Token, Tokens, stoull, tokenized

__all__ = ["KNOWN_KEYS", "LEAST_LARGE_MIB", "MOST_MIB", "Reading", "read_text"]

LEAST_LARGE_MIB = 10
"""A segment of the large pool must be larger than the requests that share one."""

MOST_MIB = (2**64 - 1) >> 20
"""What PyTorch takes larger sizes for: no limit."""

_FLOAT = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(.*)", re.DOTALL)
_SWITCHES = frozenset(
    (
        "expandable_segments",
        "graph_capture_record_stream_reuse",
        "pinned_free_catch_all",
        "pinned_use_background_threads",
        "pinned_use_cuda_host_register",
        "pinned_use_hip_host_register",
        "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc",
        "throw_on_cudamalloc_oom",
    )
)
_WHOLE = frozenset(
    (
        "large_segment_size_mb",
        "max_non_split_rounding_mb",
        "max_split_size_mb",
        "pinned_max_cached_size_mb",
        "pinned_max_round_threshold_mb",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
    )
)
_SHARES = frozenset(("garbage_collection_threshold", "per_process_memory_fraction"))
KNOWN_KEYS = _SWITCHES | _WHOLE | _SHARES | {"backend", "roundup_power2_divisions"}
"""The keys of PyTorch 2.13's CUDA build."""


@dataclass(slots=True)
class Reading:
    """What PyTorch took from a text.

    Attributes:
        values: by key, what it holds at the end: bool, int (MiB, where the key says so), float, str
            or a table of 16 divisions.
        columns: where each key stands, the last time it is named.
        findings: in the order of the text.
        stopped: PyTorch refused the text; what came behind was not read.
        adrift: how many findings there were when the parser took a word for a mark; what it says
            of the text behind is about its own confusion. None: it never did.
    """

    values: dict[str, bool | int | float | str | tuple[int, ...]] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    stopped: bool = False
    adrift: int | None = None

    def find(
        self, level: Level, rule: str, token: Token | None, what: str, consequence: str, remedy: str
    ) -> None:
        """Note a finding."""
        column = None if token is None else token.column
        self.findings.append(
            Finding(
                level=level, rule=rule, column=column, what=what, consequence=consequence,
                remedy=remedy,
            )
        )  # fmt: skip


def read_text(text: str) -> Reading:
    """Return what PyTorch 2.13 takes from `text`; O(characters). Never fails: it says."""
    found = Reading()
    tokens = tokenized(text)
    try:
        _large_segment_first(found, tokenized(text))
        while tokens.left:
            key = tokens.take(lambda: "")
            _setting(found, tokens, key)
            if tokens.left:
                _comma(found, tokens)
    except Stopped as stop:
        found.stopped = True
        found.find("refused", stop.rule, stop.token, stop.what, stop.consequence, stop.remedy)
    return found


def _large_segment_first(found: Reading, tokens: Tokens) -> None:
    """Read `large_segment_size_mb` before all others, which it is the least of; wherever it is."""
    name = "large_segment_size_mb"
    while tokens.left:
        key = tokens.take(lambda: "")
        if key.text != name:
            continue
        tokens.take(lambda: f"{name} has no value")
        value = tokens.take(lambda: f"{name} has no value")
        read = stoull(value.text)
        if read is None:
            raise _no_number(name, value)
        if read[0] <= LEAST_LARGE_MIB:
            raise Stopped(
                "large-segment-too-small", value, f"{name} is {value.text}",
                "PyTorch refuses the text: requests up to 10 MiB share such a segment",
                "write more than 10",
            )  # fmt: skip
        found.values[name], found.columns[name] = min(read[0], MOST_MIB), key.column


def _comma(found: Reading, tokens: Tokens) -> None:
    token = tokens.take(lambda: "")
    if token.text != ",":
        found.find(
            "trap", "swallowed", token, f"no comma before {token.text}",
            "PyTorch expects a comma, does not look whether it is one, and so loses this",
            "write a comma between two settings",
        )  # fmt: skip


def _setting(found: Reading, tokens: Tokens, key: Token) -> None:
    """Read one setting, the key of which has been taken."""
    name = key.text
    if name not in KNOWN_KEYS:
        _unknown(found, tokens, key)
        return
    if name in found.columns and found.columns[name] != key.column:
        found.find(
            "trap", "named-twice", key, f"{name} is named twice",
            "the last one counts; of a list, what it does not name stays from the one before",
            "name it once",
        )  # fmt: skip
    _colon(found, tokens, key)
    value = tokens.take(lambda: f"{name} has no value")
    if name == "roundup_power2_divisions":
        before = found.values.get(name, (0,) * 16)
        assert isinstance(before, tuple)
        found.values[name] = read_divisions(found.find, tokens, value, before)
    elif value.text in "[]:,":
        raise Stopped(
            "no-value", value, f"{name} has no value but {value.text}",
            "PyTorch refuses the text", f"write {name}:VALUE",
        )  # fmt: skip
    elif name in _SWITCHES:
        found.values[name] = _switch(name, value)
    elif name in _WHOLE:
        found.values[name] = _whole(found, name, value)
    elif name in _SHARES:
        found.values[name] = _share(found, name, value)
    else:
        found.values[name] = _backend(value)
    found.columns[name] = key.column


def _colon(found: Reading, tokens: Tokens, key: Token) -> None:
    colon = tokens.take(lambda: f"{key.text} has no value")
    if colon.text != ":":
        found.find(
            "trap", "swallowed", colon, f"no colon between {key.text} and its value",
            f"PyTorch does not look whether it is one, and loses {colon.text}",
            f"write {key.text}:VALUE",
        )  # fmt: skip


def _unknown(found: Reading, tokens: Tokens, key: Token) -> None:
    """Pass over a key that PyTorch does not know, as its CPU build does."""
    name = key.text
    if name == ",":
        what, remedy = "a comma with no setting before it", "remove one comma"
    else:
        what = f"{name} is no setting"
        remedy = _meant(name)
    lost = tokens.peek(0)
    also = "" if lost is None or lost.text == ":" else f", and over {lost.text} with it"
    found.find(
        "refused", "unknown-key", key, what,
        f"PyTorch's CUDA build refuses the text; its CPU build passes over it in silence{also}",
        remedy,
    )  # fmt: skip
    if also and found.adrift is None:
        found.adrift = len(found.findings)
    tokens.take(lambda: f"{name} has no value")
    if tokens.take(lambda: f"{name} has no value").text == "[":
        while tokens.take(lambda: f"the list of {name} has no end").text != "]":
            pass


def _meant(name: str) -> str:
    bare = name.strip("\"'").split("=")[0].split(";")[0]
    if bare in KNOWN_KEYS:
        return "remove the quotes" if bare == name.strip("\"'") else f"write {bare}:VALUE"
    close = get_close_matches(bare.lower(), KNOWN_KEYS, 1)
    return f"write {close[0]}" if close else "remove it"


def _switch(name: str, value: Token) -> bool:
    if value.text not in ("True", "False"):
        guess = "False" if value.text.lower() in ("false", "0", "no", "off") else "True"
        raise Stopped(
            "case-of-true", value, f"{name} takes True or False, in this case, not {value.text}",
            "PyTorch refuses the text", f"write {name}:{guess}",
        )  # fmt: skip
    return value.text == "True"


def _whole(found: Reading, name: str, value: Token) -> int:
    """Return what `std::stoull` makes of a text."""
    read = stoull(value.text)
    if read is None:
        raise _no_number(name, value)
    number, rest = read
    if value.text.startswith("-") and number:
        found.find(
            "trap", "negative", value, f"{name} is negative",
            "PyTorch takes it for a number beyond all memory, as if the setting were not there",
            "leave the setting out",
        )  # fmt: skip
    _rest(found, name, value, rest, str(number))
    if value.spaced and not rest:
        found.find(
            "trap", "space-in-number", value, f"{name} holds a number with a space in it",
            f"PyTorch removes the space and reads {number}", "write one number",
        )  # fmt: skip
    return min(number, MOST_MIB) if name.endswith("_mb") else number


def _share(found: Reading, name: str, value: Token) -> float:
    """Return what `std::stod` makes of a text."""
    match = _FLOAT.fullmatch(value.text)
    if match is None:
        raise _no_number(name, value)
    number, rest = float(match[1]), match[2]
    edges = (0.0, 1.0) if name == "per_process_memory_fraction" else ()
    if not 0.0 < number < 1.0 and number not in edges:
        percent = number / 100
        remedy = f"write {name}:{percent:g}" if 2 <= number < 100 else "write a share such as 0.8"
        raise Stopped(
            "not-a-share", value, f"{name} is {value.text}, not a share between 0 and 1",
            "PyTorch refuses the text", remedy,
        )  # fmt: skip
    _rest(found, name, value, rest, match[1])
    return number


def _rest(found: Reading, name: str, value: Token, rest: str, number: str) -> None:
    if rest:
        found.find(
            "trap", "rest-ignored", value, f"{name} is {value.text}",
            f"PyTorch reads {number} and ignores {rest}",
            f"write {name}:{number}" if "." not in rest else "write a whole number",
        )  # fmt: skip


def _backend(value: Token) -> str:
    if value.text not in ("native", "cudaMallocAsync"):
        raise Stopped(
            "backend", value, f"no backend is called {value.text}",
            "PyTorch's CUDA build refuses the text",
            "write backend:native or backend:cudaMallocAsync",
        )  # fmt: skip
    return value.text


def _no_number(name: str, value: Token) -> Stopped:
    return Stopped(
        "not-a-number", value, f"{name} is {value.text}, which is no number",
        "PyTorch refuses the text", f"write {name}:NUMBER",
    )  # fmt: skip
