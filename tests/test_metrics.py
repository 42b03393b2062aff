"""Metrics against scikit-image, closed forms and simulation."""

import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from invjax import metrics

PAPER = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
ALL = [metrics.mse, metrics.nmse, metrics.nrmse, metrics.mae, metrics.psnr, metrics.snr, metrics.ssim]
COMPLEX = [f for f in ALL if f is not metrics.ssim]


@pytest.fixture
def images(key):
    return _images(key)


@jax.jit
def _images(key):
    reference = jax.random.uniform(key, (24, 20, 3))
    return reference + 0.2 * jax.random.normal(jax.random.fold_in(key, 1), reference.shape), reference


def test_errors_agree_with_scikit_image(images):
    x, reference = (np.asarray(a) for a in images)
    assert metrics.mse(x, reference) == pytest.approx(skimage.metrics.mean_squared_error(reference, x), rel=1e-13)
    expected = skimage.metrics.normalized_root_mse(reference, x)
    assert metrics.nrmse(x, reference) == pytest.approx(expected, rel=1e-13)
    assert metrics.nmse(x, reference) == pytest.approx(expected**2, rel=1e-13)
    assert metrics.mae(x, reference) == pytest.approx(np.abs(x - reference).mean(), rel=1e-13)
    for data_range in (1.0, 2.5):
        expected = skimage.metrics.peak_signal_noise_ratio(reference, x, data_range=data_range)
        assert metrics.psnr(x, reference, data_range) == pytest.approx(expected, rel=1e-13)
    assert metrics.snr(x, reference) == pytest.approx(-10 * np.log10(metrics.nmse(x, reference)), rel=1e-12)


def test_alignment_removes_the_global_phase():
    r, align = np.random.default_rng(0), jax.jit(metrics.align_phase)
    reference = r.normal(size=(5, 4, 2)) + 1j * r.normal(size=(5, 4, 2))
    noise = 0.1 * (r.normal(size=(5, 4, 2)) + 1j * r.normal(size=(5, 4, 2)))
    np.testing.assert_allclose(align(np.exp(2.1j) * reference, reference), reference, rtol=1e-12)
    x = np.exp(-0.4j) * (reference + noise)
    phases = np.exp(1j * np.linspace(-np.pi, np.pi, 20001))[:, None]
    best = np.linalg.norm(phases * x.ravel() - reference.ravel(), axis=1).min()
    slack = np.abs(np.vdot(x, reference)) * (np.pi / 20000) ** 2 / (2 * best)  # half a step of the grid
    aligned = np.linalg.norm(align(x, reference) - reference)
    assert best - slack <= aligned <= best
    np.testing.assert_array_equal(align(-reference.real, reference.real), reference.real)
    assert align(x.astype(np.complex64), reference).dtype == jnp.complex64
    zero = np.zeros((5, 4, 2))
    np.testing.assert_array_equal(align(zero, reference.real), zero)
    slope = jax.jit(jax.grad(lambda z: metrics.mse(align(z, reference.real), reference.real)))(zero)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("options", [{}, PAPER, {"win_size": 5, "use_sample_covariance": False}], ids=str)
@pytest.mark.parametrize("data_range", [1.0, 3.0])
def test_ssim_agrees_with_scikit_image(images, options, data_range):
    x, reference = images
    expected = skimage.metrics.structural_similarity(
        np.asarray(reference), np.asarray(x), data_range=data_range, channel_axis=-1, **options
    )
    assert metrics.ssim(x, reference, data_range, **options) == pytest.approx(expected, abs=1e-12)


def test_ssim_of_a_volume_agrees_with_scikit_image(key):
    x, reference = jax.random.uniform(key, (2, 8, 9, 10, 1))
    expected = skimage.metrics.structural_similarity(
        np.asarray(reference), np.asarray(x), data_range=1.0, channel_axis=-1
    )
    assert metrics.ssim(x, reference) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", [{}, PAPER], ids=["default", "paper"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_ssim_in_float32(images, options, offset, float32):
    # An offset of 100 costs float32 six digits of every squared pixel: without centring the error here is about 1.
    x, reference = (np.asarray(a, np.float32) + np.float32(offset) for a in images)
    expected = skimage.metrics.structural_similarity(
        reference.astype(np.float64), x.astype(np.float64), data_range=1.0, channel_axis=-1, **options
    )
    value = metrics.ssim(x, reference, **options)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(expected, abs=1e-4)


