"""Linear operators of imaging: an algebra with exact adjoints and known spectra."""

from .base import LinearOperator
from .basic import FunctionOperator, Identity, Mask, Matrix, from_function
from .blur import Blur
from .differences import FiniteDifferences
from .fourier import FourierTransform, single_coil_mri
from .kernels import antialias_kernel, gaussian_kernel, uniform_kernel
from .resample import Decimate, downsampling
from .services import dot_test
from .spectrum import Spectrum
from .stack import block_diagonal, stack
from .structure import structure
from .wavelet import Wavelet

__all__ = [
    "Blur",
    "Decimate",
    "FiniteDifferences",
    "FourierTransform",
    "FunctionOperator",
    "Identity",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Spectrum",
    "Wavelet",
    "antialias_kernel",
    "block_diagonal",
    "dot_test",
    "downsampling",
    "from_function",
    "gaussian_kernel",
    "single_coil_mri",
    "stack",
    "structure",
    "uniform_kernel",
]
