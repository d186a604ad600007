"""Evaluation of imputed curves against simple baselines on the same test rows.

    mean        mean of the training rows
    ridge       ridge regression on the other curves
    knn 10      mean of ten nearest neighbors by the other curves
    network     one network: the mean over samples of the posterior given the other curves
    ensemble    mean over the networks of all seeds
    blend       mean + a (ensemble - mean) + b (ridge - mean) + c (knn - mean) with a, b, c >= 0 by least squares on validation rows

Start with `evaluate_imputation`, and with `evaluate_counterfactuals` for simulated units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from jaxephys.engine.predict import predict
from jaxephys.engine.progress import track
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.grid import TrainedGrid
from jaxephys.hippie.imputation import decoding_task, hide_curves, measure_noise
from jaxephys.hippie.inference import SAMPLES
from jaxephys.hippie.preprocessing import prepare
from jaxephys.hippie.published_values import PUBLISHED_ERRORS
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.plots import PALETTE, STYLE, draw_legend, save_figure
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Table, model_table
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

BASELINES = ("mean", "ridge", "knn 10")
LEVEL, N_SD = 0.9, 1.645  # of the prediction intervals, and their half-width in sd
N_EXAMPLES = 4  # units in the figure
CURVE_AXES = {"wave": ("Waveform", "Time (ms)"), "isi": ("Intervals", "Interval (ms)"), "acg": ("ACG", "Lag (ms)")}
EXPERIMENT = "hippie_impute"


def complete_units(units: UnitTable) -> UnitTable | None:
    """Return the units that have every modality of their data set.

    Parameters
    ----------
    units : UnitTable
        Units.

    Returns
    -------
    UnitTable or None
        None if the data set has fewer than two modalities.
    """
    present = units.present
    available = present.any(axis=0)
    return units.rows(np.flatnonzero(present[:, available].all(axis=1))) if available.sum() > 1 else None


def evaluate_imputation(name: str, trained: TrainedGrid) -> tuple[list[Score], dict[str, np.ndarray]]:
    """Mask each modality in turn and predict it by networks and baselines on the same test rows.

    Networks that were trained with missing curves as constants receive zeros in place of the masked curve, as published, and are scored on
    their training rows as well.

    Parameters
    ----------
    name : str
        Name of the data set.
    trained : TrainedGrid
        Networks with the factors seed and fold.

    Returns
    -------
    scores : list of Score
        ``mse_<modality>``: mean squared error of a sample, for curves between -1 and 1. ``coverage_<modality>``: share of the samples
        within the 90 % intervals of the networks. The split is "test", or "train" for training rows.
    examples : dict of arrays (4, n_examples, length)
        By modality, for a few test units: measured curve, ensemble, its sd, ridge regression.
    """
    data, splits, grid = jax.device_get(trained.data), trained.splits, trained.result.grid
    validation, zeros = [split.validation for split in splits], not trained.network.mask_token
    noise = measure_noise(trained.network, data, trained.result.best, validation, SAMPLES, zeros=zeros)
    task = decoding_task(trained.network, samples=SAMPLES)
    scored = [np.concatenate([split.test, split.validation, *[split.train] * zeros]) for split in splits]
    scored_rows = stack_rows([plain_rows(rows) for rows in scored])
    n_modalities = len(trained.network.modalities)
    scores, examples = [], {}
    for index, (modality, _) in enumerate(track(trained.network.modalities, f"{name}: imputation")):
        masked = hide_curves(data, np.arange(n_modalities) != index, zeros=zeros)
        decoded = predict(task, masked, trained.result.best, scored_rows)
        subset = (2**n_modalities - 1) & ~(1 << index)  # row of modality_subsets: all others
        mean, variance = decoded.mean[modality], decoded.variance[modality] + noise[modality][:, [subset]]
        given = np.concatenate([data.curves[other] for other in data.curves if other != modality], axis=1)
        curves = data.curves[modality]
        for fold in sorted(set(grid.column("fold"))):
            runs = grid.where(fold=fold)
            test = splits[runs[0]].test
            n_test, truth = len(test), curves[test]
            rest = np.setdiff1d(np.arange(len(curves)), test)
            predictions = baseline_imputations(given[rest], curves[rest], given[test])
            ensemble = mean[runs, :n_test].mean(axis=0)
            ensemble_sd = np.sqrt(variance[runs, :n_test].mean(axis=0) + mean[runs, :n_test].var(axis=0))
            weights = blend_weights([splits[run] for run in runs], mean[runs][:, n_test:], given, curves)
            members = np.stack([ensemble, predictions["ridge"], predictions["knn 10"]]) - predictions["mean"]
            predictions |= {"ensemble": ensemble, "blend": predictions["mean"] + np.tensordot(weights, members, 1)}
            values = [(model, 0, "mse", _mse(curve, truth)) for model, curve in predictions.items()]
            values.append(("ensemble", 0, "coverage", _coverage(ensemble, ensemble_sd, truth)))
            for run in runs.tolist():
                seed, prediction, sd = grid[run]["seed"], mean[run, :n_test], np.sqrt(variance[run, :n_test])
                values.append(("network", seed, "mse", _mse(prediction, truth)))
                values.append(("network", seed, "coverage", _coverage(prediction, sd, truth)))
            scores += [
                Score(EXPERIMENT, model, name, name, seed, fold, "test", f"{metric}_{modality}", value, n_test)
                for model, seed, metric, value in values
            ]
            for run in runs.tolist() if zeros else ():
                train, after = splits[run].train, n_test + len(splits[run].validation)
                key = (name, name, grid[run]["seed"], fold, "train", f"mse_{modality}")
                known = {
                    "network": mean[run, after : after + len(train)],
                    "mean": np.broadcast_to(curves[train].mean(axis=0), curves[train].shape),
                }
                scores += [
                    Score(EXPERIMENT, model, *key, _mse(curve, curves[train]), len(train))
                    for model, curve in known.items()
                ]
            if fold == 0:
                shown = (truth, ensemble, ensemble_sd, predictions["ridge"])
                examples[modality] = np.stack([part[:N_EXAMPLES] for part in shown])
    return scores, examples


def baseline_imputations(given: np.ndarray, curves: np.ndarray, query: np.ndarray) -> dict[str, np.ndarray]:
    """Predict curves by the baselines.

    Parameters
    ----------
    given : array (n_train, n_columns)
        Other curves of the training units.
    curves : array (n_train, length)
        Their curves of the modality to predict.
    query : array (n_test, n_columns)
        Other curves of the test units.

    Returns
    -------
    dict of arrays (n_test, length)
        Predictions by baseline.
    """
    ridge = RidgeCV(np.logspace(-1, 4, 12)).fit(given, curves)
    neighbors = KNeighborsRegressor(10).fit(given, curves)
    mean = np.broadcast_to(curves.mean(axis=0), (len(query), curves.shape[1]))
    return {"mean": mean, "ridge": ridge.predict(query), "knn 10": neighbors.predict(query)}


def blend_weights(splits: Sequence[Split], predicted: np.ndarray, given: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Fit the weights of the blend on the validation rows of all seeds of a fold.

    The baselines are fitted without these rows, as the network of that seed was trained without them. Because the blend starts from the
    mean, a curve about which nothing is known is predicted as the mean.

    Parameters
    ----------
    splits : sequence of n_seeds Split
        Rows of each seed.
    predicted : array (n_seeds, at least n_validation, length)
        Predictions of the networks for their validation rows.
    given : array (n_units, n_columns)
        Other curves of all units.
    curves : array (n_units, length)
        Curves of the modality to predict.

    Returns
    -------
    array (3,)
        Non-negative weights of networks, ridge and neighbors, as deviations from the mean.
    """
    columns, targets = [], []
    for split, prediction in zip(splits, predicted, strict=True):
        baselines = baseline_imputations(given[split.train], curves[split.train], given[split.validation])
        members = (prediction[: len(split.validation)], baselines["ridge"], baselines["knn 10"])
        columns.append(np.stack([(member - baselines["mean"]).ravel() for member in members], axis=1))
        targets.append((curves[split.validation] - baselines["mean"]).ravel())
    return nnls(np.concatenate(columns).astype(float), np.concatenate(targets).astype(float))[0]


