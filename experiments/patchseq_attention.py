"""Which families of features a network attends to, class by class, and whether its answers depend on them.

After Figures 4 and 5 of Schwider & Ramezani (2026), whose maps come from the last of their runs alone. Here: all runs, each
test cell counted once a seed, with the spread over seeds; and beside the attention what is lost when it matters, the macro-F1
on test cells whose family is swapped with those of other cells, or taken away. Attention says where a network looks, not what
its answer rests on: how well the two agree is measured and said.

    python -m experiments.patchseq_attention --data FOLDER              human, 5 folds x 10 seeds
    python -m experiments.patchseq_attention mouse --data FOLDER        mouse, five classes, 10 seeds of 60/20/20
    python -m experiments.patchseq_attention published --data FOLDER    the published encoder on the human cells

Expected, human: most attention (0.19, even: 0.17) and most lost when swapped (0.14) for adaptation, attention and loss alike with a
rank correlation of 0.4 and two seeds with 0.6; macro-F1 of one network 0.756. Mouse: most attention for subthreshold
(0.20), the four families of shape cost 0.11 to 0.12 each when swapped; macro-F1 0.891. Three minutes, and one and a half.

FOLDER holds human.csv and mouse_v1.csv, or is a table that data_prep has written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from rich.progress import track
from scipy.stats import spearmanr

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.metrics import classification_scores
from jaxephys.evaluation.splits import Split, hold_out, k_folds
from jaxephys.patchseq.grid import TOKEN, draw_splits, read_species
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.task import Prediction, Variant, make_data, make_runs, make_task
from jaxephys.reporting.maps import draw_importance
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, Table, table
from jaxephys.schemas.feature_table import FeatureTable

SWAPPED, MISSING = "lost when swapped", "lost when missing"
Maps = Float[np.ndarray, "draw class family"]
Losses = dict[str, Float[np.ndarray, "draw family"]]


@dataclass(frozen=True)
class Attention(Settings):
    data: Path = Path("cells")
    """Folder with human.csv and mouse_v1.csv, or a table of data_prep."""
    species: Literal["human", "mouse"] = "human"
    """Human cells in 5 folds, four classes; or mouse cells 60/20/20, five classes."""
    folds: Literal["cell", "donor"] = "donor"
    """What is held out: cells, or whole donors."""
    seeds: int = 10
    """Draws of the splits."""
    parts: int = 5
    """Folds of each draw, for human cells."""
    ours: bool = True
    """Our encoder, which knows what is missing; otherwise the published one."""
    swaps: int = 5
    """How often each family is swapped among cells."""
    hidden: int = 64
    """Hidden units of the LSTM in each direction."""
    max_epochs: int = 50
    """At most; a run stops after 7 without a better validation macro-F1."""


PRESETS = {
    "default": Attention(),
    "mouse": Attention(species="mouse"),
    "published": Attention(ours=False),
    "smoke": Attention(folds="cell", seeds=2, parts=2, swaps=2, hidden=8, max_epochs=2),
}


def run(settings: Attention, folder: RunFolder) -> None:
    cells = read_species(settings.data, settings.species)

    def cut(codes: np.ndarray, seed: int, groups: np.ndarray | None) -> list[Split]:
        if settings.species == "mouse":
            return [hold_out(codes, seed, groups=groups)]
        return k_folds(codes, settings.parts, seed, groups=groups)

    splits = draw_splits(cells, (settings.folds,), settings.seeds, cut)
    axis = RunGrid(("seed", "fold"), tuple(place[1:] for place in splits))
    folder.greet(len(axis), cells=cells.values)

    stairs, of_run = Staircase.of(cells.widths), list(splits.values())
    runs = make_runs(cells, stairs, of_run, [Variant()] * len(axis), axis.column("seed"), logged=settings.ours)
    network = SubclassNetwork(stairs, len(cells.classes), settings.hidden, token=TOKEN if settings.ours else None)
    task, data = make_task(network), make_data(cells, stairs)
    result = folder.fit("attention", task, data, runs, axis, TrainConfig(max_epochs=settings.max_epochs))

    test = stack_rows([plain_rows(split.test) for split in of_run])

    def ask(values: np.ndarray) -> Prediction:
        return predict(task, data._replace(packed=stairs.pack(values)), result.best, test, runs.constants)

    said = ask(cells.values)
    scores = arm_scores(axis, of_run, cells, said, settings.folds)
    losses: Losses = {}
    for name, damage, repeats in ((SWAPPED, swap, settings.swaps), (MISSING, omit, 1)):
        lost = []
        for family in track(cells.families, name, console=folder.console, transient=True):
            damaged = [ask(damage(cells, family, repeat)) for repeat in range(repeats)]
            after = [macro_f1(arm_scores(axis, of_run, cells, other, settings.folds)) for other in damaged]
            lost.append(macro_f1(scores) - np.mean(after, axis=0))
        losses[name] = np.stack(lost, axis=1)
    if folder.first:
        report(settings, folder, axis, of_run, cells, said, scores, losses)


def report(
    settings: Attention,
    folder: RunFolder,
    axis: RunGrid,
    of_run: list[Split],
    cells: FeatureTable,
    said: Prediction,
    scores: list[Score],
    losses: Losses,
) -> None:
    maps = attention_of(axis, of_run, cells, said)
    scores += family_scores(cells, maps, losses, settings.folds)
    folder.write_predictions(of_run, len(cells), cells.classes, said.probability)
    classes, families = cells.classes.tolist(), list(cells.families)
    shares = np.bincount(cells.codes()) / len(cells)
    figure = draw_importance(folder.path, maps.mean(axis=0).T, families, classes, losses)
    caption = (
        "Attention of each class's test cells to each family, and the macro-F1 that is lost without it (dots: seeds)"
    )
    title = (
        f"What the network attends to: {settings.species} cells, {'our' if settings.ours else 'the published'} encoder"
    )
    folder.close(
        scores,
        title,
        INTRO,
        tables(scores, families, classes),
        {caption: figure},
        notes(maps, shares, losses, families),
    )


INTRO = """A network of the family sequence with attention, trained on every split; the attention of a class is the mean over all
its test cells of a seed, so that large classes are not outvoted by folds, then over seeds. Beside it: how much macro-F1 the same
test cells lose when the values of a family are those of other cells, and when the family is missing."""


def swap(cells: FeatureTable, family: str, repeat: int) -> Float[np.ndarray, "cell column"]:
    """The features of a family handed on among the cells, together."""
    columns, values = columns_of(cells, family), cells.values.copy()
    values[:, columns] = values[np.random.default_rng(repeat).permutation(len(values)), columns]
    return values


def omit(cells: FeatureTable, family: str, repeat: int = 0) -> Float[np.ndarray, "cell column"]:
    """The family as if it had not been measured: our encoder is told, the published one sees training medians."""
    values = cells.values.copy()
    values[:, columns_of(cells, family)] = np.nan
    return values


def columns_of(cells: FeatureTable, family: str) -> slice:
    ends, place = np.cumsum(cells.widths), cells.families.index(family)
    return slice(int(ends[place] - cells.widths[place]), int(ends[place]))


def arm_scores(axis: RunGrid, splits: list[Split], cells: FeatureTable, said: Prediction, kind: str) -> list[Score]:
    """Of every run on its own test cells."""
    codes, scores = cells.codes(), []
    for run, split, probability in zip(axis, splits, said.probability, strict=True):
        count = len(split.test)
        values = classification_scores(codes[split.test], probability[:count], np.ones(count, np.float32))
        place = ("patchseq_attention", "attention", "same species", kind, run["seed"], run["fold"], "test")
        scores += [Score(*place, metric, float(value), count) for metric, value in values.items()]
    return scores


def macro_f1(scores: list[Score]) -> Float[np.ndarray, "draw"]:
    """The mean over the folds of each seed."""
    found: dict[int, list[float]] = {}
    for score in scores:
        if score.metric == "macro_f1":
            found.setdefault(score.seed, []).append(score.value)
    return np.array([np.mean(values) for values in found.values()])


def attention_of(axis: RunGrid, splits: list[Split], cells: FeatureTable, said: Prediction) -> Maps:
    """The mean over all test cells of a class, a seed at a time."""
    codes, maps = cells.codes(), []
    for seed in dict.fromkeys(axis.column("seed")):
        places = axis.where(seed=seed)
        label = np.concatenate([codes[splits[place].test] for place in places])
        weight = np.concatenate([said.attention[place, : len(splits[place].test)] for place in places])
        maps.append([weight[label == code].mean(axis=0) for code in range(len(cells.classes))])
    return np.array(maps)


def family_scores(cells: FeatureTable, maps: Maps, losses: Losses, kind: str) -> list[Score]:
    """A line of scores.csv for each family, seed and measure; attention for each class as well."""
    shares = np.bincount(cells.codes()) / len(cells)
    found = []
    for seed, (of_class, *lost) in enumerate(zip(maps, *losses.values(), strict=True)):
        for place, family in enumerate(cells.families):
            values = {"attention": of_class[:, place] @ shares}
            values |= {
                f"attention of {name}": weight for name, weight in zip(cells.classes, of_class[:, place], strict=True)
            }
            values |= dict(zip(losses, (measure[place] for measure in lost), strict=True))
            run = ("patchseq_attention", family, "same species", kind, seed, 0, "test")
            found += [Score(*run, str(metric), float(value), len(cells)) for metric, value in values.items()]
    return found


def tables(scores: list[Score], families: list[str], classes: list[str]) -> dict[str, Table]:
    own = [score for score in scores if score.variant in families]
    measures = ("attention", SWAPPED, MISSING)
    return {
        "Families: attention of all cells, and macro-F1 that is lost without": table(own, measures),
        "Attention of each class": table(own, [f"attention of {name}" for name in classes]),
        "The network": table(
            [s for s in scores if s.variant == "attention"], ("macro_f1", "accuracy", "balanced_accuracy")
        ),
    }


def notes(maps: Maps, shares: Float[np.ndarray, "class"], losses: Losses, families: list[str]) -> list[str]:
    """What a reader may conclude, in numbers."""
    mean = shares @ maps  # every cell counts once, as in the first table
    said = []
    if len(mean) > 1:
        among = [alike(mean[i], mean[j]) for i in range(len(mean)) for j in range(i)]
        said.append(
            f"Two seeds rank the families by attention alike with a Spearman correlation of {np.mean(among):.2f} (mean)."
        )
    for name, lost in losses.items():
        together = alike(mean.mean(axis=0), lost.mean(axis=0))
        first = families[int(lost.mean(axis=0).argmax())]
        said.append(
            f"Attention and what is {name} rank the {len(families)} families alike with a Spearman correlation of "
            f"{together:.2f}; most is {name} for {first}, the family with most attention is "
            f"{families[int(mean.mean(axis=0).argmax())]}."
        )
    return [*said, "A family that others can stand in for costs little when it is missing, however much it says alone."]


def alike(left: Float[np.ndarray, "family"], right: Float[np.ndarray, "family"]) -> float:
    """Spearman's correlation of the ranks."""
    return float(spearmanr(left, right)[0])  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main("patchseq_attention", __doc__, PRESETS, run)
