"""Reports of the experiments: scores, ranking tables and predictions of the models of a benchmark of units; scores of clusters."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score

from jaxephys.evaluation.comparison import score_rows
from jaxephys.evaluation.intervals import Interval, block_bootstrap, corrected_interval, corrected_test, mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.hippie.benchmark import EMBEDDING_NAMES, KERNEL_CLASSIFIER, SHUFFLED, Benchmark, FoldProbabilities
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.grid import TrainedGrid
from jaxephys.hippie.kernel_choice import CHOSEN_KERNEL
from jaxephys.hippie.protocol import EmbeddingSettings, NetworkSettings, NetworkSize
from jaxephys.hippie.published_values import PUBLISHED_ACCURACY, PUBLISHED_SWEEP, QUESTIONS
from jaxephys.reporting.bars import BarPanel, draw_bar_panels
from jaxephys.reporting.headline import Headline, SummaryRow
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.plots import draw_curves
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import group_scores, seed_means
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd, model_table
from jaxephys.schemas.storage import write_npz
from jaxephys.schemas.unit_table import UnitTable

T = TypeVar("T")
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

BENCHMARK_NOTES = (  # of published scores and of our classifiers
    "Published scores of HIPPIE and VAE are of the same folds; PhysMAP, NEMO and, on Hull, the waveform forest were tested on other "
    "folds, and Watson on a copy of 236 instead of 221 units. Mean ± sd over folds, with test units used in training.",
    "The published HIPPIE score on S1, whose classes are type x layer, is explained by the layer as an input.",
    "Views and widths of the kernel on feature views were once chosen by inner folds of the training parts of Hull, Lisberger, A1, S1 and "
    f"Watson: its scores are somewhat optimistic. The {CHOSEN_KERNEL} is free of this: for each data set, views and width are those with the "
    "best leave-one-out accuracy on the training units of the others that share no recording with it. Settings of the baselines were fixed "
    "beforehand, and the weight of the contrastive loss by validation rows of A1, S1 and Watson.",
)

TRANSFER_NOTES = (
    "Mean ± sd over seeds, for models with random numbers. Intervals: 95 % bootstrap intervals over the tested units. They do not "
    "describe the variation between laboratories, because there is one pair.",
    "Ten choices of the blocks of the kernel classifier were once evaluated on these targets; none was adopted because of it.",
    "Published numbers are of single runs.",
)


def main_model(settings: EmbeddingSettings, models: Collection[str] = ()) -> str:
    """Return the model that the summary of a benchmark describes.

    Parameters
    ----------
    settings : EmbeddingSettings
        Settings of the networks.
    models : collection of str
        Models of the benchmark. The kernel classifier that other data sets chose is preferred to the one with fixed views.

    Returns
    -------
    str
        The kernel classifier, or nearest neighbors on the embedding where our objective is not trained.
    """
    first = settings.objectives[0]
    if first != "ours" and settings.width:
        return f"knn on {EMBEDDING_NAMES[first]}"
    return CHOSEN_KERNEL if CHOSEN_KERNEL in models else KERNEL_CLASSIFIER


def benchmark_headline(
    benchmark: Benchmark, model: str, baselines: Sequence[str], published: Mapping[str, Mapping[str, str]]
) -> Headline:
    """Return the comparison of a model with the best baseline on one benchmark, for the summary of a report.

    Parameters
    ----------
    benchmark : Benchmark
        The benchmark.
    model : str
        Name of the model.
    baselines : sequence of str
        Names of the baselines.
    published : mapping of str to mapping of str to str
        Published scores by benchmark and method. That of HIPPIE is quoted.

    Returns
    -------
    Headline
        The comparison in balanced accuracy, with an interval over the folds.
    """
    n_train = len(benchmark.split(benchmark.folds[0])[0])
    quoted = published.get(benchmark.name, {})
    number = next((value for method, value in quoted.items() if method.startswith("HIPPIE")), None)
    return Headline(METRIC, model, baselines, benchmark.name, n_train, number, benchmark.name)


def benchmark_headlines(
    settings: EmbeddingSettings,
    models: Mapping[Benchmark, Collection[str]],
    baselines: Sequence[str],
    published: Mapping[str, Mapping[str, str]],
) -> list[Headline]:
    """Return the comparison of the main model with the best baseline on every benchmark.

    Parameters
    ----------
    settings : EmbeddingSettings
        Settings of the networks.
    models : mapping of Benchmark to collection of str
        Names of the models of each benchmark.
    baselines : sequence of str
        Names of the baselines.
    published : mapping of str to mapping of str to str
        Published scores by benchmark and method.

    Returns
    -------
    list of Headline
        See `main_model` and `benchmark_headline`.
    """
    main = {item: main_model(settings, names) for item, names in models.items()}
    # Networks are not evaluated in the folds by subject or session.
    return [benchmark_headline(item, main[item], baselines, published) for item in models if main[item] in models[item]]


def ablation_headlines(variants: Sequence[str], metric: str) -> list[Headline]:
    """Return the comparisons of an ablation or of a sweep, for the summary of a report.

    Parameters
    ----------
    variants : sequence of str
        Names of the variants.
    metric : str
        Metric, such as "balanced_accuracy".

    Returns
    -------
    list of Headline
        Our objective ("masking", or the last variant without it) with the first variant; in a sweep one row for each published value,
        or the first variant.
    """
    published = {
        f"z 30, beta {beta}": text for beta, text in PUBLISHED_SWEEP.items() if f"z 30, beta {beta}" in variants
    }
    if published:
        return [Headline(metric, name, [], published=f"{text} (Hausser)") for name, text in published.items()]
    if "published" not in variants:
        return [Headline(metric, variants[0], [])]
    model = "masking" if "masking" in variants else variants[-1]
    return [Headline(metric, model, ["published"] if model != "published" else [])]


def draw_ablation(folder: Path, scores: Sequence[Score], trained: TrainedGrid, note: str = "") -> dict[str, Path]:
    """Draw the test scores of the variants of an ablation, and their validation scores during training.

    Parameters
    ----------
    folder : Path
        Run folder.
    scores : sequence of Score
        Scores of all variants.
    trained : TrainedGrid
        The networks, with the factor variant.
    note : str
        Sentence below the panels, such as ``NetworkSize.network_note``.

    Returns
    -------
    dict of str to Path
        Figures by caption.
    """
    present = {score.metric for score in scores}
    metrics = [metric for metric in ("r2_wave", "r2_isi", "r2_acg", "active", METRIC) if metric in present]
    panels = [BarPanel(metric_label(metric), list(scores), metric) for metric in metrics]
    result = trained.result
    curves = result.history, result.grid.column("variant"), ["valid_r2", "valid_active"]
    return {
        "Scores of each variant on test units": draw_bar_panels(folder, panels, name="variants", note=note),
        "Explained variance and active dimensions during training": draw_curves(folder, *curves, note),
    }


def name_network(items: Mapping[str, T], settings: NetworkSize) -> dict[str, T]:
    """Add the network to the headings of tables or the captions of figures.

    Parameters
    ----------
    items : mapping of str to object
        Tables or figures.
    settings : NetworkSize
        Settings of the networks. With a width of 0, headings are unchanged.

    Returns
    -------
    dict of str to object
        The same items with headings such as ``"hull (ResNet-18 of width 64, latent 30)"``.
    """
    suffix = f" ({settings.network_name})" if settings.width else ""
    return {f"{heading}{suffix}": item for heading, item in items.items()}


def protocol_notes(settings: EmbeddingSettings) -> list[str]:
    """Describe the networks of a benchmark and how they were trained.

    Parameters
    ----------
    settings : EmbeddingSettings
        Settings of the networks.

    Returns
    -------
    list of str
        Sentences; none if no network was trained.
    """
    if not settings.width:
        return []
    seeds = f"{settings.seeds} seed{'s' * (settings.seeds != 1)}"
    described = f"{settings.network_note} {seeds}. Training: {settings.protocol_name}."
    used = "The networks were trained on the curves of test units, without their labels, as in the published protocol: their scores are "
    used += "not those of new units."
    return [described, used if settings.uses_test_curves else "No test unit was used in any training."]


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
    runs = _accuracies(scores, benchmark)
    n_test = len(benchmark.table) / len(benchmark.folds)
    sizes = (len(benchmark.table) - n_test, n_test)
    by_fold = {
        model: list(seed_means({(fold, seed): value for (seed, fold), value in values.items()}).values())
        for model, values in runs.items()
    }
    intervals = {model: corrected_interval(values, *sizes) for model, values in by_fold.items()}
    means = {model: interval.estimate for model, interval in intervals.items()}
    columns = _columns(means, {model: seed_means(values).values() for model, values in runs.items()}, intervals)
    differences = []
    for model, values in by_fold.items():
        test = corrected_test(values, by_fold[reference], *sizes)
        text = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
        differences.append(Cell("reference" if model == reference else text))
    columns[f"difference from {reference}, {INTERVAL}"] = differences
    return Table(_with_published(columns, published or {}), list(RANKING_NOTES))


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
    values, intervals = {}, {}
    for model, by_fold in probabilities.items():
        predicted = [probability.argmax(axis=1) for probability in by_fold.values()]
        values[model] = [balanced_accuracy_score(codes, column) for column in predicted]
        columns = np.stack([codes, *predicted], axis=1)
        intervals[model] = block_bootstrap(_mean_recall, columns, 1, BOOTSTRAP_SAMPLES)
    means = {model: float(np.mean(column)) for model, column in values.items()}
    return Table(_with_published(_columns(means, values, intervals), published or {}), [])


def bootstrap_differences(
    probabilities: Mapping[Benchmark, Mapping[str, FoldProbabilities]], headlines: Sequence[Headline]
) -> dict[tuple[str, str, str, str], Interval]:
    """Compute 95 % intervals of the differences of the summary over the tested units, for benchmarks with a single fold.

    Parameters
    ----------
    probabilities : mapping of Benchmark to mapping of str to FoldProbabilities
        Probabilities by benchmark and model.
    headlines : sequence of Headline
        Comparisons of a model with baselines on each benchmark.

    Returns
    -------
    dict of (train_on, test_on, "model - baseline", metric) to Interval
        Units are resampled; a unit keeps its predictions by all seeds of both models.
    """
    intervals = {}
    for headline in headlines:
        benchmark = next(one for one in probabilities if one.name == headline.test_on)
        codes = benchmark.codes[benchmark.split(0)[1]]
        predicted = {
            model: np.stack([probability.argmax(axis=1) for probability in probabilities[benchmark][model].values()], 1)
            for model in (headline.model, *headline.baselines)
        }
        ours = predicted[headline.model]
        for baseline in headline.baselines:
            columns = np.concatenate([codes[:, None], ours, predicted[baseline]], axis=1)
            difference = partial(_recall_difference, n_first=ours.shape[1])
            key = benchmark.name, benchmark.name, f"{headline.model} - {baseline}", METRIC
            intervals[key] = block_bootstrap(difference, columns, 1, BOOTSTRAP_SAMPLES)
    return intervals


def _recall_difference(columns: np.ndarray, n_first: int) -> float:
    """The balanced accuracy of the first predictions minus that of the others. The first column has the true classes."""
    first, others = columns[:, : n_first + 1], np.delete(columns, np.s_[1 : n_first + 1], axis=1)
    return _mean_recall(first) - _mean_recall(others)


def _mean_recall(columns: np.ndarray) -> float:
    """Return the balanced accuracy averaged over seeds. Columns are the true classes and the predictions of each seed."""
    correct = columns[:, 1:] == columns[:, :1]
    return float(np.mean([correct[columns[:, 0] == code].mean() for code in np.unique(columns[:, 0])]))


def _accuracies(scores: Iterable[Score], benchmark: Benchmark) -> dict[str, dict[tuple[int, int], float]]:
    """Return the balanced accuracy of every model of a benchmark by seed and fold."""
    selected = (score for score in scores if score.test_on == benchmark.name and score.metric == METRIC)
    return {model: values for (model,), values in group_scores(selected, ("variant",), "test").items()}


def _columns(
    means: Mapping[str, float], seeds: Mapping[str, Collection[float]], intervals: Mapping[str, Interval]
) -> dict[str, list[Cell]]:
    """Return the columns of a table with one row per model: name, mean and sd over seeds, interval. The best mean is bold."""
    best = max(round(mean, 3) for mean in means.values())
    return {
        "model": [Cell(model) for model in means],
        ACCURACY: [Cell(_mean_sd(mean, seeds[model]), round(mean, 3) == best) for model, mean in means.items()],
        INTERVAL: [Cell(f"[{intervals[model].low:.3f}, {intervals[model].high:.3f}]") for model in means],
    }


def _with_published(columns: dict[str, list[Cell]], published: Mapping[str, str]) -> dict[str, list[Cell]]:
    """Return the columns of a table with one more row for each published score."""
    if published:
        columns["published"] = [Cell(EMPTY)] * len(columns["model"])
    for method, text in published.items():
        cells = {"model": f"{method}, published", "published": text}
        for header, column in columns.items():
            column.append(Cell(cells.get(header, EMPTY)))
    return columns


def _mean_sd(mean: float, values: Collection[float]) -> str:
    return format_mean_sd(mean, mean_sd([*values]).sd if len(values) > 1 else math.nan)


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
        chance = 1 / len(benchmark.classes)
        for model, values in _accuracies(scores, benchmark).items():
            if SHUFFLED in model:
                accuracy = np.mean([*values.values()])
                notes.append(f"{benchmark.name}, {model}: {accuracy:.3f} (chance {chance:.3f}).")
    return notes


def draw_rankings(
    folder: Path,
    scores: Sequence[Score],
    benchmarks: Sequence[Benchmark],
    baselines: Sequence[str],
    published: Mapping[str, Mapping[str, str]],
    note: str = "",
) -> Path:
    """Draw the balanced accuracy of all models on every benchmark, one small panel each.

    Parameters
    ----------
    folder : Path
        Run folder.
    scores : sequence of Score
        Scores of all benchmarks.
    benchmarks : sequence of Benchmark
        The benchmarks.
    baselines : sequence of str
        Names of the models that are drawn as baselines.
    published : mapping of str to mapping of str to str
        Published scores by benchmark and method. That of HIPPIE is drawn as a line.
    note : str
        Sentence below the panels, such as ``NetworkSize.network_note``.

    Returns
    -------
    Path
        The figure.
    """
    panels, models = [], dict.fromkeys(score.variant for score in scores)
    for benchmark in benchmarks:
        methods = published.get(benchmark.name, {})
        quoted = {method: text for method, text in methods.items() if method.startswith("HIPPIE")}
        lines = {f"published {method}": float(text.split()[0]) for method, text in quoted.items()}
        lines["chance"] = 1 / len(benchmark.classes)
        selected = [score for score in scores if score.test_on == benchmark.name]
        panels.append(BarPanel(benchmark.name, selected, METRIC, lines))
    groups = {"kernel classifier": [model for model in models if model.startswith(KERNEL_CLASSIFIER)]}
    n_columns = 2 if len(panels) in (2, 4) else 3
    return draw_bar_panels(
        folder, panels, baselines=baselines, groups=groups, n_columns=n_columns, name="rankings", note=note
    )


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
        Mean and sd over folds as text, by data set and method; without the file the values of
        `jaxephys.hippie.published_values`.
    """
    if not path.exists():
        return {name: dict(methods) for name, methods in PUBLISHED_ACCURACY.items()}
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


