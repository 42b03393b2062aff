"""The typer application: options in, exit codes out."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from .options import METHODS, NOISES, OPERATORS, PRIORS, OptionError, RestoreOptions, check_operator, parse_spec

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Inverse problems in JAX: restore a photograph with its uncertainty."""


@app.command()
def restore(
    photo: Annotated[pathlib.Path | None, typer.Argument(help="Image file; without it a shipped photograph.")] = None,
    measured: Annotated[bool, typer.Option("--measured", help="The image is already degraded: restore it.")] = False,
    operator: Annotated[
        str, typer.Option(help="blur:SIGMA, uniform:SIZE, downsample:FACTOR, inpaint:KEPT, denoise.")
    ] = "blur:1.6",
    noise: Annotated[str | None, typer.Option(help="gaussian:SIGMA; with --measured estimated when not given.")] = None,
    prior: Annotated[str, typer.Option(help="tv, or tv:WEIGHT to fix the weight.")] = "tv",
    method: Annotated[str, typer.Option(help=f"Sampler: {', '.join(METHODS)}.")] = "skrock",
    num_samples: Annotated[int, typer.Option(help="Posterior samples per chain.")] = 150,
    num_chains: Annotated[int, typer.Option(help="Chains (at least 2).")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    size: Annotated[
        int | None, typer.Option(help="Longest side in pixels [default: 256; with --measured as it is].")
    ] = None,
    output: Annotated[pathlib.Path | None, typer.Option(help="Folder to write [default: a new restored-N].")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the files of an earlier run in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no table.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json instead of the table.")] = False,
) -> None:
    """Restore a photograph: MAP estimate with total variation, posterior mean and pixelwise uncertainty."""
    try:
        options = _checked(
            RestoreOptions(
                photo=photo,
                measured=measured,
                operator=parse_spec(operator, OPERATORS, "--operator"),
                noise=None if noise is None and measured else parse_spec(noise or "gaussian", NOISES, "--noise"),
                prior=parse_spec(prior, PRIORS, "--prior"),
                method=method,
                num_samples=num_samples,
                num_chains=num_chains,
                seed=seed,
                size=size,
                output=output,
                force=force,
                quiet=quiet,
                json=json,
            )
        )
        from .restore import run  # jax is imported here, after all that can be refused without it

        run(options)
    except (OptionError, OSError) as error:
        typer.echo(f"invjax: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("invjax: interrupted, nothing was written", err=True)
        raise typer.Exit(130) from None


def _checked(options: RestoreOptions) -> RestoreOptions:
    check_operator(options.operator, options.measured)
    if options.method not in METHODS:
        raise OptionError(f"--method: expected one of {', '.join(METHODS)}, got {options.method!r}")
    for name, value, least in (
        ("--num-samples", options.num_samples, 8),
        ("--num-chains", options.num_chains, 2),
        ("--seed", options.seed, 0),
        ("--size", options.size, 16),
    ):
        if value is not None and value < least:
            raise OptionError(f"{name}: expected at least {least}, got {value}")
    if options.measured and options.photo is None:
        raise OptionError("--measured: expected PHOTO, the image to restore")
    if options.photo is not None and not options.photo.is_file():
        raise OptionError(f"{options.photo}: no such image file")
    return options
