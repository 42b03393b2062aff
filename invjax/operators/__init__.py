"""Forward models of imaging: an algebra of linear operators with exact adjoints and known spectra, and nonlinear ones."""

from .base import LinearOperator
from .basic import AsComplex, FunctionOperator, Identity, Mask, Matrix, from_function
from .blur import Blur
from .compressed import GaussianSensing, structured_random
from .crop import Crop, pad
from .differences import FiniteDifferences
from .fourier import CosineTransform, FourierTransform, single_coil_mri
from .hadamard import Hadamard, hadamard_order, single_pixel_camera
from .kernels import antialias_kernel, gaussian_kernel, uniform_kernel
from .linearise import linearise
from .operator import Operator
from .phase_retrieval import CodedDiffraction, PhaseRetrieval, coded_diffraction
from .pointwise import Haze, WrappedPhase
from .propagation import FourierFilter, PhaseScreen, angular_spectrum, fresnel, fresnel_transform, object_pixel_size
from .ptychography import Ptychography
from .resample import Decimate, downsampling
from .scans import defocused_probe, disc_probe, fermat_scan, gaussian_probe, jitter, raster_scan
from .services import dot_test
from .spectral import ChannelMatrix, SnapshotSpectral, bayer_mask, decolorise, demosaicing, pansharpening
from .spectrum import Spectrum
from .stack import block_diagonal, stack
from .structure import structure
from .wavelet import Wavelet

__all__ = [
    "AsComplex",
    "Blur",
    "ChannelMatrix",
    "CodedDiffraction",
    "CosineTransform",
    "Crop",
    "Decimate",
    "FiniteDifferences",
    "FourierFilter",
    "FourierTransform",
    "FunctionOperator",
    "GaussianSensing",
    "Hadamard",
    "Haze",
    "Identity",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Operator",
    "PhaseRetrieval",
    "PhaseScreen",
    "Ptychography",
    "SnapshotSpectral",
    "Spectrum",
    "Wavelet",
    "WrappedPhase",
    "angular_spectrum",
    "antialias_kernel",
    "bayer_mask",
    "block_diagonal",
    "coded_diffraction",
    "decolorise",
    "defocused_probe",
    "demosaicing",
    "disc_probe",
    "dot_test",
    "downsampling",
    "fermat_scan",
    "fresnel",
    "fresnel_transform",
    "from_function",
    "gaussian_kernel",
    "gaussian_probe",
    "hadamard_order",
    "jitter",
    "linearise",
    "object_pixel_size",
    "pad",
    "pansharpening",
    "raster_scan",
    "single_coil_mri",
    "single_pixel_camera",
    "stack",
    "structure",
    "structured_random",
    "uniform_kernel",
]