def write_pretraining_report(
    folder: RunFolder, settings: NetworkSettings, tables: Mapping[str, UnitTable], trained: TrainedGrid
) -> None:
    """Save networks that were trained on all data sets, and report their reconstruction of the validation units.

    Parameters
    ----------
    folder : RunFolder
        Folder of the run. The networks are saved to its subfolder ``model``.
    settings : NetworkSettings
        Settings of the networks.
    tables : mapping of str to UnitTable
        Units by data set.
    trained : TrainedGrid
        The networks, with the factor seed.
    """
    validated = replace(trained, splits=[split._replace(test=split.validation) for split in trained.splits])
    scores = [
        Score(
            "hippie_pretrain", "pretrained", "all", "all", seed, 0, "validation", metric, float(value), len(split.test)
        )
        for metric, values in validated.test_scores().items()
        for seed, split, value in zip(trained.result.grid.column("seed"), validated.splits, values, strict=True)
        if metric != "loss" and np.isfinite(value)
    ]
    if not folder.is_first_host:
        return
    trained.estimator(range(len(trained.splits))).save(folder.path / "model", overwrite=True)
    metrics = sorted({score.metric for score in scores})
    counts = ", ".join(f"{name} ({len(table)})" for name, table in tables.items())
    report = {"Validation units of all data sets": model_table(scores, metrics, split="validation", ranked=False)}
    note = f"Data sets and their units: {counts}. Validation units selected the epoch: no unit is left for a test."
    introduction = "Networks trained on all data sets without labels: explained variance of each curve, and share of active latent dimensions."
    r2 = [metric for metric in metrics if metric.startswith("r2_")]
    headlines = [Headline(metric, "pretrained", [], split="validation", label="validation units") for metric in r2]
    shown, question = name_network(report, settings), QUESTIONS["hippie_pretrain"]
    folder.write_report(scores, "Pretraining", introduction, shown, {}, [note], question, headlines)


