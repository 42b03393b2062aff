"""The command ``invjax``. Arguments are parsed, and ``--help`` answered, before jax is imported."""


def main() -> None:
    """Entry point of the ``invjax`` script."""
    from .app import app

    app()
