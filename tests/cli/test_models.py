"""`iosfarm models`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import iosfarm
from iosfarm.cli import main, models
from iosfarm.ir.graph import Graph
from iosfarm.zoo.registry import NETWORKS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(["models", *arguments])
    return code, *capsys.readouterr()


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    assert all(name in out for name in NETWORKS)


def test_list_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert list(rows) == list(NETWORKS)
    assert rows["vgg16"]["parameters"] == 138_357_544
    assert rows["vgg16"]["gflops"] == pytest.approx(31, rel=0.01)  # 15.5 billion multiply-adds
    assert set(rows["vgg16"]) == {
        "name", "units", "parameters", "gflops", "input", "output", "description", "source"
    }  # fmt: skip


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", "squeezenet")
    assert (code, err) == (0, "")
    assert out.startswith("squeezenet: 50 units, 51 operators, 1.6 M parameters, 2.38 GFLOPs; input 3x224x224")
    assert "arguments: classes=1000, image_size=224" in out


def test_show_something_small(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(iosfarm.load("sample", channels=4, image_size=3).to_json()))
    first, *rest = run(capsys, "show", str(path))[1].splitlines()
    assert first.startswith("sample: 5 units, 5 operators, 888 parameters, 15.6 kFLOPs; input 4x3x3")
    assert not any("e-" in line for line in rest)


@pytest.mark.parametrize(
    ("gflops", "words"), [(11.46, "11.5 GFLOPs"), (1234.5, "1234 GFLOPs"), (297e-6, "297 kFLOPs"), (5e-9, "5 FLOPs")]
)
def test_flops_in_words(gflops: float, words: str) -> None:
    assert models._flops(gflops) == words


def test_parameters_in_words() -> None:
    assert [models._millions(n) for n in (23_834_568, 2_970, 12)] == ["23.8 M", "0.003 M", "12"]


def test_show_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show", "inception_v3", "--json")
    document = json.loads(out)
    assert sum(part["units"] for part in document["parts"]) == 119
    assert sorted(document["parts"][1]["chains"]) == [1, 2, 2, 4]
    assert document["parts"][1]["width"] == 4
    assert document["operators"]["conv2d"] == 94
    assert sum(part["gflops"] for part in document["parts"]) == pytest.approx(document["gflops"])


def test_show_cuts_smaller(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show", "inception_v3", "--json", "--max-part-size", "8")
    assert max(part["units"] for part in json.loads(out)["parts"]) <= 8


def test_draw_text(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "draw", "sample")
    assert code == 0
    assert out.splitlines() == [
        "input  384x15x15",
        "",
        "part 0, 5 units",
        "    0  conv2d 3x3 384→384  (384x15x15)  ← input",
        "    1  conv2d 3x3 384→768  (768x15x15)  ← 0",
        "    2  conv2d 3x3 384→384  (384x15x15)  ← input",
        "    3  conv2d 3x3 384→768  (768x15x15)  ← input",
        "    4  concat  (1920x15x15)  ← 1, 2, 3",
    ]


def test_draw_json_is_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, "draw", "sample", "--json")
    assert Graph.from_json(json.loads(out)) == iosfarm.load("sample")
    path = tmp_path / "sample.json"
    path.write_text(out)
    assert run(capsys, "show", str(path))[0] == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_svg_shows_every_unit_inside_the_picture(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.svg"
    code, out, err = run(capsys, "draw", name, "--out", str(path))
    assert (code, out, err) == (0, "", f"wrote {path}\n")
    root = ET.parse(path).getroot()
    graph = iosfarm.load(name)
    boxes = root.findall("{*}g/{*}rect")
    assert len(boxes) == len(graph.units)
    assert len(root.findall("{*}path")) == sum(map(len, graph.unit_predecessors))
    corners = {(float(box.attrib["x"]), float(box.attrib["y"])) for box in boxes}
    assert len(corners) == len(boxes)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x <= width - float(boxes[0].attrib["width"]) and 0 <= y <= height for x, y in corners)


def test_dot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, "draw", "sample", "-o", str(tmp_path / "x.dot"))
    text = (tmp_path / "x.dot").read_text()
    assert text.startswith('digraph "sample" {')
    assert text.count("->") == 3 + 1 + 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "squeeze"], "error: unknown model 'squeeze'; did you mean squeezenet?"),
        (["draw", "net.onnx"], "error: net.onnx: cannot read this file: No such file or directory"),
        (["draw", "net.onnx", "--bind", "h"], "error: --bind h; write AXIS=SIZE, such as height=224"),
        (["draw", "sample", "-o", "x.png"], "error: x.png: cannot draw to such a file; use a name that ends in .svg,"
         " .dot or .txt"),
        (["draw", "sample", "-o", "/none/x.svg"], "error: /none/x.svg: cannot write it: No such file or directory"),
        (["show", "sample", "--max-part-size", "999"], "error: max_part_size is 999; use 1 to 256"),
    ],
)  # fmt: skip
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err) == (2, "", line + "\n")


@pytest.mark.parametrize("command", ["list", "show", "draw"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"Example: iosfarm models {command}" in out
