"""Algebraic and emission reconstruction: SIRT, SART, Kaczmarz, OSEM, BSREM, MAP-EM against dense algebra, SciPy and rates."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear

from invjax import iterate, likelihoods, priors, solvers
from invjax import operators as ops
from invjax.data import shepp_logan
from invjax.reducers import Every
from invjax.types import Fn

from ..registry import call
from .problems import COUNTS, compiled, poisson, scipy_poisson

R = np.random.default_rng(21)
M = R.uniform(size=(12, 6)) * (R.uniform(size=(12, 6)) > 0.5)
M[4], M[:, 2] = 0, 0  # a ray that sees nothing, a pixel that is not seen
Y = R.uniform(size=12)
SEEN = np.array([0, 1, 3, 4, 5])


def run(method, num_steps, x=None, **kwargs):
    position, trace, status = _run(method, np.zeros(6) if x is None else x, num_steps, **kwargs)
    assert status == 0
    return (np.asarray(position), trace) if kwargs.get("trace") is not None else np.asarray(position)


@eqx.filter_jit
def _run(method, x, num_steps, **kwargs):
    state, trace, status = iterate(method, x, num_steps, **kwargs)
    return state.position, trace, status


def weights():
    rows, columns = M.sum(1), M.sum(0)
    return [np.divide(1, s, where=s > 0, out=np.zeros_like(s)) for s in (rows, columns)]


def test_sirt_step_equals_its_definition():
    W, V = weights()
    x = R.uniform(size=6)
    end = run(solvers.SIRT(ops.Matrix(M), Y, 1.3), 1, jnp.asarray(x))
    np.testing.assert_allclose(end, x + 1.3 * V * (M.T @ (W * (Y - M @ x))), rtol=1e-13)


def test_sirt_converges_to_weighted_least_squares():
    W, _ = weights()
    for relaxation in (0.5, 1.99):
        end = run(solvers.SIRT(ops.Matrix(M), Y, relaxation), 3000)
        exact = np.linalg.lstsq(np.sqrt(W)[:, None] * M, np.sqrt(W) * Y, rcond=None)[0]
        assert end[2] == 0
        np.testing.assert_allclose(end, exact, atol=1e-10)


def test_constrained_sirt_equals_scipy():
    W, _ = weights()
    y = 3 * Y - 1
    end = run(solvers.SIRT(ops.Matrix(M), y, 1.0, priors.Box(0.0, 0.4)), 3000)
    exact = lsq_linear(np.sqrt(W)[:, None] * M, np.sqrt(W) * y, (0, 0.4), tol=1e-14).x
    assert np.sum(exact[SEEN] < 1e-6) > 0
    assert np.sum(exact > 0.4 - 1e-6) > 0
    np.testing.assert_allclose(end[SEEN], exact[SEEN], atol=1e-7)


def rows_as_stack(parts):
    return ops.stack([ops.Matrix(M[part]) for part in parts]), tuple(Y[part] for part in parts)


def test_block_methods_on_one_block_and_on_consistent_equations():
    whole = solvers.SART(*rows_as_stack([slice(None)]), 1.2)
    np.testing.assert_array_equal(run(whole, 7), run(solvers.SIRT(ops.Matrix(M), Y, 1.2), 7))
    np.testing.assert_array_equal(run(solvers.SART(ops.Matrix(M), Y, 1.2), 7), run(whole, 7))
    operator, _ = rows_as_stack([slice(i, None, 3) for i in range(3)])
    x = R.uniform(size=6) * (np.arange(6) != 2)
    end = run(solvers.SART(operator, operator(jnp.asarray(x)), 1.5), 2000)
    np.testing.assert_allclose(end, x, atol=1e-10)


def test_kaczmarz_pass_equals_its_definition_and_finds_the_solution_of_least_norm():
    A = R.normal(size=(4, 6)) + 1j * R.normal(size=(4, 6))
    A[1] = 0
    y = A @ (R.normal(size=6) + 1j * R.normal(size=6))
    x = R.normal(size=6) + 1j * R.normal(size=6)
    method = solvers.Kaczmarz(ops.Matrix(A), y, 1.4)
    end = run(method, 1, jnp.asarray(x))
    for a, b in zip(A, y, strict=True):
        x = x + (1.4 * (b - a @ x) * a.conj() / np.sum(np.abs(a) ** 2) if np.any(a) else 0)
    np.testing.assert_allclose(end, x, rtol=1e-12)
    np.testing.assert_allclose(run(method, 2000, jnp.zeros(6) + 0j), np.linalg.pinv(A) @ y, atol=1e-10)


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_expected_rate_of_randomised_kaczmarz(relaxation, key):
    """For A^H A = c I the bound of Strohmer and Vershynin holds with equality: a factor 1 - w (2 - w) / n per row drawn."""
    Q, _ = np.linalg.qr(R.normal(size=(6, 3)) * R.uniform(0.1, 3, size=(6, 1)))
    exact = jnp.asarray(R.normal(size=3))
    method = solvers.RandomisedKaczmarz(ops.Matrix(5 * Q), 5 * Q @ exact, relaxation)

    @jax.jit
    def errors(keys):
        ends = jax.vmap(lambda k: iterate(method, jnp.zeros(3), 2, key=k, trace=Every(1))[1])(keys)
        return jnp.sum((ends - exact) ** 2, -1) / jnp.sum(exact**2)

    values = np.asarray(errors(jax.random.split(key, 20000)))
    expected = (1 - relaxation * (2 - relaxation) / 3) ** np.array([6, 12])
    standard_error = values.std(0) / np.sqrt(20000)
    assert np.all(np.abs(values.mean(0) - expected) <= 3 * standard_error)
    assert np.all(3 * standard_error < 0.2 * expected)


# Emission data


def emission(background=0.0, gain=1.0):
    """The deconvolution problem with its matrix, whose rows can be cut into subsets."""
    return compiled(_emission, MATRIX, COUNTS.ravel(), background, gain)


def _emission(matrix, y, background, gain):
    noise = likelihoods.Poisson(gain, background)
    return likelihoods.InverseProblem(ops.Matrix(matrix, (6, 6, 1)), noise).likelihood(y)


MATRIX = np.maximum(np.asarray(call(poisson().operator, "dense")), 0)
START = np.ones((6, 6, 1))


def test_subsets_cut_operator_data_and_noise():
    f = emission(R.uniform(0.1, 1, 36), 0.7)
    cut = compiled(solvers.subsets, f, 5)

    @jax.jit
    def both(x):
        return [(part(x), part.grad(x), part.operator(x)) for part in (cut, f)]

    cut_to, whole = jax.tree.map(np.asarray, both(R.uniform(size=(6, 6, 1))))
    np.testing.assert_allclose(cut_to[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(cut_to[1], whole[1], atol=1e-12)
    np.testing.assert_allclose(cut_to[2][1], whole[2][1::5], rtol=1e-12)
    assert [v.size for v in cut.y] == [8, 7, 7, 7, 7]


def test_osem_equals_mlem_with_one_subset_and_its_definition_with_more():
    f = emission(0.2, 0.5)
    em = run(solvers.MLEM(f), 4, START)
    np.testing.assert_array_equal(run(compiled(lambda f: solvers.OSEM(solvers.subsets(f, 1)), f), 4, START), em)
    np.testing.assert_array_equal(run(compiled(solvers.OSEM, f), 4, START), em)
    end = run(compiled(lambda f: solvers.OSEM(solvers.subsets(f, 3)), f), 2, START)
    x, A, y = np.ones(36), np.asarray(f.operator.matrix), np.asarray(f.y)
    for i in (0, 1, 2, 0, 1, 2):
        B = A[i::3]
        x = x / B.sum(0) * (B.T @ (y[i::3] / (B @ x + 0.2)))
    np.testing.assert_allclose(end.ravel(), x, rtol=1e-11)


def test_osem_keeps_the_count_and_finds_what_all_subsets_agree_on():
    f = emission()
    cut = compiled(solvers.subsets, f, 3)
    end = run(compiled(solvers.OSEM, cut), 5, START)
    np.testing.assert_allclose(np.sum(call(cut.operator, "__call__", end)[2]), np.sum(cut.y[2]), rtol=1e-12)
    blocks = [B / B.sum(0) for B in R.uniform(size=(3, 8, 6))]  # balanced, as convergence needs
    x = R.uniform(0.5, 2, 6)
    parts = likelihoods.Stacked((likelihoods.Poisson(),) * 3)
    f = likelihoods.Likelihood(ops.stack([ops.Matrix(B) for B in blocks]), parts, tuple(B @ x for B in blocks))
    np.testing.assert_allclose(run(solvers.OSEM(f), 4000, jnp.ones(6)), x, atol=1e-6)


def test_em_with_a_gain_that_varies_is_stationary():
    f = emission(0.1, np.where(np.arange(36) % 2, 0.4, 2.0))
    end = run(solvers.MLEM(f), 20000, START)
    gradient = np.asarray(call(f, "grad", end))
    np.testing.assert_allclose(end * gradient, 0, atol=1e-5)
    assert np.all(gradient > -1e-4)


def test_map_em_and_bsrem_converge_to_the_penalised_optimum():
    exact, g = scipy_poisson(0.05, 0.1), priors.Tikhonov(0.05)
    np.testing.assert_allclose(run(compiled(solvers.MAPEM, emission(0.1), g), 4000, START), exact, atol=1e-5)
    f = compiled(solvers.subsets, emission(0.1), 4)
    method = compiled(lambda f: solvers.BSREM(f, g, 0.5, decay=0.05), f)
    ends = run(method, 10000, START, trace=Every(1))[1]
    errors = [np.max(np.abs(ends[k - 1] - exact)) for k in (100, 1000, 10000)]
    ratio = np.divide(*(1 + 0.05 * np.array([10000, 1000])))  # the error is of the order of the relaxation
    assert errors[1] / errors[2] == pytest.approx(ratio, rel=0.05)
    assert errors[2] < 5e-3
    method = compiled(solvers.BSREM, f, g)
    assert np.max(np.abs(run(method, 10000, START) - exact)) < 5e-3
    image = call(method, "fixed_point", np.maximum(exact, method.floor))  # the optimum is its fixed point
    np.testing.assert_allclose(image, np.maximum(exact, 1e-6), atol=1e-5)


def test_poisson_objective_decreases_in_map_em():
    f, g = emission(0.1), priors.Tikhonov(0.05)
    trace = Every(1, of=Fn(lambda state, info, f, g: f(state.position) + g(state.position), f, g))
    _, values = run(solvers.MAPEM(f, g), 200, START, trace=trace)
    assert np.all(np.diff(values) <= 1e-12 * np.abs(values[:-1]))


def test_refused():
    f = emission()
    gauss = likelihoods.InverseProblem(f.operator, likelihoods.Gaussian(1.0)).likelihood(f.y)
    blur = poisson()
    for make in (solvers.OSEM, lambda f: solvers.MAPEM(f, priors.Zero()), lambda f: solvers.BSREM(f, priors.Zero())):
        with pytest.raises(ValueError, match="likelihood: expected Poisson noise, got Gaussian"):
            make(gauss)
        with pytest.raises(ValueError, match=r"likelihood.y: expected non-negative"):
            make(eqx.tree_at(lambda c: c.y, f, -f.y - 1))
    for make in (solvers.MAPEM, solvers.BSREM):
        with pytest.raises(ValueError, match="prior: expected a smooth prior"):
            make(f, priors.L1())
    with pytest.raises(ValueError, match="floor: expected positive"):
        solvers.BSREM(f, priors.Zero(), floor=0.0)
    with pytest.raises(ValueError, match=r"method subset.index., got Blur"):
        solvers.subsets(blur, 2)
    with pytest.raises(ValueError, match="num_subsets: expected an integer from 1 to 36, got 37"):
        solvers.subsets(f, 37)
    with pytest.raises(ValueError, match=r"expected likelihoods.Stacked noise for a stack, got Poisson"):
        solvers.OSEM(eqx.tree_at(lambda c: c.noise, solvers.subsets(f, 2), likelihoods.Poisson()))
    with pytest.raises(ValueError, match="relaxation: expected below 2"):
        solvers.SIRT(f.operator, f.y, 2.0)
    with pytest.raises(ValueError, match="operator: expected a real operator"):
        solvers.SIRT(ops.Matrix(M + 0j), Y + 0j)
    for make in (solvers.Kaczmarz, solvers.RandomisedKaczmarz):
        with pytest.raises(ValueError, match=r"operator: expected operators.Matrix, got Blur"):
            make(blur.operator, blur.y)
        with pytest.raises(ValueError, match="relaxation: expected positive"):
            make(f.operator, f.y, 0.0)


def test_ordered_subsets_of_angles_are_faster_than_all_at_once():
    """A phantom in parallel beams: four subsets fit the data after one pass better than three steps of MLEM."""

    @jax.jit
    def measured(key, x):
        A = ops.parallel_beam(np.linspace(0, np.pi, 12, endpoint=False), x.shape, 14)
        problem = likelihoods.InverseProblem(A, likelihoods.Poisson(0.01))
        return A(x), problem.likelihood(problem.measure(key, x))

    @jax.jit
    def runs(f, x):
        cut, start = solvers.subsets(f, 4), jnp.ones(x.shape)
        by_subsets = iterate(solvers.OSEM(cut), start, 1)[0].position
        at_once = iterate(solvers.MLEM(f), start, 3)[0].position
        return cut.operator(x), jax.vmap(f)(jnp.stack([by_subsets, at_once, start]))

    x = np.asarray(shepp_logan(12))
    predicted, f = measured(jax.random.key(3), x)
    parts, values = runs(f, x)
    for i, part in enumerate(parts):
        np.testing.assert_allclose(part, np.asarray(predicted)[i::4], rtol=1e-12)
    assert values[0] < values[1] < values[2]
