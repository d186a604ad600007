"""The effect of each part of the objective: from the published objective to ours, one change at a time, and latent size by beta.

Includes the sweep over latent size and beta of Gonzalez-Ferrer et al. (2025), whose objective leaves 0 of 20 dimensions active. All
variants, seeds and folds are one fit. Scores are of test units that no network has seen: explained variance of each curve, share of
active latent dimensions, and balanced accuracy of k nearest neighbors on the embedding, in the folds of the benchmark.

    python -m experiments.hippie_ablation --data FOLDER/lisberger             the ablation, 8 variants
    python -m experiments.hippie_ablation published --data FOLDER/hausser     the published sweep: 6 latent sizes x 7 values of beta
    python -m experiments.hippie_ablation sweep --data FOLDER/lisberger       latent size x beta of our objective, 12 variants
    python -m experiments.hippie_ablation dense --data FOLDER/lisberger       the ablation with our dense networks, three seeds
    python -m experiments.hippie_ablation smoke --data FOLDER                 three variants of one seed

The presets default, published and sweep train the ResNet-18 of width 64, ten seeds. On two CPU cores: dense half an hour, default 3 to 4
days, published up to 3 days; a large GPU needs an hour or two by prediction.

FOLDER has CSV files, or units.npz of data_prep. Each variant adds one change to the one before, unless stated otherwise:

    published        mean squared error + KL + consistency of reconstructions with and without the class
    no class         no class in the decoder, and so no consistency term
    likelihood       negative log-likelihood, with the noise variance equal to the remaining error
    free bits        half a nat of each dimension has no cost
    clean target     reconstruct the curve as measured from an augmented one
    masking          curves and technologies are masked with probability 0.3: our objective
    no augmentation  our objective without augmentation; "contrast": with a contrastive loss on labels of training units

The published sweep was of Hausser: neighbors at 30 dimensions have 0.665 at beta 0.1, 0.734 at 1 and 0.770 at 4, with an sd over folds of
about 0.1; its test folds chose 30 dimensions and beta 1. Here its 42 settings are trained in one stage on training units.

Expected on Lisberger with dense networks, one seed (dense --seeds 1): under the published objective and without its class, 0 of 30
dimensions are active and the explained variance is -0.02 and -0.00; from the likelihood on, all are active and it is 0.84 to 0.86.
Neighbors on the embedding: 0.67, 0.64, then 0.74 to 0.76, and 0.77 with labels of training units. Scores of the ResNets are not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from data_prep.units.registry import find_dataset
from experiments.command_line import main
from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import hold_out_validation
from jaxephys.hippie.benchmark import Benchmark
from jaxephys.hippie.datasets import available_modalities, fill_technology
from jaxephys.hippie.grid import metric_scores, train_grid
from jaxephys.hippie.protocol import DENSE, PUBLISHED_TRAINING, NetworkSettings
from jaxephys.hippie.published_values import QUESTIONS
from jaxephys.hippie.report import METRIC, ablation_headlines, draw_ablation, name_network
from jaxephys.hippie.task import ABLATION, Objective, sweep_objectives
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table
from jaxephys.schemas.unit_table import UnitTable


@dataclass(frozen=True)
class Ablation(NetworkSettings):
    """Settings of the experiment."""

    data: Path = Path("units")
    """A data set: a folder of CSV files, or units.npz."""
    variants: Literal["ablation", "sweep", "published sweep"] = "ablation"
    """Parts of the objective, or latent size x beta, of our or of the published objective."""
    max_variants: int = 0
    """Train only this number of variants; 0: all."""
    validation: float = 0.15
    """Share of the units that are not tested which select the epoch; 0.1 is published."""

    renamed: ClassVar[Mapping[str, str]] = {**NetworkSettings.renamed, "arms": "variants", "most": "max_variants"}


PRESETS = {
    "default": Ablation(),
    "published": Ablation(variants="published sweep", latent=60, **PUBLISHED_TRAINING),
    "sweep": Ablation(variants="sweep", latent=30),
    "dense": Ablation(**{**DENSE, "seeds": 3}),
    "smoke": Ablation(trunk="dense", max_variants=3, seeds=1, width=4, latent=6, max_epochs=3),
}

INTRODUCTION = """Scores of test units of five folds: explained variance of the curves, share of active latent dimensions, balanced accuracy of k
nearest neighbors on the embedding (k chosen on training units), and KL divergence."""

NOTE = (
    "All variants have the same networks, units, epochs and batches; each selects its epoch by its own validation loss."
)


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
    variants = list(objectives_of(settings, len(available_modalities([units]))).items())
    objectives = dict(variants[: settings.max_variants or None])
    grid = RunGrid.cross(variant=objectives, seed=range(settings.seeds), fold=benchmark.folds)
    parts = [(*benchmark.split(item["fold"]), [item["seed"], item["fold"]]) for item in grid]
    splits = [hold_out_validation(rest, settings.validation, seeds, test) for rest, test, seeds in parts]
    folder.announce_run(len(grid), units=[units.raw, units.label])
    chosen = [objectives[variant] for variant in grid.column("variant")]
    trained = train_grid(folder, [units], grid, splits, chosen, settings, "ablation", labels=codes)
    values = {metric: column for metric, column in trained.test_scores().items() if metric != "loss"}
    values[METRIC] = trained.neighbor_accuracy(codes)
    scores = metric_scores("hippie_ablation", name, name, grid, splits, values)
    if not folder.is_first_host:
        return
    metrics = [metric for metric in dict.fromkeys(score.metric for score in scores) if metric != "kl"]
    figures = draw_ablation(folder.path, scores, trained, settings.network_note)
    report = {f"{name}: {len(units)} units": model_table(scores, [*metrics, "kl"], ranked=False)}
    report, figures = name_network(report, settings), name_network(figures, settings)
    headlines, question = ablation_headlines(list(objectives), METRIC), QUESTIONS["hippie_ablation"]
    folder.write_report(scores, "Parts of the objective", INTRODUCTION, report, figures, [NOTE], question, headlines)


def objectives_of(settings: Ablation, n_modalities: int = 3) -> dict[str, Objective]:
    """Return the objectives of all variants by name.

    Parameters
    ----------
    settings : Ablation
        Settings of the run.
    n_modalities : int
        Number of curves of the units.

    Returns
    -------
    dict of Objective
        Objectives by variant.
    """
    if settings.variants in ("ablation", "ladder"):  # the second is the name in run folders of version 0.1.0
        return ABLATION
    return sweep_objectives(settings.variants, settings.latent_size(n_modalities))


if __name__ == "__main__":
    main("hippie_ablation", __doc__, PRESETS, run)
