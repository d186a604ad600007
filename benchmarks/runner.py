"""Functions that all benchmarks use. Each measurement runs in a separate process and is stored in a CSV file as soon as it is done.

A benchmark is a list of cases, each a dictionary of the columns that identify it. `run_benchmark` is its command line. `measure_rounds` measures all
cases one after the other, several times, so that a machine whose speed changes affects all of them alike.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have.

    Parameters
    ----------
    name : str
        Name of the benchmark: that of its module and of its file of results.
    description : str
        Docstring of its module.

    Returns
    -------
    argparse.ArgumentParser
        A parser with the options ``rounds`` and ``out``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.csv", help="file to write")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    parser.set_defaults(module=f"benchmarks.{name}")
    return parser


def run_benchmark(
    options: argparse.Namespace,
    cases: Sequence[Row],
    measure: Callable[..., Row],
    summarize: Callable[[Sequence[Row]], None],
    *,
    fixed: Row | None = None,
    describe: Callable[[Row], str],
    extend: Callable[[Row], Row] = lambda row: {},
) -> list[Row]:
    """Measure all cases, write the results and print a summary. In the process of a worker, measure its case and print the result.

    Parameters
    ----------
    options : argparse.Namespace
        Parsed options, with those of :func:`make_parser`.
    cases : sequence of dict
        Columns that identify each case. Cases of PyTorch, if it is not installed, are left out.
    measure : callable
        Function that measures a case in the worker. Its arguments are the columns of the case and ``fixed``.
    summarize : callable
        Function that prints a summary of the rows.
    fixed : dict, optional
        Arguments of ``measure`` that are the same for all cases and are not stored.
    describe, extend : callable
        See :func:`measure_rounds`.

    Returns
    -------
    list of dict
        The rows; none in the process of a worker.
    """
    if options.worker is not None:
        print(json.dumps(measure(**options.worker)))
        return []
    rows = measure_rounds(
        options.module,
        without_missing_pytorch(cases),
        options.rounds,
        options.out,
        fixed=fixed,
        describe=describe,
        extend=extend,
    )
    summarize(rows)
    print(f"all measurements: {options.out}")
    return rows


def measure_rounds(
    module: str,
    cases: Sequence[Row],
    rounds: int,
    path: Path,
    *,
    fixed: Row | None = None,
    describe: Callable[[Row], str],
    extend: Callable[[Row], Row] = lambda row: {},
) -> list[Row]:
    """Measure every case in every round and write all rows to a CSV file after each measurement.

    Parameters
    ----------
    module : str
        Module that measures a case when it is called as ``python -m MODULE --worker CASE``, the case as JSON.
    cases : sequence of dict
        Columns that identify each case.
    rounds : int
        Number of measurements of each case.
    path : Path
        CSV file.
    fixed : dict, optional
        Further entries of the case that the worker receives, which are not stored.
    describe : callable
        Function of a row that returns the text printed after a measurement.
    extend : callable, optional
        Function of a row that returns further columns.

    Returns
    -------
    list of dict
        Rows: the columns of the case, ``round``, and what the worker measured.
    """
    rows: list[Row] = []
    for number in range(rounds):
        for case in cases:
            row = {**case, "round": number, **run_worker(module, case | (fixed or {}))}
            rows.append(row | extend(row))
            print(f"round {number + 1}: {describe(rows[-1])}", flush=True)
            write_rows(rows, path)
    return rows


def run_worker(module: str, case: Row, environment: Mapping[str, str] | None = None) -> Row:
    """Run a measurement in a separate process and return what it prints as JSON on its last line.

    Parameters
    ----------
    module : str
        Module to run.
    case : dict
        What to measure, passed as JSON after ``--worker``.
    environment : mapping of str to str, optional
        Further environment variables of the process.

    Returns
    -------
    dict
        The measured values.
    """
    command = [sys.executable, "-m", module, "--worker", json.dumps(case)]
    variables = os.environ | dict(environment or {})
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if result.returncode:
        message = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise SystemExit(f"error: the measurement of {' '.join(map(str, case.values()))} failed: {message[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def without_missing_pytorch(cases: Sequence[Row]) -> list[Row]:
    """Return the cases that can be measured: without those of PyTorch if it is not installed, which is then printed.

    Parameters
    ----------
    cases : sequence of dict
        Cases; those of PyTorch have a column ``what`` that starts with ``"torch"``.

    Returns
    -------
    list of dict
        The cases to measure.
    """
    if importlib.util.find_spec("torch") is not None:
        return list(cases)
    print('PyTorch is not installed, so only jaxephys is timed; pip install "jaxephys[bench]" adds the comparison.')
    return [case for case in cases if not str(case["what"]).startswith("torch")]


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV.

    Parameters
    ----------
    rows : sequence of mappings
        Rows with the same columns.
    path : Path
        File to create or replace.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """Read rows that `write_rows` wrote.

    Parameters
    ----------
    path : Path
        CSV file.

    Returns
    -------
    list of dict
        Rows; values that are numbers are floats or integers.
    """
    with open(path, newline="") as file:
        return [{name: _parse(text) for name, text in row.items()} for row in csv.DictReader(file)]


def select(rows: Sequence[Row], **values: Any) -> list[Row]:
    """Return the rows that have the given values.

    Parameters
    ----------
    rows : sequence of dict
        Rows.
    **values : object
        Required values by column.

    Returns
    -------
    list of dict
        The rows, in their order.
    """
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """Return the ratios of two series of measurements, round by round.

    Parameters
    ----------
    numerator, denominator : sequence of float
        Values of each round.

    Returns
    -------
    str
        Ratios with one decimal, separated by commas; ``"-"`` if a series is empty.
    """
    return ", ".join(f"{a / b:.1f}" for a, b in zip(numerator, denominator, strict=False)) or "-"


def time_calls(work: Callable[[], Any], repeats: int, wait: Callable[[Any], object]) -> list[float]:
    """Return the time of each call of a function after a first one, which compiles or warms up.

    Parameters
    ----------
    work : callable
        Function to call.
    repeats : int
        Number of calls that are timed.
    wait : callable
        Function of the result that returns when the device has computed it.

    Returns
    -------
    list of float
        Seconds of each call.
    """
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        wait(work())
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def spread(values: Sequence[float], decimals: int = 1) -> str:
    """Return the median and the range of measurements.

    Parameters
    ----------
    values : sequence of float
        Measurements.
    decimals : int, default 1
        Number of decimals.

    Returns
    -------
    str
        Such as ``"    2.5 (1.0 to 4.0)"``.
    """
    return f"{statistics.median(values):8.{decimals}f} ({min(values):.{decimals}f} to {max(values):.{decimals}f})"


def torch_device() -> tuple[str, str]:
    """Return the device on which PyTorch computes.

    Returns
    -------
    device : {"cuda", "cpu"}
        Device for PyTorch.
    name : str
        Its name for the results, such as ``"2 threads"``.
    """
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name()
    return "cpu", f"{torch.get_num_threads()} threads"


def wait_for_torch(result: object = None) -> None:
    """Return when PyTorch has finished all computations.

    Parameters
    ----------
    result : object, optional
        Not used, so that the function can be given to :func:`time_calls`.
    """
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _parse(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
