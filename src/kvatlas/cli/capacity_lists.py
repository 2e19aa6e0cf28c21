"""Lists on the command line of `kvatlas curve` and `kvatlas policies`: capacities, targets, names.

Owns: reading them, and which capacities are replayed. Leaves to others: what is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.cli.capacity_input import naming_capacity_flags
from kvatlas.errors import InputError

__all__ = ["list_parts", "parse_capacities", "parse_names", "parse_targets", "replay_capacities"]


def parse_capacities(text: str | None) -> list[int] | None:
    """Return the capacities of a list, rising, each once; None without one. Raises: InputError."""
    if text is None:
        return None
    from kvatlas.measure.curves import MOST_BLOCKS

    numbers = []
    for part in list_parts(text, "--capacities"):
        try:
            number = int(part)
        except ValueError:
            number = 0
        if not 1 <= number <= MOST_BLOCKS:
            raise InputError(
                "not a list of blocks, each at least 1",
                field="--capacities",
                value=part,
                remedy="write 3000,6000,12000",
            )
        numbers.append(number)
    return sorted(set(numbers))


def parse_targets(text: str | None) -> list[float] | None:
    """Return the wanted hit rates as shares, as given; None without any. Raises: InputError."""
    if text is None:
        return None
    shares = []
    for part in list_parts(text, "--target"):
        try:
            percent = float(part.removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not 0 < percent <= 100:
            raise InputError(
                "not a list of percentages above 0, up to 100",
                field="--target",
                value=part,
                remedy="write 30,35",
            )
        shares.append(percent / 100)
    return sorted(set(shares))


def parse_names(text: str | None) -> list[str] | None:
    """Return the policies of a list, None without one. Raises: InputError for one that is not."""
    if text is None:
        return None
    from kvatlas.eviction import policy

    names = list_parts(text, "--policies")
    with naming_capacity_flags():
        return [policy(name).name for name in names]


def list_parts(text: str, flag: str) -> list[str]:
    """Return what stands between the commas. Raises: InputError where nothing does."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(
            "a list with nothing in it", field=flag, value=text, remedy="put commas between values"
        )
    return parts


def replay_capacities(wanted: int, first: Sequence[int], others: Sequence[int]) -> list[int]:
    """Return at most `wanted` capacities to replay: those of `first`, then some of `others`."""
    chosen = list(dict.fromkeys(blocks for blocks in first if blocks > 0))[:wanted]
    left = [blocks for blocks in others if blocks not in chosen]
    missing = min(wanted - len(chosen), len(left))
    if missing > 0:
        # The middles of equal stretches, so that one alone stands in the middle.
        at = [int((i + 0.5) * len(left) / missing) for i in range(missing)]
        chosen += [left[i] for i in at]
    return sorted(chosen)
