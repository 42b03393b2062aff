"""The report of ``invjax restore``: what report.json holds, and the table on the terminal."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import platform
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.table

from .. import __version__, metrics
from .estimate import Choice, PilotChoice, Posterior, summarise_draws
from .options import RestoreOptions, Spec

_MIN_ESS, _MAX_MCSE = 50.0, 0.15


class Results(NamedTuple):
    """What was computed, beside the images. A choice is None where the weight was given or there is none."""

    weight: float
    choice: Choice | None
    posterior_weight: float | None
    pilot: PilotChoice | None
    map_steps: int
    map_status: int
    posterior: Posterior


def make_report(options: RestoreOptions, p: Any, results: Results, images: dict[str, Any]) -> dict[str, Any]:
    """All of report.json but the times."""
    chains = {name: float(v) for name, v in summarise_draws(results.posterior.draws).items()}
    reasons = _not_converged(results, chains)
    coverage = None if p.truth is None else metrics.coverage(p.truth, images["lower"], images["upper"])
    return {
        "baseline": p.baseline,
        "psnr": _quality(metrics.psnr, p.truth, images),
        "ssim": _quality(metrics.ssim, p.truth, images),
        "weight": results.weight,
        "weight_choice": None if results.choice is None else _choice(results.choice),
        "posterior_weight": results.posterior_weight,
        "posterior_weight_choice": None if results.pilot is None else _lists(results.pilot, ("weights", "sure")),
        "sigma": float(p.likelihood.noise.sigma),
        "sigma_estimated": p.sigma_estimated,
        "map_steps": results.map_steps,
        "map_status": results.map_status,
        "coverage90": None if coverage is None else float(coverage.fraction),
        "coverage90_standard_error": None if coverage is None else float(coverage.standard_error),
        **chains,
        "converged": not reasons,
        "not_converged_because": reasons,
        "shape": list(images["restored"].shape),
        "options": {k: _plain(v) for k, v in dataclasses.asdict(options).items()},
        "command": _command(options),
        "photo_sha256": None if options.photo is None else hashlib.sha256(options.photo.read_bytes()).hexdigest(),
        "versions": _versions(),
        "device": f"{jax.devices()[0].device_kind} x {len(jax.devices())}",
    }


def _not_converged(results: Results, chains: dict[str, float]) -> list[str]:
    reasons = []
    if results.map_status != 0:
        reasons.append(f"the MAP solver stopped with status {results.map_status} after {results.map_steps} steps")
    if int(results.posterior.status.max()) != 0:
        reasons.append("a chain became non-finite")
    if not chains["ess_median"] >= _MIN_ESS:
        reasons.append(f"median ESS {chains['ess_median']:.0f} is below {_MIN_ESS:.0f}: raise --num-samples")
    if not chains["mcse_over_sd"] <= _MAX_MCSE:
        reasons.append(f"mcse/sd {chains['mcse_over_sd']:.2f} is above {_MAX_MCSE}: raise --num-samples")
    return reasons


def _quality(metric: Callable, truth: Any, images: dict[str, Any]) -> dict[str, float | None] | None:
    if truth is None:
        return None
    shown = {n: images[n] for n in ("measurement", "baseline", "restored", "posterior_mean") if images[n] is not None}
    alike = {n: a.shape == truth.shape and a.dtype == truth.dtype for n, a in shown.items()}
    return {n: float(metric(a, truth)) if alike[n] else None for n, a in shown.items()}


def _lists(choice: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: [float(v) for v in getattr(choice, name)] for name in names}


def _choice(choice: Choice) -> dict[str, Any]:
    result = _lists(choice, ("weights", "sure", "discrepancy"))
    if choice.psnr is not None:
        best = int(np.nanargmax(choice.psnr))
        at = int((choice.weights == choice.chosen).argmax())
        result |= {
            "psnr": [float(v) for v in choice.psnr],
            "oracle_weight": float(choice.weights[best]),
            "oracle_psnr": float(choice.psnr[best]),
            "chosen_psnr": float(choice.psnr[at]),
        }
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return str(Spec(**value))
    return str(value) if isinstance(value, pathlib.Path) else value


def _command(options: RestoreOptions) -> str:
    parts = ["invjax restore"]
    if options.photo is not None:
        parts.append(shlex.quote(str(options.photo.absolute())))
    if options.measured:
        parts.append("--measured")
    for name in ("operator", "noise", "prior", "method", "num_samples", "num_chains", "seed", "size"):
        if (value := getattr(options, name)) is not None:
            parts.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(parts)


def _versions() -> dict[str, str]:
    import blackjax
    import equinox
    import jaxlib

    return {
        "invjax": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "equinox": equinox.__version__,
        "blackjax": blackjax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def print_table(console: Any, report: dict[str, Any], folder: Any) -> None:
    """Quality, weights, coverage and diagnostics of the chains on the terminal."""
    if report["psnr"] is not None:
        console.print(_quality_table(report))
    for line in (*_summary(report), f"written to {folder}{os.sep}"):
        console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)  # a folder may be named [x]


def _quality_table(report: dict[str, Any]) -> rich.table.Table:
    table = rich.table.Table()
    for name in ("", "PSNR (dB)", "SSIM"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("baseline" if report["baseline"] else "measurement", "restored", "posterior_mean"):
        psnr, ssim = ((report[m] or {}).get(name) for m in ("psnr", "ssim"))
        title = report["baseline"] if name == "baseline" else name.replace("_", " ")
        table.add_row(title, *("-" if v is None else f"{v:.{d}f}" for v, d in ((psnr, 2), (ssim, 3))))
    return table


def _summary(report: dict[str, Any]) -> Iterator[str]:
    choice = report["weight_choice"]
    yield f"weight {report['weight']:.3g}" + (
        "" if choice is None else " (smallest SURE of the sweep, without the truth)"
    )
    if report["posterior_weight_choice"] is not None:
        yield f"weight of the posterior {report['posterior_weight']:.3g} (smallest SURE of its mean)"
    if choice is not None and "oracle_psnr" in choice:
        best, got = choice["oracle_psnr"], choice["chosen_psnr"]
        yield f"best weight knowing the truth: {choice['oracle_weight']:.3g}, {best:.2f} dB ({best - got:.2f} dB more)"
    if report["sigma_estimated"]:
        yield f"noise level estimated: {report['sigma']:.4f}"
    if report["coverage90"] is not None:
        percent = 100 * report["coverage90"], 100 * report["coverage90_standard_error"]
        yield f"90 % intervals cover {percent[0]:.1f} +- {percent[1]:.1f} % of the pixels"
    yield (
        f"chains: median ESS {report['ess_median']:.0f}, R-hat (95 %) {report['rhat_p95']:.3f}, "
        f"mcse/sd (95 %) {report['mcse_over_sd']:.3f}"
    )
    for reason in report["not_converged_because"]:
        yield f"not converged: {reason}"
    yield f"{report['seconds']:.1f} s, of which compilation {report['compile_seconds']:.1f} s"