def test_constant_error_of_a_tenth_is_twenty_decibel():
    zero = jnp.zeros((8, 8, 1))
    assert metrics.psnr(zero + 0.1, zero) == pytest.approx(20.0, abs=1e-12)
    assert metrics.psnr(zero + 0.1, zero, 10.0) == pytest.approx(40.0, abs=1e-12)
    large = jnp.full((512, 512, 3), 0.1, jnp.float32)
    assert metrics.psnr(large, 0 * large) == pytest.approx(20.0, abs=1e-4)


def test_nothing_is_clipped():
    zero = jnp.zeros((8, 8, 1))
    assert metrics.psnr(zero + 10, zero) == pytest.approx(-20.0, abs=1e-12)


def test_equal_images(images):
    _, reference = images
    assert metrics.psnr(reference, reference) == jnp.inf
    assert metrics.snr(reference, reference) == jnp.inf
    assert metrics.ssim(reference, reference) == pytest.approx(1.0, abs=1e-12)
    for metric in ALL:
        assert jnp.isfinite(jax.grad(metric)(reference, reference)).all(), metric.__name__


def test_zero_reference(images):
    x, zero = images[0], jnp.zeros_like(images[0])
    assert metrics.nmse(x, zero) == jnp.inf
    assert metrics.nrmse(x, zero) == jnp.inf
    assert metrics.snr(x, zero) == -jnp.inf
    assert metrics.nmse(zero, zero) == 0


@pytest.mark.parametrize("metric", ALL, ids=lambda f: f.__name__)
def test_contract(metric, images, strict):
    x, reference = images
    value = metric(x, reference)
    assert value.shape == ()
    direction, step = np.asarray(reference) - 0.3, 1e-5

    @jax.jit
    def results(x, reference):
        pairs = jnp.stack([x, 0.5 * x, x + step * direction, x - step * direction]), jnp.stack([reference] * 4)
        return (
            metric(x, reference),
            metric(0.5 * x, reference),
            jax.vmap(metric)(*pairs),
            jax.grad(metric)(x, reference),
        )

    compiled, half, lanes, slope = jax.tree.map(np.asarray, results(x, reference))
    np.testing.assert_allclose(compiled, value, rtol=1e-12)
    np.testing.assert_allclose(lanes[:2], [value, half], rtol=1e-12)
    narrow = jax.eval_shape(metric, jax.ShapeDtypeStruct(x.shape, jnp.float32), reference)
    assert narrow.dtype == jnp.float32
    central = (lanes[2] - lanes[3]) / (2 * step)  # differences: O(step^2) and rounding of 1e-11 / step
    np.testing.assert_allclose(np.vdot(slope, direction), central, rtol=1e-6)


@pytest.mark.parametrize("metric", COMPLEX, ids=lambda f: f.__name__)
def test_complex_images(metric, images, strict):
    x, reference = jax.lax.complex(*images), jax.lax.complex(images[1], -0.5 * images[1])
    if metric is metrics.mae:
        expected = np.abs(x - reference).mean()
    else:  # real and imaginary parts side by side have the same sums of squares, in a mean over twice as many values
        parts = [jnp.stack([a.real, a.imag], -1) for a in (x, reference)]
        scale = {"mse": lambda v: 2 * v, "psnr": lambda v: v - 10 * np.log10(2)}.get(metric.__name__, lambda v: v)
        expected = scale(metric(*parts))
    value = metric(x, reference)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert jnp.isfinite(jax.grad(lambda u: metric(u, reference))(reference)).all()
    np.testing.assert_allclose(metric(images[0], reference), metric(images[0].astype(complex), reference), rtol=1e-12)


def test_refusals(images):
    x, reference = images
    for metric in ALL:
        with pytest.raises(ValueError, match=r"reference: expected the shape of x"):
            metric(x, reference[..., :1])
        with pytest.raises(ValueError, match=r"x: expected floating or complex values, got uint8"):
            metric((255 * reference).astype(jnp.uint8), reference)
    with pytest.raises(ValueError, match="got complex ones; compare their magnitudes"):
        metrics.ssim(x + 0j, reference)
    with pytest.raises(ValueError, match="at least 7 pixels"):
        metrics.ssim(x[:6], reference[:6])
    with pytest.raises(ValueError, match="win_size: expected an odd integer"):
        metrics.ssim(x, reference, win_size=8)
    for metric in (metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match="data_range: expected positive"):
            metric(x, reference, 0.0)


