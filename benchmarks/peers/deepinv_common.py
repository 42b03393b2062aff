"""What the scripts of DeepInverse share. Imports PyTorch, so import it after ``common.arguments()``, which sets the threads."""

from __future__ import annotations

import deepinv
import numpy as np
import torch
from deepinv.models import TVDenoiser
from deepinv.optim import L2, PDCP, L12Prior


def tensor(x: np.ndarray) -> torch.Tensor:
    """``(1, C, H, W)`` of a grey image ``(H, W)`` or an image ``(H, W, C)``."""
    x = x[..., None] if x.ndim == 2 else x
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 0), np.float32))[None]


def primal_dual(start: torch.Tensor, weight: float, tau: float, steps: int) -> tuple[PDCP, tuple]:
    """Chambolle-Pock on TV with K the differences of DeepInverse's TV denoiser, every step closed form, and its start."""
    solver = PDCP(
        K=TVDenoiser.nabla,
        K_adjoint=TVDenoiser.nabla_adjoint,
        data_fidelity=L2(),
        prior=L12Prior(),
        lambda_reg=weight,
        stepsize=tau,
        stepsize_dual=1 / (8 * tau),
        max_iter=steps,
        g_first=True,
    )
    return solver, (start, start, torch.zeros(*start.shape, 2))


def versions(threads: int) -> dict[str, str]:
    """Versions of the peer, and its threads."""
    return {"threads": str(threads), "deepinv": deepinv.__version__, "torch": torch.__version__}
