"""Random parameters of forward models: blur kernels, point-spread functions, masks, splits of masks, noise levels."""

from .base import Constant, Generator, Joint, Mixture
from .confocal import Confocal
from .diffraction import Diffraction, Diffraction3D
from .kernels import GaussianBlur, MotionBlur, anisotropic_gaussian
from .masks import BernoulliMask, GaussianMask
from .mri_masks import equispaced_mask, gaussian_mask, interleaved_masks, polynomial_mask, uniform_mask
from .scalars import Discrete, LogUniform, Uniform
from .space_varying import ProductConvolution, ProductConvolutionParameters, TiledKernels
from .splitting import Artifact2Artifact, GaussianSplitting, Phase2Phase, Split, Splitting
from .zernike import ansi_to_nm, nm_to_ansi, nm_to_noll, noll_to_nm, zernike

__all__ = [
    "Artifact2Artifact",
    "BernoulliMask",
    "Confocal",
    "Constant",
    "Diffraction",
    "Diffraction3D",
    "Discrete",
    "GaussianBlur",
    "GaussianMask",
    "GaussianSplitting",
    "Generator",
    "Joint",
    "LogUniform",
    "Mixture",
    "MotionBlur",
    "Phase2Phase",
    "ProductConvolution",
    "ProductConvolutionParameters",
    "Split",
    "Splitting",
    "TiledKernels",
    "Uniform",
    "anisotropic_gaussian",
    "ansi_to_nm",
    "equispaced_mask",
    "gaussian_mask",
    "interleaved_masks",
    "nm_to_ansi",
    "nm_to_noll",
    "noll_to_nm",
    "polynomial_mask",
    "uniform_mask",
    "zernike",
]
