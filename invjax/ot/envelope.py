"""The value at an optimum, whose derivative does not see the optimum move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array


def at_optimum(fn: Callable[..., Array], optimum: Any, *args: Any) -> Array:
    """``fn(optimum, *args)`` for an ``optimum`` where ``fn`` is stationary in it: differentiated in ``args`` only (Danskin).

    The derivative is again a function of the optimum, which has derivatives of its own, so those of higher order are right too.
    """

    @eqx.filter_custom_jvp
    def value(optimum: Any, args: tuple) -> Array:
        return fn(optimum, *args)

    @value.def_jvp
    def _jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
        (optimum, args), (_, moved) = primals, tangents
        return eqx.filter_jvp(lambda *args: fn(optimum, *args), args, moved)

    return value(optimum, args)
