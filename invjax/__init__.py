"""Inverse problems and transport-based generative modelling in JAX.

Every method is a pure function of arrays: ``vmap`` it over its hyper-parameters, differentiate through it, jit it whole,
shard it. Names are loaded on first use, so ``import invjax`` costs little more than ``import jax``.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "data",
    "drive",
    "generators",
    "gradient_flows",
    "kernels",
    "likelihoods",
    "metrics",
    "nn",
    "operators",
    "ot",
    "paths",
    "plots",
    "priors",
    "chains",
    "reducers",
    "samplers",
    "solvers",
    "sweeps",
    "train",
    "transforms",
    "types",
)
_NAMES = {
    "Fn": "types",
    "iterate": "drive",
    "solve": "drive",
    "sample": "drive",
    "sample_chains": "chains",
    "check": "drive",
    "Status": "drive",
    "grid_product": "sweeps",
    "sweep": "sweeps",
    "InverseProblem": "likelihoods",
    "Likelihood": "likelihoods",
}
__all__ = [*_SUBPACKAGES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
