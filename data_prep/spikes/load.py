"""Recordings for an experiment: read from a folder, built from registry files, or simulated.

Start with :func:`read_or_simulate`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from data_prep.spikes.registry import ENTRIES, Entry, build_entry
from data_prep.spikes.simulate import score_probability, simulate_recording
from data_prep.spikes.simulated_populations import KINDS
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import DataError

# Names of the scores of the true probability, as score tables of the models name them.
METRICS = {
    "roc_auc": "auc",
    "roc_auc_within_unit": "within_auc",
    "average_precision": "average_precision",
    "bits_per_spike": "bits_per_spike",
}


def read_or_simulate(
    data: Path | None, populations: int, minutes: float, units: int
) -> tuple[list[Recording], dict[str, dict[str, float]]]:
    """Read the recordings of a folder or, without a folder, simulate populations.

    Parameters
    ----------
    data : Path or None
        Folder with recordings (NAME.npz), or with the files of recordings of the registry, which are built in memory.
    populations : int
        Number of populations to simulate, alternately in vitro and in vivo.
    minutes : float
        Length of each simulated recording; half of it is the training split.
    units : int
        Units of each simulated recording.

    Returns
    -------
    recordings : list of Recording
        The recordings.
    best_scores : dict of str to dict of str to float
        For each simulated recording the scores that its true spike probability reaches on the test bins, which a model
        exceeds only by chance; empty for read ones.

    Raises
    ------
    ValueError
        If the folder does not exist or holds no recording.
    """
    if data is not None:
        return read_folder(data), {}
    half = len(KINDS) // 2
    alternating = [kind for pair in zip(KINDS[:half], KINDS[half:], strict=True) for kind in pair]
    recordings, best_scores = [], {}
    for kind in track(sorted(alternating[:populations], key=KINDS.index), "simulating", transient=True):
        recording, probability = simulate_recording(kind.name, minutes, units, seed=0)
        recordings.append(recording)
        scores = score_probability(recording.bits(*recording.span("test")), probability)
        best_scores[kind.name] = {metric: scores[name] for metric, name in METRICS.items()}
    return recordings, best_scores


def read_folder(data: Path) -> list[Recording]:
    """Read all recordings of a folder, or build those of the registry whose files it holds.

    Parameters
    ----------
    data : Path
        The folder.

    Returns
    -------
    list of Recording
        Recordings in the order of their file names, or of the registry.

    Raises
    ------
    ValueError
        If the folder does not exist or holds no recording.
    """
    if not data.is_dir():
        raise ValueError(f"there is no folder {data}: give one with recordings, or none to simulate")
    files = [path for path in sorted(data.glob("*.npz")) if _is_recording(path)]
    if files:
        return [Recording.read(path) for path in files]
    entries = [entry for entry in ENTRIES if entry.reader == "asdf" and _has_files(entry, data)]
    if not entries:
        raise ValueError(
            f"{data} holds no recording: build one with `python -m data_prep spikes build NAME --data FOLDER "
            f"--out {data}`, or leave out --data to simulate"
        )
    return [build_entry(entry, data) for entry in track(entries, "building recordings", transient=True)]


def _is_recording(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as file:
        return "schema" in file.files and str(file["schema"]).startswith("jaxephys spikes")


def _has_files(entry: Entry, folder: Path) -> bool:
    try:
        entry.paths(folder)
    except DataError:
        return False
    return True
