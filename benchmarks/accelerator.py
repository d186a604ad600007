"""All systems on the device at hand in under nine minutes: time of a step against PyTorch and against what the device can do.

    python -m benchmarks accelerator                              the GPU or TPU of this machine
    python -m benchmarks accelerator --small                      small sizes, as on a CPU by default: does everything run?
    python -m benchmarks accelerator --cases patchseq --rounds 3  only cases whose names begin with patchseq, three measurements
    python -m benchmarks accelerator --list                       the cases

Every case has a process of its own. First all compile at the same time; then they are timed one at a time, PyTorch beside ours. A case that
has not compiled in time is noted as late. Results are appended to results/DEVICE/accelerator.csv as they come:

library              jaxephys, or PyTorch's execution: eager, compile (torch.compile, reduce-overhead) or graph (a CUDA graph by hand)
execution            vmap: runs stacked; map: one after the other, so that the gain of stacking is seen apart from that of JAX
compile_s            tracing and compilation with as many processes as cores; of PyTorch, construction and warm-up
ms_step, ms_run_step best time of a step of all runs, and for each run
bandwidth, arithmetic  share of the time that the bytes and the products of a step take at the ceilings, which are measured in the same call
wall_s               time of a whole training with compilation and scores, or of an embedding with the transfer of its data
same_bits            whether two trainings from the same seeds end with the same bits

PyTorch needs the extra: pip install "jaxephys[bench]".
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import importlib.util
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.runner import RESULTS, Row

COLUMNS = (
    "case", "library", "system", "width", "runs", "execution", "precision", "small", "status", "round", "compile_s", "ms_step",
    "ms_step_median", "ms_run_step", "wall_s", "train_s", "score_s", "kernels_step", "gib_step", "gflop_step", "bandwidth", "arithmetic",
    "peak_gib", "same_bits", "data_copies_step", "collectives", "host_calls", "copy_gb_s", "float32_tflop_s", "tf32_tflop_s",
    "bfloat16_tflop_s", "device", "devices", "date", "versions",
)  # fmt: skip
DEADLINE, FOR_TIMING = 530, 150  # seconds: of everything, and kept for the second part
UNITS_ON_CPU = 5120  # units that are embedded on a CPU: as many as take seconds
PACKAGES = ("jaxephys", "jax", "jaxlib", "flax", "torch")


def make_cases() -> dict[str, Row]:
    """Return all cases in the order in which they are timed: the most important first, PyTorch beside ours.

    Returns
    -------
    dict of str to dict
        Arguments of `benchmarks.worker` by name.
    """

    def train(system: str, runs: int, execution: str = "vmap", precision: str = "tf32", **sizes: int) -> Row:
        options = {"runs": runs, "execution": execution, "precision": precision, "sizes": sizes}
        return {"kind": "train", "system": system, **options}

    def torch(system: str, mode: str, precision: str = "tf32", **sizes: int) -> Row:
        return {"kind": "torch", "system": system, "mode": mode, "precision": precision, "sizes": sizes}

    cases: dict[str, Row] = {"ceilings": {"kind": "ceilings"}}
    cases |= {f"patchseq-{runs}": train("patchseq", runs) for runs in (100, 10, 1, 400)}
    cases["patchseq-10-map"] = train("patchseq", 10, "map")
    cases |= {f"patchseq-{runs}-bfloat16": train("patchseq", runs, precision="bfloat16") for runs in (100, 10)}
    cases |= {f"patchseq-torch-{mode}": torch("patchseq", mode) for mode in ("eager", "compile", "graph")}
    cases["patchseq-torch-graph-bfloat16"] = torch("patchseq", "graph", "bfloat16")
    cases["hippie-25"] = train("hippie", 25)
    cases["hippie-25-bfloat16"] = train("hippie", 25, precision="bfloat16")
    cases["hippie-5-map"] = train("hippie", 5, "map")
    cases |= {f"hippie-torch-{mode}": torch("hippie", mode) for mode in ("eager", "compile", "graph")}
    cases["hippie-wide-1"] = train("hippie", 1, width=64)
    cases |= {f"hippie-wide-torch-{mode}": torch("hippie", mode, width=64) for mode in ("eager", "graph")}
    cases["hippie-ours-25"] = train("hippie-ours", 25)
    cases["spikes-published-12"] = train("spikes-published", 12)
    cases["spikes-published-1"] = train("spikes-published", 1)
    cases["spikes-published-12-map"] = train("spikes-published", 12, "map")
    cases["spikes-published-12-bfloat16"] = train("spikes-published", 12, precision="bfloat16")
    cases |= {
        f"spikes-published-torch-{mode}": torch("spikes-published", mode) for mode in ("eager", "compile", "graph")
    }
    cases["spikes-published-torch-bfloat16"] = torch("spikes-published", "compile", "bfloat16")
    cases["spikes-original-torch-eager"] = torch("spikes-published-original", "eager")
    cases |= {f"spikes-population-{runs}": train("spikes-population", runs) for runs in (12, 1)}
    cases["spikes-population-12-map"] = train("spikes-population", 12, "map")
    cases["embedding"] = {"kind": "embed"}
    cases |= {f"embedding-torch-{mode}": torch("embedding", mode) for mode in ("eager", "graph")}
    grid = {"kind": "fit", "execution": "vmap", "precision": "tf32"}
    cases["hippie-25-whole"] = grid | {"system": "hippie", "runs": 25, "epochs": 20, "sizes": {"steps": 30}}
    cases["transfer-grid-whole"] = grid | {
        "system": "spikes-published",
        "runs": 12,
        "epochs": 200,
        "sizes": {"steps": 6},
    }
    return cases


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile and time the cases, write the results and print them.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="names of cases, or their beginnings (all)")
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help="seconds after which nothing is begun (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each case, in turn (%(default)s)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="cases that compile at once (%(default)s)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", default=None, help="small sizes; the default on a CPU")
    size.add_argument("--full", dest="small", action="store_false", help="full sizes on a CPU, too; see --cases")
    parser.add_argument("--out", type=Path, help="file to append to (results/DEVICE/accelerator.csv)")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    options = parser.parse_args(arguments)
    cases = {name: case for name, case in make_cases().items() if _is_chosen(name, options.cases)}
    if not cases:
        parser.error(f"no case begins with {' or '.join(options.cases)}: choose from {', '.join(make_cases())}")
    if options.list:
        print("\n".join(f"{name:32} {json.dumps(case)}" for name, case in cases.items()))
        return
    device = find_device()
    small = device == "cpu" if options.small is None else options.small
    if importlib.util.find_spec("torch") is None:
        print('PyTorch is not installed, so only jaxephys is timed; pip install "jaxephys[bench]" adds the comparison.')
        cases = {name: case for name, case in cases.items() if case["kind"] != "torch"}
    path = options.out or RESULTS / device / "accelerator.csv"
    run_cases(
        adapt(cases, on_cpu=device == "cpu", small=small), path, options.deadline, options.rounds, options.processes
    )
    print(f"all measurements: {path}")


def adapt(cases: dict[str, Row], *, on_cpu: bool, small: bool) -> dict[str, Row]:
    """Return the cases for a kind of device.

    Parameters
    ----------
    cases : dict
        Cases for a GPU.
    on_cpu : bool
        Leave out CUDA graphs, and use float32 instead of TF32.
    small : bool
        Use small sizes, few runs and short measurements.

    Returns
    -------
    dict
        The cases.
    """
    adapted = {}
    for name, case in cases.items():
        if on_cpu and (case.get("mode") == "graph" or case.get("precision") == "bfloat16"):
            continue
        changes: Row = {"small": small}
        if on_cpu and case.get("precision") == "tf32":
            changes["precision"] = "float32"
        if small:
            changes |= {"sizes": {}} if "sizes" in case else {}
            changes |= {"runs": min(case["runs"], 4)} if "runs" in case else {}
            changes |= {"epochs": 2} if "epochs" in case else {}
            changes |= {"steps": 2} if case["kind"] == "torch" else {}
            changes |= {"seconds": 0.1} if case["kind"] in ("train", "embed", "ceilings") else {}
        elif on_cpu:
            changes |= {"steps": 8} if case["kind"] == "torch" else {}
            changes |= {"sizes": {"units": UNITS_ON_CPU}} if name.startswith("embedding") else {}
        adapted[name] = case | changes
    return adapted


def run_cases(cases: dict[str, Row], path: Path, deadline: float, rounds: int, processes: int) -> None:
    """Compile all cases in parallel, then time them one after the other.

    Parameters
    ----------
    cases : dict of str to dict
        Arguments of `benchmarks.worker` by name.
    path : Path
        CSV file to which the results are appended.
    deadline : float
        Seconds after which no case is begun.
    rounds : int
        Measurements of each case.
    processes : int
        Number of cases that compile at the same time.
    """
    start, workers = time.monotonic(), {name: Worker(case) for name, case in cases.items()}
    ceilings: Row = {}

    def report(name: str, measured: Row, status: str, number: int) -> None:
        row = make_row(name, cases[name], workers[name].information | measured, ceilings) | {
            "status": status,
            "round": number,
        }
        append_row(row, path)
        print(describe(row), flush=True)

    try:
        _compile_all(workers, start + max(deadline - FOR_TIMING, deadline / 2), processes)
        print(f"compiled after {time.monotonic() - start:.0f} s", flush=True)
        for name, worker in workers.items():
            if not worker.ready:
                report(name, {}, worker.failure() or "late: not compiled in time", 0)
                worker.stop()
        for number in range(rounds):
            for name, worker in workers.items():
                if not worker.ready:
                    continue
                left = start + deadline - time.monotonic()
                measured = worker.measure(left) if left > 0 else None
                if measured is not None and cases[name]["kind"] == "ceilings":
                    ceilings |= measured
                status = "measured" if measured is not None else worker.failure() or "late: not measured in time"
                report(name, measured or {}, status, number)
                if measured is None or number == rounds - 1:
                    worker.stop()  # so that its memory is free
    finally:
        for worker in workers.values():
            worker.stop()


class Worker:
    """The process of a case.

    Parameters
    ----------
    case : dict
        Arguments of `benchmarks.worker`.
    environment : dict, optional
        Further environment variables.

    Attributes
    ----------
    information : dict
        What the process has printed after compilation.
    ready : bool
        Whether it waits for the signal to measure.
    """

    def __init__(self, case: Row, environment: dict[str, str] | None = None) -> None:
        self.case, self.information, self.ready = case, {}, False
        self._environment = environment or {}
        self._process: subprocess.Popen | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []

    @property
    def running(self) -> bool:
        """Whether the process compiles, waits or measures."""
        return self._process is not None and self._process.poll() is None

    @property
    def begun(self) -> bool:
        """Whether the process has been started."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, which begins to compile."""
        command = [sys.executable, "-m", "benchmarks.worker", json.dumps(self.case)]
        # Compile times are those of a first compilation, and many processes share the memory of a GPU.
        environment = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment | os.environ | self._environment, **pipes)
        threading.Thread(target=self._read_lines, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def poll(self) -> None:
        """Read whether the process is ready."""
        if not self.ready:
            self.wait(0)

    def measure(self, seconds: float) -> Row | None:
        """Measure the case.

        Parameters
        ----------
        seconds : float
            Longest time to wait.

        Returns
        -------
        dict or None
            The measured columns; None if the process has failed or takes too long.
        """
        if self._process is None or self._process.stdin is None:
            return None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except OSError:  # the process has ended
            return None
        return self._read(seconds)

    def failure(self) -> str:
        """Return why the process has ended.

        Returns
        -------
        str
            The last line that it has written to its error output; empty while it runs.
        """
        if self._process is None or self.running:
            return ""
        return f"failed: {self._errors[-1] if self._errors else f'exit status {self._process.returncode}'}"

    def stop(self) -> None:
        """End the process."""
        self.ready = False
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float) -> bool:
        """Wait until the process is ready.

        Parameters
        ----------
        seconds : float
            Longest time to wait.

        Returns
        -------
        bool
            Whether it is.
        """
        information = self._read(seconds)
        self.information, self.ready = information or {}, information is not None
        return self.ready

    def _read(self, seconds: float) -> Row | None:
        """The next line of JSON; other lines are passed over."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(end - time.monotonic(), 0.001))
            except queue.Empty:
                return None
            if line is None:
                self._lines.put(None)
                return None
            if line.startswith("{"):
                return json.loads(line)

    def _read_lines(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        for line in self._process.stderr:
            if line.strip():
                self._errors = [*self._errors[-20:], line.strip()]


def make_row(name: str, case: Row, measured: Row, ceilings: Row) -> Row:
    """Return a row of the results.

    Parameters
    ----------
    name : str
        Name of the case.
    case : dict
        Arguments of `benchmarks.worker`.
    measured : dict
        What the worker has printed.
    ceilings : dict
        ``copy_gb_s`` and TFLOP/s by precision of the same call.

    Returns
    -------
    dict
        The columns of `COLUMNS`, with numbers of four digits.
    """
    from benchmarks.cases import SIZES, SMALL_SIZES

    system = case.get("system", "embedding" if case["kind"] == "embed" else "")
    sizes = SIZES.get(system, {}) | (SMALL_SIZES.get(system, {}) if case["small"] else {}) | case.get("sizes", {})
    torch = f"torch {case['mode']}" if case["kind"] == "torch" else ""
    versions = " ".join(f"{package} {_version(package)}" for package in PACKAGES if _version(package))
    row = {
        "case": name,
        "library": torch or "jaxephys",
        "system": system,
        "width": sizes.get("width", ""),
        "runs": case.get("runs", 1),
        "execution": case.get("execution", ""),
        "precision": case.get("precision", ""),
        "small": case["small"],
        **measured,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "versions": versions,
    }
    rate = ceilings.get(f"{row['precision']}_tflop_s") or ceilings.get("float32_tflop_s")
    if "ms_step" in row and "gib_step" in row and ceilings:
        row["bandwidth"] = row["gib_step"] * 2**30 / 1e6 / ceilings["copy_gb_s"] / row["ms_step"]
    if "ms_step" in row and "gflop_step" in row and rate:
        row["arithmetic"] = row["gflop_step"] / rate / row["ms_step"]
    return {column: _round(row.get(column, "")) for column in COLUMNS}


def append_row(row: Row, path: Path) -> None:
    """Append a row to a CSV file.

    Parameters
    ----------
    row : dict
        A row with the columns of the file.
    path : Path
        File, created if it does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def describe(row: Row) -> str:
    """Return a line of text about a measurement.

    Parameters
    ----------
    row : dict
        A row of the results.

    Returns
    -------
    str
        The line.
    """
    parts = [f"{row['case']:32} {row['status']}"] if row["status"] != "measured" else [f"{row['case']:32}"]
    texts = {
        "compile_s": "compiled in {} s",
        "ms_step": "{} ms a step",
        "ms_run_step": "{} ms a run and step",
        "wall_s": "{} s in total",
        "bandwidth": "bytes {:.0%} of the time",
        "arithmetic": "products {:.0%}",
        "peak_gib": "{} GiB",
        "copy_gb_s": "copy {} GB/s",
        "tf32_tflop_s": "TF32 {} TFLOP/s",
        "float32_tflop_s": "float32 {} TFLOP/s",
    }
    parts += [text.format(row[column]) for column, text in texts.items() if row[column] not in ("", None)]
    parts += ["not the same bits twice"] if row["same_bits"] is False else []
    return ", ".join(parts)


