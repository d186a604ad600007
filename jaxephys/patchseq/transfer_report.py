"""What a reader sees of the transfer experiment: gains and what they are worth, few labels, and no label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from jaxephys.evaluation.comparison import Arms
from jaxephys.evaluation.intervals import Comparison, Interval, corrected_test
from jaxephys.patchseq.source_transfer import mean_f1
from jaxephys.reporting.plots import DASHES, GREY, PALETTE, STYLE, draw_legend, save_figure
from jaxephys.reporting.score_table import Cell, Score, Table, group, mean_sd, seed_means, table

RESAMPLES = 2000


def gains(scores: Sequence[Score], arms: Sequence[str], reference: str, n_train: int) -> dict[str, Comparison]:
    """The paired difference in macro-F1 of each arm to the reference, with the interval for resampled splits."""
    runs = group([score for score in scores if score.metric == "macro_f1"], ("variant",), "test")
    n_test = float(np.mean([score.n for score in scores if score.metric == "macro_f1"]))
    found = {}
    for arm in arms:
        both = sorted(runs[arm,].keys() & runs[reference,].keys())
        ours, theirs = (np.array([runs[name,][run] for run in both]) for name in (arm, reference))
        found[arm] = corrected_test(ours, theirs, n_train, n_test)
    return found


def verdict(found: Mapping[str, Comparison], reference: str, heading: str) -> str:
    """What the intervals allow to say, in words."""

    def told(arm: str) -> str:
        return f"{arm} {found[arm].difference:+.3f} [{found[arm].low:+.3f}, {found[arm].high:+.3f}]"

    best = max(found, key=lambda arm: found[arm].difference)
    better = [arm for arm, test in found.items() if test.low > 0]
    worse = [arm for arm, test in found.items() if test.high < 0]
    if better:
        text = f"the 95 % interval of the gain over {reference} excludes 0 for {', '.join(map(told, better))}"
        text += f"; {len(found)} arms were compared, and the intervals are not corrected for that"
    else:
        text = f"no gain over {reference} is established: of {len(found)} arms the best is {told(best)}"
    text += f". Clearly worse: {', '.join(map(told, worse))}" if worse else ". None is clearly worse"
    return f"{heading}: {text}."


def few_label_scores(curve: Mapping[float, Arms], experiment: str) -> list[Score]:
    """Macro-F1 and accuracy of the arms that had a fraction of the labels."""
    return [
        score
        for fraction, arms in curve.items()
        for score in arms.scores(experiment, share_of_labels(fraction))
        if score.metric in ("macro_f1", "accuracy") and score.test_on in arms.kinds
    ]


def few_label_table(scores: Sequence[Score], reference: str, n_train: int) -> Table:
    """A column a fraction with macro-F1, and one with the gain over the reference that had the same labels.

    The interval takes the labelled cells for the training rows: fewer of them are shared by the splits.
    """
    columns, notes = {}, []
    for fraction in sorted({score.train_on for score in scores}, key=percent):
        own = [score for score in scores if score.train_on == fraction]
        part = table(own, ("macro_f1",), reference=reference, n_train=round(n_train * percent(fraction) / 100))
        variants, means, differences = part.columns.values()
        columns |= {"variant": variants, f"{percent(fraction)} %": means, f"{percent(fraction)} %, gain": differences}
        notes = [part.notes[0], part.notes[-1]]
    return Table(columns, [f"Columns: share of the labels of the training cells. Gain: over {reference}.", *notes])


def share_of_labels(fraction: float) -> str:
    """What stands under train_on in the scores of an arm that has been given that part of the human labels."""
    return f"{fraction:.0%} of the labels"


def percent(train_on: str) -> int:
    return int(train_on.split("%")[0])


@matplotlib.rc_context(STYLE)
def draw_few_labels(folder: Path, scores: Sequence[Score], cells: int, arms: Arms, without: str) -> Path:
    """Macro-F1 by the number of labelled cells, of all ``cells``; ``without`` is an arm that has no label."""
    figure = Figure(figsize=(3.6 * len(arms.kinds) + 0.6, 3.9), layout="constrained")
    panels, rows = np.atleast_1d(figure.subplots(1, len(arms.kinds), sharey=True)), []
    for axes, kind in zip(panels, arms.kinds, strict=True):
        own = [score for score in scores if score.test_on == kind and score.metric == "macro_f1"]
        lines = learning_curves(own)
        for place, (variant, points) in enumerate(lines.items()):
            share, mean, sd = np.array(points).T
            apart = 1.03 ** (place - len(lines) / 2)  # so that bars do not hide each other
            line = {
                "color": PALETTE[place % len(PALETTE)],
                "ls": DASHES[place % len(DASHES)],
                "lw": 1.5,
                "marker": "o",
                "ms": 4,
            }
            axes.errorbar(share / 100 * cells * apart, mean, sd, label=variant, **line)
            rows += [(kind, variant, *point) for point in points]
        zero = donor_bootstrap(confusions(arms, without, kind)).estimate
        axes.axhline(zero, color=GREY, ls=":", lw=1.2, label=f"{without}: no label")
        rows.append((kind, without, 0, zero, float("nan")))
        ticks = sorted({percent(score.train_on) for score in own})
        axes.set(xscale="log", xlabel="labelled human cells", title=f"folds by {kind}")
        axes.set_xticks([tick / 100 * cells for tick in ticks], [f"{tick / 100 * cells:.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.margins(x=0.08)
        axes.grid(True)
    panels[0].set_ylabel("macro_f1")
    handles, labels = panels[0].get_legend_handles_labels()
    draw_legend(figure, [*handles[1:], handles[0]], [*labels[1:], labels[0]])  # the line across comes last
    figure.supxlabel("Mean over seeds, folds averaged first; bars: one sd.", fontsize=8, color=GREY)
    return save_figure(figure, folder, "few_labels", ("folds", "variant", "percent of labels", "mean", "sd"), rows)


def learning_curves(scores: Sequence[Score]) -> dict[str, list[tuple[int, float, float]]]:
    """For each arm the percentage of labels, and mean and sd of its scores."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for (variant, train_on), runs in sorted(
        group(scores, ("variant", "train_on"), "test").items(), key=lambda item: percent(item[0][1])
    ):
        mean, sd = mean_sd(np.array(list(seed_means(runs).values())))
        found.setdefault(variant, []).append((percent(train_on), mean, sd))
    return found


