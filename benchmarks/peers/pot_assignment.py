"""The network simplex of POT."""

from __future__ import annotations

import importlib.metadata

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import ot  # noqa: E402

cost = problem["cost"]
uniform = np.full(len(cost), 1 / len(cost))

if __name__ == "__main__":
    simplex = Variant(lambda: ot.emd2(uniform, uniform, cost), lambda value: {"value": float(value)})
    serve({"network simplex": simplex}, {"POT": importlib.metadata.version("POT")})
