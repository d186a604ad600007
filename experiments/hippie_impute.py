"""A curve that was not measured, drawn from the others: by our networks, by the mean, by ridge regression, by ten neighbours.

The original leaves this to a network that never met a missing curve: worse than the mean profile on waveforms and
intervals (squared error 0.242 against 0.194, 0.330 against 0.282), on the units that it was trained on. Here five folds of
test units that nothing was fitted on, each curve scaled to [-1, 1], mean squared error of a sample.

Expected, five seeds:

                Lisberger             Hull                  Watson
                wave   isi    acg     wave   isi    acg     wave   isi    acg
    mean        0.206  0.414  0.393   0.142  0.373  0.396   0.363  0.420  0.298
    ridge       0.201  0.171  0.134   0.113  0.135  0.099   0.363  0.193  0.167
    knn 10      0.209  0.156  0.112   0.117  0.140  0.084   0.400  0.206  0.239
    network     0.204  0.145  0.087   0.125  0.131  0.086   0.390  0.164  0.143
    together    0.201  0.138  0.080   0.120  0.125  0.081   0.381  0.155  0.133
    blend       0.198  0.138  0.079   0.117  0.129  0.080   0.366  0.149  0.129

90% intervals hold 0.89 to 0.94 of the samples and every dimension of the latent is active. Of a curve that was seen 0.94, 0.81 and
0.92 of the variance are explained in Lisberger, 0.66, 0.74 and 0.86 in Hull, 0.38, 0.69 and 0.79 in Watson.

    python -m experiments.hippie_impute --data FOLDER                      every data set with two curves a unit
    python -m experiments.hippie_impute --data FOLDER/lisberger            one of them
    python -m experiments.hippie_impute smoke --data FOLDER                one seed of small networks

FOLDER holds a folder for each data set (CSV files, or units.npz of data_prep), or is itself such a folder. On simulated units
(python -m data_prep units simulate FOLDER) the curves under another technology are known too, and asked for.

    network     one network: the mean over draws from the latent of what it has seen
    together    the mean over the seeds
    blend       the mean and a, b, c >= 0 times what together, ridge and neighbours add to it, least squares on the validation rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.benchmark import read_tables
from jaxephys.hippie.embedding_grid import recorded
from jaxephys.hippie.grid import Trained, cut_folds, modalities_of, train_grid
from jaxephys.hippie.imputation import drawing, measure_noise
from jaxephys.hippie.inference import SAMPLES
from jaxephys.hippie.preprocessing import prepare
from jaxephys.hippie.task import OURS
from jaxephys.reporting.plots import GREY, PALETTE, draw_bars, save_figure
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, Table, table
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

OPPONENTS = ("mean", "ridge", "knn 10")
BLENDED = ("together", "ridge", "knn 10")
LEVEL, DEVIATIONS = 0.9, 1.645  # of the interval
SHOWN = 4  # units of a figure


@dataclass(frozen=True)
class Impute(Settings):
    data: Path = Path("hippie")
    """Folder with a folder for each data set, or a table of units."""
    seeds: int = 5
    """Networks a fold."""
    trunk: Literal["dense", "resnet"] = "dense"
    """What reads and draws curves; the published ResNets are for tens of thousands of units."""
    width: int = 16
    """Channels of the first layer; a dense trunk has eight times as many hidden units."""
    latent: int = 30
    """Dimensions of the latent."""
    epochs: int = 150
    """At most; the best epoch is chosen on validation rows."""


PRESETS = {
    "default": Impute(),
    "resnet": Impute(trunk="resnet", seeds=1, epochs=60, width=8),
    "smoke": Impute(seeds=1, width=4, latent=6, epochs=3),
}


class Guess(NamedTuple):
    """Of one modality, by some rows."""

    mean: np.ndarray  # [run, row, position]
    variance: np.ndarray


def run(settings: Impute, folder: RunFolder) -> None:
    tables = {name: recorded(name, units) for name, units in read_tables(settings.data).items()}
    tables = {name: complete(units) for name, units in tables.items()}
    tables = {name: units for name, units in tables.items() if units is not None}
    if not tables:
        raise ValueError(f"no data set of {settings.data} has units with two curves: there is nothing to draw from")
    runs = settings.seeds * 5 * len(tables)
    folder.greet(runs, **{name: units.raw for name, units in tables.items()})
    scores, shown, figures = [], {}, {}
    for name, units in tables.items():
        splits = cut_folds(np.arange(len(units)), settings.seeds)
        axis = RunGrid(("seed", "fold"), tuple(splits))
        own = {key: getattr(settings, key) for key in ("latent", "width", "trunk", "epochs")}
        trained = train_grid(folder, name, [units], list(splits.values()), axis, [OURS] * len(axis), **own)
        found, example = judge(name, units, trained)
        scores += found + latent_scores(name, trained)
        metrics = [f"mse_{modality}" for modality, _ in trained.network.modalities]
        told = [row for row in found if row.metric in metrics]
        shown[name] = table(told, metrics)
        if not folder.first:
            continue
        figures |= {
            f"{name}: {metric[4:]}": draw_bars(folder.path, told, metric, baselines=OPPONENTS, name=f"{metric}_{name}")
            for metric in metrics
        }
        figures[f"{name}: drawn and measured"] = draw_example(folder.path, name, example)
        shown |= counterfactuals(name, units, trained, scores)
        trained.model([0]).save(folder.path / "model" / name, overwrite=True)
    folder.close(scores, "Curves that were not measured", INTRO, shown, figures, notes_of(scores))


INTRO = """Mean squared error of a sample of a curve scaled to [-1, 1], on test units that nothing was fitted on, drawn from the other
curves of the same units. "network" is the mean of single networks, "together" the mean over the seeds of each fold, "blend" a
combination of it with ridge and neighbours whose weights are fitted on validation rows."""


def complete(units: UnitTable) -> UnitTable | None:
    """The units that have every modality of their data set, if there are two at least."""
    names = [name for name, _ in modalities_of([units])]
    if len(names) < 2:
        return None
    places = [list(units.raw).index(name) for name in names]
    return units.rows(np.flatnonzero(units.present[:, places].all(axis=1)))


def judge(name: str, units: UnitTable, trained: Trained) -> tuple[list[Score], dict[str, np.ndarray]]:
    """Every modality in turn is hidden and drawn, by everyone, on the same rows."""
    data, splits, axis = trained.data, trained.splits, trained.result.grid
    rows = [split.validation for split in splits]
    noise = measure_noise(trained.network, data, trained.result.best, rows, SAMPLES)
    scores, example = [], {}
    for place, (modality, _) in enumerate(trained.network.modalities):
        hidden = data._replace(present=data.present & (np.arange(data.present.shape[1]) != place))
        asked = [np.concatenate([split.test, split.validation]) for split in splits]
        drawn = predict(
            drawing(trained.network, samples=SAMPLES),
            hidden,
            trained.result.best,
            stack_rows(list(map(plain_rows, asked))),
        )
        choice = (2 ** len(trained.network.modalities) - 1) & ~(1 << place)
        mean, variance = drawn.mean[modality], drawn.variance[modality] + noise[modality][:, [choice]]
        others = [data.curves[other] for other in data.curves if other != modality]
        curves, given = data.curves[modality], np.concatenate(others, axis=1)

        def book(arm: str, seed: int, fold: int, value: float, count: int, metric: str = f"mse_{modality}") -> None:
            scores.append(Score("hippie_impute", arm, name, name, seed, fold, "test", metric, value, count))

        for fold in sorted(set(axis.column("fold"))):
            runs = axis.where(fold=fold)
            test = splits[runs[0]].test
            truth, tests = curves[test], slice(0, len(test))
            rest = np.setdiff1d(np.arange(len(curves)), test)
            simple = opponents(given[rest], curves[rest], given[test])
            for arm, guess in simple.items():
                book(arm, 0, fold, squared(guess, truth), len(test))
            for place_, seed in zip(runs, np.array(axis.column("seed"))[runs].tolist(), strict=True):
                own, sd = mean[place_, tests], np.sqrt(variance[place_, tests])
                book("network", seed, fold, squared(own, truth), len(test))
                within = np.mean(np.abs(own - truth) < DEVIATIONS * sd)
                book("network", seed, fold, float(within), len(test), f"coverage_{modality}")
            together = mean[runs, tests].mean(axis=0)
            spread = np.sqrt(variance[runs, tests].mean(axis=0) + mean[runs, tests].var(axis=0))
            book("together", 0, fold, squared(together, truth), len(test))
            within = np.mean(np.abs(together - truth) < DEVIATIONS * spread)
            book("together", 0, fold, float(within), len(test), f"coverage_{modality}")
            weights = blend_weights([splits[run] for run in runs], mean[runs][:, len(test) :], given, curves)
            three = np.stack([together, simple["ridge"], simple["knn 10"]]) - simple["mean"]
            blended = simple["mean"] + np.tensordot(weights, three, 1)
            book("blend", 0, fold, squared(blended, truth), len(test))
            if fold == 0:
                parts = (truth, together, spread, simple["ridge"])
                example[modality] = np.stack([part[:SHOWN] for part in parts])
    return scores, example


def opponents(given: np.ndarray, curves: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
    """What each draws for ``asked`` after having seen the rows ``given`` with their curves."""
    ridge = RidgeCV(np.logspace(-1, 4, 12)).fit(given, curves)
    neighbours = KNeighborsRegressor(10).fit(given, curves)
    mean = np.broadcast_to(curves.mean(axis=0), (len(asked), curves.shape[1]))
    return {"mean": mean, "ridge": ridge.predict(asked), "knn 10": neighbours.predict(asked)}


def blend_weights(splits: Sequence[Split], drawn: np.ndarray, given: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Of the three that are blended, as they leave the mean: non-negative least squares on the validation rows of all seeds of a fold.

    So a curve that nothing tells anything of is drawn as the mean. Ridge and neighbours are fitted there without those rows,
    as the network of that seed was trained without them.
    """
    columns, wanted = [], []
    for split, own in zip(splits, drawn, strict=True):
        simple = opponents(given[split.train], curves[split.train], given[split.validation])
        parts = (own[: len(split.validation)], simple["ridge"], simple["knn 10"])
        columns.append(np.stack([(part - simple["mean"]).ravel() for part in parts], axis=1))
        wanted.append((curves[split.validation] - simple["mean"]).ravel())
    return nnls(np.concatenate(columns).astype(float), np.concatenate(wanted).astype(float))[0]