def no_label_table(arms: Arms, names: Sequence[str], kind: str) -> Table:
    """Macro-F1 over all cells at once, with an interval over donors: cells of one donor are not independent."""
    columns: dict[str, list[Cell]] = {"variant": [Cell(name) for name in names], "macro_f1 [95 %]": [], "accuracy": []}
    every = [confusions(arms, name, kind) for name in names]
    for counted in every:
        columns["macro_f1 [95 %]"].append(Cell("{:.3f} [{:.3f}, {:.3f}]".format(*donor_bootstrap(counted))))
        right = np.trace(counted.sum(axis=(0, 1))) / counted.sum()
        columns["accuracy"].append(Cell(f"{right:.3f}"))
    return Table(
        columns, [f"Intervals: {RESAMPLES} bootstrap samples of {len(every[0])} donors, a donor with all its cells."]
    )


def confusions(arms: Arms, arm: str, kind: str) -> Int[np.ndarray, "some run class class"]:
    """A confusion table a donor and seed. Within a seed every cell is tested once."""
    donors = np.unique(arms.table.cell if arms.table.donor is None else arms.table.donor, return_inverse=True)[1]
    seeds = sorted({seed for folds, seed, _ in arms.splits if folds == kind})
    counted = np.zeros((donors.max() + 1, len(seeds), len(arms.classes), len(arms.classes)), int)
    for (folds, seed, fold), probability in arms.tested[arm].items():
        if folds == kind:
            test = arms.splits[folds, seed, fold].test
            np.add.at(counted[:, seeds.index(seed)], (donors[test], arms.codes[test], probability.argmax(axis=1)), 1)
    return counted


def donor_bootstrap(counted: Int[np.ndarray, "some run class class"], seed: int = 0) -> Interval:
    """Mean macro-F1 of the seeds, each over all cells at once, and its 95 % percentile interval over resampled donors."""
    donors = len(counted)
    drawn = np.random.default_rng(seed).multinomial(donors, np.full(donors, 1 / donors), RESAMPLES)
    resampled = mean_f1(np.einsum("bd,drij->brij", drawn, counted)).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(mean_f1(counted.sum(axis=0)).mean()), float(low), float(high))
