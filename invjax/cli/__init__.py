"""The command ``invjax``. Arguments are parsed, and ``--help`` answered, before jax is imported."""

import sys


def main() -> None:
    """Entry point of the ``invjax`` script: exit code 0, 2 for an impossible request, 130 for Ctrl-C."""
    try:
        from .interrupt import exit_on_interrupt

        exit_on_interrupt()
    except KeyboardInterrupt:
        sys.exit(130)
    from .app import command_line

    sys.exit(command_line(sys.argv[1:]))
