"""A `.pt2` file as data: the JSON of its program, and its tensors from their raw bytes.

`torch.export.load` is not used. It unpickles what it finds, evaluates sizes as Python, and looks functions up by any
name below `torch`: a file could run whatever it likes. Here nothing is unpickled, evaluated, extracted or looked up.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iosfarm.frontends.errors import CannotImport

SCHEMA = 8
"""Major version of the program's form, that of torch 2.5 and later."""

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""torch's numbers for dtypes in such files."""

_MOST_REPEATED = 1 << 24
"""Elements of a tensor whose strides show the same bytes again and again."""

_AGAIN = "load it with the torch that wrote it, and save it with torch.export.save of a newer one"


@dataclass(frozen=True)
class Archive:
    """program: as `torch.export.save` writes it, not checked yet. tensors: parameters, buffers and constants."""

    program: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_archive(path: Path) -> Archive:
    """What is in a file.

    Raises:
        CannotImport: it cannot be read, is none of `torch.export.save`, is of another version, or has something in it
            that would have to be unpickled.
    """
    where = str(path)
    if path.exists() and not path.is_file():
        raise CannotImport("not a file", where=where, hint="give the path of a .pt2 file")
    try:
        with zipfile.ZipFile(path) as file:
            return _Reader(file, path.stat().st_size, where).archive()
    except OSError as error:
        raise CannotImport(f"cannot read this file: {error.strerror or error}", where=where) from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        raise CannotImport(
            "not a .pt2 file, or one that is cut off or damaged", where=where, hint="copy it again"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, RuntimeError) as error:
        raise damaged(error, where) from None


def damaged(error: Exception, where: str) -> CannotImport:
    """What to say of a file that is not as torch writes it."""
    said = str(error).splitlines()[0][:120] if str(error) else ""
    return CannotImport(
        f"not a program as torch.export writes it: {type(error).__name__} {said}".rstrip(), where=where, hint=_AGAIN
    )


class _Reader:
    def __init__(self, file: zipfile.ZipFile, size: int, where: str) -> None:
        self._file = file
        self._where = where
        members = file.infolist()
        if sum(member.file_size for member in members) > size or any(m.compress_type for m in members):
            # torch only stores; what is larger than its file could be larger than the memory.
            raise CannotImport("a .pt2 file with compressed content", where=where, hint=_AGAIN)
        names = file.namelist()
        self._root = names[0].split("/")[0] if names else ""
        self._names = {name.removeprefix(f"{self._root}/") for name in names}

    def archive(self) -> Archive:
        if "archive_format" not in self._names or self._read("archive_format") != b"pt2":
            what = "not a file of torch.export.save, or one of an old torch"
            raise CannotImport(what, where=self._where, hint=_AGAIN)
        version = self._read("archive_version").decode()
        if version != "0":
            raise CannotImport(f"version {version[:20]!r} of the .pt2 format", where=self._where, hint=_AGAIN)
        if "byteorder" in self._names and self._read("byteorder") != b"little":
            raise CannotImport("a .pt2 file of a big-endian machine", where=self._where, hint=_AGAIN)
        model = self._model()
        program = self._json(f"models/{model}.json")
        schema = program["schema_version"]["major"]
        if schema != SCHEMA:
            raise CannotImport(
                f"version {schema!r} of the program's form, not {SCHEMA}", where=self._where, hint=_AGAIN
            )
        tensors: dict[str, Tensor] = {}
        for folder, kind in (("data/weights", "weights"), ("data/constants", "constants")):
            if f"{folder}/{model}.pt" in self._names:
                raise CannotImport(f"its {kind} are pickled, as an old torch did", where=self._where, hint=_AGAIN)
            tensors |= self._tensors(folder, self._json(f"{folder}/{model}_{kind}_config.json")["config"])
        return Archive(program, tensors)

    def _model(self) -> str:
        models = [name[7:-5] for name in self._names if name.startswith("models/") and name.endswith(".json")]
        if not models:
            compiled = any(name.startswith("data/aotinductor") for name in self._names)
            what = "compiled code, and no program" if compiled else "a .pt2 file without a program"
            raise CannotImport(what, where=self._where, hint="save the program itself, with torch.export.save")
        if len(models) > 1:
            raise CannotImport(f"{len(models)} programs in one file", where=self._where, hint="save each by itself")
        return models[0]

    def _read(self, name: str) -> bytes:
        return self._file.read(f"{self._root}/{name}")

    def _json(self, name: str) -> dict[str, Any]:
        found = json.loads(self._read(name))
        if not isinstance(found, dict):
            raise TypeError(f"{name} is a {type(found).__name__}")
        return found

    def _tensors(self, folder: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Tensors that share memory in the file share it here."""
        storages: dict[str, Tensor] = {}
        found: dict[str, Tensor] = {}
        for name, payload in config.items():
            place, meta = payload["path_name"], payload["tensor_meta"]
            if payload["use_pickle"] or meta is None:
                what = f"{name[:80]!r} is no plain tensor, and pickled"
                raise CannotImport(what, where=self._where, hint="pickles are not read: they can run any code")
            if place not in storages:
                storages[place] = torch.frombuffer(
                    bytearray(self._read(f"{folder}/{place}")) or bytearray(1), dtype=torch.uint8
                )
            found[name] = _tensor(storages[place], meta)
        return found


def _tensor(storage: Tensor, meta: Mapping[str, Any]) -> Tensor:
    dtype = DTYPES[meta["dtype"]]
    sizes, strides = ([_whole(item["as_int"]) for item in meta[key]] for key in ("sizes", "strides"))
    count = math.prod(sizes)
    if count == 0:
        return torch.empty(sizes, dtype=dtype)
    flat = storage[: storage.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    offset = _whole(meta["storage_offset"]["as_int"])
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if last >= flat.numel() or count > max(flat.numel(), _MOST_REPEATED):
        raise ValueError(f"a tensor of {sizes} from {storage.numel()} bytes")
    return flat.as_strided(sizes, strides, offset)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value
