"""The relative difference prior against explicit loops; convexity, homogeneity and the Lipschitz constant."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import priors

from ..registry import call


def positive(shape, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 2, shape)


def loops(x, gamma, eps, kappa, neighbours):
    """Half the sum over all ordered pairs of neighbours."""
    total, ndim = 0.0, x.ndim - 1
    for j in np.ndindex(x.shape):
        for d in itertools.product((-1, 0, 1), repeat=ndim):
            k = (*(a + b for a, b in zip(j, d, strict=False)), j[-1])
            near = sum(map(abs, d)) > 0 and (neighbours == "all" or sum(map(abs, d)) == 1)
            if near and all(0 <= a < n for a, n in zip(k, x.shape, strict=True)):
                gap = x[j] - x[k]
                weight = kappa[j] * kappa[k] / np.linalg.norm(d)
                total += 0.5 * weight * gap**2 / (x[j] + x[k] + gamma * abs(gap) + eps)
    return total


@pytest.mark.parametrize("shape", [(4, 5, 2), (3, 4, 3, 1)])
@pytest.mark.parametrize("neighbours", ["all", "axes"])
def test_potential_equals_loops(shape, neighbours):
    x, kappa = positive(shape), positive(shape, 1)
    g = priors.RelativeDifference(shape, 0.7, 1.5, 0.05, kappa=kappa, neighbours=neighbours)
    np.testing.assert_allclose(call(g, "__call__", x), 0.7 * loops(x, 1.5, 0.05, kappa, neighbours), rtol=1e-12)


def test_gradient_of_one_pair():
    """(a - b) (gamma |a - b| + a + 3 b + 2 eps) / (a + b + gamma |a - b| + eps)^2."""
    g, (a, b) = priors.RelativeDifference((2, 1, 1), 1.0, 1.5, 0.05), (0.9, 0.2)
    by_a = (a - b) * (1.5 * (a - b) + a + 3 * b + 0.1) / (a + b + 1.5 * (a - b) + 0.05) ** 2
    gradient = call(g, "grad", jnp.array([a, b]).reshape(2, 1, 1))
    np.testing.assert_allclose(gradient[0, 0, 0], by_a, rtol=1e-12)


def test_homogeneous_and_convex():
    shape = (4, 5, 2)
    x, y = jnp.asarray(positive(shape)), jnp.asarray(positive(shape, 1))
    g = priors.RelativeDifference(shape, 1.0, 2.0, 0.1)
    np.testing.assert_allclose(priors.RelativeDifference(shape, 1.0, 2.0, 0.3)(3 * x), 3 * g(x), rtol=1e-12)
    mixed = [g(t * x + (1 - t) * y) - t * g(x) - (1 - t) * g(y) for t in (0.2, 0.5, 0.9)]
    assert max(mixed) < 0
    assert g(jnp.full(shape, 0.7)) == 0


def test_lipschitz_constant_is_that_at_zero():
    """The Hessian at x = 0 is 2 / eps times a graph Laplacian: below the bound, and of this order."""
    shape = (6, 6, 1)
    g = priors.RelativeDifference(shape, 0.3, 1.0, 0.2, neighbours="axes")
    hessian = jax.jit(jax.hessian(g))(jnp.zeros(shape)).reshape(36, 36)
    steepest = np.linalg.eigvalsh(hessian)[-1]
    path = 2 - 2 * np.cos(np.pi * 5 / 6)  # largest eigenvalue of the Laplacian of a path of six
    np.testing.assert_allclose(steepest, 0.3 * 2 / 0.2 * 2 * path, rtol=1e-10)
    np.testing.assert_allclose(g.lipschitz, 0.3 * 4 / 0.2 * 4, rtol=1e-12)
    assert steepest <= g.lipschitz


def test_outside_the_domain():
    g, x = priors.RelativeDifference((2, 2, 1)), jnp.array([0.5, -0.1, 0.0, 0.3]).reshape(2, 2, 1)
    inside = jnp.maximum(x, 0)
    assert call(g, "__call__", x) == jnp.inf
    np.testing.assert_array_equal(call(g, "grad", x), call(g, "grad", inside))
    np.testing.assert_allclose(call(g, "grad", inside), jax.jit(jax.grad(g))(inside), rtol=1e-12)
    with pytest.raises(ValueError, match="prox: RelativeDifference has no closed form; use grad"):
        g.prox(x, 1.0)
    with pytest.raises(ValueError, match="x: expected a real array"):
        g(1j * x)
    with pytest.raises(ValueError, match="neighbours: expected 'all' or 'axes', got 'four'"):
        priors.RelativeDifference((2, 2, 1), neighbours="four")
    with pytest.raises(ValueError, match="eps: expected positive"):
        priors.RelativeDifference((2, 2, 1), eps=0.0)
    with pytest.raises(ValueError, match="gamma: expected non-negative"):
        priors.RelativeDifference((2, 2, 1), gamma=-1.0)
