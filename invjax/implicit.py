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


def implicit_solve(method: Any, search: Callable[..., tuple[PyTree, PyTree]], *given: Any) -> tuple[PyTree, PyTree]:
    """Run ``search(method, *given) -> (u, diagnostics)``; give ``u`` the derivative of the fixed point of ``method.fixed_point``.

    ``search`` closes over no array: what it needs beside the method is ``given``, in which u has derivative zero, as the
    diagnostics have in everything. A method without ``fixed_point`` raises ``ValueError`` when differentiated.
    """

    @eqx.filter_custom_jvp  # and not custom_root, which traces the linear solve of derivatives that nobody asks for
    def solved(method: Any, given: Any) -> tuple[PyTree, PyTree]:
        return search(frozen(method), *frozen(given))

    @solved.def_jvp
    def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        (method, given), (moved, _) = primals, tangents
        if not hasattr(method, "fixed_point"):
            raise ValueError(
                f"method: {type(method).__name__} has no fixed_point, so solve cannot differentiate it; "
                "use iterate (differentiates through the steps) or a method with fixed_point"
            )
        u, diagnostics = solved(method, given)
        return (u, diagnostics), (_tangent(method, moved, u), jax.tree.map(lambda _: None, diagnostics))

    return solved(method, given)


def _tangent(method: Any, moved: Any, u: PyTree) -> PyTree:
    """``(I - dT/du)^{-1} (dT/dtheta) dtheta`` at the fixed point u of T."""
    to_vector, to_tree = _real_vector(u)
    _, right = eqx.filter_jvp(lambda m: to_vector(m.fixed_point(u)), (method,), (moved,))
    if right is None:  # nothing that moves counts
        return jax.tree.map(lambda _: None, u)
    _, jacobian = jax.linearize(lambda v: v - to_vector(method.fixed_point(to_tree(v))), to_vector(u))
    return to_tree(jax.lax.custom_linear_solve(jacobian, right, _gmres, transpose_solve=_gmres))


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


def _gmres(matvec: Callable[[Array], Array], rhs: Array) -> Array:
    """GMRES to eps^(3/4); NaN when even 1e-3 was not reached, so that a wrong derivative cannot pass for a right one."""
    tol = float(jnp.finfo(rhs.dtype).eps) ** 0.75
    scale = norm(rhs)
    unit = rhs / jnp.where(scale > 0, scale, 1)  # absolute tolerances inside the solver then mean relative ones
    # Givens rotations ("incremental") need no LAPACK call, so this runs inside shard_map and lowers for every platform.
    value, _ = gmres(matvec, unit, tol=tol, restart=40, maxiter=100, solve_method="incremental")
    solved = norm(matvec(value) - unit) <= 1e-3 * norm(unit)
    return jnp.where(solved, value * scale, jnp.nan)
