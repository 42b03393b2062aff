"""Compiler flags of the tests, and the environment of a process that a test starts as a user would."""

import importlib.metadata
import os

# Compilation is most of the time in these tests, so the compiler is told to be quick.
QUICK_FLAGS = ["--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib") < "0.11":  # later versions refuse the flag
    QUICK_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
_OURS = ("XLA_FLAGS", "JAX_ENABLE_X64", "JAX_DISABLE_MOST_OPTIMIZATIONS")


def user_environment() -> dict[str, str]:
    """This process's environment without the settings of ``conftest.py``; the compile cache stays."""
    return {k: v for k, v in os.environ.items() if k not in _OURS}


def notebook_environment() -> dict[str, str]:
    """A user's environment (float32, one device) with a compiler that is quick, but whose code is not slow."""
    return user_environment() | {"XLA_FLAGS": " ".join([*QUICK_FLAGS, "--xla_backend_optimization_level=1"])}
