"""Simulate cells in several processes and write them as a folder of NWB files, as a download from the archive has it."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from data_prep.simulate.cells import SPECIES, Cell, check_defects, draw_cell
from data_prep.simulate.metadata import write_metadata
from data_prep.simulate.nwb import write_nwb
from data_prep.simulate.recording import SimulatedCell, record_cells
from jaxephys.schemas.storage import DataError

BATCH = 48  # cells that are integrated together: 0.6 GB of traces, and the fixed cost of the loop is small
NO_DEFECTS: Mapping[str, float] = {}


@dataclass(frozen=True)
class Summary:
    """Result of :func:`write_cells`.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    cells : int
        Number of cells in the folder.
    written : int
        Number of files written by this call; the others existed.
    seconds : float
        Time that the call took.
    """

    folder: Path
    cells: int
    written: int
    seconds: float

    def __str__(self) -> str:
        existing = self.cells - self.written
        return (
            f"{self.cells} cells in {self.folder}: {self.written} written in {self.seconds:.0f} s, {existing} existed"
        )


def simulate_cells(
    cells: int, species: str, seed: int, *, shift: bool = True, defects: Mapping[str, float] = NO_DEFECTS
) -> Iterator[SimulatedCell]:
    """Simulate recordings of interneurons.

    Parameters
    ----------
    cells : int
        Number of cells. A cell does not depend on it: cell 0 is the same in every simulation of this seed.
    species : {"mouse", "human"}
        The species.
    seed : int
        Seed of the simulation.
    shift : bool, default True
        Whether human cells differ from mouse cells of their subclass.
    defects : mapping of str to float, optional
        Fraction of the cells with each defect of ``DEFECTS``. Default: none.

    Yields
    ------
    SimulatedCell
        Cells with subclass, donor and recording, one after the other.

    Raises
    ------
    DataError
        If the species or a defect is unknown.
    """
    if species not in SPECIES:
        raise DataError(f"there is no species {species!r}: choose from {', '.join(SPECIES)}")
    drawn = _draw_cells({species: cells}, seed, shift, defects)
    for start in range(0, cells, BATCH):
        yield from record_cells(drawn[start : start + BATCH], seed)


def write_cells(
    folder: str | Path,
    *,
    mouse: int = 60,
    human: int = 30,
    seed: int = 0,
    workers: int = 1,
    shift: bool = True,
    defects: Mapping[str, float] = NO_DEFECTS,
    sweep_table: bool = False,
) -> Summary:
    """Write an NWB file for each simulated cell, ``metadata_mouse.csv``, ``metadata_human.csv`` and ``truth.csv``.

    Parameters
    ----------
    folder : str or Path
        Folder to write. Existing files are kept, so that the same call resumes or adds cells.
    mouse, human : int, default 60 and 30
        Number of cells of each species.
    seed : int, default 0
        Seed of the simulation.
    workers : int, default 1
        Number of processes. With more than one, a script that calls this needs ``if __name__ == "__main__":``.
    shift : bool, default True
        Whether human cells differ from mouse cells of their subclass.
    defects : mapping of str to float, optional
        Fraction of the cells with each defect of ``DEFECTS``. Default: none.
    sweep_table : bool, default False
        Also write the deprecated sweep table, without which IPFX cannot read the files.

    Returns
    -------
    Summary
        Number of cells and files.

    Raises
    ------
    DataError
        If the folder holds cells of another simulation, or an argument is invalid.
    """
    if workers < 1:
        raise DataError(f"workers is {workers}: give 1 or more")
    began, folder = time.perf_counter(), Path(folder)
    cells = _draw_cells({"mouse": mouse, "human": human}, seed, shift, defects)
    _check_folder(folder, {"simulated": 1, "seed": seed, "shift": shift, "faults": dict(defects)})
    write_metadata(folder, cells)
    missing = [cell for cell in cells if not _path_of(folder, cell).exists()]
    batches = make_batches(missing, workers)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("simulating", total=len(missing))
        if workers == 1:
            for batch in batches:
                for _ in _written(folder, batch, seed, sweep_table):
                    progress.advance(bar)
        else:
            with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
                running = {pool.submit(_write_batch, folder, batch, seed, sweep_table) for batch in batches}
                while running:
                    finished, running = wait(running, timeout=1.0)
                    for future in finished:
                        future.result()
                    # The number of files is the progress: the processes do not communicate.
                    progress.update(bar, completed=sum(_path_of(folder, cell).exists() for cell in missing))
    return Summary(folder, len(cells), len(missing), time.perf_counter() - began)


def make_batches(cells: Sequence[Cell], workers: int) -> list[Sequence[Cell]]:
    """Divide cells into batches of at most ``BATCH``, equally many for each worker.

    Parameters
    ----------
    cells : sequence of Cell
        The cells.
    workers : int
        Number of processes.

    Returns
    -------
    list of sequence of Cell
        The batches.
    """
    rounds = -(-len(cells) // (BATCH * workers))
    size = -(-len(cells) // max(rounds * workers, 1))
    return [cells[start : start + size] for start in range(0, len(cells), size)] if cells else []


def _draw_cells(counts: Mapping[str, int], seed: int, shift: bool, defects: Mapping[str, float]) -> list[Cell]:
    check_defects(defects)
    pairs = [(species, number) for species, count in counts.items() for number in range(count)]
    return [draw_cell(seed, species, number, shift=shift, defects=defects) for species, number in pairs]


def _check_folder(folder: Path, settings: Mapping[str, object]) -> None:
    """Store the settings of the simulation in the folder, or compare them with the stored ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "simulation.json"
    if path.exists() and (other := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise DataError(f"{folder} holds cells of {other}, not of {dict(settings)}: choose another folder")
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def _path_of(folder: Path, cell: Cell) -> Path:
    """Return the path of a cell as in the archive, where names of donors have no dots."""
    donor = f"sub-{cell.donor.replace('.', '-')}"
    return folder / donor / f"{donor}_ses-{cell.cell}_icephys.nwb"


def _written(folder: Path, cells: Sequence[Cell], seed: int, sweep_table: bool) -> Iterator[SimulatedCell]:
    for cell in record_cells(cells, seed):
        write_nwb(cell, _path_of(folder, cell), sweep_table=sweep_table)
        yield cell


def _write_batch(folder: Path, cells: Sequence[Cell], seed: int, sweep_table: bool) -> int:
    return sum(1 for _ in _written(folder, cells, seed, sweep_table))
