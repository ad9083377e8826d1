# mypy: allow-untyped-defs, disable-error-code="assignment"
"""Variances of many predictions, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def quadratic_forms(groups_at, groups, units_at, units, seconds, types, slope, by_load, by_shape, covariance):
    """g C g for the gradient g of each stage: by its units' types first, then by the shape parameters.

    types: of each unit, 0 .. n - 1. slope: of each type. by_load (stages,), by_shape (stages, 4): derivatives.
    """
    stages = len(groups_at) - 1
    result = np.empty(stages)
    count = len(covariance)
    shape = by_shape.shape[1]
    gradient = np.zeros(count)
    used = np.empty(count, np.int64)
    for stage in range(stages):
        n = 0
        for i in range(shape):
            used[n] = count - shape + i
            gradient[used[n]] = by_shape[stage, i]
            n += 1
        for g in range(groups_at[stage], groups_at[stage + 1]):
            group = groups[g]
            for u in range(units_at[group], units_at[group + 1]):
                kind = types[units[u]]
                if gradient[kind] == 0.0:
                    used[n] = kind
                    n += 1
                gradient[kind] += by_load[stage] * seconds[u] * slope[kind] + 1e-300
        total = 0.0
        for i in range(n):
            for j in range(n):
                total += gradient[used[i]] * covariance[used[i], used[j]] * gradient[used[j]]
        for i in range(n):
            gradient[used[i]] = 0.0
        result[stage] = total
    return result
