"""The typer application: options in, exit codes out."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from .. import __version__
from .options import (
    METHODS,
    NOISES,
    NUM_SAMPLES,
    OPERATORS,
    PRIORS,
    OptionError,
    RestoreOptions,
    check_operator,
    check_range,
    default_noise,
    parse_spec,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def command_line(arguments: Sequence[str]) -> int:
    """Run ``invjax`` with these arguments; returns the exit code. Every refusal is one line on stderr."""
    command = typer.main.get_command(app)
    try:
        return command.main(list(arguments), prog_name="invjax", standalone_mode=False) or 0
    except typer.Abort:  # Ctrl-C outside of a command
        return _say("interrupted", 130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # how click reports what it cannot parse
            raise
        return _say(f"{error.format_message()} (see invjax --help)", 2)


def _say(message: str, code: int) -> int:
    typer.echo("invjax: " + " ".join(message.splitlines()), err=True)
    return code


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"invjax {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Inverse problems in JAX: restore a photograph with its uncertainty."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def restore(
    photo: Annotated[
        pathlib.Path | None,
        typer.Argument(metavar="[PHOTO]", show_default=False, help="Image file; without it a shipped photograph."),
    ] = None,
    measured: Annotated[bool, typer.Option("--measured", help="The image is already degraded: restore it.")] = False,
    operator: Annotated[
        str,
        typer.Option(
            help="blur:SIGMA, motion-blur:SPREAD, uniform:SIZE, downsample:FACTOR, inpaint:KEPT, denoise, "
            "mri:ACCELERATION, tomography:ANGLES, phase-retrieval:MASKS."
        ),
    ] = "blur:1.6",
    noise: Annotated[
        str | None,
        typer.Option(
            help="gaussian:SIGMA [default: gaussian:0.02, tomography 0.005; with --measured estimated].",
            show_default=False,
        ),
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            help="denoiser (the one that comes with the package) or tv; denoiser:WEIGHT or tv:WEIGHT fixes the weight."
        ),
    ] = "denoiser",
    method: Annotated[str, typer.Option(help="Sampler: skrock; or pnp-ula (denoiser), myula (tv).")] = "skrock",
    num_samples: Annotated[
        int | None, typer.Option(help="Posterior samples per chain [default: 50, tv 150].", show_default=False)
    ] = None,
    num_chains: Annotated[int, typer.Option(help="Chains (at least 2).")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    size: Annotated[
        int | None,
        typer.Option(
            help="Shrink the longest side to this many pixels "
            "[default: 256, tomography and phase-retrieval 128; with --measured as it is]."
        ),
    ] = None,
    output: Annotated[pathlib.Path | None, typer.Option(help="Folder to write [default: a new restored-N].")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the files of an earlier run in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no table.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json and nothing else.")] = False,
) -> None:
    """Restore a photograph: most probable image, posterior mean and pixelwise uncertainty.

    A clean photograph is first degraded by --operator and --noise, and the restorations are compared with it. With
    --measured the image is the measurement, --operator is what degraded it, and its unknown border is restored too.
    """
    with _one_line():
        model, regulariser = parse_spec(operator, OPERATORS, "--operator"), parse_spec(prior, PRIORS, "--prior")
        default = None if measured else default_noise(model)
        options = RestoreOptions(
            photo=photo,
            measured=measured,
            operator=model,
            noise=default if noise is None else parse_spec(noise, NOISES, "--noise"),
            prior=regulariser,
            method=method,
            num_samples=NUM_SAMPLES[regulariser.name] if num_samples is None else num_samples,
            num_chains=num_chains,
            seed=seed,
            size=size,
            output=output,
            force=force,
            quiet=quiet,
            json=json,
        )
        _check(options)
        from .restore import run  # jax is imported here, after all that can be refused without it

        run(options)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turn what a user can cause into one line on stderr and an exit code."""
    try:
        yield
    except OptionError as error:
        raise typer.Exit(_say(str(error), 2)) from None
    except OSError as error:
        raise typer.Exit(_say(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)) from None
    except KeyboardInterrupt:
        raise typer.Exit(_say("interrupted", 130)) from None
    except Exception as error:
        if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
            raise
        raise typer.Exit(_say("out of memory; give a smaller --size", 2)) from None


def _check(options: RestoreOptions) -> None:
    check_operator(options.operator, options.measured)
    known = METHODS[options.prior.name]
    if options.method not in known:
        raise OptionError(
            f"--method: expected one of {', '.join(known)} with --prior {options.prior.name}, got {options.method!r}"
        )
    check_range("--num-samples", options.num_samples, 8, 100_000)
    check_range("--num-chains", options.num_chains, 2, 100)
    check_range("--seed", options.seed, 0, 2**32 - 1)
    check_range("--size", options.size, 16, 8192)
    photo = options.photo
    if options.measured and photo is None:
        raise OptionError("--measured: expected PHOTO, the image to restore")
    if photo is not None and not photo.is_file():
        found = "a folder" if photo.is_dir() else "a device" if photo.exists() else "no such file"
        raise OptionError(f"{photo}: expected an image file, got {found}")
