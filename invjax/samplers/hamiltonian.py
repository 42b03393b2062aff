"""NUTS with warm-up, by BlackJAX."""

from __future__ import annotations

from typing import Any

import blackjax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray


def nuts(
    key: PRNGKeyArray, target: Any, x: Array, num_steps: int, *, acceptance: float = 0.8, dense: bool = False
) -> tuple[Any, Any]:
    """Warm up NUTS on ``exp(-target(x))``; returns ``(algorithm, state)`` for ``sample(key, algorithm, state.position, n)``.

    ``num_steps`` steps of Stan's window adaptation from ``x`` choose the step size (mean acceptance ``acceptance``) and the
    mass matrix: diagonal, or the whole n x n one when ``dense``. ``target`` is a Module whose potential JAX can
    differentiate, such as ``Posterior(f, g)``. The algorithm is a closure: the drivers compile it once per call of ``nuts``.

    Raises ``ValueError`` for complex ``x``. Reference: Hoffman and Gelman 2014, JMLR 15.
    """
    if jnp.iscomplexobj(x):
        raise ValueError(f"x: expected a real position, got dtype {jnp.asarray(x).dtype}")

    def logdensity_fn(position: Array) -> Array:
        return -target(position)

    warmup = blackjax.window_adaptation(
        blackjax.nuts,
        logdensity_fn,
        is_mass_matrix_diagonal=not dense,
        target_acceptance_rate=acceptance,
        adaptation_info_fn=lambda state, info, adaptation: None,
    )
    (state, parameters), _ = warmup.run(key, jnp.asarray(x), num_steps)
    return blackjax.nuts(logdensity_fn, **parameters), state
