"""Kernel sums on a line, ``s(v) = sum_n w_n f(v - u_n)``: the inner problem of slicing, by three algorithms.

Every algorithm is a ``Line``: its ``coefficients`` enter linearly and so does w; ``derivative()`` is the same for f'. So one rule
differentiates all of them, in both modes and again: no derivative is ever traced through a sort or a Fourier sum.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, PyTree

from ..ordering import argsort


class Line(eqx.Module):
    """``apply(u, v, w)`` with u (N,), v (M,), w (N,) gives s (M,)."""

    coefficients: eqx.AbstractVar[PyTree]

    @abc.abstractmethod
    def apply(self, u: Array, v: Array, w: Array) -> Array:
        """The sum, linear in ``coefficients`` and in ``w``."""

    @abc.abstractmethod
    def derivative(self) -> Line:
        """The line of f'."""

    @abc.abstractmethod
    def own(self, u: Array) -> Array:
        """What a point of unit weight at each ``u`` adds to the sum at itself: f(0), as the algorithm has it."""

    def astype(self, dtype: Any) -> Line:
        """The line in the precision of ``dtype``, a real type."""
        complex_type = np.result_type(dtype, np.complex64)
        return jax.tree.map(lambda a: a.astype(complex_type if jnp.iscomplexobj(a) else dtype), self)


@jax.custom_jvp
def line_sum(line: Line, u: Float[Array, " N"], v: Float[Array, " M"], w: Float[Array, " N"]) -> Float[Array, " M"]:
    """``s(v_m) = sum_n w_n f(v_m - u_n)``, differentiable in everything but the geometry of the line."""
    return line.apply(u, v, w)


def _line_sum_jvp(primals: Any, tangents: Any) -> tuple[Array, Any]:
    line, u, v, w = primals
    d_line, du, dv, dw = tangents
    terms = []
    if not _is_zero(dw):
        terms.append(line_sum(line, u, v, dw))
    if not (_is_zero(du) and _is_zero(dv)):
        slope = line.derivative()
        if not _is_zero(dv):
            terms.append(line_sum(slope, u, v, w) * dv)
        if not _is_zero(du):
            terms.append(-line_sum(slope, u, v, w * du))
    changes = jax.tree.leaves(d_line.coefficients, is_leaf=_is_zero)
    if not all(_is_zero(change) for change in changes):
        filled = [
            jnp.zeros_like(a) if _is_zero(b) else b
            for a, b in zip(jax.tree.leaves(line.coefficients), changes, strict=True)
        ]
        moved = jax.tree.unflatten(jax.tree.structure(line.coefficients), filled)
        terms.append(line_sum(eqx.tree_at(lambda one: one.coefficients, line, moved), u, v, w))
    value = line_sum(line, u, v, w)
    return value, sum(terms, jnp.zeros_like(value))


line_sum.defjvp(_line_sum_jvp, symbolic_zeros=True)


class GridLine(Line):
    """Weights spread linearly to equispaced nodes, one circular convolution with f, linear interpolation back.

    Time ``O(N + M + B log B)`` with B nodes on ``[-radius, radius]``. f is replaced by its bilinear interpolant in (u, v): the
    error is at most ``h^2 |f''|_inf / 4`` with node distance h, and for ``f = |t|`` it is zero unless both points lie in one or
    in neighbouring cells. Points must lie inside. ``coefficients`` are the discrete Fourier transforms of f, f' and
    f'' on the nodes.
    """

    coefficients: tuple[Array, ...]
    radius: Array

    @property
    def num_nodes(self) -> int:
        return self.coefficients[0].shape[-1] - 1

    def apply(self, u, v, w):
        return _interpolated(self.convolve(self.spread(u, w, self.radius, self.num_nodes)), v, self.radius)

    def convolve(self, nodes: Float[Array, " B"]) -> Float[Array, " B"]:
        """The sums on the nodes, of the mass on the nodes."""
        num = self.num_nodes
        return jnp.fft.irfft(self.coefficients[0] * jnp.fft.rfft(nodes, 2 * num), 2 * num)[:num].astype(nodes.dtype)

    @staticmethod
    def spread(u: Float[Array, " N"], w: Float[Array, " N"], radius: Array, num_nodes: int) -> Float[Array, " B"]:
        """The mass w of the points u on the nodes, split linearly between the two nearest."""
        cell, part = _cells(u, radius, num_nodes)
        nodes = jnp.zeros((num_nodes,), w.dtype)
        nodes = nodes.at[cell].add(w * (1 - part), mode="promise_in_bounds")
        return nodes.at[cell + 1].add(w * part, mode="promise_in_bounds")

    def own(self, u):
        f = jnp.fft.irfft(self.coefficients[0], 2 * self.num_nodes)
        # Split between two nodes, a point sees itself at distances 0 and h. The energy of that must not move it.
        part = jax.lax.stop_gradient(_cells(u, self.radius, self.num_nodes)[1])
        return f[0] - 2 * part * (1 - part) * (f[0] - f[1])

    def derivative(self):
        if len(self.coefficients) < 2:
            raise ValueError('a sliced kernel sum on a grid has two derivatives; use method="fourier" or "dense"')
        return GridLine(self.coefficients[1:], self.radius)


