"""`.pt2` files of somebody who means harm, and damaged ones: one line each, and nothing is run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim, export, save

from iosfarm.frontends.errors import CannotImport
from iosfarm.frontends.torch import import_archive

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.two = nn.Conv2d(2, 3, 1), torch.full((1,), 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).reshape(x.shape[0], -1) * self.two


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Contents of a good file, by name without the folder."""
    path = tmp_path_factory.mktemp("good") / "good.pt2"
    save(export(Small().eval(), (torch.zeros(2, 2, 4, 4),), dynamic_shapes=({0: Dim("b", max=64)},)), path)
    with zipfile.ZipFile(path) as file:
        return {name.split("/", 1)[1]: file.read(name) for name in file.namelist()}


class Payload:
    """A pickle that makes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self._marker}",)


def written(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"net/{name}", content)
    return path


def changed(members: dict[str, bytes], name: str, change: Callable[[Any], object]) -> dict[str, bytes]:
    """With one document of it changed in place."""
    document = json.loads(members[name])
    change(document)
    return {**members, name: json.dumps(document).encode()}


def nodes(document: Any) -> Any:
    return document["graph_module"]["graph"]["nodes"]


def refused(path: Path, *words: str) -> None:
    with pytest.raises(CannotImport) as caught:
        import_archive(path)
    said = str(caught.value)
    assert path.stem in said
    assert "\n" not in said
    assert len(said) < 500
    assert any(word in said for word in words), said


def test_the_good_one(tmp_path: Path, members: dict[str, bytes]) -> None:
    assert import_archive(written(tmp_path / "net.pt2", members)).graph.outputs


def test_torch_itself_would_run_it(tmp_path: Path, members: dict[str, bytes]) -> None:
    """That the payload works: what is refused below would do harm."""
    buffer = io.BytesIO()
    torch.save(({"x": Payload(tmp_path / "ran")},), buffer)
    path = written(tmp_path / "net.pt2", {**members, "data/sample_inputs/model.pt": buffer.getvalue()})
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    assert import_archive(path).graph.outputs
    assert not (tmp_path / "ran").exists()


def test_pickles_are_not_read(tmp_path: Path, members: dict[str, bytes]) -> None:
    """In the place of weights, of constants, of custom objects, and as an old torch has them."""
    payload = pickle.dumps(Payload(tmp_path / "ran"))

    def pickled(config: Any) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    def opaque(config: Any) -> None:
        config["config"]["thing"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True,
                                     "tensor_meta": None}  # fmt: skip

    for name, change in ((WEIGHTS, pickled), (CONSTANTS, pickled), (CONSTANTS, opaque)):
        folder = name.rsplit("/", 1)[0]
        names = [f"{folder}/{stem}_0" for stem in ("weight", "tensor", "custom_obj", "opaque_obj")]
        path = written(tmp_path / "net.pt2", {**changed(members, name, change), **dict.fromkeys(names, payload)})
        refused(path, "is no plain tensor, and pickled; pickles are not read")
    for name in ("data/weights/model.pt", "data/constants/model.pt"):
        refused(written(tmp_path / "net.pt2", {**members, name: payload}), "pickled, as an old torch did")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "target",
    ["torch.hub.os.system", "torch.load", "torch.ops.aten.save.default", "torch.ops.aten.from_file.default",
     "torch.ops.aten.set_.source_Tensor", "torch.ops.aten.manual_seed.default", "torch.ops.mine.steal.default",
     "torch.ops.aten.empty.memory_format", "torch.ops.aten.as_strided.default", "torch.ops.aten._print.default",
     "_operator.methodcaller", "math.factorial", "os.system", "#custom:thing", "torch.ops.aten", "", "torch.ops.a.b.c",
     "torch.ops.higher_order.cond"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["ran", "none"])
def test_what_is_no_operator(tmp_path: Path, members: dict[str, bytes], target: str, text: str) -> None:
    """Functions of torch and Python, TorchScript's own operators, those that read files or memory."""

    def change(document: Any) -> None:
        nodes(document)[1]["target"] = target
        nodes(document)[1]["inputs"] = [nodes(document)[1]["inputs"][0],
                                        {"name": "filename", "arg": {"as_string": text}, "kind": 1}]  # fmt: skip

    before = set(Path().iterdir())
    path = written(tmp_path / "net.pt2", changed(members, MODEL, change))
    refused(
        path, "not allowed in a program", "no operator that a file may name", "control flow (cond)", "has no operator"
    )
    assert set(Path().iterdir()) == before