def evaluate_counterfactuals(name: str, units: UnitTable, trained: TrainedGrid) -> list[Score]:
    """Compare waveforms of simulated test units under another technology with the truth.

    Parameters
    ----------
    name : str
        Name of the data set.
    units : UnitTable
        Its units.
    trained : TrainedGrid
        Networks with the factors seed and fold.

    Returns
    -------
    list of Score
        ``mse_counterfactual`` by technology (``test_on``) for the networks, the unchanged waveform and the mean of training units of
        the technology. Empty if the units are not simulated.
    """
    if "waveform_under" not in units.truth:
        return []
    technologies, scores = list(units.provenance["technologies"]), []
    tests = stack_rows([plain_rows(split.test) for split in trained.splits])
    measured, recorded = jax.device_get(trained.data.curves["wave"]), units.technology_codes
    for target in technologies:
        code = TECHNOLOGIES[target]
        under = units.truth["waveform_under"][:, technologies.index(target)].astype(np.float32)
        truth = prepare({**units.raw, "wave": under}, trained.preparation).curves["wave"]
        task = decoding_task(trained.network, source=code)
        decoded = predict(task, trained.data, trained.result.best, tests).mean["wave"]
        for index, (run, split) in enumerate(zip(trained.result.grid, trained.splits, strict=True)):
            other = recorded[split.test] != code
            same = split.train[recorded[split.train] == code]
            predictions = {
                "network": decoded[index, : len(split.test)][other],
                "unchanged": measured[split.test][other],
                "mean of the technology": measured[same].mean(axis=0),
            }
            for model, prediction in predictions.items():
                value, count = _mse(prediction, truth[split.test][other]), int(other.sum())
                run_key = (EXPERIMENT, model, name, target, run["seed"], run["fold"], "test")
                scores.append(Score(*run_key, "mse_counterfactual", value, count))
    return scores


