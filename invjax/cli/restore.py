"""The job of ``invjax restore``: build the problem, choose the weight, restore, sample, report."""

from __future__ import annotations

import contextlib
import os
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
import jax.numpy as jnp  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402

from . import estimate, output, problem  # noqa: E402
from .learned import LearnedDenoiser, denoiser_for  # noqa: E402
from .options import RestoreOptions  # noqa: E402
from .report import Results, make_report, print_table  # noqa: E402
from .tv import TotalVariation  # noqa: E402

_CHUNKS = 20


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
        print_table(rich.console.Console(), report, folder)
    return report


def _restore(options: RestoreOptions, console: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    problem_key, sure_key, pilot_key, chain_key = jax.random.split(jax.random.key(options.seed), 4)
    p = problem.build(options, problem_key)
    approach = _approach(options, p)
    choice, lam = None, options.prior.value
    with _progress(console) as bars:
        if lam is None:
            with _stage(bars, "weight by SURE"):
                choice = estimate.choose_weight(sure_key, approach, p.likelihood, p.start, p.truth)
                lam = choice.chosen
        with _stage(bars, "MAP estimate"):
            restored, status, num_steps = jax.block_until_ready(
                approach.map_estimate(p.likelihood, p.start, jnp.float32(lam))
            )
        pilot, posterior_weight = None, None if approach.posterior_factors is None else lam
        if choice is not None and posterior_weight is not None:
            with _stage(bars, "posterior weight"):
                pilot = estimate.choose_posterior_weight(pilot_key, approach, p.likelihood, restored, lam)
                posterior_weight = pilot.chosen
        with _stage(bars, "posterior chains") as on_progress:
            post = estimate.posterior(
                jax.random.split(chain_key, options.num_chains),
                approach,
                p.likelihood,
                restored,
                posterior_weight,
                options.method,
                options.num_samples,
                num_chunks=_CHUNKS,
                on_progress=on_progress,
            )
    images = {
        "truth": p.truth,
        "measurement": p.measurement,
        "picture": p.picture,
        "baseline": p.start if p.baseline else None,
        "restored": restored[p.window],
        "posterior_mean": post.mean[p.window],
        "posterior_std": post.std[p.window],
        "lower": post.lower[p.window],
        "upper": post.upper[p.window],
    }
    results = Results(lam, choice, posterior_weight, pilot, int(num_steps), int(status), post)
    return images, make_report(options, p, results, images)


def _approach(options: RestoreOptions, p: Any) -> Any:
    lipschitz = estimate.lipschitz_constant(p.likelihood, p.start)
    if options.prior.name == "tv":
        return TotalVariation(lipschitz)
    return LearnedDenoiser(lipschitz, denoiser_for(p.start.shape[-1]))


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
