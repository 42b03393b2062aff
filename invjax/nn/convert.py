"""Networks trained in PyTorch: checkpoints of DeepInverse and KAIR as networks of this package."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from .architecture import assemble
from .torch_files import read_torch

ARCHITECTURES = ("drunet", "dncnn", "gsdrunet")
_PREFIX = "student_grad.model."  # of the network in a gradient-step denoiser


def load_torch(
    path: str | os.PathLike, architecture: str | None = None, *, activation: str | None = None
) -> nnx.Module:
    """The network in a PyTorch checkpoint (``.pth``, ``.pt``, ``.ckpt``), without PyTorch; ``save`` then keeps it.

    Channels, features and numbers of blocks or layers are read off the shapes. What the names of the tensors tell:

    - ``drunet`` (``m_head.weight``, ...): DRUNet of DeepInverse, KAIR and DPIR, with strided and transposed convolutions.
    - ``gsdrunet`` (the same behind ``student_grad.model.``): their gradient-step denoiser, a ``GradientStep`` of a DRUNet.
    - ``dncnn`` (``in_conv``, ``conv_list``, ``out_conv``): DnCNN of DeepInverse, ``x + N(x)``; or (``model.0``, ``model.2``, ...)
      that of KAIR, ``x - N(x)``, whose last layer is negated. KAIR's dilated IRCNN has the same names: not that one.

    A Lightning checkpoint is read for its ``state_dict``, and ``module.`` before all names is dropped. ``activation`` is not in
    a checkpoint: ``relu``, and ``elu`` for ``gsdrunet``, unless given. Weights of 16 bits become float32.

    Agreement: the networks here and there are the same function of sizes that are multiples of 16, or of 8 and at least 32. For
    others DeepInverse pads DRUNet to a multiple of 16, or works on four overlapping parts of a large image; here it is
    padded to the next multiple of 8, the edge repeated at the bottom and right in both.

    Raises ``FileNotFoundError`` for a missing file, and ``ValueError`` for what ``read_torch`` refuses, another
    ``architecture``, names or shapes of no such network, and an unknown ``activation``.
    """
    if architecture is not None and architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected None or one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    content = read_torch(path)
    try:
        tensors = _state_dict(content)
        found = _recognise(tensors)
        if architecture not in (None, found):
            raise ValueError(f"architecture: expected {architecture}, got the tensors of {found}")
        return assemble(*_READERS[found](tensors, activation))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _state_dict(content: Any) -> dict[str, np.ndarray]:
    """The tensors by name, without a wrapper of Lightning or of data parallelism."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise ValueError(f"expected a dictionary of tensors by name, got {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(tensor, np.ndarray) or not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise ValueError(
                f"expected floating tensors, got {getattr(tensor, 'dtype', type(tensor).__name__)} at {name}"
            )
    drop = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(drop): tensor for name, tensor in content.items()}


def _recognise(tensors: Mapping[str, np.ndarray]) -> str:
    for architecture, name in (
        ("gsdrunet", f"{_PREFIX}m_head.weight"),
        ("drunet", "m_head.weight"),
        ("dncnn", "in_conv.weight"),
        ("dncnn", "model.0.weight"),
    ):
        if name in tensors:
            return architecture
    raise ValueError(
        f"expected the tensors of one of {', '.join(ARCHITECTURES)}, got {', '.join(list(tensors)[:3])}, ..."
    )


def _drunet(tensors: Mapping[str, np.ndarray], activation: str | None) -> tuple[dict, dict]:
    num_steps = sum(re.fullmatch(r"m_down\d+\.\d+\.weight", name) is not None for name in tensors)
    num_blocks = sum(re.fullmatch(r"m_down1\.\d+\.res\.0\.weight", name) is not None for name in tensors)
    head, tail = _kernel(tensors, "m_head.weight"), _kernel(tensors, "m_tail.weight")
    downs = [_kernel(tensors, f"m_down{k}.{num_blocks}.weight") for k in range(1, num_steps + 1)]
    if head.shape[2] != tail.shape[3] + 1:
        raise ValueError(
            f"expected one input channel more than outputs (the noise), got {head.shape[2]}, {tail.shape[3]}"
        )
    names = _drunet_names(num_steps, num_blocks, "m_body.res.0.weight" in tensors)
    arguments = {
        "channels": tail.shape[3],
        "features": [head.shape[3], *(down.shape[3] for down in downs)],
        "num_blocks": num_blocks,
        "activation": activation or "relu",
    }
    description = {"architecture": "DRUNet", "arguments": arguments}
    return description, _renamed(tensors, names)


