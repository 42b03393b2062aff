"""The kernels: Gaussian, Laplace, Matern, inverse multiquadric, Riesz, negative distance, thin plate, logarithm."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.special import digamma

from ..types import real, require
from .base import RadialKernel, in_dtype, safe_sqrt
from .counterparts import chebyshev_tower, evaluate, gaussian_counterpart, matern_counterpart


class _Scaled(RadialKernel):
    """A kernel ``F(s / bandwidth)`` whose counterpart is a series computed on the host. Subclasses have a ``bandwidth``."""

    bandwidth: eqx.AbstractVar[Array]

    def _tabulated(self, f: Any, reach: float) -> tuple:
        # A little more than asked for: the bandwidth may be traced, and its derivative needs a neighbourhood.
        reach = 1.001 * reach / concrete(self.bandwidth, "bandwidth")
        return chebyshev_tower(f, reach), jnp.asarray(reach)

    def sliced(self, t, dim, table):
        tower, reach = table
        return evaluate(tower, reach, t / in_dtype(self.bandwidth, t))

    def covers(self, table, reach):
        return reach <= 1.0005 * table[1].astype(reach.dtype) * in_dtype(self.bandwidth, reach)


class Gaussian(_Scaled):
    """``exp(-|x - y|^2 / (2 bandwidth^2))``, positive definite, smooth. Counterpart ``1F1(d/2; 1/2; -t^2 / (2 bandwidth^2))``.

    Raises ``ValueError`` unless ``bandwidth > 0``, which has the unit of the points.
    """

    smooth: ClassVar[bool] = True
    bandwidth: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.bandwidth, "bandwidth", positive=True)

    def of_square(self, q):
        return jnp.exp(-q / (2 * in_dtype(self.bandwidth, q) ** 2))

    def tabulate(self, dim, reach):
        return self._tabulated(lambda t: gaussian_counterpart(t, dim), reach)


class Matern(_Scaled):
    """``2^(1-nu) / Gamma(nu) z^nu K_nu(z)``, ``z = sqrt(2 nu) |x - y| / bandwidth``, for nu = 1/2, 3/2, 5/2, ...

    Positive definite; the closed form is a polynomial times ``exp(-z)``. ``nu = 1/2`` is ``Laplace``. Raises ``ValueError`` for
    another nu and unless ``bandwidth > 0``. Source: Rasmussen and Williams (2006), equation 4.14.
    """

    nu: float = eqx.field(static=True)
    bandwidth: Array = eqx.field(converter=real)

    def __init__(self, nu: float = 1.5, bandwidth: Any = 1.0):
        self.nu, self.bandwidth = nu, bandwidth

    def __check_init__(self):
        require(self.bandwidth, "bandwidth", positive=True)
        if not (isinstance(self.nu, (int, float)) and self.nu > 0 and (self.nu - 0.5) % 1 == 0):
            raise ValueError(f"nu: expected 1/2, 3/2, 5/2, ..., got {self.nu!r}")

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return self.nu > 1

    def of_square(self, q):
        return _half_integer(round(self.nu - 0.5), 2 * self.nu * q / in_dtype(self.bandwidth, q) ** 2)

    def tabulate(self, dim, reach):
        return self._tabulated(lambda t: matern_counterpart(t, dim, self.nu), reach)


class Laplace(_Scaled):
    """``exp(-|x - y| / bandwidth)``: positive definite, with a kink at 0. Raises ``ValueError`` unless ``bandwidth > 0``."""

    bandwidth: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.bandwidth, "bandwidth", positive=True)

    def of_square(self, q):
        return jnp.exp(-safe_sqrt(q) / in_dtype(self.bandwidth, q))

    def tabulate(self, dim, reach):
        return self._tabulated(lambda t: matern_counterpart(t, dim, 0.5), reach)


class InverseMultiquadric(RadialKernel):
    """``(1 + |x - y|^2 / bandwidth^2)^(-1/2)``, positive definite, smooth. Counterpart ``(1 + t^2 / bandwidth^2)^(-d/2)``.

    (The power series of F has the coefficients ``(1/2)_n / n!``, that of f ``(d/2)_n / n!``, with the same signs.) Raises
    ``ValueError`` unless ``bandwidth > 0``.
    """

    smooth: ClassVar[bool] = True
    bandwidth: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.bandwidth, "bandwidth", positive=True)

    def of_square(self, q):
        return jax.lax.rsqrt(1 + q / in_dtype(self.bandwidth, q) ** 2)

    def tabulate(self, dim, reach):
        return ()

    def sliced(self, t, dim, table):
        return jnp.exp(-dim / 2 * jnp.log1p((t / in_dtype(self.bandwidth, t)) ** 2))


class Riesz(RadialKernel):
    """``-|x - y|^r`` for ``0 < r < 2``, conditionally positive definite: MMD is a distance of measures with r-th moments.

    Counterpart ``-c |t|^r``, ``c = sqrt(pi) Gamma((d + r)/2) / (Gamma(d/2) Gamma((r + 1)/2))``. Raises ``ValueError`` for another
    ``r``. Source: Hertrich, Wald, Altekrueger and Hagemann (2024), ICLR, theorem 1.
    """

    r: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.r, "r", positive=True, below=2)

    def of_square(self, q):
        return -_power(q, in_dtype(self.r, q) / 2)

    def tabulate(self, dim, reach):
        return ()

    def sliced(self, t, dim, table):
        r = in_dtype(self.r, t)
        factor = jnp.exp(_log_gamma_ratio(dim / 2, r / 2) - _log_gamma_ratio(0.5, r / 2))
        return -factor * _power(t, r)


class NegativeDistance(RadialKernel):
    """``-|x - y|``: MMD with it is the energy distance. Counterpart ``-c_d |t|``; sums on a line are exact by sorting."""

    def of_square(self, q):
        return -safe_sqrt(q)

    def tabulate(self, dim, reach):
        return ()

    def sliced(self, t, dim, table):
        return -slicing_constant(dim) * t


class ThinPlate(RadialKernel):
    """``|x - y|^2 log |x - y|``, conditionally positive definite of order 2. Counterpart ``d t^2 log t - C t^2``.

    ``C = -(d/2) (H_{d/2} - 2 + log 4)`` with the harmonic number H (for odd d by the digamma function).
    """

    def of_square(self, q):
        return q * _safe_log(q) / 2

    def tabulate(self, dim, reach):
        return ()

    def sliced(self, t, dim, table):
        harmonic = digamma(dim / 2 + 1) + np.euler_gamma
        shift = float(dim / 2 * (harmonic - 2 + math.log(4)))
        return t**2 * (dim * _safe_log(t) + shift)


class Logarithm(RadialKernel):
    """``log |x - y|``, whose negative is conditionally positive definite. Counterpart ``log t - E log |xi_1|``.

    Coinciding points do not interact in dense sums. In sliced sums they cannot be told from points that only coincide in
    projection, so ``x`` and ``y`` should have none in common.
    """

    singular: ClassVar[bool] = True

    def of_square(self, q):
        return _safe_log(q) / 2

    def tabulate(self, dim, reach):
        return ()

    def sliced(self, t, dim, table):
        return _safe_log(t) - float(digamma(0.5) - digamma(dim / 2)) / 2


def slicing_constant(dim: int) -> float:
    """``c_d = sqrt(pi) Gamma((d + 1)/2) / Gamma(d/2)``: ``|x| = c_d E |<xi, x>|`` over uniform directions xi."""
    return math.sqrt(math.pi) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))


def concrete(value: Any, name: str) -> float:
    """A number for the host. Raises ``ValueError`` when it is traced."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name}: a plan is made on the host and needs a number, got a traced value; make it outside jit"
        )
    return float(value)


