"""Every operator, likelihood, prior, solver and sampler of the package: one line each, run through all contracts.

A constructor takes a NumPy generator and builds a small instance from scratch, so that contracts can build a thing twice
with new arrays and check that nothing compiles again: ``build(OPERATORS, name, seed)``.
"""

import contextlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from invjax import operators as ops


@contextlib.contextmanager
def strictly():
    """Refuse implicit dtype and rank promotion: put around our own calls only."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def kernel(r, shape=(3, 4)):
    """A random positive kernel of sum one."""
    k = r.uniform(0.1, 1, shape)
    return k / k.sum()


def mask(r):
    return r.uniform(size=(8, 6, 1)) > 0.4


def matrix(r, complex=True):
    return r.normal(size=(5, 4)) + (1j * r.normal(size=(5, 4)) if complex else 0)


def prng(r):
    return jax.random.key(int(r.integers(2**31)))


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
    "blur_3d": lambda r: ops.Blur(r.uniform(size=(2, 3, 3)), VOLUME),
    "blur_3d_zero": lambda r: ops.Blur(r.uniform(size=(2, 3, 3)), VOLUME, "zero"),
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
    "block_diagonal_of_a_stack": lambda r: (
        ops.block_diagonal([ops.Mask(mask(r), IMAGE), 2.0 * ops.Identity((2, *IMAGE))])
        @ ops.stack([ops.Blur(kernel(r), IMAGE), ops.FiniteDifferences(IMAGE)])
    ),
    "block_diagonal": lambda r: ops.block_diagonal([ops.Blur(kernel(r), IMAGE), ops.Matrix(matrix(r))]),
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
