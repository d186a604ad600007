"""Extraction: cells a second and memory a worker, with one worker and two, on a pool and on Dask, beside IPFX's own script.

    python -m benchmarks.extract                          on 24 simulated cells
    python -m benchmarks.extract --recordings FOLDER      on one's own NWB files

Each way extracts all recordings into a store of its own, turn by turn; medians over the rounds are printed and every round is
written as CSV. "alone" is one process without a pool: what the work itself costs. IPFX's script (its stock reader, all
families in one attempt) runs in one process on the same files. Seconds include the start of the workers, which a long run does
not notice: the seconds a cell inside a worker stand beside. Needs the extra: pip install "jaxephys[prep]".
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

COLUMNS = ("way", "workers", "round", "cells", "seconds", "cells_per_second", "seconds_in_worker", "mib_per_worker")


def run_ours(items: list, workers: int, cluster: bool) -> tuple[float, float, float]:
    """Seconds for all, the median second of one cell, and the most memory of a worker in MiB."""
    from data_prep.patchseq.collect import extract_all, read_extracted

    with tempfile.TemporaryDirectory() as store:
        if cluster:
            from dask.distributed import LocalCluster

            with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="") as local:
                start = time.perf_counter()
                extract_all(items, store, scheduler=str(local.scheduler_address))  # pyright: ignore[reportAttributeAccessIssue]
                seconds = time.perf_counter() - start
        else:
            start = time.perf_counter()
            extract_all(items, store, workers=workers)
            seconds = time.perf_counter() - start
        outcomes = read_extracted(store)[1]
    inside = statistics.median(outcome.seconds for outcome in outcomes)
    return seconds, inside, max(outcome.memory for outcome in outcomes) / 2**20


def run_alone(items: list) -> tuple[float, float, float]:
    from data_prep.patchseq.extract import extract_file
    from data_prep.scale.outcome import peak_memory

    taken = []
    for item in items:
        start = time.perf_counter()
        extract_file(item.path)
        taken.append(time.perf_counter() - start)
    return sum(taken), statistics.median(taken), peak_memory() / 2**20


def run_ipfx(items: list) -> tuple[float, float, float]:
    """IPFX's own feature vectors; a cell that it loses counts as its time."""
    from ipfx.bin.run_feature_vector_extraction import data_for_specimen_id
    from ipfx.stimulus import StimulusOntology

    from data_prep.scale.outcome import peak_memory

    ontology, taken, lost = StimulusOntology.default(), [], 0
    files = {number: item.path for number, item in enumerate(items)}
    for number in files:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = data_for_specimen_id(
                number, "none", "filesystem", ontology, ap_window_length=0.003, file_list=files
            )
        taken.append(time.perf_counter() - start)
        lost += "error" in found
    if lost:
        print(f"IPFX's script lost {lost} of {len(files)} cells")
    return sum(taken), statistics.median(taken), peak_memory() / 2**20


def in_fresh_process(run: Callable[[list], tuple[float, float, float]], items: list) -> tuple[float, float, float]:
    """So that its peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, items).result()


WAYS = {
    ("alone", 1): lambda items: in_fresh_process(run_alone, items),
    ("ipfx", 1): lambda items: in_fresh_process(run_ipfx, items),
    ("pool", 1): lambda items: run_ours(items, 1, cluster=False),
    ("pool", 2): lambda items: run_ours(items, 2, cluster=False),
    ("dask", 1): lambda items: run_ours(items, 1, cluster=True),
    ("dask", 2): lambda items: run_ours(items, 2, cluster=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, help="folder of NWB files; without it, cells are simulated")
    parser.add_argument("--cells", type=int, default=24, help="how many are simulated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "extract.csv")
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    from data_prep.patchseq.collect import find_files

    with tempfile.TemporaryDirectory() as folder:
        if asked.recordings is None:
            from data_prep.simulate import write_cells

            write_cells(folder, mouse=asked.cells, human=0, workers=2)
        items = find_files(asked.recordings or folder)
        rows: list[dict[str, object]] = []
        for turn in range(asked.rounds):
            for (way, workers), run in WAYS.items():
                seconds, inside, memory = run(items)
                numbers = (way, workers, turn, len(items), seconds, len(items) / seconds, inside, memory)
                rows.append(dict(zip(COLUMNS, numbers, strict=True)))
                write(asked.out, rows)  # after every turn: a run that is stopped keeps what it has
    for way, workers in WAYS:
        mine = [row for row in rows if (row["way"], row["workers"]) == (way, workers)]
        rate, inside, memory = (
            statistics.median(float(str(row[name])) for row in mine)
            for name in ("cells_per_second", "seconds_in_worker", "mib_per_worker")
        )
        print(f"{way:<6} {workers} worker  {rate:5.2f} cells/s  {inside:5.2f} s a cell  {memory:6.0f} MiB a worker")


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([f"{value:.4g}" if isinstance(value, float) else value for value in row.values()])


if __name__ == "__main__":
    main()
