"""Mouse interneurons, five subclasses: the published ablation, tabular networks, and classical baselines.

Corresponds to Table 4 and the mouse part of Figures 2, 3 and 7 of Schwider & Ramezani (2026): stratified 60/20/20, 10 seeds, on
3,699 cells x 12 x 498 values that are not public. Here: 4,195 cells of Gouwens et al. (2020) with scalar IPFX features arranged
as families. Besides single cells, whole donors are held out.

    python -m experiments.patchseq_mouse --data FOLDER                       80 runs of each ablation, 200 tabular networks
    python -m experiments.patchseq_mouse published --data FOLDER             by cell, seeds 23 to 32; the released code's rules too
    python -m experiments.patchseq_mouse four --data FOLDER                  Sncg counted as Vip, as in the aligned task
    python -m experiments.patchseq_mouse smoke --data FOLDER                 one seed

FOLDER holds mouse_v1.csv, or is a table that data_prep has written. Training takes 16 minutes to 1.6 hours on two CPU cores, depending
on when runs stop, and 12 to 70 minutes with `published` (`python -m jaxephys plan patchseq_mouse published --data FOLDER`);
baselines add ten minutes. On one GPU training is predicted to take less than a minute: 0.05 ms per run and step, as measured on
an H200.

Published numbers (mean and sd of ten runs; the paper's own for ArcFace and the forest), and expected macro-F1 / accuracy here:

===============================  ===================================  ================  ==================
model                            published, on other cells            cells held out    donors held out
===============================  ===================================  ================  ==================
BiLSTM (bilstm)                  0.8601 +- 0.0162 / 0.9062 +- 0.0091
with attention                   0.8738 +- 0.0136 / 0.9145 +- 0.0088
with attention and SMOTE         0.8856 +- 0.0214 / 0.9193 +- 0.0128
the same with ArcFace            0.8923 / 0.9235
components + forest              0.8728 / 0.9072                      0.852
average ensemble + offsets                                            0.909 / 0.940
average ensemble                                                      0.901 / 0.937     0.908 / 0.941
tabular networks                                                      0.898 / 0.935
boosting                                                              0.895 / 0.932     0.899 / 0.933
kernel                                                                0.893 / 0.932
ablation, our encoder                                                 0.88
===============================  ===================================  ================  ==================

In the report, rows "published ..." are networks as the text describes them, "released ..." as the released code trains them,
and the others have our encoder; the table "Networks" has the optimizer of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.patchseq.feature_csv import read_species
from experiments.command_line import main
from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS
from jaxephys.patchseq.grid import (
    ComparisonNetworks,
    ComparisonSettings,
    add_ensembles,
    baseline_makers,
    train_baselines,
)
from jaxephys.patchseq.preprocessing import fit_quantiles, fit_signed_log
from jaxephys.patchseq.published import COMPONENT_FOREST, MOUSE
from jaxephys.patchseq.published_values import QUESTIONS
from jaxephys.patchseq.report.comparison import AVERAGE, comparison_headlines, comparison_tables, draw_comparison
from jaxephys.reporting.run_folder import RunFolder

BASELINES = ("boosting", "svm", "forest", "logistic", "lda", COMPONENT_FOREST)
MEMBERS = ("tabular", "tabular quantile", "boosting", "kernel")


@dataclass(frozen=True)
class Mouse(ComparisonSettings):
    """Settings of the experiment."""

    data: Path = Path("mouse")
    """Folder with mouse_v1.csv, or a table of data_prep."""
    label: Literal["subclass5", "subclass4"] = "subclass5"
    """Five classes, or four: Sncg with Vip."""


PRESETS = {
    "default": Mouse(),
    "four": Mouse(label="subclass4"),
    "published": Mouse(folds=("cell",), notebook_splits=True, released=True),
    "smoke": Mouse(folds=("cell",), seeds=1, members=2, hidden=8, max_epochs=2),
}

INTRODUCTION = """Every model trains on the same 60 % of the cells and is tested on the same 20 %. Networks select their epoch by
macro-F1 on the other 20 %, which is also used to fit temperatures, offsets and thresholds of sets. Test cells are used once."""

NOTES = [
    f"The {AVERAGE} is the mean of two ensembles of tabular networks (on signed logarithms and on normal quantiles), of gradient "
    "boosting and of the kernel classifier, each at the temperature that minimizes the log loss of the validation cells; the four "
    "were selected on validation cells among a few such averages. Its offsets are half of those that maximize macro-F1 there.",
    "Its parts without networks and with networks alone, and the classical ensemble of five classical models and gradient boosting, are "
    "averaged in the same way; all ensembles and the two classical members get such offsets.",
    "The validation cells stop the networks and calibrate them, so that sets may cover a little less than the nominal share.",
    "A support vector machine has no probabilities: its expected calibration error and Brier score are those of the softmax of its decision values.",
    "The twelve clock times of the table (when in the recording a spike occurred) are not used.",
]


def run(settings: Mouse, folder: RunFolder) -> None:
    """Train all models on all splits and write the report.

    Parameters
    ----------
    settings : Mouse
        Settings of the experiment.
    folder : RunFolder
        The run folder.
    """
    cells = read_species(settings.data, "mouse", settings.label)
    comparison = ModelComparison(cells, settings.draw_splits(cells, MOUSE.first_seed))
    folder.announce_run(settings.number_of_runs(len(comparison.splits), tabular=2), cells=cells.values)
    networks = ComparisonNetworks(folder, comparison, settings)
    attention = networks.train_ablations(MOUSE)
    epochs = min(2 * settings.max_epochs, 100)
    config = TrainConfig(epochs, patience=25, batch_size=256, learning_rate=3e-3, weight_decay=0.01, chunk_epochs=10)
    for name, fit_scale in (("tabular", fit_signed_log), ("tabular quantile", fit_quantiles)):
        networks.train_tabular(name, fit_scale, config)
    networks.save_ensemble()
    if not folder.is_first_host:
        return
    baselines = baseline_makers((*BASELINES, *CLASSICAL_MODELS), cells)
    train_baselines(folder, comparison, baselines, with_validation=False)
    tabular, classical = MEMBERS[:2], (*CLASSICAL_MODELS, "boosting")
    add_ensembles(comparison, AVERAGE, MEMBERS, tabular, classical=classical, baselines=("boosting", "kernel"))
    folder.write_predictions(**comparison.prediction_arrays())
    scores, protocol = comparison.scores("patchseq_mouse", "mouse"), MOUSE if settings.label == "subclass5" else None
    tables = comparison_tables(networks, scores, BASELINES, protocol)
    figures = draw_comparison(folder, comparison, scores, BASELINES, attention, protocol, MEMBERS)
    notes = [*NOTES, *(protocol.notes if protocol else ()), *(MOUSE.deviations if settings.released else ())]
    title = f"Mouse interneurons, {len(cells.classes)} subclasses"
    headlines = comparison_headlines(comparison, BASELINES, protocol)
    question = QUESTIONS["patchseq_mouse"]
    folder.write_report(scores, title, INTRODUCTION, tables, figures, notes, question, headlines)


if __name__ == "__main__":
    main("patchseq_mouse", __doc__, PRESETS, run)
