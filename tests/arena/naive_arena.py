"""An arena the slow and obvious way: a sorted list of free ranges, looked through for each call."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class NaiveArena:
    """Best fit by (length, offset) over `[origin, origin + capacity)`."""

    address: int
    origin: int
    capacity: int
    granule: int
    free: list[tuple[int, int]] = field(init=False)  # (offset, length), by offset

    def __post_init__(self) -> None:
        self.free = [(self.origin, self.capacity)]

    def rounded(self, nbytes: int) -> int:
        """Return the length that serves a request."""
        return -(-nbytes // self.granule) * self.granule

    def allocate(self, nbytes: int, alignment: int) -> int | None:
        """Return the offset, None when no free range holds so much at such an address."""
        length, align = self.rounded(nbytes), max(alignment, self.granule)
        fits = []
        for offset, whole in self.free:
            start = -(-(self.address + offset) // align) * align - self.address
            if start + length <= offset + whole:
                fits.append((whole, offset, start))
        if not fits:
            return None
        whole, offset, start = min(fits)
        self.free.remove((offset, whole))
        self.free += [(offset, start - offset), (start + length, offset + whole - start - length)]
        self.free = sorted((at, rest) for at, rest in self.free if rest)
        return start

    def release(self, offset: int, nbytes: int) -> None:
        """Take a range back and merge all that touches."""
        merged: list[tuple[int, int]] = []
        for at, length in sorted([*self.free, (offset, self.rounded(nbytes))]):
            if merged and sum(merged[-1]) == at:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((at, length))
        self.free = merged

    @property
    def largest(self) -> int:
        """Return the longest free range, 0 without."""
        return max((length for _, length in self.free), default=0)
