"""What a reader sees of a comparison of Patch-seq arms: tables and figures, all from the tidy scores but two curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxephys.evaluation.calibration import selective_curve
from jaxephys.evaluation.comparison import COVERAGE, Arms
from jaxephys.evaluation.metrics import confusion
from jaxephys.patchseq.grid import ENSEMBLE
from jaxephys.patchseq.task import LADDER
from jaxephys.reporting.maps import draw_attention, draw_confusion
from jaxephys.reporting.plots import draw_bars, draw_classes, draw_selective
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import Cell, Score, Table, class_table, show, summarise, table

VOTE = "vote"
METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "ece", "brier")
ANSWERED = np.linspace(0.1, 1.0, 37)  # shares at which accuracy is drawn


def strongest(scores: Sequence[Score], among: Sequence[str]) -> str:
    """The opponent with the best mean macro-F1 on the test rows: chosen there, which favours it and nobody else."""
    means = summarise([score for score in scores if score.metric == "macro_f1" and score.variant in among])
    return max(among, key=lambda name: means[name, "macro_f1"].mean)


def tables_of(
    scores: Sequence[Score],
    heading: str,
    classes: Sequence[str],
    baselines: Sequence[str],
    n_train: int,
    published: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Table]:
    """All arms, the classes of the vote and of the strongest opponent, the ladders side by side, and who knows his doubts."""
    best = strongest(scores, baselines)
    arms = table(scores, METRICS, published, reference=best, n_train=n_train)
    return {
        heading: Table(arms.columns, [*arms.notes, f"{best} is the opponent with the best mean on these test cells."]),
        f"{heading}: each class": class_table(scores, classes, (VOTE, best)),
        f"{heading}: the ladder": ladder_table(scores),
        f"{heading}: what is left open": doubt_table(scores, classes, (VOTE, "tabular", ENSEMBLE, best)),
    }


def ladder_table(scores: Sequence[Score]) -> Table:
    """The same four variants by encoder and rules."""
    ways = {"ours": "", "published encoder": "published ", "as released": "released "}
    summary = summarise([score for score in scores if score.metric in METRICS[:2]])
    columns = {"variant": [Cell(name) for name in LADDER]}
    for metric in METRICS[:2]:
        for way, prefix in ways.items():
            found = [summary.get((prefix + name, metric)) for name in LADDER]
            if any(found):
                columns[f"{metric}, {way}"] = [Cell(show(one.mean, one.sd) if one else "-") for one in found]
    notes = ["One network a split in every line; the ensemble of the attention variant stands in the table above."]
    return Table(columns, notes)


def doubt_table(scores: Sequence[Score], classes: Sequence[str], arms: Sequence[str]) -> Table:
    """Where the arms would rather say nothing, and what the sets of classes that they cannot rule out are like."""
    metrics = ("selective_error", *(f"covered {name}" for name in classes), "set_size", "single", "several", "empty")
    chosen = [score for score in scores if score.variant in arms]
    found = table(chosen, metrics, ranked=False)
    notes = [
        "selective_error: mean error over all shares of the cells that are answered, the surest first.",
        f"Sets hold every class that cannot be ruled out, with thresholds that cover {COVERAGE:.0%} of the held cells of each "
        "class (not test cells). covered: share of the test cells of the class whose set holds it; single, several, empty: "
        'share of the sets with one class, with more, and with none ("unknown").',
    ]
    missing = sorted({score.variant for score in chosen} - {s.variant for s in chosen if s.metric == "set_size"})
    notes += [f"{arm} trains on all but the test rows: no row is left to calibrate its sets." for arm in missing]
    return Table(found.columns, [*found.notes, *notes])


def draw_figures(
    folder: RunFolder,
    arms: Arms,
    scores: Sequence[Score],
    baselines: Sequence[str],
    opponents: Sequence[str],
    attention: Float[np.ndarray, "class family"],
) -> dict[str, Path]:
    """Where the folds are cut in the first way: every arm, each class, doubts, confusion and attention."""
    kind, path, classes = arms.kinds[0], folder.path, arms.classes
    own = [score for score in scores if score.test_on == kind]
    best = strongest(own, opponents)
    curves = {arm: answered(arms, arm, kind) for arm in dict.fromkeys((VOTE, "tabular", best))}
    return {
        f"Test macro-F1 of every arm, by {kind}": draw_bars(path, own, "macro_f1", {}, baselines=baselines),
        f"F1 of each class, by {kind}": draw_classes(path, own, "f1", classes, (VOTE, best)),
        f"Accuracy on the surest cells, by {kind}": draw_selective(path, ANSWERED, curves),
        f"Confusion of the {VOTE} on the test cells of all seeds, by {kind}": draw_confusion(
            path, counts(arms, VOTE, kind), classes, f"{VOTE}, all seeds"
        ),
        f"Attention to each family, mean over the test cells of a class and over the networks, by {kind}": draw_attention(
            path, attention, classes, list(arms.table.families)
        ),
    }


def answered(arms: Arms, arm: str, kind: str) -> Float[np.ndarray, "run score"]:
    """The accuracy of each seed, mean over its folds, when a share of the test cells is answered."""
    seeds: dict[int, list[np.ndarray]] = {}
    for place, probability in arms.tested[arm].items():
        if place[0] == kind:
            curve = selective_curve(probability, arms.codes[arms.splits[place].test])
            seeds.setdefault(place[1], []).append(curve.at(ANSWERED))
    return np.array([np.mean(folds, axis=0) for folds in seeds.values()])


def counts(arms: Arms, arm: str, kind: str) -> Float[np.ndarray, "class class"]:
    """Test cells of all splits by true class and answer."""
    total = np.zeros((len(arms.classes), len(arms.classes)))
    for place, probability in arms.tested[arm].items():
        if place[0] == kind:
            label = arms.codes[arms.splits[place].test]
            ones = np.ones(len(label), np.float32)
            total += np.asarray(confusion(label, probability.argmax(axis=1), ones, len(arms.classes)))
    return total
