"""DeepInverse's ULA on the TV-deblurring posterior, with a score from its TV denoiser (10 inner iterations, warm-started).

With the denoiser's default step ``tau = 0.01`` its output lags behind the chain: posterior standard deviations come out a third
too small. ``tau = 0.2`` is accurate to a few per cent at the same cost, so both are run.
"""

from __future__ import annotations

from common import Variant, arguments, fastest_threads, psnr, serve

args, problem = arguments()

import deepinv  # noqa: E402
import torch  # noqa: E402
from deepinv.models import TVDenoiser  # noqa: E402
from deepinv.optim import L2, ScorePrior  # noqa: E402
from deepinv.sampling import sampling_builder  # noqa: E402
from deepinv_common import tensor, versions  # noqa: E402

y, start = tensor(problem["y"]), tensor(problem["start"])
physics = deepinv.physics.BlurFFT(img_size=(1, *y.shape[2:]), filter=tensor(problem["kernel"]))
steps, stride = int(problem["num_steps"]), int(problem["stride"])
lam, smoothing = float(problem["lam"]), float(problem["smoothing"])


class Prox(torch.nn.Module):
    """The prox of ``smoothing lam TV`` as the denoiser of a score prior: the score of the Moreau envelope."""

    def __init__(self, tau: float):
        super().__init__()
        self.tv = TVDenoiser(n_it_max=10, tau=tau)

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return self.tv(x, ths=lam * sigma**2)


def chain(tau: float):
    """One fresh chain: posterior mean and the kept pixels."""

    def run():
        kept = []

        def keep(state: dict) -> torch.Tensor:
            kept.append(state["x"][0, 0, ::stride, ::stride].clone())
            return state["x"]

        sampler = sampling_builder(
            "ULA",
            data_fidelity=L2(sigma=float(problem["sigma"])),
            prior=ScorePrior(denoiser=Prox(tau)),
            params_algo={"step_size": float(problem["step_size"]), "alpha": 1.0, "sigma": smoothing**0.5},
            max_iter=steps,
            thinning=int(problem["thinning"]),
            burnin_ratio=0.2,
            thresh_conv=0.0,
            verbose=False,
            clip=None,
        )
        with torch.no_grad():
            mean, _ = sampler.sample(y, physics, x_init=start, seed=0, g_statistics=keep)
        return mean, torch.stack(kept)

    return run


def report(result) -> dict:
    mean, kept = result
    return {"steps": steps, "psnr": psnr(mean[0, 0].numpy(), problem["clean"]), "pixels": kept.numpy().tolist()}


def main() -> None:
    tv = TVDenoiser(n_it_max=10)
    threads = fastest_threads(torch.set_num_threads, lambda: tv(start, ths=lam * smoothing), args.threads)
    variants = {"ULA, default tau": Variant(chain(0.01), report)}
    if not args.quick:
        variants["ULA, tau 0.2"] = Variant(chain(0.2), report)
    serve(variants, versions(threads))


if __name__ == "__main__":
    main()