def _cells(u: Array, radius: Array, num_nodes: int) -> tuple[Array, Array]:
    """The cell that holds each point, and how far into it the point lies (outside of [0, 1] beyond the ends)."""
    radius = jax.lax.stop_gradient(radius).astype(u.dtype)
    place = (u + radius) * ((num_nodes - 1) / (2 * radius))
    cell = jnp.clip(jnp.floor(place), 0, num_nodes - 2)
    return cell.astype(jnp.int32), place - jax.lax.stop_gradient(cell)


def _interpolated(nodes: Array, v: Array, radius: Array) -> Array:
    cell, part = _cells(v, radius, nodes.shape[0])
    left = nodes.at[cell].get(mode="promise_in_bounds")
    right = nodes.at[cell + 1].get(mode="promise_in_bounds")
    return left + (right - left) * part


@jax.custom_jvp
def read_nodes(tower: tuple[Float[Array, " B"], ...], v: Float[Array, " M"], radius: Array) -> Float[Array, " M"]:
    """A function on the line from its values on the nodes, by linear interpolation; its derivatives are those in the tower."""
    return _interpolated(tower[0], v, radius)


@read_nodes.defjvp
def _read_nodes_jvp(primals, tangents):
    tower, v, radius = primals
    moved, dv, _ = tangents
    if len(tower) < 2:
        raise ValueError("a tabulated field has two derivatives; use kernel_sum for more")
    value = read_nodes(tower, v, radius)
    return value, read_nodes(tower[1:], v, radius) * dv + _interpolated(moved[0], v, radius)


def grid_line(profile: Any, num_nodes: int, radius: Array, zero: Any = None) -> GridLine:
    """The ``GridLine`` of ``f(t) = profile(|t|)``; ``profile`` maps arrays ``t >= 0`` and is differentiated twice.

    ``zero(h)`` replaces ``f(0)`` where f is singular there.
    """
    spacing = 2 * radius / (num_nodes - 1)
    t = spacing * jnp.arange(num_nodes, dtype=radius.dtype)
    ones = jnp.ones_like(t)

    def slope(s: Array) -> Array:
        return jax.jvp(profile, (s,), (jnp.ones_like(s),))[1]

    values, first = jax.jvp(profile, (t,), (ones,))
    second = jax.jvp(slope, (t,), (ones,))[1]
    # The mean of f'' over the cell of 0: a kink of f is a point mass of f''.
    second = second.at[0].set(2 * slope(spacing[None] / 2)[0] / spacing)
    if zero is not None:
        values, second = values.at[0].set(zero(spacing)), second.at[0].set(0)
    empty = jnp.zeros((1,), t.dtype)
    even = [jnp.concatenate([f, empty, f[:0:-1]]) for f in (values, second)]
    odd = jnp.concatenate([empty, first[1:], empty, -first[:0:-1]])
    return GridLine(tuple(jnp.fft.rfft(f) for f in (even[0], odd, even[1])), radius)


