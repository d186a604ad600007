"""``python -m jaxephys``: the doctor. ``python -m jaxephys info MODEL``: what a saved model is."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

import jaxephys
from jaxephys.engine import shard

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "imbalanced-learn")
SIZE = 2048  # of the product that is timed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jaxephys", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("doctor", help="versions, devices and a timed check of them (the default)")
    info = verbs.add_parser("info", help="what a saved model is")
    info.add_argument("model", help="a folder that save, or an experiment, has written")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "info":
            model = jaxephys.load(arguments.model)
            print(f"{model!r}\n{model.describe()}")
            return 0
        return doctor()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def doctor() -> int:
    """Say what is there and whether it works; 1 where an NVIDIA GPU stands idle."""
    shard.use_all_cores()
    print(f"jaxephys {jaxephys.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {version_of(name)}" for name in PACKAGES))
    devices = jax.local_devices()
    for kind in sorted({device.device_kind for device in devices}):
        some = [device for device in devices if device.device_kind == kind]
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
