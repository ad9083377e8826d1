"""Importing torchvision beside a torch that its compiled operators were not built for.

Wheels of torchvision bring operators for one build of torch; beside another one (a CPU build from elsewhere) they are
not loaded, and torchvision fails to import because it registers shapes for them. Their declarations are enough: none of
the networks in our tests runs one.
"""

from __future__ import annotations

import torch

_NAMES = ("nms", "qnms")

_library = torch.library.Library("torchvision", "FRAGMENT")


def declare() -> None:
    """Declare what is not there yet; to be called before torchvision is imported."""
    for name in _NAMES:
        if not hasattr(torch.ops.torchvision, name):
            _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
