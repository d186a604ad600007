"""Tables and figures of the experiments that compare Patch-seq models on one table of cells.

Everything is computed from the scores, except the figures that need the probabilities of single cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxephys.evaluation.calibration import selective_curve
from jaxephys.evaluation.comparison import COVERAGE, ModelComparison
from jaxephys.evaluation.metrics import classification_scores, confusion
from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS
from jaxephys.patchseq.grid import ATTENTION_ENSEMBLE, ComparisonNetworks
from jaxephys.patchseq.published import COMPONENT_FOREST, Protocol
from jaxephys.patchseq.report.published import RULES, ablation_table, draw_ablation, network_table
from jaxephys.patchseq.task import ABLATION
from jaxephys.reporting.bars import draw_bars, draw_classes
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.maps import draw_attention, draw_confusion, draw_confusions
from jaxephys.reporting.plots import draw_selective
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Table, class_table, model_table

AVERAGE = "average ensemble"
ENSEMBLES = (AVERAGE, f"{AVERAGE} + offsets")
METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "ece", "brier")
ANSWERED_SHARES = np.linspace(0.1, 1.0, 37)  # shares of the cells at which the selective accuracy is drawn


def comparison_tables(
    networks: ComparisonNetworks, scores: Sequence[Score], baselines: Sequence[str], protocol: Protocol | None
) -> dict[str, Table]:
    """Return the tables of an experiment that compares all models on one table of cells.

    Parameters
    ----------
    networks : ComparisonNetworks
        The networks and the comparison of all models.
    scores : sequence of Score
        The scores of the comparison.
    baselines : sequence of str
        Names of the baselines; the best of them is the reference of the paired differences.
    protocol : Protocol or None
        The published numbers, quoted beside ours where single cells are held out; None where nothing comparable is published.

    Returns
    -------
    dict of str to Table
        For each kind of split all models; the classes of the average ensemble and of the best baseline; the ablation;
        uncertainty. Then all models on the test cells of each slice condition, where there are several, and what each network
        was trained with.
    """
    comparison, tables = networks.comparison, {}
    classes = comparison.classes
    heading = "Folds by" if any(key.fold for key in comparison.splits) else "Held out by"
    for kind in comparison.kinds:
        kind_scores, title = [score for score in scores if score.test_on == kind], f"{heading} {kind}"
        best, quoted = best_baseline(kind_scores, baselines), protocol if kind == "cell" else None
        texts, numbers = (quoted.quote(comparison.test_probability), quoted.table) if quoted else (None, None)
        n_train = mean_training_size(comparison, kind)
        models = model_table(kind_scores, METRICS, texts, reference=best, n_train=n_train)
        models.notes.append(f"{best} is the baseline with the best mean on these test cells.")
        uncertain = (AVERAGE, "tabular", ATTENTION_ENSEMBLE, best)
        tables |= {
            title: models,
            f"{title}: each class": class_table(kind_scores, classes, (AVERAGE, best)),
            f"{title}: the ablation": ablation_table(kind_scores, numbers),
            f"{title}: uncertainty": uncertainty_table(kind_scores, classes, uncertain),
        }
    return tables | condition_tables(comparison, scores) | {"Networks": network_table(networks.records)}


def comparison_headlines(
    comparison: ModelComparison, baselines: Sequence[str], protocol: Protocol | None
) -> list[Headline]:
    """Return the comparisons of the summary: the average ensemble and the ensemble of networks with the best baseline.

    Parameters
    ----------
    comparison : ModelComparison
        The comparison.
    baselines : sequence of str
        Names of the baselines.
    protocol : Protocol or None
        The published numbers, quoted where single cells are held out.

    Returns
    -------
    list of Headline
        For each kind of split one comparison of each ensemble.
    """
    headlines = []
    for kind in comparison.kinds:
        published = protocol.headline if protocol is not None and kind == "cell" else None
        for model in (AVERAGE, ATTENTION_ENSEMBLE):
            size, label = mean_training_size(comparison, kind), f"test cells held out by {kind}"
            if model in comparison.test_probability:
                headlines.append(Headline("macro_f1", model, baselines, kind, size, published, label))
    return headlines


def condition_tables(comparison: ModelComparison, scores: Sequence[Score]) -> dict[str, Table]:
    """Return one table of all models for each kind of split and slice condition.

    Parameters
    ----------
    comparison : ModelComparison
        The comparison.
    scores : sequence of Score
        Its scores.

    Returns
    -------
    dict of str to Table
        Empty where the slices have one condition.
    """
    conditions = sorted({score.test_on for score in scores} - set(comparison.kinds))
    return {
        f"Test cells: {condition}": model_table([score for score in scores if score.test_on == condition], METRICS[:3])
        for condition in conditions
    }


def mean_training_size(comparison: ModelComparison, kind: str) -> int:
    """Return the mean number of training cells of the splits of one kind, for the corrected intervals.

    Parameters
    ----------
    comparison : ModelComparison
        The comparison.
    kind : {"cell", "donor"}
        Kind of split.

    Returns
    -------
    int
        Where there are several folds, the cells of the other folds; otherwise those of the training part.
    """
    splits = {key: split for key, split in comparison.splits.items() if key.kind == kind}
    n_folds = 1 + max(key.fold for key in splits)
    if n_folds > 1:
        return round(np.mean([len(split.test) for split in splits.values()])) * (n_folds - 1)
    return round(np.mean([len(split.train) for split in splits.values()]))


def best_baseline(scores: Sequence[Score], baselines: Sequence[str]) -> str:
    """Return the baseline with the best mean macro-F1 on the test cells.

    It is selected on these cells, which favors the baseline and no other model.

    Parameters
    ----------
    scores : sequence of Score
        Test scores.
    baselines : sequence of str
        Names of the baselines.

    Returns
    -------
    str
        One of ``baselines``.
    """
    means = summarize([score for score in scores if score.metric == "macro_f1" and score.variant in baselines])
    return max(baselines, key=lambda name: means[name, "macro_f1"].mean)


def uncertainty_table(scores: Sequence[Score], classes: Sequence[str], models: Sequence[str]) -> Table:
    """Return how well models know which predictions are uncertain, and the properties of their conformal sets.

    Parameters
    ----------
    scores : sequence of Score
        Test scores.
    classes : sequence of str
        Names of the classes.
    models : sequence of str
        Names of the models to show.

    Returns
    -------
    Table
        One row per model.
    """
    metrics = ("selective_error", *(f"covered {name}" for name in classes), "set_size", "single", "several", "empty")
    selected = [score for score in scores if score.variant in models]
    table = model_table(selected, metrics, ranked=False)
    table.notes.append(
        "selective_error: mean error over all shares of the cells that are answered, the most confident first."
    )
    table.notes.append(
        f"Sets hold every class that cannot be excluded, with thresholds that cover {COVERAGE:.0%} of the calibration cells of "
        "each class (not test cells). covered: share of the test cells of the class whose set contains it; single, several, "
        'empty: share of the sets with one class, with more, and with none ("unknown").'
    )
    missing = sorted({score.variant for score in selected} - {s.variant for s in selected if s.metric == "set_size"})
    reason = "trains on all but the test cells: no cell is left to calibrate its sets."
    table.notes.extend(f"{model} {reason}" for model in missing)
    return table


def draw_comparison(
    folder: RunFolder,
    comparison: ModelComparison,
    scores: Sequence[Score],
    baselines: Sequence[str],
    attention: Float[np.ndarray, "class family"],
    protocol: Protocol | None = None,
    members: Sequence[str] = (),
) -> dict[str, Path]:
    """Draw the figures of the first kind of split.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        Probabilities of all models.
    scores : sequence of Score
        Test scores.
    baselines : sequence of str
        Models of which the best is compared with the average ensemble. They and the classical models are drawn in grey.
    attention : array of shape (class, family)
        Mean attention of our networks.
    protocol : Protocol, optional
        The published numbers, drawn beside ours where single cells are held out.
    members : sequence of str
        Models of which the average ensemble consists. Without networks among them it is drawn as an ensemble of classical models.

    Returns
    -------
    dict of str to Path
        Figures by caption: scores of all models, the published table, classes, selective accuracy, confusion and attention.
    """
    kind, path, classes = comparison.kinds[0], folder.path, comparison.classes
    kind_scores = [score for score in scores if score.test_on == kind]
    best = best_baseline(kind_scores, baselines)
    models = dict.fromkeys((AVERAGE, "tabular", best))
    curves = {model: selective_accuracy(comparison, model, kind) for model in models}
    grey, table, lines = (*baselines, *CLASSICAL_MODELS), {}, {}
    classical = bool(members) and set(members) <= set(grey)
    groups = {f"ensemble of {'classical models' if classical else 'networks and classical models'}": ENSEMBLES}
    if protocol is not None and kind == "cell":
        published = max(protocol.table, key=lambda name: protocol.table[name]["macro_f1"].mean)
        lines[f"published, {published}, other cells"] = protocol.table[published]["macro_f1"].mean
        table["The published ablation and forest, and the same here"] = draw_ablation(path, kind_scores, protocol.table)
    return {
        f"Test macro-F1 of every model, by {kind}": draw_bars(
            path, kind_scores, "macro_f1", lines, baselines=grey, groups=groups
        ),
        **table,
        f"F1 of each class, by {kind}": draw_classes(path, kind_scores, "f1", classes, (AVERAGE, best)),
        f"Accuracy on the most confident cells, by {kind}": draw_selective(path, ANSWERED_SHARES, curves),
        f"Confusion of the {AVERAGE} on the test cells of all seeds, by {kind}": draw_confusion(
            path, confusion_counts(comparison, AVERAGE, kind), classes, f"{AVERAGE}, all seeds"
        ),
        f"Confusion of the forest and of every network on the test cells of all seeds, by {kind}": draw_confusions(
            path, network_confusions(comparison, kind), classes
        ),
        f"Attention to each family, mean over the test cells of a class and over the networks, by {kind}": draw_attention(
            path, attention, classes, list(comparison.table.families)
        ),
    }


def selective_accuracy(comparison: ModelComparison, model: str, kind: str) -> Float[np.ndarray, "run score"]:
    """Return the accuracy on the most confident test cells as a function of their share.

    Parameters
    ----------
    comparison : ModelComparison
        Probabilities of the models.
    model : str
        Name of the model.
    kind : {"cell", "donor"}
        Kind of split.

    Returns
    -------
    array of shape (seed, share)
        Accuracy at ``ANSWERED_SHARES``, mean over the folds of each seed.
    """
    by_seed: dict[int, list[np.ndarray]] = {}
    for key, probability in comparison.test_probability[model].items():
        if key.kind == kind:
            curve = selective_curve(probability, comparison.codes[comparison.splits[key].test])
            by_seed.setdefault(key.seed, []).append(curve.accuracy_at(ANSWERED_SHARES))
    return np.array([np.mean(folds, axis=0) for folds in by_seed.values()])


def confusion_counts(comparison: ModelComparison, model: str, kind: str) -> Float[np.ndarray, "class class"]:
    """Return the test cells of all splits by true and predicted class.

    Parameters
    ----------
    comparison : ModelComparison
        Probabilities of the models.
    model : str
        Name of the model.
    kind : {"cell", "donor"}
        Kind of split.

    Returns
    -------
    array of shape (class, class)
        Number of cells; a cell counts once per seed.
    """
    n_classes = len(comparison.classes)
    total = np.zeros((n_classes, n_classes))
    for key, probability in comparison.test_probability[model].items():
        if key.kind == kind:
            codes = comparison.codes[comparison.splits[key].test]
            ones = np.ones(len(codes), np.float32)
            total += np.asarray(confusion(codes, probability.argmax(axis=1), ones, n_classes))
    return total


def network_confusions(comparison: ModelComparison, kind: str) -> dict[str, Float[np.ndarray, "class class"]]:
    """Return the confusion matrices of the forest and of every network of the ablation.

    Parameters
    ----------
    comparison : ModelComparison
        Probabilities of the models.
    kind : {"cell", "donor"}
        Kind of split.

    Returns
    -------
    dict of str to array of shape (class, class)
        Matrices of ``confusion_counts`` by model, in the order of the paper: for each kind of network its four variants, after
        the forest and the ensembles. Models that were not trained are left out.
    """
    networks = [prefix + variant for prefix in RULES.values() for variant in ABLATION]
    models = (COMPONENT_FOREST, "forest", ATTENTION_ENSEMBLE, AVERAGE, *networks)
    return {
        model: confusion_counts(comparison, model, kind) for model in models if model in comparison.test_probability
    }


def metric_scores(comparison: ModelComparison, experiment: str, data: str) -> list[Score]:
    """Return the classification metrics of every model and split of a comparison, without those of single classes.

    Parameters
    ----------
    comparison : ModelComparison
        Class probabilities of all models on the test rows.
    experiment, data : str
        Names of the experiment and of the cells, for the score table.

    Returns
    -------
    list of Score
        Metrics of `jaxephys.evaluation.metrics.classification_scores`.
    """
    scores = []
    for model, by_split in comparison.test_probability.items():
        for key, probability in by_split.items():
            codes = comparison.codes[comparison.splits[key].test]
            values = classification_scores(codes, probability, np.ones(len(codes), np.float32))
            origin = (experiment, model, data, data, key.seed, key.fold, "test")
            scores += [Score(*origin, metric, float(value), len(codes)) for metric, value in values.items()]
    return scores
