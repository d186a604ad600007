"""Tables and conclusions of the Patch-seq experiments."""

import numpy as np
import pytest

from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.report.comparison import ablation_table
from jaxephys.patchseq.report.transfer import conclusion, donor_bootstrap, gains
from jaxephys.patchseq.source_transfer import macro_f1_of_confusion
from jaxephys.patchseq.task import ABLATION


def test_ablation_table_shows_all_encoders_side_by_side():
    def score(variant, value):
        return Score("e", variant, "a", "cell", 0, 0, "test", "macro_f1", value, 9)

    rows = [score("attention", 0.8), score("published attention", 0.7), score("released arcface+smote", 0.6)]
    columns = ablation_table([*rows, rows[0]._replace(metric="accuracy")]).columns
    texts = {name: [cell.text for cell in column] for name, column in columns.items()}
    assert texts == {
        "Variant": list(ABLATION),
        "Macro F1, ours": ["-", "0.800", "-", "-"],
        "Macro F1, published encoder": ["-", "0.700", "-", "-"],
        "Macro F1, as released": ["-", "-", "-", "0.600"],
        "Accuracy, ours": ["-", "0.800", "-", "-"],
    }


def few_scores(**models: list[float]) -> list[Score]:
    return [
        Score("x", model, "human", "cell", seed // 5, seed % 5, "test", "macro_f1", value, 100)
        for model, values in models.items()
        for seed, value in enumerate(values)
    ]


def test_conclusion_follows_the_interval():
    base = np.random.default_rng(0).normal(0.7, 0.03, 50)
    noise = np.random.default_rng(1).normal(0, 0.02, 50)
    found = gains(
        few_scores(lda=base, up=base + 0.05 + 0.1 * noise, same=base + noise, down=base - 0.05),
        ("up", "same", "down"),
        "lda",
        400,
    )
    sentence = conclusion(found, "lda", "here")
    assert "excludes 0 for up +0.0" in sentence and "Clearly worse: down -0.050" in sentence and "same" not in sentence
    sentence = conclusion({"same": found["same"]}, "lda", "here")
    assert (
        sentence.startswith("here: no gain over lda is established: of 1 models the best is same")
        and "None is clearly worse" in sentence
    )


def test_the_bootstrap_counts_donors_not_cells():
    """Twenty donors whose cells are all right or all wrong: the interval is that of twenty draws, whatever the cells."""
    right = np.arange(20) < 10
    widths = []
    for cells in (1, 50):
        counted = np.zeros((20, 1, 2, 2), int)
        for donor, good in enumerate(right):
            truth = donor % 2
            counted[donor, 0, truth, truth if good else 1 - truth] = cells
        interval = donor_bootstrap(counted)
        assert interval.estimate == pytest.approx(macro_f1_of_confusion(counted.sum(axis=(0, 1)))) == pytest.approx(0.5)
        widths.append(interval.high - interval.low)
    assert widths[0] == pytest.approx(widths[1]) and widths[0] > 0.3
