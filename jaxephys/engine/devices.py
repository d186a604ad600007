"""Devices: a one-axis mesh over which the runs are split, programs without communication across it, and several hosts.

Runs are independent, so the body of every program is mapped with ``shard_map``: each device loops over its own runs, and the
compiled text contains no collective. (Under plain ``jit`` with sharded inputs the masked loops of early stopping would need
an all-reduce to agree on when the slowest run ends.) ``jax.pmap`` is today a wrapper over this same path.

On CPU every core is made a device. The matrices of a small training step are too small to be split over two cores, but two
runs, one on each core, use both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import use_persistent_cache
from jaxephys.engine.task import Backend, PyTree, Task

log = logging.getLogger("jaxephys")
# JAX's names of the precision of float32 products. Its default is float32 on a CPU, TF32 on a GPU and bfloat16 on a TPU, where "high"
# is about as precise as TF32.
PRODUCTS = {("gpu", "float32"): "highest", ("tpu", "float32"): "highest", ("tpu", "tf32"): "high"}
MAX_CPU_DEVICES = 16  # each holds a copy of the data
# A step of HIPPIE at width 16 compiles in 20 s of CPU time instead of 45 s with these options, and takes 5.4 s instead of 5.2 s. LLVM's
# later passes and XLA's second way to generate code for a fusion gain little where most of the time is spent in matrix products.
CPU_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}


def use_all_cores() -> None:
    """Make each CPU core a JAX device. It has no effect once JAX has started, or where the user has chosen a number."""
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices > 0:  # pyright: ignore[reportAttributeAccessIssue]
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", min(cores, MAX_CPU_DEVICES))
    except RuntimeError:
        return  # JAX has started in this process: its devices stay as they are


def choose_platform(name: str | None) -> None:
    """Choose the kind of device to compute on. Call it before anything else uses JAX.

    Parameters
    ----------
    name : {"cpu", "gpu", "tpu"} or None
        None leaves the choice to JAX.

    Raises
    ------
    ValueError
        If the name is unknown or no such device is available.
    """
    if name is None:
        return
    if name not in ("cpu", "gpu", "tpu"):
        raise ValueError(f"unknown device {name!r}: choose cpu, gpu or tpu")
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(name, name))
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(
            f"device {name!r} is not available to JAX here: `python -m jaxephys` lists the devices that are"
        ) from error


def initialize_distributed() -> None:
    """Join the processes of a cluster. Each trains its share of the runs, and all receive all results.

    JAX recognizes SLURM, Open MPI and TPU pods; elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in
    the environment of each process.

    Raises
    ------
    ValueError
        If the environment is incomplete or the processes cannot be joined.
    """
    count, index = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
    if (count is None) != (index is None):
        raise ValueError("set both JAX_NUM_PROCESSES and JAX_PROCESS_ID, or neither on SLURM, Open MPI and TPU pods")
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count), process_id=None if index is None else int(index)
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the hosts could not be joined ({str(error).splitlines()[0]}): check JAX_COORDINATOR_ADDRESS"
        ) from error


def make_mesh(n_runs: int) -> Mesh:
    """Return a one-axis mesh of the devices of this process. Other processes have their own meshes and runs.

    Parameters
    ----------
    n_runs : int
        Number of runs to train; the mesh has at most one device for each.

    Returns
    -------
    jax.sharding.Mesh
        A mesh with the axis ``"run"``.
    """
    devices = jax.local_devices()[: max(n_runs, 1)]
    return Mesh(np.asarray(devices), ("run",), axis_types=(AxisType.Auto,))


def choose_backend(device: jax.Device, execution: str = "auto", precision: str = "auto") -> Backend:
    """Return how the programs of a device are compiled.

    Parameters
    ----------
    device : jax.Device
        The device.
    execution : {"auto", "map", "vmap"}
        ``"auto"``: one after the other on a CPU core, where the matrices of a stack are not faster than those of a run; stacked
        elsewhere.
    precision : {"auto", "float32", "tf32", "bfloat16"}
        ``"auto"``: float32 on a CPU, TF32 elsewhere.

    Returns
    -------
    Backend
        The choice for this device.
    """
    on_cpu = device.platform == "cpu"
    if execution == "auto":
        execution = "map" if on_cpu else "vmap"
    if precision == "auto":
        precision = "float32" if on_cpu else "tf32"
    return Backend(device.platform, execution, precision)


def task_for_backend(task: Task, backend: Backend) -> Task:
    """Return a task with its operations in the form that suits a backend.

    Parameters
    ----------
    task : Task
        The functions of a system.
    backend : Backend
        What the programs are compiled for.

    Returns
    -------
    Task
        ``task.for_backend(backend)``, or the task itself if it has one form for all.
    """
    return task if task.for_backend is None else task.for_backend(backend)


def put_on_mesh(tree: PyTree, mesh: Mesh, *, split: bool) -> PyTree:
    """Copy arrays to the devices of a mesh.

    Parameters
    ----------
    tree : tree of arrays
        Arrays on the host; with a leading run axis of a multiple of the mesh's size if ``split``.
    mesh : jax.sharding.Mesh
        The mesh.
    split : bool
        Split the arrays over the leading axis, or put a copy on every device.

    Returns
    -------
    tree of jax.Array
        The arrays on the devices.
    """
    return jax.device_put(tree, run_sharding(mesh) if split else NamedSharding(mesh, P()))


def put_on_devices(data: PyTree, n_runs: int) -> PyTree:
    """Copy data to the devices once, for the training and all predictions of a grid.

    Parameters
    ----------
    data : tree of arrays
        Data that all runs share.
    n_runs : int
        Number of runs of the grid.

    Returns
    -------
    tree of jax.Array
        The data on every device that has runs. Training and prediction use these copies.
    """
    use_all_cores()
    return put_on_mesh(data, make_mesh(len(local_run_indices(n_runs))), split=False)


def run_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a stack of runs.

    Parameters
    ----------
    mesh : jax.sharding.Mesh
        The mesh.

    Returns
    -------
    jax.sharding.NamedSharding
        The leading axis is split over the devices.
    """
    return NamedSharding(mesh, P("run"))


