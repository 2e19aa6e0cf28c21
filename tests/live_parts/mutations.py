"""A recording's files, damaged: by chance, and where it hurts.

Owns: one random change after another, chosen by a seed. Leaves to others: reading what comes out.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from live_fixtures import NAMES, files_of

from kvatlas.wire.layout import NAMES as RECORDS
from kvatlas.wire.segment_log import HEAD_BYTES, SUFFIX

Files = dict[str, bytes]

_ODD_WORDS = (0, 1, 2, -1, -2, 255, 256, 1 << 16, 1 << 24, (1 << 31) - 1, -(1 << 31))
_ODD_LONGS = (0, 1, 2, -1, 1 << 20, 1 << 26, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
_ODD_VALUES: tuple[Any, ...] = (
    0, 1, -1, 2, 64, 1 << 20, 1 << 22, (1 << 26) + 1, 1 << 31, 1 << 62, 1 << 64,
    0.5, 1e308, -1e-9, "", "live",
    "\x1b[2J\u202e<script>", "x" * 5000, None, True, False, [], [[]], {}, {"kind": "none"},
)  # fmt: skip


def mutated(seed: int) -> Files:
    """Return a fixture's files after one to four changes."""
    rng = Random(seed)
    files = files_of(rng.choice(NAMES))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(rng, files)
    return files


def _segment(rng: Random, files: Files) -> str:
    """Return the name of a segment; one is made when there is none left."""
    names = [name for name in files if name.endswith(SUFFIX)]
    if not names:
        files["000000.kvseg"] = rng.randbytes(200)
        return "000000.kvseg"
    return str(rng.choice(names))


def _words(data: bytes) -> list[int]:
    """Return the words that count, as the head says."""
    body = data[HEAD_BYTES:]
    count = len(body) // 4
    if len(data) >= HEAD_BYTES:
        count = max(0, min(count, struct.unpack_from("<q", data, 16)[0]))
    return list(struct.unpack_from(f"<{count}i", body))


