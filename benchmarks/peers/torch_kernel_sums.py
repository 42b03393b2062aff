"""Kernel sums over all pairs in plain PyTorch, written tightly: squares by a matrix product, in blocks that stay in the cache."""

from __future__ import annotations

import importlib.metadata
import time

from common import Variant, arguments, fastest_threads, relative_l1, serve

args, problem = arguments()

import torch  # noqa: E402

torch.set_grad_enabled(False)

x, y, w = (torch.from_numpy(problem[name]) for name in ("x", "y", "w"))
bandwidth = float(problem["bandwidth"])
finish = {
    "gauss": lambda q: q.mul_(-0.5 / bandwidth**2).exp_(),
    "negative distance": lambda q: q.sqrt_().neg_(),
}


def sums(name: str, rows: int, columns: int, num: int) -> torch.Tensor:
    """The first ``num`` sums, in tiles of ``rows`` points of y and ``columns`` of x."""
    parts = [(b, b.square().sum(1), v) for b, v in zip(x.split(columns), w.split(columns), strict=True)]
    total = torch.zeros(num)
    for targets, out in zip(y[:num].split(rows), total.split(rows), strict=True):
        squares = targets.square().sum(1)[:, None]
        for block, norms, weights in parts:
            q = torch.addmm(squares + norms, targets, block.T, alpha=-2).clamp_(min=0)
            out.addmv_(finish[name](q), weights)
    return total


def best_tile(name: str) -> tuple[int, int]:
    seconds = {}
    for tile in ((256, 1024), (512, 2048), (1024, 4096)):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            sums(name, *tile, min(1024, len(y)))
            times.append(time.perf_counter() - start)
        seconds[tile] = min(times)
    return min(seconds, key=seconds.get)


def variant(name: str) -> Variant:
    threads = fastest_threads(torch.set_num_threads, lambda: sums(name, 512, 2048, min(1024, len(y))), args.threads)
    tile = best_tile(name)

    def run() -> torch.Tensor:
        torch.set_num_threads(threads)
        return sums(name, *tile, len(y))

    facts = {"threads": threads, "tile": list(tile)}
    return Variant(run, lambda s: {"error": relative_l1(s.numpy(), problem[f"exact {name}"]), **facts})


if __name__ == "__main__":
    variants = {f"{name}, blocks of a matrix product": variant(name) for name in finish}
    serve(variants, {"torch": importlib.metadata.version("torch")})
