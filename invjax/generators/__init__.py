"""Random parameters of forward models: blur kernels, point-spread functions, masks, splits of masks, noise levels."""

from .base import Constant, Generator, Joint, Mixture
from .confocal import Confocal
from .diffraction import Diffraction, Diffraction3D
from .kernels import GaussianBlur, MotionBlur, anisotropic_gaussian
from .masks import BernoulliMask, CodedMasks, GaussianMask
from .mri_masks import EquispacedLines, GaussianLines, InterleavedLines, PolynomialLines, UniformLines
from .scalars import Discrete, LogUniform, Uniform
from .space_varying import ProductConvolution, ProductConvolutionParameters, TiledKernels
from .splitting import Artifact2Artifact, GaussianSplitting, Phase2Phase, Split, Splitting
from .zernike import ansi_to_nm, nm_to_ansi, nm_to_noll, noll_to_nm, zernike

__all__ = [
    "Artifact2Artifact",
    "BernoulliMask",
    "CodedMasks",
    "Confocal",
    "Constant",
    "Diffraction",
    "Diffraction3D",
    "Discrete",
    "EquispacedLines",
    "GaussianBlur",
    "GaussianLines",
    "GaussianMask",
    "GaussianSplitting",
    "Generator",
    "InterleavedLines",
    "Joint",
    "LogUniform",
    "Mixture",
    "MotionBlur",
    "Phase2Phase",
    "PolynomialLines",
    "ProductConvolution",
    "ProductConvolutionParameters",
    "Split",
    "Splitting",
    "TiledKernels",
    "Uniform",
    "UniformLines",
    "anisotropic_gaussian",
    "ansi_to_nm",
    "nm_to_ansi",
    "nm_to_noll",
    "noll_to_nm",
    "zernike",
]
