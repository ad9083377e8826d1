"""Between torch's tensors on the host and bytes as they lie on the device (dense NHWC), in the same dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cuda.device.gpu import Bytes


def bytes_of(tensor: Tensor) -> Bytes:
    """A tensor of any memory format; one of four dimensions becomes NHWC."""
    ordered = tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor
    flat: Bytes = ordered.contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat


def tensor_of(data: Bytes, shape: Shape, dtype: str, channels_last: bool) -> Tensor:
    """The inverse; takes the bytes over. shape: as the graph has it. Contiguous unless it is to be channels last."""
    flat = torch.from_numpy(data).view(getattr(torch, dtype))
    if len(shape) != 4:
        return flat.reshape(shape)
    batch, channels, height, width = shape
    image = flat.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    return image if channels_last else image.contiguous()
