"""Every explicit prior: one line each, run through all contracts (``build`` as in ``tests/registry.py``).

``PRIORS[name]`` draws the weight and the arrays; ``POINTS[name]`` is the shape and kind of the images it acts on.
"""

import jax
import jax.numpy as jnp
import numpy as np

from invjax import operators as ops
from invjax import priors

IMAGE = (6, 8, 2)


def weight(r):
    return r.uniform(0.2, 0.6)


TIGHT = {"rtol": 1e-11, "max_inner": 20000}


def tv(shape=IMAGE, **settings):
    return lambda r: priors.TV(shape, weight(r), **TIGHT, **settings)


PRIORS = {
    "zero": lambda r: priors.Zero(),
    "tikhonov": lambda r: priors.Tikhonov(weight(r), r.normal(size=IMAGE)),
    "tikhonov_complex": lambda r: priors.Tikhonov(weight(r), 0.3 + 0.1j),
    "l1": lambda r: priors.L1(weight(r)),
    "l1_complex": lambda r: priors.L1(weight(r)),
    "group_l1": lambda r: priors.GroupL1(weight(r), (0, -1)),
    "group_l1_complex": lambda r: priors.GroupL1(weight(r), (1,)),
    "wavelet_l1": lambda r: priors.WaveletL1((8, 8, 1), "db2", 2, weight(r)),
    "wavelet_l1_complex": lambda r: priors.WaveletL1(IMAGE, "haar", 1, weight(r), details_only=False, complex=True),
    "box": lambda r: priors.Box(-r.uniform(0.1, 0.5, size=IMAGE), r.uniform(0.1, 0.5)),
    "nonnegative": lambda r: priors.NonNegative(),
    "support": lambda r: priors.Support(r.uniform(size=IMAGE) > 0.4, nonnegative=True),
    "support_complex": lambda r: priors.Support(r.uniform(size=(6, 8, 1)) > 0.4),
    "huber": lambda r: priors.Huber(weight(r), r.uniform(0.05, 0.2)),
    "huber_complex": lambda r: priors.Huber(weight(r), r.uniform(0.05, 0.2)),
    "nuclear_norm": lambda r: priors.NuclearNorm(weight(r)),
    "nuclear_norm_complex": lambda r: priors.NuclearNorm(weight(r)),
    "simplex": lambda r: priors.Simplex(r.uniform(1, 2)),
    "l1_ball": lambda r: priors.L1Ball(r.uniform(3, 4)),
    "l1_ball_complex": lambda r: priors.L1Ball(r.uniform(3, 4)),
    "l2_ball": lambda r: priors.L2Ball(r.uniform(1, 2)),
    "l2_ball_complex": lambda r: priors.L2Ball(r.uniform(1, 2)),
    "linf_ball": lambda r: priors.LInfBall(r.uniform(0.5, 0.6)),
    "linf_ball_complex": lambda r: priors.LInfBall(r.uniform(0.5, 0.6)),
    "l0": lambda r: priors.L0(weight(r)),
    "l0_complex": lambda r: priors.L0(weight(r)),
    "mcp": lambda r: priors.MCP(weight(r), r.uniform(0.6, 0.9)),
    "scad": lambda r: priors.SCAD(weight(r), r.uniform(0.3, 0.5), r.uniform(3, 4)),
    "log_sum": lambda r: priors.LogSum(weight(r), r.uniform(0.1, 0.2)),
    "l1_minus_l2": lambda r: priors.L1MinusL2(weight(r), r.uniform(0.8, 1)),
    "l1_minus_l2_complex": lambda r: priors.L1MinusL2(weight(r)),
    "tv": tv(),
    "tv_anisotropic": tv(kind="anisotropic", channels="separate"),
    "tv_circular": tv(boundary="circular", channels="separate"),
    "tv_complex": tv(complex=True, kind="anisotropic"),
    "tv_3d": tv((3, 4, 4, 1)),
    "elastic_net": lambda r: priors.ElasticNet(weight(r), r.uniform(0.5, 2)),
    "elastic_net_complex": lambda r: priors.ElasticNet(weight(r), r.uniform(0.5, 2)),
    "tv_1d": lambda r: priors.TV1D(weight(r), axis=1),
    "tgv": lambda r: priors.TGV(IMAGE, weight(r), r.uniform(1, 2), rtol=1e-11),
    "huber_tv": lambda r: priors.huber_tv(IMAGE, weight(r), r.uniform(0.05, 0.2), **TIGHT),
    "analysis_complex": lambda r: priors.Analysis(
        priors.L1(), ops.FiniteDifferences(IMAGE, "circular", complex=True), weight(r), **TIGHT
    ),
    "sum": lambda r: priors.Sum((priors.TV(IMAGE, weight(r)), priors.L1(weight(r))), weight(r), **TIGHT),
    "relative_difference": lambda r: priors.RelativeDifference(
        IMAGE, weight(r), r.uniform(1, 3), r.uniform(0.1, 0.2), kappa=r.uniform(0.5, 1, IMAGE)
    ),
    "smoothed_tv": lambda r: priors.SmoothedTV(IMAGE, weight(r), r.uniform(0.05, 0.2)),
    "smoothed_tv_complex": lambda r: priors.SmoothedTV(IMAGE, weight(r), 0.1, "anisotropic", complex=True),
}
PROXIMABLE = [name for name in PRIORS if not name.startswith(("smoothed", "relative"))]
NONCONVEX = ("l0", "l0_complex", "mcp", "scad", "log_sum", "l1_minus_l2", "l1_minus_l2_complex")
"""Optimality, Moreau's identity and non-expansiveness of a convex prox do not hold; they are checked by brute force."""
INDICATORS = ("box", "nonnegative", "simplex", "l1_ball", "l1_ball_complex", "l2_ball", "l2_ball_complex", "linf_ball")
INDICATORS += ("linf_ball_complex", "support", "support_complex")
SMOOTH = [
    "huber_tv",
    "relative_difference",
    "huber",
    "huber_complex",
    "zero",
    "tikhonov",
    "tikhonov_complex",
    "smoothed_tv",
    "smoothed_tv_complex",
]
SHAPES = {"wavelet_l1": (8, 8, 1), "tv_3d": (3, 4, 4, 1)}
POSITIVE = ("relative_difference",)
ARGUMENTS = {
    "box": (0.0, 1.0),
    **dict.fromkeys(("support", "support_complex"), (np.ones((8, 8, 1)),)),
    "analysis_complex": (priors.L1(), ops.Identity(IMAGE)),
    "huber_tv": (priors.L1(), ops.Identity(IMAGE)),
    "sum": ((priors.L1(),),),
    **dict.fromkeys(
        (n for n in PRIORS if n.startswith(("wavelet_l1", "tv", "tgv", "smoothed", "relative"))), ((8, 8, 1),)
    ),
    "tv_1d": (),
}
"""What the constructors need besides ``lam``."""


def point(key, name, dtype=jnp.float64, batch=()):
    """A random image (or a batch) of the shape and kind of prior ``name`` at the precision of ``dtype``."""
    kind = jnp.result_type(dtype, jnp.complex64) if name.endswith("complex") else dtype
    x = jax.random.normal(key, (*batch, *SHAPES.get(name, IMAGE)), kind)
    return jnp.abs(x) if name in POSITIVE else x
