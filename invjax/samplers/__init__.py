"""Posterior samplers: the Langevin family, step-size adaptation, and diagnostics; NUTS and others come from BlackJAX."""

import importlib
from typing import TYPE_CHECKING, Any

from .langevin import LangevinInfo, LangevinState, standard_normal
from .mala import MALA, MALAInfo, MALAState
from .moreau import Moreau
from .myula import MYULA, myula_defaults
from .parameter_choice import posterior_sure
from .pnp_ula import PnPULA, PnPULAInfo, tailed
from .sensitivity import gap_moments, operator_mismatch_bound, posterior_l2, total_variation_bound, transport_bound
from .skrock import SKROCK, max_step_size
from .target import Posterior
from .ula import ULA
from .underdamped import Underdamped, UnderdampedInfo, UnderdampedState

if TYPE_CHECKING:
    from .adaptation import AdaptationState, StepSizeAdaptation
    from .diagnostics import Summary, ess, mcse, rhat, summarise
    from .hamiltonian import nuts

# These import BlackJAX, which takes seconds: on first use.
_LAZY = {
    "AdaptationState": "adaptation",
    "StepSizeAdaptation": "adaptation",
    "Summary": "diagnostics",
    "ess": "diagnostics",
    "mcse": "diagnostics",
    "rhat": "diagnostics",
    "summarise": "diagnostics",
    "nuts": "hamiltonian",
}

__all__ = [
    "MALA",
    "MYULA",
    "SKROCK",
    "ULA",
    "AdaptationState",
    "LangevinInfo",
    "LangevinState",
    "MALAInfo",
    "MALAState",
    "Moreau",
    "PnPULA",
    "PnPULAInfo",
    "Posterior",
    "StepSizeAdaptation",
    "Summary",
    "Underdamped",
    "UnderdampedInfo",
    "UnderdampedState",
    "ess",
    "gap_moments",
    "max_step_size",
    "mcse",
    "myula_defaults",
    "nuts",
    "operator_mismatch_bound",
    "posterior_l2",
    "posterior_sure",
    "rhat",
    "standard_normal",
    "summarise",
    "tailed",
    "total_variation_bound",
    "transport_bound",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
