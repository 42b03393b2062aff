"""Networks in files: safetensors, with the architecture in the header."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from ..data.files import write_bytes
from .architecture import assemble, describe, tensors_of
from .frozen import Frozen


def save(net: nnx.Module | Frozen, path: str | os.PathLike, *, dtype: Any = None) -> None:
    """Write ``net`` to a safetensors file that ``load`` reads without being told the class; it appears whole or not at all.

    Tensors are named by their path in the network; the header holds class and arguments as JSON (``architecture.py`` states
    what a network of your own must keep for that). Weights are stored as they are (bfloat16 as float32), or with
    ``dtype="float16"`` at half the size: 11 bits of precision.

    Raises ``ValueError`` for what is not a network, cannot be described or holds other than floating weights, for another
    ``dtype``, and where a weight does not fit into float16.
    """
    net = net.net if isinstance(net, Frozen) else net
    if not isinstance(net, nnx.Module):
        raise ValueError(f"net: expected a network (flax.nnx.Module or Frozen), got {type(net).__name__}")
    if dtype is not None and np.dtype(dtype) != np.float16:
        raise ValueError(f"dtype: expected None or float16, got {dtype}")
    tensors = {name: _stored(tensor, name, dtype) for name, tensor in tensors_of(net).items()}
    header = {"network": json.dumps(describe(net))}  # one entry: safetensors writes several in a random order
    write_bytes(path, safetensors.numpy.save(tensors, header))


def load(path: str | os.PathLike, *, architectures: Sequence[type[nnx.Module]] = ()) -> Any:
    """The network in a file that ``save`` wrote; 16-bit weights become float32.

    ``architectures`` are the classes of your own that the file may name. Nothing in the file is executed.

    Raises ``FileNotFoundError`` where there is no such file, and ``ValueError`` for a file that is not from ``save`` or is
    truncated, an unknown architecture, and missing, extra or mis-shaped tensors.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        description = json.loads(header["network"])
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a network written by invjax.nn.save ({type(error).__name__}: {error})"
        ) from error
    try:
        return assemble(description, tensors, architectures)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _stored(tensor: np.ndarray, name: str, dtype: Any) -> np.ndarray:
    tensor = tensor.astype(np.float32) if tensor.dtype.kind != "f" else tensor  # NumPy knows bfloat16 as "V"
    if dtype is None:
        return np.ascontiguousarray(tensor)
    with np.errstate(over="ignore"):
        half = tensor.astype(np.float16)
    if not np.array_equal(np.isfinite(half), np.isfinite(tensor)):
        raise ValueError(f"dtype: expected weights below 65504 for float16, got {np.abs(tensor).max():.3g} at {name}")
    return np.ascontiguousarray(half)
