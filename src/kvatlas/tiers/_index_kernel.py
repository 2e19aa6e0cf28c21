"""A hash index from 62-bit names to numbers, by open addressing.

Owns: finding, adding and taking out in O(1) expected, without tombstones. Leaves to others: what
the numbers are. An index holds 1 + number, 0 where empty; `names[number]` is the name it is under.
The load stays at one half or below.
"""

from __future__ import annotations

from kvatlas.jit import entry, inlined, kernel
from kvatlas.tiers._state_kernel import I32, I64, NONE

_MASK32 = 0xFFFFFFFF


@inlined
def _home(index: I32, name: int) -> int:
    """Return where `name` belongs; two multiplicative rounds, products below 2**63."""
    mixed = (name ^ (name >> 32)) & _MASK32
    mixed = (mixed * 0x5BD1E995) & _MASK32
    mixed ^= mixed >> 15
    mixed = (mixed * 0x27D4EB2F) & _MASK32
    mixed ^= mixed >> 13
    return int(mixed & (index.shape[0] - 1))


@inlined
def find(index: I32, names: I64, name: int) -> int:
    """Return the number under `name`, NONE without."""
    at = _home(index, name)
    while True:
        held = int(index[at])
        if held == 0:
            return NONE
        if names[held - 1] == name:
            return held - 1
        at = (at + 1) & (index.shape[0] - 1)


@inlined
def add(index: I32, names: I64, number: int) -> None:
    """File `number` under `names[number]`, which must not be there."""
    at = _home(index, names[number])
    while index[at] != 0:
        at = (at + 1) & (index.shape[0] - 1)
    index[at] = number + 1


@inlined
def replace(index: I32, names: I64, number: int, other: int) -> None:
    """Let `other`, which has the same name, take the place of `number`."""
    at = _home(index, names[number])
    while index[at] != number + 1:
        at = (at + 1) & (index.shape[0] - 1)
    index[at] = other + 1


@kernel
def take_out(index: I32, names: I64, number: int) -> None:
    """Forget `number` and close the gap."""
    mask = index.shape[0] - 1
    hole = _home(index, names[number])
    while index[hole] != number + 1:
        hole = (hole + 1) & mask
    at = (hole + 1) & mask
    while index[at] != 0:
        # It may fill the hole unless its home lies behind the hole, in (hole, at].
        from_home = (at - _home(index, names[index[at] - 1])) & mask
        if from_home >= (at - hole) & mask:
            index[hole] = index[at]
            hole = at
        at = (at + 1) & mask
    index[hole] = 0


@entry
def first_lost(index: I32, names: I64) -> int:
    """Return a number that is filed where its name does not lead, NONE when there is none."""
    for at in range(index.shape[0]):
        held = int(index[at])
        if held != 0 and find(index, names, names[held - 1]) != held - 1:
            return held - 1
    return NONE
