"""Plans of kernel sums: the algorithm, its directions and its sizes, chosen once on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..types import require
from .base import RadialKernel, require_scalars
from .counterparts import NotMet
from .directions import Kind
from .directions import directions as draw_directions
from .fit import CosineFit, fit_cosines, grid_error
from .lines import Line, SortedLine, fourier_line, grid_line
from .radial import NegativeDistance, concrete, slicing_constant

Method = Literal["auto", "dense", "grid", "fourier", "sort"]

# Nanoseconds on one CPU core pair: a pair of points (and coordinate) of a dense sum, a point (and coordinate) of a slice.
_DENSE, _DENSE_DIM, _SLICE, _SLICE_DIM = 0.3, 0.008, 6.0, 0.02
_NODES = (1024, 2048, 4096, 8192, 16384)
_MOST_SLICES = 8192
_PIECE = 1 << 15  # points at which f is evaluated at a time


class Plan(eqx.Module):
    """How to compute sums of one kernel: made by ``plan``, an argument of compiled programs like any other Module.

    ``directions`` (P, d) with ``weights`` (P,) of sum one, ``table`` what the one-dimensional counterpart needs, ``error`` the
    predicted error (see ``plan``). ``radius`` bounds ``|<xi, x - centre>|`` for all points.
    """

    directions: Float[Array, "P d"]
    weights: Float[Array, " P"]
    radius: Array
    centre: Float[Array, " d"] | None
    table: PyTree
    fit: CosineFit | None
    error: Array
    method: str = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    kind: Any = eqx.field(static=True)
    num_nodes: int = eqx.field(static=True, default=0)

    @property
    def num_slices(self) -> int:
        """P, or 0 for a dense sum."""
        return self.directions.shape[0]

    def covers(self, kernel: RadialKernel) -> Array:
        """Whether the plan serves the present parameters of the kernel: a bandwidth may not be smaller than the planned one."""
        return kernel.covers(self.table, 2 * self.radius)

    def require(self, kernel: RadialKernel) -> None:
        """Raise ``ValueError`` for a kernel of another kind, and for parameters that are known and not served."""
        if self.method == "dense":
            return
        if jax.tree.structure(kernel) != self.kind:
            raise ValueError(f"plan: made for another kernel than the given {type(kernel).__name__}")
        covered = self.covers(kernel)
        if not isinstance(covered, jax.core.Tracer) and not covered:
            raise ValueError("plan: made for a larger bandwidth than the kernel's; plan for the smallest one")

    def line(self, kernel: RadialKernel, dtype: Any) -> Line:
        """The one-dimensional sum of ``kernel``, whose parameters may differ from the planned ones and may be traced."""

        def profile(t: Array) -> Array:
            return kernel.sliced(t, self.dim, self.table)

        # In the precision of the plan: a least-squares fit in that of the points would lose digits.
        if self.method == "sort":
            line: Line = SortedLine(-jnp.asarray(slicing_constant(self.dim)))
        elif self.fit is not None:
            samples = profile(self.fit.nodes(self.radius))
            line = fourier_line(self.fit.cosines(samples), self.fit.omega(self.radius), self.fit.first)
        else:
            line = grid_line(profile, self.num_nodes, self.radius, _at_zero(kernel, profile))
        return line.astype(dtype)


def plan(
    kernel: RadialKernel,
    shapes: Sequence[Sequence[int]],
    radius: Any,
    tol: float = 1e-2,
    key: PRNGKeyArray | None = None,
    method: Method = "auto",
    *,
    directions: Kind | Any = "auto",
    weights: Any = None,
    num_slices: int | None = None,
    num_nodes: int | None = None,
    centre: Any = None,
) -> Plan:
    """Choose how to compute ``kernel_sum(kernel, x, y, w)`` for clouds of the two ``shapes`` ``(N, d)`` and ``(M, d)``.

    ``radius`` bounds ``|<xi, x - centre>|`` for every point and direction: the largest distance of a point from ``centre`` (the
    origin by default) always does, and in high dimension much less may. ``tol`` is the error of the kernel, root mean square over
    random pairs in that range and relative to its largest value there; the sum is off by about ``tol max|F| sum |w|`` at
    most. The plan's ``error`` is that figure for what was chosen.

    ``method``:

    - ``dense``: all pairs in tiles. Exact; needs no key.
    - ``grid``: slices, with ``num_nodes`` nodes on each line (by default as many as make its error a tenth of the tolerance or of
      the slicing error, up to 16384): the fastest on CPU, for every kernel with a counterpart.
    - ``fourier``: slices, with the few frequencies that matter: matrix products only, spectral accuracy for smooth kernels.
    - ``sort``: slices of ``NegativeDistance``, each exact.
    - ``auto``: the cheapest that meets ``tol``, from measured costs on CPU.

    ``directions`` is a kind (see ``directions``), an array ``(P, d)`` of unit vectors with optional ``weights``, or "auto": the
    optimised sets where they are quick to make, and orthogonal ones otherwise. ``num_slices`` fixes P; otherwise it is doubled
    until ``tol`` is met. A key is required where directions are drawn. In one dimension there is one slice and no randomness.

    A sum whose points leave the radius is NaN: bound also the places where particles will be.

    Raises ``ValueError`` for inconsistent shapes, sizes that are not whole and positive, a traced kernel, a missing key, a method
    that the kernel does not have, or a tolerance that is not met by 8192 slices (by all that is not fixed by an argument).
    """
    dim, sizes = _checked(shapes, method, num_slices, num_nodes)
    radius = _finite(radius, "radius")
    tol = _finite(tol, "tol")
    centre = None if centre is None else _point(centre, dim)
    if method == "sort" and not isinstance(kernel, NegativeDistance):
        raise ValueError(f'method: expected a NegativeDistance kernel for "sort", got {type(kernel).__name__}')
    dense = _plan(kernel, "dense", np.zeros((0, dim)), np.zeros(0), radius, centre, 0.0)
    if method == "dense":
        return dense
    require_scalars(kernel)
    jax.tree.map(lambda leaf: concrete(leaf, "kernel"), eqx.filter(kernel, eqx.is_array))
    if method == "auto" and _prefers_dense(kernel, sizes, dim):
        return dense
    free = num_slices is None and isinstance(directions, str)
    try:
        table = kernel.tabulate(dim, 2 * radius)
        # A little less than the tolerance, which is left for the lines.
        drawn = _slices(kernel, table, radius, dim, 0.99 * tol, key, directions, weights, num_slices)
        if method == "auto" and free and _dense_cost(sizes, dim) < _sliced_cost(sizes, dim, len(drawn.xi)):
            return dense
        return _sliced_plan(kernel, table, radius, tol, method, drawn, free, num_nodes, centre)
    except NotMet:
        if method == "auto" and free:
            return dense
        raise


class _Drawn(NamedTuple):
    """Directions, their weights, and the root mean square of the slicing error."""

    xi: np.ndarray
    share: np.ndarray
    error: float


def _sliced_plan(
    kernel: RadialKernel,
    table: PyTree,
    radius: float,
    tol: float,
    method: str,
    drawn: _Drawn,
    free: bool,
    num_nodes: int | None,
    centre: np.ndarray | None,
) -> Plan:
    """The plan of these slices with the first way to sum on lines that meets the tolerance.

    Raises ``NotMet`` for the errors that are not due to what an argument has fixed.
    """
    dim, scale = drawn.xi.shape[1], _largest(kernel, radius)
    # Slices whose number is fixed have the error that they have: the lines must not add to it.
    slicing, errors = drawn.error / scale, []
    limit = tol if free else max(tol, slicing)
    for route in _routes(kernel, method, dim, tol):
        fit, on_line, nodes = None, 0.0, 0
        if route == "fourier":
            fit, on_line = fit_cosines(lambda t: _profile(kernel, t, dim, table), radius, tol * scale / 10)
        if route == "grid":
            negligible = 0.1 * scale * max(slicing, tol if dim == 1 else 0.0)
            nodes, on_line = _nodes(lambda t: _profile(kernel, t, dim, table), radius, num_nodes, negligible)
        error = math.hypot(slicing, on_line / scale)
        errors.append(math.hypot(slicing if free else 0, 0 if route == "grid" and num_nodes else on_line / scale))
        if errors[-1] <= limit:
            return _plan(kernel, route, drawn.xi, drawn.share, radius, centre, error, table, fit, nodes)
    raise NotMet(
        f"tol: expected a tolerance that {len(drawn.xi)} slices meet, got {tol} (their error is {min(errors):.1e}); "
        "use dense sums"
    )


def _plan(
    kernel: RadialKernel,
    method: str,
    xi: np.ndarray,
    share: np.ndarray,
    radius: float,
    centre: Any,
    error: float,
    table: PyTree = (),
    fit: CosineFit | None = None,
    num_nodes: int = 0,
) -> Plan:
    return Plan(
        directions=jnp.asarray(xi),
        weights=jnp.asarray(share),
        radius=jnp.asarray(radius),
        centre=None if centre is None else jnp.asarray(centre),
        table=table,
        fit=fit,
        error=jnp.asarray(error),
        method=method,
        dim=xi.shape[1],
        kind=jax.tree.structure(kernel),
        num_nodes=num_nodes,
    )


def _checked(shapes: Any, method: str, num_slices: int | None, num_nodes: int | None) -> tuple[int, tuple[int, int]]:
    if method not in get_args(Method):
        raise ValueError(f"method: expected one of {get_args(Method)}, got {method!r}")
    shapes = [tuple(shape) for shape in shapes]
    whole = all(isinstance(size, (int, np.integer)) and size >= 0 for shape in shapes for size in shape)
    fits = whole and len(shapes) == 2 and all(len(shape) == 2 for shape in shapes)
    if not fits or shapes[0][1] != shapes[1][1] or shapes[0][1] < 1:
        raise ValueError(f"shapes: expected ((N, d), (M, d)), got {tuple(shapes)}")
    for name, value, least in (("num_slices", num_slices, 1), ("num_nodes", num_nodes, 8)):
        if value is not None and not (isinstance(value, (int, np.integer)) and value >= least):
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(shapes[0][1]), (int(shapes[0][0]), int(shapes[1][0]))


def _point(centre: Any, dim: int) -> np.ndarray:
    centre = np.asarray(centre, np.float64)
    require(centre, "centre", shape=(dim,))
    if not np.all(np.isfinite(centre)):
        raise ValueError(f"centre: expected finite values, got {centre}")
    return centre


def _finite(value: Any, name: str) -> float:
    value = concrete(value, name)
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive, finite number, got {value}")
    return value


def _dense_cost(sizes: tuple[int, int], dim: int) -> float:
    return sizes[0] * sizes[1] * (_DENSE + _DENSE_DIM * dim)


def _sliced_cost(sizes: tuple[int, int], dim: int, num: int) -> float:
    return num * sum(sizes) * (_SLICE + _SLICE_DIM * dim)


def _prefers_dense(kernel: RadialKernel, sizes: tuple[int, int], dim: int) -> bool:
    """True where even ten slices would cost more, or slices do not exist."""
    try:
        kernel.tabulate(dim, 1e-3)
    except ValueError:
        return True
    return _dense_cost(sizes, dim) < _sliced_cost(sizes, dim, 1 if dim == 1 else 10)


def _routes(kernel: RadialKernel, method: str, dim: int, tol: float) -> tuple[str, ...]:
    """The ways to sum on lines, in the order in which they are tried."""
    if method != "auto":
        return (method,)
    if isinstance(kernel, NegativeDistance) and (dim == 1 or tol < 1e-5):
        return ("sort",)
    return ("fourier", "grid") if tol < 1e-5 or jax.default_backend() == "tpu" else ("grid", "fourier")


def _slices(
    kernel: RadialKernel,
    table: PyTree,
    radius: float,
    dim: int,
    tol: float,
    key: PRNGKeyArray | None,
    kind: Any,
    weights: Any,
    num: int | None,
) -> _Drawn:
    """Within the tolerance where P is free, if that can be had."""
    if not isinstance(kind, str):
        return _given(kernel, table, radius, dim, kind, weights, num)
    if weights is not None:
        raise ValueError(f"weights: expected None unless directions are an array, got {type(weights).__name__}")
    if dim == 1:
        return _Drawn(np.ones((1, 1)), np.ones(1), 0.0)
    if key is None:
        raise ValueError("key: expected a key for the random directions, got None")
    scale = _largest(kernel, radius)
    counts = [num] if num is not None else [10 * 2**k for k in range(20) if 10 * 2**k <= _MOST_SLICES] + [_MOST_SLICES]
    least = 0.0
    for count in counts:
        if count < least and count != counts[-1]:
            continue
        chosen: Any = _automatic(count, dim) if kind == "auto" else kind
        xi = np.asarray(draw_directions(key, chosen, count, dim), np.float64)
        share = np.full(count, 1 / count)
        error = slicing_error(kernel, table, radius, xi, share)
        if error <= tol * scale:
            break
        if dim > 2:  # not even at the fastest rate that sets of this kind have would fewer do
            least = count * (error / (tol * scale)) ** (1.4 if kind in ("iid", "orthogonal") else 1 / 3)
    return _Drawn(xi, share, error)


def _nodes(f: Any, radius: float, num: int | None, negligible: float) -> tuple[int, float]:
    """The number of nodes, and the error of the grid: the given number, or the smallest whose error is negligible."""
    for count in _NODES if num is None else (num,):
        error = grid_error(f, radius, count)
        if error <= negligible:
            break
    return count, error


def _given(
    kernel: RadialKernel, table: PyTree, radius: float, dim: int, xi: Any, weights: Any, num: int | None
) -> _Drawn:
    xi = np.asarray(xi, np.float64)
    fits = xi.ndim == 2 and xi.shape[1] == dim and len(xi) > 0
    if not fits or not np.abs(np.linalg.norm(xi, axis=1) - 1).max() < 1e-4:  # false for NaN
        raise ValueError(f"directions: expected unit vectors of shape (P, {dim}), got shape {xi.shape}")
    if num is not None and num != len(xi):
        raise ValueError(f"num_slices: expected None or {len(xi)}, the number of directions, got {num}")
    share = np.full(len(xi), 1 / len(xi)) if weights is None else np.asarray(weights, np.float64)
    if share.shape != (len(xi),) or not abs(share.sum() - 1) < 1e-4:
        raise ValueError(
            f"weights: expected {len(xi)} numbers of sum one, got shape {share.shape} of sum {share.sum():.4f}"
        )
    return _Drawn(xi, share, slicing_error(kernel, table, radius, xi, share))


def _automatic(count: int, dim: int) -> Kind:
    """Optimised sets take seconds up to a few hundred points; in high dimension orthogonal ones are as good."""
    return "distance" if dim == 2 or (count <= 320 and dim <= 100) else "orthogonal"


def slicing_error(
    kernel: RadialKernel, table: PyTree, radius: float, xi: np.ndarray, share: np.ndarray, num_draws: int = 256
) -> float:
    """Root mean square of ``F(s) - sum_p share_p f(<xi_p, s e>)`` over uniform unit vectors e and s in (0, radius].

    An estimate from ``num_draws`` vectors of a fixed seed: good to about 5 %.
    """
    random = np.random.default_rng(0)
    e = random.normal(size=(num_draws, xi.shape[1]))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    s = radius * (np.arange(num_draws) + 0.5) / num_draws
    t = np.abs(e @ xi.T) * s[:, None]
    approximate = _profile(kernel, t, xi.shape[1], table) @ share
    exact = np.asarray(kernel.of_square(jnp.asarray(s**2)), np.float64)
    return float(np.sqrt(np.mean((approximate - exact) ** 2)))


def _largest(kernel: RadialKernel, radius: float) -> float:
    s = radius * np.arange(1 if kernel.singular else 0, 257) / 128
    return float(np.abs(np.asarray(kernel.of_square(jnp.asarray(s**2)), np.float64)).max())


def _profile(kernel: RadialKernel, t: np.ndarray, dim: int, table: PyTree) -> np.ndarray:
    """The counterpart at many points, in pieces of one size, so that one program serves all."""
    flat, out = t.ravel(), np.empty(t.size)
    for start in range(0, t.size, _PIECE):
        part = flat[start : start + _PIECE]
        values = _sliced(kernel, jnp.asarray(np.pad(part, (0, _PIECE - part.size))), dim, table)
        out[start : start + _PIECE] = np.asarray(values)[: part.size]
    return out.reshape(t.shape)


@eqx.filter_jit
def _sliced(kernel: RadialKernel, t: Array, dim: int, table: PyTree) -> Array:
    return kernel.sliced(t, dim, table)


def _at_zero(kernel: RadialKernel, profile: Any) -> Any:
    """Where f is infinite at 0, its mean under the two hats of neighbouring nodes: ``log(h e^(-3/2))`` for the logarithm."""
    return (lambda h: profile(h * math.exp(-1.5))) if kernel.singular else None
