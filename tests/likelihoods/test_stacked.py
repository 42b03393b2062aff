"""Stacked measurements of one image, each with its own noise, against dense algebra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import InverseProblem, types
from invjax import operators as ops
from invjax.likelihoods import CorrelatedGaussian, Gaussian, Poisson, Stacked

IMAGE = (6, 4, 1)


def image(seed):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.5, 1.5, IMAGE))


def operators():
    r = np.random.default_rng(1)
    return [ops.Blur(r.uniform(size=(2, 3)), IMAGE), ops.Blur(r.uniform(size=(3, 3)), IMAGE), ops.Decimate(IMAGE, 2)]


def problem(*noise):
    return InverseProblem(ops.stack(operators()[: len(noise)]), Stacked(noise))


def correlated():
    return CorrelatedGaussian(0.1 * ops.Blur([[1.0, 0.3]], IMAGE).gram + 0.1 * ops.Identity(IMAGE))


GAUSSIAN = {
    "scalars": lambda: (Gaussian(0.3), Gaussian(0.5)),
    "per_pixel": lambda: (Gaussian(0.3), Gaussian(np.random.default_rng(2).uniform(0.3, 0.5, IMAGE))),
    "correlated": lambda: (Gaussian(0.3), correlated()),
    "three": lambda: (Gaussian(0.3), correlated(), Gaussian(0.4)),
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_parts_equal_dense_algebra(name, key):
    p = problem(*GAUSSIAN[name]())
    y = eqx.filter_jit(p.measure)(key, image(0))
    f, x = p.likelihood(y), image(1)
    rows = [np.asarray(A.dense()) for A in p.operator.operators]
    weights = [np.asarray(n.whitener(b).dense()) for n, b in zip(p.noise.parts, y, strict=True)]
    M = np.concatenate([w @ a for w, a in zip(weights, rows, strict=True)])
    b = np.concatenate([w @ np.ravel(v) for w, v in zip(weights, y, strict=True)])
    gap = M @ np.ravel(x) - b

    @eqx.filter_jit
    def views(f):
        return f(x), f.grad(x), f.prox(x, 0.2), f.lipschitz

    value, gradient, prox, lipschitz = views(f)
    np.testing.assert_allclose(value, gap @ gap / 2, rtol=1e-12)
    np.testing.assert_allclose(np.ravel(gradient), M.T @ gap, atol=1e-10)
    exact = np.linalg.solve(np.eye(24) + 0.2 * M.T @ M, np.ravel(x) + 0.2 * M.T @ b)
    np.testing.assert_allclose(np.ravel(prox), exact, atol=1e-9)
    assert lipschitz >= np.linalg.norm(M, 2) ** 2 * (1 - 1e-12)
    closed = (p.noise.whitener(f.y) @ p.operator).gram_spectrum
    assert (closed is not None) == (name in ("scalars", "correlated"))  # all in the Fourier basis: no iterative solve


def test_mixed_noise_in_an_inverse_problem(key):
    p = problem(Gaussian(0.3), Poisson(0.1, 0.2))
    y = p.measure(key, image(0))
    u = p.operator(image(1))
    for part, (noise, k) in zip(y, zip(p.noise.parts, jax.random.split(key, 2), strict=True), strict=True):
        A = p.operator.operators[p.noise.parts.index(noise)]
        np.testing.assert_array_equal(part, noise.sample(k, A(image(0))))
    f = p.likelihood(y)
    parts = [InverseProblem(A, n).likelihood(b) for A, n, b in zip(p.operator.operators, p.noise.parts, y, strict=True)]
    for name in ("__call__", "log_prob", "grad"):
        total = sum(getattr(g, name)(image(1)) for g in parts)
        np.testing.assert_allclose(getattr(f, name)(image(1)), total, rtol=1e-10)
    np.testing.assert_allclose(f.grad(image(1)), types.grad(f, image(1)), rtol=1e-10)
    assert f.lipschitz == p.noise.lipschitz(y) * p.operator.norm() ** 2
    assert p.noise.whitener(u) is None
    with pytest.raises(ValueError, match="not available for Stacked noise"):
        f.prox(image(1), 0.1)


def test_vmap_over_the_level_of_one_part(key):
    levels = jnp.array([0.2, 0.5])
    y = problem(Gaussian(0.3), Gaussian(0.4)).measure(key, image(0))

    @jax.jit
    def proxes(levels):
        return jax.vmap(lambda s: problem(Gaussian(s), Gaussian(0.4)).likelihood(y).prox(image(1), 0.2))(levels)

    one = problem(Gaussian(0.5), Gaussian(0.4)).likelihood(y).prox(image(1), 0.2)
    np.testing.assert_allclose(proxes(levels)[1], one, atol=1e-12)
