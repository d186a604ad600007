"""Feature extraction from NWB files: cells per second and memory, with local workers and Dask, and by IPFX's own script.

    python -m benchmarks.extraction                          24 simulated cells
    python -m benchmarks.extraction --recordings FOLDER      your own NWB files

alone    this package's extraction in one process without workers
ipfx     IPFX's script with its own reader, in one process
pool     this package with 1 and 2 local workers
dask     this package with 1 and 2 workers of a local Dask cluster

Every way extracts all recordings into a folder of its own. Times include the start of the workers, which is negligible for many files;
the time per cell within a worker is stored as well. Needs the extra: pip install "jaxephys[prep]".
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
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
            f"{way:<6} {workers} worker{plural} {rate:6.2f} cells/s {seconds:6.2f} s per cell {memory:6.0f} MiB per worker"
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
        Whether the workers are those of a local Dask cluster that is started for this purpose.

    Returns
    -------
    seconds, cell_seconds, memory : float
        Seconds for all cells, median seconds of a cell in a worker, and MiB of the largest worker.
    """
    from data_prep.patchseq.collect import extract_all, read_extracted

    with tempfile.TemporaryDirectory() as folder:
        if cluster:
            from dask.distributed import LocalCluster

            options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
            with LocalCluster(**options, dashboard_address="") as local:
                start = time.perf_counter()
                extract_all(files, folder, scheduler=str(local.scheduler_address))  # pyright: ignore[reportAttributeAccessIssue]
                seconds = time.perf_counter() - start
        else:
            start = time.perf_counter()
            extract_all(files, folder, workers=workers)
            seconds = time.perf_counter() - start
        results = read_extracted(folder)[1]
    cell_seconds = statistics.median(result.seconds for result in results)
    return seconds, cell_seconds, max(result.memory for result in results) / 2**20


def extract_alone(files: list) -> Measurement:
    """Extract all files in this process.

    Parameters
    ----------
    files : list of RecordingFile
        Recordings.

    Returns
    -------
    seconds, cell_seconds, memory : float
        As in `extract_with_workers`.
    """
    from data_prep.parallel import peak_memory
    from data_prep.patchseq.extract import extract_file

    seconds = []
    for file in files:
        start = time.perf_counter()
        extract_file(file.path)
        seconds.append(time.perf_counter() - start)
    return sum(seconds), statistics.median(seconds), peak_memory() / 2**20


def extract_with_ipfx(files: list) -> Measurement:
    """Extract all files by IPFX's script in this process. Cells that it fails on count as well.

    Parameters
    ----------
    files : list of RecordingFile
        Recordings.

    Returns
    -------
    seconds, cell_seconds, memory : float
        As in `extract_with_workers`.
    """
    from ipfx.bin.run_feature_vector_extraction import data_for_specimen_id
    from ipfx.stimulus import StimulusOntology

    from data_prep.parallel import peak_memory

    ontology, seconds, n_failed = StimulusOntology.default(), [], 0
    paths = {number: file.path for number, file in enumerate(files)}
    for number in paths:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = data_for_specimen_id(
                number, "none", "filesystem", ontology, ap_window_length=0.003, file_list=paths
            )
        seconds.append(time.perf_counter() - start)
        n_failed += "error" in result
    if n_failed:
        print(f"IPFX's script failed on {n_failed} of {len(paths)} cells")
    return sum(seconds), statistics.median(seconds), peak_memory() / 2**20


def _in_new_process(measure: Callable[[list], Measurement], files: list) -> Measurement:
    """Measure in a new process, whose peak memory is that of the measurement alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, files).result()


WAYS: dict[tuple[str, int], Callable[[list], Measurement]] = {
    ("alone", 1): lambda files: _in_new_process(extract_alone, files),
    ("ipfx", 1): lambda files: _in_new_process(extract_with_ipfx, files),
    ("pool", 1): lambda files: extract_with_workers(files, 1, cluster=False),
    ("pool", 2): lambda files: extract_with_workers(files, 2, cluster=False),
    ("dask", 1): lambda files: extract_with_workers(files, 1, cluster=True),
    ("dask", 2): lambda files: extract_with_workers(files, 2, cluster=True),
}


if __name__ == "__main__":
    main()
