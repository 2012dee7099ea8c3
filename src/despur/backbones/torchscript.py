"""The tensors inside a TorchScript archive, without loading the program that it also holds.

OpenAI published CLIP as TorchScript. ``torch.jit.load`` would bring in the archive's code; this reader takes only
``data.pkl``, the tree of modules and tensors, through an unpickler that can build tensors, containers and nothing else.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from despur.errors import ModelError

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What readers of pickles and archives raise on bytes that break their format; all but a wish to run code."""


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with a data tree and a ``code`` folder beside it."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            inside = {name.partition("/")[2] for name in archive.namelist()}
    except DAMAGE:
        return False  # whoever reads it as something else says that it is damaged
    return "data.pkl" in inside and any(name.startswith("code/") for name in inside)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Every tensor of the archive by its dotted name; plain numbers among the attributes become scalar tensors.

    Raises:
        ModelError: the archive is damaged, or asks for anything but tensors and containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tree = _TensorTree(archive).load()
        named: dict[str, Tensor] = {}
        _collect(tree, "", named)  # a tree may hold itself, and is damaged then
    except pickle.UnpicklingError as error:
        raise ModelError(f"it holds more than weights ({error})", where=path, now="fetch it again") from error
    except DAMAGE as error:
        raise ModelError("it is damaged", where=path, now="fetch it again") from error
    return named


class _Node:
    """Stands for a module of the archive: its attributes, and none of its code."""

    attributes: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _same(value: Any, *_: object) -> Any:
    return value


class _TensorTree(pickle.Unpickler):
    """Reads ``data.pkl``; every name that it may resolve is listed in :meth:`find_class`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        inside = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        self._archive = archive
        self._folder = inside.removesuffix("data.pkl") + "data/"
        self._storages: dict[str, Tensor] = {}
        super().__init__(archive.open(inside))

    def find_class(self, module: str, name: str, /) -> Any:
        if module.startswith("__torch__"):
            return _Node
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _tensor if name == "_rebuild_tensor_v2" else _same
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch.jit._pickle":
            # Typed lists (build_intlist, build_doublelist, ...) and type tags: the value itself is all there is.
            return _same
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any, /) -> Tensor:
        _, kind, key, _, count = pid
        if key not in self._storages:
            dtype = _STORAGE_TYPES.get(kind)
            if dtype is None:
                raise pickle.UnpicklingError(f"it asks for a {kind}")
            buffer = bytearray(self._archive.read(self._folder + str(key)))
            self._storages[key] = torch.frombuffer(buffer, dtype=dtype, count=count) if count else torch.empty(0)
        return self._storages[key]


_STORAGE_TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}


def _collect(value: object, name: str, named: dict[str, Tensor]) -> None:
    if isinstance(value, _Node):
        for attribute, child in value.attributes.items():
            _collect(child, f"{name}.{attribute}" if name else attribute, named)
    elif isinstance(value, Tensor):
        named[name] = value
