"""Human interneurons, four subclasses: the published ablation, tabular networks, and classical baselines.

Corresponds to Table 5 and the human part of Figures 2, 3 and 7 of Schwider & Ramezani (2026): 5 folds x 10 seeds. Their 506
cells and 12 x 498 values are not public; these are 704 cells of Lee & Dalley (2023) with scalar IPFX features arranged as
families, so that published numbers serve for orientation only. Folds are by cell and by donor, and scores are also given for
acute and cultured slices: most Sst cells were recorded in culture.

    python -m experiments.patchseq_human --data FOLDER                 400 runs of each ablation, 500 tabular networks
    python -m experiments.patchseq_human published --data FOLDER       by cell, seeds 9 to 18; the released code's rules too
    python -m experiments.patchseq_human smoke --data FOLDER           one seed, two folds

FOLDER holds human.csv, or is a table that data_prep has written. Training takes 13 to 68 minutes on two CPU cores, depending on
when runs stop, and 10 to 50 minutes with `published` (`python -m jaxephys plan patchseq_human published --data FOLDER`);
baselines add a quarter of an hour. On one GPU training is predicted to take less than a minute: 0.05 ms per run and step, as
measured on an H200.

Published numbers (mean and sd of ten runs; the paper's own for the forest), and expected macro-F1 / accuracy here:

===========================  ===================================  ================  ===============
model                        published, on other cells            folds by cell     folds by donor
===========================  ===================================  ================  ===============
BiLSTM with attention        0.6685 +- 0.0141 / 0.7798 +- 0.0080
the same with SMOTE          0.6754 +- 0.0180 / 0.7822 +- 0.0145
the same with ArcFace        0.6729 +- 0.0195 / 0.7818 +- 0.0145
components + forest          0.6589 / 0.7518                      0.760             0.752
kernel                                                            0.806 / 0.857     0.807 / 0.859
average ensemble                                                  0.798 / 0.850     0.796
signed-log lda                                                    0.797 / 0.845
boosting                                                          0.794 / 0.846     0.799
tabular networks                                                  0.792 / 0.846
attention ensemble                                                0.773 / 0.831     0.774
ablation, our encoder                                             0.747 to 0.761
===========================  ===================================  ================  ===============

In the report, rows "published ..." are networks as the text describes them, "released ..." as the released code trains them,
and the others have our encoder; the table "Networks" has the optimizer of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
from jaxephys.patchseq.preprocessing import fit_signed_log
from jaxephys.patchseq.published import COMPONENT_FOREST, HUMAN
from jaxephys.patchseq.published_values import QUESTIONS
from jaxephys.patchseq.report.comparison import AVERAGE, comparison_headlines, comparison_tables, draw_comparison
from jaxephys.reporting.run_folder import RunFolder

BASELINES = ("lda", "logistic", "svm", "forest", "boosting", COMPONENT_FOREST)


@dataclass(frozen=True)
class Human(ComparisonSettings):
    """Settings of the experiment."""

    data: Path = Path("human")
    """Folder with human.csv, or a table of data_prep."""
    parts: int = 5
    """Number of folds of each draw."""


PRESETS = {
    "default": Human(),
    "published": Human(folds=("cell",), notebook_splits=True, released=True),
    "smoke": Human(seeds=1, parts=2, members=2, hidden=8, max_epochs=2),
}

INTRODUCTION = """Every model is tested on the same folds. Networks train on 60 % of the cells and select their epoch by macro-F1
on 20 %; the other models select nothing and train on both parts. Test cells are used once."""

NOTES = [
    f"The {AVERAGE} is the mean of the four signed-log models and the kernel classifier, each at its temperature. The settings of "
    "the four were compared on five seeds of these cells before they were fixed; selected anew within each training part, by "
    "inner folds, such an average scores the same (0.800, six seeds). The kernel's width was set on the 25 features shared with "
    "mouse, on other seeds of these cells; all else about it is selected by leaving training cells out.",
    "These five models train on all but the test cells. Their temperatures, offsets and thresholds come from five inner folds: "
    "models trained on four of them predict the fifth. A validation part would hold some thirteen Lamp5 cells, too few for a "
    "threshold that nine in ten of them pass; the inner folds hold more than fifty, and are by donor where the test is. The "
    "tabular networks and the ablation, which a validation part stops, are calibrated on that part.",
    "A support vector machine has no probabilities: its expected calibration error and Brier score are those of the softmax of its decision values.",
    "Cells without any measured feature are left out (two of the 704).",
]


def run(settings: Human, folder: RunFolder) -> None:
    """Train all models on all splits and write the report.

    Parameters
    ----------
    settings : Human
        Settings of the experiment.
    folder : RunFolder
        The run folder.
    """
    cells = read_species(settings.data, "human")
    comparison = ModelComparison(cells, settings.draw_splits(cells, HUMAN.first_seed, settings.parts))
    folder.announce_run(settings.number_of_runs(len(comparison.splits), tabular=1), cells=cells.values)
    networks = ComparisonNetworks(folder, comparison, settings)
    attention = networks.train_ablations(HUMAN)
    epochs = min(2 * settings.max_epochs, 100)
    config = TrainConfig(max_epochs=epochs, patience=25, batch_size=64, weight_decay=0.01, chunk_epochs=10)
    networks.train_tabular("tabular", fit_signed_log, config)
    networks.save_ensemble()
    if not folder.is_first_host:
        return
    baselines = baseline_makers((*BASELINES, *CLASSICAL_MODELS), cells)
    train_baselines(folder, comparison, baselines, with_validation=True, cross_calibrated=CLASSICAL_MODELS)
    add_ensembles(comparison, AVERAGE, CLASSICAL_MODELS, baselines=CLASSICAL_MODELS[-1:])
    folder.write_predictions(**comparison.prediction_arrays())
    scores = comparison.scores("patchseq_human", "human")
    tables = comparison_tables(networks, scores, BASELINES, HUMAN)
    figures = draw_comparison(folder, comparison, scores, BASELINES, attention, HUMAN, CLASSICAL_MODELS)
    notes = [*NOTES, *HUMAN.notes, *(HUMAN.deviations if settings.released else ())]
    title, question = "Human interneurons, four subclasses", QUESTIONS["patchseq_human"]
    headlines = comparison_headlines(comparison, BASELINES, HUMAN)
    folder.write_report(scores, title, INTRODUCTION, tables, figures, notes, question, headlines)


if __name__ == "__main__":
    main("patchseq_human", __doc__, PRESETS, run)