def _safe_log(t: Array) -> Array:
    zero = t <= 0
    return jnp.where(zero, 0, jnp.log(jnp.where(zero, 1, t)))


def _power(t: Array, exponent: Array) -> Array:
    zero = t <= 0
    return jnp.where(zero, 0, jnp.where(zero, 1, t) ** exponent)


def _log_gamma_ratio(z: float, shift: Array) -> Array:
    """``log Gamma(z + shift) - log Gamma(z)`` for ``0 <= shift <= 1``, accurate in float32 where both are large.

    Stirling's series at ``z + 8``, term by term, and the recurrence back to z.
    """
    steps = np.arange(8)
    back = jnp.sum(jnp.log1p(shift / jnp.asarray(z + steps, shift.dtype)))
    z = z + 8
    up = z + shift
    series = (1 / up - 1 / z) / 12 - (1 / up**3 - 1 / z**3) / 360 + (1 / up**5 - 1 / z**5) / 1260
    return (up - 0.5) * jnp.log1p(shift / z) + shift * (math.log(z) - 1) + series - back


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _half_integer(p: int, square: Array) -> Array:
    """The Matern function of ``nu = p + 1/2`` at ``z = sqrt(square)``: Rasmussen and Williams (2006), equation 4.16."""
    z = safe_sqrt(square)
    scale = math.factorial(p) / math.factorial(2 * p)
    terms = [
        scale * math.factorial(p + i) / (math.factorial(i) * math.factorial(p - i)) * 2 ** (p - i) for i in range(p + 1)
    ]
    return jnp.exp(-z) * jnp.polyval(jnp.asarray(terms, z.dtype), z)


@_half_integer.defjvp
def _half_integer_jvp(p, primals, tangents):
    # d/d(z^2) of the function of nu is -1 / (4 (nu - 1)) times that of nu - 1: finite at 0, where sqrt is not differentiable.
    (square,), (tangent,) = primals, tangents
    if p == 0:
        return jax.jvp(lambda q: jnp.exp(-safe_sqrt(q)), (square,), (tangent,))
    return _half_integer(p, square), -_half_integer(p - 1, square) / (4 * p - 2) * tangent
