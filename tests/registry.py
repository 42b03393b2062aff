"""Every operator, likelihood, prior, solver and sampler of the package: one line each, run through all contracts.

A constructor takes a NumPy generator and builds a small instance from scratch, so that contracts can build a thing twice
with new arrays and check that nothing compiles again: ``build(OPERATORS, name, seed)``.
"""

import contextlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from invjax import generators
from invjax import operators as ops
from invjax import transforms as tf


@contextlib.contextmanager
def strictly():
    """Refuse implicit dtype and rank promotion: put around our own calls only."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def kernel(r, shape=(3, 4)):
    """A random positive kernel of sum one."""
    k = r.uniform(0.1, 1, shape)
    return k / k.sum()


def kernels(r, count, spatial, channels=()):
    """Random positive kernels that are dominated by their centres, so that operators made of them are well conditioned."""
    k = r.uniform(0.05, 0.1, (*count, *spatial, *channels))
    k[(*(slice(None),) * len(count), *(n // 2 for n in spatial))] += 1
    return k


def mask(r):
    return r.uniform(size=(8, 6, 1)) > 0.4


def matrix(r, complex=True):
    return r.normal(size=(5, 4)) + (1j * r.normal(size=(5, 4)) if complex else 0)


def maps(r, coils=3, shape=(8, 6, 1)):
    """Random complex coil maps."""
    return r.normal(size=(coils, *shape)) + 1j * r.normal(size=(coils, *shape))


def points(r, shape=(6, 5)):
    """A Cartesian grid of twice the density, jittered: more Fourier samples than pixels, well conditioned."""
    axes = (2 * np.pi * (np.arange(2 * n) - n) / (2 * n) for n in shape)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    return grid + r.uniform(-0.2, 0.2, grid.shape)


def turns(r, num):
    """Equally spaced angles of a half turn, from a random one."""
    return np.pi * (np.arange(num) + r.uniform()) / num


def prng(r):
    return jax.random.key(int(r.integers(2**31)))


def complex_normal(r, shape):
    return r.normal(size=shape) + 1j * r.normal(size=shape)


def ptychography(r, shifts=((0, 1), (4, 3)), channels=1):
    """A scan over an 8 x 7 object; the probe is smooth, so that floating shifts can be differentiated accurately."""
    smooth = np.exp(-(np.linspace(-1.5, 1.5, 4)[:, None] ** 2) - np.linspace(-1.5, 1.5, 4) ** 2)[..., None]
    probe = smooth * (1 + 0.2 * complex_normal(r, (1, 1, channels)))
    return ops.Ptychography(probe, shifts, (8, 7, 2))


IMAGE = (8, 6, 2)
VOLUME = (4, 4, 6, 1)

OPERATORS = {
    "identity": lambda r: ops.Identity(IMAGE),
    "mask": lambda r: ops.Mask(mask(r), IMAGE),
    "matrix": lambda r: ops.Matrix(matrix(r, complex=False), (2, 2)),
    "matrix_complex": lambda r: ops.Matrix(matrix(r)),
    "function": lambda r: ops.from_function(
        lambda x, w: jnp.cumsum(x * w, axis=0)[1:], IMAGE, r.normal(size=(1, 6, 1))
    ),
    "function_real_to_complex": lambda r: ops.from_function(lambda x: jnp.fft.rfft2(x, axes=(0, 1)), IMAGE),
    "blur_circular": lambda r: ops.Blur(kernel(r), IMAGE),
    "blur_circular_odd": lambda r: ops.Blur(kernel(r), (7, 9, 1)),
    "blur_channels": lambda r: ops.Blur(r.uniform(size=(3, 3, 2)), IMAGE),
    "blur_complex": lambda r: ops.Blur(kernel(r) * (1 + 0.3j), IMAGE, complex=True),
    "blur_valid": lambda r: ops.Blur(kernel(r), IMAGE, "valid"),
    "blur_zero": lambda r: ops.Blur(kernel(r), IMAGE, "zero"),
    "blur_reflect": lambda r: ops.Blur(kernel(r), IMAGE, "reflect"),
    "blur_replicate": lambda r: ops.Blur(kernel(r), IMAGE, "replicate"),
    "blind_kernel": lambda r: ops.BlindBlur(IMAGE, (3, 4)).of_kernel(r.uniform(size=IMAGE)),
    "blur_3d": lambda r: ops.Blur(r.uniform(size=(2, 3, 3)), VOLUME),
    "blur_3d_zero": lambda r: ops.Blur(r.uniform(size=(2, 3, 3)), VOLUME, "zero"),
    "space_varying": lambda r: ops.SpaceVaryingBlur(kernels(r, (2,), (3, 4)), r.uniform(size=(2, 8, 6, 1)), IMAGE),
    "convolution_product_complex": lambda r: ops.SpaceVaryingBlur(
        kernels(r, (2,), (3, 2)) * (1 + 0.3j),
        r.uniform(0.5, 1, (2, 8, 6, 1)) * (1 - 0.2j),
        IMAGE,
        "replicate",
        order="convolution_product",
        complex=True,
    ),
    "tiled_blur_reflect": lambda r: ops.TiledBlur(kernels(r, (2, 2), (3, 2), (2,)), IMAGE, (2, 1), "reflect"),
    "tiled_blur_complex": lambda r: ops.TiledBlur(
        kernels(r, (1, 3), (3, 2)) * (1 + 0.3j), IMAGE, (2, 0), "circular", complex=True
    ),
    "resize": lambda r: ops.Resize(IMAGE, (4, 2)),
    "resize_larger": lambda r: ops.Resize((4, 3, 1), (8, 9), "lanczos"),
    "resize_mixed": lambda r: ops.Resize(IMAGE, (5, 9), "bilinear", complex=True),
    "decimate": lambda r: ops.Decimate(IMAGE, 2),
    "downsampling_gaussian": lambda r: ops.downsampling((12, 10, 1), 2),
    "downsampling_bicubic": lambda r: ops.downsampling((12, 9, 1), 3, kernel(r)),
    "downsampling_complex": lambda r: ops.downsampling(IMAGE, 2, kernel(r), complex=True),
    "downsampling_3d": lambda r: ops.downsampling(VOLUME, 2, kernel(r)[None]),
    "differences": lambda r: ops.FiniteDifferences(IMAGE),
    "differences_circular": lambda r: ops.FiniteDifferences(IMAGE, "circular"),
    "differences_complex": lambda r: ops.FiniteDifferences(IMAGE, "circular", complex=True),
    "differences_3d": lambda r: ops.FiniteDifferences(VOLUME),
    "wavelet_haar": lambda r: ops.Wavelet((8, 4, 2), "haar"),
    "wavelet_db3": lambda r: ops.Wavelet((8, 12, 1), "db3", 2),
    "wavelet_3d_complex": lambda r: ops.Wavelet(VOLUME, "db2", 1, complex=True),
    "fourier": lambda r: ops.FourierTransform(IMAGE),
    "fourier_centred": lambda r: ops.FourierTransform((7, 6, 1), centred=True),
    "mri": lambda r: ops.single_coil_mri(mask(r)[..., 0], IMAGE),
    "mri_of_real": lambda r: ops.single_coil_mri(r.uniform(size=(7, 6, 1)), (7, 6, 1)) @ ops.as_complex((7, 6, 1)),
    "mri_of_real_uncentred": lambda r: ops.single_coil_mri(mask(r), IMAGE, centred=False) @ ops.as_complex(IMAGE),
    "as_complex": lambda r: ops.as_complex(IMAGE),
    "fourier_of_real": lambda r: ops.FourierTransform(IMAGE) @ ops.as_complex(IMAGE),
    "fourier_axes": lambda r: ops.FourierTransform((2, 4, 5, 1), centred=True, axes=(1, 2)),
    "modulation": lambda r: ops.Modulation(r.normal(size=(3, 8, 1, 2)), IMAGE),
    "mri_multi_coil": lambda r: ops.multi_coil_mri(mask(r), maps(r), IMAGE),
    "mri_multi_coil_full": lambda r: ops.multi_coil_mri(None, maps(r), IMAGE),
    "mri_dynamic": lambda r: ops.dynamic_mri(r.uniform(size=(3, 4, 5)) > 0.4, (3, 4, 5, 1)),
    "mri_dynamic_coils": lambda r: ops.dynamic_mri(
        r.uniform(size=(3, 1, 5, 1)) > 0.3, (3, 4, 5, 1), maps(r, 2, (4, 5, 1))
    ),
    "mri_sequential": lambda r: ops.sequential_mri(r.uniform(size=(3, 4, 5, 1)) > 0.5, (4, 5, 2)),
    "nufft": lambda r: ops.NUFFT(points(r), (6, 5, 2)),
    "toeplitz": lambda r: ops.Toeplitz(
        0.1 * maps(r, 2, (6, 10))[0] + np.outer(np.arange(6) == 3, np.arange(10) == 5), (3, 5, 2)
    ),
    "mri_non_cartesian": lambda r: ops.non_cartesian_mri(
        points(r), (6, 5, 1), maps(r, 2, (6, 5, 1)), r.uniform(0.5, 1, 120)
    ),
    "radio_interferometry": lambda r: ops.radio_interferometry(
        points(r) / 2e-3, (6, 5, 1), 1e-3 / np.pi, r.uniform(size=120)
    ),
    "crop": lambda r: ops.Crop(IMAGE, (5, 6, 1), (2, 0, 1)),
    "pad": lambda r: ops.pad((4, 3, 2), (6, 6, 2), complex=True),
    "cosine": lambda r: ops.CosineTransform((4, 6, 2)),
    "gaussian_sensing": lambda r: ops.GaussianSensing(prng(r), 10, (4, 3, 1), block=4),
    "gaussian_sensing_complex": lambda r: ops.GaussianSensing(prng(r), 7, (4, 3, 1), complex=True),
    "structured_random": lambda r: ops.structured_random(prng(r), (4, 6, 1), (3, 4, 1)),
    "structured_random_padded": lambda r: ops.structured_random(prng(r), (3, 4, 1), (5, 6, 1), transform="cosine"),
    "hadamard": lambda r: ops.Hadamard((4, 8, 2)),
    "single_pixel": lambda r: ops.single_pixel_camera((4, 8, 2), 11, "zig_zag"),
    "channel_matrix": lambda r: ops.ChannelMatrix(r.normal(size=(3, 2)), IMAGE),
    "channel_matrix_complex": lambda r: ops.ChannelMatrix(matrix(r)[:2, :2], IMAGE, complex=True),
    "decolorise": lambda r: ops.decolorise((4, 5, 3), r.uniform(0.1, 1, 3)),
    "demosaicing": lambda r: ops.demosaicing((4, 6, 3)),
    "demosaicing_packed": lambda r: ops.demosaicing((4, 6, 3), "GBRG", packed=True),
    "pansharpening": lambda r: ops.pansharpening((4, 6, 3), 2, r.uniform(0.1, 1, 3), kernel(r, (3, 3))),
    "snapshot_spectral": lambda r: ops.SnapshotSpectral(r.uniform(size=(8, 6, 1)), (8, 6, 3)),
    "coded_diffraction": lambda r: ops.coded_diffraction(generators.CodedMasks(IMAGE, 3)(prng(r)), IMAGE),
    "coded_diffraction_channels": lambda r: ops.coded_diffraction(complex_normal(r, (2, 5, 4, 2)), (5, 4, 2)),
    "phase_screen": lambda r: ops.PhaseScreen(r.normal(size=(8, 6, 1)), IMAGE),
    "angular_spectrum": lambda r: ops.angular_spectrum(IMAGE, [0.4, 0.5], 9.0, r.uniform(1, 1.2)),
    "angular_spectrum_evanescent": lambda r: ops.angular_spectrum(
        (5, 6, 1), r.uniform(0.9, 1), -0.2, (0.6, 0.5), band_limit=False
    ),
    "fresnel": lambda r: ops.fresnel(IMAGE, 0.5, r.uniform(3, 4), 1.0),
    "fresnel_transform": lambda r: ops.fresnel_transform((7, 6, 1), 0.5, r.uniform(9, 10), (1.0, 1.2)),
    "ptychography": lambda r: ptychography(r, channels=2),
    "ptychography_subpixel": lambda r: ptychography(r, r.uniform(0, 3, (2, 2))),
    "parallel_beam": lambda r: ops.parallel_beam(turns(r, 4), (6, 6, 1), 7),
    "parallel_beam_wide": lambda r: ops.parallel_beam(
        turns(r, 3), (4, 7, 2), 5, detector_spacing=1.5, pixel_size=0.9, oversample=2
    ),
    "parallel_beam_limited": lambda r: ops.parallel_beam(turns(r, 3) / 3, (5, 4, 1), 6, complex=True),
    "parallel_beam_3d": lambda r: ops.parallel_beam(turns(r, 3), (3, 4, 5, 1), (4, 6), detector_spacing=(0.8, 1.1)),
    "fan_beam": lambda r: ops.fan_beam(2 * turns(r, 4), (6, 5, 1), 8, source_distance=20.0, detector_distance=4.0),
    "cone_beam": lambda r: ops.cone_beam(
        2 * turns(r, 3), (3, 4, 5, 1), (4, 6), source_distance=20.0, detector_distance=3.0
    ),
    "adjoint": lambda r: ops.Blur(kernel(r), IMAGE, "valid").H,
    "transpose": lambda r: ops.Matrix(matrix(r)).T,
    "composed": lambda r: ops.Mask(mask(r), IMAGE) @ ops.Blur(kernel(r), IMAGE),
    "composed_spectra": lambda r: ops.Blur(kernel(r), IMAGE) @ (0.5 * ops.Blur(kernel(r), IMAGE)).H,
    "sum": lambda r: 2.0 * ops.Blur(kernel(r), IMAGE) - ops.Blur(kernel(r, (4, 3)), IMAGE),
    "scaled_complex": lambda r: (1 + 2j) * ops.FourierTransform(IMAGE),
    "gram": lambda r: ops.Blur(kernel(r), IMAGE, "valid").gram,
    "stack": lambda r: ops.stack([ops.Blur(kernel(r), IMAGE), ops.FiniteDifferences(IMAGE, "circular")]),
    "sum_with_identity": lambda r: ops.Blur(kernel(r), IMAGE).gram + 0.3 * ops.Identity(IMAGE),
    "diagonalised": lambda r: ops.Diagonalised(
        ops.Blur(kernel(r), IMAGE).gram.spectrum.map(jnp.sqrt), ops.structure(IMAGE)
    ),
    "stack_with_identity": lambda r: ops.stack(
        [ops.Identity(IMAGE), ops.FiniteDifferences(IMAGE), ops.Identity(IMAGE)]
    ),
    "stack_mixed": lambda r: ops.stack([ops.Mask(mask(r), IMAGE), ops.downsampling(IMAGE, 2, kernel(r))]),
    "reshape": lambda r: ops.Reshape(IMAGE, (4, 24)),
    "permute": lambda r: ops.Permute(VOLUME, (2, 0, 3, 1), complex=True),
    "patches": lambda r: ops.Patches(IMAGE, 3, 2),
    "patches_circular": lambda r: ops.Patches((3, 5, 4, 1), 2, 1, "circular", complex=True),
    "kronecker": lambda r: ops.kronecker([r.normal(size=(3, 4)), ops.Matrix(r.normal(size=(5, 3)))], (4, 3, 2)),
    "kronecker_complex": lambda r: ops.kronecker([matrix(r), r.normal(size=(3, 3))], (4, 3), complex=True),
    "batched_masks": lambda r: ops.batched(lambda m: ops.Mask(m, IMAGE), r.uniform(size=(3, 8, 6, 1))),
    "batched_blurs": lambda r: ops.batched(
        lambda k: ops.Blur(k, IMAGE, "valid"), r.uniform(size=(5, 3, 2)), batch_size=2
    ),
    "batched_matrices": lambda r: ops.batched(
        lambda m: ops.ChannelMatrix(m, IMAGE), r.normal(size=(4, 3, 2)), batch_size=2
    ),
    "at_scale": lambda r: ops.at_scale(ops.Mask(mask(r), IMAGE), 2, kernel(r)),
    "virtual_shift": lambda r: (
        ops.Mask(mask(r), IMAGE) @ tf.Shift((8, 6)).operator(jnp.asarray(r.integers(0, 6, 2)), IMAGE)
    ),
    "virtual_rotation": lambda r: ops.Blur(kernel(r), IMAGE) @ tf.Rotate().operator(r.uniform(0.3, 0.5), IMAGE),
    "block_diagonal_of_a_stack": lambda r: (
        ops.block_diagonal([ops.Mask(mask(r), IMAGE), 2.0 * ops.Identity((2, *IMAGE))])
        @ ops.stack([ops.Blur(kernel(r), IMAGE), ops.FiniteDifferences(IMAGE)])
    ),
    "block_diagonal": lambda r: ops.block_diagonal([ops.Blur(kernel(r), IMAGE), ops.Matrix(matrix(r))]),
}

NONLINEAR = {
    "phase_retrieval": lambda r: ops.PhaseRetrieval(ops.Matrix(matrix(r), (2, 2))),
    "phase_retrieval_real": lambda r: ops.PhaseRetrieval(ops.Blur(kernel(r), IMAGE)),
    "phase_retrieval_gaussian": lambda r: ops.PhaseRetrieval(ops.GaussianSensing(prng(r), 7, (4, 3, 1), complex=True)),
    "phase_retrieval_structured": lambda r: ops.PhaseRetrieval(ops.structured_random(prng(r), (3, 4, 1), (5, 6, 1))),
    "phase_retrieval_coded": lambda r: ops.PhaseRetrieval(
        ops.coded_diffraction(generators.CodedMasks(IMAGE, 3)(prng(r)), IMAGE)
    ),
    "phase_retrieval_ptychography": lambda r: ops.PhaseRetrieval(ptychography(r)),
    "phase_retrieval_stack": lambda r: ops.PhaseRetrieval(
        ops.stack([ops.FourierTransform(IMAGE), ops.Mask(complex_normal(r, IMAGE))])
    ),
    "haze": lambda r: ops.Haze(IMAGE, r.uniform(0.1, 0.5), r.uniform(0, 0.5)),
    "wrapped_phase": lambda r: ops.WrappedPhase(IMAGE, r.uniform(0.5, 1)),
    "wrapped_phase_floor": lambda r: ops.WrappedPhase(IMAGE, r.uniform(0.5, 1), "floor"),
    "linear_after": lambda r: ops.Mask(mask(r), IMAGE) @ ops.PhaseRetrieval(ops.FourierTransform(IMAGE)),
    "linear_before": lambda r: (
        ops.PhaseRetrieval(ops.FourierTransform(IMAGE)) @ ops.Blur(kernel(r), IMAGE, complex=True)
    ),
    "linear_both": lambda r: (
        ops.Blur(kernel(r), IMAGE)
        @ ops.Haze(IMAGE)
        @ ops.block_diagonal(
            [ops.Blur(kernel(r), IMAGE), ops.Identity((8, 6, 1)), ops.Matrix(matrix(r, complex=False)[:2, :2])]
        )
    ),
    "nonlinear_twice": lambda r: ops.WrappedPhase(IMAGE) @ ops.PhaseRetrieval(ops.FourierTransform(IMAGE)),
}


def build(registry, name, seed=0):
    """The registered thing ``name`` with arrays drawn from ``seed``."""
    return registry[name](np.random.default_rng(seed))


@eqx.filter_jit
def call(thing, name, *arguments):
    """``thing.name(*arguments)`` as one compiled program: eager, every small operation compiles on its own."""
    return getattr(thing, name)(*arguments)


def random_like(r, struct, batch=()):
    """Standard normal NumPy arrays of a structure (complex ones have unit variance in total), with leading batch axes."""

    def one(s):
        shape = (*batch, *s.shape)
        if np.issubdtype(s.dtype, np.complexfloating):
            return ((r.normal(size=shape) + 1j * r.normal(size=shape)) / np.sqrt(2)).astype(s.dtype)
        return r.normal(size=shape).astype(s.dtype)

    return jax.tree.map(one, struct)