def imputation_tables(name: str, scores: Sequence[Score], modalities: Iterable[str]) -> dict[str, Table]:
    """Tabulate the errors of imputed curves.

    Parameters
    ----------
    name : str
        Name of the data set.
    scores : sequence of Score
        Scores of `evaluate_imputation`.
    modalities : iterable of str
        Modalities.

    Returns
    -------
    dict of Table
        Errors on test units and, where they were scored, on the units that the networks were trained on, with the published ones.
    """
    metrics = [f"mse_{modality}" for modality in modalities]
    errors = [score for score in scores if score.metric in metrics]
    tables = {name: model_table(errors, metrics)}
    if any(score.split == "train" for score in errors):
        quoted = PUBLISHED_ERRORS if name.startswith("hausser") else {}
        published = {
            model: {metric: text for metric, text in row.items() if metric in metrics} for model, row in quoted.items()
        }
        heading = f"{name}: units that the networks were trained on, as in the published evaluation"
        tables[heading] = model_table(errors, metrics, published, split="train")
    return tables


def imputation_notes(scores: Sequence[Score]) -> list[str]:
    """Describe prediction intervals and latent of each data set in a sentence.

    Parameters
    ----------
    scores : sequence of Score
        Scores of `evaluate_imputation` and of the networks' reconstruction, of all data sets.

    Returns
    -------
    list of str
        One sentence for each data set.
    """
    described = [score for score in scores if score.metric.startswith(("coverage_", "r2_", "active"))]
    summaries = summarize(described, ("train_on", "variant", "metric"))

    def listed(name: str, variant: str, prefix: str) -> str:
        means = {metric: summary.mean for (*of, metric), summary in summaries.items() if of == [name, variant]}
        names = sorted(metric for metric in means if metric.startswith(prefix))
        return ", ".join(f"{metric.removeprefix(prefix)} {means[metric]:.2f}" for metric in names)

    return [
        f"{name}: the {LEVEL:.0%} intervals of the ensemble contain {listed(name, 'ensemble', 'coverage_')} of the samples. Share of "
        f"active latent dimensions: {summaries[name, 'network', 'active'].mean:.2f}. Explained variance of curves that the encoder "
        f"received: {listed(name, 'network', 'r2_')}."
        for name in dict.fromkeys(score.train_on for score in scores)
    ]


