"""The locality denoiser against its definition in NumPy, its special cases and limits; receptive fields; contracts."""

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax.data import photograph
from invjax.paths import VP, PathDenoiser
from invjax.priors import Empirical, Gaussian, Locality, fit_gaussian, receptive_field

from ..registry import strictly

R = np.random.default_rng(6)
SHAPE = (3, 4, 1)
N, NUM = 12, 23
SPREAD = R.uniform(
    0.3, 2, N
)  # fields of faint pixels then exceed one, so that the threshold is relative to more than one
POINTS = (R.normal(size=(NUM, N)) @ (R.normal(size=(N, N)) / 3 + np.eye(N)) * SPREAD).reshape(NUM, *SHAPE)
FLAT = POINTS.reshape(NUM, N)
WIENER = fit_gaussian(POINTS)
X = R.normal(size=SHAPE)


@eqx.filter_jit
def denoised(denoiser, x, sigma):
    return denoiser(x, sigma)


def softmax(logits):
    weights = np.exp(logits - logits.max(0))
    return weights / weights.sum(0)


def average(mask, sigma, points=FLAT, temperature=1.0):
    """The definition: ``mask[q, p]``, one softmax over the points for every pixel q."""
    distances = np.stack([mask @ (X.ravel() - point) ** 2 for point in points])
    return np.sum(softmax(-distances / (2 * sigma**2 * temperature)) * points, 0).reshape(SHAPE)


def wiener_filter(sigma):
    covariance = np.cov(FLAT.T)
    return covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(N))


def fields(sigma, threshold):
    """Rows of the Wiener filter over its diagonal, and ones where they reach the threshold."""
    wiener = wiener_filter(sigma)
    normalised = wiener / np.diag(wiener)[:, None]
    return (np.abs(normalised) >= threshold * np.abs(normalised).max()).astype(float) if threshold else normalised


