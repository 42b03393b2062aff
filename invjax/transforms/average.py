"""Averages over a group: they make any function equivariant, a denoiser or a reconstruction say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from .base import Transform


def group_average(transform: Transform, fn: Callable, x: Array, *args: Any) -> Array:
    """``mean_g T_g^(-1) fn(T_g x, *args)`` over all elements of a finite group, one after the other: exactly equivariant.

    Raises ``ValueError`` when the group has no ``elements``.
    """
    return _average(transform, transform.elements(), fn, x, args)


def random_average(
    key: PRNGKeyArray, transform: Transform, fn: Callable, x: Array, *args: Any, num_samples: int = 1
) -> Array:
    """``mean_k T_k^(-1) fn(T_k x, *args)`` over ``num_samples`` random elements: unbiased for the mean over the group."""
    if num_samples < 1:
        raise ValueError(f"num_samples: expected an integer >= 1, got {num_samples}")
    return _average(transform, jax.vmap(transform.sample)(jax.random.split(key, num_samples)), fn, x, args)


@eqx.filter_jit
def _average(transform: Transform, elements: PyTree, fn: Callable, x: Array, args: tuple) -> Array:
    def one(g: PyTree) -> Array:
        return transform.apply_inverse(g, fn(transform(g, x), *args))

    def add(total: Array, g: PyTree) -> tuple[Array, None]:
        return total + one(g), None

    first, rest = jax.tree.map(lambda a: a[0], elements), jax.tree.map(lambda a: a[1:], elements)
    total, _ = jax.lax.scan(add, one(first), rest)
    return total / (1 + len(jax.tree.leaves(rest)[0]))


class Symmetrised(eqx.Module):
    """``fn`` averaged over a finite group (see ``group_average``): fits wherever ``fn`` does, a denoiser ``(x, sigma)`` say."""

    transform: Transform
    fn: Callable

    def __call__(self, x: Array, *args: Any) -> Array:
        return group_average(self.transform, self.fn, x, *args)
