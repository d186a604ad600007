"""Estimate the number of runs that fit into the memory of the devices."""

from __future__ import annotations

import os

import jax
import numpy as np

from jaxephys.engine.task import PyTree

USABLE = 0.8  # share of the free memory that is planned for; the rest is for fragmentation and the compiler
STATES_PER_RUN = 3  # the state, its copy that is saved while the next chunk runs, and one that is being initialized


def size_in_bytes(tree: PyTree) -> int:
    """Return the memory that all arrays of a tree take.

    Parameters
    ----------
    tree : tree of arrays
        Arrays or abstract arrays with a shape and a dtype.

    Returns
    -------
    int
        Bytes.
    """
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def free_bytes(device: jax.Device) -> int:
    """Return the free memory of a device.

    Parameters
    ----------
    device : jax.Device
        CPU devices share the machine's memory evenly.

    Returns
    -------
    int
        Bytes.
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // len(jax.local_devices())


def runs_that_fit(device: jax.Device, state: PyTree, inputs: PyTree, data: PyTree) -> int:
    """Return how many runs fit a device by the size of their states and inputs, without the compiled program's own needs.

    Parameters
    ----------
    device : jax.Device
        The device.
    state : tree of arrays
        State of one run, or its shapes.
    inputs : tree of arrays
        Inputs of one run, or their shapes.
    data : tree of arrays
        The data, held once on each device.

    Returns
    -------
    int
        At least 1.
    """
    room = USABLE * free_bytes(device) - size_in_bytes(data)
    return max(1, int(room // (STATES_PER_RUN * size_in_bytes(state) + size_in_bytes(inputs))))


def needed_share(device: jax.Device, state: PyTree, inputs: PyTree, data: PyTree) -> float:
    """Return the memory that the data and one run need, as a multiple of what is usable on a device.

    Parameters
    ----------
    device, state, inputs, data : see runs_that_fit
        As in `runs_that_fit`.

    Returns
    -------
    float
        Above 1 if not even one run fits.
    """
    needed = size_in_bytes(data) + STATES_PER_RUN * size_in_bytes(state) + size_in_bytes(inputs)
    return needed / max(1.0, USABLE * free_bytes(device))


def excess(device: jax.Device, compiled: jax.stages.Compiled) -> float:
    """Return the memory that a compiled program needs, as a multiple of what is usable on the device.

    Parameters
    ----------
    device : jax.Device
        The device.
    compiled : jax.stages.Compiled
        The program. Its arguments are on the device already and do not count.

    Returns
    -------
    float
        Above 1 if the program does not fit; 0 if the compiler does not report its needs.
    """
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0.0
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return needed / (USABLE * free_bytes(device))
