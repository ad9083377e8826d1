"""Families of devices whose costs respect what a certificate assumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np

from iosfarm.search.network_bounds import MARGIN
from iosfarm.search.problem import PartProblem

from search_costs import (  # isort: skip - beside this file
    Floats,
    Ints,
    branches,
    device,
    monotone,
    pairs_of,
    problem_of,
)
from search_graphs import whole  # isort: skip


Costs = Callable[[PartProblem, tuple[Ints, Ints], np.random.Generator], Floats]


def uniform(problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """Nothing but monotone."""
    return monotone(pairs, rng.uniform(1e-5, 1e-4, problem.factory.class_count))


def interfering(problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """A device on which some stages disturb each other."""
    costs = device(problem, rng, capacity=rng.uniform(1, 4))
    return monotone(pairs, costs * rng.uniform(0.8, 1.25, len(costs)))


def noisy(problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator) -> Floats:
    """All the noise that the margin takes."""
    return interfering(problem, pairs, rng) * rng.choice([1 - MARGIN, 1.0], problem.factory.class_count)


def on_device(
    problem: PartProblem, pairs: tuple[Ints, Ints], rng: np.random.Generator, *, capacity: float, smooth: float | None
) -> Floats:
    return device(problem, rng, capacity=capacity, fork=rng.uniform(0, 3e-6), smooth=smooth)


HONEST: dict[str, Costs] = {
    "never full": partial(on_device, capacity=math.inf, smooth=None),
    "full late": partial(on_device, capacity=2.5, smooth=None),
    "full early": partial(on_device, capacity=0.5, smooth=None),
    "smooth": partial(on_device, capacity=1.5, smooth=4.0),
    "interfering": interfering,
    "uniform": uniform,
    "noisy": noisy,
}


@cache
def large(number: int = 0) -> tuple[PartProblem, tuple[Ints, Ints]]:
    """A part with hundreds of stages."""
    problem = problem_of(whole(branches([3, 3, 3], seed=number, kinds=8)))
    return problem, pairs_of(problem)
