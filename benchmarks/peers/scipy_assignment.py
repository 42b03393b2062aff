"""The assignment of lowest cost by SciPy (C++) and by ott-jax."""

from __future__ import annotations

import importlib.metadata

from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
import scipy.optimize  # noqa: E402
from ott.geometry import geometry  # noqa: E402
from ott.tools import unreg  # noqa: E402

jax.config.update("jax_enable_x64", True)
cost = problem["cost"]
by_ott = jax.jit(lambda cost: unreg.hungarian(geometry.Geometry(cost))[0])

if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("scipy", "ott-jax")}
    variants = {
        "SciPy": Variant(
            lambda: scipy.optimize.linear_sum_assignment(cost), lambda out: {"value": float(cost[out].mean())}
        ),
        "ott-jax": Variant(lambda: by_ott(cost), lambda value: {"value": float(value)}),
    }
    serve(variants, versions, jax.block_until_ready)
