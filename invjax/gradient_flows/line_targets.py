"""Probability measures on the line, the targets of ``quantile.py``: distribution functions, quantiles, implicit steps."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..operators.covariance import floating
from ..operators.structure import at_precision_of, sum_leading
from ..types import real, require


class LineTarget(eqx.Module):
    """A probability measure nu on the line. A subclass defines ``cdf`` and ``quantile``, and ``cdf_left`` if it has atoms."""

    @abc.abstractmethod
    def cdf(self, x: Array) -> Array:
        """``R(x) = nu((-inf, x])``, elementwise."""

    def cdf_left(self, x: Array) -> Array:
        """``nu((-inf, x))``, elementwise; it differs from ``cdf`` at atoms only."""
        return self.cdf(x)

    @abc.abstractmethod
    def quantile(self, s: Array) -> Array:
        """``Q(s)``, the smallest x with ``R(x) >= s``, elementwise, for s in (0, 1)."""

    def implicit_step(self, g: Float[Array, " n"], s: Float[Array, " n"], c: Float[Array, ""]) -> Float[Array, " n"]:
        """The x with ``x + c R(x)`` containing ``g + c s``, elementwise: the only one, since the left side increases strictly.

        By Newton's method with safeguards; derivatives by the implicit function theorem, ``dx/dg = 1 / (1 + c R'(x))``.
        """
        return steep_root(lambda x: x - g + c * (self.cdf(x) - s), g, jnp.abs(g) + c)


class DiscreteTarget(LineTarget):
    """``sum_j w_j delta_{x_j}``: ``atoms`` (k,) in any order, equal ones allowed; ``weights`` (k,), uniform by default.

    The atoms are sorted and the weights normalised here: ``cumulative`` (k + 1,) is ``R_0 = 0, R_1 = w_1, ..., R_k = 1``. The
    implicit step is closed form. Raises ``ValueError`` for other shapes, atoms that are not finite, negative weights or weights
    of sum zero.
    """

    atoms: Float[Array, " k"]
    cumulative: Float[Array, " k+1"]

    def __init__(self, atoms: Any, weights: Any = None):
        atoms = floating(atoms, "atoms")
        require(atoms, "atoms", ndim=1)
        if atoms.size == 0:
            raise ValueError("atoms: expected at least one, got none")
        require(jnp.abs(atoms), "magnitudes of atoms", below=math.inf)
        order = jnp.argsort(atoms)
        self.atoms = atoms[order]
        self.cumulative = jnp.concatenate([jnp.zeros(1, atoms.dtype), _cumulative(weights, atoms.size, order, atoms)])

    @property
    def weights(self) -> Float[Array, " k"]:
        """The normalised weights, in the order of the sorted atoms."""
        return jnp.diff(self.cumulative)

    def cdf(self, x):
        return self._count(x, "right")

    def cdf_left(self, x):
        return self._count(x, "left")

    def _count(self, x: Array, side: str) -> Array:
        x = floating(x, "x")
        return at_precision_of(x, self.cumulative)[jnp.searchsorted(at_precision_of(x, self.atoms), x, side=side)]

    def quantile(self, s):
        s = floating(s, "s")
        index = jnp.searchsorted(at_precision_of(s, self.cumulative)[1:], s)
        return at_precision_of(s, self.atoms)[jnp.minimum(index, self.atoms.size - 1)]

    def implicit_step(self, g, s, c):
        """Closed form: ``x + c R(x)`` rises with slope one and jumps at ``x_j`` from ``x_j + c R_{j-1}`` to ``x_j + c R_j``.

        A particle that ends at an atom has derivative zero in g and c, and one in the atom.
        """
        atoms, cumulative = at_precision_of(g, self.atoms), at_precision_of(g, self.cumulative)
        jumps = atoms + c * cumulative[:-1]
        reached = jnp.searchsorted(jumps, g + c * s, side="right")  # the last atom reached, counted from 1; 0 for none
        free = g + c * (s - cumulative[reached])
        atom = atoms[jnp.maximum(reached - 1, 0)]
        return jnp.where((reached > 0) & (free <= atom), atom, free)


class DiracTarget(DiscreteTarget):
    """``delta_a``: a ``DiscreteTarget`` of one atom. Raises ``ValueError`` unless ``location`` is a finite scalar."""

    def __init__(self, location: Any):
        location = floating(location, "location")
        require(location, "location", shape=())
        super().__init__(location[None])


class UniformTarget(LineTarget):
    """The uniform law on ``[low, high]``. The implicit step is closed form. Raises ``ValueError`` unless ``low < high``."""

    low: Array = eqx.field(converter=real, default=0.0)
    high: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.low, "low", shape=())
        require(self.high, "high", shape=())
        require(self.high - self.low, "high - low", positive=True, below=math.inf)

    def cdf(self, x):
        x = floating(x, "x")
        low, high = at_precision_of(x, self.low), at_precision_of(x, self.high)
        return jnp.clip((x - low) / (high - low), 0, 1)

    def quantile(self, s):
        s = floating(s, "s")
        low, high = at_precision_of(s, self.low), at_precision_of(s, self.high)
        return low + (high - low) * s

    def implicit_step(self, g, s, c):
        """Closed form, of three pieces: left of the interval, in it, right of it."""
        low, high = at_precision_of(g, self.low), at_precision_of(g, self.high)
        inside = g + c * (low + (high - low) * s - g) / (high - low + c)
        below, above = g + c * s, g + c * (s - 1)
        return jnp.where(below <= low, below, jnp.where(above >= high, above, inside))


class NormalMixtureTarget(LineTarget):
    """``sum_j w_j N(means_j, stds_j^2)``: means, stds and weights (k,), or scalars for a normal law; weights uniform by default.

    The weights are normalised here. ``quantile`` is a bisection between the smallest and the largest quantile of the components,
    so exact for one component. Raises ``ValueError`` for shapes that differ, means that are not finite, ``stds <= 0``, negative
    weights or weights of sum zero.
    """

    means: Float[Array, " k"]
    stds: Float[Array, " k"]
    weights: Float[Array, " k"]

    def __init__(self, means: Any, stds: Any, weights: Any = None):
        means, stds = floating(means, "means"), floating(stds, "stds")
        require(means, "means", ndim=(0, 1))
        self.means = jnp.atleast_1d(means)
        require(stds, "stds", shape=means.shape, positive=True, below=math.inf)
        require(jnp.abs(means), "magnitudes of means", below=math.inf)
        num = self.means.size
        if num == 0:
            raise ValueError("means: expected at least one, got none")
        self.stds = jnp.atleast_1d(stds)
        self.weights = _normalised(weights, num, self.means)

    def cdf(self, x):
        x = floating(x, "x")
        columns = (-1,) + (1,) * x.ndim
        means, stds, weights = (at_precision_of(x, a).reshape(columns) for a in (self.means, self.stds, self.weights))
        return sum_leading(weights * (1 + jax.lax.erf((x[None] - means) / (math.sqrt(2) * stds)))) / 2

    def quantile(self, s):
        s = floating(s, "s")
        columns = (-1,) + (1,) * s.ndim
        means, stds = (at_precision_of(s, a).reshape(columns) for a in (self.means, self.stds))
        ends = means + stds * jax.scipy.special.ndtri(s)[None]
        return increasing_root(lambda x: self.cdf(x) - s, ends.min(0), ends.max(0))


class ContinuousTarget(LineTarget):
    """The law of a given distribution function, elementwise and continuous; ``types.Fn`` makes one of a function with arrays.

    ``quantile`` is a bisection between ``low`` and ``high``, which are to hold all the mass up to rounding. Derivatives use that
    of the function; that of a quantile is infinite where the density is zero. Raises ``ValueError`` unless ``low < high``, and
    for what is not a function.
    """

    distribution: Callable
    low: Array = eqx.field(converter=real)
    high: Array = eqx.field(converter=real)

    def __check_init__(self):
        if not callable(self.distribution):
            raise ValueError(f"distribution: expected a function, got {type(self.distribution).__name__}")
        require(self.low, "low", shape=())
        require(self.high, "high", shape=())
        require(self.high - self.low, "high - low", positive=True, below=math.inf)

    def cdf(self, x):
        x = floating(x, "x")
        return jnp.asarray(self.distribution(x), x.dtype)

    def quantile(self, s):
        s = floating(s, "s")
        low, high = (jnp.broadcast_to(at_precision_of(s, a), s.shape) for a in (self.low, self.high))
        return increasing_root(lambda x: self.cdf(x) - s, low, high)


Residual = Callable[[Array], Array]


class _Search(NamedTuple):
    """Iterates, the bracket of each, and which of them are not there yet."""

    step: Array
    x: Array
    low: Array
    high: Array
    going: Array


def steep_root(residual: Residual, start: Array, scale: Array) -> Array:
    """The zero of an elementwise ``residual`` of slope one at least, to a few units of rounding of ``scale``.

    The slope bounds the error: the zero lies between x and ``x - residual(x)``. So every evaluation gives a bracket, inside which
    Newton's method stays; every fourth step halves it, so jumps and kinks cost four times a bisection at most. Derivatives in
    everything that ``residual`` closes over, both modes: ``dx = -d residual / residual'(x)``.
    """
    start, scale = jax.lax.stop_gradient((start, scale))

    def search(residual: Residual, start: Array) -> Array:
        info = jnp.finfo(start.dtype)
        tolerance = 4 * info.eps * scale

        def refine(at: _Search) -> _Search:
            y, slope = jax.jvp(residual, (at.x,), (jnp.ones_like(at.x),))
            low = jnp.maximum(at.low, jnp.minimum(at.x, at.x - y))
            high = jnp.minimum(at.high, jnp.maximum(at.x, at.x - y))
            new = jnp.where(at.step % 4 == 3, (low + high) / 2, jnp.clip(at.x - y / slope, low, high))
            # The last refinement counts too: a residual below the tolerance may be the whole motion of a short step.
            x = jnp.where(at.going, new, at.x)
            going = at.going & (jnp.abs(y) > tolerance) & (high - low > tolerance)  # NaN ends, too
            return _Search(at.step + 1, x, low, high, going)

        far = jnp.full_like(start, jnp.inf)
        first = _Search(jnp.zeros((), jnp.int32), start, -far, far, jnp.ones(start.shape, bool))
        limit = 4 * (info.nmant + 3)
        return jax.lax.while_loop(lambda at: (at.step < limit) & at.going.any(), refine, first).x

    return jax.lax.custom_root(residual, start, search, _divide)


def increasing_root(residual: Residual, low: Array, high: Array) -> Array:
    """The zero of an elementwise increasing ``residual`` in ``[low, high]``: bisection to the resolution of the dtype.

    Derivatives as ``steep_root``.
    """
    low, high = jax.lax.stop_gradient((low, high))

    def search(residual: Residual, _: Array) -> Array:
        def halve(_: Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (bracket[0] + bracket[1]) / 2
            above = residual(middle) > 0
            return jnp.where(above, bracket[0], middle), jnp.where(above, middle, bracket[1])

        ends = jax.lax.fori_loop(0, jnp.finfo(low.dtype).nmant + 8, halve, (low, high))
        return (ends[0] + ends[1]) / 2

    return jax.lax.custom_root(residual, (low + high) / 2, search, _divide)


def _divide(derivative: Residual, value: Array) -> Array:
    return value / derivative(jnp.ones_like(value))  # the residuals are elementwise, so the Jacobian is diagonal


def _normalised(weights: Any, num: int, like: Array) -> Array:
    """Weights of sum one in the dtype of ``like``; None is uniform."""
    if weights is None:
        return jnp.full((num,), 1 / num, like.dtype)
    weights = floating(weights, "weights")
    require(weights, "weights", shape=(num,), nonnegative=True)
    require(weights.sum(), "sum of weights", positive=True, below=math.inf)
    return (weights / weights.sum()).astype(like.dtype)


def _cumulative(weights: Any, num: int, order: Array, like: Array) -> Array:
    """``R_1, ..., R_k`` of weights in the given order; the last is one to the last digit."""
    if weights is None:
        return jnp.arange(1, num + 1, dtype=like.dtype) / num
    sums = jnp.cumsum(_normalised(weights, num, like)[order])
    return sums / sums[-1]
