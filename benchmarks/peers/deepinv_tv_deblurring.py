"""DeepInverse on TV deblurring: FISTA and PGD with its TV prior, and its Chambolle-Pock with its differences and l12 prior.

FISTA and PGD call its TV denoiser, warm-started by DeepInverse itself. "TVPrior()" is its default, up to 1000 inner iterations;
"tuned" is the best of inner 10, 20, 50, 100 and denoiser step 0.01 (its default), 0.1, 0.5: 10 and 0.5. With the default step and
10 inner iterations the gap is not reached. DeepInverse has no closed-form ADMM for TV.
"""

from __future__ import annotations

import sys

import numpy as np
from common import Variant, arguments, differences, fastest_threads, objective, quality, serve, steps_to_gap

args, problem = arguments()

import deepinv  # noqa: E402
import torch  # noqa: E402
from deepinv.models import TVDenoiser  # noqa: E402
from deepinv.optim import FISTA, L2, PGD, TVPrior  # noqa: E402
from deepinv_common import primal_dual, tensor, versions  # noqa: E402

LONGEST = 200  # steps within which a first-order method has to reach the gap

y, start, weight = tensor(problem["y"]), tensor(problem["start"]), float(problem["weight"])
physics = deepinv.physics.BlurFFT(img_size=(1, *y.shape[2:]), filter=tensor(problem["kernel"]))


def proximal(method: type, inner: int, tau: float):
    """A fresh solver (its TV denoiser keeps the dual variables of the last call); it starts from ``A^H y`` by itself."""

    def build(steps: int):
        prior = TVPrior(n_it_max=inner)
        prior.TVModel.tau = tau
        return method(data_fidelity=L2(), prior=prior, lambda_reg=weight, stepsize=1.0, max_iter=steps), None

    return build


def chambolle_pock(tau: float):
    return lambda steps: primal_dual(start, weight, tau, steps)


def solve(build, steps: int, visit=None) -> torch.Tensor:
    """``steps`` iterations; ``visit`` sees every iterate through the hook that DeepInverse offers for metrics."""
    solver, init = build(steps)
    if visit is None:
        return solver(y, physics, init=init)
    iterator = solver.fixed_point.iterator
    inner = iterator.forward

    def watched(*a, **k):
        out = inner(*a, **k)
        if visit(out["est"][0][0, 0].numpy()):
            raise StopIteration
        return out

    iterator.forward = watched
    try:
        return solver(y, physics, init=init)
    except StopIteration:
        return None


def variant(build, longest: int) -> Variant:
    steps = steps_to_gap(lambda visit: solve(build, longest, visit), problem)

    def report(x: torch.Tensor) -> dict:
        own = float(L2()(torch.from_numpy(problem["clean"])[None, None].float(), y, physics).sum())
        own += weight * float(TVPrior().fn(torch.from_numpy(problem["clean"])[None, None].float()).sum())
        same = abs(own / objective(problem["clean"], problem, "neumann") - 1)
        return {"steps": steps or longest, **quality(x[0, 0].numpy(), problem), "objective_disagreement": same}

    return Variant(lambda: solve(build, steps or longest), report)


def main() -> None:
    grid = np.abs(TVDenoiser.nabla(y)[0, 0].numpy() - np.stack(differences(problem["y"], "neumann"), -1)).max()
    if grid > 1e-6:
        sys.exit(f"DeepInverse's differences are not ours: {grid}")
    threads = fastest_threads(torch.set_num_threads, lambda: solve(chambolle_pock(2.5), 10), args.threads)
    variants = {"PDCP, closed form": (chambolle_pock(2.5), LONGEST)}
    variants["FISTA, TV denoiser tuned"] = (proximal(FISTA, 10, 0.5), 60)
    if not args.quick:
        variants["PGD, TV denoiser tuned"] = (proximal(PGD, 10, 0.5), LONGEST)
        variants["FISTA, TV denoiser 10 inner"] = (proximal(FISTA, 10, 0.01), 60)
        if y.shape[-1] <= 256:  # minutes beyond
            variants["FISTA, TVPrior()"] = (proximal(FISTA, 1000, 0.01), 40)
    serve({name: variant(*v) for name, v in variants.items()}, versions(threads))


if __name__ == "__main__":
    main()
