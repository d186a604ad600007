"""Cell-type classification across laboratories: train on the units of one data set, test on those of another.

Reproduces the cross-dataset table of Gonzalez-Ferrer et al. (2025): Hull (mouse, Neuropixels) and Lisberger (macaque, s-Probes), in
both directions, for the classes that both have. By default neither a label nor a curve of the target is used, not even for a scale.

    python -m experiments.hippie_transfer --data FOLDER             both objectives, no unit of the target in any training
    python -m experiments.hippie_transfer published --data FOLDER   the published protocol: pretraining on the target as well
    python -m experiments.hippie_transfer dense --data FOLDER       the default protocol with our dense networks
    python -m experiments.hippie_transfer heads --data FOLDER       without networks: a minute
    python -m experiments.hippie_transfer smoke --data FOLDER       one seed of small networks

FOLDER as in hippie_probe, with the two data sets in it. hull_counts is the copy of Hull that was processed like Lisberger. The presets default
and published train the ResNet-18 of width 64 with ten latent dimensions per modality and ten seeds. The networks need, on two CPU cores (2 s a
step of 128 units), 14 minutes (dense), up to 30 hours (published) or 20 hours (default), and on a large GPU half an hour, as python -m
jaxephys plan predicts.

The kernel classifier is scored with views that other data sets choose and with fixed ones. Ten choices of blocks, the fixed one among them,
were once evaluated on this task, and nothing was changed because of it. Epochs and the weight of the contrastive loss are those of
hippie_probe, chosen on validation rows of other data sets.

Balanced accuracy, published (single runs; "pretrained": on all data sets, the target included) and expected (networks: dense, five seeds).

    ======================================  =================  =================
    model                                   Lisberger to Hull  Hull to Lisberger
    ======================================  =================  =================
    published HIPPIE, pretrained / not      0.646 / 0.404      0.371 / 0.319
    published NEMO, pretrained / not        0.721 / 0.538      - / 0.375
    published VAE, pretrained / not         0.602 / 0.363      0.593 / 0.512
    published PhysMAP                       0.595              0.445
    kernel chosen on other data sets        0.915              0.656
    kernel on feature views                 0.934              0.654
    logistic regression                     0.900              0.643
    SVM, intervals and ACG only             0.874              0.654
    nearest neighbors                       0.818              0.560
    neighbors, our embedding, dense         0.880              0.622
    neighbors, published embedding, dense   0.632              0.451
    linear probe, our embedding, dense      0.909              0.648
    linear probe, published, dense          0.678              0.506
    kernel + embedding, dense               0.912              0.653
    ======================================  =================  =================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.units.registry import find_dataset, held_out
from experiments.command_line import main
from jaxephys.hippie.benchmark import (
    KERNEL_CLASSIFIER,
    evaluate_embeddings,
    evaluate_without_networks,
    timing_benchmark,
    transfer_benchmark,
)
from jaxephys.hippie.datasets import read_tables
from jaxephys.hippie.embedding_grid import make_embedding_grids
from jaxephys.hippie.kernel_choice import KernelSelection
from jaxephys.hippie.probes import BASELINES
from jaxephys.hippie.protocol import DENSE, TRANSFER_STAGES, EmbeddingSettings
from jaxephys.hippie.published_values import PUBLISHED_TRANSFER, QUESTIONS
from jaxephys.hippie.report import (
    TRANSFER_NOTES,
    benchmark_headlines,
    bootstrap_differences,
    bootstrap_table,
    draw_rankings,
    name_network,
    protocol_notes,
    save_probabilities,
    score_all,
)
from jaxephys.reporting.run_folder import RunFolder

MIN_UNITS = 10  # units of a class in each data set, as published: Hull has two Golgi cells


@dataclass(frozen=True)
class Transfer(EmbeddingSettings):
    """Settings of the experiment."""

    data: Path = Path("hippie")
    """Folder with one folder per data set."""
    pair: tuple[str, str] = ("lisberger", "hull_counts")
    """Two data sets; each is trained on in turn."""


PRESETS = {
    "default": Transfer(),
    "published": Transfer(**TRANSFER_STAGES),
    "dense": Transfer(**DENSE),
    "heads": Transfer(width=0),
    "resnet": Transfer(width=8, latent=30, seeds=1),
    "smoke": Transfer(trunk="dense", seeds=1, width=4, latent=6, pretraining=1, max_epochs=2),
}

INTRODUCTION = f"""Balanced accuracy on all units of the second data set, for the classes that both have. "{KERNEL_CLASSIFIER}" is our
classifier, chosen on other tasks; baselines use the preprocessed curves side by side; "timing" means intervals and autocorrelograms
without waveforms."""


def run(settings: Transfer, folder: RunFolder) -> None:
    """Evaluate all models in both directions and write the report.

    Parameters
    ----------
    settings : Transfer
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    tables = read_tables(settings.data, find_dataset, settings.pair)
    pairs = (settings.pair, settings.pair[::-1])
    benchmarks = [transfer_benchmark(tables, source, target, MIN_UNITS) for source, target in pairs]
    grids = make_embedding_grids(benchmarks, tables, find_dataset, held_out, settings)
    data = {name: [tables[name].raw, tables[name].label] for name in settings.pair}
    folder.announce_run(sum(grid.n_runs for grid in grids), **data)

    selection, probabilities = KernelSelection(tables, find_dataset, held_out), {}
    for benchmark in benchmarks:
        timing = evaluate_without_networks(timing_benchmark(benchmark), settings.seeds, shuffled=False)
        probabilities[benchmark] = selection.evaluate(benchmark) | evaluate_without_networks(benchmark, settings.seeds)
        probabilities[benchmark] |= {f"{name}, timing": by_fold for name, by_fold in timing.items()}
    for grid in grids:
        probabilities[grid.benchmark] |= evaluate_embeddings(grid.benchmark, grid.train(folder), settings.seeds)
    if not folder.is_first_host:
        return

    save_probabilities(folder.path, probabilities)
    scores = score_all("hippie_transfer", probabilities)
    baselines = [*BASELINES, *(f"{name}, timing" for name in BASELINES)]
    note = settings.network_note
    drawn = draw_rankings(folder.path, scores, benchmarks, baselines, PUBLISHED_TRANSFER, note)
    figures = {"Balanced accuracy of all models on each target": drawn}
    report = {
        benchmark.name: bootstrap_table(benchmark, probabilities[benchmark], PUBLISHED_TRANSFER.get(benchmark.name))
        for benchmark in benchmarks
    }
    report, figures = name_network(report, settings), name_network(figures, settings)
    headlines = benchmark_headlines(settings, probabilities, baselines, PUBLISHED_TRANSFER)
    notes, question = [*protocol_notes(settings), *TRANSFER_NOTES], QUESTIONS["hippie_transfer"]
    notes += [selection.describe(benchmark) for benchmark in benchmarks]
    title, intervals = "Transfer between laboratories", bootstrap_differences(probabilities, headlines)
    folder.write_report(scores, title, INTRODUCTION, report, figures, notes, question, headlines, intervals=intervals)


if __name__ == "__main__":
    main("hippie_transfer", __doc__, PRESETS, run)