def abstract_runs(run: PyTree, mesh: Mesh, size: int) -> PyTree:
    """Return the shapes of a stack of runs that is split over a mesh.

    Parameters
    ----------
    run : tree of arrays
        Arrays or shapes of one run, without a run axis.
    mesh : jax.sharding.Mesh
        The mesh.
    size : int
        Number of slots of the stack.

    Returns
    -------
    tree of jax.ShapeDtypeStruct
        Shapes ``(size, ...)`` with their sharding.
    """
    sharding = run_sharding(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype, sharding=sharding), run)


def map_over_runs(function: Callable, mesh: Mesh, *, backend: Backend, donate: int | None = None) -> jax.stages.Wrapped:
    """Turn a function of one run into a compiled program for a stack of runs that is split over a mesh.

    Parameters
    ----------
    function : callable
        ``function(shared, *per_run)``, which computes one run.
    mesh : jax.sharding.Mesh
        The mesh.
    backend : Backend
        Whether each device computes its runs stacked or one after the other, and the precision of products.
    donate : int, optional
        Index of an argument whose memory the result may reuse.

    Returns
    -------
    jax.stages.Wrapped
        ``program(shared, *stacked)``, where each of ``stacked`` has a leading run axis.
    """

    def local(shared: PyTree, *stacked: PyTree) -> PyTree:
        with jax.default_matmul_precision(PRODUCTS.get((backend.platform, backend.precision))):
            if backend.execution == "vmap":
                return jax.vmap(lambda *run: function(shared, *run))(*stacked)
            return lax.map(lambda run: function(shared, *run), stacked)

    def program(shared: PyTree, *stacked: PyTree) -> PyTree:
        specs = (P(), *(P("run") for _ in stacked))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P("run"), check_vma=False)(shared, *stacked)

    donated = () if donate is None else (donate,)
    return jax.jit(program, donate_argnums=donated, compiler_options=compiler_options(mesh.devices.flat[0].platform))


