"""A run folder that has been written: its settings, manifest, scores, intervals and test rows. Start with `read_run`."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.evaluation.intervals import Interval
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.score_table import read_scores

ROW_ARRAYS = ("part", "test", "unit", "fold", "label")  # of predictions.npz: which rows each run tested


@dataclass(frozen=True)
class SavedRun:
    """A finished run of an experiment.

    Parameters
    ----------
    path : Path
        The run folder.
    config : dict
        Content of ``config.json``: experiment, preset and settings.
    manifest : dict
        Content of ``manifest.json``: status, command, versions, devices, data hashes, times and summary.
    """

    path: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        """Name of the experiment."""
        return str(self.config.get("experiment", self.manifest.get("experiment", "")))

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return str(self.config.get("preset", ""))

    @property
    def is_smoke(self) -> bool:
        """Whether the run is of the smallest size, from which no conclusion can be drawn."""
        return self.preset.startswith("smoke")

    @property
    def minutes(self) -> float:
        """Duration in minutes; NaN if it is unknown."""
        return float(self.manifest.get("wall_seconds", float("nan"))) / 60

    @property
    def data(self) -> dict[str, str]:
        """Hashes of the data by name."""
        return {key[5:]: str(value) for key, value in self.manifest.items() if key.startswith("data_")}

    @cached_property
    def scores(self) -> list[Score]:
        """Rows of ``scores.csv``."""
        return read_scores(self.path / "scores.csv")

    @cached_property
    def intervals(self) -> dict[tuple[str, str, str, str], Interval]:
        """Rows of ``intervals.csv`` by training set, test set, model and metric; empty if there is no such file."""
        path = self.path / "intervals.csv"
        if not path.exists():
            return {}
        with open(path, newline="", encoding="utf-8") as file:
            return {
                (row["train_on"], row["test_on"], row["model"], row["metric"]): Interval(
                    *(float(row[name]) for name in ("estimate", "low", "high"))
                )
                for row in csv.DictReader(file)
            }

    @cached_property
    def test_rows(self) -> str | None:
        """Hash of the splits in ``predictions.npz``; None if the file does not exist or holds none."""
        path = self.path / "predictions.npz"
        if not path.exists():
            return None
        digest, found = hashlib.sha256(), False
        with np.load(path, allow_pickle=False) as file:
            for name in sorted(file.files):
                if name.split("/")[-1] in ROW_ARRAYS:
                    values, found = np.ascontiguousarray(file[name]), True
                    digest.update(f"{name}{values.shape}{values.dtype}".encode() + values.tobytes())
        return digest.hexdigest() if found else None

    def has_rows_of(self, other: SavedRun) -> bool:
        """Return whether another run was tested on the same rows, so that their scores can be paired.

        Parameters
        ----------
        other : SavedRun
            The other run.

        Returns
        -------
        bool
            True if both have the same data and, where they are stored, the same splits.
        """
        stored = {self.test_rows, other.test_rows} - {None}
        return bool(self.data) and self.data == other.data and len(stored) <= 1


def read_run(path: str | Path) -> SavedRun:
    """Read a run folder.

    Parameters
    ----------
    path : str or Path
        The folder of a finished run.

    Returns
    -------
    SavedRun
        The run. Scores are read when they are used.

    Raises
    ------
    ValueError
        If the folder is not that of a finished run.
    """
    folder = Path(path)
    contents = []
    for name in ("config.json", "manifest.json"):
        try:
            contents.append(json.loads((folder / name).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            raise ValueError(f"{folder} is not a run folder: its {name} cannot be read") from None
    if not (folder / "scores.csv").exists():
        raise ValueError(f"{folder} has no scores.csv: the run is not finished, continue it with --resume {folder}")
    return SavedRun(folder, *contents)
