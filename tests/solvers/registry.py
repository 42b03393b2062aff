"""Every solver on a small problem: one line each, run through all contracts.

``assemble(name, **draw(r, name))`` builds a solver from arrays, so that contracts can batch and differentiate in each of them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from invjax import likelihoods, priors, solvers, transforms
from invjax import operators as ops

IMAGE = (8, 8, 1)
SIGMA = 0.5
SHIFTS = np.array([[0, 0], [0, 3], [3, 0], [3, 3], [1, 2]])
SUPPORT = priors.Support(np.arange(8)[:, None, None] < 6)
TURNS = transforms.QuarterTurns()
ADAM = optax.scale_by_adam()  # made once: a transformation is a pair of closures

PRIORS = {
    "ridge": priors.Tikhonov,
    "l1": priors.L1,
    "group": lambda lam: priors.GroupL1(lam, ()),
    "tv": lambda lam: priors.TV(IMAGE, lam),
    "tv_circular": lambda lam: priors.TV(IMAGE, lam, boundary="circular"),
    "plug": lambda lam: priors.PlugAndPlay(MEMORY, lam),
    "turned": lambda lam: priors.PlugAndPlay(priors.Transformed(MEMORY, TURNS, jnp.zeros((), jnp.int32)), lam),
    "red": lambda lam: priors.RED(MEMORY, 0.3, lam),
    "gradient_step": lambda lam: priors.GradientStep(MEMORY, 0.3, lam),
}
# A small nonlinear denoiser: the posterior mean of a mixture of three random images.
MEMORY = priors.GaussianMixture(None, np.random.default_rng(3).uniform(size=(3, *IMAGE)), 0.05).denoiser


OPERATORS = {
    "blur": lambda kernel: ops.Blur(kernel, IMAGE),
    "poisson": lambda kernel: ops.Blur(kernel, IMAGE),
    "mri": lambda mask: ops.single_coil_mri(mask, IMAGE),
    "phase": lambda masks: ops.PhaseRetrieval(ops.coded_diffraction(masks, IMAGE)),
    "ptychography": lambda probe: ops.PhaseRetrieval(ops.Ptychography(probe, SHIFTS, IMAGE)),
}


class Case(NamedTuple):
    """``make(likelihood, prior, step_size)``, the prior and the data it is tested on.

    ``implicit`` is the prior of the implicit derivative's test: its solution must be smooth in the parameters (strict
    complementarity), which it is with the group norm. "" is for a variant with the same map as another entry.
    ``random`` methods step with a key; those of ``pair`` start at an image and a kernel.
    """

    make: Callable
    prior: str = "l1"
    data: str = "blur"
    implicit: str = "group"
    random: bool = False
    pair: bool = False


def halves(f):
    """The likelihood with even and odd rows of the measurement as a stack of two."""
    masks = [ops.Mask(np.arange(8).reshape(8, 1, 1) % 2 == i, IMAGE) for i in range(2)]
    operator = ops.stack([m @ f.operator for m in masks])
    return likelihoods.Likelihood(operator, likelihoods.Stacked((f.noise,) * 2), tuple(m(f.y) for m in masks))


def matrix(f):
    return ops.Matrix(f.operator.dense(), IMAGE), f.y.ravel()


def blind(f):
    return likelihoods.Likelihood(ops.BlindBlur(IMAGE, (3, 3)), f.noise, f.y)


def normal(f, h):
    """A Hermitian positive definite system for the image."""
    return f.operator.gram + h * ops.Identity(IMAGE), f.operator.H(f.y)


def _shrunk(x, sigma):
    return x * (1 / (1 + sigma[..., None] ** 2)).astype(x.dtype)


def _weight_of_prior(method):
    return method.prior.lam


def _element(method):
    return method.prior.denoiser.element


CASES = {
    "gradient": Case(solvers.GradientDescent, "ridge", implicit="ridge"),
    "gradient_adam": Case(lambda f, g, h: solvers.GradientDescent(f, g, h, ADAM), "ridge", implicit=""),
    "proximal_gradient": Case(solvers.ProximalGradient, implicit=""),
    "proximal_gradient_tv": Case(solvers.ProximalGradient, "tv", implicit=""),
    "fista": Case(solvers.FISTA),
    "fista_restart": Case(lambda f, g, h: solvers.FISTA(f, g, h, restart=True), implicit=""),
    "fista_backtracking": Case(lambda f, g, h: solvers.FISTA(f, g, 8 * h, max_backtracks=5), implicit=""),
    "fista_complex": Case(solvers.FISTA, data="mri"),
    "hqs": Case(solvers.HQS),
    "admm": Case(solvers.ADMM),
    "douglas_rachford": Case(solvers.DouglasRachford),
    "proximal_gradient_plug": Case(solvers.ProximalGradient, "plug", implicit=""),
    "admm_plug": Case(solvers.ADMM, "plug", implicit=""),
    "dpir": Case(lambda f, g, h: solvers.DPIR(f, MEMORY, jnp.stack([3 * h, 2 * h]), g.lam), "plug", implicit=""),
    "hqs_gauss_newton": Case(lambda f, g, h: solvers.HQS(likelihoods.GaussNewton(f), g, h), data="phase", implicit=""),
    "gradient_step": Case(lambda f, g, h: solvers.GradientStepPnP(f, g, 20 * h), "gradient_step", implicit=""),
    "pnp_sgd": Case(lambda f, g, h: solvers.PnPSGD(f, g, h), "red", implicit="", random=True),
    "continuation": Case(
        lambda f, g, h: solvers.Continuation(solvers.FISTA(f, g, h), _weight_of_prior, jnp.stack([g.lam, g.lam / 2])),
        implicit="",
    ),
    "randomised": Case(
        lambda f, g, h: solvers.Randomised(solvers.HQS(f, g, h), _element, TURNS.sample),
        "turned",
        implicit="",
        random=True,
    ),
    "sdmm": Case(solvers.SDMM, "tv_circular"),
    "split_bregman": Case(lambda f, g, h: solvers.SplitBregman(f, g, 1 / h), "tv_circular", implicit="tv_circular"),
    "split_bregman_complex": Case(lambda f, g, h: solvers.SplitBregman(f, g, 1 / h), data="mri", implicit=""),
    "chambolle_pock": Case(solvers.ChambollePock, "tv", implicit="tv"),
    "chambolle_pock_dual": Case(
        lambda f, g, h: solvers.ChambollePock(f, g, h, dualise=True, constraint=priors.NonNegative()),
        "tv",
        "poisson",
        "",
    ),
    "condat_vu": Case(solvers.CondatVu, "tv"),
    "condat_vu_box": Case(
        lambda f, g, h: solvers.CondatVu(f, g, h, constraint=priors.Box(0.0, 1.0)), "tv", implicit=""
    ),
    "wirtinger_flow": Case(lambda f, g, h: solvers.WirtingerFlow(f, h), data="phase", implicit=""),
    "error_reduction": Case(lambda f, g, h: solvers.ErrorReduction(f, SUPPORT), data="phase", implicit=""),
    "hybrid_input_output": Case(
        lambda f, g, h: solvers.HybridInputOutput(f, SUPPORT, 4 * h), data="phase", implicit=""
    ),
    "averaged_reflections": Case(lambda f, g, h: solvers.AveragedReflections(f, SUPPORT, h), data="phase", implicit=""),
    "ptychography_hqs": Case(
        lambda f, g, h: solvers.PtychographyHQS(f, _shrunk, g.lam, h), data="ptychography", implicit=""
    ),
    "rpie": Case(lambda f, g, h: solvers.RPIE(f, 3 * h), data="ptychography", implicit="", random=True),
    "mlem": Case(lambda f, g, h: solvers.MLEM(f), data="poisson", implicit="l1"),
    "mapem": Case(lambda f, g, h: solvers.MAPEM(f, g), "ridge", "poisson", ""),
    "osem": Case(lambda f, g, h: solvers.OSEM(halves(f)), data="poisson", implicit=""),
    "bsrem": Case(lambda f, g, h: solvers.BSREM(halves(f), g, h), "ridge", "poisson", ""),
    "sirt": Case(lambda f, g, h: solvers.SIRT(f.operator, f.y, 5 * h, priors.Box(0.0, 1.0)), implicit=""),
    "sart": Case(lambda f, g, h: solvers.SART(halves(f).operator, halves(f).y, 5 * h), implicit=""),
    "kaczmarz": Case(lambda f, g, h: solvers.Kaczmarz(*matrix(f), 5 * h), implicit=""),
    "randomised_kaczmarz": Case(
        lambda f, g, h: solvers.RandomisedKaczmarz(*matrix(f), 5 * h), implicit="", random=True
    ),
    "davis_yin": Case(lambda f, g, h: solvers.DavisYin(f, g, priors.Box(-1.0, 1.0), h)),
    "ppxa": Case(lambda f, g, h: solvers.PPXA((f, g, priors.Box(0.0, 1.0)), h), "tv", implicit=""),
    "dykstra": Case(lambda f, g, h: solvers.Dykstra((f, g), start("dykstra")), implicit=""),
    "linearised_admm": Case(solvers.LinearisedADMM, "tv", implicit=""),
    "spdhg": Case(lambda f, g, h: solvers.SPDHG(halves(f), g, h), "tv", implicit="", random=True),
    "mirror_descent": Case(
        lambda f, g, h: solvers.MirrorDescent(f, g, solvers.NegativeEntropy(), h / 10), "ridge", "poisson", ""
    ),
    "proximal_mirror_descent": Case(
        lambda f, g, h: solvers.ProximalMirrorDescent(f, g, solvers.Burg()), data="poisson", implicit=""
    ),
    "blind_richardson_lucy": Case(
        lambda f, g, h: solvers.BlindRichardsonLucy(blind(f), 2), data="poisson", implicit="", pair=True
    ),
    "palm": Case(lambda f, g, h: solvers.PALM(blind(f), g, priors.Simplex(), 1.1, h), implicit="", pair=True),
    "anderson": Case(lambda f, g, h: solvers.Anderson(solvers.CondatVu(f, g, h), 3), "tv", implicit=""),
    "lsqr": Case(lambda f, g, h: solvers.LSQR(f.operator, f.y, h), implicit=""),
    "conjugate_gradient": Case(lambda f, g, h: solvers.ConjugateGradient(*normal(f, h)), implicit=""),
    "minres": Case(lambda f, g, h: solvers.MINRES(*normal(f, h)), implicit=""),
    "bicgstab": Case(lambda f, g, h: solvers.BiCGStab(*normal(f, h)), implicit=""),
}


def draw(r, name):
    """Arrays of one instance: kernel (or k-space mask, or coded masks), measurement, weight, step size."""
    x = r.uniform(size=IMAGE)
    if CASES[name].data == "mri":
        noise = r.normal(size=IMAGE) + 1j * r.normal(size=IMAGE)
        mask = r.uniform(0.5, 1, IMAGE)
        return {"kernel": mask, "y": mask * np.fft.fft2(x, axes=(0, 1)) / 8 + 0.1 * noise, **_scalars(r)}
    if CASES[name].data == "phase":
        masks = np.exp(2j * np.pi * r.uniform(size=(3, *IMAGE)))
        y = np.abs(np.fft.fft2(masks * x, axes=(1, 2), norm="ortho")) ** 2
        return {"kernel": masks, "y": y + 0.1 * r.uniform(size=y.shape), **_scalars(r)}
    if CASES[name].data == "ptychography":
        probe = r.normal(size=(5, 5, 1)) + 1j * r.normal(size=(5, 5, 1))
        return {"kernel": probe, "y": 5 * r.uniform(size=(len(SHIFTS), 5, 5, 1)), **_scalars(r)}
    kernel = 0.1 * r.uniform(size=(3, 3))
    kernel[1, 1] = 1
    return {"kernel": kernel / kernel.sum(), "y": x + 0.3 * r.uniform(size=IMAGE), **_scalars(r)}


def _scalars(r):
    return {"lam": r.uniform(0.3, 0.6), "step_size": r.uniform(0.15, 0.24)}


def assemble(name, kernel, y, lam, step_size, prior=None):
    """The solver ``name`` on the given arrays, with its own kind of prior or another."""
    case = CASES[name]
    operator = OPERATORS[case.data](kernel)
    noise = likelihoods.Poisson(0.1, 0.05) if case.data == "poisson" else likelihoods.Gaussian(SIGMA)
    f = likelihoods.InverseProblem(operator, noise).likelihood(y)
    return case.make(f, PRIORS[prior or case.prior](lam), step_size)


SOLVERS = {name: functools.partial(lambda name, r: assemble(name, **draw(r, name)), name) for name in CASES}


def start(name, dtype=None):
    """A positive starting image of the right kind for a registered solver."""
    x = np.random.default_rng(7).uniform(0.2, 0.8, IMAGE)
    if CASES[name].pair:
        return jnp.asarray(x, dtype), jnp.full((3, 3), 1 / 9, dtype)
    return jnp.asarray(x + 0.1j if CASES[name].data in ("mri", "phase", "ptychography") else x, dtype)
