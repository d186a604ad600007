"""Functions that all benchmarks use. Each measurement runs in a separate process and is stored in a CSV file as soon as it is done.

A benchmark is a list of cases, each a dictionary of the columns that identify it. `measure_rounds` measures all cases one after the other, several
times, so that a machine whose speed changes affects all of them alike.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def measure_rounds(
    module: str,
    cases: Sequence[Mapping[str, Any]],
    rounds: int,
    path: Path,
    *,
    options: Sequence[Any] = (),
    describe: Callable[[Row], str],
    extend: Callable[[Row], Row] = lambda row: {},
) -> list[Row]:
    """Measure every case in every round and write all rows to a CSV file after each measurement.

    Parameters
    ----------
    module : str
        Module that measures a case when it is called as ``python -m MODULE --worker VALUES OPTIONS``.
    cases : sequence of mappings
        Columns that identify each case. Their values are the first arguments of the worker.
    rounds : int
        Number of measurements of each case.
    path : Path
        CSV file.
    options : sequence, optional
        Further arguments of the worker, the same for all cases.
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
            row = {**case, "round": number, **run_worker(module, *case.values(), *options)}
            rows.append(row | extend(row))
            print(f"round {number + 1}: {describe(rows[-1])}", flush=True)
            write_rows(rows, path)
    return rows


def run_worker(module: str, *arguments: object) -> Row:
    """Run a measurement in a separate process and return what it prints as JSON on its last line.

    Parameters
    ----------
    module : str
        Module to run.
    *arguments : object
        Arguments after ``--worker``.

    Returns
    -------
    dict
        The measured values.
    """
    command = [sys.executable, "-m", module, "--worker", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        message = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise SystemExit(f"error: the measurement of {' '.join(map(str, arguments))} failed: {message[-1]}")
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


def _parse(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
