"""Scores of three models that the tests of reports and figures use."""

import numpy as np

from jaxephys.evaluation.scores import Score

VARIANTS = ("logistic", "bilstm", "arcface")
CLASSES = ("Lamp5", "Sncg", "Vip", "Sst", "Pvalb")


def make_score(variant="bilstm", seed=0, fold=0, value=0.5, **fields) -> Score:
    rest = {"split": "test", "metric": "accuracy", "n": 100, **fields}
    return Score("demo", variant, "gouwens", "gouwens", seed, fold, value=value, **rest)


def make_scores(shift=(0.0, 0.02, 0.05), seeds=4, folds=3) -> list[Score]:
    """Variants `shift` apart; the ece falls where the accuracy rises."""
    rng = np.random.default_rng(0)
    scores = []
    for variant, gain in zip(VARIANTS, shift, strict=True):
        for seed, fold in np.ndindex(seeds, folds):
            accuracy = 0.8 + gain + 0.01 * rng.normal()
            run = dict(variant=variant, seed=seed, fold=fold)
            scores.append(make_score(**run, value=accuracy))
            scores.append(make_score(**run, value=accuracy + 0.1, split="train", n=400))
            scores.append(make_score(**run, value=0.9 - accuracy, metric="ece"))
    return scores


def make_class_scores() -> list[Score]:
    """Two variants, two classes; the logistic regression never predicts Vip in one run."""
    values = {("logistic", "Sst"): (0.8, 0.6), ("logistic", "Vip"): (0.5, np.nan), ("bilstm", "Sst"): (0.9, 0.7)}
    values["bilstm", "Vip"] = (0.2, 0.4)
    return [
        make_score(variant, seed, metric=f"{measure} {name}", value=value)
        for (variant, name), both in values.items()
        for measure in ("precision", "recall")
        for seed, value in enumerate(both)
    ] + make_scores()
