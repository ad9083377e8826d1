"""Small networks of every style, and the comparison of an import with what torch itself computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from iosfarm.frontends.imported import Imported
from iosfarm.kernels.reference import run_graph


def perturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, its norms' statistics and weights far from those that change nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            for name in ("running_mean", "running_var", "weight", "bias"):
                values = getattr(part, name, None)
                if isinstance(values, Tensor) and values.dim() == 1:
                    positive = name in ("running_var", "weight")
                    noise = torch.rand(values.shape, generator=generator)
                    values.copy_(0.5 + noise if positive else noise - 0.5)
    return module.eval()


def largest_error(
    imported: Imported,
    module: nn.Module,
    shapes: Sequence[Sequence[int]],
    batch: int,
    dtype: torch.dtype = torch.float64,
) -> float:
    """max |ours - torch's| / max |torch's| over all outputs; both compute in `dtype`. Shapes are without the batch."""
    generator = np.random.default_rng(batch)
    kind = np.float64 if dtype == torch.float64 else np.float32
    inputs = [generator.standard_normal((batch, *shape)).astype(kind) for shape in shapes]
    with torch.no_grad():
        result = module.to(dtype)(*(torch.from_numpy(values).clone() for values in inputs))
        module.float()
    expected = list(pytree.tree_leaves(result))
    ours = run_graph(imported.graph.bind(batch=batch), imported.weights, inputs, dtype)
    worst = 0.0
    for place, value in zip(imported.signature.outputs, expected, strict=True):
        if isinstance(place, tuple):
            continue
        theirs = value.detach().double().numpy()
        assert ours[place].shape == theirs.shape
        assert np.isfinite(theirs).all()
        worst = max(worst, float(np.abs(ours[place] - theirs).max()) / (float(np.abs(theirs).max()) or 1.0))
    return worst


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """Convolution, batch norm, ReLU in place."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Fire(nn.Module):
    """Two convolutions that can be merged."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = conv(3, 4, 1), conv(4, 6, 1), conv(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


class Dense(nn.Module):
    """Pre-activation layers that read all before them (DenseNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(3))
        self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(F.relu(norm(torch.cat(features, 1)))))
        return torch.cat(features, 1).mean((2, 3))


class Excitation(nn.Module):
    """Squeeze and excitation as it was first written: views and an expansion."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.gate = nn.Sequential(nn.Linear(8, 2), nn.ReLU(inplace=True), nn.Linear(2, 8), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, _, _ = x.size()
        y = self.gate(F.adaptive_avg_pool2d(x, 1).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


class SplitAttention(nn.Module):
    """Two branches weighted by a softmax between them (ResNeSt)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branches = conv(3, 8), conv(8, 16, groups=2)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.branches(self.stem(x))
        batch = x.shape[0]
        pieces = torch.split(x, 8, dim=1)
        gap = F.adaptive_avg_pool2d(sum(pieces), 1)  # type: ignore[arg-type]
        attention = self.up(F.relu(self.down(gap)))
        attention = attention.view(batch, 1, 2, -1).transpose(1, 2)
        attention = F.softmax(attention, dim=1).reshape(batch, -1, 1, 1)
        return sum(a * p for a, p in zip(torch.split(attention, 8, dim=1), pieces, strict=True))  # type: ignore[return-value]


