"""Settings for all tests: float64, eight CPU devices, a persistent compile cache, fixed keys, strict dtype rules on request."""

import gc
import os
import pathlib

from .environment import QUICK_FLAGS

_CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("INVJAX_CACHE", str(_CACHE.parent / "invjax"))
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
_FLAGS = ["--xla_force_host_platform_device_count=8", *QUICK_FLAGS]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])

import jax
import pytest

gc.set_threshold(200_000, 50, 100)  # tracing makes many small objects that live: collecting often costs five per cent
jax.config.update("jax_enable_x64", True)


_MOST_PROGRAMS = 700


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Drop compiled programs when there are many: with thousands of them, each with pages of its own, a process gets slow.

    Not after every file, because the small ones, which all files need, would be compiled again.
    """
    yield
    if len(jax.devices()[0].client.live_executables()) > _MOST_PROGRAMS:
        jax.clear_caches()
        gc.collect()
        gc.freeze()  # what is left lives to the end: later collections need not look at it


@pytest.fixture
def key():
    """The one fixed key of a test; split it for more."""
    return jax.random.key(0)


@pytest.fixture
def strict():
    """Refuse implicit dtype and rank promotion in our own code."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def float32():
    """Run with 64-bit types disabled, as most users do."""
    with jax.enable_x64(False):
        yield


def pytest_collection_modifyitems(items):
    """Files with slow tests first: two workers that take file by file then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: the order within a file is kept