def imputation_headlines(scores: Iterable[Score], names: Iterable[str]) -> list[Headline]:
    """Return the comparisons of the ensemble of networks with the best baseline, for the summary of a report.

    Parameters
    ----------
    scores : iterable of Score
        Scores of all data sets.
    names : iterable of str
        Names of the data sets.

    Returns
    -------
    list of Headline
        One comparison of the mean squared error per data set and modality. The published error is that of the network.
    """
    metrics = {(score.test_on, score.metric) for score in scores if score.variant == "ensemble"}
    headlines = []
    for name in names:
        quoted = PUBLISHED_ERRORS["network"] if name.startswith("hausser") else {}
        for metric in ("mse_wave", "mse_isi", "mse_acg"):
            if (name, metric) in metrics:
                published = quoted.get(metric)
                headlines.append(Headline(metric, "ensemble", BASELINES, name, None, published, name))
    return headlines


@matplotlib.rc_context(STYLE)
def draw_imputations(
    folder: Path, name: str, examples: Mapping[str, np.ndarray], n_bins: Mapping[str, int], note: str = ""
) -> Path:
    """Draw measured and predicted curves of a few test units.

    Parameters
    ----------
    folder : Path
        Run folder.
    name : str
        Name of the data set.
    examples : mapping of str to array (4, n_examples, length)
        Result of `evaluate_imputation`.
    n_bins : mapping of str to int
        Number of samples or bins of the stored curves, from which the axes follow.
    note : str
        Sentence below the panels.

    Returns
    -------
    Path
        The figure.
    """
    figure = Figure(figsize=(7.2, 0.9 + 1.75 * len(examples)), layout="constrained")
    axes: Any = figure.subplots(len(examples), N_EXAMPLES, squeeze=False, sharey=True, sharex="row")
    rows = []
    for row, (panels, (modality, parts)) in enumerate(zip(axes, examples.items(), strict=True)):
        (title, unit_of_x), ends = CURVE_AXES[modality], curve_ends(modality, n_bins.get(modality, parts.shape[2]))
        panels[0].set_ylabel(f"{title}\n(scaled to -1 to 1)", fontsize=8)
        for unit, panel in enumerate(panels[: parts.shape[1]]):
            truth, predicted, sd, ridge = parts[:, unit]
            sample = np.arange(len(truth))
            x = np.linspace(*ends, len(truth))
            low, high = predicted - N_SD * sd, predicted + N_SD * sd
            panel.fill_between(x, low, high, color=PALETTE[0], alpha=0.2, lw=0)
            panel.plot(x, predicted, color=PALETTE[0], lw=1.6, label="ensemble of networks, with 90 % interval")
            panel.plot(x, ridge, color=PALETTE[1], ls="--", lw=1.2, label="ridge regression")
            panel.plot(x, truth, color="black", lw=1, label="measured")
            panel.set(ylim=(-1.6, 1.6))
            panel.set_xlabel(unit_of_x, fontsize=8)
            panel.tick_params(labelsize=7.5)
            if row == 0:
                panel.set_title(f"Test unit {unit + 1}", fontsize=9)
            rows += zip([modality] * len(truth), [unit] * len(truth), sample, truth, predicted, sd, ridge, strict=True)
        for unused in panels[parts.shape[1] :]:
            unused.set_visible(False)
    draw_legend(figure, *axes[0, 0].get_legend_handles_labels())
    columns = ("modality", "unit", "sample", "measured", "predicted", "sd", "ridge")
    return save_figure(figure, folder, f"imputed_{name}", columns, rows, note)


def curve_ends(modality: str, n_bins: int) -> tuple[float, float]:
    """Return the first and the last position of a curve on its axis.

    Parameters
    ----------
    modality : {"wave", "isi", "acg"}
        Kind of curve.
    n_bins : int
        Number of stored samples of a waveform at 20 kHz, or of bins of 1 ms.

    Returns
    -------
    first, last : float
        In ms. An autocorrelogram with an odd number of bins has negative lags as well.

    Examples
    --------
    >>> curve_ends("wave", 50), curve_ends("acg", 201), curve_ends("isi", 100)
    ((0.0, 2.45), (-100.0, 100.0), (0.0, 99.0))
    """
    if modality == "wave":
        return 0.0, (n_bins - 1) / 20
    if modality == "acg" and n_bins % 2:
        return -float(n_bins // 2), float(n_bins // 2)
    return 0.0, float(n_bins - 1)


def _mse(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((prediction - truth) ** 2))


def _coverage(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.abs(mean - truth) < N_SD * sd))