@pytest.mark.parametrize("sigma", [0.3, 1.5])
@pytest.mark.parametrize("threshold", [0.1, 0.02, 0.0])
def test_definition(threshold, sigma):
    mask = fields(sigma, threshold)
    assert threshold == 0 or 0 < mask.mean() < 1
    denoiser = Locality(POINTS, threshold=threshold, temperature=2.0)
    np.testing.assert_allclose(denoiser.mask(sigma), mask, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(denoised(denoiser, X, sigma), average(mask, sigma, temperature=2), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("block_size", [None, 5])
@pytest.mark.parametrize("sigma", [0.2, 2.0])
def test_a_mask_of_ones_gives_the_optimal_denoiser(block_size, sigma):
    together = Gaussian(np.zeros(SHAPE), np.ones((N, N)))  # rank one: every pixel sees all others alike
    local = Locality(POINTS, together, block_size=block_size)
    assert np.all(local.mask(sigma) == 1)
    expected = denoised(Empirical(POINTS).denoiser, X, sigma)
    np.testing.assert_allclose(denoised(local, X, sigma), expected, rtol=1e-12, atol=1e-14)


def test_a_mask_of_one_pixel_gives_kernel_regression():
    local, sigma = Locality(POINTS, Gaussian(np.zeros(SHAPE), 1.0)), 0.4
    np.testing.assert_array_equal(local.mask(sigma), np.eye(N))
    kernel = np.exp(-((X[None] - POINTS) ** 2) / (2 * sigma**2))
    np.testing.assert_allclose(denoised(local, X, sigma), (kernel * POINTS).sum(0) / kernel.sum(0), rtol=1e-12)


def test_blocks_do_not_change_the_result_but_their_average_does():
    sigma = 0.6
    whole = denoised(Locality(POINTS, WIENER), X, sigma)
    for size in (1, 5, 23, 64):
        blocked = denoised(Locality(POINTS, WIENER, block_size=size), X, sigma)
        np.testing.assert_allclose(blocked, whole, rtol=1e-12)
    single = [Locality(POINTS.astype(np.float32), WIENER, block_size=n) for n in (None, 5)]
    results = [denoised(d, X.astype(np.float32), sigma) for d in single]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    # The variant: one softmax per block, the last one of three points, with equal weights.
    averaged = denoised(Locality(POINTS, WIENER, block_size=5, block_average=True), X, sigma)
    parts = [average(fields(sigma, 0.02), sigma, part) for part in np.split(FLAT, range(5, NUM, 5))]
    np.testing.assert_allclose(averaged, np.mean(parts, 0), rtol=1e-9, atol=1e-11)
    assert np.linalg.norm(averaged - whole) > 0.02 * np.linalg.norm(whole)


def test_limits():
    local = Locality(POINTS, WIENER)
    np.testing.assert_allclose(denoised(local, X, 1e6), POINTS.mean(0), atol=1e-9)
    # Without noise the Wiener filter is the identity, so that each pixel takes its nearest value in the data.
    nearest = np.abs(X[None] - POINTS).argmin(0)
    expected = np.take_along_axis(POINTS, nearest[None], 0)[0]
    np.testing.assert_allclose(denoised(local, X, 1e-4), expected, atol=1e-9)
    one = Locality(POINTS[:1], WIENER)
    np.testing.assert_allclose(denoised(one, X, 0.5), POINTS[0], rtol=1e-13)


def test_logits_of_any_size_in_float32():
    points = (100 * POINTS).astype(np.float32)
    x = points[3] + np.float32(0.01)
    for size in (None, 5):  # exponents are around -1e8
        got = denoised(Locality(points, WIENER, threshold=0.5, block_size=size), x, 0.01)
        np.testing.assert_allclose(got, points[3], rtol=1e-6)


def test_constant_pixels_stay_and_disturb_no_others():
    points = POINTS.copy()
    points[:, 1, 2] = 0.25
    for data in (points, points.astype(np.float32)):  # in float32 the gain of that pixel is a rounding error
        got = denoised(Locality(data), X.astype(data.dtype), 0.5)
        assert got[1, 2] == pytest.approx(0.25, abs=1e-6)
        free = np.delete(np.arange(N), 6)
        without = Locality(data.reshape(NUM, N)[:, free])
        expected = denoised(without, X.astype(data.dtype).ravel()[free], 0.5)
        np.testing.assert_allclose(got.ravel()[free], expected, rtol=1e-4, atol=1e-5)


def test_one_pixel_is_the_optimal_denoiser():
    for shape in ((), (1, 1, 1)):
        points, x = POINTS[:, 0, 0].reshape(NUM, *shape), jnp.full(shape, 0.3)
        expected = denoised(Empirical(points).denoiser, x, 0.4)
        np.testing.assert_allclose(denoised(Locality(points), x, 0.4), expected, rtol=1e-12)


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_on_a_variance_preserving_path(t):
    """The formulas of the paper: ``x = sqrt(abar) clean + sqrt(1 - abar) n``, with abar explicit."""
    path = VP()
    root, abar = float(path.alpha(t)), float(path.alpha(t)) ** 2
    values, basis = np.linalg.eigh(np.cov(FLAT.T))
    wiener = basis * (abar * values / (abar * values + 1 - abar)) @ basis.T
    mask = wiener / np.diag(wiener)[:, None]
    mask = (np.abs(mask) >= 0.02 * np.abs(mask).max()).astype(float)
    distances = np.stack([mask @ (X.ravel() - root * point) ** 2 for point in FLAT])
    expected = np.sum(softmax(-distances / (2 * (1 - abar))) * FLAT, 0)
    local = eqx.filter_jit(PathDenoiser(Locality(POINTS, WIENER), path))
    np.testing.assert_allclose(local(jnp.asarray(t), X).ravel(), expected, rtol=1e-8, atol=1e-10)
    linear = eqx.filter_jit(PathDenoiser(WIENER.denoiser, path))(jnp.asarray(t), X)
    expected = wiener @ X.ravel() / root + (np.eye(N) - wiener) @ FLAT.mean(0)
    np.testing.assert_allclose(linear.ravel(), expected, rtol=1e-9, atol=1e-11)


def test_receptive_field_of_the_wiener_filter_is_its_row():
    for sigma in (0.2, 2.0):
        row = receptive_field(WIENER.denoiser, X, sigma, (1, 2, 0))
        np.testing.assert_allclose(row.ravel(), wiener_filter(sigma)[6], rtol=1e-8, atol=1e-11)


def test_receptive_field_of_any_denoiser():
    local, sigma, h = Locality(POINTS, WIENER, 0.1, block_size=5), 0.6, 1e-5
    pixels = jnp.array([[1, 2, 0], [0, 3, 0]])
    rows = jax.vmap(lambda p: receptive_field(local, X, sigma, p))(pixels)
    steps = h * np.eye(N).reshape(N, *SHAPE)
    ends = [jax.vmap(lambda u: denoised(local, u, sigma))(X + s * steps) for s in (1, -1)]
    slopes = (ends[0] - ends[1]) / (2 * h)
    for row, (i, j, c) in zip(rows, np.asarray(pixels), strict=True):
        np.testing.assert_allclose(row.ravel(), slopes[:, i, j, c], rtol=1e-6, atol=1e-8)
    # Outside its field a pixel does not matter at all.
    assert np.all((rows[0].ravel() == 0) | (local.mask(sigma)[6] == 1))


def patches(name, stride):
    """Patches (num, 8, 8, 1) of a photograph, in [-1, 1]."""
    image = 2 * np.asarray(photograph(name))[..., 0] - 1
    return np.lib.stride_tricks.sliding_window_view(image, (8, 8))[::stride, ::stride].reshape(-1, 8, 8, 1)


def test_photographs():
    """Fields grow with the noise, and generalise where the optimal denoiser memorises."""
    points, clean = patches("camera", 24), patches("coins", 48)
    wiener = fit_gaussian(points)
    rows, columns = np.mgrid[:8, :8]
    far = ((rows - 3) ** 2 + (columns - 3) ** 2)[..., None]
    sizes = []
    for sigma in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        energy = np.asarray(receptive_field(wiener.denoiser, clean[0], sigma, (3, 3, 0))) ** 2
        sizes.append((far * energy).sum() / energy.sum())
    assert np.all(np.diff(sizes) > 0)
    sigma = 0.1
    noisy = (clean + sigma * R.normal(size=clean.shape)).astype(np.float32)

    @eqx.filter_jit
    def error(denoise, noisy):
        return jnp.mean((jax.vmap(lambda x: denoise(x, sigma))(noisy) - clean) ** 2)

    local, optimal = Locality(points, wiener, 0.1), Empirical(points)
    assert error(local, noisy) < 0.6 * error(optimal.denoiser, noisy)


def test_transformations():
    """One program for all values; jit, vmap over images and levels, and the loop agree; float32 is kept."""
    count = 0

    @eqx.filter_jit
    def many(denoiser, xs, sigmas):
        nonlocal count
        count += 1
        with strictly():
            return jax.vmap(denoiser)(xs, sigmas), jax.vmap(denoiser, in_axes=(0, None))(xs, sigmas[0])

    xs, sigmas = np.stack([X, X + 0.3, 2 * X]), np.array([0.3, 0.8, 2.0])
    local = Locality(POINTS, WIENER, 0.05, block_size=5)
    each, same = many(local, xs, sigmas)
    for i in range(3):
        np.testing.assert_allclose(each[i], denoised(local, xs[i], sigmas[i]), rtol=1e-11)
        np.testing.assert_allclose(same[i], local(xs[i], 0.3), rtol=1e-11)
    many(Locality(2 * POINTS, threshold=0.1, temperature=3.0, block_size=5), 2 * xs, 2 * sigmas)
    assert count == 1
    single = many(local, xs.astype(np.float32), sigmas)
    assert {a.dtype for a in single} == {jnp.dtype("float32")}
    np.testing.assert_allclose(single[0], each, atol=1e-4)
    # A lane that is not finite stays alone.
    xs[1, 0, 0], sigmas[2] = np.nan, np.nan
    broken, _ = many(local, xs, sigmas)
    np.testing.assert_array_equal(broken[0], each[0])
    assert np.isnan(broken[1]).any()
    assert np.isnan(broken[2]).all()


@pytest.mark.parametrize("threshold", [0.05, 0.0])
def test_derivatives(threshold):
    """In the image, the level, the temperature and the points, against central differences."""
    values = {"x": X, "sigma": np.array(0.7), "temperature": np.array(1.3), "points": POINTS}
    directions = {name: R.normal(size=np.shape(value)) for name, value in values.items()}
    weights = R.normal(size=SHAPE)

    @jax.jit
    def value(v):
        local = Locality(v["points"], WIENER, threshold, v["temperature"], block_size=5)
        return jnp.vdot(weights, local(v["x"], v["sigma"]))

    gradient = jax.jit(jax.grad(value))(values)
    for name, direction in directions.items():
        ends = [value(values | {name: values[name] + h * direction}) for h in (1e-6, -1e-6)]
        np.testing.assert_allclose(np.vdot(gradient[name], direction), (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_lowers(float32):
    local = Locality(POINTS.astype(np.float32), block_size=5)
    arrays, static = eqx.partition(local, eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (arrays, X.astype(np.float32)))

    def program(arrays, x):
        return eqx.combine(arrays, static)(x, 0.5)

    assert jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(*shapes).platforms == ("tpu", "cuda")


def test_wrong_arguments_are_refused():
    for settings, message in [
        ({"points": POINTS[:0]}, "points: expected shape"),
        ({"points": POINTS * 1j}, "points: expected real"),
        ({"points": POINTS[:, :2]}, "prior: expected a Gaussian on events of shape"),
        ({"prior": Empirical(POINTS)}, "prior: expected a Gaussian"),
        ({"threshold": -0.1}, "threshold: expected non-negative"),
        ({"threshold": 1.0}, "threshold: expected below 1"),
        ({"temperature": 0.0}, "temperature: expected positive"),
        ({"block_size": 0}, "block_size: expected a positive integer"),
        ({"block_average": True}, "block_size: expected a positive integer for block_average"),
    ]:
        with pytest.raises(ValueError, match=message):
            Locality(**{"points": POINTS, "prior": WIENER} | settings)
    with pytest.raises(ValueError, match="at least two"):
        Locality(POINTS[:1])
    local = Locality(POINTS, WIENER)
    for x, sigma, message in [
        (X, 0.0, "sigma: expected positive"),
        (X, -1.0, "sigma: expected non-negative"),
        (X, np.ones(2), "sigma: expected shape"),
        (X[:2], 0.5, "x: expected shape"),
        (X * 1j, 0.5, "x: expected a real"),
    ]:
        with pytest.raises(ValueError, match=message):
            local(x, sigma)
    with pytest.raises(ValueError, match="sigma: expected positive"):
        local.mask(0.0)


def test_wrong_pixels_are_refused():
    for x, pixel, message in [
        (X, (0, 1), "pixel: expected 3 integers"),
        (X, (0, 1, 0.5), "pixel: expected 3 integers"),
        (X, (0, 4, 0), "pixel: expected an index inside"),
        (X, (0, -1, 0), "pixel: expected an index inside"),
        (X * 1j, (0, 1, 0), "x: expected real"),
    ]:
        with pytest.raises(ValueError, match=message):
            receptive_field(WIENER.denoiser, x, 0.5, pixel)
    with pytest.raises(ValueError, match="denoise: expected a result of shape"):
        receptive_field(lambda x, sigma: x.sum(), X, 0.5, (0, 0, 0))
