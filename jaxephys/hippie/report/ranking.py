"""Scores, ranking tables and stored predictions of the models and baselines of a benchmark of units."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from jaxephys.evaluation.comparison import score_rows
from jaxephys.evaluation.intervals import block_bootstrap, corrected_interval, corrected_test, mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.hippie.benchmark import SHUFFLED, Benchmark, FoldProbabilities
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.score_table import seed_means
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd
from jaxephys.schemas.storage import write_npz

METRIC = "balanced_accuracy"
REFERENCE_BASELINE = "svm"  # the baseline with which all models are compared
BOOTSTRAP_SAMPLES = 500
ACCURACY, INTERVAL = "balanced accuracy", "95 % interval"  # column headers
PUBLISHED_METHODS = {  # beginning of the method's name in published_scores.csv: name in reports
    "hippie": "HIPPIE",
    "nemo": "NEMO",
    "physmap": "PhysMAP",
    "vae": "VAE",
    "wf-rf": "waveform forest",
    "pca_wf": "PCA of waveforms",
    "pca_isi": "PCA of intervals",
    "pca_acg": "PCA of autocorrelograms",
}


def score_all(experiment: str, probabilities: Mapping[Benchmark, Mapping[str, FoldProbabilities]]) -> list[Score]:
    """Return the classification metrics of every model, seed and fold of every benchmark.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    probabilities : mapping of Benchmark to mapping of str to FoldProbabilities
        Probabilities by benchmark and model.

    Returns
    -------
    list of Score
        Scores of the test rows.
    """
    scores = []
    for benchmark, by_model in probabilities.items():
        for model, by_fold in by_model.items():
            padded_length = max(map(len, by_fold.values()))
            for (seed, fold), probability in by_fold.items():
                codes = benchmark.codes[benchmark.split(fold)[1]]
                selected = np.ones(len(codes), bool)
                values = score_rows(codes, probability, selected, padded_length, benchmark.classes)
                run = (experiment, model, benchmark.name, benchmark.name, seed, fold, "test")
                scores += [Score(*run, metric, value, len(codes)) for metric, value in values.items()]
    return scores


def ranking_table(
    scores: Sequence[Score], benchmark: Benchmark, reference: str, published: Mapping[str, str] | None = None
) -> Table:
    """Tabulate the balanced accuracy of all models of a benchmark.

    Seeds of one fold share their test rows. They are averaged first, so that intervals are based on as many values as there are folds
    and no seed counts as independent evidence.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all benchmarks.
    benchmark : Benchmark
        The benchmark.
    reference : str
        Model to which the others are compared.
    published : mapping of str to str, optional
        Published scores by method, as text.

    Returns
    -------
    Table
        One row per model: mean and sd over seeds, corrected 95 % interval of the mean over folds, difference from ``reference``.
    """
    runs: dict[str, dict[tuple[int, int], float]] = {}
    for score in scores:
        if score.test_on == benchmark.name and score.metric == METRIC:
            runs.setdefault(score.variant, {})[score.seed, score.fold] = score.value
    n_test = len(benchmark.table) / len(benchmark.folds)
    sizes = (len(benchmark.table) - n_test, n_test)
    by_fold = {
        model: seed_means({(fold, seed): value for (seed, fold), value in values.items()})
        for model, values in runs.items()
    }
    best = max(round(float(np.mean(list(values.values()))), 3) for values in by_fold.values())
    rows = []
    for model, values in by_fold.items():
        interval = corrected_interval(list(values.values()), *sizes)
        accuracy = _mean_sd(interval.estimate, list(seed_means(runs[model]).values()))
        difference = "reference"
        if model != reference:
            test = corrected_test(list(values.values()), list(by_fold[reference].values()), *sizes)
            difference = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
        cell = Cell(accuracy, round(interval.estimate, 3) == best)
        rows.append([Cell(model), cell, Cell(_interval(interval.low, interval.high)), Cell(difference)])
    headers = ["model", ACCURACY, INTERVAL, f"difference from {reference}, {INTERVAL}"]
    return Table(_with_published(headers, rows, published or {}), list(RANKING_NOTES))


RANKING_NOTES = (
    "Mean ± sd over seeds, for models with random numbers; the value of a seed is the mean over its folds. Bold: the best mean.",
    "Intervals: corrected resampled t test (Nadeau and Bengio 2003) over the folds, after averaging over seeds.",
)


def bootstrap_table(
    benchmark: Benchmark, probabilities: Mapping[str, FoldProbabilities], published: Mapping[str, str] | None = None
) -> Table:
    """Tabulate the balanced accuracy of all models of a benchmark with a single fold, with intervals over the tested units.

    Parameters
    ----------
    benchmark : Benchmark
        A benchmark with the fold 0 only.
    probabilities : mapping of str to FoldProbabilities
        Probabilities by model.
    published : mapping of str to str, optional
        Published scores by method, as text.

    Returns
    -------
    Table
        One row per model: mean and sd over seeds, bootstrap 95 % interval over units.
    """
    codes = benchmark.codes[benchmark.split(0)[1]]
    means, rows = {}, []
    for model, by_fold in probabilities.items():
        predicted = [probability.argmax(axis=1) for probability in by_fold.values()]
        values = [balanced_accuracy_score(codes, column) for column in predicted]
        means[model] = float(np.mean(values))
        interval = block_bootstrap(_mean_recall, np.stack([codes, *predicted], axis=1), 1, BOOTSTRAP_SAMPLES)
        rows.append([Cell(model), Cell(_mean_sd(means[model], values)), Cell(_interval(interval.low, interval.high))])
    best = max(means.values())
    for row, mean in zip(rows, means.values(), strict=True):
        row[1] = Cell(row[1].text, mean == best)
    return Table(_with_published(["model", ACCURACY, INTERVAL], rows, published or {}, always=True), [])


def _mean_recall(columns: np.ndarray) -> float:
    """Return the balanced accuracy averaged over seeds. Columns are the true classes and the predictions of each seed."""
    correct = columns[:, 1:] == columns[:, :1]
    return float(np.mean([correct[columns[:, 0] == code].mean() for code in np.unique(columns[:, 0])]))


def _with_published(
    headers: Sequence[str], rows: Sequence[Sequence[Cell]], published: Mapping[str, str], *, always: bool = False
) -> dict[str, list[Cell]]:
    """Return the columns of a table with one more row for each published score."""
    columns = {header: [row[index] for row in rows] for index, header in enumerate(headers)}
    if not published and not always:
        return columns
    columns["published"] = [Cell(EMPTY) for _ in rows]
    for method, text in published.items():
        for header, column in columns.items():
            cells = {headers[0]: f"{method}, published", "published": text}
            column.append(Cell(cells.get(header, EMPTY)))
    return columns


def _mean_sd(mean: float, values: Sequence[float]) -> str:
    return format_mean_sd(mean, mean_sd(values).sd if len(values) > 1 else math.nan)


def _interval(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]"


def shuffled_notes(scores: Sequence[Score], benchmarks: Iterable[Benchmark]) -> list[str]:
    """Return the scores of models trained on shuffled labels, one sentence each.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    benchmarks : iterable of Benchmark
        Their benchmarks.

    Returns
    -------
    list of str
        Sentences.
    """
    notes = []
    for benchmark in benchmarks:
        values: dict[str, list[float]] = {}
        for score in scores:
            if score.test_on == benchmark.name and score.metric == METRIC and SHUFFLED in score.variant:
                values.setdefault(score.variant, []).append(score.value)
        chance = 1 / len(benchmark.classes)
        notes += [f"{benchmark.name}, {name}: {np.mean(v):.3f} (chance {chance:.3f})." for name, v in values.items()]
    return notes


def draw_ranking(folder: Path, scores: Sequence[Score], benchmark: Benchmark, baselines: Sequence[str]) -> Path:
    """Draw the balanced accuracy of all models of a benchmark as bars.

    Parameters
    ----------
    folder : Path
        Run folder.
    scores : sequence of Score
        Scores of all benchmarks.
    benchmark : Benchmark
        The benchmark.
    baselines : sequence of str
        Names of the models that are drawn as baselines.

    Returns
    -------
    Path
        The figure.
    """
    selected = [score for score in scores if score.test_on == benchmark.name]
    chance, name = {"chance": 1 / len(benchmark.classes)}, f"bars_{'_'.join(benchmark.datasets)}"
    return draw_bars(folder, selected, METRIC, chance, baselines=baselines, name=name)


def save_probabilities(folder: Path, probabilities: Mapping[Benchmark, Mapping[str, FoldProbabilities]]) -> None:
    """Write ``predictions.npz``.

    For each benchmark NAME, ``NAME/probability`` (model, seed, unit, class) holds the probabilities of each unit as a test unit, NaN
    where a model was not evaluated; ``NAME/arm`` the names of the models; ``NAME/unit``, ``NAME/fold`` and ``NAME/label`` the units,
    the fold that tests each and their classes; ``NAME/class`` the names of the classes.

    Parameters
    ----------
    folder : Path
        Folder of the file.
    probabilities : mapping of Benchmark to mapping of str to FoldProbabilities
        Probabilities by benchmark and model.
    """
    arrays = {}
    for benchmark, by_model in probabilities.items():
        n_seeds = 1 + max(seed for by_fold in by_model.values() for seed, _ in by_fold)
        shape = (len(by_model), n_seeds, len(benchmark.codes), len(benchmark.classes))
        stacked = np.full(shape, np.nan, np.float32)
        for index, by_fold in enumerate(by_model.values()):
            for (seed, fold), probability in by_fold.items():
                stacked[index, seed, benchmark.split(fold)[1]] = probability
        facts = {
            "arm": list(by_model),
            "unit": benchmark.table.unit,
            "fold": benchmark.fold,
            "class": benchmark.classes,
            "label": benchmark.codes,
            "probability": stacked,
        }
        arrays |= {f"{benchmark.name}/{name}": np.asarray(values) for name, values in facts.items()}
    write_npz(folder / "predictions.npz", arrays)


def read_published_scores(path: Path) -> dict[str, dict[str, str]]:
    """Read published balanced accuracies.

    Parameters
    ----------
    path : Path
        CSV file with the columns ``method``, ``dataset``, ``fold``, ``balanced_accuracy``.

    Returns
    -------
    dict of dict of str
        Mean and sd over folds as text, by data set and method; empty if there is no file.
    """
    if not path.exists():
        return {}
    values: dict[tuple[str, str], list[float]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            methods = [name for prefix, name in PUBLISHED_METHODS.items() if row["method"].startswith(prefix)]
            if methods:
                values.setdefault((row["dataset"], methods[0]), []).append(float(row["balanced_accuracy"]))
    published: dict[str, dict[str, str]] = {}
    for (dataset, method), scores in values.items():
        published.setdefault(dataset, {})[method] = _mean_sd(float(np.mean(scores)), scores)
    return published
