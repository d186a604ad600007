"""Programs compiled for an NVIDIA H100, a TPU v5e or this CPU, without such a device: kernels, bytes, memory and compile time of a step.

    python -m benchmarks compiled                                          all systems for an H100
    python -m benchmarks compiled --target tpu-v5e                         all systems for a TPU v5e
    python -m benchmarks compiled --systems hippie --runs 5 --width 8      one system, smaller
    python -m benchmarks compiled --systems hippie --top 20                and the kernels that move most bytes

The compiler of a GPU or TPU comes with JAX's plugin and needs no device: pip install "jax[cuda12]" for the H100, pip install libtpu for the
TPU. Each system is compiled in a process of its own. Columns of the results:

kernels_step     kernels of a training step, all runs together; kernels inside loops over time count as often as they run
kernels_epoch    kernels of an epoch besides its steps: shuffling, validation, choice of the best epoch
product, convolution, copy, fusion, other    the kernels of a step by kind; a copy only moves data between layouts
gib_step, gib_copies    GiB that the kernels of a step, and its copies, read and write
data_copies_step, data_copies_epoch    results in a step, and outside of steps, that hold a copy of the data for each run
collectives, host_calls    exchanges between devices, and calls of the host, anywhere in the program
open_loops       loops inside a step whose number of iterations is not known; one iteration is counted
temp_gib, argument_gib, output_gib    memory by the compiler's analysis, per device
lower_s, compile_s    seconds of tracing and lowering, and of compilation
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hlo import COLLECTIVES, HOST, Program, count_copies, count_kinds
from benchmarks.runner import Row, read_rows, run_worker, select, write_rows

DEFAULT_RUNS = {
    "patchseq": 10,
    "hippie": 25,
    "hippie-ours": 25,
    "spikes-published": 12,
    "spikes-population": 12,
    "embedding": 1,
}
TARGETS = {"h100": "jax_plugins.xla_cuda12", "tpu-v5e": "libtpu", "cpu": "jax"}  # module that holds the compiler
H100 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3" """
ENVIRONMENT = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "h100": {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        # Without a device nothing can be measured, and kernels that are chosen by measurement cannot be compiled.
        "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
    },
    "tpu-v5e": {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several programs may be compiled at the same time
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile systems, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compiled", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=TARGETS, default="h100", help="device to compile for (%(default)s)")
    parser.add_argument("--systems", nargs="+", choices=DEFAULT_RUNS, default=list(DEFAULT_RUNS), metavar="SYSTEM")
    parser.add_argument("--runs", type=int, help="runs of a device; by default 10 (patchseq), 25 (HIPPIE), 12 (spikes)")
    parser.add_argument("--devices", type=int, default=1, help="devices of the program (%(default)s)")
    parser.add_argument("--execution", choices=("vmap", "map"), default="vmap", help="(%(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, float32, tf32 or bfloat16 (%(default)s)")
    parser.add_argument("--width", type=int, help="width of the network, instead of that of the benchmark")
    parser.add_argument("--small", action="store_true", help="sizes of the tests")
    parser.add_argument(
        "--save-text", type=Path, metavar="FOLDER", help="write the text of the programs to this folder"
    )
    parser.add_argument(
        "--top", type=int, default=0, metavar="N", help="print the N kernels of a step that move most bytes"
    )
    parser.add_argument("--out", type=Path, help="file to write; rows of the same case are replaced")
    options = parser.parse_args(arguments)
    require_compiler(options.target)
    rows = read_rows(options.out) if options.out and options.out.exists() else []
    for system in options.systems:
        case = {
            "system": system,
            "target": options.target,
            "runs": options.runs or DEFAULT_RUNS[system],
            "n_devices": options.devices,
            "execution": options.execution,
            "precision": options.precision,
            "small": options.small,
            "sizes": {} if options.width is None else {"width": options.width},
            "save_text": options.save_text and str(options.save_text.resolve()),
            "top": options.top,
        }
        row = run_worker("benchmarks.compiled", case, ENVIRONMENT[options.target])
        kernels = row.pop("kernels")
        identity = {name: row[name] for name in ("system", "width", "devices", "runs", "execution", "precision")}
        rows = [other for other in rows if other not in select(rows, **identity)] + [row]
        rows.sort(key=lambda row: list(DEFAULT_RUNS).index(row["system"]))
        print(describe(row), flush=True)
        print("".join(f"    {line}\n" for line in kernels), end="", flush=True)
        if options.out:
            write_rows(rows, options.out)


def describe(row: Row) -> str:
    """Return a line of text about a compiled program.

    Parameters
    ----------
    row : dict
        Result of `measure`.

    Returns
    -------
    str
        The line.
    """
    kinds = ", ".join(
        f"{row[kind]} {kind}" for kind in ("product", "convolution", "copy", "fusion", "other") if row[kind]
    )
    return (
        f"{row['system']} width {row['width']} R={row['runs']} {row['execution']} {row['precision']} on {row['devices']} {row['target']}: "
        f"{row['kernels_step']} kernels a step ({kinds}), {row['kernels_epoch']} an epoch besides; "
        f"{row['gib_step']:.3g} GiB a step ({row['gib_copies']:.3g} in copies); {row['data_copies_step']} copies of the data in a step, {row['data_copies_epoch']} besides, "
        f"{row['collectives']} collectives, {row['host_calls']} host calls, {row['open_loops']} open loops; memory {row['temp_gib']:.3g} GiB; "
        f"lowering {row['lower_s']:.1f} s, compilation {row['compile_s']:.1f} s"
    )


def require_compiler(target: str) -> None:
    """Check that the compiler for a target is installed.

    Parameters
    ----------
    target : {"h100", "tpu-v5e", "cpu"}
        Device to compile for.

    Raises
    ------
    SystemExit
        If it is not, with the command that installs it.
    """
    module = TARGETS[target]
    if missing_compiler(target):
        package = {"h100": '"jax[cuda12]"', "tpu-v5e": "libtpu"}[target]
        raise SystemExit(f"error: compiling for {target} needs {module}, which is not installed: pip install {package}")


def missing_compiler(target: str) -> bool:
    """Return whether the compiler for a target is not installed.

    Parameters
    ----------
    target : {"h100", "tpu-v5e", "cpu"}
        Device to compile for.

    Returns
    -------
    bool
        True if it is missing.
    """
    try:
        return importlib.util.find_spec(TARGETS[target]) is None
    except ModuleNotFoundError:  # of the package that contains it
        return True


def measure(
    system: str,
    target: str,
    runs: int,
    n_devices: int = 1,
    execution: str = "vmap",
    precision: str = "auto",
    *,
    small: bool = False,
    sizes: dict[str, int] | None = None,
    save_text: str | None = None,
    top: int = 0,
) -> Row:
    """Compile the program of a system and count what is in it. The environment must be that of the target, see `ENVIRONMENT`.

    Parameters
    ----------
    system : str
        Name of the system, see `benchmarks.cases`.
    target : {"h100", "tpu-v5e", "cpu"}
        Device to compile for.
    runs : int
        Runs of each device.
    n_devices : int
        Devices of the program.
    execution, precision : str
        As in `jaxephys.engine.config.TrainConfig`.
    small : bool
        Whether to use the sizes of tests.
    sizes : dict, optional
        Sizes that replace those of the benchmark.
    save_text : str, optional
        Folder to which the text of the program is written.
    top : int
        Number of kernels that are described in ``kernels``.

    Returns
    -------
    dict
        The columns of the module's docstring.
    """
    import jax

    from benchmarks import cases
    from jaxephys.engine.devices import choose_backend

    if target == "h100":
        _assume_cudnn()
    problem = cases.build(system, runs * n_devices, execution, precision, small=small, **(sizes or {}))
    mesh = _mesh(target, n_devices)
    backend = choose_backend(mesh.devices.flat[0], execution, precision)
    start = time.perf_counter()
    lowered = lower_prediction(problem, mesh, backend) if system == "embedding" else lower_chunk(problem, mesh, backend)
    lower_s, start = time.perf_counter() - start, time.perf_counter()
    compiled = lowered.compile()
    compile_s, text = time.perf_counter() - start, compiled.as_text() or ""
    if save_text:
        Path(save_text).mkdir(parents=True, exist_ok=True)
        Path(save_text, f"{target}_{system}_{runs}_{execution}_{backend.precision}.hlo").write_text(text)
    counts = count_program(text, runs, problem.one_copy)
    memory: Any = compiled.memory_analysis()
    widths = cases.SIZES[system] | (cases.SMALL_SIZES[system] if small else {}) | (sizes or {})
    return {
        "system": system,
        "width": widths["width"],
        "target": target,
        "devices": n_devices,
        "runs": runs,
        "execution": execution,
        "precision": backend.precision,
        **{name: value for name, value in counts.items() if name != "kernels"},
        **{f"{name}_gib": _gib(getattr(memory, f"{name}_size_in_bytes")) for name in ("temp", "argument", "output")},
        "lower_s": round(lower_s, 1),
        "compile_s": round(compile_s, 1),
        "jax": jax.__version__,
        "kernels": [_describe_kernel(kernel) for kernel in counts["kernels"][:top]],
    }


def count_program(text: str, runs: int, parts: Sequence[tuple[int, ...]]) -> Row:
    """Count what is in a compiled training program.

    Parameters
    ----------
    text : str
        ``jax.stages.Compiled.as_text()``.
    runs : int
        Runs of a device.
    parts : sequence of tuple of int
        Shapes of the parts of the data of which a program should not hold a copy for each run.

    Returns
    -------
    dict
        Columns of the module's docstring, and ``kernels``: those of a step, the ones that move most bytes first.
    """
    program = Program(text)
    loop = program.step_loop()
    step = sorted(program.kernels(loop.called("body")[0]), key=lambda kernel: -kernel.times * kernel.n_bytes)
    epoch = list(program.kernels(program.enclosing(loop), without=loop))
    everywhere = [instruction for body in program.computations.values() for instruction in body]
    copies = {name: count_copies(kernels, runs, parts) for name, kernels in (("step", step), ("epoch", epoch))}
    return {
        "kernels_step": sum(kernel.times for kernel in step),
        "kernels_epoch": sum(kernel.times for kernel in epoch),
        **count_kinds(step),
        "gib_step": _gib(sum(kernel.times * kernel.n_bytes for kernel in step)),
        "gib_copies": _gib(sum(kernel.times * kernel.n_bytes for kernel in step if kernel.kind == "copy")),
        **{f"data_copies_{name}": count for name, count in copies.items()},
        "collectives": sum(some.opcode.removesuffix("-start") in COLLECTIVES for some in everywhere),
        "host_calls": sum(some.opcode in HOST or "callback" in some.text.split("metadata=")[0] for some in everywhere),
        "open_loops": sum(some.opcode == "while" and program.repeats(some) is None for some in _inside(program, loop)),
        "kernels": step,
    }


def lower_chunk(problem: Any, mesh: Any, backend: Any) -> Any:
    """Return the engine's program of a chunk of epochs for devices that need not exist.

    Parameters
    ----------
    problem : Problem
        What is trained.
    mesh : jax.sharding.Mesh
        The devices.
    backend : Backend
        What the program is compiled for.

    Returns
    -------
    jax.stages.Lowered
        The same program as `jaxephys.engine.run_stack.CompiledGrid.lower`.
    """
    from benchmarks.cases import chunk_program
    from jaxephys.engine import devices

    run, *shapes = chunk_program(problem, backend)
    program = devices.map_over_runs(run, mesh, backend=backend, donate=2)
    stacked = (devices.abstract_runs(tree, mesh, len(problem.grid)) for tree in shapes)
    return program.lower(_on_all(problem.data, mesh), *stacked)


def lower_prediction(problem: Any, mesh: Any, backend: Any) -> Any:
    """Return the engine's program of the outputs of all rows for devices that need not exist.

    Parameters
    ----------
    problem, mesh, backend : see lower_chunk
        As in `lower_chunk`.

    Returns
    -------
    jax.stages.Lowered
        The program of `jaxephys.engine.predict.predict`.
    """
    import jax

    from jaxephys.engine import devices
    from jaxephys.engine.predict import _predict_run

    task = devices.task_for_backend(problem.task, backend)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    rows = jax.tree.map(lambda leaf: leaf[0], problem.inputs.train)
    runs = devices.abstract_runs((variables, rows, ()), mesh, len(problem.grid))
    run = partial(_predict_run, task, problem.config.batch_size)
    return devices.map_over_runs(run, mesh, backend=backend).lower(_on_all(problem.data, mesh), runs)


def _mesh(target: str, n_devices: int) -> Any:
    """A mesh of devices of the target."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh

    if target == "h100":
        options = {"target_config": H100, "topology": f"1x1x{n_devices}"}
        found: Any = topologies.get_topology_desc("h100", "cuda", **options).devices
    elif target == "tpu-v5e":
        found = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    else:
        found = jax.devices()
    return Mesh(np.asarray(found[:n_devices]), ("run",), axis_types=(AxisType.Auto,))


def _assume_cudnn() -> None:
    """Let JAX trace cuDNN's attention, which it does only where it finds a device."""
    from jax._src.cudnn import fused_attention_stablehlo as attention

    attention.check_cudnn_version = lambda: 90800
    attention.check_compute_capability = lambda capability: capability <= "9.0"
    attention.is_cuda_compute_capability_equal = lambda capability: capability == "9.0"


def _on_all(data: Any, mesh: Any) -> Any:
    """The shapes of data of which every device holds a copy."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), data)


def _inside(program: Any, loop: Any) -> list[Any]:
    """All instructions of the body of a loop and of what it calls."""
    found, waiting = [], [loop.called("body")[0]]
    while waiting:
        for instruction in program.computations.get(waiting.pop(), []):
            found.append(instruction)
            waiting += instruction.called(
                "body", "to_apply", "branch_computations", "true_computation", "false_computation"
            )
    return found


def _describe_kernel(kernel: Any) -> str:
    instruction = kernel.instruction
    shapes = " ".join(f"{dtype}{list(dims)}" for dtype, dims in instruction.shapes)
    return f"{kernel.times:4} x {kernel.n_bytes / 2**20:9.2f} MiB {kernel.kind:11} {instruction.opcode:12} {shapes[:60]:60} {instruction.operation[-90:]}"


def _gib(n_bytes: float) -> float:
    return float(f"{n_bytes / 2**30:.4g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", type=json.loads, required=True)
    print(json.dumps(measure(**parser.parse_args().worker)))
