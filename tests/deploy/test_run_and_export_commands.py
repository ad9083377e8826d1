"""`iosfarm run --trace` and `iosfarm export`: what they write, and one line for what they cannot."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import iosfarm
from iosfarm.cli.main import run
from iosfarm.db import LatencyDatabase
from iosfarm.frontends.torch import import_module
from iosfarm.ir.errors import UsageError
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.kernels.reference import run_graph
from iosfarm.zoo.weights import random_weights, save_weights

from conformance import block, merging, mixing  # isort: skip - of tests/kernels
from numerics_cases import relative_error  # isort: skip


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A schedule file of `block` as a search writes it."""
    database = str(tmp_path_factory.mktemp("searched") / "latency.db")
    iosfarm.search(block(), device="sim:v100", database=database, budget="30 stages")
    with LatencyDatabase(database, readonly=True) as memory:
        found: dict[str, Any] = json.loads(memory.schedules()[0].document)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]) -> Path:
    """Where the commands run: `merging.json` and `mixing.json` hold the schedules of these names."""
    monkeypatch.chdir(tmp_path)
    for make in (merging, mixing):
        stages = entries(make(block()))
        Path(f"{make.__name__}.json").write_text(json.dumps({**document, "chosen": "refined", "stages": stages}))
    return tmp_path


def entries(schedule: Schedule) -> list[dict[str, object]]:
    return [
        {"part": stage.part, "strategy": stage.strategy, "groups": stage.groups, "key": "", "predicted": 1e-5}
        for stage in schedule.stages
    ]


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """stdout of a command, or its one line of error."""
    assert run(list(arguments)) == code
    said = capsys.readouterr()
    if not code:
        return said.out
    assert said.err.count("\n") == 1
    return said.err.removeprefix("error: ").rstrip()


# -- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [merging, mixing])
def test_a_trace_has_every_unit_once_and_inside_its_stage(
    folder: Path, capsys: pytest.CaptureFixture[str], make: Any
) -> None:
    arguments = (
        "run",
        f"{make.__name__}.json",
        "--device",
        "cpu",
        "--rounds",
        "2",
        "--json",
        "--trace",
        "t/trace.json",
    )
    report = json.loads(output(capsys, *arguments))
    assert report["numbers_are_right"]
    assert report["trace"] == "t/trace.json"
    trace = json.loads((folder / "t" / "trace.json").read_text())
    rows = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    units = [e for e in slices if e["cat"] == "unit"]
    stages = {e["args"]["stage"]: e for e in slices if e["cat"] == "stage"}
    schedule = make(block())
    assert sorted(name for e in units for name in e["name"].split(" + ")) == sorted(u.name for u in block().units)
    assert sorted(stages) == list(range(len(schedule.stages)))
    assert {rows[e["tid"]] for e in stages.values()} == {"stages"}
    assert all(rows[e["tid"]].startswith("iosfarm-") for e in units)
    for event in units:
        stage = stages[event["args"]["stage"]]
        assert stage["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= stage["ts"] + stage["dur"] + 1e-6
        kinds = [
            block().operator(o).kind for u in block().units if u.name in event["name"].split(" + ") for o in u.operators
        ]
        assert Counter(event["args"]["operators"]) == Counter(kinds)
    # Stages follow each other, and so do the slices of a row.
    for row in rows:
        own = sorted((e for e in slices if e["tid"] == row), key=lambda e: e["ts"])
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in pairwise(own))
    merged = [e["name"] for e in units if " + " in e["name"]]
    assert [len(name.split(" + ")) for name in merged] == [3 if make is merging else 2]


def test_what_cannot_be_traced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on_sim = output(capsys, "run", "merging.json", "--trace", "trace.json", code=2)
    assert on_sim.endswith("cannot be traced; trace on the device cpu")
    assert not (folder / "trace.json").exists()
    nowhere = output(capsys, "run", "merging.json", "--device", "cpu", "--trace", "merging.json/trace.json", code=1)
    assert nowhere == "merging.json: cannot write here: not a folder; choose another folder with --trace"


# -- export ----------------------------------------------------------------------------------------------------------