def test_texts_and_sizes_are_not_evaluated(
    tmp_path: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are expressions that torch hands to eval; nests name classes that torch imports."""
    marker = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code = f"__import__('os').system('touch {marker}')"

    def sizes(document: Any) -> None:
        for meta in document["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code

    def nest(document: Any) -> None:
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        leaf = {"type": None, "context": None, "children_spec": []}
        context = json.dumps({"__enum__": True, "fqn": "evil_module:Thing", "name": "a"})
        call["out_spec"] = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": [leaf] * 3}])

    assert import_archive(written(tmp_path / "net.pt2", changed(members, MODEL, sizes))).graph.outputs
    refused(written(tmp_path / "net.pt2", changed(members, MODEL, nest)), "torch cannot export it", "not a program")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("meta", "word"),
    [({"storage_offset": {"as_int": 1 << 40}}, "a tensor of ["), ({"sizes": [{"as_int": -1}]}, "-1 is no size"),
     ({"sizes": [{"as_int": 1 << 40}], "strides": [{"as_int": 0}]}, "bytes"), ({"dtype": 99}, "KeyError 99"),
     ({"sizes": [{"as_int": 1 << 20}], "strides": [{"as_int": 1}]}, "a tensor of [")],
)  # fmt: skip
def test_tensors_stay_inside_of_their_bytes(
    tmp_path: Path, members: dict[str, bytes], meta: dict[str, Any], word: str
) -> None:
    def change(config: Any) -> None:
        config["config"]["conv.bias"]["tensor_meta"].update(meta)

    path = written(tmp_path / "net.pt2", changed(members, WEIGHTS, change))
    refused(path, word)


def test_paths_lead_nowhere(tmp_path: Path, members: dict[str, bytes]) -> None:
    """Names in a file are names in the file."""
    (tmp_path / "secret").write_bytes(bytes(12))
    for place in ("../../../secret", str(tmp_path / "secret")):

        def change(config: Any, place: str = place) -> None:
            config["config"]["conv.bias"]["path_name"] = place

        refused(written(tmp_path / "net.pt2", changed(members, WEIGHTS, change)), "There is no item named")


def test_bombs(tmp_path: Path, members: dict[str, bytes]) -> None:
    refused(
        written(tmp_path / "net.pt2", {**members, "data/weights/weight_0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED),
        "compressed content",
    )
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    refused(written(tmp_path / "net.pt2", {**members, MODEL: deep}), "not a program", "RecursionError")

    def constant(document: Any) -> None:
        made = {"target": "torch.ops.aten.ones.default", "outputs": [{"as_tensor": {"name": "huge"}}], "metadata": {},
                "inputs": [{"name": "size", "arg": {"as_ints": [1 << 40]}, "kind": 1}]}  # fmt: skip
        total = {"target": "torch.ops.aten.sum.default", "outputs": [{"as_tensor": {"name": "total"}}], "metadata": {},
                 "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "huge"}}, "kind": 1}]}  # fmt: skip
        last = nodes(document)[-1]
        last["inputs"][1]["arg"] = {"as_tensor": {"name": "total"}}
        nodes(document)[-1:] = [made, total, last]

    refused(written(tmp_path / "net.pt2", changed(members, MODEL, constant)), "a constant that is too large")

    def squares(document: Any) -> None:
        before = {"as_int": 1 << 40}
        made = []
        for number in range(200):
            argument = {"name": "a", "arg": before, "kind": 1}
            made.append({"target": "_operator.mul", "outputs": [{"as_sym_int": {"as_name": f"n{number}"}}],
                         "metadata": {}, "inputs": [argument, argument]})  # fmt: skip
            before = {"as_sym_int": {"as_name": f"n{number}"}}
        nodes(document)[:0] = made

    refused(written(tmp_path / "net.pt2", changed(members, MODEL, squares)), "a size beyond all bounds")


def test_other_versions(tmp_path: Path, members: dict[str, bytes]) -> None:
    def schema(document: Any) -> None:
        document["schema_version"]["major"] = 9

    refused(written(tmp_path / "net.pt2", changed(members, MODEL, schema)), "version 9 of the program's form, not 8")
    for name, content, words in (
        ("archive_version", b"1", "version '1' of the .pt2 format"),
        ("archive_format", b"ptx", "not a file of torch.export.save, or one of an old torch"),
        ("byteorder", b"big", "big-endian"),
        ("models/other.json", members[MODEL], "2 programs in one file"),
    ):
        refused(written(tmp_path / "net.pt2", {**members, name: content}), words)
    missing = {name: content for name, content in members.items() if name != MODEL}
    refused(written(tmp_path / "net.pt2", missing), "a .pt2 file without a program")
    compiled = {**missing, "data/aotinductor/model/wrapper.so": b"\x7fELF"}
    refused(written(tmp_path / "net.pt2", compiled), "compiled code, and no program")


def test_no_such_file(tmp_path: Path) -> None:
    for name, content, words in (("text.pt2", b"hello", "not a .pt2 file"), ("empty.pt2", b"", "not a .pt2 file")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, words)
    refused(tmp_path / "missing.pt2", "No such file")
    (tmp_path / "folder.pt2").mkdir()
    refused(tmp_path / "folder.pt2", "not a file")
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pt2")
    refused(tmp_path / "weights.pt2", "not a file of torch.export.save")


def test_cut_off(tmp_path: Path, members: dict[str, bytes]) -> None:
    whole = written(tmp_path / "net.pt2", members).read_bytes()
    for length in range(0, len(whole), len(whole) // 25):
        (tmp_path / "cut.pt2").write_bytes(whole[:length])
        # What is left may end with a whole archive of its own: sample inputs are one.
        refused(tmp_path / "cut.pt2", "not a .pt2 file", "not a file of torch.export.save")


JSON = (
    st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_document_is_imported_or_refused(
    data: st.DataObject, members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Something in a document is something else, or is not there: never any other error."""
    name = data.draw(st.sampled_from([MODEL, MODEL, WEIGHTS, CONSTANTS]))
    document = json.loads(members[name])
    found = document
    while True:
        key = data.draw(st.sampled_from(sorted(found) if isinstance(found, dict) else range(len(found))))
        inner = found[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.integers(0, 5)) == 0:
            break
        found = inner
    if isinstance(found, dict) and data.draw(st.booleans()):
        del found[key]
    else:
        found[key] = data.draw(JSON)
    path = tmp_path_factory.mktemp("changed") / "net.pt2"
    with contextlib.suppress(CannotImport):
        import_archive(written(path, {**members, name: json.dumps(document).encode()}))
