"""The job of ``invjax restore``: build the problem, choose the weight, restore, sample, report."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def use_all_cores() -> None:
    """Give XLA one CPU device per core, for the sweep and the chains. Must run before jax is imported."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={min(cores, 8)}".strip()


if "jax" not in sys.modules:
    use_all_cores()

import jax  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402

from .. import __version__, metrics  # noqa: E402
from . import estimate, output, problem  # noqa: E402
from .options import RestoreOptions, Spec  # noqa: E402

_CHUNKS = 20
_MIN_ESS, _MAX_MCSE = 50.0, 0.15


def run(options: RestoreOptions) -> dict[str, Any]:
    """Do everything ``invjax restore`` does; returns the report."""
    output.check_folder(options.output, options.force)
    console = rich.console.Console(stderr=True, quiet=options.quiet or options.json)
    with _compile_clock() as compiled:
        began = time.perf_counter()
        images, report = _restore(options, console)
        report["seconds"] = time.perf_counter() - began
        report["compile_seconds"] = compiled()
    folder = output.write(options.output, options.force, images, report)
    if options.json:
        print(output.json_text(report), end="")
    elif not options.quiet:
        _print_table(rich.console.Console(), report, folder)
    return report


def _restore(options: RestoreOptions, console: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    problem_key, sure_key, pilot_key, chain_key = jax.random.split(jax.random.key(options.seed), 4)
    p = problem.build(options, problem_key)
    lipschitz = estimate.lipschitz_constant(p.likelihood, p.start)
    with _progress(console) as bars:
        with _stage(bars, "weight by SURE"):
            choice, lam = _weight(options, sure_key, p, lipschitz)
        with _stage(bars, "MAP estimate"):
            solution = jax.block_until_ready(estimate.map_estimate(p.likelihood, p.start, lipschitz, lam))
        pilot = None
        if options.prior.value is None:
            with _stage(bars, "posterior weight"):
                pilot = estimate.choose_posterior_weight(pilot_key, p.likelihood, solution.position, lipschitz, lam)
        with _stage(bars, "posterior chains") as on_progress:
            post = estimate.posterior(
                jax.random.split(chain_key, options.num_chains),
                p.likelihood,
                solution.position,
                lipschitz,
                pilot.chosen if pilot else lam,
                options.method,
                options.num_samples,
                mesh=estimate.cpu_mesh(options.num_chains),
                num_chunks=_CHUNKS,
                on_progress=on_progress,
            )
    images = {
        "truth": p.truth,
        "measurement": p.measurement,
        "picture": p.picture,
        "baseline": p.start if p.baseline else None,
        "restored": solution.position[p.window],
        "posterior_mean": post.mean[p.window],
        "posterior_std": post.std[p.window],
        "lower": post.lower[p.window],
        "upper": post.upper[p.window],
    }
    report = _report(options, p, choice, lam, solution, post, images)
    report["posterior_weight"] = pilot.chosen if pilot else lam
    report["posterior_weight_choice"] = (
        None if pilot is None else {k: [float(v) for v in getattr(pilot, k)] for k in ("weights", "sure")}
    )
    return images, report


def _weight(options: RestoreOptions, key: Any, p: Any, lipschitz: Any) -> tuple[Any, float]:
    if options.prior.value is not None:
        return None, options.prior.value
    mesh = estimate.cpu_mesh(len(estimate.WEIGHTS))
    choice = estimate.choose_weight(key, p.likelihood, p.start, lipschitz, p.truth, p.window, mesh)
    return choice, choice.chosen


def _report(options: Any, p: Any, choice: Any, lam: float, solution: Any, post: Any, images: dict) -> dict[str, Any]:
    chains = {name: float(v) for name, v in estimate.summarise_draws(post.draws).items()}
    reasons = _not_converged(solution, post, chains)
    coverage = None if p.truth is None else metrics.coverage(p.truth, images["lower"], images["upper"])
    report: dict[str, Any] = {
        "baseline": p.baseline,
        "psnr": _quality(metrics.psnr, p.truth, images),
        "ssim": _quality(metrics.ssim, p.truth, images),
        "weight": lam,
        "weight_choice": None if choice is None else _choice(choice),
        "sigma": float(p.likelihood.noise.sigma),
        "sigma_estimated": p.sigma_estimated,
        "map_steps": int(solution.num_steps),
        "map_status": int(solution.status),
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
    return report


def _not_converged(solution: Any, post: Any, chains: dict[str, float]) -> list[str]:
    reasons = []
    if int(solution.status) != 0:
        reasons.append(
            f"the MAP solver stopped with status {int(solution.status)} after {int(solution.num_steps)} steps"
        )
    if int(post.status.max()) != 0:
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


def _choice(choice: Any) -> dict[str, Any]:
    values = choice._asdict()
    result: dict[str, Any] = {k: [float(v) for v in values[k]] for k in ("weights", "sure", "discrepancy")}
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


@contextlib.contextmanager
def _compile_clock() -> Iterator[Callable[[], float]]:
    """Seconds that jax spent lowering and compiling since the start of the block."""
    total = [0.0]

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith(("backend_compile_duration", "jaxpr_to_mlir_module_duration")):
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: total[0]
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _progress(console: Any) -> rich.progress.Progress:
    columns = (
        rich.progress.TextColumn("{task.description:<18}"),
        rich.progress.BarColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    return rich.progress.Progress(*columns, console=console)


@contextlib.contextmanager
def _stage(bars: rich.progress.Progress, name: str) -> Iterator[Callable[[float], None]]:
    """A line of the display, full at the end of the block; yields what shows the fraction done before."""
    task = bars.add_task(name, total=None)  # a pulse until a fraction is known
    yield lambda fraction: bars.update(task, total=1.0, completed=fraction)
    bars.update(task, total=1.0, completed=1.0)


def _print_table(console: Any, report: dict[str, Any], folder: Any) -> None:
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
