"""Training steps with ott-jax's Sinkhorn divergence and Monge gap, in one scan of optax's Adam."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from ott.geometry import costs  # noqa: E402
from ott.neural.methods.monge_gap import monge_gap_from_samples  # noqa: E402
from ott.tools.sinkhorn_divergence import sinkdiv  # noqa: E402

power, epsilon = float(problem["power"]), float(problem["epsilon"])
options = {"threshold": float(problem["tolerance"]), "max_iterations": int(problem["max_iterations"])}
adam = optax.adam(float(problem["rate"]))
params = [(problem[f"w{i}"], problem[f"b{i}"]) for i in range(sum(name.startswith("w") for name in problem))]


@jax.tree_util.register_pytree_node_class
class Distance(costs.TICost):
    """``|x - y|^p`` with a derivative of zero at zero."""

    def h(self, z: Any) -> Any:
        """The cost of a difference."""
        square = jnp.sum(z**2)
        positive = square > 0
        return jnp.where(positive, jnp.where(positive, square, 1) ** (power / 2), 0)


cost_fn = costs.SqEuclidean() if power == 2 else Distance()


def perceptron(params: Any, x: Any) -> Any:
    """The map."""
    for w, b in params[:-1]:
        x = jax.nn.gelu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def loss(params: Any, x: Any, y: Any) -> Any:
    """Fit and gap, lambda = 1."""
    z = perceptron(params, x)
    fit = sinkdiv(z, y, cost_fn=cost_fn, epsilon=epsilon, solve_kwargs=options)[0]
    return fit + monge_gap_from_samples(x, z, cost_fn=cost_fn, epsilon=epsilon, **options)


@jax.jit
def run(params: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Weights after a step on each batch, and the losses."""

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        updates, memory = adam.update(gradient, memory)
        return (optax.apply_updates(params, updates), memory), value

    (params, _), losses = jax.lax.scan(step, (params, adam.init(params)), (x, y))
    return params, losses


if __name__ == "__main__":
    given = jax.tree.map(jnp.asarray, (params, problem["x"], problem["y"]))
    variant = Variant(lambda: run(*given), lambda out: {"loss": float(np.mean(out[1][-10:]))})
    serve({"sinkdiv and monge_gap": variant}, {"ott-jax": importlib.metadata.version("ott-jax")}, jax.block_until_ready)
