"""A process that prepares one measurement, waits, and takes it whenever it receives a line.

    python -m benchmarks.worker '{"kind": "train", "system": "patchseq", "runs": 10}'

It compiles its program, prints a line of JSON about it, and then answers each line of its input with a measurement. So all programs of a
benchmark are compiled at the same time, and timed one after the other on an otherwise idle device.

train       steps of the engine's training program
fit         a whole training with `jaxephys.engine.fit.fit` and the scores of its models
embed       `jaxephys.engine.predict.predict` on all units
torch       steps of the same training in PyTorch
ceilings    copies of an array, and products of large matrices: what the device can do
"""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.runner import Row

Measure = Callable[[], Row]
SPLITS = 12  # recordings that each model of the transfer grid is scored on


def main() -> None:
    """Prepare the case of the command line, and measure it once for each line of the input."""
    case = json.loads(sys.argv[1])
    information, measure = PREPARE[case.pop("kind")](**case)
    print(json.dumps(information), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def time_repeatedly(work: Callable[[], Any], wait: Callable[[Any], Any], seconds: float, least: int = 3) -> list[float]:
    """Return the times of repeated calls after a first one, which is a warm-up.

    Parameters
    ----------
    work : callable
        Function to call.
    wait : callable
        Function of the result that returns when the device has computed it.
    seconds : float
        Time after which no further call is made.
    least : int
        Smallest number of calls that are timed.

    Returns
    -------
    list of float
        Seconds of each call.
    """
    wait(work())
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        wait(work())
        times.append(time.perf_counter() - start)
    return times


def step_times(times: list[float], steps: int, runs: int) -> Row:
    """Return the columns of a measurement of training steps.

    Parameters
    ----------
    times : list of float
        Seconds of each call.
    steps, runs : int
        Steps of a call, and runs that take them.

    Returns
    -------
    dict
        ``ms_step`` (best) and ``ms_step_median`` of all runs together, and ``ms_run_step``.
    """
    best, median = (1e3 * choose(times) / steps for choose in (min, statistics.median))
    return {"ms_step": best, "ms_step_median": median, "ms_run_step": best / runs}


def prepare_training(
    system: str,
    runs: int,
    execution: str = "auto",
    precision: str = "auto",
    *,
    small: bool = False,
    sizes: dict[str, int] | None = None,
    seconds: float = 2.0,
) -> tuple[Row, Measure]:
    """Compile the engine's training program of a system.

    Parameters
    ----------
    system, runs, execution, precision, small, sizes : see benchmarks.cases.build
        The case.
    seconds : float
        Time of a measurement.

    Returns
    -------
    information : dict
        Device, compile time, and what the program contains.
    measure : callable
        Returns the times of a step, whether two trainings from the same seeds end with the same bits, and the peak memory.
    """
    from benchmarks.cases import build
    from benchmarks.compiled import count_program
    from jaxephys.engine.devices import use_all_cores

    use_all_cores()
    import jax

    problem = build(system, runs, execution, precision, small=small, **(sizes or {}))
    grid, start = problem.compiled_grid(), time.perf_counter()
    program = grid._chunk(len(grid.start(range(runs)).ids))
    compile_s = time.perf_counter() - start
    counts = count_program(program.as_text() or "", -(-runs // grid.mesh.size), problem.one_copy)
    columns = ("kernels_step", "gib_step", "data_copies_step", "collectives", "host_calls")
    information = {
        **_device(),
        "execution": grid.backend.execution,
        "precision": grid.backend.precision,
        "compile_s": compile_s,
        "gflop_step": runs * _gflop(problem),
        **{name: counts[name] for name in columns},
    }
    information["gib_step"] *= grid.mesh.size if grid.backend.execution == "vmap" else runs

    def begin() -> Any:
        stack = grid.start(range(runs))
        grid.advance(stack)
        return stack

    def measure() -> Row:
        first, stack = _digest(begin().state.params), begin()
        same_bits = _digest(stack.state.params) == first
        steps = problem.steps * problem.config.chunk_epochs
        times = time_repeatedly(lambda: (grid.advance(stack), stack.state), jax.block_until_ready, seconds)
        return step_times(times, steps, runs) | {"same_bits": same_bits, "peak_gib": _peak_gib()}

    return information, measure


def prepare_fit(
    system: str,
    runs: int,
    epochs: int,
    *,
    execution: str = "auto",
    precision: str = "auto",
    small: bool = False,
    sizes: dict[str, int] | None = None,
) -> tuple[Row, Measure]:
    """Compile a whole training, and the scores of its models on the data of every run.

    Parameters
    ----------
    system, runs : see benchmarks.cases.build
        The case.
    epochs : int
        Epochs of each run.
    execution, precision, small, sizes : see benchmarks.cases.build
        Options of the case.

    Returns
    -------
    information : dict
        Device and compile time.
    measure : callable
        Returns the wall time with compilation, and that of training and of scoring.
    """
    from benchmarks.cases import build
    from jaxephys.engine.devices import use_all_cores

    use_all_cores()
    import jax

    from jaxephys.engine.fit import fit, take_runs
    from jaxephys.engine.predict import score

    start = time.perf_counter()
    problem = build(system, runs, execution, precision, small=small, **(sizes or {}))
    config = replace(problem.config, max_epochs=epochs)
    problem = problem._replace(config=config)
    # Models times recordings, as in a transfer grid; other systems score each model on its own validation rows.
    models, data_of = np.arange(runs), np.arange(runs)
    if system.startswith("spikes"):
        models, data_of = np.repeat(models, min(runs, SPLITS)), np.tile(data_of[:SPLITS], runs)
    rows, constants = take_runs((problem.inputs.validation, problem.inputs.constants), data_of)
    grid = problem.compiled_grid()
    stack = grid.start(range(runs))
    grid._chunk(len(stack.ids))
    task = problem.task
    untrained = jax.device_get(grid.packing.unpack(jax.device_get(stack.state)))
    variables = {"params": untrained.params, **untrained.mutables}
    score(task, problem.data, take_runs(variables, models), rows, constants)
    information = _device() | {"execution": grid.backend.execution, "precision": grid.backend.precision}
    prepared = time.perf_counter() - start
    information["compile_s"] = prepared

    def measure() -> Row:
        start = time.perf_counter()
        result = fit(task, problem.data, problem.inputs, problem.grid, config)
        trained = time.perf_counter() - start
        score(task, problem.data, take_runs(result.best, models), rows, constants)
        wall = time.perf_counter() - start
        steps = epochs * problem.steps
        return {
            "wall_s": prepared + wall,
            "train_s": trained,
            "score_s": wall - trained,
            "ms_step": 1e3 * trained / steps,
            "ms_run_step": 1e3 * trained / steps / runs,
            "peak_gib": _peak_gib(),
        }

    return information, measure


def prepare_embedding(
    precision: str = "auto", *, small: bool = False, sizes: dict[str, int] | None = None, seconds: float = 2.0
) -> tuple[Row, Measure]:
    """Compile the embedding of many units.

    Parameters
    ----------
    precision : str
        Precision of products.
    small, sizes : see benchmarks.cases.build
        Sizes.
    seconds : float
        Time of a measurement.

    Returns
    -------
    information : dict
        Device and compile time.
    measure : callable
        Returns the time of all units, with the transfer of their curves, in the column ``wall_s``.
    """
    from benchmarks.cases import build, embedding_variables
    from jaxephys.engine.devices import use_all_cores

    use_all_cores()
    from jaxephys.engine.predict import predict

    options: dict[str, Any] = {"small": small, **(sizes or {})}
    problem = build("embedding", 1, precision=precision, **options)
    variables, start = embedding_variables(problem), time.perf_counter()

    def embed() -> Any:
        rows, block = problem.inputs.train, problem.config.batch_size
        return predict(problem.task, problem.data, variables, rows, block=block)

    embed()
    information = _device() | {"precision": "auto", "compile_s": time.perf_counter() - start}

    def measure() -> Row:
        times = time_repeatedly(embed, lambda result: result, seconds)
        return {"wall_s": min(times), "ms_step": 1e3 * min(times) / problem.steps, "peak_gib": _peak_gib()}

    return information, measure


def prepare_torch(
    system: str,
    mode: str,
    precision: str = "tf32",
    *,
    small: bool = False,
    sizes: dict[str, int] | None = None,
    steps: int = 100,
) -> tuple[Row, Measure]:
    """Construct and warm up the training of a system in PyTorch.

    Parameters
    ----------
    system : str
        The case, which is one run. Not every system has an equivalent in PyTorch.
    mode : {"eager", "compile", "graph"}
        How PyTorch executes a step, see there.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of products.
    small, sizes : see benchmarks.cases.build
        Sizes.
    steps : int
        Steps of a call.

    Returns
    -------
    information : dict
        Device and time of construction and warm-up.
    measure : callable
        Returns the times of a step.
    """
    from benchmarks.cases import SIZES, SMALL_SIZES
    from benchmarks.opponents.steps import make_step, memory_gib, wait

    start = time.perf_counter()
    chosen = SIZES[system.removesuffix("-original")] | (SMALL_SIZES[system.removesuffix("-original")] if small else {})
    step, device, units = make_step(system, chosen | (sizes or {}), mode, precision)
    for _ in range(1 if device == "cpu" else 12):
        step()
    wait()
    information = {
        "device": device,
        "execution": mode,
        "precision": precision,
        "compile_s": time.perf_counter() - start,
    }

    def measure() -> Row:
        def call() -> None:
            for _ in range(steps):
                step()

        times = time_repeatedly(call, lambda _: wait(), 0.0, 1 if device == "cpu" else 3)
        row = step_times(times, steps, 1) | ({} if device == "cpu" else {"peak_gib": memory_gib()})
        return row | ({"wall_s": min(times) / steps * units} if units else {})

    return information, measure


def prepare_ceilings(*, small: bool = False, seconds: float = 0.5) -> tuple[Row, Measure]:
    """Compile a copy and products of large matrices.

    Parameters
    ----------
    small : bool
        Whether the arrays are small.
    seconds : float
        Time of each measurement.

    Returns
    -------
    information : dict
        Device and compile time.
    measure : callable
        Returns the bandwidth in GB/s, read and write together, and TFLOP/s by precision.
    """
    import jax
    import jax.numpy as jnp

    start, size = time.perf_counter(), 1024 if small else 8192
    numbers = jnp.ones(2**24 if small else 2**28, jnp.float32)
    copy = jax.jit(lambda x: x + 1).lower(numbers).compile()
    options = {"float32": ("float32", "highest"), "tf32": ("float32", "tensorfloat32"), "bfloat16": ("bfloat16", None)}
    if jax.default_backend() == "cpu":
        del options["tf32"]
    matrices = {name: jnp.ones((size, size), dtype) for name, (dtype, _) in options.items()}
    products = {
        name: jax.jit(lambda x, precision=precision: jnp.matmul(x, x, precision=precision))
        .lower(matrices[name])
        .compile()
        for name, (_, precision) in options.items()
    }
    information = _device() | {"compile_s": time.perf_counter() - start}

    def measure() -> Row:
        times = time_repeatedly(lambda: copy(numbers), jax.block_until_ready, seconds)
        row = {"copy_gb_s": 2e-9 * numbers.nbytes / min(times)}
        for name, product in products.items():
            times = time_repeatedly(lambda: product(matrices[name]), jax.block_until_ready, seconds)  # noqa: B023
            row[f"{name}_tflop_s"] = 2e-12 * size**3 / min(times)
        return row

    return information, measure


def _gflop(problem: Any) -> float:
    """Arithmetic of the products of a step of one run, in 10^9 operations."""
    from benchmarks.cases import trace_chunk
    from jaxephys.engine.operations import count_operations
    from jaxephys.engine.task import Backend

    chunk = count_operations(trace_chunk(problem, Backend("cpu", "map", "float32")))
    return chunk.loop.flops / problem.config.chunk_epochs / 1e9  # one step of each epoch of a chunk is counted


def _digest(tree: Any) -> str:
    import jax

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _device() -> Row:
    import jax

    return {"device": jax.devices()[0].device_kind, "devices": len(jax.devices())}


def _peak_gib() -> float:
    """Peak memory of the device, or of this process on a CPU."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20  # ru_maxrss counts bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


PREPARE: dict[str, Callable[..., tuple[Row, Measure]]] = {
    "train": prepare_training,
    "fit": prepare_fit,
    "embed": prepare_embedding,
    "torch": prepare_torch,
    "ceilings": prepare_ceilings,
}

if __name__ == "__main__":
    main()
