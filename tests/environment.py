"""The environment of a process that a test starts as a user would: without the settings of ``conftest.py``."""

import os

_OURS = ("XLA_FLAGS", "JAX_ENABLE_X64", "JAX_DISABLE_MOST_OPTIMIZATIONS")


def user_environment() -> dict[str, str]:
    """This process's environment without those; the compile cache stays."""
    return {k: v for k, v in os.environ.items() if k not in _OURS}
