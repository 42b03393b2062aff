"""What every peer script shares: the input file, the objective in NumPy, and the protocol with the harness.

Runs in the peer's own environment, so it imports NumPy alone. A peer script builds its variants (name -> function that runs the
whole task once and returns the result) and calls ``serve``. The protocol is one line of text in, one JSON line out: after a
first line that describes the variants, each variant named on stdin runs once and its seconds are printed. The harness can
so interleave our runs and the peer's in one session.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_ANSWERS = sys.stdout  # what a peer prints must not get there


@dataclasses.dataclass
class Variant:
    """One algorithm of a peer: ``run()`` does the whole task; ``report(result)`` gives its quality and other facts."""

    run: Callable[[], Any]
    report: Callable[[Any], dict]


def arguments() -> tuple[argparse.Namespace, dict[str, np.ndarray]]:
    """Command line of a peer script and the arrays of its input file. Before the peer is imported, sets the
    thread count and sends what it prints to stderr.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("input", help=".npz file with the arrays of the problem")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    sys.stdout = sys.stderr
    with np.load(args.input) as stored:
        return args, dict(stored)


def serve(variants: dict[str, Variant], versions: dict[str, str], block: Callable[[Any], Any] = lambda x: x) -> None:
    """Run every variant once (warm-up; its report describes it), then those named on stdin, until stdin closes."""
    facts = {}
    for name, variant in variants.items():
        start = time.perf_counter()
        result = block(variant.run())
        facts[name] = {"first_seconds": time.perf_counter() - start, **variant.report(result)}
    print(json.dumps({"versions": versions, "variants": facts}), file=_ANSWERS, flush=True)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        block(variants[line.strip()].run())
        times = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(times), file=_ANSWERS, flush=True)


def fastest_threads(set_threads: Callable[[int], None], probe: Callable[[], Any], most: int) -> int:
    """Set, and return, the thread count from 1 to ``most`` with the fastest of three probes: small images gain nothing by two."""
    seconds = {}
    for count in range(1, most + 1):
        set_threads(count)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            probe()
            times.append(time.perf_counter() - start)
        seconds[count] = min(times[1:])
    best = min(seconds, key=seconds.get)
    set_threads(best)
    return best


def transfer_function(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """DFT of the kernel, padded to ``shape`` and centred at ``floor(size / 2)``."""
    padded = np.zeros(shape)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.rfft2(np.roll(padded, [-(n // 2) for n in kernel.shape], (0, 1)))


def differences(x: np.ndarray, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """Forward differences down and across: the last is zero ("neumann") or wraps around ("circular")."""
    down, across = np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x
    if boundary == "neumann":
        down[-1], across[:, -1] = 0, 0
    return down, across


def objective(x: np.ndarray, problem: dict[str, np.ndarray], boundary: str | None = None) -> float:
    """``|A x - y|^2 / 2 + weight TV(x)`` in float64, isotropic TV, for a grey image ``(H, W)``: the judge of everybody."""
    x = np.asarray(x, np.float64).reshape(problem["y"].shape)
    blurred = np.fft.irfft2(transfer_function(problem["kernel"], x.shape) * np.fft.rfft2(x), x.shape)
    down, across = differences(x, boundary or str(problem["boundary"]))
    misfit = np.sum((blurred - problem["y"]) ** 2) / 2
    return float(misfit + problem["weight"] * np.sum(np.sqrt(down**2 + across**2)))


def psnr(x: np.ndarray, clean: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB for values in [0, 1]; nothing is clipped."""
    x = np.asarray(x, np.float64).reshape(clean.shape)
    return float(-10 * np.log10(np.mean((x - clean) ** 2)))


def steps_to_gap(
    iterates: Callable[[Callable[[np.ndarray], bool]], None], problem: dict[str, np.ndarray]
) -> int | None:
    """Number of the first iterate whose objective is within ``gap`` of the minimum; None when that never happens.

    ``iterates(visit)`` calls ``visit(x)`` after every iteration and stops when it returns True.
    """
    target = float(problem["minimum"]) * (1 + float(problem["gap"]))
    count, found = 0, None

    def visit(x: np.ndarray) -> bool:
        nonlocal count, found
        count += 1
        if found is None and objective(x, problem) <= target:
            found = count
        return found is not None

    iterates(visit)
    return found


def quality(x: np.ndarray, problem: dict[str, np.ndarray]) -> dict:
    """Relative gap and PSNR of an image."""
    minimum = float(problem["minimum"])
    return {"gap": objective(x, problem) / minimum - 1, "psnr": psnr(x, problem["clean"])}


def direct_sum_error(result: np.ndarray, problem: dict[str, np.ndarray], case: str) -> float:
    """Error of a non-uniform FFT ("forward": samples, else an image) where the direct sum ``problem[case]`` is known."""
    shape = problem["samples"].shape if case == "forward" else problem["image"].shape
    where = problem["at_points"] if case == "forward" else tuple(problem["pixels"].T)
    found = np.asarray(result, np.complex128).reshape(shape)[where]
    return float(np.linalg.norm(found - problem[case]) / np.linalg.norm(problem[case]))


def sense_quality(x: np.ndarray, problem: dict[str, np.ndarray]) -> dict:
    """Relative residual of the normal equations of SENSE, and the relative error of the image, in float64."""
    x = np.asarray(x, np.complex128).reshape(problem["clean"].shape)
    maps, mask, y = problem["maps"].astype(np.complex128), problem["mask"], problem["y"].astype(np.complex128)

    def back(k: np.ndarray) -> np.ndarray:
        shifted = np.fft.ifft2(np.fft.ifftshift(mask * k, (1, 2)), norm="ortho")
        return np.sum(np.conj(maps) * np.fft.fftshift(shifted, (1, 2)), axis=0)

    forward = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(maps * x, (1, 2)), norm="ortho"), (1, 2))
    rest = back(forward) + float(problem["lam"]) * x - back(y)
    error = np.linalg.norm(x - problem["clean"]) / np.linalg.norm(problem["clean"])
    return {"residual": float(np.linalg.norm(rest) / np.linalg.norm(back(y))), "image_error": float(error)}


def relative_error(y: np.ndarray, exact: np.ndarray) -> float:
    """Relative L2 error in float64."""
    return float(np.linalg.norm(np.asarray(y, np.float64) - exact) / np.linalg.norm(exact))


def mismatch(
    forward: Callable[[np.ndarray], np.ndarray],
    adjoint: Callable[[np.ndarray], np.ndarray],
    us: np.ndarray,
    vs: np.ndarray,
) -> float:
    """Root mean square of ``<A u, v> - <u, B v>`` over that of ``<A u, v>``, in float64, over pairs."""
    pairs = [
        (np.vdot(np.asarray(forward(u), np.float64), v), np.vdot(u, np.asarray(adjoint(v), np.float64)))
        for u, v in zip(us, vs, strict=True)
    ]
    left, right = np.array(pairs).T
    return float(np.sqrt(np.mean((left - right) ** 2) / np.mean(left**2)))


def relative_l1(found: np.ndarray, exact: np.ndarray) -> float:
    """``sum |s - s_exact| / sum |s_exact|`` over the points where the exact sum is known: the first ones."""
    found = np.asarray(found, np.float64).ravel()[: exact.size]
    return float(np.sum(np.abs(found - exact)) / np.sum(np.abs(exact)))
