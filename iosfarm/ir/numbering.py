# mypy: allow-untyped-defs, disable-error-code="assignment"
"""The numbering of many stages' inputs, compiled: what `StageFactory.make` does with one, step by step.

A stage becomes a row of integers: its strategy, then for each of its groups, in the stage's order, the number of its
code and the numbers of the inputs that it reads. Equal stages have equal rows. Rows are compared in full, so there are
no collisions.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def identify(
    offsets, members, concurrent_count,  # stages: the groups of stage s are members[offsets[s] : offsets[s + 1]]
    code, rank, readings_at, readings, inputs_at, inputs,  # groups, and the readings of group g in the same way
    slots, hashes, rows_at, rows, count,  # classes so far: a hash table of their numbers, and the row of each
    order, numbers, left, tried,  # scratch
    classes,  # the answer
):  # fmt: skip
    """Write the class of each stage, adding classes as needed. Returns how many classes there are then.

    rank: equal for groups that are alike, else as the groups of a stage are ordered. numbers: by side, numbering and
    number the tensor that has it; left: by side, numbering and group of the run of alike ones whether it is still to
    be chosen. A step leads from one side to the other.
    """
    for stage in range(len(classes)):
        first, size = offsets[stage], offsets[stage + 1] - offsets[stage]
        for i in range(size):
            group = members[first + i]
            j = i
            while j > 0 and rank[order[j - 1]] > rank[group]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = group
        begin = rows_at[count]
        rows[begin] = np.int32(stage >= concurrent_count)
        at = begin + 1
        # Typed zeros: with plain ones numba compiles `_extend` once for each literal.
        side, width, known, start = np.int64(0), np.int64(1), np.int64(0), np.int64(0)
        while start < size:
            group = order[start]
            end = start + 1
            while end < size and rank[order[end]] == rank[group]:
                end += 1
            if width == 1 and end == start + 1 and readings_at[group + 1] == readings_at[group] + 1:
                # Nothing to choose.
                rows[at] = code[group]
                at += 1
                reading = readings[readings_at[group]]
                before = known
                for k in range(inputs_at[reading], inputs_at[reading + 1]):
                    number = 0
                    while number < before and numbers[side, 0, number] != inputs[k]:
                        number += 1
                    if number == before:
                        number = known
                        numbers[side, 0, number] = inputs[k]
                        known += 1
                    rows[at] = number
                    at += 1
            else:
                for numbering in range(width):
                    for i in range(end - start):
                        left[side, numbering, i] = True
                for _ in range(start, end):
                    rows[at] = code[group]
                    at += 1
                    width = _extend(
                        order, start, end, readings_at, readings, inputs_at, inputs,
                        side, width, known, numbers, left, tried, rows, at,
                    )  # fmt: skip
                    side = 1 - side
                    before = known
                    reading = readings[readings_at[group]]
                    for _ in range(inputs_at[reading], inputs_at[reading + 1]):
                        known += rows[at] >= before
                        at += 1
            start = end
        found = _intern(slots, hashes, rows_at, rows, count, begin, at)
        classes[stage] = found
        if found == count:
            count += 1
            rows_at[count] = at
    return count


@njit(cache=True, nogil=True)
def _extend(
    order, start, end, readings_at, readings, inputs_at, inputs,
    side, width, known, numbers, left, tried, rows, at,
):  # fmt: skip
    """Choose one more group in each of `width` numberings; keep those whose new numbers, written to rows, are least.

    Returns how many are kept.
    """
    most = numbers.shape[1]
    other = 1 - side
    run = end - start
    kept = 0
    for numbering in range(width):
        tries = 0
        for i in range(run):
            if not left[side, numbering, i]:
                continue
            group = order[start + i]
            for r in range(readings_at[group], readings_at[group + 1]):
                reading = readings[r]
                twin = False  # the same code, reading the same tensors
                for k in range(tries):
                    twin |= tried[k] == reading
                if twin:
                    continue
                tried[tries] = reading
                tries += 1
                first, length = inputs_at[reading], inputs_at[reading + 1] - inputs_at[reading]
                better, worse = kept == 0, False
                fresh = known
                for k in range(length):
                    number = 0
                    while number < known and numbers[side, numbering, number] != inputs[first + k]:
                        number += 1
                    if number == known:
                        number = fresh
                        fresh += 1
                    if not better:
                        worse = number > rows[at + k]
                        better = number < rows[at + k]
                    if worse:
                        break
                    rows[at + k] = number
                if worse:
                    continue
                if better:
                    kept = 0
                if kept == most:
                    continue
                for k in range(known):
                    numbers[other, kept, k] = numbers[side, numbering, k]
                for k in range(length):
                    if rows[at + k] >= known:
                        numbers[other, kept, rows[at + k]] = inputs[first + k]
                for k in range(run):
                    left[other, kept, k] = left[side, numbering, k] and k != i
                kept += 1
    return kept


@njit(cache=True, nogil=True)
def _intern(slots, hashes, rows_at, rows, count, begin, end):
    """The class whose row equals rows[begin:end]; `count`, now in the table, if there is none."""
    mixed = np.uint64(0xCBF29CE484222325)
    for k in range(begin, end):
        mixed = (mixed ^ np.uint64(rows[k])) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    mask = len(slots) - 1
    slot = np.int64(mixed & np.uint64(mask))
    while slots[slot] >= 0:
        one = slots[slot]
        if hashes[one] == mixed and rows_at[one + 1] - rows_at[one] == end - begin:
            k = 0
            while begin + k < end and rows[rows_at[one] + k] == rows[begin + k]:
                k += 1
            if begin + k == end:
                return one
        slot = (slot + 1) & mask
    slots[slot] = count
    hashes[count] = mixed
    return count


@njit(cache=True, nogil=True)
def fill(slots, hashes, count):
    """Put the classes' numbers into an empty table."""
    mask = len(slots) - 1
    for one in range(count):
        slot = np.int64(hashes[one] & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = one
