"""`torch.compile(model, backend="iosfarm")`: what torch computes, under a schedule; else torch itself, and why."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import iosfarm
from iosfarm.deploy import torch_backend
from iosfarm.deploy.model import CompiledModel
from iosfarm.deploy.torch_backend import IosfarmFallback, backend
from iosfarm.ir.errors import UsageError


class Net(nn.Module):
    """Branches, a batch norm with statistics of its own, results in a nest."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 4)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = torch.relu_(self.norm(self.stem(x)))
        joined = torch.cat([self.left(x), torch.relu(self.right(x))], 1)
        logits = self.head(self.dropout(joined.mean((2, 3))))
        return {"logits": logits, "images": [joined, 3]}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a schedule for `Net`, found for the module and not for what `torch.compile` captures."""
    path = tmp_path_factory.mktemp("searched") / "latency.db"
    with iosfarm.compile(Net(), example_inputs=torch.zeros(2, 3, 12, 12), database=str(path), budget="60 stages"):
        return path


@pytest.fixture(autouse=True)
def _database(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("IOSFARM_DB", shutil.copy(searched, tmp_path / "latency.db").as_posix())
    monkeypatch.setattr(torch_backend, "_said", set())
    yield
    torch._dynamo.reset()


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net().eval()


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Watching:
    """The backend, and what it returned."""

    def __init__(self) -> None:
        self.made: list[Callable[..., Any]] = []

    def __call__(self, graph: fx.GraphModule, examples: Sequence[Any], **settings: Any) -> Callable[..., Any]:
        self.made.append(backend(graph, examples, **settings))
        return self.made[-1]

    @property
    def ours(self) -> list[bool]:
        return [isinstance(made, torch_backend._Compiled) for made in self.made]


def close(actual: dict[str, Any], expected: dict[str, Any]) -> bool:
    assert actual.keys() == expected.keys()
    assert actual["images"][1] == expected["images"][1] == 3
    pairs = [(actual["logits"], expected["logits"]), (actual["images"][0], expected["images"][0])]
    return all(a.dtype == e.dtype and torch.allclose(a, e, rtol=1e-4, atol=1e-5) for a, e in pairs)


# -- under a schedule ------------------------------------------------------------------------------------------------


def test_torch_knows_it_by_name(net: Net) -> None:
    assert "iosfarm" in torch._dynamo.list_backends()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", IosfarmFallback)
        assert close(torch.compile(net, backend="iosfarm")(X), net(X))


def test_numbers_and_nests_are_torchs(net: Net) -> None:
    watching = Watching()
    compiled = torch.compile(net, backend=watching)
    with torch.no_grad():
        for x in (X, X * 2, X.contiguous(memory_format=torch.channels_last)):
            assert close(compiled(x), net(x))
    assert watching.ours == [True, True]


def test_sizes_that_are_not_fixed(net: Net) -> None:
    """Each shape is looked up by itself; one without a schedule is torch's."""
    watching = Watching()
    compiled = torch.compile(net, backend=watching, dynamic=True)
    with torch.no_grad():
        with warnings.catch_warnings():
            warnings.simplefilter("error", IosfarmFallback)
            assert close(compiled(X), net(X))
        three = torch.cat([X, X[:1]])
        with pytest.warns(IosfarmFallback, match="no schedule for a network of .* units, batch 3"):
            assert close(compiled(three), net(three))
        assert close(compiled(three), net(three))
        assert close(compiled(X), net(X))
    (made,) = watching.made
    assert isinstance(made, torch_backend._Compiled)
    assert sorted(state is None for state in made._states.values()) == [False, True]


def test_results_can_be_used_in_training(net: Net) -> None:
    compiled = torch.compile(net, backend=Watching())
    with torch.no_grad():
        features = compiled(X)["logits"]
    head = nn.Linear(4, 2)
    head(features).sum().backward()
    assert head.weight.grad is not None


def test_weights_that_change_are_seen(net: Net) -> None:
    watching = Watching()
    compiled = torch.compile(net, backend=watching)
    with torch.no_grad():
        before = compiled(X)
        net.head.bias.add_(1)
        assert torch.allclose(compiled(X)["logits"], before["logits"] + 1, atol=1e-5)
        net.norm.running_mean.add_(0.5)
        assert close(compiled(X), net(X))
        net.load_state_dict(Net().state_dict())
        assert close(compiled(X), net(X))
    assert watching.ours == [True]


def test_weights_that_keep_changing_are_left_to_torch(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_backend, "MOST_RENEWALS", 1)
    compiled = torch.compile(net, backend=Watching())
    with torch.no_grad():
        compiled(X)
        net.head.bias.add_(1)
        assert close(compiled(X), net(X))
        net.head.bias.add_(1)
        with pytest.warns(IosfarmFallback, match="the weights keep changing; compile the model when they are final"):
            assert close(compiled(X), net(X))


