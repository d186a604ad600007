"""Do mouse cells help to tell human interneurons apart? Everything that could borrow, against the best that does not.

After Table 6 of Schwider & Ramezani (2026): on 506 human cells their network gains 0.0215 macro-F1 (0.675 to 0.697, sd 0.029)
from mouse cells. In the released code the baseline selects its epoch by accuracy and the transfer networks by macro-F1, which
alone could be the gain. Here all networks select by macro-F1 on human validation cells; classical models borrow too; and the
arm to beat is the best that human cells alone give, a vote of five classical models. 702 human cells of
Lee & Dalley (2023), 4,195 mouse cells of Gouwens et al. (2020), 25 features that mean the same in both, four subclasses.

    python -m experiments.patchseq_transfer --data FOLDER                 5 folds x 10 seeds, by cell and by donor
    python -m experiments.patchseq_transfer published --data FOLDER       the published encoder and the released code's confounds
    python -m experiments.patchseq_transfer smoke --data FOLDER           one seed, two folds

Expected macro-F1, by cell / by donor: kernel with a metric of mouse types 0.784 / 0.783, human vote 0.774 / 0.761, kernel 0.764 /
0.769, discriminant analysis 0.734 / 0.737, tethered to the mouse 0.731 / 0.731, network 0.677 / 0.674, joint networks 0.679 to
0.685 / 0.680 to 0.684, the same without mouse cells (alpha 0) 0.685 / 0.675. No gain's interval excludes 0. Without a human label:
carried over 0.526 [0.477, 0.564], mouse regression 0.416, mouse network 0.369. Some thirty minutes of processor time.

FOLDER holds mouse_human_aligned.csv, or is a table that data_prep has written, of both species.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.comparison import Arms
from jaxephys.evaluation.splits import k_folds
from jaxephys.patchseq.grid import draw_splits, read_cells
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.network.two_species import TwoHeads
from jaxephys.patchseq.report import METRICS
from jaxephys.patchseq.source_transfer import Labelled, Lender
from jaxephys.patchseq.transfer_grid import (
    BY_ACCURACY,
    KERNEL,
    MOUSE_TYPES,
    NETWORK,
    REFERENCE,
    SHUFFLED_TYPES,
    Networks,
    train_classical,
    train_human,
    train_joint,
    train_sequential,
)
from jaxephys.patchseq.transfer_report import (
    draw_few_labels,
    few_label_scores,
    few_label_table,
    gains,
    no_label_table,
    share_of_labels,
    verdict,
)
from jaxephys.patchseq.transfer_task import is_mouse
from jaxephys.patchseq.unlabelled_transfer import carry_over
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, Table, table
from jaxephys.schemas.feature_table import FeatureTable

EXPERIMENT = "patchseq_transfer"
CARRIED = "carried over"
CONTROL = "joint network, alpha 0"
HUMAN_ONLY = (REFERENCE, KERNEL, "lda", "logistic", "svm", NETWORK, BY_ACCURACY, CONTROL)
NO_LABEL = (CARRIED, "mouse logistic", "mouse network")


@dataclass(frozen=True)
class Transfer(Settings):
    data: Path = Path("aligned")
    """Folder with mouse_human_aligned.csv, or a table of data_prep."""
    folds: tuple[Literal["cell", "donor"], ...] = ("cell", "donor")
    """What is held out: human cells, and whole human donors."""
    seeds: int = 10
    """Draws of the folds."""
    parts: int = 5
    """Folds of each draw."""
    alphas: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)
    """Weights of the mouse cells in the joint loss; 0 is the control that differs in nothing else."""
    alpha: float = 0.5
    """Which of them is tuned on human cells in the end."""
    fractions: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)
    """Shares of the human labels with which the classical arms are trained as well."""
    hidden: int = 32
    """Hidden units of the LSTM in each direction."""
    token: int | None = 32
    """Numbers that each family is projected to; None: the published encoder."""
    max_epochs: int = 50
    """Epochs of a phase at most; it stops after 7 without a better validation score."""
    joint_patience: int = 3
    """The same for joint training, where an epoch passes over the human cells about ten times."""
    released: bool = False
    """Repeat the confounds of the released code: a baseline selected by accuracy, and Sncg cells called Lamp5."""

    def __post_init__(self) -> None:
        if self.alpha not in self.alphas or max(self.alphas) <= 0:
            raise ValueError(
                f"alpha is {self.alpha}, but the alphas are {self.alphas}: give it one of them, some above 0"
            )


PRESETS = {
    "default": Transfer(),
    "published": Transfer(folds=("cell",), alphas=(0.0, 0.5), hidden=128, token=None, joint_patience=7, released=True),
    "smoke": Transfer(seeds=1, parts=2, alphas=(0.0, 0.5), fractions=(0.2,), hidden=8, token=4, max_epochs=2),
}


def run(settings: Transfer, folder: RunFolder) -> None:
    both = read_species(settings)
    humans = int((~is_mouse(both)).sum())
    human, mouse = both.rows(np.arange(humans)), both.rows(np.arange(humans, len(both)))
    cut = partial(cut_folds, parts=settings.parts)
    arms = Arms(human, draw_splits(human, settings.folds, settings.seeds, cut))
    phases = len(settings.alphas) + 4 + settings.released
    folder.greet(phases * len(arms.splits) + settings.seeds, human=human.values, mouse=mouse.values)

    stairs = Staircase.of(both.widths)
    network = TwoHeads(stairs, len(both.classes), settings.hidden, token=settings.token)
    plan = TrainConfig(max_epochs=settings.max_epochs, monitor="selection")
    networks = Networks(folder, arms, both, network, plan)
    train_human(networks, by_accuracy=settings.released)
    train_sequential(networks)
    train_joint(networks, settings.alphas, settings.alpha, settings.joint_patience)
    if not folder.first:
        return
    lender = Lender(Labelled(mouse.values, both.codes()[humans:]), mouse.about.get("t_type"))
    curve = train_classical(folder, arms, lender, settings.fractions)
    carried = carry_over(mouse.values, both.codes()[humans:], human.values).probability
    for place, split in arms.splits.items():
        arms.add(CARRIED, place, carried[split.test])

    arms.save(folder)
    scores = [score._replace(train_on=learnt_from(score.variant)) for score in arms.scores(EXPERIMENT, "")]
    few = few_label_scores(curve, EXPERIMENT)
    figures = draw_figures(folder, arms, scores, few)
    notes = [*verdicts(scores, few, settings), *NOTES, *(DEFECTS if settings.released else [])]
    folder.close([*scores, *few], TITLE, INTRO, tables(arms, scores, few, settings), figures, notes)


def read_species(settings: Transfer) -> FeatureTable:
    """The cells of both species, human ones first."""
    table = read_cells(settings.data, "mouse_human_aligned.csv", "subclass5" if settings.released else "subclass4")
    if settings.released:
        names = table.about["subclass5"]
        table = replace(table, label=np.where(names == "Sncg", "Lamp5", names))
    return table.rows(np.argsort(is_mouse(table), kind="stable"))


def cut_folds(codes: np.ndarray, seed: int, groups: np.ndarray | None, *, parts: int):
    return k_folds(codes, parts, seed, groups=groups)


def learnt_from(arm: str) -> str:
    if arm in NO_LABEL:
        return "mouse"
    return "human" if arm in HUMAN_ONLY else "human and mouse"


TITLE = "From mouse to human interneurons"
INTRO = """Every arm is tested on the same folds of the human cells. Networks train on 60 % of them and select their epoch by
macro-F1 on 20 %; classical arms train on both parts and choose what they choose by inner folds of these, grouped by donor where
the test is. Mouse cells only ever train. Each species is scaled by its own training cells. Test cells are seen once."""

NOTES = [
    f"The arm to beat, {REFERENCE}, is the mean of two kernel classifiers, two discriminants and a support vector machine. It, the "
    "width of the kernels and the weight of the borrowed metric were chosen on three other draws of folds of the same human "
    "cells, which favours all kernels a little.",
    f"{MOUSE_TYPES}: the kernel has a second metric, of the directions in which mouse t-types differ; {SHUFFLED_TYPES} is the "
    "control, where the mouse types were dealt out anew among the mouse cells.",
    "In the original the baseline selects its epoch by validation accuracy and the transfer networks by macro-F1, so that the "
    "gain in macro-F1 holds the gain of the selection. Here all networks select by macro-F1.",
    "joint network, alpha 0, is trained like the other joint networks, as long and on the same batches, but mouse cells weigh "
    "nothing: what it differs in from the others is what mouse cells do.",
    "The joint networks see each human cell several times an epoch, since an epoch ends with the mouse cells.",
    f"{CARRIED}, mouse logistic and mouse network have seen no human label. {CARRIED} was fitted to all human cells at once, "
    "test cells among them, without any label; the two others know of human cells the scale of the training part.",
    "unlabelled: the arm also sees the training cells whose label it was not given, by EM.",
    "Human Lamp5 holds LAMP5, PAX6 and others. Most human Sst cells were recorded in culture.",
]

DEFECTS = [
    "As in the released code: network by accuracy is the baseline that selects its epoch by validation accuracy; mouse Sncg "
    "cells count as Lamp5, where a misspelt name puts them, and not as Vip, as the paper says; families are padded with zeros "
    "and normalised; folds are cut by cell alone.",
    "Not followed: the input, which is not public, the exact seeds, and the last incomplete batch, which the released code drops.",
]


def draw_figures(folder: RunFolder, arms: Arms, scores: list[Score], few: list[Score]) -> dict[str, Path]:
    figures, baselines = {}, [arm for arm in HUMAN_ONLY if arm in arms.tested]
    for kind in arms.kinds:
        own = [score for score in scores if score.test_on == kind]
        bars = draw_bars(folder.path, own, "macro_f1", {}, baselines=baselines, name=f"bars_{kind}")
        figures[f"Test macro-F1 of every arm, folds by {kind}; grey: human cells only"] = bars
    cells = round(np.mean([len(split.train) + len(split.validation) for split in arms.splits.values()]))
    learning = {score.variant for score in few}
    full = [score._replace(train_on=share_of_labels(1.0)) for score in scores if score.variant in learning]
    caption = "Test macro-F1 by the number of labelled human cells"
    return figures | {caption: draw_few_labels(folder.path, [*few, *full], cells, arms, CARRIED)}


def verdicts(scores: list[Score], few: list[Score], settings: Transfer) -> list[str]:
    """What the intervals say, in words: of all arms, of networks among themselves, of few labels, and of the selection."""
    least, found = share_of_labels(min(settings.fractions)), []
    for kind in settings.folds:
        own, scarce = ([s for s in some if s.test_on == kind] for some in (scores, few))
        n_train = trained_on(own, settings)
        arms = dict.fromkeys(score.variant for score in own)
        borrowing = [arm for arm in arms if learnt_from(arm) == "human and mouse"]
        among = [arm for arm in borrowing if "network" in arm]
        found.append(verdict(gains(own, borrowing, REFERENCE, n_train), REFERENCE, f"Folds by {kind}, all labels"))
        found.append(verdict(gains(own, among, NETWORK, n_train), NETWORK, f"Folds by {kind}, networks"))
        joint = [arm for arm in among if arm.startswith("joint")]
        if CONTROL in arms:
            found.append(
                verdict(gains(own, joint, CONTROL, n_train), CONTROL, f"Folds by {kind}, what mouse cells add")
            )
        if BY_ACCURACY in arms:
            told = gains(own, [NETWORK, *among], BY_ACCURACY, n_train)
            found.append(
                verdict(told, BY_ACCURACY, f"Folds by {kind}, as published; {NETWORK} differs in the selection alone")
            )
        metrics = (MOUSE_TYPES, SHUFFLED_TYPES)
        found.append(verdict(gains(own, metrics, KERNEL, n_train), KERNEL, f"Folds by {kind}, a metric borrowed"))
        found.append(
            verdict(gains(own, metrics[:1], SHUFFLED_TYPES, n_train), SHUFFLED_TYPES, f"Folds by {kind}, control")
        )
        scarce = [score for score in scarce if score.train_on == least]
        arms = [arm for arm in dict.fromkeys(score.variant for score in scarce) if arm not in HUMAN_ONLY]
        n_train = round(n_train * min(settings.fractions))
        found.append(verdict(gains(scarce, arms, REFERENCE, n_train), REFERENCE, f"Folds by {kind}, {least}"))
    return found


def trained_on(scores: Sequence[Score], settings: Transfer) -> int:
    """Training cells of a split: those of the other folds."""
    return round(np.mean([score.n for score in scores])) * (settings.parts - 1)


def tables(arms: Arms, scores: list[Score], few: list[Score], settings: Transfer) -> dict[str, Table]:
    found = {}
    for kind in settings.folds:
        own, scarce = ([s for s in some if s.test_on == kind] for some in (scores, few))
        n_train = trained_on(own, settings)
        found[f"Folds by {kind}"] = table(own, METRICS, reference=REFERENCE, n_train=n_train)
        networks = [score for score in own if "network" in score.variant and score.variant not in NO_LABEL]
        heading = f"Folds by {kind}: networks against that of human cells alone"
        found[heading] = table(networks, METRICS[:2], reference=NETWORK, n_train=n_train)
        found[f"Folds by {kind}: few labels"] = few_label_table(scarce, REFERENCE, n_train)
        found[f"Folds by {kind}: no label"] = no_label_table(arms, NO_LABEL, kind)
    for part in sorted({score.test_on for score in scores} - set(settings.folds)):
        found[f"Test cells: {part}"] = table([score for score in scores if score.test_on == part], METRICS[:3])
    return found


if __name__ == "__main__":
    main(EXPERIMENT, __doc__, PRESETS, run)
