"""Entropic transport of clouds by geomloss with KeOps ("online") and coarse to fine ("multiscale")."""

from __future__ import annotations

import importlib.metadata
import resource

from common import Variant, arguments, serve

args, problem = arguments()

import torch  # noqa: E402
from geomloss import SamplesLoss  # noqa: E402
from pykeops.torch import LazyTensor  # noqa: E402

torch.set_num_threads(args.threads)
x, y = (torch.as_tensor(problem[name]) for name in ("x", "y"))
epsilon = float(problem["epsilon"])
# Costs there are |x - y|^2 / 2, and the regularisation is blur^p.
options = {"p": 2, "blur": (epsilon / 2) ** 0.5, "scaling": 0.7, "debias": False, "potentials": True}


def variant(backend: str) -> Variant:
    """A way to sum."""
    loss = SamplesLoss("sinkhorn", backend=backend, **options)

    def report(potentials: tuple) -> dict:
        f, g = (2 * v.reshape(-1) for v in potentials)
        rows, columns = LazyTensor(x[:, None]), LazyTensor(y[None])
        plan = (
            (LazyTensor(f[:, None, None]) + LazyTensor(g[None, :, None])) - ((rows - columns) ** 2).sum(-1)
        ) / epsilon
        weight = 1 / (len(x) * len(y))
        sums = [(plan.exp() * weight).sum(axis).reshape(-1) for axis in (1, 0)]
        error = sum(float((m - 1 / len(m)).abs().sum()) for m in sums)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"value": float(f.mean() + g.mean()), "error": error, "peak_bytes": peak}

    return Variant(lambda: loss(x, y), report)


if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("geomloss", "pykeops", "torch")}
    serve({backend: variant(backend) for backend in ("online", "multiscale")}, versions)
