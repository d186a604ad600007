"""How many runs the devices hold at once."""

from __future__ import annotations

import os

import jax
import numpy as np

from jaxephys.engine.task import PyTree

USABLE = 0.8  # share of the free memory that is planned for; the rest is for fragmentation and the compiler
STATES_PER_RUN = 3  # the state, the copy that is checkpointed while the next chunk runs, and the one being initialised


def bytes_of(tree: PyTree) -> int:
    """The bytes of all arrays (or abstract arrays) of a tree."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def free_bytes(device: jax.Device) -> int:
    """What the device has left. CPU devices share the machine's memory evenly."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // len(jax.local_devices())


def runs_that_fit(device: jax.Device, state: PyTree, run: PyTree, data: PyTree) -> int:
    """Runs a device holds by the size of their state and tables alone; the compiled program has the last word."""
    room = USABLE * free_bytes(device) - bytes_of(data)
    return max(1, int(room // (STATES_PER_RUN * bytes_of(state) + bytes_of(run))))


def excess(device: jax.Device, compiled: jax.stages.Compiled) -> float:
    """The memory a compiled program takes beside its arguments (which stand there already), over what is free."""
    plan = compiled.memory_analysis()
    if plan is None:
        return 0.0
    return (plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes) / (
        USABLE * free_bytes(device)
    )
