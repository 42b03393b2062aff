"""Timing, peers and JSON lines: what the benchmark scripts share.

A line has the fields ``case, device, dtype, sizes, versions, seconds`` (minimum), ``seconds_median, compile_seconds, quality,
quality_name, peer, peer_seconds, peer_quality, ratio``. ``ratio`` is ``peer_seconds / seconds``, of minima, and null where there
is no peer or the peer's quality is better than ours. ``cpu_seconds`` and ``cpu_ratio`` are the same in processor time of
all threads, which a busy machine disturbs less. Further fields are free; ``bars`` names claims, each true or false of the line.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

HERE = pathlib.Path(__file__).parent
PEERS = (
    "astra",
    "bm3d",
    "deepinv",
    "finufft",
    "geomloss",
    "keops",
    "nfft",
    "pot",
    "pyproximal",
    "scico",
    "sigpy",
    "skimage",
    "torch",
)


def parser(description: str) -> argparse.ArgumentParser:
    """Command line that all scripts have in common."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--quick", action="store_true", help="small sizes and few repeats: under a minute on two cores")
    result.add_argument("--repeats", type=int, default=None, help="timed repeats of everything (default 7, quick 3)")
    result.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="PEER=PYTHON",
        help=f"Python of a peer's environment, one of {', '.join(PEERS)}; or the variables INVJAX_PEER_DEEPINV and so on",
    )
    return result


def peer_pythons(args: argparse.Namespace) -> dict[str, str]:
    """Python of every peer that was named, on the command line or in the environment."""
    found = {p: os.environ[f"INVJAX_PEER_{p.upper()}"] for p in PEERS if f"INVJAX_PEER_{p.upper()}" in os.environ}
    return found | dict(entry.split("=", 1) for entry in args.peer_python)


class Stopwatch:
    """Times of one function: the first call (which compiles) apart from the others."""

    def __init__(self, run: Callable[[], Any]):
        self.run = run
        self.first, _, self.result = self._once()
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def _once(self) -> tuple[float, float, Any]:
        start, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(self.run())
        return time.perf_counter() - start, time.process_time() - cpu, result

    def __call__(self) -> None:
        seconds, cpu_seconds, self.result = self._once()
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)

    def times(self) -> dict[str, float]:
        """Fields of the record: ``compile_seconds`` is what the first call took longer than the fastest."""
        fastest = min(self.seconds)
        return {
            "seconds": fastest,
            "seconds_median": statistics.median(self.seconds),
            "cpu_seconds": min(self.cpu_seconds),
            "compile_seconds": max(self.first - fastest, 0.0),
        }


