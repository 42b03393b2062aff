"""ASTRA's projectors on the CPU: "line" (exact lengths in pixels), "linear" (Joseph; parallel beams only), "strip" (areas)."""

from __future__ import annotations

import numpy as np
from common import Variant, arguments, mismatch, relative_error, serve

args, problem = arguments()

import astra  # noqa: E402

size, (num, detectors) = problem["clean"].shape[0], problem["exact"].shape
source = float(problem["source_distance"])
volume = astra.create_vol_geom(size, size)
if source:
    geometry = astra.create_proj_geom("fanflat", 1.5, detectors, problem["angles"], source, source / 2)
else:
    geometry = astra.create_proj_geom("parallel", 1.0, detectors, problem["angles"])


def projector(kind: str):
    """Functions ``x -> A x`` and ``y -> A^T y`` on arrays that ASTRA holds."""
    ids = {"projector": astra.create_projector(kind, geometry, volume)}
    ids["image"] = astra.data2d.create("-vol", volume, 0)
    ids["sinogram"] = astra.data2d.create("-sino", geometry, 0)

    def algorithm(name: str, image: str) -> int:
        config = astra.astra_dict(name)
        config |= {"ProjectorId": ids["projector"], "ProjectionDataId": ids["sinogram"], image: ids["image"]}
        return astra.algorithm.create(config)

    forward, backward = algorithm("FP", "VolumeDataId"), algorithm("BP", "ReconstructionDataId")

    def project(x: np.ndarray) -> np.ndarray:
        astra.data2d.store(ids["image"], x)
        astra.algorithm.run(forward)
        return astra.data2d.get(ids["sinogram"])

    def back_project(y: np.ndarray) -> np.ndarray:
        astra.data2d.store(ids["sinogram"], y)
        astra.algorithm.run(backward)
        return astra.data2d.get(ids["image"])

    return project, back_project


def variants() -> dict[str, Variant]:
    found = {}
    for kind in ("line_fanflat", "strip_fanflat") if source else ("line", "linear", "strip"):
        project, back_project = projector(kind)
        off = mismatch(project, back_project, problem["u"], problem["v"])
        found[f"forward, {kind}"] = Variant(
            lambda f=project: f(problem["clean"]), lambda y: {"quality": relative_error(y, problem["exact"])}
        )
        found[f"adjoint, {kind}"] = Variant(lambda f=back_project: f(problem["v"][0]), lambda x, q=off: {"quality": q})
    return found


if __name__ == "__main__":
    serve(variants(), {"astra": astra.__version__})
