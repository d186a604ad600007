"""Feature extraction from NWB files: cells per second and memory, with this package's workers, a Dask cluster, and IPFX's script.

    python -m benchmarks.extraction                          24 simulated cells
    python -m benchmarks.extraction --recordings FOLDER      your own NWB files

alone    this package's extraction in one process without workers
ipfx     IPFX's script with its own reader, in one process
local    this package with 1 and 2 local workers, which it starts (``extract --workers``); their start counts
cluster  this package with 1 and 2 workers of a running Dask cluster (``extract --scheduler``), here on the same machine

Every way extracts all recordings into a folder of its own. Local workers are processes of Dask too; unlike those of a cluster they keep
freed memory, which makes numerical work faster (see `data_prep.parallel`). The time per cell within a worker is stored as well. Needs
the extra: pip install "jaxephys[prep]".
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runner import RESULTS, Row, select, write_rows

Measurement = tuple[float, float, float]  # seconds for all cells, median seconds of a cell, MiB of the largest worker


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all ways of extraction, write the results and print a summary.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, help="folder of NWB files; by default cells are simulated")
    parser.add_argument("--cells", type=int, default=24, help="number of simulated cells (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "extraction.csv")
    options = parser.parse_args(arguments)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    from data_prep.patchseq.collect import find_files

    with tempfile.TemporaryDirectory() as folder:
        if options.recordings is None:
            from data_prep.simulate import write_cells

            write_cells(folder, mouse=options.cells, human=0, workers=2)
        files = find_files(options.recordings or folder)
        rows: list[Row] = []
        for number in range(options.rounds):
            for (way, workers), measure in WAYS.items():
                seconds, cell_seconds, memory = measure(files)
                numbers = {
                    "seconds": seconds,
                    "cells_per_second": len(files) / seconds,
                    "seconds_in_worker": cell_seconds,
                    "mib_per_worker": memory,
                }
                rounded = {name: float(f"{value:.4g}") for name, value in numbers.items()}
                rows.append({"way": way, "workers": workers, "round": number, "cells": len(files)} | rounded)
                write_rows(rows, options.out)
    summarize(rows)
    print(f"all measurements: {options.out}")


def summarize(rows: Sequence[Row]) -> None:
    """Print the medians of each way.

    Parameters
    ----------
    rows : sequence of dict
        Measurements.
    """
    columns = ("cells_per_second", "seconds_in_worker", "mib_per_worker")
    for way, workers in dict.fromkeys((row["way"], row["workers"]) for row in rows):
        way_rows = select(rows, way=way, workers=workers)
        rate, seconds, memory = (statistics.median(row[name] for row in way_rows) for name in columns)
        plural = "s" if workers > 1 else " "
        print(
            f"{way:<7} {workers} worker{plural} {rate:6.2f} cells/s {seconds:6.2f} s per cell {memory:6.0f} MiB per worker"
        )


def extract_with_workers(files: list, workers: int, *, cluster: bool) -> Measurement:
    """Extract all files with this package's workers.

    Parameters
    ----------
    files : list of RecordingFile
        Recordings.
    workers : int
        Number of workers.
    cluster : bool
        Whether the workers are those of a Dask cluster, whose start does not count.

    Returns
    -------
    seconds, cell_seconds, memory : float
        Seconds for all cells, median seconds of a cell in a worker, and MiB of the largest worker.
    """
    from data_prep.patchseq.collect import extract_all, read_extracted

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"workers": workers}
        if cluster:
            from dask.distributed import LocalCluster

            local: Any = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="")
            options = {"scheduler": stack.enter_context(local).scheduler_address}
        start = time.perf_counter()
        extract_all(files, folder, **options)
        seconds = time.perf_counter() - start
        results = read_extracted(folder)[1]
    cell_seconds = statistics.median(result.seconds for result in results)
    return seconds, cell_seconds, max(result.memory for result in results) / 2**20


def extract_alone(files: list, *, with_ipfx: bool) -> Measurement:
    """Extract all files in this process, one after the other.

    Parameters
    ----------
    files : list of RecordingFile
        Recordings.
    with_ipfx : bool
        Whether IPFX's script is used instead of this package. Cells that it fails on count as well.

    Returns
    -------
    seconds, cell_seconds, memory : float
        As in `extract_with_workers`.
    """
    from data_prep.parallel import peak_memory

    extract = _ipfx_script(files) if with_ipfx else _package_extraction()
    seconds, n_failed = [], 0
    for file in files:
        start = time.perf_counter()
        n_failed += not extract(file)
        seconds.append(time.perf_counter() - start)
    if n_failed:
        print(f"{n_failed} of {len(files)} cells failed")
    return sum(seconds), statistics.median(seconds), peak_memory() / 2**20


def _package_extraction() -> Callable[[Any], bool]:
    """Return a function that extracts one file by this package, and returns whether it gave features."""
    from data_prep.patchseq.extract import extract_file

    return lambda file: bool(extract_file(file.path)[0])


def _ipfx_script(files: list) -> Callable[[Any], bool]:
    """Return a function that extracts one of the files by IPFX's script, and returns whether it succeeded."""
    from ipfx.bin.run_feature_vector_extraction import data_for_specimen_id
    from ipfx.stimulus import StimulusOntology

    ontology, paths = StimulusOntology.default(), {number: file.path for number, file in enumerate(files)}

    def extract(file: Any) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {"ap_window_length": 0.003, "file_list": paths}
            return "error" not in data_for_specimen_id(files.index(file), "none", "filesystem", ontology, **options)

    return extract


def _in_new_process(files: list, with_ipfx: bool) -> Measurement:
    """Extract all files in a new process, whose peak memory is that of the extraction alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(extract_alone, files, with_ipfx=with_ipfx).result()


WAYS: dict[tuple[str, int], Callable[[list], Measurement]] = {
    ("alone", 1): partial(_in_new_process, with_ipfx=False),
    ("ipfx", 1): partial(_in_new_process, with_ipfx=True),
    ("local", 1): partial(extract_with_workers, workers=1, cluster=False),
    ("local", 2): partial(extract_with_workers, workers=2, cluster=False),
    ("cluster", 1): partial(extract_with_workers, workers=1, cluster=True),
    ("cluster", 2): partial(extract_with_workers, workers=2, cluster=True),
}


if __name__ == "__main__":
    main()
