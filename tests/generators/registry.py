"""Every generator, one line each, run through all contracts, with the shapes of what it draws."""

from invjax import generators as gen

SIZE = (7, 6)
DYNAMIC = (4, 5, 3, 1)


def mask(r, shape=(8, 6, 2)):
    return r.uniform(size=shape) > 0.3


GENERATORS = {
    "constant": lambda r: gen.Constant(r.normal(size=SIZE)),
    "uniform": lambda r: gen.Uniform(r.uniform(0.1, 0.2), r.uniform(0.5, 0.6), (2,)),
    "log_uniform": lambda r: gen.LogUniform(r.uniform(0.01, 0.02), r.uniform(0.5, 0.6)),
    "discrete": lambda r: gen.Discrete(r.uniform(size=(40, 3)), r.uniform(size=40)),
    "gaussian_blur": lambda r: gen.GaussianBlur(SIZE, r.uniform(0.5, 1), r.uniform(2, 3)),
    "gaussian_blur_3d": lambda r: gen.GaussianBlur((3, 4, 5), r.uniform(0.5, 1), r.uniform(2, 3)),
    "motion_blur": lambda r: gen.MotionBlur(SIZE, r.uniform(0.5, 1), r.uniform(0.2, 0.5), r.uniform(1.5, 3)),
    "diffraction": lambda r: gen.Diffraction(SIZE, r.uniform(0.1, 0.2), r.uniform(0.1, 0.2)),
    "diffraction_colour": lambda r: gen.Diffraction(
        SIZE, r.uniform(0.1, 0.2, 2), r.uniform(0.1, 0.2, 3), (3, 5), "ansi"
    ),
    "diffraction_3d": lambda r: gen.Diffraction3D(
        (3, *SIZE), r.uniform(0.1, 0.2), step=r.uniform(1, 2), indices=(4, 7)
    ),
    "confocal": lambda r: gen.Confocal((3, *SIZE), r.uniform(0.1, 0.2), pinhole=r.uniform(0.5, 1), indices=(4,)),
    "product_convolution": lambda r: gen.ProductConvolution(
        gen.GaussianBlur((3, 5), r.uniform(0.5, 1), r.uniform(2, 3)), SIZE, 3, (2, 3)
    ),
    "bernoulli_mask": lambda r: gen.BernoulliMask((6, 5, 1), r.uniform(0.3, 0.6)),
    "gaussian_mask": lambda r: gen.GaussianMask((6, 5, 2), r.uniform(0.3, 0.6), r.uniform(0.2, 0.3)),
    "coded_masks": lambda r: gen.CodedMasks((5, 4, 2), 3),
    "coded_masks_phase": lambda r: gen.CodedMasks((5, 4, 2), 2, "phase"),
    "uniform_lines": lambda r: gen.UniformLines((3, 12, 1), r.uniform(2, 3), r.uniform(0.1, 0.2)),
    "polynomial_lines": lambda r: gen.PolynomialLines((6, 5, 4, 1), r.uniform(2, 3), 0.2, r.uniform(4, 8), (0, 1)),
    "gaussian_lines": lambda r: gen.GaussianLines((3, 12, 1), r.uniform(2, 3), 0.1, r.uniform(0.3, 0.5)),
    "equispaced_lines": lambda r: gen.EquispacedLines((3, 12, 1), r.uniform(2, 3), r.uniform(0.1, 0.2)),
    "interleaved_lines": lambda r: gen.InterleavedLines((3, 12, 1), r.uniform(2, 3), 0.1, 4),
    "splitting": lambda r: gen.Splitting(mask(r), gen.BernoulliMask((8, 6, 1), r.uniform(0.3, 0.6))),
    "gaussian_splitting": lambda r: gen.GaussianSplitting(mask(r), r.uniform(0.3, 0.6), centre=(2, 2)),
    "phase2phase": lambda r: gen.Phase2Phase(mask(r, DYNAMIC)),
    "artifact2artifact": lambda r: gen.Artifact2Artifact(mask(r, DYNAMIC).astype(float), 1),
    "joint": lambda r: gen.Joint({"sigma": gen.Uniform(r.uniform(0.1, 0.2), 0.5), "gain": gen.LogUniform(0.1, 0.5)}),
    "mixture": lambda r: gen.Mixture(
        (gen.Uniform(0, r.uniform(0.1, 0.2), SIZE), gen.GaussianBlur(SIZE, r.uniform(0.5, 1), 3)),
        r.uniform(0.4, 0.6, 2),
    ),
}
SHAPES = {
    "constant": [SIZE],
    "uniform": [(2,)],
    "log_uniform": [()],
    "discrete": [(3,)],
    "gaussian_blur_3d": [(3, 4, 5)],
    "diffraction_colour": [(*SIZE, 3)],
    "diffraction_3d": [(3, *SIZE)],
    "confocal": [(3, *SIZE)],
    "product_convolution": [(3, 3, 5), (3, *SIZE, 1)],
    "bernoulli_mask": [(6, 5, 1)],
    "gaussian_mask": [(6, 5, 2)],
    "coded_masks": [(3, 5, 4, 1)],
    "coded_masks_phase": [(2, 5, 4, 1)],
    "uniform_lines": [(1, 12, 1)],
    "polynomial_lines": [(6, 5, 1, 1)],
    "gaussian_lines": [(1, 12, 1)],
    "equispaced_lines": [(1, 12, 1)],
    "interleaved_lines": [(4, 1, 12, 1)],
    "splitting": [(8, 6, 2)] * 2,
    "gaussian_splitting": [(8, 6, 2)] * 2,
    "phase2phase": [DYNAMIC] * 2,
    "artifact2artifact": [DYNAMIC] * 2,
    "joint": [(), ()],
}
"""Shapes of the leaves; what is not named here draws one kernel of ``SIZE``."""
LINES = ("uniform_lines", "polynomial_lines", "gaussian_lines", "equispaced_lines", "interleaved_lines")
SPLITS = ("splitting", "gaussian_splitting", "phase2phase", "artifact2artifact")
BOOLEAN = ("bernoulli_mask", "gaussian_mask", *LINES, *SPLITS)
KERNELS = [name for name in GENERATORS if "blur" in name or "diffraction" in name or name == "confocal"]
COMPLEX = [name for name in GENERATORS if name.startswith("coded_masks")]
SMOOTH = [name for name in GENERATORS if name not in (*BOOLEAN, *COMPLEX)]
"""Their draws are continuous in the hyper-parameters (coded masks have none)."""
EAGER = ("uniform", "discrete", "gaussian_blur", "gaussian_mask", "splitting", "artifact2artifact", "joint")
"""Eager, every small operation compiles on its own: some of them."""
