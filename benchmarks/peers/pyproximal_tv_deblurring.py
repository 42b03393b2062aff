"""PyProximal on TV deblurring: primal-dual and linearised ADMM with a closed-form prox of the data term.

PyProximal's ``L2`` solves a linear system by LSQR at every step (the third variant); the prox in Fourier space is written
here, as its documentation invites users to, since it is faster. SciPy's transforms run on ``--threads`` threads.
"""

from __future__ import annotations

import numpy as np
from common import Variant, arguments, objective, quality, serve, steps_to_gap, transfer_function

args, problem = arguments()

import pylops  # noqa: E402
import pyproximal  # noqa: E402
import scipy.fft  # noqa: E402

shape = problem["y"].shape
weight = float(problem["weight"])
start = problem["start"].ravel().astype(np.float32)


class Misfit(pyproximal.ProxOperator):
    """``|h * x - y|^2 / 2`` with its prox in Fourier space."""

    def __init__(self):
        super().__init__(None, False)
        h = transfer_function(problem["kernel"], shape)
        self.back = (np.conj(h) * np.fft.rfft2(problem["y"])).astype(np.complex64)
        self.gram = (np.abs(h) ** 2).astype(np.float32)

    def __call__(self, x):
        return objective(x, {**problem, "weight": 0.0})

    def prox(self, x, tau):
        tau = np.float32(tau)
        hat = scipy.fft.rfft2(x.reshape(shape), workers=args.threads)
        hat = (hat + tau * self.back) / (1 + tau * self.gram)
        return scipy.fft.irfft2(hat, shape, workers=args.threads).ravel()


gradient = pylops.Gradient(shape, kind="forward", edge=False, dtype="float32")
misfit, l21 = Misfit(), pyproximal.L21(ndim=2, sigma=weight)


class CircularBlur(pylops.LinearOperator):
    """Circular convolution as a PyLops operator, for PyProximal's own ``L2``."""

    def __init__(self):
        self.h = transfer_function(problem["kernel"], shape).astype(np.complex64)
        super().__init__(dtype="float32", shape=(start.size, start.size))

    def _filter(self, h, x):
        hat = h * scipy.fft.rfft2(x.reshape(shape), workers=args.threads)
        return scipy.fft.irfft2(hat, shape, workers=args.threads).ravel()

    def _matvec(self, x):
        return self._filter(self.h, x)

    def _rmatvec(self, x):
        return self._filter(self.h.conj(), x)


def library_misfit() -> pyproximal.L2:
    """PyProximal's data term: an iterative solve at every step, warm-started."""
    return pyproximal.L2(CircularBlur(), b=problem["y"].ravel().astype(np.float32), niter=10, warm=True)


def primal_dual(tau: float, data_term=misfit):
    """Chambolle-Pock with ``tau mu |D|^2 = 1``."""

    def run(steps: int, visit=None):
        return pyproximal.optimization.primaldual.PrimalDual(
            data_term, l21, gradient, x0=start, tau=tau, mu=1 / (8 * tau), niter=steps, callback=visit
        )

    return run


def linearised_admm(tau: float):
    """Linearised ADMM: no linear system for x."""

    def run(steps: int, visit=None):
        return pyproximal.optimization.primal.LinearizedADMM(
            misfit, l21, gradient, x0=start, tau=tau, mu=tau / 8, niter=steps, callback=visit
        )[0]

    return run


class Reached(Exception):
    """Ends a run from within a callback."""


def variant(run, longest: int = 400) -> Variant:
    def iterates(visit):
        def callback(x, *_):
            if visit(x):
                raise Reached

        try:
            run(longest, callback)
        except Reached:
            return

    steps = steps_to_gap(iterates, problem)

    def report(x: np.ndarray) -> dict:
        own = misfit(problem["clean"]) + l21(gradient @ problem["clean"].ravel())
        same = abs(own / objective(problem["clean"], problem, "neumann") - 1)
        return {"steps": steps or longest, **quality(x, problem), "objective_disagreement": same}

    return Variant(lambda: run(steps or longest), report)


def main() -> None:
    variants = {"PrimalDual": variant(primal_dual(2.5))}
    if not args.quick:
        variants["LinearizedADMM"] = variant(linearised_admm(20.0))
        variants["PrimalDual, L2 by LSQR"] = variant(primal_dual(2.5, library_misfit()))
    serve(variants, {"pyproximal": pyproximal.__version__, "pylops": pylops.__version__, "numpy": np.__version__})


if __name__ == "__main__":
    main()
