"""Zernike polynomials, orthonormal on the unit disc, and their indices in the orders of Noll and of ANSI."""

from __future__ import annotations

import math
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

IndexOrder = Literal["noll", "ansi"]


def noll_to_nm(j: int) -> tuple[int, int]:
    """Degree ``n`` and azimuthal order ``m`` of Noll's index ``j = 1, 2, ...``; ``m < 0`` is the sine. Noll (1976), table 1."""
    if j < 1:
        raise ValueError(f"j: expected an index >= 1 in Noll's order, got {j}")
    n = (math.isqrt(8 * j - 7) - 1) // 2
    k = j - n * (n + 1) // 2 - 1  # place within the degree, in which |m| grows
    m = 2 * ((k + 1) // 2) if n % 2 == 0 else 2 * (k // 2) + 1
    return n, m if j % 2 == 0 else -m


def nm_to_noll(n: int, m: int) -> int:
    """Inverse of ``noll_to_nm``."""
    _require_indices(n, m)
    first = n * (n + 1) // 2 + abs(m)
    return first + (0 if (first % 2 == 0) == (m > 0) and m != 0 else 1)


def ansi_to_nm(j: int) -> tuple[int, int]:
    """Degree and azimuthal order of the index ``j = 0, 1, ...`` of ANSI Z80.28: ``j = (n (n + 2) + m) / 2``."""
    if j < 0:
        raise ValueError(f"j: expected an index >= 0 in the order of ANSI, got {j}")
    n = (math.isqrt(8 * j + 1) - 1) // 2
    return n, 2 * j - n * (n + 2)


def nm_to_ansi(n: int, m: int) -> int:
    """Inverse of ``ansi_to_nm``."""
    _require_indices(n, m)
    return (n * (n + 2) + m) // 2


def zernike_indices(indices: tuple[int, ...], order: IndexOrder = "noll") -> tuple[tuple[int, int], ...]:
    """Degrees and azimuthal orders of several indices. Raises ``ValueError`` for another order."""
    if order not in get_args(IndexOrder):
        raise ValueError(f"order: expected one of {get_args(IndexOrder)}, got {order!r}")
    return tuple(noll_to_nm(j) if order == "noll" else ansi_to_nm(j) for j in indices)


def zernike(n: int, m: int, radius: Array, angle: Array) -> Array:
    """``N R_n^|m|(radius) cos(m angle)``, or ``sin(|m| angle)`` for ``m < 0``; defined on the disc ``radius <= 1``.

    ``N = sqrt(n + 1)`` for ``m = 0``, else ``sqrt(2 (n + 1))``: orthonormal for the mean over the disc (Noll 1976), so a phase
    ``sum_j a_j Z_j`` has the mean square ``sum_j a_j^2``. Raises ``ValueError`` for indices that do not exist.
    """
    _require_indices(n, m)
    coefficients = np.zeros(n + 1)
    for k in range((n - abs(m)) // 2 + 1):
        denominator = math.factorial(k) * math.factorial((n + abs(m)) // 2 - k) * math.factorial((n - abs(m)) // 2 - k)
        coefficients[2 * k] = (-1) ** k * math.factorial(n - k) / denominator
    radial = jnp.polyval(jnp.asarray(coefficients, jnp.result_type(radius, 0.0)), jnp.asarray(radius))
    scale = math.sqrt((1 if m == 0 else 2) * (n + 1))
    return scale * radial * (jnp.cos(m * angle) if m >= 0 else jnp.sin(-m * angle))


def _require_indices(n: int, m: int) -> None:
    if n < 0 or abs(m) > n or (n - m) % 2:
        raise ValueError(f"n, m: expected |m| <= n of the same parity, got ({n}, {m})")
