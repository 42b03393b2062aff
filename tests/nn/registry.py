"""Every network of the package: one line each, small, run through all contracts.

``network(name, seed)`` has random weights of a size at which every layer matters, drawn with NumPy: what a constructor draws
compiles for each shape.
"""

import functools

import jax
import numpy as np
from flax import nnx

from invjax.nn import DnCNN, DRUNet, EDMDenoiser, GradientStep, LipschitzDenoiser, UNet

NETWORKS = {
    "drunet": lambda rngs: DRUNet(3, (4, 6), 1, rngs=rngs),
    "drunet_patch": lambda rngs: DRUNet(1, (4, 6), 1, residual=True, patch=2, rngs=rngs),
    "drunet_bfloat16": lambda rngs: DRUNet(1, (4, 6), 1, dtype="bfloat16", rngs=rngs),
    "dncnn": lambda rngs: DnCNN(1, 4, 3, rngs=rngs),
    "dncnn_map": lambda rngs: DnCNN(3, 4, 2, False, activation="elu", noise_map=True, rngs=rngs),
    "unet": lambda rngs: UNet(3, (2, 4), 1, attention=True, rngs=rngs),
    "edm": lambda rngs: EDMDenoiser(UNet(1, (2, 4), 2, rngs=rngs)),
    "edm_map": lambda rngs: EDMDenoiser(DnCNN(1, 4, 2, activation="softplus", noise_map=True, rngs=rngs), 0.3, 0.4),
    "gradient_step": lambda rngs: GradientStep(DRUNet(1, (3, 4), 1, activation="elu", rngs=rngs)),
    "lipschitz": lambda rngs: LipschitzDenoiser(1, 4, 3, rngs=rngs),
    "lipschitz_folded": lambda rngs: LipschitzDenoiser(3, 4, 2, 1.5, activation="relu", is_folded=True, rngs=rngs),
}
CHANNELS = {"drunet": 3, "dncnn_map": 3, "unet": 3, "lipschitz_folded": 3}
ROUGH = ("drunet_bfloat16",)  # too imprecise for finite differences
MAPS = ("drunet", "drunet_patch", "dncnn_map", "edm_map", "lipschitz")  # sigma may be a map


def network(name, seed=0):
    """The registered network with weights drawn from ``seed``."""
    graph, state = abstract(name)
    return nnx.merge(graph, jax.tree.map(functools.partial(_weight, np.random.default_rng(seed)), state))


@functools.cache
def abstract(name):
    """Graph and shapes of the weights."""
    return nnx.split(nnx.eval_shape(lambda: NETWORKS[name](nnx.Rngs(0))))


def image(name, seed=0, size=(7, 10)):
    """A float64 image; neither of its sides is a multiple of anything that the networks divide."""
    return np.random.default_rng(seed).uniform(size=(*size, CHANNELS.get(name, 1)))


def _weight(r, leaf):
    scale = 0.1 if len(leaf.shape) == 1 else 1 / np.sqrt(np.prod(leaf.shape[:-1]))
    return jax.numpy.asarray(r.normal(scale=scale, size=leaf.shape), leaf.dtype)
