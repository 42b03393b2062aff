"""Chambolle-Pock for TV deblurring in plain PyTorch, written tightly: a loop over the weights, and all weights in one batch."""

from __future__ import annotations

import numpy as np
from common import Variant, arguments, fastest_threads, psnr, serve, transfer_function

args, problem = arguments()

import torch  # noqa: E402

torch.set_grad_enabled(False)

shape = problem["y"].shape
tau, steps = float(problem["tau"]), int(problem["num_steps"])
h = transfer_function(problem["kernel"], shape)
divisor = torch.from_numpy((1 / (1 + tau * np.abs(h) ** 2)).astype(np.float32))
back = torch.from_numpy((tau * np.conj(h) * np.fft.rfft2(problem["y"])).astype(np.complex64)) * divisor
start = torch.from_numpy(problem["start"].astype(np.float32))
weights = torch.from_numpy(problem["weights"].astype(np.float32))


def solve(weight: torch.Tensor) -> torch.Tensor:
    """``steps`` iterations for weights of shape ``(..., 1, 1)``; work arrays are allocated once and updated in place."""
    x = start.expand(*weight.shape[:-2], *shape).clone()
    down, across = torch.zeros_like(x), torch.zeros_like(x)
    sigma = 1 / (8 * tau)
    for _ in range(steps):
        new = x.clone()
        new[..., :-1, :].add_(down[..., :-1, :], alpha=tau)
        new[..., 1:, :].sub_(down[..., :-1, :], alpha=tau)
        new[..., :-1].add_(across[..., :-1], alpha=tau)
        new[..., 1:].sub_(across[..., :-1], alpha=tau)
        new = torch.fft.irfft2(torch.fft.rfft2(new).mul_(divisor).add_(back), shape)
        ahead = torch.sub(new, x, alpha=0.5).mul_(2 * sigma)  # sigma (2 new - x)
        down[..., :-1, :].add_(ahead[..., 1:, :]).sub_(ahead[..., :-1, :])
        across[..., :-1].add_(ahead[..., 1:]).sub_(ahead[..., :-1])
        scale = weight / torch.hypot(down, across).clamp_(min=weight)
        down.mul_(scale)
        across.mul_(scale)
        x = new
    return x


def loop() -> torch.Tensor:
    return torch.stack([solve(w.reshape(1, 1)) for w in weights])


def batch() -> torch.Tensor:
    return solve(weights[:, None, None])


def variant(run) -> Variant:
    """``run`` on the thread count that suits it: a batch gains by two, single images do not."""
    probe = weights[:1, None, None] if run is loop else weights[:, None, None]
    threads = fastest_threads(torch.set_num_threads, lambda: solve(probe), args.threads)

    def on_its_threads() -> torch.Tensor:
        torch.set_num_threads(threads)
        return run()

    def report(x: torch.Tensor) -> dict:
        psnrs = [psnr(image, problem["clean"]) for image in x.numpy()]
        return {"rows": list(range(len(weights))), "psnrs": psnrs, "threads": threads}

    return Variant(on_its_threads, report)


if __name__ == "__main__":
    serve({"loop": variant(loop), "batch": variant(batch)}, {"torch": torch.__version__})
