"""Derivatives of a converged solution by the implicit function theorem.

If ``u = T(u, theta)`` at the solution, then ``(I - dT/du) du = dT/dtheta dtheta``: one linear solve, whatever the number of
iterations that led to ``u``. The unknowns are flattened to one real vector, so that complex variables (where a prox is
real-linear but not complex-linear) and pytrees need no special case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import gmres
from jaxtyping import Array, PyTree

from .types import norm


def implicit_solve(method: Any, search: Callable[[Any], tuple[PyTree, PyTree]]) -> tuple[PyTree, PyTree]:
    """Run ``search(method) -> (u, diagnostics)``; give ``u`` the derivative of the fixed point of ``method.fixed_point``.

    ``search`` must hide every other array it closes over from differentiation (``frozen``). The diagnostics have
    derivative zero. A method without ``fixed_point`` raises ``ValueError`` when differentiated.
    """
    if not hasattr(method, "fixed_point"):
        return _not_differentiable(method, search=search)
    u, diagnostics = search(frozen(method))
    to_vector, to_tree = _real_vector(u)

    def residual(v: Array) -> Array:
        return to_vector(method.fixed_point(to_tree(v))) - v

    # The search ran already; custom_root only attaches the derivative (its own aux output refuses integers).
    v = jax.lax.custom_root(residual, to_vector(u), lambda _, guess: guess, _tangent_solve)
    return to_tree(v), diagnostics


def frozen(tree: PyTree) -> PyTree:
    """The same pytree with the derivative of every floating leaf stopped."""
    return jax.tree.map(lambda a: jax.lax.stop_gradient(a) if eqx.is_inexact_array(a) else a, tree)


def _real_vector(example: PyTree) -> tuple[Callable, Callable]:
    """Maps between the pytree and one real vector (real and imaginary parts of complex leaves)."""

    def split(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: (a.real, a.imag) if jnp.iscomplexobj(a) else (a,), tree)

    _, unravel = ravel_pytree(split(example))

    def to_tree(v: Array) -> PyTree:
        parts = unravel(v)
        return jax.tree.map(lambda _, p: p[0] if len(p) == 1 else jax.lax.complex(*p), example, parts)

    return lambda tree: ravel_pytree(split(tree))[0], to_tree


def _tangent_solve(jacobian: Callable[[Array], Array], rhs: Array) -> Array:
    return jax.lax.custom_linear_solve(jacobian, rhs, _gmres, transpose_solve=_gmres)


def _gmres(matvec: Callable[[Array], Array], rhs: Array) -> Array:
    """GMRES to eps^(3/4); NaN when even 1e-3 was not reached, so that a wrong derivative cannot pass for a right one."""
    tol = float(jnp.finfo(rhs.dtype).eps) ** 0.75
    scale = norm(rhs)
    unit = rhs / jnp.where(scale > 0, scale, 1)  # absolute tolerances inside the solver then mean relative ones
    # Givens rotations ("incremental") need no LAPACK call, so this runs inside shard_map and lowers for every platform.
    value, _ = gmres(matvec, unit, tol=tol, restart=40, maxiter=100, solve_method="incremental")
    solved = norm(matvec(value) - unit) <= 1e-3 * norm(unit)
    return jnp.where(solved, value * scale, jnp.nan)


@eqx.filter_custom_jvp
def _not_differentiable(method: Any, *, search: Callable) -> Any:
    return search(method)


@_not_differentiable.def_jvp
def _not_differentiable_jvp(primals: Any, tangents: Any, *, search: Callable) -> Any:
    (method,), _ = primals, tangents
    raise ValueError(
        f"method: {type(method).__name__} has no fixed_point, so solve cannot differentiate it; "
        "use iterate (differentiates through the steps) or a method with fixed_point"
    )
