"""What every benchmark shares: two sides timed in turns in one process, and one way to tell the outcome."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from despur.workspace import versions


def arguments(description: str) -> argparse.Namespace:
    """``--json`` (one JSON object at the end) and ``--quick`` (small sizes, to see that it runs)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, not how fast")
    return parser.parse_args()


def in_turns(sides: dict[str, Callable[[], object]], *, runs: int = 5, warm_up: bool = True) -> dict[str, float]:
    """Median seconds of each side over ``runs`` rounds; every round runs every side once, so that a machine that slows
    down slows them all.
    """
    if warm_up:
        for side in sides.values():
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(runs):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
            print(f"round {number + 1}: {name} {seconds[name][-1]:.3f} s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _peak(work: Callable[[], object]) -> float:
    work()
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: its maximum is inherited from the process that started this one.
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def peak_gb(work: Callable[[], object]) -> float:
    """Largest resident memory, in GB, of a fresh process that does the work (which must be picklable)."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (work,))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def tell(
    benchmark: str,
    ratios: dict[str, float],
    peaks: dict[str, float],
    options: argparse.Namespace,
    **more: Any,
) -> None:
    """Print the outcome: a line a number, or one JSON object."""
    rounded = {name: float(f"{value:.4g}") for name, value in ratios.items()}
    outcome = {
        "benchmark": benchmark,
        "machine": machine(),
        "versions": versions(),
        "quick": options.quick,
        "ratios": rounded,
        "peak_gb": {name: round(value, 3) for name, value in peaks.items()},
        **more,
    }
    if options.json:
        print(json.dumps(outcome))
        return
    for name, value in rounded.items():
        print(f"{name:40s} {value:g}")
    for name, value in peaks.items():
        print(f"{name + ', peak memory':40s} {value:.2f} GB")
