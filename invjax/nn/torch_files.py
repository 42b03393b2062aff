"""Tensors of PyTorch checkpoints, read without PyTorch and without running what the file says."""

from __future__ import annotations

import os
import pathlib
import pickle
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def read_torch(path: str | os.PathLike) -> Any:
    """What ``torch.save`` wrote, with tensors as NumPy arrays (bfloat16 as that of ``ml_dtypes``).

    A checkpoint is a pickle, and a pickle may call any function. Here it can name three, which make dictionaries, tensors
    and parameters, and every other name is an error: dictionaries, lists, tuples, sets, strings, numbers and tensors are all that
    can come out.

    Raises ``FileNotFoundError`` where there is no such file, and ``ValueError`` for the format before PyTorch 1.6 (not a zip
    file), a damaged file, and one that holds other objects.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError(
                "expected the zip format of PyTorch 1.6 or later; load an older file there and save it again"
            )
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except Exception as error:  # a damaged pickle or archive raises a dozen types
        raise ValueError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {error})") from error


def _read(archive: zipfile.ZipFile) -> Any:
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise ValueError("expected files that are stored, got compressed ones, which PyTorch does not write")
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"expected one data.pkl, got {len(roots)}")
    order = archive.read(f"{roots[0]}byteorder") if f"{roots[0]}byteorder" in names else b"little"
    with archive.open(f"{roots[0]}data.pkl") as file:
        return _Unpickler(file, archive, roots[0], order == b"big").load()


class _Dictionary(dict):
    """Stands for an ordered dictionary; what ``torch`` attaches to one (versions of modules) is dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Tensor:
    """Stands for the function that makes a tensor of a storage; offset and strides count numbers, the rest is dropped."""

    __slots__ = ()  # a pickle may set attributes, and finds none here

    def __call__(self, storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or not storage.flags.c_contiguous:
            raise ValueError(f"expected a storage, got {type(storage).__name__}")
        if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
            raise ValueError(f"expected a shape, strides and an offset, got {shape}, {strides} and {offset}")
        if 0 in shape:
            return np.zeros(shape, storage.dtype)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if last >= storage.size:  # a view must not reach memory outside of its storage
            raise ValueError(f"expected a tensor inside its storage of {storage.size} numbers, got one up to {last}")
        steps = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


class _Parameter:
    """Stands for the function that marks a tensor as trainable."""

    __slots__ = ()

    def __call__(self, tensor: np.ndarray, *_: Any) -> np.ndarray:
        return tensor


_CALLED = {
    ("collections", "OrderedDict"): _Dictionary,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
}


class _Unpickler(pickle.Unpickler):
    """Every name in the pickle resolves to one of three stand-ins or to the name of a dtype."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str, big_endian: bool):
        super().__init__(file)
        self._archive, self._root, self._big_endian = archive, root, big_endian
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CALLED:
            return _CALLED[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise ValueError(
            f"expected tensors, dictionaries, lists, strings and numbers, got {module}.{name}; "
            "in PyTorch, save the state_dict alone"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The numbers of a storage, ``("storage", dtype, name, location, count)``."""
        kind, dtype, name, _, count = pid
        if kind != "storage" or dtype not in _STORAGES.values():
            raise ValueError(f"expected a storage, got {pid!r}")
        if name not in self._storages:
            self._storages[name] = self._numbers(name, jnp.dtype(dtype), count)
        return self._storages[name]

    def _numbers(self, name: str, dtype: np.dtype, count: int) -> np.ndarray:
        content = np.frombuffer(self._archive.read(f"{self._root}data/{name}"), np.uint8)
        if content.size != count * dtype.itemsize:
            raise ValueError(f"expected {count * dtype.itemsize} bytes in storage {name}, got {content.size}")
        if self._big_endian:
            content = content.reshape(-1, dtype.itemsize)[:, ::-1].reshape(-1)
        return content.view(dtype)
