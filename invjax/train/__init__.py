"""Training: a pure step, patches of images, checkpoints with exact resume, and the loop that joins them."""

from .checkpoint import Checkpoints
from .data import Patches
from .denoising import DenoisingLoss
from .loop import fit
from .step import Trainer, TrainInfo, TrainState

__all__ = ["Checkpoints", "DenoisingLoss", "Patches", "TrainInfo", "TrainState", "Trainer", "fit"]
