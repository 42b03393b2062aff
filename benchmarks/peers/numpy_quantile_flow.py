"""Implicit Euler of the MMD flow on the line in NumPy: every step by bisection, for all levels at once."""

from __future__ import annotations

import importlib.metadata

import numpy as np
from common import Variant, arguments, serve
from scipy.special import ndtr

args, problem = arguments()
s, goal = problem["levels"], float(problem["goal"])
twice, num_steps = 2 * float(problem["step_size"]), int(problem["num_steps"])


def run() -> np.ndarray:
    g = problem["g"]
    for _ in range(num_steps):
        # g_new + 2 tau R(g_new) = g + 2 tau s with 0 <= R <= 1: g_new lies within 2 tau of g.
        right = g + twice * s
        low, high = right - twice, right
        for _ in range(52):
            middle = (low + high) / 2
            below = middle + twice * ndtr(middle / goal) < right
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        g = (low + high) / 2
    return g


if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}
    serve({"loop": Variant(run, lambda g: {"second_moment": float(np.mean(g**2))})}, versions)