def test_export_to_both(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = random_weights(block(), 7)
    save_weights(weights, "weights.safetensors")
    arguments = ("--onnx", "out/block.onnx", "--torch", "block.pt2", "--weights", "weights.safetensors", "--json")
    report = json.loads(output(capsys, "export", "merging.json", *arguments))
    assert report["numbers_are_right"]
    assert (report["convolutions"], report["exported_convolutions"]) == (8, 6)
    assert {e["format"]: e["files"] for e in report["exports"]} == {"onnx": ["out/block.onnx"], "torch": ["block.pt2"]}
    assert all(0 < e["error"] < 1e-5 for e in report["exports"])
    assert report["notes"] == ["these formats say nothing of streams: of the schedule they hold what it merges"]
    x = np.random.default_rng(1).standard_normal((1, 8, 14, 14)).astype(np.float32)
    with torch.inference_mode():
        outputs = torch.export.load(folder / "block.pt2").module()(torch.from_numpy(x))
    expected = run_graph(block(), weights, [x])
    assert all(relative_error(o.numpy(), e) < 1e-5 for o, e in zip(outputs, expected, strict=True))


def test_export_without_weights_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = output(capsys, "export", "mixing.json", "--torch", "block.pt2", "--no-check", "--seed", "4").splitlines()
    assert said[0] == "block: 8 convolutions, 7 after merging"
    assert said[1] == "wrote block.pt2 (not checked)"
    assert said[2] == "random weights (seed 4): give the model's own with --weights"
    assert (folder / "block.pt2").stat().st_size > 1000


class Pair(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.left(x), self.right(x)], 1).relu()


def test_export_of_a_module_from_python(folder: Path) -> None:
    module, x = Pair().eval(), torch.randn(2, 3, 6, 6)
    graph = import_module(module, x).graph
    first, second, *rest = (unit.name for unit in graph.units)
    stages = [ScheduledStage(0, "merge", ((first,), (second,)))]
    schedule = Schedule((*stages, *(ScheduledStage(0, "concurrent", ((name,),)) for name in rest)))
    report = iosfarm.export(module, schedule, onnx="pair.onnx", torch=folder / "pair.pt2", example_inputs=x)
    assert report.numbers_are_right
    assert (report.convolutions, report.exported_convolutions) == (2, 1)
    with torch.inference_mode():
        assert torch.allclose(torch.export.load(folder / "pair.pt2").module()(x), module(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match=r"made for block, which is another network than this pair"):
        iosfarm.export(module, "merging.json", onnx="x.onnx", example_inputs=x)
    with pytest.raises(UsageError, match="pair: nothing to export to"):
        iosfarm.export(module, schedule, example_inputs=x)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "block: nothing to export to; give --onnx FILE.onnx or --torch FILE.pt2"),
        (
            ("--torch", "merging.json/x.pt2"),
            1,
            "merging.json: cannot write here: not a folder; choose another folder with --torch",
        ),
        (("--onnx", "."), 1, "cannot write the model: Is a directory"),
        (("--onnx", "a.onnx", "--weights", "merging.json"), 2, "merging.json: not a safetensors file"),
        (("--onnx", "a.onnx", "--weights", "missing"), 2, "missing: cannot read these weights"),
    ],
)
def test_exports_that_cannot_be(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert message in output(capsys, "export", "merging.json", *arguments, code=code)
    assert not (folder / "a.onnx").exists()


# -- weights of the network itself -------------------------------------------------------------------------------------

FACTORY = """
import torch
from torch import nn

def net(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 1))
"""


def test_weights_from_where_the_network_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One search of a zoo; then its zoo.yaml, or the ONNX file in it, is what has the weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    monkeypatch.chdir(tmp_path)
    Path("own_net.py").write_text(FACTORY)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 7, 7])], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "file.onnx")
    zoo = {"models": [{"torch": "own_net:net", "inputs": [[3, 8, 8]]}, {"onnx": "file.onnx"}, {"name": "squeezenet"}]}
    Path("zoo.yaml").write_text(json.dumps(zoo))
    Path("first.yaml").write_text(json.dumps({"models": zoo["models"][:2]}))
    search = ("search", "--models", "first.yaml", "--device", "sim:v100", "--db", "l.db", "--executor", "inline")
    assert run([*search, "--budget", "10 stages", "--out", "."]) == 0
    capsys.readouterr()
    own, other = (str(path) for path in sorted(Path().glob("*-sim*.json"), key=lambda p: "file" in p.name))
    for source in ("zoo.yaml", "file.onnx"):
        output(capsys, "export", other, "--onnx", "out.onnx", "--weights", source, "--no-check")
        written = [numpy_helper.to_array(item) for item in onnx.load("out.onnx").graph.initializer]
        assert any(np.array_equal(array, weight) for array in written)
    assert "random weights" not in output(
        capsys, "run", own, "--device", "cpu", "--weights", "zoo.yaml", "--rounds", "1"
    )
    assert "random weights" in output(capsys, "run", own, "--device", "cpu", "--rounds", "1")
    Path("own_net.py").write_text(FACTORY.replace("width=4", "width=5"))
    for source, words in (
        ("file.onnx", "is another network than the schedule's"),
        ("squeezenet.yaml", "no model is called"),
    ):
        if source.endswith(".yaml"):
            Path(source).write_text(json.dumps({"models": [{"name": "squeezenet"}]}))
        assert words in output(capsys, "run", own, "--weights", source, code=2)