def find_device() -> str:
    """Return the name of the device that JAX uses here, as a name of a folder.

    Returns
    -------
    str
        Such as ``"nvidia-h200"`` or ``"cpu"``.
    """
    program = "import jax; print('DEVICE', jax.devices()[0].device_kind)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    found = re.search(r"^DEVICE (.*)$", result.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"error: JAX finds no device: {(result.stderr.strip().splitlines() or [''])[-1]}")
    return re.sub(r"[^a-z0-9]+", "-", found[1].lower()).strip("-")


def _compile_all(workers: dict[str, Worker], end: float, processes: int) -> None:
    """Let at most some processes compile at once, until all are ready or it is late. The longest compilations begin first."""
    waiting = sorted(
        workers.values(),
        key=lambda worker: ("hippie" not in worker.case.get("system", ""), worker.case["kind"] != "fit"),
    )
    compiling: list[Worker] = []
    while (waiting or compiling) and time.monotonic() < end:
        for worker in compiling:
            worker.poll()
        compiling = [worker for worker in compiling if worker.running and not worker.ready]
        while waiting and len(compiling) < processes:
            compiling.append(waiting.pop(0))
            compiling[-1].start()
        time.sleep(0.05)
    for worker in workers.values():
        if worker.begun:
            worker.poll()


def _is_chosen(name: str, chosen: Sequence[str] | None) -> bool:
    return chosen is None or name == "ceilings" or any(name.startswith(start) for start in chosen)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _round(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
