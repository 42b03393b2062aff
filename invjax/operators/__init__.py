"""Forward models of imaging: an algebra of linear operators with exact adjoints and known spectra, and nonlinear ones."""

from .base import LinearOperator
from .basic import FunctionOperator, Identity, Mask, Matrix, from_function
from .blur import Blur
from .compressed import GaussianSensing, structured_random
from .crop import Crop, pad
from .differences import FiniteDifferences
from .filtered_back_projection import filtered_back_projection
from .fourier import CosineTransform, FourierTransform, single_coil_mri
from .hadamard import Hadamard, hadamard_order, single_pixel_camera
from .kernels import antialias_kernel, gaussian_kernel, uniform_kernel
from .linearise import linearise
from .operator import Operator
from .resample import Decimate, downsampling
from .services import dot_test
from .spectral import ChannelMatrix, SnapshotSpectral, bayer_mask, decolorise, demosaicing, pansharpening
from .spectrum import Spectrum
from .stack import block_diagonal, stack
from .structure import structure
from .tomography import XRayTransform, cone_beam, fan_beam, parallel_beam
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
    "SnapshotSpectral",
    "Spectrum",
    "Wavelet",
    "XRayTransform",
    "antialias_kernel",
    "bayer_mask",
    "block_diagonal",
    "cone_beam",
    "decolorise",
    "demosaicing",
    "dot_test",
    "downsampling",
    "fan_beam",
    "filtered_back_projection",
    "from_function",
    "gaussian_kernel",
    "hadamard_order",
    "linearise",
    "pad",
    "pansharpening",
    "parallel_beam",
    "single_coil_mri",
    "single_pixel_camera",
    "stack",
    "structure",
    "structured_random",
    "uniform_kernel",
]
