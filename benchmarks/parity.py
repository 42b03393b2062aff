"""The figures that the reference of the DeepInverse row states for operators, noise and priors, beside what is measured here.

    python benchmarks/parity.py

prints a Markdown table. A bound is met when the measured value is at most (at least, where it says so) the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pywt
import scipy.linalg

from invjax import data, generators, likelihoods, metrics, operators, priors, transforms

KEY = jax.random.key(0)
R = np.random.default_rng(0)


class Row(NamedTuple):
    """What is measured, the figure of the reference, the value here."""

    item: str
    figure: str
    value: str


def dot(A: Any) -> float:
    """Relative adjoint error in float32."""
    return float(jax.jit(operators.dot_test)(KEY, A))


def relative(a: Any, b: Any) -> float:
    """Relative L2 difference."""
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))


def smooth_image(size: int) -> np.ndarray:
    """A Gaussian bump beside the centre, with values on pixels of size 2 / size."""
    x = (np.arange(size) + 0.5) / size * 2 - 1
    return np.exp(-((x[None] - 0.15) ** 2 + (x[::-1, None] + 0.1) ** 2) / (2 * 0.18**2))[..., None]


def adjoints() -> Iterator[Row]:
    shape, angles = (64, 64, 1), jnp.linspace(0, jnp.pi, 60, endpoint=False)
    maps = operators.birdcage_maps(shape, 4)
    cases = {
        "blur, circular": operators.Blur(operators.gaussian_kernel(1.6), shape),
        "blur, valid": operators.Blur(operators.gaussian_kernel(1.6), shape, "valid"),
        "downsampling": operators.downsampling(shape, 2),
        "antialiased resize": operators.Resize(shape, (24, 24)),
        "multi-coil MRI": operators.multi_coil_mri(generators.UniformLines(shape)(KEY), maps, shape),
        "non-uniform Fourier transform": operators.NUFFT(operators.radial_trajectory(20, 64), shape),
        "parallel-beam tomography": operators.parallel_beam(angles, shape, 91),
        "fan-beam tomography": operators.fan_beam(angles, shape, 91, source_distance=200.0, detector_distance=100.0),
        "cone-beam tomography": operators.cone_beam(
            angles[:8], (16, 16, 16, 1), (24, 24), source_distance=60.0, detector_distance=30.0
        ),
        "ptychography": operators.Ptychography(
            operators.disc_probe((16, 16), 6.0), operators.raster_scan((64, 64), (16, 16), 8), shape
        ),
    }
    for name, A in cases.items():
        yield Row(f"adjoint of {name}, float32", "1e-5", f"{dot(A):.0e}")


def norms() -> Iterator[Row]:
    for name, figure in (("gaussian", 0.248), ("bilinear", 0.236), ("bicubic", 0.243)):
        value = float(operators.downsampling((32, 32, 1), 2, name).norm()) ** 2
        yield Row(f"norm² of downsampling by 2, {name} (power iteration, loose)", f"{figure:.3f}", f"{value:.3f}")
    yield Row("norm² of the luminance", "0.447", f"{float(operators.decolorise((8, 8, 3)).norm()) ** 2:.3f}")
    A = operators.GaussianSensing(KEY, 1024, (64, 64, 1))
    value = abs(float(A.norm()) ** 2 / (1 + np.sqrt(4)) ** 2 - 1)
    yield Row(
        "norm² of Gaussian sensing, n = 4096, m = 1024, relative to (1 + sqrt(n/m))²", "3 %", f"{100 * value:.1f} %"
    )
    A = operators.parallel_beam(jnp.linspace(0, jnp.pi, 60, endpoint=False), (64, 64, 1), 91)
    yield Row("norm² of tomography, 64 x 64, 60 angles, over 60 · 64", "0.966", f"{float(A.norm()) ** 2 / 3840:.3f}")
    N = 64
    exact = 2 * 4 * np.sin(np.pi * (N - 1) / (2 * N)) ** 2
    value = abs(float(operators.FiniteDifferences((N, N, 1)).norm()) ** 2 / exact - 1)
    yield Row("norm² of differences against its closed form", "exact", f"{value:.0e}")
    maps = operators.normalise_maps(operators.birdcage_maps((32, 32, 1), 6))
    A = operators.multi_coil_mri(None, maps, (32, 32, 1))
    x = jnp.asarray(R.normal(size=(32, 32, 1)) + 0j, jnp.complex64)
    yield Row("normalised coil maps, full mask: A^H A x against x", "exact", f"{relative(A.H(A(x)), x):.0e}")


def transforms_of_images() -> Iterator[Row]:
    x = jnp.asarray(R.normal(size=(16, 16, 1)), jnp.float32)
    H = operators.Hadamard((16, 16, 1))
    M = scipy.linalg.hadamard(16) / 4
    yield Row("Hadamard 16 x 16 against SciPy", "exact", f"{relative(H(x)[..., 0], M @ x[..., 0] @ M):.0e}")
    A = operators.structured_random(KEY, (32, 32, 1))
    z = jnp.asarray(R.normal(size=(32, 32, 1)) + 0j, jnp.complex64)
    value = abs(float(jnp.linalg.norm(A(z)) / jnp.linalg.norm(z)) - 1)
    yield Row("structured random, norm of A x against that of x", "1e-6", f"{value:.0e}")
    W = operators.Wavelet((32, 32, 1), "db4", 1)
    y = R.normal(size=(32, 32, 1)).astype(np.float32)
    approx, details = pywt.dwt2(y[..., 0], "db4", mode="periodization")
    exact = np.block([[approx, details[1]], [details[0], details[2]]])
    ours = np.asarray(W(y))[..., 0]
    error = min(relative(ours, exact), relative(ours, np.block([[approx, details[0]], [details[1], details[2]]])))
    yield Row("wavelets against PyWavelets", "1e-5", f"{error:.0e}")
    g = jnp.float32(0.3)
    T = transforms.ShearRotation()
    error = relative(T.apply_inverse(g, T.apply(g, jnp.asarray(y))), y)
    yield Row("rotation by shears and back", "exact", f"{error:.0e}")


def fourier_sampling() -> Iterator[Row]:
    shape, points = (16, 16, 1), R.uniform(-np.pi, np.pi, (50, 2)).astype(np.float32)
    x = (R.normal(size=shape) + 1j * R.normal(size=shape)).astype(np.complex64)
    A = operators.NUFFT(points, shape)
    grid = np.arange(16) - 8
    phase = np.exp(-1j * (points[:, 0, None, None] * grid[:, None] + points[:, 1, None, None] * grid[None]))
    exact = np.sum(phase * x[..., 0], (1, 2))[:, None] / 16
    yield Row("non-uniform Fourier transform against the direct sum, float32", "1e-4", f"{relative(A(x), exact):.0e}")
    yield Row("Toeplitz form of A^H A against A^H A, float32", "1e-3", f"{relative(A.gram(x), A.H(A(x))):.0e}")


def tomography() -> Iterator[Row]:
    size, angles = 256, jnp.linspace(0, jnp.pi, 180, endpoint=False)
    A = operators.parallel_beam(angles, (size, size, 1), 256, pixel_size=2 / size)
    x = data.shepp_logan(size)
    project: Callable = jax.jit(lambda A, x: A(x))
    exact = data.shepp_logan_line_integrals(*A.rays())
    y = project(A, x)
    yield Row(
        "Shepp-Logan sinogram at 256 against its closed form, relative L2",
        "2 %",
        f"{100 * relative(y, exact):.2f} %",
    )
    smooth = jnp.asarray(smooth_image(size), jnp.float32)
    y = project(A, smooth)
    total = float(smooth.sum()) * (2 / size) ** 2
    mass = np.abs(np.asarray(y).sum((1, 2)) * (2 / size) / total - 1).max()
    yield Row("mass of the projections", "0.5 %", f"{100 * mass:.4f} %")
    psnr = metrics.psnr(operators.filtered_back_projection(A, y), smooth)
    yield Row("filtered back-projection of a smooth phantom, 180 angles", "at least 30 dB", f"{float(psnr):.1f} dB")


def noise() -> Iterator[Row]:
    z = jnp.full(1_000_000, 0.5)
    draw: Callable = jax.jit(lambda noise: noise.sample(KEY, z))
    cases = {
        "Gaussian(0.2)": (likelihoods.Gaussian(0.2), 0.5, 0.04),
        "Poisson(0.1)": (likelihoods.Poisson(0.1), 0.5, 0.05),
        "PoissonGaussian(0.1, 0.2)": (likelihoods.PoissonGaussian(0.1, 0.2), 0.5, 0.09),
        "Gamma(4)": (likelihoods.Gamma(4.0), 0.5, 0.0625),
        "Uniform(0.3)": (likelihoods.Uniform(0.3), 0.5, 0.03),
        "Laplace(0.2)": (likelihoods.Laplace(0.2), 0.5, 0.08),
    }
    for name, (law, mean, variance) in cases.items():
        y = np.asarray(draw(law), np.float64)
        errors = 100 * abs(y.mean() / mean - 1), 100 * abs(y.var() / variance - 1)
        yield Row(f"{name}: mean and variance of 1e6 draws", "1 %, 2 %", f"{errors[0]:.2f} %, {errors[1]:.2f} %")
    y = np.asarray(draw(likelihoods.LogPoisson(1024.0, 0.02)), np.float64)
    yield Row("LogPoisson(1024, 0.02): variance at 0.5", "2.466", f"{y.var():.3f}")


def prior_values() -> Iterator[Row]:
    z = priors.TV((2, 1, 1), 1.0).prox(jnp.array([0.0, 1.0]).reshape(2, 1, 1), 0.1).ravel()
    yield Row("prox of TV on two pixels 0 and 1, step 0.1", "0.1000, 0.9000", f"{float(z[0]):.4f}, {float(z[1]):.4f}")
    value = likelihoods.Gaussian(0.5).potential(jnp.zeros(4), jnp.ones(4))
    yield Row("Gaussian fidelity of zeros against ones, n = 4, sigma = 0.5", "8", f"{float(value):g}")


def main() -> None:
    print("| what | figure | measured |\n|---|---|---|")
    for part in (adjoints, norms, transforms_of_images, fourier_sampling, tomography, noise, prior_values):
        for row in part():
            print(f"| {row.item} | {row.figure} | {row.value} |", flush=True)


if __name__ == "__main__":
    main()
