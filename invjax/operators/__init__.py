"""Forward models of imaging: an algebra of linear operators with exact adjoints and known spectra, and nonlinear ones."""

from .base import LinearOperator
from .basic import Diagonalised, FunctionOperator, Identity, Mask, Matrix, from_function
from .batched import batched
from .blind import BlindBlur
from .blur import Blur
from .coils import birdcage_maps, estimate_maps, normalise_maps, rss
from .compressed import GaussianSensing, structured_random
from .crop import Crop, pad
from .differences import FiniteDifferences
from .estimators import diagonal, hutch_pp
from .filtered_back_projection import filtered_back_projection
from .fourier import CosineTransform, FourierTransform
from .hadamard import Hadamard, hadamard_order, single_pixel_camera
from .kernels import antialias_kernel, gaussian_kernel, uniform_kernel
from .kronecker import kronecker
from .linearise import linearise
from .local_means import local_mean
from .modulation import Modulation
from .mri import dynamic_mri, multi_coil_mri, sequential_mri, single_coil_mri
from .non_cartesian import non_cartesian_mri, pipe_menon_density, ramp_density
from .nufft import NUFFT, Toeplitz
from .operator import Operator
from .patches import Patches
from .phase_retrieval import PhaseRetrieval, coded_diffraction
from .pointwise import Haze, WrappedPhase
from .propagation import FourierFilter, PhaseScreen, angular_spectrum, fresnel, fresnel_transform, object_pixel_size
from .ptychography import Ptychography
from .radio import earth_rotation_uv, radio_interferometry
from .real_part import as_complex
from .resample import Decimate, at_scale, downsampling
from .reshape import Permute, Reshape
from .resize import Resize
from .scans import defocused_probe, disc_probe, fermat_scan, gaussian_probe, jitter, raster_scan
from .services import dot_test
from .space_varying import SpaceVaryingBlur
from .spectral import ChannelMatrix, SnapshotSpectral, bayer_mask, decolorise, demosaicing, pansharpening
from .spectrum import Spectrum
from .stack import block_diagonal, stack
from .structure import structure
from .tiled import TiledBlur, partition_windows
from .tomography import XRayTransform, cone_beam, fan_beam, parallel_beam
from .trajectories import golden_angle_trajectory, radial_trajectory, random_trajectory, spiral_trajectory
from .transform import UnitaryTransform
from .wavelet import Wavelet

__all__ = [
    "NUFFT",
    "BlindBlur",
    "Blur",
    "ChannelMatrix",
    "CosineTransform",
    "Crop",
    "Decimate",
    "Diagonalised",
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
    "Modulation",
    "Operator",
    "Patches",
    "Permute",
    "PhaseRetrieval",
    "PhaseScreen",
    "Ptychography",
    "Reshape",
    "Resize",
    "SnapshotSpectral",
    "SpaceVaryingBlur",
    "Spectrum",
    "TiledBlur",
    "Toeplitz",
    "UnitaryTransform",
    "Wavelet",
    "WrappedPhase",
    "XRayTransform",
    "angular_spectrum",
    "antialias_kernel",
    "as_complex",
    "at_scale",
    "batched",
    "bayer_mask",
    "birdcage_maps",
    "block_diagonal",
    "coded_diffraction",
    "cone_beam",
    "decolorise",
    "defocused_probe",
    "demosaicing",
    "diagonal",
    "disc_probe",
    "dot_test",
    "downsampling",
    "dynamic_mri",
    "earth_rotation_uv",
    "estimate_maps",
    "fan_beam",
    "fermat_scan",
    "filtered_back_projection",
    "fresnel",
    "fresnel_transform",
    "from_function",
    "gaussian_kernel",
    "gaussian_probe",
    "golden_angle_trajectory",
    "hadamard_order",
    "hutch_pp",
    "jitter",
    "kronecker",
    "linearise",
    "local_mean",
    "multi_coil_mri",
    "non_cartesian_mri",
    "normalise_maps",
    "object_pixel_size",
    "pad",
    "pansharpening",
    "parallel_beam",
    "partition_windows",
    "pipe_menon_density",
    "radial_trajectory",
    "radio_interferometry",
    "ramp_density",
    "random_trajectory",
    "raster_scan",
    "rss",
    "sequential_mri",
    "single_coil_mri",
    "single_pixel_camera",
    "spiral_trajectory",
    "stack",
    "structure",
    "structured_random",
    "uniform_kernel",
]
