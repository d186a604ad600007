"""The experiments of Schwider & Ramezani (2026): the numbers of their tables, the rules of their networks, and their splits.

Start with `MOUSE` and `HUMAN`. The paper's text and its released code differ, so that there are two sets of rules:

===========  =====================================================  ====================================================
rows named   features and training                                  epoch, and test
===========  =====================================================  ====================================================
published    as the text: logarithm of skewed positive features,    validation macro-F1
             z-scores; Adam
released     as the code: z-scores; AdamW, weight decay 1e-4,       validation accuracy (see ``Protocol.deviations``);
             gradients clipped to 2.0                               ArcFace's probabilities times a power of the class
                                                                    frequencies
===========  =====================================================  ====================================================

Both have the published encoder of 128 hidden units. Rows without such a name are networks with our encoder.

Numbers with a standard deviation, over ten runs, are from the README of the released code; those without one are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from jaxephys.evaluation.splits import Split, SplitKey, check_split
from jaxephys.patchseq.preprocessing import Scale, fit_log_z_score, fit_signed_log, fit_z_score
from jaxephys.patchseq.task import ABLATION, Variant
from jaxephys.schemas.feature_table import FeatureTable

COMPONENT_FOREST = "components + forest"  # the published baseline
TRANSFER_SEED = 36  # first seed of the splits of Table 6
ADAM: Mapping[str, Any] = {"optimizer": "adam", "weight_decay": 0.0, "clip_norm": None}


class PublishedScore(NamedTuple):
    """A published score.

    Parameters
    ----------
    mean : float
        Mean over ten runs.
    sd : float, default NaN
        Standard deviation over the runs, NaN where it is not published.
    """

    mean: float
    sd: float = float("nan")

    @property
    def text(self) -> str:
        """Text of the score with four decimals, such as ``"0.8738 ± 0.0136"``."""
        return f"{self.mean:.4f}" if np.isnan(self.sd) else f"{self.mean:.4f} ± {self.sd:.4f}"


PublishedTable = Mapping[str, Mapping[str, PublishedScore]]


@dataclass(frozen=True)
class Ablation:
    """The variants of the published ablation, with the encoder, the features and the training that they share.

    Parameters
    ----------
    prefix : str, default ""
        Beginning of the names of the models.
    variants : mapping of str to Variant
        Variants by name.
    token_encoder : bool, default True
        Use our encoder; otherwise the published one.
    fit_scale : callable, default fit_signed_log
        Fits the scale of the features to training cells.
    training : mapping of str to object
        Fields of ``TrainConfig`` that differ from its defaults.
    prior_power : float, default 0.0
        The probabilities of ArcFace variants are multiplied by this power of the class frequencies of the training cells.
    """

    prefix: str = ""
    variants: Mapping[str, Variant] = field(default_factory=lambda: ABLATION)
    token_encoder: bool = True
    fit_scale: Callable[[np.ndarray], Scale] = fit_signed_log
    training: Mapping[str, Any] = field(default_factory=dict)
    prior_power: float = 0.0


@dataclass(frozen=True)
class Protocol:
    """How one species was evaluated, and the numbers that resulted.

    Parameters
    ----------
    published : Ablation
        The networks as the text describes them.
    released : Ablation
        The networks as the released code trains them.
    table : mapping of str to mapping of str to PublishedScore
        Published scores by the name of the variant, or ``COMPONENT_FOREST``, and by metric.
    first_seed : int
        First of the ten seeds of the notebook's splits.
    headline : str
        Best published macro-F1, for the first paragraph of a report.
    notes : tuple of str
        Where the numbers come from.
    deviations : tuple of str
        What the released code does otherwise than the text, in sentences for a report.
    """

    published: Ablation
    released: Ablation
    table: PublishedTable
    first_seed: int
    headline: str
    notes: tuple[str, ...]
    deviations: tuple[str, ...]

    def quote(self, models: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Return the published numbers of models as the texts of a table.

        Parameters
        ----------
        models : mapping with the names of models as keys
            The models that were trained.

        Returns
        -------
        dict of str to dict of str to str
            Texts by model and metric, for the networks as published and as released and for the forest. Networks with our
            encoder are other models and have no published number.
        """
        names = {COMPONENT_FOREST: COMPONENT_FOREST}
        for ablation in (self.published, self.released):
            names |= {ablation.prefix + variant: variant for variant in ablation.variants}
        return {
            model: {metric: score.text for metric, score in self.table[row].items()}
            for model, row in names.items()
            if model in models and row in self.table
        }


def _row(*numbers: float) -> dict[str, PublishedScore]:
    """Macro-F1 and accuracy, each followed by its sd if four numbers are given."""
    half = len(numbers) // 2
    return {"macro_f1": PublishedScore(*numbers[:half]), "accuracy": PublishedScore(*numbers[half:])}


