"""Write a model of every system with its predictions, so that later versions can check that they still load it.

    python -m tests.checkpoints.write_fixtures            writes tests/checkpoints/<version of jaxephys>/

Run it before a release, in the version that is released, and commit the folder (about 0.7 MB). It then stays as it is: when a
later version changes what it saves, it registers a migration (``jaxephys/models/migrations.py``), and
``test_saved_by_earlier_versions.py`` compares the predictions. The folder holds for each system

    <system>/                   the saved model
    <system>_<inputs>.npz       ten cells or units, or a recording, that the model was not trained on
    <system>_predictions.npz    what the version that saved the model has predicted for them

and in ``run_folder/`` a small run of ``experiments.quickstart`` with its checkpoints. ``schema-2/`` holds models of a schema that no
release has written.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxephys
from jaxephys import FeatureTable, Hippie, PatchSeqClassifier, Recording, SpikeTransformer, UnitTable
from jaxephys.patchseq.synthetic import make_synthetic_cells
from jaxephys.spikes.network import NetworkOptions

HERE = Path(__file__).parent
KEPT_OF_A_RUN = ("config.json", "manifest.json", "scores.csv", "checkpoints", "model")
QUICKSTART = ("smoke", "--cells", "200", "--seeds", "1", "--hidden", "4", "--max-epochs", "6")


class Fixture(NamedTuple):
    """How the fixture of one system is written, read and used."""

    inputs: str  # name of the file of inputs
    write: Callable[[Path, Path], Any]  # train and save a model, and save inputs; returns the model
    read: Callable[[Path], Any]  # inputs from their file
    predict: Callable[[Any, Any], dict[str, np.ndarray]]  # everything that the model predicts for the inputs


def write_patchseq(folder: Path, inputs: Path) -> PatchSeqClassifier:
    cells = make_synthetic_cells(240, seed=3).table
    model = PatchSeqClassifier("arcface", seeds=2, hidden=4, token=4, max_epochs=2, smote=True, progress=False)
    model.fit(cells.rows(np.arange(200))).save(folder)
    cells.rows(np.arange(200, 210)).save(inputs)
    return model


def predict_patchseq(model: PatchSeqClassifier, cells: FeatureTable) -> dict[str, np.ndarray]:
    return {
        "probability": model.predict_proba(cells),
        "per_seed": model.predict_proba(cells, per_network=True),
        "sets": model.predict_set(cells, include_predicted=False),
        "attention": model.attention(cells),
        "embedding": model.embed(cells),
    }


def write_hippie(folder: Path, inputs: Path) -> Hippie:
    rng, n = np.random.default_rng(0), 60
    time, bins = np.arange(50), np.arange(100)
    curves = {
        "wave": -np.exp(-((time - 15 - rng.normal(0, 1, (n, 1))) ** 2) / rng.uniform(4, 20, (n, 1)))
        + 0.02 * rng.normal(size=(n, 50)),
        "isi": np.clip(np.exp(-bins / rng.uniform(5, 40, (n, 1))) + 0.02 * rng.normal(size=(n, 100)), 0, None),
        "acg": np.clip(1 - np.exp(-bins / rng.uniform(5, 40, (n, 1))) + 0.02 * rng.normal(size=(n, 100)), 0, None),
    }
    curves = {name: values.astype(np.float32) for name, values in curves.items()}
    units = UnitTable.from_arrays(**curves, technology="neuropixels", dataset="synthetic")
    model = Hippie(latent=4, width=2, trunk="dense", seeds=2, max_epochs=3, batch_size=16, progress=False)
    model.fit(units.rows(np.arange(50))).save(folder)
    np.savez_compressed(inputs, **{name: values[50:] for name, values in curves.items()})
    return model


def read_units(inputs: Path) -> UnitTable:
    with np.load(inputs) as file:
        return UnitTable.from_arrays(**file, technology="neuropixels", dataset="synthetic")


def predict_hippie(model: Hippie, units: UnitTable) -> dict[str, np.ndarray]:
    imputed = model.impute(units, "acg")
    return {"embedding": model.embed(units), "imputed_mean": imputed.mean, "imputed_sd": imputed.sd}


def write_spikes(folder: Path, inputs: Path) -> SpikeTransformer:
    rng = np.random.default_rng(0)
    bins = (rng.random((6000, 6)) < np.array([0.02, 0.05, 0.1, 0.03, 0.08, 0.04])).astype(np.uint8)
    np.savez_compressed(inputs, packed=np.packbits(bins, axis=1, bitorder="little"))
    model = SpikeTransformer(
        NetworkOptions(width=8, heads=2, window=16),
        length=64,
        entries_per_window=64,
        calibration_bins=500,
        max_epochs=1,
        batch_size=4,
        seeds=2,
        progress=False,
    )
    model.fit(read_recording(inputs)).save(folder)
    return model


def read_recording(inputs: Path) -> Recording:
    with np.load(inputs) as file:
        bins = np.unpackbits(file["packed"], axis=1, bitorder="little", count=6)
    return Recording.from_array(bins, name="synthetic")


def predict_spikes(model: SpikeTransformer, recording: Recording) -> dict[str, np.ndarray]:
    return {
        "probability": model.predict_proba(recording)[:200].astype(np.float32),
        "bits_per_spike": np.array([row["bits_per_spike"] for row in model.score_table(recording)]),
        "thresholds": model.thresholds_,
    }


FIXTURES = {
    "patchseq": Fixture("patchseq_cells.npz", write_patchseq, FeatureTable.read, predict_patchseq),
    "hippie": Fixture("hippie_units.npz", write_hippie, read_units, predict_hippie),
    "spikes": Fixture("spikes_recording.npz", write_spikes, read_recording, predict_spikes),
}


def write_run_folder(folder: Path) -> None:
    """Run the quickstart and keep the parts of its run folder that a later version reads."""
    out = folder.parent / "runs"
    command = [sys.executable, "-m", "experiments.quickstart", *QUICKSTART, "--out", str(out)]
    subprocess.run(command, check=True)
    (run,) = out.glob("*/*")
    folder.mkdir()
    for name in KEPT_OF_A_RUN:
        (run / name).rename(folder / name)
    shutil.rmtree(out)


def main() -> None:
    version = HERE / jaxephys.__version__
    if version.exists():
        sys.exit(f"{version} exists: fixtures of a version are written once")
    version.mkdir()
    for name, fixture in FIXTURES.items():
        model = fixture.write(version / name, version / fixture.inputs)
        predictions = fixture.predict(model, fixture.read(version / fixture.inputs))
        np.savez_compressed(version / f"{name}_predictions.npz", **predictions)
        print(f"{name}: {model.describe()}")
    write_run_folder(version / "run_folder")
    print(f"-> {version}")


if __name__ == "__main__":
    main()
