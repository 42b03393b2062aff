"""A network as data: which class, with which arguments, and its weights by name.

One convention makes every network describable: **each argument of its constructor, but** ``rngs``, **is kept as an attribute of
the same name**. Arguments are numbers, strings, tuples of them, a dtype (named ``dtype``), or networks.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .dncnn import DnCNN
from .drunet import DRUNet
from .edm import EDMDenoiser
from .gradient_step import GradientStep
from .lipschitz import LipschitzDenoiser
from .unet import UNet

ARCHITECTURES: tuple[type[nnx.Module], ...] = (DRUNet, DnCNN, UNet, EDMDenoiser, GradientStep, LipschitzDenoiser)


def describe(net: nnx.Module) -> dict[str, Any]:
    """``{"architecture": name of the class, "arguments": {name: value}}``, nested for a network of a network; goes into JSON.

    Raises ``ValueError`` when an argument of the constructor is not an attribute, or not of a kind named above.
    """
    name, arguments = type(net).__name__, {}
    for argument in (a for a in _parameters(type(net)) if a != "rngs"):
        if not hasattr(net, argument):
            raise ValueError(f"net: expected {name} to keep its argument {argument!r} as an attribute of that name")
        arguments[argument] = _encode(getattr(net, argument), f"{name}.{argument}")
    return {"architecture": name, "arguments": arguments}


def build(description: Any, rngs: nnx.Rngs, architectures: Sequence[type[nnx.Module]] = ()) -> nnx.Module:
    """The network of a description, with initial weights. ``architectures`` are classes known besides those of this package.

    Raises ``ValueError`` for an unknown architecture or arguments that its constructor refuses.
    """
    known = {cls.__name__: cls for cls in (*ARCHITECTURES, *architectures)}
    name = description.get("architecture") if isinstance(description, dict) else description
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"architecture: expected one of {', '.join(known)}, got {name!r}")
    given = description.get("arguments")
    if not isinstance(given, dict):
        raise ValueError(f"arguments: expected a dictionary of the arguments of {name}, got {given!r}")
    try:
        arguments = {n: _decode(n, value, rngs, architectures) for n, value in given.items()}
        if "rngs" in _parameters(known[name]):
            arguments["rngs"] = rngs
        return known[name](**arguments)
    except TypeError as error:
        raise ValueError(f"arguments: expected those of {name}, got {sorted(given)} ({error})") from error


def tensors_of(net: nnx.Module) -> dict[str, np.ndarray]:
    """The weights by their path in the network, ``encoder.0.1.first.kernel``. Raises ``ValueError`` for other than floats."""
    tensors, _ = _named(nnx.state(net))
    for name, leaf in tensors.items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"net: expected floating weights, got {leaf.dtype} at {name}")
    return {name: np.asarray(leaf) for name, leaf in tensors.items()}


def assemble(
    description: Any, tensors: Mapping[str, np.ndarray], architectures: Sequence[type[nnx.Module]] = ()
) -> nnx.Module:
    """The network of a description with these weights; 16-bit ones become float32. No initial weights are drawn.

    Raises ``ValueError`` as ``build`` does, and for missing, extra or mis-shaped tensors.
    """
    net = nnx.eval_shape(lambda: build(description, nnx.Rngs(0), architectures))
    graph, state = nnx.split(net)
    wanted, structure = _named(state)
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise ValueError(
            f"tensors: expected those of {description['architecture']}; missing {_short(missing)}, extra {_short(extra)}"
        )
    for name, leaf in wanted.items():
        if tensors[name].shape != leaf.shape:
            raise ValueError(f"tensors: expected shape {leaf.shape} for {name}, got {tensors[name].shape}")
    return nnx.merge(graph, structure.unflatten([_full(tensors[name]) for name in wanted]))


def _parameters(cls: type) -> list[str]:
    names = list(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]  # that of cls is of Flax's metaclass
    return names[1:]


def _encode(value: Any, where: str) -> Any:
    if isinstance(value, nnx.Module):
        return describe(value)
    if where.endswith(".dtype"):
        return None if value is None else jnp.dtype(value).name
    if isinstance(value, (tuple, list)):
        return [_encode(v, where) for v in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise ValueError(f"net: expected {where} to be a number, a string, a tuple of them or a network, got {value!r}")


def _decode(name: str, value: Any, rngs: nnx.Rngs, architectures: Sequence[type[nnx.Module]]) -> Any:
    if isinstance(value, dict):
        return build(value, rngs, architectures)
    if isinstance(value, list):
        return tuple(_decode("", v, rngs, architectures) for v in value)
    if name == "dtype" and value is not None:
        return jnp.dtype(value)
    return value


def _named(state: nnx.State) -> tuple[dict[str, Any], Any]:
    """The leaves of a state by name, and the structure of its pure dictionary."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
    return {".".join(str(entry.key) for entry in path): leaf for path, leaf in leaves}, structure


def _full(tensor: np.ndarray) -> jax.Array:
    return jnp.asarray(tensor.astype(np.float32) if tensor.dtype.itemsize == 2 else tensor)


def _short(names: list[str]) -> str:
    return "none" if not names else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
