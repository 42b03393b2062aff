"""Networks (Flax NNX) as denoisers: architectures, files, weights from PyTorch, and ``frozen``, which makes one a Module.

A network is called ``net(x, sigma)`` for one image ``(H, W, C)``, values nominally in [0, 1]; batches come from ``jax.vmap``. It
works at the precision of x, or at its ``dtype`` inside, and the result has the dtype of x.
"""

from .convert import load_torch
from .dncnn import DnCNN
from .drunet import DRUNet, light_drunet
from .edm import EDMDenoiser
from .files import load, save
from .frozen import Frozen, frozen
from .gradient_step import GradientStep
from .lipschitz import LipschitzDenoiser, certified_bound
from .shipped import SHIPPED, shipped_denoiser
from .symbol import convolution_bound
from .torch_files import read_torch
from .unet import UNet

__all__ = [
    "SHIPPED",
    "DRUNet",
    "DnCNN",
    "EDMDenoiser",
    "Frozen",
    "GradientStep",
    "LipschitzDenoiser",
    "UNet",
    "certified_bound",
    "convolution_bound",
    "frozen",
    "light_drunet",
    "load",
    "load_torch",
    "read_torch",
    "save",
    "shipped_denoiser",
]
