"""MMD flow of particles with the negative distance: seconds for a step, against PyTorch, simple_torch_NFFT and KeOps, float32.

A Gaussian cloud moves towards another; everybody has the same directions and step size. The quality is the relative error of the
first velocity against all pairs in float64, over the first 500 particles: slicing error for all who slice. ``temp_bytes`` is what
the compiled flow allocates besides its arguments and result, ``temp_over_points`` that over the bytes of particles and target.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from peers.common import relative_error

from invjax import gradient_flows, iterate, kernels

CHECKED, STEP_SIZE = 500, 0.1
# particles and target points each, dimension, slices, steps, and who takes part
CASES = (
    (5_000, 2, 16, 10, ("sorting", "simple_torch_NFFT", "KeOps, all pairs")),
    (50_000, 2, 16, 5, ("sorting", "simple_torch_NFFT")),
    (10_000, 784, 196, 2, ("sorting", "simple_torch_NFFT")),
)
QUICK = ((1_000, 2, 16, 5, ("sorting", "simple_torch_NFFT")), (500, 784, 14, 2, ("sorting",)))


def problem(num: int, dim: int, slices: int, steps: int, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Particles, target, directions and the exact velocity."""
    r = np.random.default_rng(0)
    x = r.normal(size=(num, dim)).astype(np.float32)
    target = (0.5 * r.normal(size=(num, dim)) + 1 / np.sqrt(dim)).astype(np.float32)
    kind = "distance" if dim == 2 else "orthogonal"
    xi = np.asarray(kernels.directions(jax.random.key(0), kind, slices, dim), np.float32)
    some = {"exact": exact_velocity(x, target), "variants": np.array(wanted)}
    return {"x": x, "target": target, "directions": xi, "step_size": STEP_SIZE, "num_steps": steps} | some


def exact_velocity(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """All pairs in float64, for the first particles."""

    def pull(point: np.ndarray, cloud: np.ndarray) -> np.ndarray:
        difference = cloud - point
        length = np.linalg.norm(difference, axis=1, keepdims=True)
        return (difference / np.where(length > 0, length, 1)).mean(0)

    x, target = x.astype(np.float64), target.astype(np.float64)
    return np.stack([pull(point, target) - pull(point, x) for point in x[:CHECKED]])


def flow_of(arrays: dict[str, Any], method: str) -> gradient_flows.ParticleFlow:
    """The flow as a method."""
    x, target, kernel = arrays["x"], arrays["target"], kernels.NegativeDistance()
    plan = None
    if method != "dense":
        shapes = ((len(x) + len(target), x.shape[1]), x.shape)
        radius = 1.2 * max(np.linalg.norm(cloud, axis=1).max() for cloud in (x, target))
        plan = kernels.plan(kernel, shapes, radius, method=method, directions=arrays["directions"])
    energy = gradient_flows.MMDEnergy(kernel, jnp.asarray(target), plan=plan)
    return gradient_flows.ParticleFlow(energy.tabulated() if method == "grid" else energy, STEP_SIZE)


def facts_of(flow: gradient_flows.ParticleFlow, arrays: dict[str, Any]) -> dict[str, Any]:
    """Memory of the compiled flow."""
    x, steps = jnp.asarray(arrays["x"]), int(arrays["num_steps"])
    compiled = jax.jit(lambda flow, x: iterate(flow, x, steps)[0].position).lower(flow, x).compile()
    found = compiled.memory_analysis().temp_size_in_bytes
    return {"temp_bytes": found, "temp_over_points": found / (8 * x.size)}


def lines_of(case: tuple, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    num, dim, slices, steps, _ = case
    arrays = problem(*case)
    x = jnp.asarray(arrays["x"])
    methods = ["grid", "sort"] if dim == 2 else ["grid"]
    methods += ["dense"] if num <= 5_000 else []
    flows = {name: flow_of(arrays, name) for name in methods}
    ours = {name: Stopwatch(lambda flow=flow: iterate(flow, x, steps)[0].position) for name, flow in flows.items()}
    peer = Peer("torch", "torch_mmd_flow.py", pythons.get("torch"), arrays, quick=quick)
    interleave(ours, [peer], repeats, budget=60.0)
    lines = []
    sizes = {"particles": num, "target": num, "dim": dim, "slices": slices, "steps": steps}
    for name, watch in ours.items():
        velocity = np.asarray(flows[name].energy.velocity(x))[:CHECKED]
        error = relative_error(velocity, arrays["exact"])
        times = {k: v / steps if k != "compile_seconds" else v for k, v in watch.times().items()}
        case_name = f"mmd flow/{num} particles, d = {dim}/{name}"
        lines.append(
            record(case_name, sizes, times, error, "relative error of the velocity", **facts_of(flows[name], arrays))
        )
    return lines + comparisons(lines[0], peer, steps)


def comparisons(best: dict, peer: Peer, steps: int) -> list[dict]:
    """Ours on a grid beside every variant of the peer, in seconds for a step."""
    if peer.missing:
        return [without(best, peer)]
    lines = []
    for variant, facts in peer.facts.items():
        peer.seconds[variant] = [s / steps for s in peer.seconds[variant]]
        peer.cpu_seconds[variant] = [s / steps for s in peer.cpu_seconds[variant]]
        # Equal directions give equal slicing errors; the exact sums of KeOps have none, and their ratio says so by its absence.
        as_good = best["quality"] <= 1.01 * facts["error"]
        lines.append(
            against(best, peer, variant, facts["error"], ours_is_as_good=as_good, peer_threads=facts["threads"])
        )
    peer.close()
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (3 if args.quick else 7)
    for case in QUICK if args.quick else CASES:
        emit(lines_of(case, peer_pythons(args), args.quick, repeats))


if __name__ == "__main__":
    main()
