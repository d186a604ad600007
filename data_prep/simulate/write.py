"""Write: a folder of simulated cells, as a download from the archive would lie there, by several processes."""

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

from data_prep.simulate.cells import SPECIES, Cell, draw_cell
from data_prep.simulate.faults import check_faults
from data_prep.simulate.metadata import write_metadata
from data_prep.simulate.nwb import write_nwb
from data_prep.simulate.recording import SimulatedCell, record

BATCH = 48  # cells integrated at once: 0.6 GB of traces, and the loop's fixed cost is small
NO_FAULTS: Mapping[str, float] = {}


@dataclass(frozen=True)
class Summary:
    """What ``write_cells`` did."""

    folder: Path
    cells: int
    written: int
    seconds: float

    def __str__(self) -> str:
        done = f"{self.written} written in {self.seconds:.0f} s, {self.cells - self.written} were there"
        return f"{self.cells} cells in {self.folder}: {done}"


def simulate_cells(
    cells: int, species: str, seed: int, *, shift: bool = True, faults: Mapping[str, float] = NO_FAULTS
) -> Iterator[SimulatedCell]:
    """Recordings of simulated interneurons, one after the other; a cell is the same whatever the number of cells.

    Parameters
    ----------
    cells
        How many, from number 0 on.
    species
        "mouse" or "human".
    shift
        Human cells differ from mouse cells of their subclass; False takes that away.
    faults
        Fault -> fraction of the cells that have it; their names are in ``FAULTS``.
    """
    if species not in SPECIES:
        raise ValueError(f"there is no species {species!r}: choose from {', '.join(SPECIES)}")
    drawn = draw_cells({species: cells}, seed, shift, faults)
    for start in range(0, cells, BATCH):
        yield from record(drawn[start : start + BATCH], seed)


def draw_cells(counts: Mapping[str, int], seed: int, shift: bool, faults: Mapping[str, float]) -> list[Cell]:
    check_faults(faults)
    pairs = [(species, number) for species, count in counts.items() for number in range(count)]
    return [draw_cell(seed, species, number, shift=shift, faults=faults) for species, number in pairs]


def write_cells(
    folder: str | Path,
    *,
    mouse: int = 60,
    human: int = 30,
    seed: int = 0,
    workers: int = 1,
    shift: bool = True,
    faults: Mapping[str, float] = NO_FAULTS,
) -> Summary:
    """Write an NWB file a cell, ``metadata_mouse.csv``, ``metadata_human.csv`` and ``truth.csv``. Files that are there stay.

    With more than one worker the calling script needs its ``if __name__ == "__main__":``, since processes are spawned.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers do no work: give 1 or more")
    began, folder = time.perf_counter(), Path(folder)
    cells = draw_cells({"mouse": mouse, "human": human}, seed, shift, faults)
    claim(folder, {"simulated": 1, "seed": seed, "shift": shift, "faults": dict(faults)})
    write_metadata(folder, cells)
    missing = [cell for cell in cells if not path_of(folder, cell).exists()]
    batches = split(missing, workers)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("simulating", total=len(missing))
        if workers == 1:
            for batch in batches:
                for _ in write_batch(folder, batch, seed):
                    progress.advance(bar)
        else:
            with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
                running = {pool.submit(write_whole_batch, folder, batch, seed) for batch in batches}
                while running:
                    finished, running = wait(running, timeout=1.0)
                    for future in finished:
                        future.result()
                    # The files tell how far the others are: nothing else passes between the processes.
                    progress.update(bar, completed=sum(path_of(folder, cell).exists() for cell in missing))
    return Summary(folder, len(cells), len(missing), time.perf_counter() - began)


def claim(folder: Path, settings: Mapping[str, object]) -> None:
    """Note in the folder what its cells are drawn from, and refuse one whose cells are others."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "simulation.json"
    if note.exists() and (other := json.loads(note.read_text(encoding="utf-8"))) != settings:
        raise ValueError(f"{folder} holds cells of {other}, not of {dict(settings)}: choose another folder")
    note.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def split(cells: Sequence[Cell], workers: int) -> list[Sequence[Cell]]:
    """Batches of at most BATCH cells, as many for each worker."""
    rounds = -(-len(cells) // (BATCH * workers))
    size = -(-len(cells) // max(rounds * workers, 1))
    return [cells[start : start + size] for start in range(0, len(cells), size)] if cells else []


def path_of(folder: Path, cell: Cell) -> Path:
    """The archive's place for a cell; a donor's name has no dots there."""
    donor = f"sub-{cell.donor.replace('.', '-')}"
    return folder / donor / f"{donor}_ses-{cell.cell}_icephys.nwb"


def write_batch(folder: Path, cells: Sequence[Cell], seed: int) -> Iterator[SimulatedCell]:
    for cell in record(cells, seed):
        write_nwb(cell, path_of(folder, cell))
        yield cell


def write_whole_batch(folder: Path, cells: Sequence[Cell], seed: int) -> int:
    return sum(1 for _ in write_batch(folder, cells, seed))
