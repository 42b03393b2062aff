"""KeOps on the CPU: kernel sums over all pairs by ``Genred``, the generic reduction, with its formula compiled beforehand."""

from __future__ import annotations

import importlib.metadata

from common import Variant, arguments, fastest_threads, relative_l1, serve

args, problem = arguments()

import torch  # noqa: E402
from pykeops.torch import Genred  # noqa: E402

x, y, w = (torch.from_numpy(problem[name]) for name in ("x", "y", "w"))
scale = torch.tensor([0.5 / float(problem["bandwidth"]) ** 2])
formulas = {"gauss": "Exp(-g * SqDist(y, x)) * w", "negative distance": "-Norm2(y - x) * w"}


def variant(name: str) -> Variant:
    dim = x.shape[1]
    aliases = [f"y = Vi({dim})", f"x = Vj({dim})", "w = Vj(1)", "g = Pm(1)"]
    reduction = Genred(formulas[name], aliases, reduction_op="Sum", axis=1)

    def sums(num: int) -> torch.Tensor:
        return reduction(y[:num], x[:num], w[:num, None], scale, backend="CPU")[:, 0]

    threads = fastest_threads(torch.set_num_threads, lambda: sums(2000), args.threads)

    def run() -> torch.Tensor:
        torch.set_num_threads(threads)
        return sums(len(y))

    return Variant(run, lambda s: {"error": relative_l1(s.numpy(), problem[f"exact {name}"]), "threads": threads})


if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("pykeops", "torch")}
    variants = {name: variant(name) for name in formulas}
    serve(variants, versions)