class Peer:
    """A script of ``benchmarks/peers`` in its own environment (see ``peers/common.py`` for the protocol)."""

    def __init__(self, name: str, script: str, python: str | None, problem: dict[str, Any], *, quick: bool = False):
        self.name, self.seconds, self.cpu_seconds = name, {}, {}
        self.facts: dict[str, dict] = {}
        self.missing = f"{name} (not installed)" if python is None else None
        if python is None:
            return
        with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
            np.savez(file, **problem)
        self.path = pathlib.Path(file.name)
        command = [python, str(HERE / "peers" / script), file.name, *(["--quick"] if quick else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self._answer()
        if first is None:
            self.missing = f"{name} (failed: see stderr)"
            return
        self.facts, self.versions = first["variants"], first["versions"]
        self.seconds = {variant: [] for variant in self.facts}
        self.cpu_seconds = {variant: [] for variant in self.facts}

    def _answer(self) -> dict | None:
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def __call__(self, variant: str) -> None:
        self.process.stdin.write(variant + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if answer is None:
            raise RuntimeError(f"{self.name}: the peer's process ended")
        self.seconds[variant].append(answer["seconds"])
        self.cpu_seconds[variant].append(answer["cpu_seconds"])

    def close(self) -> None:
        """End the process and remove its input."""
        if hasattr(self, "process"):
            self.process.stdin.close()
            self.process.wait()
            self.path.unlink(missing_ok=True)


def interleave(ours: dict[str, Stopwatch], peers: Iterable[Peer], repeats: int, budget: float = 20.0) -> None:
    """Run everything ``repeats`` times, round by round: ours, then every peer's variants.

    A variant that takes longer than ``budget`` seconds in all has fewer repeats, at least one.
    """
    peers = list(peers)
    for round_number in range(repeats):
        for stopwatch in ours.values():
            stopwatch()
        for peer in peers:
            for variant, facts in peer.facts.items():
                if round_number * facts["first_seconds"] < budget:
                    peer(variant)
        time.sleep(0.1)  # thread pools that still spin come to rest


def versions() -> dict[str, str]:
    """Versions of what runs here, and the processor."""
    names = ("invjax", "jax", "jaxlib", "numpy")
    cores = {"cores": str(os.cpu_count()), "cpu": _cpu()}
    return {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in names}, **cores}


def _cpu() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def record(
    case: str,
    sizes: dict[str, Any],
    times: dict[str, float],
    quality: float | None,
    quality_name: str,
    *,
    dtype: str = "float32",
    device: str | None = None,
    **extra: Any,
) -> dict:
    """A line without a peer."""
    return {
        "case": case,
        "device": device or jax.devices()[0].platform,
        "dtype": dtype,
        "sizes": sizes,
        "versions": versions(),
        **times,
        "quality": quality,
        "quality_name": quality_name,
        "peer": None,
        "peer_seconds": None,
        "peer_quality": None,
        "ratio": None,
        "load_average": os.getloadavg()[0],
        **extra,
    }


def against(
    line: dict, peer: Peer, variant: str, quality: float | None, *, ours_is_as_good: bool, **extra: Any
) -> dict:
    """The same line with one variant of a peer beside it; ``ratio`` only at equal or better quality of ours."""
    seconds, cpu_seconds = min(peer.seconds[variant]), min(peer.cpu_seconds[variant])
    return line | {
        "peer": f"{peer.name}: {variant}",
        "peer_seconds": seconds,
        "peer_seconds_median": statistics.median(peer.seconds[variant]),
        "peer_quality": quality,
        "peer_versions": peer.versions,
        "peer_cpu_seconds": cpu_seconds,
        "ratio": seconds / line["seconds"] if ours_is_as_good else None,
        "cpu_ratio": cpu_seconds / line["cpu_seconds"] if ours_is_as_good else None,
        **extra,
    }


def without(line: dict, peer: Peer) -> dict:
    """The line for a peer that is not there."""
    return line | {"peer": peer.missing}


def emit(lines: list[dict]) -> None:
    """A table on stderr for people, then the JSON lines on stdout."""
    for line in lines:
        ratio = "" if line["ratio"] is None else f"{line['ratio']:8.1f}x (processor time {line['cpu_ratio']:.1f}x)"
        peer = "" if line["peer"] is None else f"{line['peer']} {_seconds(line['peer_seconds'])}"
        print(
            f"{line['case']:64s} {_seconds(line['seconds'])} {_quality(line)} {peer} {ratio} {_bars(line)}",
            file=sys.stderr,
        )
    for line in lines:
        print(json.dumps(line))


def _seconds(value: float | None) -> str:
    return "        -" if value is None else f"{value:8.4f}s"


def _bars(line: dict) -> str:
    """The claims that the line was held against, by whether they hold."""
    held = [name for name, holds in line.get("bars", {}).items() if holds]
    missed = [name for name, holds in line.get("bars", {}).items() if not holds]
    parts = [f"{word}: {', '.join(names)}" for word, names in (("holds", held), ("MISSED", missed)) if names]
    return "; ".join(parts)


def _quality(line: dict) -> str:
    return "" if line["quality"] is None else f"{line['quality_name']} {line['quality']:.4g}"