def _with_words(data: bytes, words: list[int]) -> bytes:
    """Return the segment with other words, and a head that says how many."""
    head = bytearray(data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"))
    struct.pack_into("<q", head, 16, len(words))
    return bytes(head) + struct.pack(f"<{len(words)}i", *words)


def _records(words: list[int]) -> list[tuple[int, int]]:
    """Return (start, stop) of each record, as far as they are records."""
    found, at = [], 0
    while at < len(words) and words[at] >> 8 > 0:
        found.append((at, min(len(words), at + (words[at] >> 8))))
        at = found[-1][1]
    return found


def _change_words(change: Callable[[Random, list[int]], None]) -> Callable[[Random, Files], None]:
    def apply(rng: Random, files: Files) -> None:
        name = _segment(rng, files)
        words = _words(files[name])
        if words:
            change(rng, words)
            files[name] = _with_words(files[name], words)

    return apply


def _odd(rng: Random, word: int) -> int:
    """Return another word: an extreme one, a near one, or one with a bit flipped."""
    drawn = rng.random()
    if drawn < 0.4:
        return rng.choice(_ODD_WORDS)
    if drawn < 0.7:
        return max(-(1 << 31), min((1 << 31) - 1, word + rng.choice((-2, -1, 1, 2, 7, 1000))))
    (flipped,) = struct.unpack("<i", struct.pack("<I", (word ^ 1 << rng.randrange(32)) % (1 << 32)))
    return int(flipped)


def _word(rng: Random, words: list[int]) -> None:
    at = rng.randrange(len(words))
    words[at] = _odd(rng, words[at])


def _field(rng: Random, words: list[int]) -> None:
    """Change a word behind a record's first, or that one's code or length."""
    records = _records(words)
    if not records:
        return
    start, stop = rng.choice(records)
    at = rng.randrange(start, stop)
    if at > start:
        words[at] = _odd(rng, words[at])
    elif rng.random() < 0.5:
        words[at] = rng.randrange(len(RECORDS) + 2) | words[at] >> 8 << 8
    else:
        length = rng.choice((0, 1, 2, (1 << 23) - 1, stop - start - 1, stop - start + 1))
        words[at] = words[at] & 255 | length << 8


def _record(rng: Random, words: list[int]) -> None:
    """Drop a record, repeat it, or move it elsewhere; lengths stay right."""
    records = _records(words)
    if not records:
        return
    start, stop = rng.choice(records)
    kept = words[start:stop]
    if rng.random() < 0.7:
        del words[start:stop]
    if rng.random() < 0.7:
        places = [place for place, _ in _records(words)] or [0]
        place = rng.choice(places)
        words[place:place] = kept * rng.choice((1, 1, 2, 50))


def _stretch(rng: Random, words: list[int]) -> None:
    """Drop, repeat or shuffle a stretch of words."""
    start = rng.randrange(len(words))
    stop = min(len(words), start + rng.choice((1, 2, 5, 40, 400)))
    kept = words[start:stop]
    what = rng.randrange(3)
    if what == 0:
        del words[start:stop]
    elif what == 1:
        words[start:start] = kept
    else:
        rng.shuffle(kept)
        words[start:stop] = kept


def _bytes(rng: Random, files: Files) -> None:
    """Change a few bytes of any file."""
    name = rng.choice(sorted(files) or ["header.json"])
    data = bytearray(files.get(name, b""))
    for _ in range(rng.choice((1, 1, 3, 20))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    files[name] = bytes(data)


def _cut(rng: Random, files: Files) -> None:
    """Cut a file, or let something stand behind it."""
    name = rng.choice(sorted(files) or ["header.json"])
    data = files.get(name, b"")
    if rng.random() < 0.7:
        files[name] = data[: rng.choice((0, 1, 63, 64, 65, rng.randrange(len(data) + 1)))]
    else:
        files[name] = data + rng.randbytes(rng.choice((1, 3, 64, 5000)))


def _head(rng: Random, files: Files) -> None:
    """Change a number of a segment's head."""
    name = _segment(rng, files)
    data = bytearray(files[name].ljust(HEAD_BYTES, b"\0"))
    at = rng.randrange(HEAD_BYTES // 8)
    (value,) = struct.unpack_from("<q", data, 8 * at)
    near = min((1 << 63) - 1, value + rng.choice((-1, 1, 3)))
    struct.pack_into("<q", data, 8 * at, rng.choice((*_ODD_LONGS, near)))
    files[name] = bytes(data)


def _segments(rng: Random, files: Files) -> None:
    """Drop a segment, give it another number, or take one from another recording."""
    name = _segment(rng, files)
    what = rng.randrange(3)
    if what == 2:
        other = files_of(rng.choice(NAMES))
        files[name] = other[_segment(rng, other)]
        return
    data = files.pop(name)
    if what == 1:
        number = rng.choice((0, 1, 2, 5, 999_999, 10**12, 10**200))
        files[f"{number:06d}{SUFFIX}"] = data


def _header(rng: Random, files: Files) -> None:
    """Change, drop or add a field of the header, at any depth."""
    try:
        header = json.loads(files["header.json"])
    except (KeyError, ValueError):
        files["header.json"] = files_of(rng.choice(NAMES))["header.json"]
        return
    place: Any = header
    while isinstance(place, dict | list) and place:
        key: Any = (
            rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        )
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = rng.choice(_ODD_VALUES)
            break
        place = place[key]
    files["header.json"] = json.dumps(header).encode()


_CHANGES: tuple[Callable[[Random, Files], None], ...] = (
    _change_words(_word),
    _change_words(_field),
    _change_words(_field),
    _change_words(_field),
    _change_words(_record),
    _change_words(_record),
    _change_words(_stretch),
    _bytes,
    _cut,
    _head,
    _segments,
    _header,
)
