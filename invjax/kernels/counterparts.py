"""One-dimensional counterparts of Gaussian and Matern kernels, as Chebyshev series computed on the host.

For ``F(s) = E f(<xi, s e>)``, xi uniform on the sphere of dimension d, the Gaussian ``exp(-s^2/2)`` has
``f(t) = 1F1(d/2; 1/2; -t^2/2) = E cos(a t)`` with a of the chi law of d degrees of freedom. A Matern kernel is a mixture of
Gaussians of variance ``G / nu``, G of the Gamma(nu) law, and so is its f. Series of 1F1 cancel; both formulas used here are
integrals of moderate functions. Source: Hertrich (2024), SIAM J. Math. Data Sci. 6(4), section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import chebyshev
from scipy.special import gammaln, hyp1f1

_ORDERS = 4  # the function and three derivatives
_CLOSED_FORM = 100  # up to this dimension SciPy's 1F1 is accurate
_RESOLVED = 1e-12  # values carry errors of about 1e-13
_ROWS = 256  # of the matrix of a Matern counterpart in memory at a time
_NEGLIGIBLE = 14.0  # in high dimension |f(t)| is about exp(-t^2/4)


class NotMet(ValueError):
    """A bandwidth or a tolerance that slices cannot serve and dense sums can."""


def gaussian_counterpart(t: np.ndarray, dim: int) -> np.ndarray:
    """``1F1(d/2; 1/2; -t^2/2)`` in float64."""
    t = np.abs(np.asarray(t, np.float64))
    if dim <= _CLOSED_FORM:
        far = (dim % 2 == 1) & (t > 40)  # below the smallest number in odd dimensions, where SciPy takes long
        return np.where(far, 0, hyp1f1(dim / 2, 0.5, -(np.where(far, 0, t) ** 2) / 2))
    near = t < _NEGLIGIBLE
    out = np.zeros_like(t)
    # E cos(a t) by Gauss-Legendre over the bulk of the chi law; enough nodes for the phase, which spans 18 t.
    low, high = np.sqrt(dim - 1) - 9, np.sqrt(dim - 1) + 9
    nodes, weights = np.polynomial.legendre.leggauss(220)
    a = low + (high - low) * (nodes + 1) / 2
    log_density = (dim - 1) * np.log(a) - a**2 / 2 - (dim / 2 - 1) * np.log(2) - gammaln(dim / 2)
    out[near] = np.cos(np.multiply.outer(t[near], a)) @ (weights * (high - low) / 2 * np.exp(log_density))
    return out


def matern_counterpart(t: np.ndarray, dim: int, nu: float) -> np.ndarray:
    """The counterpart of the Matern kernel of unit bandwidth, in float64.

    ``f(t) = 2 (nu t^2)^nu / Gamma(nu) int f_Gauss(y) y^(-2 nu - 1) exp(-nu t^2 / y^2) dy``, with the trapezoidal rule in log y.
    """
    t = np.abs(np.asarray(t, np.float64))
    positive = np.where(t > 0, t, 1.0)
    # exp(-nu t^2/y^2) bounds y from below; above, f_Gauss or the power of y is negligible.
    low, high = np.log(positive.min() / 30), np.log(max(60.0 * positive.max(), 1e5))
    log_y = np.linspace(low, high, int((high - low) * 40 * np.sqrt(dim + 25)) + 1)
    f = gaussian_counterpart(np.exp(log_y), dim)

    def rows(part: np.ndarray) -> np.ndarray:
        exponent = np.log(nu) + 2 * (np.log(part)[:, None] - log_y)
        mass = np.exp(nu * exponent - np.exp(np.minimum(exponent, 700)) - gammaln(nu))
        return 2 * (mass @ f) * (log_y[1] - log_y[0])

    parts = np.array_split(positive.ravel(), max(1, positive.size // _ROWS))
    values = np.concatenate([rows(part) for part in parts]).reshape(t.shape)
    return np.where(t > 0, values, 1.0)


def chebyshev_tower(f: Callable[[np.ndarray], np.ndarray], reach: float) -> tuple[Float[Array, " n"], ...]:
    """Coefficients of f on [0, reach] and of its derivatives, with as many terms as float64 needs.

    Raises ``ValueError`` when 4096 terms do not resolve f.
    """
    probe = np.geomspace(1e-6, 1, 300)  # also near 0, where a narrow kernel hides between the nodes
    exact = f(reach * probe)
    for degree in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        coefficients = chebyshev.chebinterpolate(lambda u: f(reach * (u + 1) / 2), degree)  # type: ignore[type-var]
        largest = np.abs(coefficients).max()
        error = np.abs(chebyshev.chebval(2 * probe - 1, coefficients) - exact).max()
        if error < 1e3 * _RESOLVED * max(largest, 1e-300):
            kept = coefficients[: 2 + int(np.flatnonzero(np.abs(coefficients) > _RESOLVED * largest)[-1])]
            tower = [chebyshev.chebder(kept, order) * (2 / reach) ** order for order in range(_ORDERS)]
            return tuple(jnp.asarray(np.pad(c, (0, max(0, 2 - c.size)))) for c in tower)
    raise NotMet(
        f'radius: the kernel oscillates or decays too fast to be resolved over {reach:.3g} bandwidths; use method="dense"'
    )


@jax.custom_jvp
def evaluate(tower: tuple[Array, ...], reach: Array, tau: Array) -> Array:
    """The series at ``tau`` in [0, reach], by Clenshaw's recurrence; derivatives are the next series of the tower.

    Differentiating the recurrence itself would lose n^2 roundings at the ends of the interval.
    """
    u = (2 * tau / reach.astype(tau.dtype) - 1).astype(tau.dtype)
    coefficients = tower[0].astype(tau.dtype)

    def back(carry: tuple[Array, Array], c: Array) -> tuple[tuple[Array, Array], None]:
        b1, b2 = carry
        return (2 * u * b1 - b2 + c, b1), None

    zero = jnp.zeros_like(u)
    (b1, b2), _ = jax.lax.scan(back, (zero, zero), coefficients[:0:-1])
    return u * b1 - b2 + coefficients[0]


@evaluate.defjvp
def _evaluate_jvp(primals, tangents):
    tower, reach, tau = primals
    if len(tower) < 2:
        raise ValueError(f'sliced kernels have {_ORDERS - 1} derivatives; use method="dense" for more')
    slope = evaluate(tower[1:], reach, tau)
    return evaluate(tower, reach, tau), slope * tangents[2]
