"""DeepInverse's loop over weights: its Chambolle-Pock (the same iteration as ours) and its FISTA with its TV prior.

A length-B weight is a schedule over iterations there, so weights cannot be batched. Only some weights are run; the harness
scales to all.
"""

from __future__ import annotations

import numpy as np
from common import Variant, arguments, fastest_threads, psnr, serve

args, problem = arguments()

import deepinv  # noqa: E402
import torch  # noqa: E402
from deepinv.optim import FISTA, L2, TVPrior  # noqa: E402
from deepinv_common import primal_dual, tensor, versions  # noqa: E402

y, start = tensor(problem["y"]), tensor(problem["start"])
physics = deepinv.physics.BlurFFT(img_size=(1, *y.shape[2:]), filter=tensor(problem["kernel"]))
tau, steps = float(problem["tau"]), int(problem["num_steps"])
count = len(problem["weights"])
rows = [count // 3] if args.quick else [int(r) for r in np.linspace(0, count - 1, 4)]


def chambolle_pock(weight: float, steps: int = steps) -> torch.Tensor:
    solver, init = primal_dual(start, weight, tau, steps)
    return solver(y, physics, init=init)


def fista(weight: float) -> torch.Tensor:
    prior = TVPrior(n_it_max=10)
    solver = FISTA(data_fidelity=L2(), prior=prior, lambda_reg=weight, stepsize=1.0, max_iter=steps)
    return solver(y, physics)  # from A^H y


def variant(solve) -> Variant:
    def report(images: list) -> dict:
        return {"rows": rows, "psnrs": [psnr(x[0, 0].numpy(), problem["clean"]) for x in images], "threads": threads}

    return Variant(lambda: [solve(float(problem["weights"][row])) for row in rows], report)


if __name__ == "__main__":
    threads = fastest_threads(torch.set_num_threads, lambda: chambolle_pock(0.003, 10), args.threads)
    variants = {"PDCP loop": variant(chambolle_pock)}
    if not args.quick:
        variants["FISTA loop, TV prior 10 inner"] = variant(fista)
    serve(variants, versions(threads))