def jit_local(function: Callable, static_argnums: tuple[int, ...] = ()) -> Callable:
    """Compile a function as the engine compiles its programs for the first device of this process.

    Parameters
    ----------
    function : callable
        A function of arrays.
    static_argnums : tuple of int
        Positions of hashable arguments that the program depends on.

    Returns
    -------
    callable
        The compiled function, for calls from Python; other compiled functions cannot call it.
    """

    @cache
    def compiled(platform: str) -> Callable:
        use_persistent_cache()
        options = compiler_options(platform)
        return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return compiled(jax.local_devices()[0].platform)(*arguments)

    return call


@cache
def compiler_options(platform: str) -> dict[str, Any]:
    """Return the options with which XLA compiles the programs of a platform.

    Parameters
    ----------
    platform : str
        Such as ``"cpu"``.

    Returns
    -------
    dict
        Values by name, without options that the installed XLA does not have.
    """
    accepted = {}
    for name, value in (CPU_OPTIONS if platform == "cpu" else {}).items():
        try:
            jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(np.float32(0)).compile()
        except jax.errors.JaxRuntimeError:
            log.debug("this version of XLA has no option %s", name)
        else:
            accepted[name] = value
    return accepted


def local_run_indices(n_runs: int) -> Int[np.ndarray, "run"]:
    """Return the indices of the runs that this host trains.

    Parameters
    ----------
    n_runs : int
        Number of runs of the grid.

    Returns
    -------
    array of int
        Every ``n_hosts``-th run, beginning with the index of this host.
    """
    return np.arange(jax.process_index(), n_runs, jax.process_count())


def gather_hosts(tree: PyTree, indices: Int[np.ndarray, "run"], n_runs: int) -> PyTree:
    """Return the runs of all hosts, in the order of the grid, on every host.

    Parameters
    ----------
    tree : tree of arrays (n_local_runs, ...)
        Results of the runs that this host has trained.
    indices : array of int (n_local_runs,)
        Indices of these runs in the grid.
    n_runs : int
        Number of runs of the grid.

    Returns
    -------
    tree of arrays (n_runs, ...)
        Results of all runs.
    """
    if jax.process_count() == 1:
        order = np.argsort(indices)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[order], tree)
    from jax.experimental import multihost_utils  # starts the collectives, so only where there are several hosts

    share = -(-n_runs // jax.process_count())  # shares differ by at most one run: pad to the largest
    padded = np.full(share, n_runs, np.int32)
    padded[: len(indices)] = indices
    all_indices = multihost_utils.process_allgather(padded).reshape(-1)
    order = np.argsort(all_indices, kind="stable")[:n_runs]

    def gather(leaf: AnyArray) -> np.ndarray:
        local = np.asarray(leaf)
        wide = np.concatenate([local, np.zeros((share - len(local), *local.shape[1:]), local.dtype)])
        return np.asarray(multihost_utils.process_allgather(jnp.asarray(wide))).reshape(-1, *local.shape[1:])[order]

    return jax.tree.map(gather, tree)


def broadcast_text(text: str) -> str:
    """Return the text of the first host on every host, such as the name of a folder that contains the time.

    Parameters
    ----------
    text : str
        At most 256 bytes; only that of the first host matters.

    Returns
    -------
    str
        The text of the first host.
    """
    if jax.process_count() == 1:
        return text
    from jax.experimental import multihost_utils

    letters = np.zeros(256, np.uint8)
    letters[: len(text)] = list(text.encode())
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters))).rstrip(b"\0").decode()


def is_first_host() -> bool:
    """Return whether this process is the first of the cluster: the one that writes files.

    Returns
    -------
    bool
        True where there is a single process.
    """
    return jax.process_index() == 0
