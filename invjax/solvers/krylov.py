"""Krylov methods for linear systems and least squares: conjugate gradients, MINRES, BiCGStab, LSQR.

Every ``residual`` is relative: the residual of the equations over their right-hand side, times the norm of the
iterate, so that ``solve(..., rtol=tol, atol=0)`` stops at ``|residual| <= tol |right-hand side|``.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators import LinearOperator
from ..operators.structure import add, conform, scale, subtract
from ..types import inner, norm, real, require, select
from .base import Info


class CGState(NamedTuple):
    """Iterate, residual, search direction, ``<r, M r>``."""

    position: PyTree
    residual: PyTree
    direction: PyTree
    product: Array


class ConjugateGradient(eqx.Module):
    """``H x = b`` for a Hermitian positive definite ``H`` (such as ``A.gram + lam Identity``), by conjugate
    gradients.

    Ends after as many steps as ``H`` has distinct eigenvalues (in exact arithmetic), and the error in the norm of
    ``H`` falls by ``2 ((sqrt k - 1) / (sqrt k + 1))^n`` after n steps, with ``k`` the condition number.
    ``preconditioner`` is a Hermitian positive definite operator close to ``H^-1``. Source: Hestenes and Stiefel
    (1952).
    """

    operator: LinearOperator
    b: PyTree
    preconditioner: Any

    def __init__(self, operator: LinearOperator, b: PyTree, preconditioner: Any = None):
        self.operator, self.b, self.preconditioner = operator, _right_hand_side(operator, b), preconditioner

    def init(self, x: PyTree, key: Any = None) -> CGState:
        """Start at ``x``."""
        r = subtract(_like(self.b, x), self.operator(x))
        z = self._preconditioned(r)
        return CGState(x, r, z, inner(r, z))

    def step(self, state: CGState) -> tuple[CGState, Info]:
        """One step along a conjugate direction."""
        x, r, p, product = state
        image = self.operator(p)
        length = _divide(product, inner(p, image))
        x, r = add(x, p, length), add(r, image, -length)
        z = self._preconditioned(r)
        new = inner(r, z)
        p = add(z, p, _divide(new, product))
        return CGState(x, r, p, new), _info(norm(r), norm(self.b), x)

    def fixed_point(self, x: PyTree) -> PyTree:
        """``x + b - H x``."""
        return add(x, subtract(_like(self.b, x), self.operator(x)))

    def _preconditioned(self, r: PyTree) -> PyTree:
        return r if self.preconditioner is None else self.preconditioner(r)


class MINRESState(NamedTuple):
    """Iterate; the last two Lanczos vectors and directions, newest first; ``beta``, the residual, the last two rotations."""

    position: PyTree
    vectors: tuple[PyTree, PyTree]
    directions: tuple[PyTree, PyTree]
    beta: Array
    eta: Array
    cosines: tuple[Array, Array]
    sines: tuple[Array, Array]


class MINRES(eqx.Module):
    """``H x = b`` for a Hermitian ``H`` that may be indefinite, or singular with ``b`` in its range.

    ``|b - H x|`` is least over the Krylov space, so it never grows: Lanczos vectors, and Givens rotations of their
    tridiagonal matrix. Source: Paige and Saunders (1975).
    """

    operator: LinearOperator
    b: PyTree

    def __init__(self, operator: LinearOperator, b: PyTree):
        self.operator, self.b = operator, _right_hand_side(operator, b)

    def init(self, x: PyTree, key: Any = None) -> MINRESState:
        """Start at ``x``."""
        v, size = _unit(subtract(_like(self.b, x), self.operator(x)))
        none = jax.tree.map(jnp.zeros_like, v)
        one, zero = jnp.ones_like(size), jnp.zeros_like(size)
        return MINRESState(x, (v, none), (none, none), zero, size, (one, one), (zero, zero))

    def step(self, state: MINRESState) -> tuple[MINRESState, Info]:
        """One Lanczos step and one rotation."""
        x, (v, v_old), (w, w_old), beta, eta, (c, c_old), (s, s_old) = state
        image = self.operator(v)
        alpha = inner(v, image)
        following, new = _unit(add(add(image, v, -alpha), v_old, -beta), inner(image, image))
        # The new column of the tridiagonal matrix, after the last two rotations.
        above, before, here = s_old * beta, s * alpha + c_old * c * beta, c * alpha - c_old * s * beta
        length = jnp.sqrt(here**2 + new**2)
        cosine, sine = _divide(here, length), _divide(new, length)
        direction = scale(_divide(1, length), add(add(v, w, -before), w_old, -above))
        x = add(x, direction, cosine * eta)
        size = norm(self.b)
        # Solved to rounding: what would follow is noise, in the null space too.
        eta = jnp.where(jnp.abs(sine * eta) <= _rounding(size**2).astype(eta.dtype), 0, -sine * eta)
        following = select(eta == 0, jax.tree.map(jnp.zeros_like, v), following)
        after = MINRESState(x, (following, v), (direction, w), new, eta, (cosine, c), (sine, s))
        return after, _info(jnp.abs(eta), size, x)

    def fixed_point(self, x: PyTree) -> PyTree:
        """``x + b - H x``."""
        return add(x, subtract(_like(self.b, x), self.operator(x)))


class BiCGStabState(NamedTuple):
    """Iterate, residual, shadow residual, direction, ``<shadow, r>``."""

    position: PyTree
    residual: PyTree
    shadow: PyTree
    direction: PyTree
    product: Array


class BiCGStab(eqx.Module):
    """``A x = b`` for a square ``A`` that need not be symmetric, without its adjoint: two applications of ``A`` per
    step.

    No norm decreases for certain, and it may break down; restart from its result if it does. For a complex ``A`` the
    real inner product is used, which treats it as a real system of twice the size. Source: van der Vorst (1992).
    """

    operator: LinearOperator
    b: PyTree

    def __init__(self, operator: LinearOperator, b: PyTree):
        self.operator, self.b = operator, _right_hand_side(operator, b)

    def init(self, x: PyTree, key: Any = None) -> BiCGStabState:
        """Start at ``x``."""
        r = subtract(_like(self.b, x), self.operator(x))
        return BiCGStabState(x, r, r, r, inner(r, r))

    def step(self, state: BiCGStabState) -> tuple[BiCGStabState, Info]:
        """One biconjugate step and one minimal-residual step."""
        x, r, shadow, p, product = state
        v = self.operator(p)
        length = _divide(product, inner(shadow, v))
        s = add(r, v, -length)
        t = self.operator(s)
        omega = _divide(inner(t, s), inner(t, t))
        x, r = add(add(x, p, length), s, omega), add(s, t, -omega)
        new = inner(shadow, r)
        beta = _divide(new, product) * _divide(length, omega)
        p = add(r, add(p, v, -omega), beta)
        return BiCGStabState(x, r, shadow, p, new), _info(norm(r), norm(self.b), x)

    def fixed_point(self, x: PyTree) -> PyTree:
        """``x + b - A x``."""
        return add(x, subtract(_like(self.b, x), self.operator(x)))


class LSQRState(NamedTuple):
    """Iterate, Lanczos vectors, direction, the scalars of the rotation, sum of squares of the bidiagonal matrix."""

    position: PyTree
    u: PyTree
    v: PyTree
    direction: PyTree
    alpha: Array
    phi: Array
    rho: Array
    square: Array


class LSQR(eqx.Module):
    """``argmin_x |A x - y|^2 + damping^2 |x|^2`` by Golub-Kahan bidiagonalisation; from zero, the solution of least
    norm.

    In exact arithmetic the iterates are those of conjugate gradients on the normal equations, and end after as many
    steps as ``A`` has distinct singular values (of the augmented operator), but rounding does not square the
    condition number. The residual is that of the normal equations. ``|A x - y|`` never grows. Source: Paige and
    Saunders (1982).
    """

    operator: LinearOperator
    y: PyTree
    damping: Array
    scale: Array

    def __init__(self, operator: LinearOperator, y: PyTree, damping: Any = 0.0):
        self.operator, self.y, self.damping = operator, conform(y, operator.out_structure, "y"), real(damping)
        require(self.damping, "damping", nonnegative=True, shape=())
        self.scale = norm(operator.H(self.y))

    def init(self, x: PyTree, key: Any = None) -> LSQRState:
        """Start at ``x``."""
        u, beta = _unit(self._gap(x))
        v, alpha = _unit(self._adjoint(u))
        return LSQRState(x, u, v, v, alpha, beta, alpha, alpha**2)

    def step(self, state: LSQRState) -> tuple[LSQRState, Info]:
        """One step of the bidiagonalisation and one rotation."""
        x, u, v, w, alpha, phi, rho, square = state
        u, beta = _unit(add(self._apply(v), u, -alpha), square)
        square = square + beta**2
        v, alpha = _unit(add(self._adjoint(u), v, -beta), square)
        size = jnp.sqrt(rho**2 + beta**2)
        cosine, sine = _divide(rho, size), _divide(beta, size)
        x = add(x, w, cosine * _divide(phi, size))
        # The normal equations hold to rounding: what would follow is noise, in the null space too.
        alpha = jnp.where(jnp.abs(cosine * alpha) <= _rounding(square), 0, alpha)
        v = select(alpha == 0, jax.tree.map(jnp.zeros_like, v), v)
        w = add(v, w, -_divide(sine * alpha, size))
        phi, rho = sine * phi, -cosine * alpha
        residual = jnp.abs(phi * rho)  # |A^H (y - A x) - damping^2 x|
        return LSQRState(x, u, v, w, alpha, phi, rho, square + alpha**2), _info(residual, self.scale, x)

    def fixed_point(self, x: PyTree) -> PyTree:
        """``x + A^H (y - A x) - damping^2 x``."""
        return add(x, self._adjoint(self._gap(x)))

    def _apply(self, x: PyTree) -> tuple[PyTree, PyTree]:
        return self.operator(x), scale(self.damping, x)

    def _adjoint(self, u: tuple[PyTree, PyTree]) -> PyTree:
        return add(self.operator.H(u[0]), u[1], self.damping)

    def _gap(self, x: PyTree) -> tuple[PyTree, PyTree]:
        predicted = self.operator(x)
        y = jax.tree.map(lambda a, b: a.astype(b.dtype), self.y, predicted)
        return subtract(y, predicted), scale(-self.damping, x)


def _right_hand_side(operator: LinearOperator, b: PyTree) -> PyTree:
    if operator.in_structure != operator.out_structure:
        raise ValueError(
            f"operator: expected equal input and output structures, got {operator.in_structure} and "
            f"{operator.out_structure}; LSQR solves least squares"
        )
    return conform(b, operator.out_structure, "b")


def _like(b: PyTree, x: PyTree) -> PyTree:
    return jax.tree.map(lambda a, c: a.astype(c.dtype), b, x)


def _divide(a: Any, b: Array) -> Array:
    """``a / b``, zero where ``b`` is: nothing is left to do there."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _rounding(square: Array) -> Array:
    """What counts as zero beside something of the size ``sqrt(square)``."""
    return 10 * jnp.finfo(square.dtype).eps * jnp.sqrt(square)


def _unit(a: PyTree, square: Array | None = None) -> tuple[PyTree, Array]:
    """``(a / |a|, |a|)``; zeros when ``|a|`` is rounding beside ``sqrt(square)``: the Krylov space is full."""
    size = norm(a)
    if square is not None:
        size = jnp.where(size <= _rounding(square), 0, size)  # NaN stays
    return scale(_divide(1, size), a), size


def _info(residual: Array, size: Array, x: PyTree) -> Info:
    """The relative residual in the units of ``x``."""
    return Info(_divide(residual, size.astype(residual.dtype)) * norm(x))
