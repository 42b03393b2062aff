"""MMD flow of the negative distance in PyTorch: by sorting projections, by simple_torch_NFFT, by KeOps over all pairs.

"sorting" has the target sorted once, since the directions stay the same: a step sorts the particles and looks them up, and its
ranks give the velocity without a kernel sum. INVJAX_SIMPLE_TORCH_NFFT names a checkout of simple_torch_NFFT, which is left out
without it, as KeOps is where it is not installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import sys
from collections.abc import Callable

from common import Variant, arguments, fastest_threads, relative_error, serve

args, problem = arguments()

import torch  # noqa: E402

x0, target, directions = (torch.from_numpy(problem[name]) for name in ("x", "target", "directions"))
n, dim = x0.shape
m, step_size, num_steps = len(target), float(problem["step_size"]), int(problem["num_steps"])
constant = math.sqrt(math.pi) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
BATCH = 64


def by_sorting() -> Callable[[torch.Tensor], torch.Tensor]:
    parts = [(xi, torch.sort(xi @ target.T, dim=1).values) for xi in directions.split(BATCH)]
    own = (2 * torch.arange(n, dtype=x0.dtype) + 1 - n) / n  # below minus above, of the particle of each rank

    def velocity(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for xi, v in parts:
            u, order = torch.sort(xi @ x.T, dim=1)
            below = torch.searchsorted(v, u).to(x.dtype)
            slopes = torch.empty_like(u).scatter_(1, order, own - (2 * below - m) / m)
            total.addmm_(slopes.T, xi)
        return total.mul_(constant / len(directions))

    return velocity


def by_fastsum() -> Callable[[torch.Tensor], torch.Tensor]:
    sys.path.insert(0, os.environ["INVJAX_SIMPLE_TORCH_NFFT"])
    from simple_torch_NFFT import Fastsum

    options = {"slicing_mode": "iid", "no_compile": True, "device": "cpu", "batch_size_P": min(16, len(directions))}
    summation = Fastsum(dim, kernel="energy", **options)
    signed = torch.cat([torch.full((m,), 1 / m), torch.full((n,), -1 / n)])

    def velocity(x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            points = x.clone().requires_grad_()
            sums = summation(torch.cat([target, x]), points, signed, torch.tensor(1.0), directions)
            return torch.autograd.grad(sums.sum(), points)[0]

    return velocity


def by_keops() -> Callable[[torch.Tensor], torch.Tensor]:
    from pykeops.torch import LazyTensor

    def pull(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        difference = LazyTensor(y[None]) - LazyTensor(x[:, None])
        return (difference * (difference.sqnorm2() + 1e-20).rsqrt()).sum(1) / len(y)

    return lambda x: pull(x, target) - pull(x, x)


def variant(make: Callable[[], Callable[[torch.Tensor], torch.Tensor]]) -> Variant:
    velocity = make()
    threads = fastest_threads(torch.set_num_threads, lambda: velocity(x0), args.threads)

    def run() -> torch.Tensor:
        torch.set_num_threads(threads)
        x = x0
        for _ in range(num_steps):
            x = x + step_size * velocity(x)
        return x

    exact = problem["exact"]
    error = relative_error(velocity(x0)[: len(exact)].numpy(), exact)
    return Variant(run, lambda x: {"error": error, "threads": threads, "end": float(x.double().square().mean())})


if __name__ == "__main__":
    wanted = set(problem["variants"].tolist())
    makers = {"sorting": by_sorting}
    if "INVJAX_SIMPLE_TORCH_NFFT" in os.environ:
        makers["simple_torch_NFFT"] = by_fastsum
    if importlib.util.find_spec("pykeops"):
        makers["KeOps, all pairs"] = by_keops
    versions = {"torch": importlib.metadata.version("torch")}
    with torch.no_grad():
        serve({name: variant(make) for name, make in makers.items() if name in wanted}, versions)