def test_coverage_fraction_and_jackknife_by_brute_force(key):
    truth, centre = np.asarray(jax.random.normal(key, (2, 21, 10, 2)))
    lower, upper = centre - 1.0, centre + 0.7
    result = jax.jit(lambda *a: metrics.coverage(*a, tiles_per_axis=4))(truth, lower, upper)
    inside = np.asarray((truth >= lower) & (truth <= upper))
    assert result.fraction == pytest.approx(inside.mean(), rel=1e-14)
    rows, columns = ([int(n * i / 4) for i in range(5)] for n in (21, 10))
    pseudo, sizes = [], []
    for i in range(4):
        for j in range(4):
            kept = np.ones(inside.shape, bool)
            kept[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = False
            h = inside.size / (~kept).sum()
            pseudo.append(h * inside.mean() - (h - 1) * inside[kept].mean())  # Busing et al. 1999
            sizes.append(h)
    pseudo, sizes = np.array(pseudo), np.array(sizes)
    expected = np.sqrt(np.mean((pseudo - np.sum(pseudo / sizes)) ** 2 / (sizes - 1)))
    assert result.standard_error == pytest.approx(expected, rel=1e-12)


def test_coverage_standard_error_matches_the_spread_of_correlated_images(key):
    """Errors constant on 4x4 cells: the binomial error is 4 times too small, the jackknife is not."""
    cells = np.asarray(jax.random.normal(key, (400, 16, 16, 1)))
    truth = np.repeat(np.repeat(cells, 4, 1), 4, 2)
    bound = np.full(truth.shape[1:], 1.2816)  # 80 % of a standard normal
    result = jax.jit(jax.vmap(lambda t: metrics.coverage(t, -bound, bound)))(truth)
    spread = np.std(result.fraction, ddof=1)
    exact = np.sqrt(0.8 * 0.2 / 256)
    assert spread == pytest.approx(exact, rel=4 / np.sqrt(2 * 400))  # 4 standard errors of a standard deviation
    # E[SE^2] is the variance exactly, and its mean over 400 images of 63 degrees of freedom is known to about 1 %.
    assert np.sqrt(np.mean(result.standard_error**2)) == pytest.approx(exact, rel=0.04)
    assert np.mean(result.fraction) == pytest.approx(0.8, abs=4 * exact / 20)


def test_coverage_contract(key, strict):
    truth = jax.random.normal(key, (16, 16, 1), jnp.float32)
    bound, coverage = np.ones((16, 16, 1)), jax.jit(metrics.coverage)
    result = coverage(truth, -bound, bound)
    assert result.fraction.dtype == result.standard_error.dtype == jnp.float32
    everything = coverage(truth, -100 * bound, 100 * bound)
    assert (everything.fraction, everything.standard_error) == (1, 0)
    assert coverage(truth, bound * np.nan, bound).fraction == 0
    with pytest.raises(ValueError, match="upper: expected the shape of truth"):
        metrics.coverage(truth, -bound, bound[:8])
    with pytest.raises(ValueError, match="expected real values"):
        metrics.coverage(truth.astype(jnp.complex64), -bound, bound)
    with pytest.raises(ValueError, match="at least two tiles"):
        metrics.coverage(truth, -bound, bound, tiles_per_axis=1)


def test_lowers_for_accelerators(float32):
    image = jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)
    batch = jax.vmap(lambda x, r: (metrics.psnr(x, r), metrics.ssim(x, r), metrics.coverage(x, r, r + 1)))
    shapes = [jax.ShapeDtypeStruct((2, *image.shape), image.dtype)] * 2
    assert jax.export.export(jax.jit(batch), platforms=["tpu", "cuda"])(*shapes).platforms == ("tpu", "cuda")


def test_import_is_light():
    code = (
        "import sys, invjax.metrics; "
        "print([m for m in ('matplotlib', 'skimage', 'PIL', 'tifffile', 'scipy.stats') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