# Table 4. The README has 0.8869 ± 0.0186 and 0.9212 ± 0.0092 for ArcFace.
MOUSE_TABLE: PublishedTable = {
    "bilstm": _row(0.8601, 0.0162, 0.9062, 0.0091),
    "attention": _row(0.8738, 0.0136, 0.9145, 0.0088),
    "attention+smote": _row(0.8856, 0.0214, 0.9193, 0.0128),
    "arcface+smote": _row(0.8923, 0.9235),
    COMPONENT_FOREST: _row(0.8728, 0.9072),
}
# Table 5. The network without attention was not trained on human cells.
HUMAN_TABLE: PublishedTable = {
    "attention": _row(0.6685, 0.0141, 0.7798, 0.0080),
    "attention+smote": _row(0.6754, 0.0180, 0.7822, 0.0145),
    "arcface+smote": _row(0.6729, 0.0195, 0.7818, 0.0145),
    COMPONENT_FOREST: _row(0.6589, 0.7518),
}
# Table 6, by the names of the networks of the transfer experiment.
TRANSFER_TABLE: PublishedTable = {
    "network": _row(0.6580, 0.0286, 0.7710, 0.0172),
    "joint network, tuned": _row(0.6795, 0.0120, 0.7905, 0.0096),
}
HUMAN_VARIANTS = {  # inverse-frequency weights where SMOTE does not balance the classes
    "bilstm": Variant(attention=False, weights="inverse"),
    "attention": Variant(weights="inverse"),
    "attention+smote": ABLATION["attention+smote"],
    "arcface+smote": ABLATION["arcface+smote"],
}
BY_ACCURACY = {name: replace(variant, selection="accuracy") for name, variant in ABLATION.items()}
_RELEASED = Ablation("released ", token_encoder=False, fit_scale=fit_z_score, training={"monitor": "selection"})
_PUBLISHED = Ablation("published ", token_encoder=False, fit_scale=fit_log_z_score, training=ADAM)

MOUSE = Protocol(
    published=_PUBLISHED,
    released=replace(_RELEASED, variants=BY_ACCURACY, prior_power=0.7),
    table=MOUSE_TABLE,
    first_seed=23,
    headline="0.8923 (ArcFace with SMOTE), on 3,699 other cells",
    notes=(
        "Published values (Table 4) are of other cells and features: 3,699 cells, 12 x 498 vectors, or 44 sparse components of "
        "them for the forest. Those with a standard deviation are from the README of the released code, the others from the "
        "paper; for ArcFace with SMOTE the README has macro-F1 0.8869 ± 0.0186 and accuracy 0.9212 ± 0.0092.",
    ),
    deviations=(
        "The released variants follow the released code where it deviates from the text or from good practice: every model "
        "selects its epoch by validation accuracy, although the paper reports macro-F1 and describes selection by it; features "
        "are z-scores without a logarithm; the optimizer is AdamW with weight decay and clipped gradients; ArcFace's "
        "probabilities are multiplied by the frequencies of the training cells to the power 0.7, which is not in the paper; "
        "class weights are counted after SMOTE, where all classes are even, so that they have no effect; single cells are held "
        "out, though donors give up to 21.",
    ),
)
HUMAN = Protocol(
    published=replace(_PUBLISHED, variants=HUMAN_VARIANTS),
    released=replace(
        _RELEASED,
        variants={**HUMAN_VARIANTS, "arcface+smote": replace(ABLATION["arcface+smote"], selection="accuracy")},
        prior_power=-1.0,
    ),
    table=HUMAN_TABLE,
    first_seed=9,
    headline="0.6754 (attention with SMOTE), on 506 other cells",
    notes=(
        "Published values (Table 5) are of other cells and features: 506 cells, 12 x 498 vectors. Those with a standard "
        "deviation are from the README of the released code, that of the forest from the paper; a network without attention "
        "was not trained on human cells. As published, the networks without SMOTE weigh classes by inverse frequency.",
    ),
    deviations=(
        "The released variants follow the released code where it deviates from the text or from good practice: the ArcFace model "
        "selects its epoch by validation accuracy and the others by macro-F1, so that they are not compared equally; features "
        "are z-scores without a logarithm; the optimizer is AdamW with weight decay and clipped gradients; ArcFace's "
        "probabilities are multiplied by the inverse frequencies of the training cells, which is not in the paper; folds are by "
        "cell only, though donors give up to 29 cells.",
    ),
)


def draw_notebook_splits(
    table: FeatureTable, seeds: int, first_seed: int, n_folds: int | None = None
) -> dict[SplitKey, Split]:
    """Draw the splits of single cells in the way of the released notebooks.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells.
    seeds : int
        Number of draws.
    first_seed : int
        Seed of the first draw; the others follow.
    n_folds : int, optional
        Number of folds of each draw, as for human cells. Without it each draw is a single split, as for mouse cells.

    Returns
    -------
    dict of SplitKey to Split
        60 % training, 20 % validation and 20 % test cells of each split; with folds the test cells of a seed are all cells.

    Notes
    -----
    A hold-out first divides 60 % from 40 % and then halves the rest, both with the seed of the draw. In a fold, a quarter of the
    other folds is divided off with the seed ``seed + 1000 * number``, where folds are counted from 1. `draw_splits` divides off the
    test cells first and counts from 0. The same cells in the same order would have the same splits as in the notebooks.
    """
    codes, rows, splits = table.codes(), np.arange(len(table)), {}
    for seed in range(first_seed, first_seed + seeds):
        if n_folds is None:
            train, rest = train_test_split(rows, test_size=0.4, random_state=seed, stratify=codes)
            parts = [(train, *train_test_split(rest, test_size=0.5, random_state=seed, stratify=codes[rest]))]
        else:
            parts, share = [], 0.2 / (1 - 1 / n_folds)
            folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(rows, codes)
            for number, (rest, test) in enumerate(folds, start=1):
                inner_seed = seed + 1000 * number
                inner = train_test_split(rest, test_size=share, random_state=inner_seed, stratify=codes[rest])
                parts.append((*inner, test))
        for fold, part in enumerate(parts):
            split = Split(*map(np.sort, part))
            splits[SplitKey("cell", seed, fold)] = check_split(split, name=f"fold {fold} of seed {seed}")
    return splits
