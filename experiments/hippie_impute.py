"""Imputation of a missing curve from the other curves: our networks, the mean, ridge regression and ten nearest neighbors.

The published generative model was never trained on a missing curve; its input is zeros in place of one. Here the error is that of test
units in five folds, on which nothing was fitted, for curves scaled to [-1, 1].

    python -m experiments.hippie_impute --data FOLDER                every data set with at least two curves per unit, our objective
    python -m experiments.hippie_impute --data FOLDER/lisberger      one data set
    python -m experiments.hippie_impute published --data FOLDER      the generative model: 16 dimensions, beta 0.1, free bits 0.5, zeros
    python -m experiments.hippie_impute dense --data FOLDER          our objective and dense networks
    python -m experiments.hippie_impute smoke --data FOLDER          one seed of small networks

The presets default and published train the ResNet-18 of width 64, ten seeds. The preset published also reports the error on the units
that the networks were trained on, as the paper does. Its published values are of Hausser, by one model of four data sets: 0.242, 0.330 and
0.289 for waveform, intervals and autocorrelogram, against 0.194, 0.282 and 0.354 of the mean profile. On two
CPU cores six data sets take 45 minutes (dense), 25 hours (published) or 30 hours (default); a large GPU needs an hour by prediction.

FOLDER has one folder per data set (CSV files, or units.npz of data_prep), or is itself such a folder. For simulated units
(python -m data_prep units simulate FOLDER), whose curves under another technology are known, counterfactuals are scored as well.
jaxephys/hippie/imputation_benchmark.py describes the models. Expected mean squared error with dense networks (preset dense), five
seeds; errors of the ResNets are not known yet:

                Lisberger             Hull                  Watson
                wave   isi    acg     wave   isi    acg     wave   isi    acg
    mean        0.206  0.414  0.393   0.142  0.373  0.396   0.363  0.420  0.298
    ridge       0.201  0.171  0.134   0.113  0.135  0.099   0.363  0.193  0.167
    knn 10      0.209  0.156  0.112   0.117  0.140  0.084   0.400  0.206  0.239
    network     0.204  0.145  0.087   0.125  0.131  0.086   0.390  0.164  0.143
    ensemble    0.201  0.138  0.080   0.120  0.125  0.081   0.381  0.155  0.133
    blend       0.198  0.138  0.079   0.117  0.129  0.080   0.366  0.149  0.129

The 90 % intervals contain 0.89 to 0.94 of the samples, and every latent dimension is active. The explained variance of curves that
the encoder received is 0.94, 0.81 and 0.92 in Lisberger, 0.66, 0.74 and 0.86 in Hull, and 0.38, 0.69 and 0.79 in Watson.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from data_prep.units.registry import find_dataset
from experiments.command_line import main
from jaxephys.engine.grid import RunGrid
from jaxephys.hippie.datasets import read_tables
from jaxephys.hippie.grid import FOLDS, k_fold_splits, metric_scores, train_grid
from jaxephys.hippie.imputation_benchmark import (
    BASELINES,
    complete_units,
    draw_imputations,
    evaluate_counterfactuals,
    evaluate_imputation,
    imputation_headlines,
    imputation_notes,
    imputation_tables,
)
from jaxephys.hippie.protocol import DENSE, GENERATIVE_TRAINING, NetworkSettings
from jaxephys.hippie.published_values import QUESTIONS
from jaxephys.hippie.report import name_network
from jaxephys.hippie.task import OBJECTIVES
from jaxephys.reporting.bars import BarPanel, draw_bar_panels
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table


@dataclass(frozen=True)
class Impute(NetworkSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set, or a table of units."""
    max_epochs: int = 150
    """Largest number of epochs; the best one is selected on validation rows."""
    objective: Literal["ours", "published", "generative"] = "ours"
    """Objective of all networks. The published ones know no missing curve."""

    added: ClassVar[tuple[str, ...]] = (*NetworkSettings.added, "objective")


PRESETS = {
    "default": Impute(),
    "published": Impute(objective="generative", **GENERATIVE_TRAINING),
    "dense": Impute(**DENSE),
    "resnet": Impute(width=8, latent=30, seeds=1, max_epochs=60),
    "smoke": Impute(trunk="dense", seeds=1, width=4, latent=6, max_epochs=3),
}

INTRODUCTION = """Mean squared error of a sample of a curve between -1 and 1, on test units on which nothing was fitted, predicted from the
other curves of the same units. "network" is the mean over single networks, "ensemble" the mean prediction of all seeds of a fold,
"blend" a combination of it with ridge regression and neighbors whose weights are fitted on validation rows."""


def run(settings: Impute, folder: RunFolder) -> None:
    """Train and evaluate all data sets and write the report.

    Parameters
    ----------
    settings : Impute
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    found = {name: complete_units(units) for name, units in read_tables(settings.data, find_dataset).items()}
    tables = {name: units for name, units in found.items() if units is not None}
    if not tables:
        raise ValueError(f"no data set of {settings.data} has units with two curves: nothing can be imputed")
    data = {name: units.raw for name, units in tables.items()}
    folder.announce_run(settings.seeds * FOLDS * len(tables), **data)
    scores, report, figures, panels = [], {}, {}, []
    for name, units in tables.items():
        folds = k_fold_splits(np.arange(len(units)), settings.seeds, settings.validation)
        grid, splits = RunGrid(("seed", "fold"), tuple(folds)), list(folds.values())
        objectives = [OBJECTIVES[settings.objective]] * len(grid)
        trained = train_grid(folder, [units], grid, splits, objectives, settings, name)
        imputed, examples = evaluate_imputation(name, trained)
        latent = {m: v for m, v in trained.test_scores().items() if m == "active" or m.startswith("r2_")}
        counterfactual = evaluate_counterfactuals(name, units, trained)
        scores += imputed + counterfactual
        scores += metric_scores("hippie_impute", name, name, grid, trained.splits, latent, "network")
        if not folder.is_first_host:
            continue
        report |= imputation_tables(name, imputed, examples)
        panels += [BarPanel(f"{name}, {modality}", imputed, f"mse_{modality}") for modality in examples]
        n_bins = {modality: units.raw[modality].shape[1] for modality in examples}
        drawn = draw_imputations(folder.path, name, examples, n_bins, settings.network_note)
        figures[f"{name}: imputed and measured curves"] = drawn
        for target in dict.fromkeys(score.test_on for score in counterfactual):
            rows = [score for score in counterfactual if score.test_on == target]
            report[f"{name}: waveforms under {target}"] = model_table(rows, ["mse_counterfactual"])
        trained.estimator([0]).save(folder.path / "model" / name, overwrite=True)
    if not folder.is_first_host:
        return
    drawn = draw_bar_panels(folder.path, panels, baselines=BASELINES, name="errors", note=settings.network_note)
    figures = {"Mean squared error of imputed curves": drawn, **figures}
    report, figures = name_network(report, settings), name_network(figures, settings)
    headlines = imputation_headlines(scores, tables)
    title, question, notes = "Imputation of missing curves", QUESTIONS["hippie_impute"], imputation_notes(scores)
    folder.write_report(scores, title, INTRODUCTION, report, figures, notes, question, headlines)


if __name__ == "__main__":
    main("hippie_impute", __doc__, PRESETS, run)
