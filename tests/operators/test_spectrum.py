"""Calculus of known spectra: the algebra keeps them, so that norm, prox and pseudo-inverse need no iteration."""

import equinox as eqx
import jax
import numpy as np
import pytest

from invjax import operators as ops
from invjax.operators import krylov, services
from invjax.operators.structure import at_precision

from ..registry import OPERATORS, build, random_like


def rng(seed=0):
    return np.random.default_rng(seed)


def blur(seed=0, shape=(8, 6, 1), **options):
    return ops.Blur(rng(seed).normal(size=(3, 4)), shape, **options)


def mri():
    return ops.single_coil_mri(rng().uniform(size=(8, 6)) > 0.4, (8, 6, 1), centred=False)


def grams(shape):
    return {
        "fourier": ops.FiniteDifferences(shape, "circular").gram,
        "fourier_complex": ops.FiniteDifferences(shape, "circular", complex=True).gram,
        "cosine": ops.FiniteDifferences(shape).gram,
        "pixel": ops.Mask(np.arange(1.0, shape[0] + 1).reshape(-1, 1, 1), shape),
        "identity": 0.7 * ops.Identity(shape),
    }


@pytest.mark.parametrize("shape", [(4, 6, 2), (3, 5, 1)])
@pytest.mark.parametrize("name", grams((4, 6, 2)))
def test_trace_counts_every_eigenvalue(name, shape):
    A = grams(shape)[name]
    np.testing.assert_allclose(A.spectrum.trace(A.in_structure), np.trace(np.asarray(A.dense())), rtol=1e-12)


def test_a_multiple_of_the_identity_keeps_every_spectrum():
    shape = (4, 6, 2)
    wavelets = ops.Wavelet(shape, "haar", 1)
    for A in (grams(shape)["cosine"], grams(shape)["fourier"], wavelets.gram):
        for total in (A + 0.3 * ops.Identity(shape), 0.3 * ops.Identity(shape) + A):
            np.testing.assert_allclose(total.norm(), np.linalg.norm(np.asarray(total.dense()), 2), rtol=1e-12)
            assert total.spectrum is not None
    assert (grams(shape)["cosine"] + grams(shape)["fourier"]).spectrum is None
    known = {name: build(OPERATORS, name).gram_spectrum is not None for name in ("stack", "stack_with_identity")}
    assert known == {"stack": True, "stack_with_identity": True}
    assert ops.stack([ops.FiniteDifferences(shape), ops.Blur(np.ones((2, 2)), shape)]).gram_spectrum is None


DIAGONALISABLE = {
    "product": lambda: blur() @ blur(1),
    "product_with_adjoint": lambda: blur() @ blur(1).H @ (2.0 * blur(2)),
    "sum": lambda: blur() + 3.0 * blur(1) - blur(2).H,
    "complex_scale": lambda: (1 + 2j) * mri(),
    "gram": lambda: blur().gram @ blur(1),
    "gram_of_differences": lambda: ops.FiniteDifferences((8, 6, 1)).gram,
    "transpose": lambda: blur().T,
    "gram_plus_gram": lambda: blur().gram + 0.1 * ops.FiniteDifferences((8, 6, 1), "circular").gram,
    "stack": lambda: ops.stack([blur(), blur(1), ops.FiniteDifferences((8, 6, 1), "circular")]),
    "stack_after_blur": lambda: ops.stack([blur(), ops.FiniteDifferences((8, 6, 1), "circular")]) @ blur(2),
    "decimated_product": lambda: 2.0 * (ops.downsampling((8, 6, 1), 2, rng().normal(size=(3, 4))) @ blur(1)),
    "blur_after_decimation": lambda: blur(1, (8, 6, 1)) @ ops.downsampling((16, 12, 1), 2),
    "decimation_twice": lambda: ops.Decimate((8, 6, 1), 1) @ ops.downsampling((16, 12, 1), 2),
    "wavelet_of_blur": lambda: ops.Wavelet((8, 6, 1), "haar", 1) @ ops.Mask(rng().uniform(size=(8, 6, 1))),
    "decimated_identity": lambda: ops.Decimate((8, 6, 1), 2) @ ops.Wavelet((8, 6, 1), "haar", 1).H,
    "complex_blur_in_k_space": lambda: mri() @ (ops.FourierTransform((8, 6, 1)).H @ mri()),
    "blocks": lambda: ops.block_diagonal([blur(), mri()]),
}


@pytest.mark.parametrize("name", DIAGONALISABLE)
def test_diagonalisable_algebra_needs_no_iteration(name, monkeypatch):
    A = DIAGONALISABLE[name]()
    r = rng(4)
    x, y = (random_like(r, at_precision(s, "float64")) for s in (A.in_structure, A.out_structure))

    def forbidden(*args, **kwargs):
        raise AssertionError("an iterative method ran although the spectrum follows from the factors")

    monkeypatch.setattr(krylov, "_conjugate_gradients", forbidden)
    monkeypatch.setattr(services, "_lanczos_norm", forbidden)

    def flat(tree):
        return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])

    program = eqx.filter_jit(lambda A, x, y: (A.dense(), A.norm(), A.H(y), A.prox(x, y, 0.4), A.pinv(y)))
    M, norm, back, prox, pinv = jax.tree.map(np.asarray, program(A, x, y))
    np.testing.assert_allclose(norm, np.linalg.norm(M, 2), rtol=1e-12)
    G = M.conj().T @ M
    exact = np.linalg.solve(np.eye(len(G)) + 0.4 * G, flat(x) + 0.4 * flat(back))
    np.testing.assert_allclose(flat(prox), exact, atol=1e-10)
    np.testing.assert_allclose(flat(pinv), np.linalg.pinv(M, rcond=1e-10) @ flat(y), atol=1e-9)