def squared(guess: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((guess - truth) ** 2))


def latent_scores(name: str, trained: Trained) -> list[Score]:
    """Of each network on its test units: explained variance of each modality, share of active dimensions."""
    rows = stack_rows([plain_rows(split.test) for split in trained.splits])
    measured = score(trained.task, trained.data, trained.result.best, rows, trained.runs.constants)
    return [
        Score("hippie_impute", "network", name, name, run["seed"], run["fold"], "test", metric, float(values[place]), n)
        for metric, values in measured.items()
        if metric == "active" or metric.startswith("r2_")
        for place, (run, n) in enumerate(
            zip(trained.result.grid, map(len, (s.test for s in trained.splits)), strict=True)
        )
    ]


def counterfactuals(name: str, units: UnitTable, trained: Trained, scores: list[Score]) -> dict[str, Table]:
    """Waveforms of test units under another technology, against the simulator's truth; nothing where there is none."""
    if "waveform_under" not in units.truth:
        return {}
    technologies, added = list(units.provenance["technologies"]), []
    tests = stack_rows([plain_rows(split.test) for split in trained.splits])
    for target in technologies:
        under = units.truth["waveform_under"][:, technologies.index(target)].astype(np.float32)
        truth = prepare({**units.raw, "wave": under}, trained.preparation).curves["wave"]
        code, wave = TECHNOLOGIES[target], trained.data.curves["wave"]
        drawn = predict(drawing(trained.network, source=code), trained.data, trained.result.best, tests).mean["wave"]
        for place, (run, split) in enumerate(zip(trained.result.grid, trained.splits, strict=True)):
            away = units.technology[split.test] != code
            there = split.train[units.technology[split.train] == code]
            guesses = {
                "network": drawn[place, : len(split.test)][away],
                "as it was": wave[split.test][away],
                "mean of the technology": np.broadcast_to(wave[there].mean(axis=0), (away.sum(), wave.shape[1])),
            }
            for arm, guess in guesses.items():
                value = squared(guess, truth[split.test][away])
                own = (name, target, run["seed"], run["fold"], "test", "mse_counterfactual", value, int(away.sum()))
                added.append(Score("hippie_impute", arm, *own))
    scores += added
    named = {target: [row for row in added if row.test_on == target] for target in technologies}
    return {f"{name}: waveforms under {target}": table(rows, ["mse_counterfactual"]) for target, rows in named.items()}


