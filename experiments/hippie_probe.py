"""Cell-type classification of sorted units in the published folds: embeddings of HIPPIE, our classifiers and baselines.

Reproduces the classification tables of Gonzalez-Ferrer et al. (2025): balanced accuracy in the published folds (folds.csv) of Hull,
Lisberger, A1, S1, Watson and Hausser. FOLDER has one folder per data set (CSV files, or units.npz of data_prep), or is itself such a folder.

    python -m experiments.hippie_probe --data FOLDER             both objectives, no test unit in any training
    python -m experiments.hippie_probe published --data FOLDER   the published protocol: the curves of test units are trained on
    python -m experiments.hippie_probe hold_out --data FOLDER    areas of Allen and IBL by networks of the other data sets
    python -m experiments.hippie_probe generative --data FOLDER  the published generative model and its logistic regression
    python -m experiments.hippie_probe dense --data FOLDER       the default protocol with our dense networks
    python -m experiments.hippie_probe heads --data FOLDER       without networks: kernel classifier and baselines
    python -m experiments.hippie_probe smoke --data FOLDER       one seed of small networks

The presets train the ResNet-18 of width 64, ten latent dimensions per modality and ten seeds, but dense, resnet and smoke. On two CPU cores
networks of seven data sets need 45 minutes (dense) to 5 days (default), on a large GPU 2 to 4 hours (python -m jaxephys plan hippie_probe).

Published balanced accuracy (published_scores.csv), mean and sd over folds, with the curves of test units in training:

    ==================  ============  ============  ============  ============  ============
    method              Hull          Lisberger     A1            S1            Watson
    ==================  ============  ============  ============  ============  ============
    HIPPIE, neighbors   0.949, 0.043  0.678, 0.030  0.569, 0.073  0.914, 0.057  0.770, 0.063
    VAE                 0.927, 0.068  0.449, 0.026  0.588, 0.038  0.581, 0.072
    PhysMAP             0.969, 0.034  0.511, 0.037  0.657, 0.088  0.689, 0.055  0.684, 0.068
    NEMO                0.935, 0.077  0.654, 0.035                              0.805, 0.067
    ==================  ============  ============  ============  ============  ============

Others: Hausser 0.682 (104 units of five classes), Calvigioni 0.718, Ramachandran 0.690, CellExplorer 0.534; areas of Allen 0.303 and of
IBL 0.287; logistic regression on the generative model 0.639 (Hausser) and 0.631 (Lisberger).

Expected (Hausser by waveforms alone); rows of embeddings are of the preset dense, five seeds. The ResNets need a GPU.

    =================================  =====  =========  =====  =====  ======  =======
    model                              Hull   Lisberger  A1     S1     Watson  Hausser
    =================================  =====  =========  =====  =====  ======  =======
    kernel chosen on other data sets   0.969  0.852      0.748  0.796  0.774   0.692
    kernel on feature views            0.986  0.853      0.762  0.791  0.781   0.717
    balanced SVM                       0.962  0.827      0.711  0.753  0.778   0.639
    logistic regression                0.976  0.822      0.611  0.743  0.770   0.552
    neighbors, our embedding, dense    0.972  0.849      0.692  0.704  0.741   0.631
    neighbors, curves                  0.965  0.717      0.633  0.697  0.713   0.562
    neighbors, published, dense        0.878  0.638      0.472  0.582  0.678   0.543
    =================================  =====  =========  =====  =====  ======  =======
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.units.registry import find_dataset, held_out
from experiments.command_line import main
from jaxephys.hippie import protocol
from jaxephys.hippie.benchmark import KERNEL_CLASSIFIER, Benchmark, evaluate_embeddings, evaluate_without_networks
from jaxephys.hippie.datasets import read_tables
from jaxephys.hippie.embedding_grid import make_embedding_grids
from jaxephys.hippie.kernel_choice import CHOSEN_KERNEL, KernelSelection
from jaxephys.hippie.probes import BASELINES, UMAP_BASELINE
from jaxephys.hippie.published_values import QUESTIONS
from jaxephys.hippie.report import (
    BENCHMARK_NOTES,
    REFERENCE_BASELINE,
    benchmark_headlines,
    draw_rankings,
    name_network,
    protocol_notes,
    ranking_table,
    read_published_scores,
    save_probabilities,
    score_all,
    shuffled_notes,
)
from jaxephys.reporting.run_folder import RunFolder


@dataclass(frozen=True)
class Probe(protocol.BenchmarkSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set, or a table of units."""
    datasets: tuple[str, ...] = ()
    """Data sets to score; by default all. The others in the folder are used for pretraining."""
    umap: bool = True
    """Add the baseline UMAP + k nearest neighbors (needs the extra umap)."""


PRESETS = {
    "default": Probe(),
    "published": Probe(**protocol.PUBLISHED_BENCHMARK),
    "hold_out": Probe(**protocol.HOLD_OUT_BENCHMARK, datasets=("allen", "ibl"), umap=False),
    "generative": Probe(**protocol.GENERATIVE_BENCHMARK),
    "dense": Probe(**protocol.DENSE),
    "heads": Probe(width=0),
    "resnet": Probe(width=8, latent=30, seeds=1),
    "smoke": Probe(trunk="dense", seeds=1, umap=False, width=4, latent=6, pretraining=1, max_epochs=2),
}

INTRODUCTION = f"""Balanced accuracy on test units; no classifier was fitted on them, nor a scale. "{CHOSEN_KERNEL}" is our classifier; the
views and the width of "{KERNEL_CLASSIFIER}" are fixed. Baselines use the preprocessed curves side by side; all models are compared with
"{REFERENCE_BASELINE}". Models "on our", "on published" and "on generative embedding" are probes on networks of that objective."""


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
    folds = {name: getattr(settings, name) for name in ("fold_seed", "min_units", "max_units")}
    benchmarks = [Benchmark.from_table(name, tables[name], **folds) for name in settings.datasets or tables]
    grids = make_embedding_grids(benchmarks, tables, find_dataset, held_out, settings)
    data = {name: [table.raw, table.label] for name, table in tables.items()}
    folder.announce_run(sum(grid.n_runs for grid in grids), **data)
    baselines = (*BASELINES, UMAP_BASELINE) if settings.umap else BASELINES
    grouped = [benchmark.grouped_by(column) for benchmark in benchmarks for column in ("subject", "session")]
    selection, probabilities = KernelSelection(tables, find_dataset, held_out), {}
    for benchmark in [*benchmarks, *filter(None, grouped)]:
        probabilities[benchmark] = selection.evaluate(benchmark)
        probabilities[benchmark] |= evaluate_without_networks(benchmark, settings.seeds, baselines)
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
    drawn = draw_rankings(folder.path, scores, benchmarks, baselines, published, settings.network_note)
    figures = {"Balanced accuracy of all models on each data set": drawn}
    headlines = benchmark_headlines(settings, probabilities, baselines, published)
    notes = [*protocol_notes(settings), *BENCHMARK_NOTES, *shuffled_notes(scores, probabilities)]
    notes += [selection.describe(benchmark) for benchmark in benchmarks]
    report, figures = name_network(report, settings), name_network(figures, settings)
    question, title = QUESTIONS["hippie_probe"], "Cell types of sorted units"
    folder.write_report(scores, title, INTRODUCTION, report, figures, notes, question, headlines)


if __name__ == "__main__":
    main("hippie_probe", __doc__, PRESETS, run)
