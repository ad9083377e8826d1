"""What modules do that an importer may not expect: the numbers are theirs, or the import is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import iosfarm
from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.torch import import_module
from iosfarm.ir.errors import UsageError

from imported_networks import largest_error  # isort: skip

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A convolution and what a test does to its result."""

    def __init__(self, after: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.conv(x))


def without_gradients(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = x.relu()
    return y + x


def in_full_precision(x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        y = x.relu()
    return y + x


def mixed(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x


def attention(mask: Tensor | None, heads: int) -> Function:
    return lambda x: nn.functional.scaled_dot_product_attention(x, x[:, :heads], x[:, :heads], attn_mask=mask)


def places(x: Tensor) -> Tensor:
    return x + torch.arange(x.shape[0])[:, None, None, None]


RIGHT: dict[str, Function] = {
    "times the batch": lambda x: x * x.shape[0],
    "plus the batch": lambda x: x.shape[0] + x,
    "over all elements": lambda x: x.flatten(1) / x.numel(),
    "a number for each item": places,
    "a ramp over the batch": lambda x: x * torch.linspace(0, 1, x.shape[0]).view(-1, 1, 1, 1),
    "an identity over the batch": lambda x: torch.eye(x.shape[0], dtype=x.dtype) @ x.flatten(1),
    "the same for each item": lambda x: x * torch.full((x.shape[0], 1, 1, 1), 3.0),
    "no gradients": without_gradients,
    "autocast off": in_full_precision,
    "truth values as mask": attention(torch.ones(8, 8).tril().bool(), 4),
    "one head for all": attention(None, 1),
    "dropout of a constant": lambda x: x * nn.functional.dropout(torch.ones(8), 0.5, training=False),
}


@pytest.mark.parametrize("name", RIGHT)
def test_numbers_are_the_modules(name: str) -> None:
    module = Net(RIGHT[name]).eval()
    imported = import_module(module, torch.zeros(1, 3, 8, 8), check=False)
    for batch in (1, 3):
        assert largest_error(imported, module, ((3, 8, 8),), batch) <= 1e-5


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(0, 3)] * 4), st.tuples(*[st.integers(2, 4)] * 2), st.integers(1, 3), st.booleans(),
    st.sampled_from([float("-inf"), 0.0, -1e30]),
)  # fmt: skip
def test_padded_maximum_pools(
    padding: tuple[int, ...], kernel: tuple[int, int], stride: int, ceil: bool, value: float
) -> None:
    """ "Same" pools pad with minus infinity: where the pool itself can do that nothing stays whole."""

    def pool(x: Tensor) -> Tensor:
        x = nn.functional.pad(x, padding, value=value)
        return nn.functional.max_pool2d(x, kernel, stride, ceil_mode=ceil)

    module = Net(pool).eval()
    size = (3, 9, 10)
    if value == float("-inf") and not module(torch.zeros(1, *size)).isfinite().all():
        return  # a window of nothing
    imported = import_module(module, torch.zeros(1, *size), check=False)
    assert largest_error(imported, module, (size,), 2) <= 1e-5
    if (
        value == float("-inf")
        and padding[0] == padding[2] == 0
        and not ceil
        and stride <= min(kernel)
        and max(padding) <= 1
    ):
        assert not imported.opaque


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_stay_whole(layer: type[nn.RNNBase]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer(8, 5, 2, batch_first=True, bidirectional=True, dropout=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1, 2))[0]  # type: ignore[no-any-return]

    module = Recurrent().eval()
    imported = import_module(module, torch.zeros(1, 3, 8, 8))
    assert largest_error(imported, module, ((3, 8, 8),), 2) <= 1e-5


def with_nothing(x: Tensor) -> Tensor:
    return torch.cat([x, x[:, 4:]], 1)


WRONG: dict[str, tuple[Function, str]] = {
    "over the batch": (lambda x: x * (1.0 / x.shape[0]), "other numbers than the module.*; no number may depend"),
    "batch and one": (lambda x: x * (x.shape[0] + 1), "other numbers than the module"),
    "a tensor of it": (lambda x: x * torch.tensor(x.shape[0]), "other numbers than the module"),
    "a branch on it": (lambda x: x if x.shape[0] < 9 else 2 * x, "other numbers than the module"),
    "half of it": (lambda x: x[: x.shape[0] // 2 + 1], "cannot run with a batch of 2"),
    "autocast": (mixed, r"mixed precision \(autocast\)"),
    "sparse": (lambda x: x.to_sparse().to_dense(), "a tensor of the layout sparse_coo"),
    "nothing": (with_nothing, "0 is no size"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_no_graph_can_say_is_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    function, words = WRONG[name]
    with pytest.raises(CannotImport, match=words) as caught:
        import_module(Net(function), torch.zeros(1, 3, 8, 8))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_weights_without_numbers() -> None:
    with pytest.raises(CannotImport, match=r"'conv\.weight' has no numbers: it is on the device meta"):
        import_module(Net(torch.relu).to("meta"), torch.zeros(1, 3, 8, 8))
    module = Net(torch.relu)
    nn.init.constant_(module.conv.weight, float("nan"))
    assert any("conv.weight has NaN" in notice for notice in import_module(module, torch.zeros(1, 3, 8, 8)).notices)


def test_numpy_as_example() -> None:
    with pytest.raises(CannotImport, match="example inputs are NumPy arrays; wrap them"):
        import_module(Net(torch.relu), [torch.zeros(1, 3, 8, 8).numpy()])


def test_a_batch_that_is_fixed_is_said() -> None:
    found = import_module(Net(lambda x: x.reshape(2, 256).unflatten(1, (4, 64))), torch.zeros(2, 3, 8, 8))
    assert any("for a batch of 2 alone" in notice for notice in found.notices)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_said(dtype: torch.dtype) -> None:
    words = str(dtype).removeprefix("torch.")
    whole = import_module(Net(torch.relu).to(dtype), torch.zeros(1, 3, 8, 8, dtype=dtype))
    inside = import_module(Net(lambda x: x.to(dtype).relu().float()), torch.zeros(1, 3, 8, 8))
    for found in (whole, inside):
        assert any(f"computes in {words}" in n or f"and {words}" in n for n in found.notices)


RESULTS: dict[str, Function] = {
    "whole numbers": lambda x: x.argmax(1),
    "truth values": lambda x: x > 0,
    "double precision": lambda x: x.double(),
    "half precision": lambda x: x.half(),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_have_the_modules_dtype(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    module, x = Net(RESULTS[name]).eval(), torch.randn(2, 3, 8, 8)
    database = str(tmp_path_factory.getbasetemp() / "surprises.db")
    with iosfarm.compile(module, example_inputs=x, device="sim:v100", database=database, budget="20 stages") as model:
        actual, expected = model(x), module(x).detach()
        assert actual.dtype == expected.dtype
        assert torch.allclose(actual.double(), expected.double(), rtol=1e-3)
        assert model(x.numpy()).dtype == expected.numpy().dtype


def test_whole_numbers_need_float32() -> None:
    module, x = Net(lambda x: x.argmax(1)).bfloat16(), torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="int64, which bfloat16 cannot hold exactly"):
        iosfarm.compile(module, example_inputs=x)
