"""Optimal transport: problems, couplings with potentials and their proof, maps and distances.

A ``Problem`` is a cost (a matrix, or clouds of points by ``between``) with two marginals. A solver returns a coupling, with a
status, the error of its marginals and a duality gap; nothing compiles again for other numbers.
"""

from .assignment import Assignment, assignment
from .barycenter import BregmanProjections, EntropicBarycenter, entropic_barycenter
from .costs import Distance, GridCost, MatrixCost, PointCost, SquaredEuclidean
from .divergence import sinkhorn_divergence
from .entropic import EntropicCoupling
from .gaussian import (
    GaussianBarycenter,
    LinearMap,
    bures2,
    bures_map,
    gaussian_barycenter,
    matrix_square_root,
)
from .laguerre import Cells, power_cells
from .line import LineCoupling, line_coupling, line_wasserstein
from .low_rank import LowRankCoupling, low_rank
from .monge import MapLoss, monge_gap
from .newton import SinkhornNewton, sinkhorn_newton
from .pairing import EntropicPairing, ExactPairing, LowRankPairing
from .partial import partial, progressive_partial
from .polygon import PolygonNewton, PolygonTransport, polygon_transport
from .problem import Problem, between
from .semantic import SemanticPartial, semantic_partial
from .semidiscrete import SemiDiscrete, SiteMap
from .sinkhorn import Sinkhorn, sinkhorn, unbalanced
from .sliced import (
    CircularProjection,
    LinearProjection,
    PolynomialProjection,
    SlicedWasserstein,
    max_sliced_wasserstein,
    sliced_wasserstein,
)
from .sliced_barycenter import SlicedBarycenter, SlicedMatching, sliced_barycenter
from .sparse import SparseCoupling, SparseTransport, sparse_transport

__all__ = [
    "Assignment",
    "BregmanProjections",
    "Cells",
    "CircularProjection",
    "Distance",
    "EntropicBarycenter",
    "EntropicCoupling",
    "EntropicPairing",
    "ExactPairing",
    "GaussianBarycenter",
    "GridCost",
    "LineCoupling",
    "LinearMap",
    "LinearProjection",
    "LowRankCoupling",
    "LowRankPairing",
    "MapLoss",
    "MatrixCost",
    "PointCost",
    "PolygonNewton",
    "PolygonTransport",
    "PolynomialProjection",
    "Problem",
    "SemanticPartial",
    "SemiDiscrete",
    "Sinkhorn",
    "SinkhornNewton",
    "SiteMap",
    "SlicedBarycenter",
    "SlicedMatching",
    "SlicedWasserstein",
    "SparseCoupling",
    "SparseTransport",
    "SquaredEuclidean",
    "assignment",
    "between",
    "bures2",
    "bures_map",
    "entropic_barycenter",
    "gaussian_barycenter",
    "line_coupling",
    "line_wasserstein",
    "low_rank",
    "matrix_square_root",
    "max_sliced_wasserstein",
    "monge_gap",
    "partial",
    "polygon_transport",
    "power_cells",
    "progressive_partial",
    "semantic_partial",
    "sinkhorn",
    "sinkhorn_divergence",
    "sinkhorn_newton",
    "sliced_barycenter",
    "sliced_wasserstein",
    "sparse_transport",
    "unbalanced",
]