def test_many_threads(net: Net) -> None:
    compiled = torch.compile(net, backend=Watching())
    with torch.no_grad():
        compiled(X)
    wrong: list[int] = []

    def ask(number: int) -> None:
        with torch.no_grad():
            x = X * (number + 1)
            expected = net(x)
            wrong.extend(number for _ in range(10) if not close(compiled(x), expected))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_half_precision_has_schedules_of_its_own(net: Net) -> None:
    half = net.to(torch.bfloat16)
    watching = Watching()
    with (
        torch.no_grad(),
        pytest.warns(IosfarmFallback, match="no schedule for a network of .* units, batch 2, bfloat16"),
    ):
        torch.compile(half, backend=watching)(X.bfloat16())
    torch._dynamo.reset()
    compiled = torch.compile(half, backend=watching, options={"budget": "40 stages"})
    with torch.no_grad():
        actual, expected = compiled(X.bfloat16()), half(X.bfloat16())
    assert watching.ours == [False, True]
    assert actual["logits"].dtype == torch.bfloat16
    assert torch.allclose(actual["logits"].float(), expected["logits"].float(), atol=0.05)


# -- left to torch ---------------------------------------------------------------------------------------------------


def fall_back(model: nn.Module, reason: str, *inputs: Any) -> Any:
    """What the compiled model returns for copies of inputs; it has to warn why torch runs it."""
    with pytest.warns(IosfarmFallback, match=f"torch runs this graph, not iosfarm: {reason}") as said:
        result = torch.compile(model, backend="iosfarm")(*[x.clone() if isinstance(x, Tensor) else x for x in inputs])
    assert len([w for w in said if w.category is IosfarmFallback]) == 1
    return result


def test_gradients(net: Net) -> None:
    output = fall_back(net, r"a gradient may be asked for; call the model under torch\.no_grad\(\)", X)
    output["logits"].sum().backward()
    assert net.stem.weight.grad is not None


@pytest.mark.parametrize(("layer", "name"), [("norm", "batch_norm"), ("dropout", "dropout")])
def test_training_mode(net: Net, layer: str, name: str) -> None:
    getattr(net, layer).train()
    torch.manual_seed(3)
    with torch.no_grad():
        actual = fall_back(net, rf"{name}\w* is in training mode; call \.eval\(\)", X)
    torch.manual_seed(3)
    state = getattr(net, layer).state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
    with torch.no_grad():
        assert close(actual, net(X))


def test_autocast(net: Net) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fall_back(net, "autocast is on", X)["logits"].dtype == torch.bfloat16


def test_no_schedule_and_said_once(net: Net) -> None:
    with torch.no_grad():
        small = X[:, :, :10, :10]
        assert close(
            fall_back(net, ".* no schedule for a network of .* units, batch 2, float32; search", small), net(small)
        )
        torch._dynamo.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("error", IosfarmFallback)
            assert close(torch.compile(net, backend="iosfarm")(small), net(small))


def test_no_database(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOSFARM_DB", str(tmp_path / "none.db"))
    with torch.no_grad():
        assert close(fall_back(net, r".*none\.db: there is no latency database here", X), net(X))
    assert not (tmp_path / "none.db").exists()


class Changing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor, what: str) -> Tensor:
        if what == "input":
            x.add_(1)
        elif what == "buffer":
            self.calls.add_(1)
        return self.conv(x)


@pytest.mark.parametrize("what", ["input", "buffer"])
def test_what_changes_its_inputs_or_buffers(what: str) -> None:
    model = Changing().eval()
    x = X.clone()
    compiled = torch.compile(model, backend="iosfarm", options={"budget": "20 stages"})
    with torch.no_grad():
        with pytest.warns(IosfarmFallback, match="it changes an input|the network changes .* when it runs"):
            compiled(x, what)
        compiled(x, what)
    assert torch.allclose(x, X + 2 if what == "input" else X)
    assert model.calls.item() == (2 if what == "buffer" else 0)


def test_what_cannot_be_imported() -> None:
    with torch.no_grad():
        empty = nn.Conv2d(3, 2, 1).eval()
        assert (
            fall_back(empty, r"captured: input 0 has the shape \[0, 3, 8, 8\]", torch.zeros(0, 3, 8, 8)).shape[0] == 0
        )
    model = nn.Embedding(10, 4).eval()
    tokens = torch.tensor([[1, 2], [3, 4]])
    with torch.no_grad():
        assert torch.equal(
            fall_back(model, r"a weight is torch\.float32, and the first input torch\.int64", tokens), model(tokens)
        )


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x) + y
        return x, x.argmax(1)


def test_results_and_inputs_of_several_dtypes() -> None:
    model = Choosing().eval()
    y = torch.zeros(2, 4, 12, 12)
    with torch.no_grad():
        _, chosen = fall_back(model, r"a result is torch\.int64, and the first input torch\.float32", X, y)
        assert torch.equal(chosen, model(X, y)[1])
        torch._dynamo.reset()
        mixed, _ = fall_back(model, r"an input is torch\.float64, and the first input torch\.float32", X, y.double())
        assert mixed.dtype == torch.float64


def test_numbers_that_are_not_torchs(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an operator had been misunderstood."""
    honest = CompiledModel.run_tensors
    monkeypatch.setattr(CompiledModel, "run_tensors", lambda model, inputs: [o * 1.1 for o in honest(model, inputs)])
    with torch.no_grad():
        assert close(fall_back(net, r"its numbers differ by 1e-01 of the largest, more than 1e-03", X), net(X))


def test_a_wrong_option(net: Net) -> None:
    message = "unknown option 'buget' of the backend iosfarm; it has database, device, budget"
    compiled = torch.compile(net, backend="iosfarm", options={"buget": 1})
    with torch.no_grad(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=message) as error:
        compiled(X)
    assert isinstance(error.value.inner_exception, UsageError)