def _drunet_names(num_steps: int, num_blocks: int, bare_body: bool) -> dict[str, str]:
    """Ours by theirs. A body of one block is not in a list there (``bare_body``)."""

    def blocks(theirs: str, ours: str, first: int = 0) -> dict[str, str]:
        return {
            f"{theirs}.{first + i}.res.{conv}.weight": f"{ours}.{i}.{name}.kernel"
            for i in range(num_blocks)
            for conv, name in ((0, "first"), (2, "second"))
        }

    names = {"m_head.weight": "head.kernel", "m_tail.weight": "tail.kernel"} | blocks("m_body", "body")
    if bare_body:
        names = {theirs.replace("m_body.0.", "m_body."): ours for theirs, ours in names.items()}
    for k in range(num_steps):
        names |= blocks(f"m_down{k + 1}", f"encoder.{k}") | blocks(f"m_up{num_steps - k}", f"decoder.{k}", 1)
        names[f"m_down{k + 1}.{num_blocks}.weight"] = f"down.{k}.mix.kernel"
        names[f"m_up{num_steps - k}.0.weight"] = f"up.{k}.mix.kernel"
    return names


def _gsdrunet(tensors: Mapping[str, np.ndarray], activation: str | None) -> tuple[dict, dict]:
    inner = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    description, weights = _drunet(inner, activation or "elu")
    outer = {"architecture": "GradientStep", "arguments": {"net": description}}
    return outer, {f"net.{name}": tensor for name, tensor in weights.items()}


def _dncnn(tensors: Mapping[str, np.ndarray], activation: str | None) -> tuple[dict, dict]:
    listed = "in_conv.weight" in tensors
    num_layers = sum(name.endswith(".weight") for name in tensors)
    if listed:
        layers = ["in_conv", *(f"conv_list.{i}" for i in range(num_layers - 2)), "out_conv"]
    else:
        layers = [f"model.{2 * i}" for i in range(num_layers)]  # an activation between two layers
    use_bias = f"{layers[0]}.bias" in tensors
    names = {f"{layer}.weight": f"layers.{i}.kernel" for i, layer in enumerate(layers)}
    names |= {f"{layer}.bias": f"layers.{i}.bias" for i, layer in enumerate(layers) if use_bias}
    first, last = _kernel(tensors, f"{layers[0]}.weight"), _kernel(tensors, f"{layers[-1]}.weight")
    if first.shape[2] != last.shape[3]:
        raise ValueError(
            f"expected as many output channels as input channels, got {last.shape[3]} and {first.shape[2]}"
        )
    weights = _renamed(tensors, names)
    if not listed:  # theirs subtracts the noise, ours adds what it learns
        weights |= {n: -w for n, w in weights.items() if n.startswith(f"layers.{num_layers - 1}.")}
    arguments = {"channels": last.shape[3], "features": first.shape[3], "num_layers": num_layers, "use_bias": use_bias}
    return {"architecture": "DnCNN", "arguments": arguments | {"activation": activation or "relu"}}, weights


_READERS = {"drunet": _drunet, "gsdrunet": _gsdrunet, "dncnn": _dncnn}


def _renamed(tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors under our names and in our layout. Raises ``ValueError`` where the two sets of names differ."""
    extra, missing = sorted(tensors.keys() - names.keys()), sorted(names.keys() - tensors.keys())
    if extra or missing:
        raise ValueError(f"expected the tensors of such a network; missing {missing[:3]}, extra {extra[:3]}")
    return {ours: _in_our_layout(ours, _kernel(tensors, theirs)) for theirs, ours in names.items()}


def _kernel(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A weight as (rows, columns, second axis, first axis): for a convolution, inputs and outputs. A bias as it is."""
    if name not in tensors:
        raise ValueError(f"expected a tensor {name}, got none")
    tensor = tensors[name]
    if tensor.ndim != (1 if name.endswith("bias") else 4):
        raise ValueError(
            f"expected a bias or a weight of a convolution in two dimensions at {name}, got shape {tensor.shape}"
        )
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor


def _in_our_layout(ours: str, kernel: np.ndarray) -> np.ndarray:
    """Changes of resolution are linear maps of squares of pixels, (row, column, channel); convolutions stay as they are."""
    if ours.startswith("down."):
        return kernel.reshape(-1, kernel.shape[3])
    if ours.startswith("up."):  # a transposed convolution has its inputs first: here the last axis
        return kernel.transpose(3, 0, 1, 2).reshape(kernel.shape[3], -1)
    return kernel
