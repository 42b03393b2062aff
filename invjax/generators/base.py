"""What every generator is, and how several make one: joint draws and mixtures."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..operators.structure import default_precision
from ..types import real, require


class Generator(eqx.Module):
    """Random parameters of a forward model: ``generator(key)`` is a pytree of arrays of static shapes.

    Hyper-parameters are leaves, so ``vmap`` over keys or over them, and differentiate where the parameters are continuous
    in them. Floating results have JAX's default precision (operators cast to that of the image); masks are Boolean.
    """

    @abc.abstractmethod
    def __call__(self, key: PRNGKeyArray) -> PyTree:
        """One draw."""


def default(x: Any) -> Array:
    """A hyper-parameter at JAX's default precision."""
    return jnp.asarray(x, default_precision())


class Constant(Generator):
    """Always the same ``value``, any pytree of arrays: a fixed part of a joint draw or of a mixture."""

    value: PyTree = eqx.field(converter=lambda value: jax.tree.map(real, value))

    def __call__(self, key):
        return self.value


class Joint(Generator):
    """Independent draws from every generator of a pytree (a dict, a tuple): part ``i`` has the key ``fold_in(key, i)``."""

    generators: PyTree

    def __call__(self, key):
        parts, tree = jax.tree.flatten(self.generators, is_leaf=lambda g: isinstance(g, Generator))
        return jax.tree.unflatten(tree, [part(jax.random.fold_in(key, i)) for i, part in enumerate(parts)])


class Mixture(Generator):
    """A draw from one of several generators of equal output structure, chosen with ``probabilities`` (default: equal).

    Part ``i`` has the key ``fold_in(key, i + 1)``, the choice ``fold_in(key, 0)``. Under ``vmap`` over keys all parts are
    drawn and one is selected. Raises ``ValueError`` when the structures differ.
    """

    generators: tuple[Generator, ...] = eqx.field(converter=tuple)
    probabilities: Array | None = eqx.field(converter=real, default=None)

    def __check_init__(self):
        if not self.generators:
            raise ValueError("generators: expected at least one generator, got none")
        require(self.probabilities, "probabilities", nonnegative=True, shape=(len(self.generators),))
        structures = [jax.eval_shape(g, jax.random.key(0)) for g in self.generators]
        described = [(jax.tree.structure(s), [(a.shape, a.dtype) for a in jax.tree.leaves(s)]) for s in structures]
        if any(d != described[0] for d in described):
            raise ValueError(f"generators: expected equal outputs, got {structures}")

    def __call__(self, key):
        weights = jnp.ones(len(self.generators)) if self.probabilities is None else self.probabilities
        choice = jax.random.categorical(jax.random.fold_in(key, 0), jnp.log(default(weights)))
        draws = [lambda key=key, i=i, g=g: g(jax.random.fold_in(key, i + 1)) for i, g in enumerate(self.generators)]
        return jax.lax.switch(choice, draws)
