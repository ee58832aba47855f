"""Bits: whole numbers one behind the other without gaps, each as long as its kind needs."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]  # of 0 and 1


def width_of(kinds: int) -> int:
    """Tell how many bits a number below `kinds` takes."""
    return max(kinds - 1, 1).bit_length()


def fixed(numbers: Iterable[int], width: int) -> Bits:
    """Write each number in `width` bits, the highest first."""
    column = np.fromiter(numbers, np.int64)[:, None]
    return ((column >> np.arange(width - 1, -1, -1)) & 1).astype(np.uint8).ravel()


def gamma(numbers: Iterable[int]) -> Bits:
    """Write numbers from 1 on by Elias' gamma code: 1 takes one bit, 2 and 3 take three, 4 to 7 five."""
    text = "".join("0" * (number.bit_length() - 1) + f"{number:b}" for number in map(int, numbers))
    return np.frombuffer(text.encode(), np.uint8) - ord("0")


def to_bytes(*parts: Bits) -> bytes:
    """Pack bits; the last byte is filled up with zeros."""
    return np.packbits(np.concatenate([np.zeros(0, np.uint8), *parts])).tobytes()


class Reader:
    """Reads bits in the order in which they were written; `ValueError` where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._at = 0

    def fixed(self, count: int, width: int) -> npt.NDArray[np.int64]:
        """Read what `fixed` wrote."""
        bits = self.bits(count * width).reshape(count, width).astype(np.int64)
        return bits @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))

    def gamma(self, count: int) -> npt.NDArray[np.int64]:
        """Read what `gamma` wrote."""
        return np.array([self._one_gamma() for _ in range(count)], np.int64)

    def end(self) -> None:
        """Refuse what is left, but for the zeros that fill the last byte."""
        rest = self._bits[self._at :]
        if len(rest) > 7 or rest.any():
            raise ValueError(f"{len(rest)} bits are left over")

    def bits(self, count: int) -> Bits:
        """Read bits as they are."""
        if count > len(self._bits) - self._at:
            raise ValueError("it ends too early")
        self._at += count
        return self._bits[self._at - count : self._at]

    def _one_gamma(self) -> int:
        ones = np.flatnonzero(self._bits[self._at : self._at + 32])
        if not len(ones):
            raise ValueError("a run has no end")
        self.bits(int(ones[0]))
        return int(self.fixed(1, int(ones[0]) + 1)[0])
