"""Markdown tables from the JSON lines of the benchmark scripts: ``python benchmarks/table.py FILE... ``.

One table per file: every line of ours without a peer, then every comparison. With ``--cross`` a file whose cases are
``script/problem/method`` becomes a table of problems by methods. It prints; nothing is written.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable

OURS = "| case | seconds | median | compile | quality | further |\n|---|---|---|---|---|---|"
PEERS = "| ours | seconds | peer | its seconds | ratio | quality | its quality | further |\n|---|---|---|---|---|---|---|---|"
FACTS = (
    *("psnr", "iterations_per_second", "ess_per_second", "tv", "over_tv"),
    *("temp_over_points", "plan_seconds", "crossover_points"),
    *("published", "over_published", "standard_error", "order_holds"),
    *("sobol_over_distance", "orthogonal_over_distance", "iid_over_distance", "frequencies_over_iid"),
    *("amplitude_psnr", "over_rpie", "over_best_rpie", "over_best_tv"),
    *("affinity_once", "best_once", "pairs", "dropped", "violations", "row_error", "reached"),
    *("paid", "least", "fit", "floor", "balanced", "mass_accuracy", "corrupted_mass"),
    *(
        "weights_tv",
        "data_tv",
        "to_data",
        "shares_error",
        "marginal_error",
        "cheaper",
        "cheaper_cpu",
        "cheaper_than_peer",
    ),
    *("peer_psnr", "peer_steps", "peer_reached", "peer_iterations_per_second", "ess_ratio", "over_peer"),
    *("peer_threads", "peer_batch"),
)


def number(value: object) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return " and ".join(number(part) for part in value)
    return f"{value:.2f}" if 1 <= abs(value) < 1000 else f"{value:.3g}"


def facts(line: dict, prefix: str) -> str:
    """The further fields that this line has, ours or the peer's."""
    chosen = [
        f for f in FACTS if f in line and (f.startswith(("peer", "ess_ratio", "over_peer")) == (prefix == "peer"))
    ]
    return ", ".join(f"{f.removeprefix('peer_').replace('_', ' ')} {number(line[f])}" for f in chosen)


def ours(lines: list[dict]) -> str:
    """Each of our cases once, in the order of the file."""
    first = {line["case"]: line for line in reversed(lines)}
    rows = [OURS]
    for line in dict.fromkeys(line["case"] for line in lines):
        d = first[line]
        steps = d["sizes"].get("steps")
        further = ", ".join(p for p in (f"{steps} steps" if steps else "", facts(d, "ours")) if p)
        cells = [
            d["case"],
            *(number(d[k]) for k in ("seconds", "seconds_median", "compile_seconds", "quality")),
            further,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def compared(lines: list[dict]) -> str:
    """Each comparison; a missing peer is a row too."""
    rows = [PEERS]
    for d in lines:
        if d["peer"] is None:
            continue
        keys = ("peer_seconds", "ratio", "quality", "peer_quality")
        cells = [d["case"], number(d["seconds"]), d["peer"], *(number(d[k]) for k in keys), facts(d, "peer")]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) if len(rows) > 1 else ""


def crossed(lines: list[dict]) -> str:
    """A row for each problem, a column for each method: quality (and SSIM, coverage); then the seconds."""
    found = {tuple(d["case"].split("/")[1:]): d for d in lines}
    methods, problems = (list(dict.fromkeys(key[i] for key in found)) for i in (1, 0))

    def cell(d: dict) -> str:
        ssim = f" / {d['ssim']:.3f}" if "ssim" in d else ""
        return number(d["quality"]) + ssim + (f", {100 * d['coverage']:.0f} %" if "coverage" in d else "")

    def entry(show: Callable[[dict], str], problem: str, method: str) -> str:
        return show(found[problem, method]) if (problem, method) in found else "-"

    head = "| problem | " + " | ".join(methods) + " |\n|" + "---|" * (len(methods) + 1)
    title = "quality / SSIM" if any("ssim" in d for d in lines) else "quality"
    cells = {title: cell, "seconds": lambda d: number(d["seconds"])}
    bodies = [
        "\n".join("| " + " | ".join([p, *(entry(show, p, m) for m in methods)]) + " |" for p in problems)
        for show in cells.values()
    ]
    return "\n\n".join(f"{title}:\n\n{head}\n{body}" for title, body in zip(cells, bodies, strict=True))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cross", action="store_true", help="problems by methods")
    arguments.add_argument("--quality", help="with --cross, the quality to show where a file has several")
    arguments.add_argument("files", nargs="+", type=pathlib.Path, help="JSON lines that a script printed")
    args = arguments.parse_args()
    for path in args.files:
        lines = [json.loads(text) for text in path.read_text().splitlines() if text.startswith("{")]
        v = lines[0]["versions"]
        if args.cross:
            quality = args.quality or lines[0]["quality_name"]
            lines = [d for d in lines if d["quality_name"] == quality]
        print(f"### {path.stem}\n\nQuality: {lines[0]['quality_name']}. ", end="")
        print(f"{lines[0]['device'].upper()}, {v['cores']} cores of ", end="")
        body = crossed(lines) if args.cross else f"{ours(lines)}\n\n{compared(lines)}"
        print(f"{v['cpu']}; Python {v['python']}, jax {v['jax']}; {lines[0]['dtype']}.\n\n{body}\n")


if __name__ == "__main__":
    main()
