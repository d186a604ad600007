"""Cell-type classification of sorted units in the published folds: our classifiers, embeddings and baselines.

Reproduces the classification tables of Gonzalez-Ferrer et al. (2025): balanced accuracy in the published folds (folds.csv) of Hull,
Lisberger, A1, S1, Watson and Hausser, beside published scores (published_scores.csv). The published networks were also trained on the
curves of test units; here no network is.

    python -m experiments.hippie_probe heads --data FOLDER     without networks: kernel classifier and baselines
    python -m experiments.hippie_probe --data FOLDER           with networks
    python -m experiments.hippie_probe smoke --data FOLDER     one seed of small networks

FOLDER has one folder per data set (CSV files, or units.npz of data_prep), or is itself such a folder.

The kernel classifier is the kernel probe on feature views (jaxephys/hippie/probes.py, feature_views.py), alone or with the embedding
as one more block. It was chosen before any network was trained, but not without knowledge of the data: 66 combinations of views,
widths and classifiers were compared by inner folds within the training parts of the folds of Lisberger, A1, S1, Watson and Hull, so
that their scores are somewhat optimistic; the folds of Hausser, and folds by subject or session, were not used. The weight of the
contrastive loss was chosen among six objectives by neighbors on validation rows of A1, S1 and Watson. Shuffled labels score at chance.

Expected balanced accuracy without networks:

    ====================  =====  =========  =====  =====  ======  =======
    model                 Hull   Lisberger  A1     S1     Watson  Hausser
    ====================  =====  =========  =====  =====  ======  =======
    kernel classifier     0.986  0.853      0.762  0.791  0.781   0.717
    balanced SVM          0.962  0.827      0.711  0.753  0.778   0.639
    ====================  =====  =========  =====  =====  ======  =======

(Hausser by waveforms alone; Watson with folds by subject 0.812, by session 0.748.) Of nearest neighbors:

    ====================  =====  =========  =====  =====  ======  =======  ===========
    features              Hull   Lisberger  A1     S1     Watson  Hausser  hull_counts
    ====================  =====  =========  =====  =====  ======  =======  ===========
    our embedding         0.972  0.849      0.692  0.704  0.741   0.631    0.970
    curves                0.965  0.717      0.633  0.697  0.713   0.562    0.933
    published embedding   0.878  0.638      0.472  0.582  0.678   0.543    0.895
    ====================  =====  =========  =====  =====  ======  =======  ===========

With the embedding as one more block, scores of the kernel classifier change by 0.01, on Watson and Hausser by -0.03.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.units.registry import find_dataset, held_out
from experiments.command_line import main
from jaxephys.hippie.benchmark import KERNEL_CLASSIFIER, Benchmark, evaluate_embeddings, evaluate_without_networks
from jaxephys.hippie.datasets import read_tables
from jaxephys.hippie.embedding_grid import EmbeddingGrid, EmbeddingSettings
from jaxephys.hippie.probes import BASELINES, UMAP_BASELINE
from jaxephys.hippie.report import (
    METRIC,
    REFERENCE_BASELINE,
    draw_ranking,
    ranking_table,
    read_published_scores,
    save_probabilities,
    score_all,
    shuffled_notes,
)
from jaxephys.reporting.markdown import Headline
from jaxephys.reporting.run_folder import RunFolder


@dataclass(frozen=True)
class Probe(EmbeddingSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set, or a table of units."""
    datasets: tuple[str, ...] = ()
    """Data sets to score; by default all. The others in the folder are used for pretraining."""
    umap: bool = True
    """Add the baseline UMAP + k nearest neighbors (needs the extra umap)."""


PRESETS = {
    "default": Probe(),
    "heads": Probe(width=0),
    "resnet": Probe(trunk="resnet", width=8, seeds=1),
    "smoke": Probe(seeds=1, umap=False, width=4, latent=6, pretraining=1, max_epochs=2),
}

INTRODUCTION = f"""Balanced accuracy on test units on which nothing was fitted: no scale, no neighbor, no network. "{KERNEL_CLASSIFIER}" is our
classifier. Baselines use the preprocessed curves side by side; "{REFERENCE_BASELINE}" is the one that all models are compared with. Models
"on our embedding" and "on published embedding" are probes on networks trained with our and with the published objective, in the same
protocol."""

NOTES = (
    "Published scores of HIPPIE and VAE are of the same folds; PhysMAP, NEMO and, on Hull, the waveform forest were tested on other "
    "folds, and Watson on a copy of 236 instead of 221 units. Mean ± sd over folds, with test units used in training.",
    "The published HIPPIE score on S1, whose classes are type x layer, is explained by the layer as an input.",
    "Views and widths of the kernel classifier were chosen among 66 combinations by inner folds of the training parts of Hull, "
    "Lisberger, A1, S1 and Watson: their scores are somewhat optimistic. Settings of the baselines were fixed beforehand.",
)


def run(settings: Probe, folder: RunFolder) -> None:
    """Evaluate all models on all benchmarks and write the report.

    Parameters
    ----------
    settings : Probe
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    tables = read_tables(settings.data, find_dataset, settings.datasets)
    benchmarks = [Benchmark.from_table(name, tables[name]) for name in settings.datasets or tables]
    grids = [
        EmbeddingGrid(benchmark, benchmark.pretraining_tables(tables, find_dataset, held_out), settings)
        for benchmark in benchmarks
        if settings.width
    ]
    data = {name: [table.raw, table.label] for name, table in tables.items()}
    folder.announce_run(sum(grid.n_runs for grid in grids), **data)

    baselines = (*BASELINES, UMAP_BASELINE) if settings.umap else BASELINES
    grouped = [benchmark.grouped_by(column) for benchmark in benchmarks for column in ("subject", "session")]
    probabilities = {}
    for benchmark in [*benchmarks, *filter(None, grouped)]:
        probabilities[benchmark] = evaluate_without_networks(benchmark, settings.seeds, baselines)
        folder.print(f"{benchmark.name}: {len(benchmark.table)} units, models without networks evaluated")
    for grid in grids:
        probabilities[grid.benchmark] |= evaluate_embeddings(grid.benchmark, grid.train(folder), settings.seeds)
    if not folder.is_first_host:
        return
    save_probabilities(folder.path, probabilities)
    scores = score_all("hippie_probe", probabilities)
    published = read_published_scores(settings.data / "published_scores.csv")
    report = {
        benchmark.name: ranking_table(scores, benchmark, REFERENCE_BASELINE, published.get(benchmark.name))
        for benchmark in probabilities
    }
    figures = {benchmark.name: draw_ranking(folder.path, scores, benchmark, baselines) for benchmark in benchmarks}
    first, number = benchmarks[0], published.get(benchmarks[0].name, {}).get("HIPPIE")
    headline = Headline(METRIC, KERNEL_CLASSIFIER, baselines, first.name, len(first.split(first.folds[0])[0]), number)
    notes = [*NOTES, *shuffled_notes(scores, probabilities)]
    folder.write_report(scores, "Cell types of sorted units", INTRODUCTION, report, figures, notes, headline)


if __name__ == "__main__":
    main("hippie_probe", __doc__, PRESETS, run)
