"""The effect of pretraining on other data sets: one data set is held out with all copies of its recordings, then fine-tuned on.

Follows the two stages of Gonzalez-Ferrer et al. (2025), who pretrain on the units that are tested later. Here the held-out data set, and
every data set that shares recordings with it according to the registry of data_prep, is excluded from pretraining, and test units are
excluded from fine-tuning. Scores are of test units in five folds: explained variance of each curve, share of active latent dimensions.

    python -m experiments.hippie_pretrain --data FOLDER --held-out hull          one data set
    python -m experiments.hippie_pretrain smoke --data FOLDER

FOLDER has one folder per data set (CSV files, or units.npz of data_prep). Without --held-out the first of them is held out.

    pretrained    networks trained on the other data sets, which have seen no unit of this one
    fine-tuned    then trained on the training units of a fold
    from scratch  trained on these alone for the same number of epochs

Expected explained variance on Hull, with 3,880 units of five other data sets for pretraining:

    ============  ========  =========  ==================
    model         waveform  intervals  autocorrelogram
    ============  ========  =========  ==================
    fine-tuned    0.89      0.79       0.91
    from scratch  0.62      0.73       0.85
    pretrained    0.87      0.67       0.85
    ============  ========  =========  ==================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.units.registry import find_dataset, held_out
from experiments.command_line import main
from jaxephys.engine.fit import take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import hold_out_validation
from jaxephys.hippie.datasets import available_modalities, combined_unit_names, read_tables, unrelated_tables
from jaxephys.hippie.grid import (
    ALL_MODALITIES,
    VALIDATION,
    NetworkSettings,
    fine_tuning_variables,
    k_fold_splits,
    metric_scores,
    train_grid,
)
from jaxephys.hippie.task import OURS
from jaxephys.reporting.markdown import Headline
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table

VARIANTS = ("pretrained", "fine-tuned", "from scratch")


@dataclass(frozen=True)
class Pretrain(NetworkSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set."""
    held_out: str = ""
    """Data set that is excluded from pretraining."""
    pretraining: int = 100
    """Epochs on the other data sets."""


PRESETS = {
    "default": Pretrain(),
    "resnet": Pretrain(trunk="resnet", width=8, seeds=1, pretraining=40, max_epochs=40),
    "smoke": Pretrain(seeds=1, width=4, latent=6, pretraining=2, max_epochs=2),
}

INTRODUCTION = """Explained variance of each curve on test units, and share of active latent dimensions. The tested data set, and data sets
that share recordings with it, are excluded from pretraining."""

NOTES = [
    "The encoder receives the curves that are scored: the scores measure what the latent represents, not imputation."
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
    name = settings.held_out or next(iter(tables))
    others = unrelated_tables([name], tables, find_dataset, held_out)
    if not others:
        raise ValueError(
            f"no data set is left for pretraining without {name} and those related to it: give --data more"
        )
    units, count = tables[name], sum(map(len, others.values()))
    combined_unit_names([units, *others.values()])  # raises an error if a held-out unit is in another table
    first = RunGrid.cross(seed=range(settings.seeds))
    first_splits = [hold_out_validation(np.arange(count), VALIDATION, seed) for seed in first.column("seed")]
    folds = k_fold_splits(np.arange(len(units)), settings.seeds)
    grid = RunGrid(("variant", "seed", "fold"), tuple((variant, *key) for variant in VARIANTS[1:] for key in folds))
    folder.announce_run(len(first) + len(grid), **{key: table.raw for key, table in {name: units, **others}.items()})

    options: dict[str, Any] = {"lengths": ALL_MODALITIES}
    objectives = [OURS] * len(first)
    longer = replace(settings, max_epochs=settings.pretraining)
    pretrained = train_grid(folder, [*others.values()], first, first_splits, objectives, longer, "pretrain", **options)
    splits = [*folds.values()] * (len(VARIANTS) - 1)
    options |= {"initial": fine_tuning_variables(grid, pretrained, VARIANTS[1])}
    tuned = train_grid(folder, [units], grid, splits, [OURS] * len(grid), settings, "tune", **options)
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
    report = {heading: model_table(scores, [*metrics, "active"])}
    figures = {metric: draw_bars(folder.path, scores, metric, name=metric) for metric in metrics}
    headline = Headline(metrics[0], VARIANTS[1], [VARIANTS[2]], n_train=len(tuned.splits[0].train))
    folder.write_report(scores, "Pretraining on other data sets", INTRODUCTION, report, figures, NOTES, headline)


if __name__ == "__main__":
    main("hippie_pretrain", __doc__, PRESETS, run)
