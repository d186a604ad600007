"""The effect of pretraining on other data sets: one data set is held out with all copies of its recordings, then fine-tuned on.

Follows the stages of Gonzalez-Ferrer et al. (2025), who pretrain on the units that are tested later. Here the held-out data set, and
every data set that shares recordings with it according to the registry of data_prep, is excluded from pretraining, and test units are
excluded from fine-tuning. Scores are of test units in five folds: explained variance of each curve, share of active latent dimensions.

    python -m experiments.hippie_pretrain --data FOLDER --held-out hull             one data set, our objective
    python -m experiments.hippie_pretrain published --data FOLDER --held-out hull   published objective, 100 + 20 epochs, a tenth of the rate
    python -m experiments.hippie_pretrain all --data FOLDER                         train on all data sets and save the network
    python -m experiments.hippie_pretrain dense --data FOLDER --held-out hull       our dense networks
    python -m experiments.hippie_pretrain smoke --data FOLDER

FOLDER has one folder per data set (CSV files, or units.npz of data_prep). Without --held-out the first of them is held out. The presets
default, published and all train the ResNet-18 of width 64, ten seeds (all: one network). The folder model/ of a run holds the pretrained
networks, for `jaxephys.load` and for fine-tuning. On two CPU cores: all 1 hour, default 12
hours, published up to 16 hours; a large GPU needs half an hour by prediction.

    pretrained    networks trained on the other data sets, which have seen no unit of this one
    fine-tuned    then trained on the training units of a fold
    from scratch  trained on these alone for the same number of epochs

The paper has no table of this comparison. Expected explained variance of waveform, intervals and autocorrelogram on Hull with our dense
networks (preset dense), pretrained on 3,880 units of five other data sets: fine-tuned 0.89, 0.79 and 0.91; from scratch 0.62, 0.73 and
0.85; pretrained 0.87, 0.67 and 0.85. Scores of the ResNets are not known yet: they need a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from data_prep.units.registry import find_dataset, held_out
from experiments.command_line import main
from jaxephys.engine.fit import take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.hippie.datasets import available_modalities, combined_unit_names, read_tables, unrelated_tables
from jaxephys.hippie.grid import (
    ALL_MODALITIES,
    fine_tuning_variables,
    k_fold_splits,
    metric_scores,
    pretrain,
    train_grid,
)
from jaxephys.hippie.protocol import DENSE, PUBLISHED_TRAINING, StagedSettings
from jaxephys.hippie.published_values import QUESTIONS
from jaxephys.hippie.report import name_network, write_pretraining_report
from jaxephys.hippie.task import OBJECTIVES
from jaxephys.reporting.bars import BarPanel, draw_bar_panels
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table

VARIANTS = ("pretrained", "fine-tuned", "from scratch")


@dataclass(frozen=True)
class Pretrain(StagedSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set."""
    held_out: str | None = ""
    """Data set that is excluded from pretraining; by default the first one. None: pretrain on all data sets, and no fine-tuning."""
    objective: Literal["ours", "published"] = "ours"
    """Objective of all networks."""

    added: ClassVar[tuple[str, ...]] = (*StagedSettings.added, "objective")


PUBLISHED = {**PUBLISHED_TRAINING, "objective": "published", "fine_tuning_rate": 0.1, "max_epochs": 20}
PRESETS = {
    "default": Pretrain(),
    "published": Pretrain(**PUBLISHED),
    "all": Pretrain(held_out=None, seeds=1),
    "dense": Pretrain(**DENSE),
    "resnet": Pretrain(width=8, latent=30, seeds=1, pretraining=40, max_epochs=40),
    "smoke": Pretrain(trunk="dense", seeds=1, width=4, latent=6, pretraining=2, max_epochs=2),
}

INTRODUCTION = """Explained variance of each curve on test units, and share of active latent dimensions. The tested data set, and data sets
that share recordings with it, are excluded from pretraining."""

NOTES = [
    "The encoder receives the curves that are scored: the scores measure what the latent represents, not imputation.",
    "Fine-tuned networks and those from scratch have the same epochs and the same learning rate.",
]


def run(settings: Pretrain, folder: RunFolder) -> None:
    """Pretrain, fine-tune, train from scratch, and write the report.

    Parameters
    ----------
    settings : Pretrain
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    tables = read_tables(settings.data, find_dataset)
    name = next(iter(tables)) if settings.held_out == "" else settings.held_out
    others = unrelated_tables([name] if name else [], tables, find_dataset, held_out)
    if not others:
        raise ValueError(f"no data set is left for pretraining without {name} and its relatives: add some to --data")
    objective, data = OBJECTIVES[settings.objective], {key: table.raw for key, table in others.items()}
    if name is None:
        folder.announce_run(settings.seeds, **data)
        write_pretraining_report(folder, settings, others, pretrain(folder, [*others.values()], objective, settings))
        return
    units, count = tables[name], sum(map(len, others.values()))
    combined_unit_names([units, *others.values()])  # raises an error if a held-out unit is in another table
    folds = k_fold_splits(np.arange(len(units)), settings.seeds, settings.validation)
    grid = RunGrid(("variant", "seed", "fold"), tuple((variant, *key) for variant in VARIANTS[1:] for key in folds))
    folder.announce_run(settings.seeds + len(grid), **{name: units.raw, **data})

    pretrained = pretrain(folder, [*others.values()], objective, settings)
    splits = [*folds.values()] * (len(VARIANTS) - 1)
    initial = fine_tuning_variables(grid, pretrained, VARIANTS[1])
    options: dict[str, Any] = {"initial": initial, "lengths": ALL_MODALITIES}
    slower = replace(settings, learning_rate=settings.learning_rate * settings.fine_tuning_rate)
    tuned = train_grid(folder, [units], grid, splits, [objective] * len(grid), slower, "tune", **options)
    before = RunGrid(("variant", "seed", "fold"), tuple((VARIANTS[0], *key) for key in folds))
    variables = take_runs(pretrained.result.best, before.column("seed"))
    scores = []
    for runs_, values in ((grid, tuned.test_scores()), (before, tuned.test_scores(variables, len(before)))):
        finite = {m: v for m, v in values.items() if m != "loss" and np.isfinite(v).all()}
        scores += metric_scores("hippie_pretrain", "others", name, runs_, tuned.splits[: len(runs_)], finite)
    if not folder.is_first_host:
        return
    metrics = [f"r2_{modality}" for modality, _ in available_modalities([units])]
    pretrained.estimator(range(settings.seeds)).save(folder.path / "model", overwrite=True)
    heading = f"{name}: {len(units)} units, pretrained on {count} units of {', '.join(others)}"
    report = name_network({heading: model_table(scores, [*metrics, "active"])}, settings)
    panels = [
        BarPanel(f"{name}, {modality}", scores, f"r2_{modality}") for modality, _ in available_modalities([units])
    ]
    drawn = draw_bar_panels(folder.path, panels, name="explained_variance", note=settings.network_note)
    figures = name_network({"Explained variance of each curve on test units": drawn}, settings)
    n_train, title = len(tuned.splits[0].train), "Pretraining on other data sets"
    headlines = [Headline(metric, VARIANTS[1], [VARIANTS[2]], n_train=n_train) for metric in metrics]
    folder.write_report(scores, title, INTRODUCTION, report, figures, NOTES, QUESTIONS["hippie_pretrain"], headlines)


if __name__ == "__main__":
    main("hippie_pretrain", __doc__, PRESETS, run)
