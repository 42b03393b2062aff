"""Time to the same TV objective: deblurring of the camera image, to a relative gap of 1e-3.

``min |A x - y|^2 / 2 + 0.003 TV(x)``, circular Gaussian blur (sigma 1.6, 13x13), noise 0.02, isotropic TV with Neumann or
circular differences, from ``A^H y``. The minimum comes from a long run in float64; each solver's number of steps is the first
whose objective, in float64, is within the gap; then that many steps are timed, without any evaluation inside.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from jaxtyping import Array
from peers.common import objective, quality
from problems import SIGMA, WEIGHT, deblurring

from invjax import InverseProblem, Likelihood, iterate
from invjax.likelihoods import Gaussian
from invjax.operators import Blur
from invjax.priors import TV
from invjax.reducers import Every
from invjax.solvers import FISTA, SDMM, ChambollePock, CondatVu, SplitBregman

GAP = 1e-3
LAM = WEIGHT / SIGMA**2


def methods(f: Likelihood, g: TV) -> dict[str, Any]:
    """Every solver with its best settings on the grid of ``docs/benchmarks.md``."""
    found = {
        "SDMM": SDMM(f, g, step_size=40 * SIGMA**2, rho=2.5),
        "ChambollePock": ChambollePock(f, g, 2.5 * SIGMA**2),
        "CondatVu": CondatVu(f, g, 1.2 * SIGMA**2),
        "FISTA, 8 inner": FISTA(f, g, num_inner=8),
        "FISTA, 10 inner": FISTA(f, g, num_inner=10),
    }
    closed_form = g.operator.boundary == "circular"
    return ({"SplitBregman": SplitBregman(f, g, 20 * LAM)} if closed_form else {}) | found


def minimum(arrays: dict[str, Any], boundary: str, num_steps: int) -> float:
    """Objective after a long run in float64."""
    with jax.enable_x64(True):
        kernel, y, start = (jnp.asarray(arrays[k], jnp.float64) for k in ("kernel", "y", "start"))
        f = InverseProblem(Blur(kernel, (*y.shape, 1)), Gaussian(SIGMA)).likelihood(y[..., None])
        g = TV((*y.shape, 1), LAM, boundary=boundary)
        method = SplitBregman(f, g, 20 * LAM) if boundary == "circular" else ChambollePock(f, g, 2.5 * SIGMA**2)
        state, _, _ = iterate(method, start[..., None], num_steps)
        return objective(np.asarray(state.position), arrays, boundary)


class Objective(eqx.Module):
    """``f + g`` in the units of ``|A x - y|^2 / 2``: what the trace keeps of a step."""

    likelihood: Likelihood
    prior: TV

    def __call__(self, state: Any, info: Any) -> Array:
        return (self.likelihood(state.position) + self.prior(state.position)) * SIGMA**2


def steps_to_gap(method: Any, start: Array, target: float, longest: int) -> int:
    """First step whose objective is at most ``target``; ``longest`` when there is none."""
    _, values, _ = iterate(method, start, longest, trace=Every(1, of=Objective(method.likelihood, method.prior)))
    reached = np.nonzero(np.asarray(values) <= target)[0]
    return int(reached[0]) + 1 if reached.size else longest


def one_setting(size: int, boundary: str, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    """All lines for one image size and one boundary of TV."""
    f, arrays = deblurring(size)
    lowest = minimum(arrays, boundary, 500 if quick else 4000)
    problem = arrays | {"boundary": boundary, "minimum": lowest, "gap": GAP}
    g, start = TV(f.operator.in_structure.shape, LAM, boundary=boundary), jnp.asarray(arrays["start"])[..., None]
    ours, steps = {}, {}
    for name, method in methods(f, g).items():
        steps[name] = steps_to_gap(method, start, lowest * (1 + GAP), 60 if quick else 400)
        ours[name] = Stopwatch(lambda m=method, n=steps[name]: iterate(m, start, n)[0].position)
    scripts = {"deepinv": "neumann", "pyproximal": "neumann", "scico": "both"}
    peers = [
        Peer(name, f"{name}_tv_deblurring.py", pythons.get(name), problem, quick=quick)
        for name, where in scripts.items()
        if where in (boundary, "both")
    ]
    interleave(ours, peers, repeats)
    lines = lines_of_ours(ours, steps, problem, size)
    reached = [line for line in lines if line["gap_reached"]]
    best = min(reached or lines, key=lambda line: line["seconds"])
    for peer in peers:
        lines += lines_of_peer(best, peer)
        peer.close()
    return lines


def lines_of_ours(ours: dict[str, Stopwatch], steps: dict[str, int], problem: dict, size: int) -> list[dict]:
    """One line per solver."""
    lines = []
    for name, stopwatch in ours.items():
        found = quality(np.asarray(stopwatch.result), problem)
        sizes = {"image": [size, size], "steps": steps[name]}
        facts = {"psnr": found["psnr"], "minimum": problem["minimum"], "gap_reached": found["gap"] <= 1.01 * GAP}
        case = f"tv_deblurring/{problem['boundary']}/{size}/{name}"
        lines.append(record(case, sizes, stopwatch.times(), found["gap"], "relative gap", **facts))
    return lines


def lines_of_peer(best: dict, peer: Peer) -> list[dict]:
    """Our fastest solver beside every variant of a peer: same objective, same gap."""
    if peer.missing:
        return [without(best, peer)]
    lines = []
    for variant, facts in peer.facts.items():
        extra = {"peer_psnr": facts["psnr"], "peer_steps": facts["steps"], "peer_reached": facts["gap"] <= 1.01 * GAP}
        extra["objective_disagreement"] = facts["objective_disagreement"]
        # A peer that has not reached the gap has a worse objective: the ratio is then a lower bound.
        as_good = best["quality"] <= max(facts["gap"], 1.01 * GAP)
        lines.append(against(best, peer, variant, facts["gap"], ours_is_as_good=as_good, **extra))
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (3 if args.quick else 7)
    lines = []
    for size in (128,) if args.quick else (256, 512):
        for boundary in ("circular", "neumann"):
            lines += one_setting(size, boundary, peer_pythons(args), args.quick, repeats)
    emit(lines)


if __name__ == "__main__":
    main()
