"""A compiled model that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from compile_examples import WEIGHTS
from conformance import block, mixing

import iosfarm
from iosfarm.deploy.model import CompiledModel


@pytest.fixture(scope="module")
def model() -> Iterator[CompiledModel]:
    with iosfarm.compile(block(), mixing(block()), device="cpu", weights=WEIGHTS) as model:
        yield model
