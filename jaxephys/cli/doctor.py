"""Check the installation: versions of the libraries, devices that JAX sees, and the speed of one of each kind."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time

import jax
import jax.numpy as jnp

from jaxephys import __version__
from jaxephys.engine import devices
from jaxephys.reporting.run_facts import library_versions

SIZE = 2048  # rows and columns of the matrices that are multiplied


def run() -> int:
    """Print versions and devices, and time a matrix product on one device of each kind.

    Returns
    -------
    int
        1 if the machine has an NVIDIA GPU that JAX does not use, else 0.

    Raises
    ------
    ValueError
        If a device computes a wrong product.
    """
    devices.use_all_cores()
    print(f"jaxephys {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {version}" for name, version in library_versions().items()))
    local = jax.local_devices()
    for kind in sorted({device.device_kind for device in local}):
        alike = [device for device in local if device.device_kind == kind]
        speed = measure_gflops(alike[0])
        print(f"{len(alike)} x {kind}: {speed:.0f} GFLOP/s on one, in float32 products of {SIZE} x {SIZE} matrices")
    unused = jax.default_backend() == "cpu" and nvidia_gpus()
    if unused:
        print(
            f"\n!!! An NVIDIA GPU is here ({unused}), but JAX runs on the CPU.\n"
            '!!! Install its plugin: pip install "jaxephys[cuda13]", or "jaxephys[cuda12]" for drivers before 580.\n'
        )
    return 1 if unused else 0


def measure_gflops(device: jax.Device, repeats: int = 5) -> float:
    """Measure the speed of a square matrix product, which is checked against its known result.

    Parameters
    ----------
    device : jax.Device
        The device to compute on.
    repeats : int
        Number of products; the fastest counts.

    Returns
    -------
    float
        Speed in GFLOP/s.

    Raises
    ------
    ValueError
        If the product is wrong.
    """
    ones = jax.device_put(jnp.ones((SIZE, SIZE), jnp.float32), device)
    product = jax.jit(jnp.matmul)
    if float(product(ones, ones)[0, 0]) != SIZE:
        raise ValueError(f"the device {device} computes a wrong matrix product: check its driver")
    seconds = []
    for _ in range(repeats):
        start_time = time.perf_counter()
        jax.block_until_ready(product(ones, ones))
        seconds.append(time.perf_counter() - start_time)
    return 2 * SIZE**3 / min(seconds) / 1e9


def nvidia_gpus() -> str:
    """Return the names of the NVIDIA GPUs that the driver sees, whether JAX uses them or not.

    Returns
    -------
    str
        Names separated by commas; empty if there is none.
    """
    if shutil.which("nvidia-smi") is None:
        return "a device file without nvidia-smi" if os.path.exists("/dev/nvidia0") else ""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return ", ".join(answer.stdout.split("\n")).strip(", ") if answer.returncode == 0 else ""
