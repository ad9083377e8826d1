"""Bit sets as rows of 64-bit words, and arrays that grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]
Numbers = NDArray[np.int32]

_Number = TypeVar("_Number", bound=np.generic)
_MOST_ROOM = 1 << 24


def as_words(masks: Sequence[int], width: int) -> Words:
    """Bit sets as rows of `width` words, the lowest units first."""
    joined = b"".join(mask.to_bytes(8 * width, "little") for mask in masks)
    return np.frombuffer(bytearray(joined), dtype="<u8").astype(np.uint64, copy=False).reshape(-1, width)


def as_mask(words: Words) -> int:
    """One of those rows as an integer."""
    return int.from_bytes(words.tobytes(), "little")


def with_room(array: NDArray[_Number], needed: int) -> NDArray[_Number]:
    """The array itself, or a longer copy: twice as long, up to a point."""
    if needed <= len(array):
        return array
    longer: NDArray[_Number] = np.empty(
        (max(needed, len(array) + min(len(array), _MOST_ROOM)), *array.shape[1:]), array.dtype
    )
    longer[: len(array)] = array
    return longer


def room_for_keys(keys: Words, slots: Numbers, count: int, more: int) -> tuple[Words, Numbers]:
    """Keys and their hash table, which is at most half full, with room for more."""
    from iosfarm.search.enumeration import rehash  # imports Numba, which takes its time

    if count + more > len(keys):
        keys = with_room(keys, count + more + 256)
        slots = np.full(1 << (4 * len(keys) - 1).bit_length(), -1, np.int32)
        rehash(slots, keys, count)
    return keys, slots
