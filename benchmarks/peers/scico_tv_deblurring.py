"""SCICO on TV deblurring: ADMM with its closed-form circular solver, PDHG, and that ADMM with its step wrapped in ``jax.jit``.

SCICO's optimisers are Python objects that are changed in place, so every iteration is dispatched operation by operation;
the third variant is not its documented use: it reads the state out of the object and back inside one compiled function.
"""

from __future__ import annotations

import numpy as np
from common import Variant, arguments, objective, quality, serve, steps_to_gap

args, problem = arguments()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import scico  # noqa: E402
from scico import functional, linop, loss  # noqa: E402
from scico.optimize import PDHG  # noqa: E402
from scico.optimize.admm import ADMM, CircularConvolveSolver  # noqa: E402

weight, boundary = float(problem["weight"]), str(problem["boundary"])
y, start = jnp.asarray(problem["y"]), jnp.asarray(problem["start"])
kernel = jnp.asarray(problem["kernel"])
centre = [n // 2 for n in kernel.shape]
A = linop.CircularConvolve(kernel, input_shape=y.shape, h_center=jnp.asarray(centre, jnp.float32))
if boundary == "circular":
    D = linop.FiniteDifference(input_shape=y.shape, circular=True)
else:
    D = linop.FiniteDifference(input_shape=y.shape, append=0)
f, g = loss.SquaredL2Loss(y=y, A=A), weight * functional.L21Norm(l2_axis=0)


def admm(rho: float, relaxation: float) -> ADMM:
    """ADMM on ``z = D x``; the quadratic step is closed form for circular differences."""
    return ADMM(
        f=f,
        g_list=[g],
        C_list=[D],
        rho_list=[rho],
        alpha=relaxation,
        x0=start,
        maxiter=1,
        subproblem_solver=CircularConvolveSolver(),
    )


class ProxMisfit(functional.Functional):
    """``f`` with its prox in Fourier space: SCICO's own prox of a loss with a blur is a conjugate-gradient solve."""

    has_eval = True
    has_prox = True

    def __init__(self):
        self.back = jnp.conj(A.h_dft) * jnp.fft.fft2(y)
        self.gram = jnp.abs(A.h_dft) ** 2

    def __call__(self, x):
        return f(x)

    def prox(self, v, lam=1.0, **kwargs):
        return jnp.fft.ifft2((jnp.fft.fft2(v) + lam * self.back) / (1 + lam * self.gram)).real


def pdhg(tau: float) -> PDHG:
    """Chambolle-Pock with ``tau sigma |D|^2 = 1``."""
    return PDHG(f=ProxMisfit(), g=g, C=D, tau=tau, sigma=1 / (8 * tau), x0=start, maxiter=1)


def in_place(build):
    """As documented: step by step, from Python."""

    def run(steps: int, visit=None):
        solver = build()
        for _ in range(steps):
            solver.step()
            if visit is not None and visit(np.asarray(solver.x)):
                break
        return solver.x

    return run


def wrapped(rho: float, relaxation: float):
    """The same ADMM with one compiled function per iteration."""
    solver = admm(rho, relaxation)
    first = (solver.z_list[0], solver.u_list[0])

    @jax.jit
    def step(z, u):
        solver.z_list, solver.u_list = [z], [u]
        solver.step()
        return solver.x, solver.z_list[0], solver.u_list[0]

    def run(steps: int, visit=None):
        z, u = first
        for _ in range(steps):
            x, z, u = step(z, u)
            if visit is not None and visit(np.asarray(x)):
                break
        return x

    return run


def variant(run, longest: int = 400) -> Variant:
    steps = steps_to_gap(lambda visit: run(longest, visit), problem)

    def report(x) -> dict:
        clean = jnp.asarray(problem["clean"])
        same = abs(float(f(clean) + g(D(clean))) / objective(problem["clean"], problem) - 1)
        return {"steps": steps or longest, **quality(np.asarray(x), problem), "objective_disagreement": same}

    return Variant(lambda: run(steps or longest), report)


def main() -> None:
    runs = {"PDHG": in_place(lambda: pdhg(2.5))}
    if boundary == "circular":
        runs = {"ADMM": in_place(lambda: admm(0.06, 1.8)), "ADMM, step in jit": wrapped(0.06, 1.8), **runs}
    if args.quick:
        runs = dict(list(runs.items())[:1])
    serve(
        {name: variant(run) for name, run in runs.items()},
        {"scico": scico.__version__, "jax": jax.__version__},
        jax.block_until_ready,
    )


if __name__ == "__main__":
    main()
