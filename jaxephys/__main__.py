"""``python -m jaxephys``: the doctor. ``info MODEL``: what a saved model is. ``predict MODEL TABLE``: what it says of new cells.

``convert``, ``embed``, ``impute``, ``counterfactual``, ``traverse``, ``validate``: of sorted units. ``generate``: spike trains.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxephys
from jaxephys.engine import devices
from jaxephys.hippie import cli as of_units
from jaxephys.reporting.score_table import write_csv
from jaxephys.spikes import cli as of_spikes

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "imbalanced-learn")
SIZE = 2048  # of the product that is timed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jaxephys", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("doctor", help="versions, devices and a timed check of them (the default)")
    info = verbs.add_parser("info", help="what a saved model is")
    info.add_argument("model", help="a folder that save, or an experiment, has written")
    predict = verbs.add_parser("predict", help="the subclass of new cells", description=predict_cells.__doc__)
    predict.add_argument("model", help="a folder that save, or an experiment, has written")
    predict.add_argument("table", help="cells: a folder or .npz that data_prep has written")
    predict.add_argument("--out", default="predictions.csv", help="where to write them (%(default)s)")
    predict.add_argument("--coverage", type=float, default=0.9, help="how often a set holds the truth (%(default)s)")
    predict.add_argument("--label", help="what the table knows the cells to be (subclass4, ...): score against it")
    of_units.add_verbs(verbs)
    of_spikes.add_verbs(verbs)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "predict":
            return predict_cells(arguments.model, arguments.table, arguments.out, arguments.coverage, arguments.label)
        if arguments.verb == "info":
            model = jaxephys.load(arguments.model)
            print(f"{model!r}\n{model.describe()}")
            return 0
        if arguments.verb not in (None, "doctor"):
            print(arguments.call(arguments))
            return 0
        return doctor()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def predict_cells(model: str, table: str, out: str, coverage: float = 0.9, label: str | None = None) -> int:
    """A line a cell: the likeliest class, every class's probability, and the set of classes that cannot be ruled out.

    Features are matched by name; what is missing, superfluous or suspiciously far from the training cells is said.
    """
    classifier = jaxephys.load(model)
    if not isinstance(classifier, jaxephys.PatchSeqClassifier):
        raise ValueError(f"{model} is a {type(classifier).__name__}: predict needs a PatchSeqClassifier")
    cells, said = classifier.match(jaxephys.FeatureTable.read(table))
    probability, within = classifier.predict_proba(cells), classifier.predict_set(cells, coverage)
    classes, likeliest = classifier.classes_, classifier.classes_[probability.argmax(axis=1)]
    sets = ["|".join(classes[row]) or "unknown" for row in within]
    columns = ("cell", "prediction", f"set_{coverage:g}", *(f"p_{name}" for name in classes))
    write_csv(Path(out), columns, zip(cells.cell, likeliest, sets, *probability.T, strict=True))
    print(classifier.describe())
    for sentence in said:
        print(f"- {sentence}")
    alone = Counter(likeliest[within.sum(axis=1) == 1].tolist())
    for name, count in sorted(Counter(likeliest.tolist()).items()):
        print(f"{name}: {count} cells, {alone[name]} of them without another candidate")
    print(f"{sets.count('unknown')} of {len(cells)} cells are like no class that the model knows")
    if label is not None:
        scores = classifier.score_table(cells.labelled(label))[0]
        print(
            f"against {label} ({scores['n']} cells): macro-F1 {scores['macro_f1']:.3f}, accuracy {scores['accuracy']:.3f}"
        )
    print(f"-> {out}")
    return 0


def doctor() -> int:
    """Say what is there and whether it works; 1 where an NVIDIA GPU stands idle."""
    devices.use_all_cores()
    print(f"jaxephys {jaxephys.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {version_of(name)}" for name in PACKAGES))
    local = jax.local_devices()
    for kind in sorted({device.device_kind for device in local}):
        some = [device for device in local if device.device_kind == kind]
        print(f"{len(some)} x {kind}: {rate(some[0]):.0f} GFLOP/s on one, in float32 products of {SIZE} x {SIZE}")
    idle = jax.default_backend() == "cpu" and nvidia_gpus()
    if idle:
        print(
            f"\n!!! An NVIDIA GPU is here ({idle}), but JAX runs on the CPU.\n"
            '!!! Install its plugin: pip install "jaxephys[cuda13]", or "jaxephys[cuda12]" for drivers before 580.\n'
        )
    return 1 if idle else 0


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def rate(device: jax.Device, repeats: int = 5) -> float:
    """GFLOP/s of a square matrix product: the best of a few, checked against its known result."""
    ones = jax.device_put(jnp.ones((SIZE, SIZE), jnp.float32), device)
    product = jax.jit(jnp.matmul)
    if float(product(ones, ones)[0, 0]) != SIZE:
        raise ValueError(f"the device {device} multiplies wrongly: check its driver")
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(product(ones, ones))
        seconds.append(time.perf_counter() - began)
    return 2 * SIZE**3 / min(seconds) / 1e9


def nvidia_gpus() -> str:
    """The names of NVIDIA GPUs that the driver sees, whatever JAX thinks."""
    if shutil.which("nvidia-smi") is None:
        return "a device file without nvidia-smi" if os.path.exists("/dev/nvidia0") else ""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return ", ".join(answer.stdout.split("\n")).strip(", ") if answer.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
