"""Group actions on images: exact or interpolated transforms, their inverses, as operators, and averages over groups."""

from .average import Symmetrised, group_average, random_average
from .base import Product, Transform
from .cpab import CPABDiffeomorphism
from .fourier import FourierShift, RandomPhaseError, ShearRotation, fourier_shift
from .homography import Homography, affine, camera_view, euclidean, pan_tilt_rotate, similarity
from .noise import RandomNoise
from .permutations import QuarterTurns, Reflect, Shift, dihedral, shift_time
from .warp import Rotate, Scale, interpolate, rotation

__all__ = [
    "CPABDiffeomorphism",
    "FourierShift",
    "Homography",
    "Product",
    "QuarterTurns",
    "RandomNoise",
    "RandomPhaseError",
    "Reflect",
    "Rotate",
    "Scale",
    "ShearRotation",
    "Shift",
    "Symmetrised",
    "Transform",
    "affine",
    "camera_view",
    "dihedral",
    "euclidean",
    "fourier_shift",
    "group_average",
    "interpolate",
    "pan_tilt_rotate",
    "random_average",
    "rotation",
    "shift_time",
    "similarity",
]
