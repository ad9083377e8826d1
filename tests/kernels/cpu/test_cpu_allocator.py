"""Memory that is given back stays with the process, unless the user has set the allocator up."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from iosfarm.kernels.cpu import allocator
from iosfarm.kernels.cpu.allocator import keep_freed_memory


def faults(count: int) -> int:
    """Page faults when six tensors of 16 MiB are made, and then all are given back, so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        tensors = [torch.ones(2**22) for _ in range(6)]
        tensors.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults of glibc's allocator")
def test_memory_is_used_again_without_page_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in allocator._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    if not keep_freed_memory.__wrapped__():
        pytest.skip("another allocator than glibc's")
    faults(5)
    assert faults(10) < 40_000  # all of it anew would be 245,760 pages


@pytest.mark.parametrize("name", allocator._SETTINGS)
def test_what_the_user_has_set_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory.__wrapped__()


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory.__wrapped__()
