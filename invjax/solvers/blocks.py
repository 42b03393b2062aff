"""Blocks of a measurement: ordered subsets, and the likelihood of each part of a stacked one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..likelihoods import Likelihood, Stacked
from ..operators import stack
from ..operators.stack import Stack


def parts(likelihood: Likelihood) -> tuple[Likelihood, ...]:
    """The likelihoods of the parts of a stacked measurement, whose potentials add up to it; itself when it is not
    stacked.

    Raises ``ValueError`` for an ``operators.stack`` whose noise is not ``likelihoods.Stacked``.
    """
    operator, noise = likelihood.operator, likelihood.noise
    if not isinstance(operator, Stack):
        return (likelihood,)
    if not isinstance(noise, Stacked):
        raise ValueError(f"likelihood: expected likelihoods.Stacked noise for a stack, got {type(noise).__name__}")
    each: Any = noise.parts  # a fidelity without a law is a part too
    return tuple(Likelihood(A, part, y) for A, part, y in zip(operator.operators, each, likelihood.y, strict=True))


def subsets(likelihood: Likelihood, num_subsets: int) -> Likelihood:
    """The same likelihood with the measurement cut into ``num_subsets`` interleaved parts:
    ``i, i + num_subsets, ...``.

    The parts are along the leading axis of the measurement (rows of a matrix, angles of a sinogram). The operator
    must have a method ``subset(index)`` that gives the operator of a slice of that axis, as ``operators.Matrix``
    does; a stack of operators is in parts already. Noise parameters of the shape of the measurement are cut too.
    Raises ``ValueError`` when the operator has no subsets or fewer than ``num_subsets`` leading entries.
    """
    operator, noise, y = likelihood.operator, likelihood.noise, likelihood.y
    if not hasattr(operator, "subset"):
        raise ValueError(
            f"likelihood: expected an operator with a method subset(index), got {type(operator).__name__}; stack the "
            "operators of the parts instead, with likelihoods.Stacked noise"
        )
    if not isinstance(num_subsets, int) or not 1 <= num_subsets <= y.shape[0]:
        raise ValueError(f"num_subsets: expected an integer from 1 to {y.shape[0]}, got {num_subsets!r}")
    cuts = [slice(i, None, num_subsets) for i in range(num_subsets)]
    operators = [operator.subset(cut) for cut in cuts]
    noises = tuple(jax.tree.map(lambda a, cut=cut: _cut(a, y, cut), noise) for cut in cuts)
    return Likelihood(stack(operators), Stacked(noises), tuple(y[cut] for cut in cuts))


def _cut(parameter: Any, y: PyTree, cut: slice) -> Any:
    along = eqx.is_array(parameter) and jnp.ndim(parameter) == y.ndim and parameter.shape[0] == y.shape[0]
    return parameter[cut] if along else parameter