class MultiScale(nn.Module):
    """Three resolutions that exchange what they have, every one an output (HRNet, FPN)."""

    def __init__(self) -> None:
        super().__init__()
        self.high, self.middle, self.low = conv(3, 4), conv(4, 6, stride=2), conv(6, 8, stride=2)
        self.sides = nn.ModuleList(nn.Conv2d(c, 5, 1) for c in (4, 6, 8))
        self.smooth = nn.ModuleList(nn.Conv2d(5, 5, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        high = self.high(x)
        middle = self.middle(high)
        scales = [side(t) for side, t in zip(self.sides, (high, middle, self.low(middle)), strict=True)]
        for i in (1, 0):
            up = F.interpolate(scales[i + 1], size=scales[i].shape[-2:], mode=("nearest", "bilinear")[i])
            scales[i] = scales[i] + up
        return {f"p{i}": layer(t) for i, (layer, t) in enumerate(zip(self.smooth, scales, strict=True))}


class Transformer(nn.Module):
    """Patches, a class token, positions, attention with torch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return (x + self.mlp(x))[:, 0]


class Windows(nn.Module):
    """Shifted windows with a mask and a table of positions (Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Conv2d(3, 8, 2, stride=2), nn.Linear(8, 24)
        self.table = nn.Parameter(torch.randn(49, 2))
        places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        between = (places[:, :, None] - places[:, None, :]) + 3
        self.register_buffer("index", between[0] * 7 + between[1])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.stem(x).permute(0, 2, 3, 1), (-2, -2), (1, 2))
        b, h, w, c = x.shape
        x = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = q * 0.5 @ k.transpose(-2, -1)
        scores = scores + self.table[self.index.flatten()].view(16, 16, 2).permute(2, 0, 1).unsqueeze(0)
        mask = torch.zeros(4, 16, 16)
        mask[1:, 8:] = -9.0
        scores = (scores.view(b, 4, 2, 16, 16) + mask[:, None].to(scores.dtype)).view(-1, 2, 16, 16)
        out = (F.softmax(scores, -1) @ v).transpose(1, 2).reshape(-1, 16, c)
        out = out.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(out, (2, 2), (1, 2)).permute(0, 3, 1, 2)


class Decoder(nn.Module):
    """U-Net: transposed convolutions, a skip, a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(3, 4), conv(4, 8, stride=2)])
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, 2, bias=False), nn.BatchNorm2d(4), nn.PReLU())
        self.head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.PixelShuffle(2), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down[0](x)
        return self.head(torch.cat([skip, self.up(self.down[1](skip))], 1))


class Shuffled(nn.Module):
    """Channels halved, shuffled, joined; separable convolutions (ShuffleNet V2, MobileNet V3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.branch = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU6()
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


class Norms(nn.Module):
    """Normalisations that cannot be folded, and activations of all sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norms = nn.Sequential(
            nn.GroupNorm(2, 8), nn.SiLU(), nn.InstanceNorm2d(8, affine=True), nn.Mish(), nn.LocalResponseNorm(5, 0.01),
            nn.SELU(), nn.CELU(), nn.Softplus(), nn.LeakyReLU(0.2), nn.Hardtanh(-1, 2), nn.ELU(0.5), nn.LogSigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.norms(self.stem(x)).mean((-2, -1)), dim=-1)


class Arithmetic(nn.Module):
    """Numbers, weights and tensors combined in every order; in place, too."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.offset = nn.Parameter(torch.randn(3, 1, 1)), nn.Parameter(torch.randn(1, 3, 8, 8))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        a = 2 - x * self.scale / 3 + self.offset
        a += 1
        a.mul_(y)
        b = (1 / (y.square() + 1)) - self.scale
        c = torch.rsub(x, y, alpha=2) + torch.sub(y, x, alpha=0.5)
        return -a.clamp(min=-1.5) + b**2, F.normalize(c.abs().add(1).sqrt(), dim=1) * torch.exp(x[:, 1:2])


class TwoInputs(nn.Module):
    """Two inputs, several outputs, one of them twice and one of them no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = conv(3, 4), nn.Linear(6, 4)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Any]:
        x = self.image(image)
        v = self.vector(vector)
        return {"x": x, "both": (x + v[:, :, None, None], v), "again": x, "nothing": None}


IMAGE = (3, 16, 16)
NETWORKS: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...]]] = {
    "fire": (Fire, (IMAGE,)),
    "dense": (Dense, (IMAGE,)),
    "excitation": (Excitation, (IMAGE,)),
    "split_attention": (SplitAttention, (IMAGE,)),
    "multi_scale": (MultiScale, (IMAGE,)),
    "transformer": (Transformer, (IMAGE,)),
    "windows": (Windows, (IMAGE,)),
    "decoder": (Decoder, (IMAGE,)),
    "shuffled": (Shuffled, (IMAGE,)),
    "norms": (Norms, (IMAGE,)),
    "arithmetic": (Arithmetic, ((3, 8, 8), (3, 8, 8))),
    "two_inputs": (TwoInputs, (IMAGE, (6,))),
}
"""Networks that have a counterpart throughout, with the shapes of their inputs."""


class Ranked(nn.Module):
    """The largest positions of an attention map, by several results of one operator and by indices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2)
        values, places = x.topk(4, dim=2)
        return values + torch.gather(x, 2, places.flip(2))


class Sampled(nn.Module):
    """A grid that is computed (spatial transformer)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.place = conv(3, 4), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        theta = self.place(x.mean((2, 3))).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class Summed(nn.Module):
    """Running sums with a learned factor, a comparison, a constant table of indices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.factor = conv(3, 4), nn.Parameter(torch.randn(16))
        self.register_buffer("order", torch.randperm(16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cumsum(self.stem(x), 3) * self.factor
        kept = torch.where(x > 0.5, x, -x)
        return kept[:, :, :, self.order], x.flatten(1).argmax(1, keepdim=True)


OPAQUE: dict[str, tuple[type[nn.Module], set[str]]] = {
    "ranked": (Ranked, {"aten.topk", "aten.flip", "aten.gather"}),
    "sampled": (Sampled, {"aten.grid_sampler"}),
    "summed": (Summed, {"aten.cumsum", "aten.gt", "aten.where", "aten.index", "aten.argmax"}),
}
"""Networks with operators that have none, and those operators; they read an image."""
