"""What the benchmarks share: where results go, and what they were measured on."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path

import numpy as np
import scipy.stats

RESULTS = Path(__file__).parent / "results"


def machine():
    """The versions and the machine of a measurement."""
    names = ("jbn", "jax", "jaxlib", "numpy", "optax")
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def write(name, result):
    """Writes a result with what it was measured on."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**machine(), **result}, indent=1) + "\n")
    print(f"written to scripts/benchmarks/results/{path.name}")


def median(ratios):
    """The median of ratios of rounds, and its 95 % interval over resampled rounds."""
    found = scipy.stats.bootstrap((ratios,), np.median, rng=0, method="percentile").confidence_interval
    return float(np.median(ratios)), [float(found.low), float(found.high)]


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        known = {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines)}
        vectors = "AVX-512" if "avx512f" in known["flags"].split() else "AVX2"
        return f"{known['model name']}, family {known['cpu family']}, model {known['model']}, {vectors}"
    except (OSError, KeyError, ValueError):
        return platform.processor()
