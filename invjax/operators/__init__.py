"""Forward models of imaging: an algebra of linear operators with exact adjoints and known spectra, and nonlinear ones."""

from .base import LinearOperator
from .basic import FunctionOperator, Identity, Mask, Matrix, from_function
from .batched import batched
from .blur import Blur
from .compressed import GaussianSensing, structured_random
from .crop import Crop, pad
from .differences import FiniteDifferences
from .estimators import diagonal, hutch_pp
from .fourier import CosineTransform, FourierTransform, single_coil_mri
from .hadamard import Hadamard, hadamard_order, single_pixel_camera
from .kernels import antialias_kernel, gaussian_kernel, uniform_kernel
from .kronecker import kronecker
from .linearise import linearise
from .operator import Operator
from .patches import Patches
from .resample import Decimate, at_scale, downsampling
from .reshape import Permute, Reshape
from .services import dot_test
from .spectral import ChannelMatrix, SnapshotSpectral, bayer_mask, decolorise, demosaicing, pansharpening
from .spectrum import Spectrum
from .stack import block_diagonal, stack
from .structure import structure
from .transform import UnitaryTransform
from .wavelet import Wavelet

__all__ = [
    "Blur",
    "ChannelMatrix",
    "CosineTransform",
    "Crop",
    "Decimate",
    "FiniteDifferences",
    "FourierTransform",
    "FunctionOperator",
    "GaussianSensing",
    "Hadamard",
    "Identity",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Operator",
    "Patches",
    "Permute",
    "Reshape",
    "SnapshotSpectral",
    "Spectrum",
    "UnitaryTransform",
    "Wavelet",
    "antialias_kernel",
    "at_scale",
    "batched",
    "bayer_mask",
    "block_diagonal",
    "decolorise",
    "demosaicing",
    "diagonal",
    "dot_test",
    "downsampling",
    "from_function",
    "gaussian_kernel",
    "hadamard_order",
    "hutch_pp",
    "kronecker",
    "linearise",
    "pad",
    "pansharpening",
    "single_coil_mri",
    "single_pixel_camera",
    "stack",
    "structure",
    "structured_random",
    "uniform_kernel",
]
