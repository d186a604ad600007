"""Mouse interneurons, five subclasses: the published ablation, tabular networks, and classical baselines.

Corresponds to Table 4 of Schwider & Ramezani (2026): stratified 60/20/20, 10 seeds, on 3,699 cells x 12 x 498 values that are
not public. Here: 4,195 cells of Gouwens et al. (2020) with scalar IPFX features arranged as families. Besides single cells,
whole donors are held out.

    python -m experiments.patchseq_mouse --data FOLDER                       80 runs of the ablation, 100 tabular networks
    python -m experiments.patchseq_mouse four --data FOLDER                  Sncg counted as Vip, as in the aligned task
    python -m experiments.patchseq_mouse smoke --data FOLDER                 one seed

FOLDER holds mouse_v1.csv, or is a table that data_prep has written. Time: half an hour on two CPU cores.

Expected macro-F1 / accuracy:

===============================  ================  ================  =========================
model                            cells held out    donors held out   published, other cells
===============================  ================  ================  =========================
average ensemble + offsets       0.909 / 0.940
average ensemble                 0.901 / 0.937     0.908 / 0.941
tabular networks                 0.898 / 0.935
boosting                         0.895 / 0.932     0.899 / 0.933
attention ensemble, kernel       0.894 / 0.929, 0.893 / 0.932
ablation, our encoder            0.88
components + forest              0.852                               0.873
ablation, published encoder      0.84                                0.892 / 0.9235 (ArcFace)
===============================  ================  ================  =========================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data_prep.patchseq.feature_csv import read_species
from experiments.command_line import main
from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.splits import draw_splits
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS
from jaxephys.patchseq.grid import (
    COMPONENT_FOREST,
    Ablation,
    ComparisonNetworks,
    ComparisonSettings,
    baseline_makers,
    train_baselines,
)
from jaxephys.patchseq.preprocessing import fit_quantiles, fit_signed_log
from jaxephys.patchseq.report.comparison import AVERAGE, comparison_tables, draw_comparison, mean_training_size
from jaxephys.patchseq.task import ABLATION
from jaxephys.reporting.markdown import Headline
from jaxephys.reporting.run_folder import RunFolder

BASELINES = ("boosting", "svm", "forest", "logistic", "lda", COMPONENT_FOREST)
MEMBERS = ("tabular", "tabular quantile", "boosting", "kernel")
PUBLISHED = {  # on other cells and features
    COMPONENT_FOREST: {"macro_f1": "0.873"},
    "published arcface+smote": {"macro_f1": "0.892", "accuracy": "0.9235"},
}
BY_ACCURACY = {name: replace(variant, selection="accuracy") for name, variant in ABLATION.items()}
RELEASED = Ablation("released ", BY_ACCURACY, token_encoder=False, prior_power=0.7)


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
    "published": Mouse(folds=("cell",), released=True),
    "smoke": Mouse(folds=("cell",), seeds=1, members=2, hidden=8, max_epochs=2),
}

INTRODUCTION = """Every model trains on the same 60 % of the cells and is tested on the same 20 %. Networks select their epoch by
macro-F1 on the other 20 %, which is also used to fit temperatures, offsets and thresholds of sets. Test cells are used once."""

NOTES = [
    f"The {AVERAGE} is the mean of two ensembles of tabular networks (on signed logarithms and on normal quantiles), of gradient "
    "boosting and of the kernel classifier, each at the temperature that minimizes the log loss of the validation cells; the four "
    "were selected on validation cells among a few such averages. Its offsets are half of those that maximize macro-F1 there.",
    "The validation cells stop the networks and calibrate them, so that sets may cover a little less than the nominal share.",
    "The published variants have the published encoder (families padded with zeros and normalized, z-scores) with our rules.",
    "A support vector machine has no probabilities: its expected calibration error and Brier score are those of the softmax of its decision values.",
    "Published values are of other cells and features: 3,699 cells, 12 x 498 vectors, or their sparse components.",
    "The twelve clock times of the table (when in the recording a spike occurred) are not used.",
]

DEVIATIONS = [
    "The released variants follow the released code where it deviates from good practice: every model selects its epoch by "
    "validation accuracy, although the paper reports macro-F1 and describes selection by it; ArcFace's probabilities are "
    "multiplied by the frequencies of the training cells to the power 0.7, which is not in the paper; class weights are counted "
    "after SMOTE, where all classes are even, so that they have no effect; single cells are held out, though donors give up to 21.",
    "Not reproduced: all models share our splits and seeds. As released, the sd is over draws.",
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
    comparison = ModelComparison(cells, draw_splits(cells, settings.folds, settings.seeds))
    folder.announce_run(settings.number_of_runs(len(comparison.splits), tabular=2), cells=cells.values)
    networks = ComparisonNetworks(folder, comparison, settings)
    attention = networks.train_ablations(RELEASED)
    epochs = min(2 * settings.max_epochs, 100)
    config = TrainConfig(epochs, patience=25, batch_size=256, learning_rate=3e-3, weight_decay=0.01, chunk_epochs=10)
    for name, fit_scale in (("tabular", fit_signed_log), ("tabular quantile", fit_quantiles)):
        networks.train_tabular(name, fit_scale, config)
    if not folder.is_first_host:
        return
    baselines = baseline_makers((*BASELINES, *CLASSICAL_MODELS), cells)
    train_baselines(folder, comparison, baselines, with_validation=False)
    comparison.add_average_ensemble(AVERAGE, MEMBERS)
    comparison.add_class_offsets(f"{AVERAGE} + offsets", AVERAGE)
    folder.write_predictions(**comparison.prediction_arrays())
    scores, five_classes = comparison.scores("patchseq_mouse", "mouse"), settings.label == "subclass5"
    published = PUBLISHED if five_classes else None
    tables = comparison_tables(comparison, scores, BASELINES, published)
    figures = draw_comparison(folder, comparison, scores, BASELINES, attention)
    notes = NOTES + (DEVIATIONS if settings.released else [])
    title = f"Mouse interneurons, {len(cells.classes)} subclasses"
    first, quoted = settings.folds[0], "0.892, on 3,699 other cells" if five_classes else None
    headline = Headline("macro_f1", AVERAGE, BASELINES, first, mean_training_size(comparison, first), quoted)
    folder.write_report(scores, title, INTRODUCTION, tables, figures, notes, headline)


if __name__ == "__main__":
    main("patchseq_mouse", __doc__, PRESETS, run)