class FourierLine(Line):
    """``f(t) = Re sum_k c_k exp(i k omega t)`` over a band of frequencies: spectral accuracy, dense algebra only.

    Powers ``z^(first + a + J b)`` factor into ``z^a`` and ``z^(first + J b)``, so that a point needs about ``4 sqrt(K)`` sines
    and cosines and one small matrix product for K frequencies. ``coefficients`` are the real and imaginary parts of c,
    ``(2, J, B)``.
    """

    coefficients: Array
    omega: Array
    first: int = eqx.field(static=True)

    def apply(self, u, v, w):
        low, high = self._powers(u)
        split = low.shape[0] // 2, high.shape[0] // 2
        m = jnp.matmul(low * w[None], high.T, precision="highest")
        cc, cs, sc, ss = (
            m[: split[0], : split[1]],
            m[: split[0], split[1] :],
            m[split[0] :, : split[1]],
            m[split[0] :, split[1] :],
        )
        real, imag = cc - ss, -(sc + cs)  # of sum_n w_n exp(-i k omega u_n)
        a, b = self.coefficients
        real, imag = a * real - b * imag, a * imag + b * real
        table = jnp.concatenate([jnp.concatenate([real, -imag], 1), jnp.concatenate([-imag, -real], 1)], 0)
        low, high = self._powers(v)
        return jnp.sum(jnp.matmul(table.T, low, precision="highest") * high, 0)

    def _powers(self, u: Array) -> tuple[Array, Array]:
        """Cosines above sines of the two sets of multiples, ``(2 J, N)`` and ``(2 B, N)``."""
        phase = u * jax.lax.stop_gradient(self.omega).astype(u.dtype)
        _, steps, blocks = self.coefficients.shape
        multiples = (np.arange(steps), self.first + steps * np.arange(blocks))
        angles = (jnp.asarray(k, phase.dtype)[:, None] * phase[None] for k in multiples)
        low, high = (jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], 0) for angle in angles)
        return low, high

    def own(self, u):
        return jnp.full_like(u, jnp.sum(self.coefficients[0]))

    def derivative(self):
        _, steps, blocks = self.coefficients.shape
        multiples = np.arange(steps)[:, None] + self.first + steps * np.arange(blocks)
        k = jnp.asarray(multiples, self.coefficients.dtype) * self.omega.astype(self.coefficients.dtype)
        a, b = self.coefficients
        return FourierLine(jnp.stack([-k * b, k * a]), self.omega, self.first)


def fourier_line(cosines: Array, omega: Array, first: int) -> FourierLine:
    """The ``FourierLine`` of ``f(t) = sum_k cosines_k cos((first + k) omega t)``."""
    num = cosines.shape[0]
    steps = math.isqrt(num - 1) + 1
    blocks = -(-num // steps)
    padded = jnp.concatenate([cosines, jnp.zeros((steps * blocks - num,), cosines.dtype)])
    table = padded.reshape(blocks, steps).T
    return FourierLine(jnp.stack([table, jnp.zeros_like(table)]), omega, first)


class SortedLine(Line):
    """``f(t) = c |t|``, exactly, by sorting u and looking up v: ``O((N + M) log N)``. ``coefficients`` is c.

    With ``W(v)`` and ``B(v)`` the sums of w and of w u over ``u_n <= v``, ``s = c (v (2 W - W_total) - (2 B - B_total))``. The
    derivative is ``c sign(t)`` with ``sign(0) = 0``, the second derivative 0: that of the finite sum almost everywhere, but not
    that of its mean over directions, since the mass at 0 is left out.
    """

    coefficients: Array
    order: int = eqx.field(static=True, default=0)

    def apply(self, u, v, w):
        c = self.coefficients.astype(w.dtype)
        if self.order > 1:
            return jnp.zeros(v.shape, w.dtype) * c
        order = argsort(u)
        u, w = u[order], w[order]
        mass = _partial_sums(w)
        below = jnp.searchsorted(u, v, side="left")
        if self.order == 1:
            return c * (mass[below] + mass[jnp.searchsorted(u, v, side="right")] - mass[-1])
        moment = _partial_sums(w * u)
        return c * (v * (2 * mass[below] - mass[-1]) - (2 * moment[below] - moment[-1]))

    def own(self, u):
        return jnp.zeros_like(u)

    def derivative(self):
        return SortedLine(self.coefficients, self.order + 1)


def _partial_sums(w: Array) -> Array:
    return jnp.concatenate([jnp.zeros((1,), w.dtype), jnp.cumsum(w)])


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)
