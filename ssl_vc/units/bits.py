"""Bit packing: fixed-width integers and Elias gamma codes, without gaps."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]  # of 0 and 1


def width_of(kinds: int) -> int:
    """Returns how many bits a number below `kinds` takes."""
    return max(kinds - 1, 1).bit_length()


def fixed(numbers: Iterable[int], width: int) -> Bits:
    """Encode each number in `width` bits, the highest first."""
    column = np.fromiter(numbers, np.int64)[:, None]
    return ((column >> np.arange(width - 1, -1, -1)) & 1).astype(np.uint8).ravel()


def gamma(numbers: Iterable[int]) -> Bits:
    """Encode positive numbers by Elias' gamma code: 1 takes one bit, 2 and 3 take three, 4 to 7 five."""
    text = "".join("0" * (number.bit_length() - 1) + f"{number:b}" for number in map(int, numbers))
    return np.frombuffer(text.encode(), np.uint8) - ord("0")


def to_bytes(*parts: Bits) -> bytes:
    """Pack bits; the last byte is padded with zeros."""
    return np.packbits(np.concatenate([np.zeros(0, np.uint8), *parts])).tobytes()


class BitReader:
    """Reads bits in the order they were written; raises `ValueError` where they end early."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._at = 0

    def fixed(self, count: int, width: int) -> npt.NDArray[np.int64]:
        """Decode what `fixed` encoded."""
        bits = self.bits(count * width).reshape(count, width).astype(np.int64)
        return bits @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))

    def gamma(self, count: int) -> npt.NDArray[np.int64]:
        """Decode what `gamma` encoded."""
        return np.array([self._one_gamma() for _ in range(count)], np.int64)

    def end(self) -> None:
        """Refuse trailing bits, except the zeros that pad the last byte."""
        rest = self._bits[self._at :]
        if len(rest) > 7 or rest.any():
            raise ValueError(f"{len(rest)} bits are left over")

    def bits(self, count: int) -> Bits:
        """Read raw bits."""
        if count > len(self._bits) - self._at:
            raise ValueError("it ends too early")
        self._at += count
        return self._bits[self._at - count : self._at]

    def _one_gamma(self) -> int:
        ones = np.flatnonzero(self._bits[self._at : self._at + 32])
        if not len(ones):
            raise ValueError("a gamma code has no end")
        self.bits(int(ones[0]))
        return int(self.fixed(1, int(ones[0]) + 1)[0])
