"""Checkpoints as PyTorch writes them, made without PyTorch: a pickle written opcode by opcode, and storages, in a zip file."""

import zipfile
from typing import Any, NamedTuple

import numpy as np

KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


class Tensor(NamedTuple):
    """A view of the storage ``name``, whose numbers are ``data``."""

    name: str
    data: np.ndarray
    offset: int
    shape: tuple
    strides: tuple
    is_parameter: bool = False


class Name(NamedTuple):
    """A name that the pickle refers to, called with arguments where they are given."""

    module: str
    name: str
    arguments: tuple | None = None


def write(path, content, root="archive", swapped=False, method=zipfile.ZIP_STORED):
    """A checkpoint of dictionaries, lists, tuples, strings, numbers, arrays, ``Tensor`` and ``Name``."""
    storages: dict[str, np.ndarray] = {}
    body = b"\x80\x02" + _pickled(content, storages) + b"."
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{root}/data.pkl", body)
        archive.writestr(f"{root}/byteorder", "big" if swapped else "little")
        for name, data in storages.items():
            archive.writestr(f"{root}/data/{name}", (data.byteswap() if swapped else data).tobytes())


def _pickled(x: Any, storages: dict) -> bytes:
    def of(*parts):
        return b"".join(_pickled(part, storages) for part in parts)

    if isinstance(x, np.ndarray):
        steps = tuple(stride // x.itemsize for stride in np.ascontiguousarray(x).strides)
        x = Tensor(str(len(storages)), np.ravel(x), 0, x.shape, steps)
    if isinstance(x, Tensor):
        storages[x.name] = x.data
        kind = Name("torch", KINDS[x.data.dtype.name])
        storage = b"(" + of("storage", kind, x.name, "cpu", x.data.size) + b"tQ"
        hooks = Name("collections", "OrderedDict", ())
        made = _called("torch._utils", "_rebuild_tensor_v2", storage + of(x.offset, x.shape, x.strides, False, hooks))
        return _called("torch._utils", "_rebuild_parameter", made + of(True, hooks)) if x.is_parameter else made
    if isinstance(x, Name):
        name = f"c{x.module}\n{x.name}\n".encode()
        return name if x.arguments is None else _called(x.module, x.name, of(*x.arguments))
    if isinstance(x, dict):  # with what torch attaches to a state dict
        empty = _called("collections", "OrderedDict", b"")
        items = b"".join(of(key, value) for key, value in x.items())
        return empty + b"(" + items + b"u" + b"}" + b"(" + of("_metadata") + empty + b"ub"
    if isinstance(x, (tuple, list)):
        return b"(" + of(*x) + (b"t" if isinstance(x, tuple) else b"l")
    if isinstance(x, str):
        return b"X" + len(x.encode()).to_bytes(4, "little") + x.encode()
    if isinstance(x, bool):
        return b"\x88" if x else b"\x89"
    return b"J" + int(x).to_bytes(4, "little", signed=True)


def _called(module: str, name: str, arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n(".encode() + arguments + b"tR"
