"""Devices: a one-axis mesh over which runs are split, and programs that never speak across it.

Runs are independent, so the body of every program is mapped with ``shard_map``: each device loops over its own runs, and
the compiled text holds no collective. (Under plain ``jit`` with sharded inputs the masked loops of early stopping would
need an all-reduce to agree on when the slowest run ends.) ``jax.pmap`` is today a wrapper over this same path.

On CPU every core is made a device. A small training step does not fill two cores, since its matrices are too small to be
split, but two runs, one a core, do.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import PyTree

MOST_CPU_DEVICES = 16  # each holds a copy of the data


def use_all_cores() -> None:
    """Make each CPU core a JAX device. Does nothing once JAX has started, or when the user has chosen a number."""
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices > 0:  # pyright: ignore[reportAttributeAccessIssue]
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", min(cores, MOST_CPU_DEVICES))
    except RuntimeError:
        return  # JAX already runs in this process: its devices stay as they are


def choose_platform(name: str | None) -> None:
    """Run on ``cpu``, ``gpu`` or ``tpu``; None leaves the choice to JAX. Call it before anything else uses JAX."""
    if name is None:
        return
    if name not in ("cpu", "gpu", "tpu"):
        raise ValueError(f"unknown device {name!r}: choose cpu, gpu or tpu")
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(name, name))
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(
            f"device {name!r} is not available to JAX here: `python -m jaxephys` says which devices it sees"
        ) from error


def initialize_distributed() -> None:
    """Join the processes of a cluster: each trains its share of the runs, the results meet at the end.

    SLURM, Open MPI and TPU pods are recognised by JAX; elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID in the environment of each process.
    """
    count, place = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
    if (count is None) != (place is None):
        raise ValueError("set both JAX_NUM_PROCESSES and JAX_PROCESS_ID, or neither on SLURM, Open MPI and TPU pods")
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count), process_id=None if place is None else int(place)
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the hosts could not be joined ({str(error).splitlines()[0]}): check JAX_COORDINATOR_ADDRESS"
        ) from error


def make_mesh(runs: int) -> Mesh:
    """The devices of this process, at most one a run. Other processes have meshes and runs of their own."""
    devices = jax.local_devices()[: max(runs, 1)]
    return Mesh(np.asarray(devices), ("run",), axis_types=(AxisType.Auto,))


def place(tree: PyTree, mesh: Mesh, *, split: bool) -> PyTree:
    """Put arrays on the mesh: split over the leading run axis, or a copy on every device."""
    return jax.device_put(tree, NamedSharding(mesh, P("run") if split else P()))


def abstract(one: PyTree, mesh: Mesh, size: int) -> PyTree:
    """The shapes of ``size`` runs split over the mesh, given the arrays or shapes of one."""
    sharding = NamedSharding(mesh, P("run"))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype, sharding=sharding), one)


def map_over_runs(one: Callable, mesh: Mesh, *, execution: str, donate: int | None = None) -> jax.stages.Wrapped:
    """``one(shared, *per_run)`` for one run -> a jitted program ``(shared, *stacked)`` for all, split over the mesh."""

    def local(shared: PyTree, *stacked: PyTree) -> PyTree:
        if execution == "vmap":
            return jax.vmap(lambda *run: one(shared, *run))(*stacked)
        return lax.map(lambda run: one(shared, *run), stacked)

    def program(shared: PyTree, *stacked: PyTree) -> PyTree:
        specs = (P(), *(P("run") for _ in stacked))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P("run"), check_vma=False)(shared, *stacked)

    return jax.jit(program, donate_argnums=() if donate is None else (donate,))


def gather_hosts(tree: PyTree, places: np.ndarray, total: int) -> PyTree:
    """Every host's runs, in the order of the axis, on every host. ``places`` are the runs this host trained."""
    if jax.process_count() == 1:
        order = np.argsort(places)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[order], tree)
    from jax.experimental import multihost_utils  # starts the collectives, so only where there are several hosts

    share = -(-total // jax.process_count())  # shares differ by a run at most: pad to the largest
    padded = np.full(share, total, np.int32)
    padded[: len(places)] = places
    everywhere = multihost_utils.process_allgather(padded).reshape(-1)
    order = np.argsort(everywhere, kind="stable")[:total]

    def gather(leaf: AnyArray) -> np.ndarray:
        own = np.asarray(leaf)
        wide = np.concatenate([own, np.zeros((share - len(own), *own.shape[1:]), own.dtype)])
        return np.asarray(multihost_utils.process_allgather(jnp.asarray(wide))).reshape(-1, *own.shape[1:])[order]

    return jax.tree.map(gather, tree)


def agree(text: str) -> str:
    """The first host's text, on every host: the name of a folder that holds a time, say."""
    if jax.process_count() == 1:
        return text
    from jax.experimental import multihost_utils

    letters = np.zeros(256, np.uint8)
    letters[: len(text)] = list(text.encode())
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters))).rstrip(b"\0").decode()


def local_run_indices(total: int) -> np.ndarray:
    """The places of the runs that this host trains."""
    return np.arange(jax.process_index(), total, jax.process_count())


def is_first_host() -> bool:
    return jax.process_index() == 0
