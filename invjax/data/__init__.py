"""Images to work on: photographs that come with scikit-image, a sample of Fashion-MNIST, files, and phantoms made on the spot.

Every image is float32 ``(H, W, C)`` with values in [0, 1]; a grey one has C = 1. Nothing is downloaded.
"""

from .fashion import FASHION_CLASSES, fashion_mnist
from .files import load_image, save_image, write_bytes
from .line_integrals import ellipsoid_line_integrals, shepp_logan_line_integrals
from .phantoms import random_ellipses, shepp_logan, shepp_logan_3d
from .photographs import PHOTOGRAPHS, photograph

__all__ = [
    "FASHION_CLASSES",
    "PHOTOGRAPHS",
    "ellipsoid_line_integrals",
    "fashion_mnist",
    "load_image",
    "photograph",
    "random_ellipses",
    "save_image",
    "shepp_logan",
    "shepp_logan_3d",
    "shepp_logan_line_integrals",
    "write_bytes",
]
