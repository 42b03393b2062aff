"""Linear reconstructions: ridge regression by its normal equations."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..likelihoods import Gaussian
from ..operators.structure import at_precision, precision_of
from ..types import real, require


def ridge(likelihood: Any, lam: Any, centre: PyTree | None = None) -> PyTree:
    """``argmin_x f(x) + lam |x - centre|^2 / 2 = (A^H A / sigma^2 + lam I)^(-1) (A^H y / sigma^2 + lam centre)``.

    Closed form when the operator's spectrum is known, else conjugate gradients; differentiable implicitly. Raises
    ``ValueError`` for noise that is not Gaussian or a ``lam`` that is not positive.
    """
    if not isinstance(likelihood.noise, Gaussian):
        raise ValueError(f"likelihood: expected Gaussian noise, got {type(likelihood.noise).__name__}")
    lam = real(lam)
    require(lam, "lam", positive=True)
    if centre is None:
        struct = at_precision(likelihood.operator.in_structure, precision_of(likelihood.y))
        centre = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), struct)
    return likelihood.prox(centre, 1 / lam)
