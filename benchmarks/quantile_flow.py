"""The MMD flow on the line by quantile functions: N(0, 0.5^2) towards N(0, 2^2), implicit Euler, float64.

The quality is the W2 distance to the target at time 100 over that at the start. The peer is the scheme in NumPy: a loop over
steps with vectorised bisection (it needs SciPy, which this package has).
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, record
from scipy.stats import norm

from invjax import gradient_flows, iterate

START, GOAL, STEP_SIZE = 0.5, 2.0, 0.01
LEVELS, STEPS = 1001, 10_000


def distance(g: Any) -> float:
    """W2 of the quantiles to the target."""
    exact = GOAL * norm.ppf(np.asarray(gradient_flows.quantile_levels(len(g))))
    return float(np.sqrt(np.mean((np.asarray(g) - exact) ** 2)))


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    jax.config.update("jax_enable_x64", True)
    steps, levels = (500, 101) if args.quick else (STEPS, LEVELS)
    s = np.asarray(gradient_flows.quantile_levels(levels))
    g0 = START * norm.ppf(s)
    flow = gradient_flows.ImplicitQuantileFlow(gradient_flows.NormalMixtureTarget(0.0, GOAL), STEP_SIZE)
    watch = Stopwatch(lambda: iterate(flow, g0, steps)[0].position)
    given = {"g": g0, "levels": s, "goal": GOAL, "step_size": STEP_SIZE, "num_steps": steps}
    peer = Peer("numpy", "numpy_quantile_flow.py", sys.executable, given, quick=args.quick)
    interleave({"implicit": watch}, [peer], args.repeats or 5)
    case = f"quantile flow/{steps} implicit steps, {levels} levels"
    quality = distance(watch.result) / distance(g0)
    mine = record(
        case, {"levels": levels, "steps": steps}, watch.times(), quality, "W2 over its start", dtype="float64"
    )
    error = peer.facts["loop"]["second_moment"] / float(np.mean(np.asarray(watch.result) ** 2)) - 1
    # Both solve each step to rounding: the second moments agree.
    lines = [mine, against(mine, peer, "loop", quality, ours_is_as_good=abs(error) < 1e-9, relative_difference=error)]
    peer.close()
    emit(lines)


if __name__ == "__main__":
    main()
