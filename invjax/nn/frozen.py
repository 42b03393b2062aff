"""A trained network as a Module of arrays, for priors and solvers."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PyTree

from ..eager import one_program
from ..types import real


class Frozen(eqx.Module):
    """A network as a pure function, ``frozen(net)(x, sigma)``: its weights are leaves, its structure is static.

    So it goes through ``jit``, ``vmap``, ``grad`` and ``scan`` as an argument or as a field of a method, and compiles once for
    all weights of one structure. ``weights`` is a nested dictionary of arrays by the names of the layers.
    """

    graph: Any = eqx.field(static=True)
    weights: PyTree

    def __call__(self, x: Array, *args: Any) -> Array:
        """The network at ``x``, compiled as one program where nothing is traced. Raises what the network raises."""
        return _apply(self, *(real(a) for a in (x, *args)))

    @property
    def net(self) -> Any:
        """The network, a new object at each call: its own methods, ``frozen(net).net.potential(x, sigma)``."""
        return nnx.merge(self.graph, self.weights)


@one_program
def _apply(network: Frozen, *args: Any) -> Array:
    return network.net(*args)


def frozen(net: nnx.Module) -> Frozen:
    """``net``, in evaluation mode, as a ``Frozen`` Module that later changes of ``net`` do not reach.

    Raises ``ValueError`` for what is not a network, and one that names every Dropout or BatchNorm left in train mode: they
    would draw or average inside a solver.
    """
    if not isinstance(net, nnx.Module):
        raise ValueError(f"net: expected a network (flax.nnx.Module), got {type(net).__name__}")
    left = [
        ".".join(map(str, path)) or type(module).__name__ for path, module in nnx.iter_modules(net) if _trains(module)
    ]
    if left:
        raise ValueError(f"net: expected evaluation mode, got {', '.join(left)} in train mode; call net.eval() first")
    graph, state = nnx.split(net)
    return Frozen(graph, jax.tree.map(jnp.asarray, nnx.to_pure_dict(state)))


def _trains(module: Any) -> bool:
    if isinstance(module, nnx.Dropout):
        return module.rate > 0 and not module.deterministic
    return isinstance(module, nnx.BatchNorm) and not module.use_running_average
