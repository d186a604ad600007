"""The effect of each part of the objective: from the published objective to ours, one change at a time, and latent size by beta.

Follows the sweep over latent size and beta of Gonzalez-Ferrer et al. (2025), whose objective leaves 0 of 20 dimensions active. All
variants, seeds and folds are one fit. Scores are of test units that no network has seen: explained variance of each curve, share of
active latent dimensions, and balanced accuracy of k nearest neighbors on the embedding, in the folds of the benchmark.

    python -m experiments.hippie_ablation --data FOLDER/lisberger             the ablation, 8 variants
    python -m experiments.hippie_ablation sweep --data FOLDER/lisberger       latent size x beta, 12 variants
    python -m experiments.hippie_ablation smoke --data FOLDER                 three variants of one seed

FOLDER has CSV files, or units.npz of data_prep. Each variant adds one change to the one before, unless stated otherwise:

    published        mean squared error + KL + consistency of reconstructions with and without the class
    no class         no class in the decoder, and so no consistency term
    likelihood       negative log-likelihood, with the noise variance equal to the remaining error
    free bits        half a nat of each dimension has no cost
    clean target     reconstruct the curve as measured from an augmented one
    masking          curves and technologies are masked with probability 0.3: our objective
    no augmentation  our objective without augmentation
    contrast         our objective with a contrastive loss on labels of training units

Expected on Lisberger, one seed (--seeds 1): under the published objective and without its class, 0 of 30 dimensions are active and the
explained variance is -0.02 and -0.00; from the likelihood on, all are active and it is 0.84 to 0.86. Neighbors on the embedding: 0.67,
0.64, then 0.74 to 0.76, and 0.77 with labels of training units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from data_prep.units.registry import find_dataset
from experiments.command_line import main
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import hold_out_validation
from jaxephys.hippie.benchmark import Benchmark
from jaxephys.hippie.datasets import fill_technology
from jaxephys.hippie.grid import NetworkSettings, metric_scores, train_grid
from jaxephys.hippie.task import ABLATION, OURS, Objective
from jaxephys.reporting.plots import draw_bars, draw_curves
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table
from jaxephys.schemas.unit_table import UnitTable

LATENT_SIZES, BETAS = (5, 10, 20, 30), (0.25, 1.0, 4.0)
ACCURACY = "balanced_accuracy"
VALIDATION = 0.15


@dataclass(frozen=True)
class Ablation(NetworkSettings):
    """Settings of the experiment."""

    data: Path = Path("units")
    """A data set: a folder of CSV files, or units.npz."""
    variants: Literal["ablation", "sweep"] = "ablation"
    """Parts of the objective, or latent size x beta of ours."""
    max_variants: int = 0
    """Train only this number of variants; 0: all."""
    seeds: int = 3
    """Networks per variant and fold."""

    renamed: ClassVar[Mapping[str, str]] = {**NetworkSettings.renamed, "arms": "variants", "most": "max_variants"}


PRESETS = {
    "default": Ablation(),
    "sweep": Ablation(variants="sweep"),
    "smoke": Ablation(max_variants=3, seeds=1, width=4, latent=6, max_epochs=3),
}

INTRODUCTION = """Scores of test units of five folds: explained variance of the curves, share of active latent dimensions, balanced accuracy of k
nearest neighbors on the embedding (k chosen on training units), and KL divergence."""

NOTES = [
    "All variants have the same networks, units, epochs and batches; each selects its epoch by its own validation loss."
]


def run(settings: Ablation, folder: RunFolder) -> None:
    """Train all variants, score them on test units and write the report.

    Parameters
    ----------
    settings : Ablation
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    name = settings.data.stem
    benchmark = Benchmark.from_table(name, fill_technology(name, UnitTable.read(settings.data), find_dataset))
    units, codes = benchmark.table, benchmark.codes
    objectives = dict(list(objectives_of(settings).items())[: settings.max_variants or None])
    grid = RunGrid.cross(variant=objectives, seed=range(settings.seeds), fold=benchmark.folds)
    splits = []
    for run_ in grid:
        rest, test = benchmark.split(run_["fold"])
        splits.append(hold_out_validation(rest, VALIDATION, [run_["seed"], run_["fold"]], test))
    folder.announce_run(len(grid), units=[units.raw, units.label])
    chosen = [objectives[variant] for variant in grid.column("variant")]
    trained = train_grid(folder, [units], grid, splits, chosen, settings, "ablation", labels=codes)
    values = {metric: column for metric, column in trained.test_scores().items() if metric != "loss"}
    values[ACCURACY] = trained.neighbor_accuracy(codes)
    scores = metric_scores("hippie_ablation", name, name, grid, splits, values)
    if not folder.is_first_host:
        return
    metrics = [metric for metric in dict.fromkeys(score.metric for score in scores) if metric != "kl"]
    figures = {metric: draw_bars(folder.path, scores, metric, name=metric) for metric in ("active", ACCURACY)}
    figures["explained variance during training"] = draw_curves(
        folder.path, trained.result.history, grid.column("variant"), ["valid_r2", "valid_active"]
    )
    report = {f"{name}: {len(units)} units": model_table(scores, [*metrics, "kl"], ranked=False)}
    folder.write_report(scores, "Parts of the objective", INTRODUCTION, report, figures, NOTES)


def objectives_of(settings: Ablation) -> dict[str, Objective]:
    """Return the objectives of all variants.

    Parameters
    ----------
    settings : Ablation
        Settings of the run.

    Returns
    -------
    dict of Objective
        Objectives by variant.
    """
    if settings.variants in ("ablation", "ladder"):  # the second is the name in run folders of version 0.1.0
        return ABLATION
    sizes = [size for size in LATENT_SIZES if size <= settings.latent]
    return {f"z {size}, beta {beta}": replace(OURS, latent=size, beta=beta) for size in sizes for beta in BETAS}


if __name__ == "__main__":
    main("hippie_ablation", __doc__, PRESETS, run)