def score_clusters(model: Hippie, name: str, units: UnitTable, cluster: np.ndarray) -> list[Score]:
    """Score the reconstruction of the units of a data set, and the agreement of their clusters with their labels.

    Parameters
    ----------
    model : Hippie
        A fitted model.
    name : str
        Name of the data set.
    units : UnitTable of n_units
        Its units.
    cluster : int array (n_units,)
        Cluster of each unit; -1 for none.

    Returns
    -------
    list of Score
        Finite scores of the first network (see `Hippie.score_table`), and ``rand``, the adjusted Rand index of units that have a label
        and a cluster.
    """
    row = model.score_table(units)[0]
    values = {metric: row[metric] for metric in row if metric not in ("network", "n", "loss")}
    both = (units.label != "") & (cluster >= 0)
    if both.any() and len(units.classes) > 1:
        values["rand"] = float(adjusted_rand_score(units.label[both], cluster[both]))
    key = ("hippie_embed", name, "all", name, 0, 0, "all")
    return [Score(*key, metric, value, len(units)) for metric, value in values.items() if np.isfinite(value)]


def embedding_rows(scores: Iterable[Score]) -> list[SummaryRow]:
    """Return the rows of the summary of embedded data sets: agreement of clusters with labels, and explained variance.

    Parameters
    ----------
    scores : iterable of Score
        Scores of `score_clusters`.

    Returns
    -------
    list of SummaryRow
        One row per data set and score.
    """
    models = {"rand": "clusters", "r2_wave": "network", "r2_isi": "network", "r2_acg": "network"}
    names = {"rand": "adjusted Rand index", "r2_wave": "explained variance, waveform"}
    names |= {"r2_isi": "explained variance, inter-spike intervals", "r2_acg": "explained variance, autocorrelogram"}
    rows = [score for score in scores if score.metric in models]
    rows.sort(key=lambda score: score.metric != "rand")  # stable: data sets stay in their order
    return [
        SummaryRow(
            score.test_on,
            names[score.metric],
            models[score.metric],
            f"{score.value:.3f}",
            f"n = {score.n:,} units",
            text=f"{names[score.metric]} on {score.test_on}: {score.value:.3f}.".capitalize(),
        )
        for score in rows
    ]


def cluster_names(cluster: np.ndarray) -> np.ndarray:
    """Return names of clusters whose alphabetical order is that of their numbers.

    Parameters
    ----------
    cluster : int array (n_units,)
        Cluster of each unit; -1 for none.

    Returns
    -------
    array of str (n_units,)
        Numbers with leading zeros; "none", which is sorted last.

    Examples
    --------
    >>> cluster_names(np.array([10, -1, 2])).tolist()
    ['10', 'none', '02']
    """
    digits = len(str(cluster.max()))
    return np.where(cluster < 0, "none", np.char.zfill(cluster.astype(str), digits))
