"""Small tables of cells with known classes, and a comparison of two models on one of them."""

import csv

import numpy as np
from rich.console import Console
from scipy.special import softmax

from data_prep.patchseq.feature_csv import read_cells
from jaxephys.evaluation.comparison import CalibrationRows, ModelComparison
from jaxephys.evaluation.splits import draw_splits
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings

CLASSES = ("Lamp5", "Pvalb", "Sst", "Vip")


def write_cells(path, cells: int = 96, species: str = "human") -> None:
    """Three features separate the classes, one does not; some values are missing, and donors hold three cells each."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.resize(CLASSES, cells))
    values = rng.normal(size=(cells, 4)) + 3 * np.array([[name == c for c in CLASSES] for name in label]) @ np.eye(4)
    names = ("vrest", "ri", "updown_ramp", "threshold_v_ramp")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("cell_id", "species", "subclass4", "subclass5", "donor", "condition", *names))
        for i in range(cells):
            row = ["" if rng.random() < 0.05 else f"{value:.4f}" for value in values[i]]
            writer.writerow((i, species, label[i], label[i], f"d{i // 3}", ("acute", "culture")[i % 2], *row))


def quiet_folder(path, settings=None) -> RunFolder:
    return RunFolder(path, "test", settings or Settings(), [], Console(quiet=True))


def make_comparison(folder, relabelled=None) -> ModelComparison:
    """Two models with the same information, one overconfident, on one split; ``relabelled`` rows have another class."""
    write_cells(folder / "human.csv")
    cells = read_cells(folder, "human.csv", "subclass4")
    splits = draw_splits(cells, ("cell",), 1)
    ((key, split),) = splits.items()
    rng, codes = np.random.default_rng(0), cells.codes()
    logits = 1.5 * np.eye(4)[codes] + rng.normal(size=(len(cells), 4))
    if relabelled is not None:
        rows = getattr(split, relabelled)
        label = cells.label.copy()
        label[rows] = cells.classes[(codes[rows] + 1 + np.arange(len(rows)) % 2) % 4]
        cells = cells.with_label(label)
    comparison = ModelComparison(cells, splits)
    for name, sure in (("calm", 1.0), ("sure", 8.0)):
        probability = softmax(sure * logits, axis=1)
        comparison.add(
            name, key, probability[split.test], CalibrationRows(split.validation, probability[split.validation])
        )
    return comparison


NAMES = ("vrest", "ri", "sag", "updown_ramp", "threshold_v_ramp")


CENTERS = 3.0 * np.eye(4, 5)


def write_both(path, human: int = 96, mouse: int = 160) -> None:
    """Four features separate the classes, in both species; mouse cells have other values, and some of its Vip cells are Sncg."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        about = ("cell_id", "species", "dataset", "subclass4", "subclass5", "t_type", "donor", "structure", "condition")
        writer.writerow((*about, *NAMES))
        for species, cells in (("mouse", mouse), ("human", human)):  # the order of the real file
            label = rng.permutation(np.resize(np.arange(4), cells))
            values = CENTERS[label] + rng.normal(size=(cells, 5)) + 20 * (species == "mouse")
            for i in range(cells):
                name = CLASSES[label[i]]
                fine = "Sncg" if species == "mouse" and name == "Vip" and i % 3 == 0 else name
                row = ["" if rng.random() < 0.03 else f"{value:.4f}" for value in values[i]]
                known = (f"{species}{i}", species, "synthetic", name, fine, "", f"{species}{i // 3}", "V1")
                writer.writerow((*known, ("acute", "culture")[i % 2], *row))