def notes_of(scores: Sequence[Score]) -> Iterator[str]:
    for name in dict.fromkeys(row.train_on for row in scores):
        own = [row for row in scores if row.train_on == name]

        def mean(metric: str, arm: str, own: Sequence[Score] = own) -> float:
            return float(np.mean([row.value for row in own if row.metric == metric and row.variant == arm]))

        known = sorted({row.metric[9:] for row in own if row.metric.startswith("coverage_")})
        covered = ", ".join(f"{one} {mean(f'coverage_{one}', 'together'):.2f}" for one in known)
        drawn = ", ".join(f"{one} {mean(f'r2_{one}', 'network'):.2f}" for one in known)
        yield (
            f"{name}: {LEVEL:.0%} intervals of the networks together hold {covered} of the samples. Share of the latent that is "
            f"active {mean('active', 'network'):.2f}; variance explained where the curve was seen: {drawn}."
        )


def draw_example(folder: Path, name: str, example: Mapping[str, np.ndarray]) -> Path:
    """Of a few test units: measured, drawn with its interval, and by ridge regression."""
    figure, axes = plt.subplots(
        len(example), SHOWN, figsize=(2.2 * SHOWN, 1.7 * len(example)), squeeze=False, sharey=True, layout="constrained"
    )
    lines = []
    for line, (modality, parts) in zip(axes, example.items(), strict=True):
        line[0].set_ylabel(modality)
        for unit, panel in enumerate(line[: parts.shape[1]]):
            truth, drawn, sd, ridge = parts[:, unit]
            place = np.arange(len(truth))
            low, high = drawn - DEVIATIONS * sd, drawn + DEVIATIONS * sd
            panel.fill_between(place, low, high, color=PALETTE[0], alpha=0.2, lw=0)
            panel.plot(place, drawn, color=PALETTE[0], label="drawn, 90%")
            panel.plot(place, ridge, color=GREY, ls=":", label="ridge")
            panel.plot(place, truth, color="black", lw=1, label="measured")
            panel.set(xticks=[], ylim=(-1.6, 1.6))
            panel.spines[["top", "right"]].set_visible(False)
            lines += zip([modality] * len(truth), [unit] * len(truth), place, truth, drawn, sd, ridge, strict=True)
    axes[0, 0].legend(frameon=False, fontsize=7, loc="upper right")
    columns = ("modality", "unit", "sample", "measured", "drawn", "sd", "ridge")
    path = save_figure(figure, folder, f"drawn_{name}", columns, lines)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main("hippie_impute", __doc__, PRESETS, run)
