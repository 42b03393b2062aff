"""Calculus of known spectra: multiples of the identity in every basis, traces with multiplicity."""

import numpy as np
import pytest

from invjax import operators as ops

from ..registry import OPERATORS, build


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
