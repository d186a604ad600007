"""Tables and conclusions of the Patch-seq experiments."""

import csv

import numpy as np
import pytest

from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.grid import NetworkRecord, describe_network
from jaxephys.patchseq.preprocessing import fit_log_z_score, fit_signed_log
from jaxephys.patchseq.published import ADAM, COMPONENT_FOREST, HUMAN, HUMAN_TABLE, MOUSE
from jaxephys.patchseq.report.published import ablation_table, draw_ablation, network_table
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
        "Macro F1, as published": ["-", "0.700", "-", "-"],
        "Macro F1, as released": ["-", "-", "-", "0.600"],
        "Macro F1, our encoder": ["-", "0.800", "-", "-"],
        "Accuracy, our encoder": ["-", "0.800", "-", "-"],
    }


def ablation_scores() -> list[Score]:
    """A forest, a published and a released network, in two seeds."""
    values = {COMPONENT_FOREST: 0.6, "published attention": 0.7, "released attention": 0.8, "attention": 0.9}
    return [
        Score("e", model, "a", "cell", seed, 0, "test", metric, value + 0.02 * seed, 9)
        for model, value in values.items()
        for metric in ("macro_f1", "accuracy")
        for seed in (0, 1)
    ]


def test_the_published_numbers_are_beside_every_row_of_the_ablation():
    columns = ablation_table(ablation_scores(), HUMAN_TABLE).columns
    texts = {name: [cell.text for cell in column] for name, column in columns.items()}
    assert texts["Variant"] == [*ABLATION, COMPONENT_FOREST]
    assert texts["Macro F1, paper"] == ["-", "0.6685 ± 0.0141", "0.6754 ± 0.0180", "0.6729 ± 0.0195", "0.6589"]
    assert texts["Accuracy, paper"] == ["-", "0.7798 ± 0.0080", "0.7822 ± 0.0145", "0.7818 ± 0.0145", "0.7518"]
    assert texts["Macro F1, as published"] == ["-", "0.710 ± 0.014", "-", "-", "0.610 ± 0.014"]
    assert texts["Macro F1, as released"] == ["-", "0.810 ± 0.014", "-", "-", "-"]


def test_figure_of_the_ablation_holds_published_and_measured_numbers(tmp_path):
    png = draw_ablation(tmp_path, ablation_scores(), HUMAN_TABLE)
    with open(png.with_suffix(".csv")) as file:
        rows = {(r["metric"], r["rules"], r["variant"]): float(r["mean"]) for r in csv.DictReader(file)}
    assert rows["accuracy", "paper", COMPONENT_FOREST] == 0.7518
    assert rows["macro_f1", "as published", COMPONENT_FOREST] == pytest.approx(0.61)
    assert rows["macro_f1", "our encoder", "attention"] == pytest.approx(0.91)
    assert len(rows) == 2 * (4 + 2 + 1 + 1) and png.stat().st_size > 1000


def test_networks_are_described_by_what_they_were_trained_with():
    arcface = HUMAN.published.variants["arcface+smote"]
    records = {
        "a": NetworkRecord(describe_network(128, None), arcface, fit_log_z_score, TrainConfig(**ADAM)),
        "b": NetworkRecord(
            describe_network(64, 32),
            MOUSE.released.variants["bilstm"],
            fit_signed_log,
            TrainConfig(monitor="selection"),
        ),
    }
    rows = [[cell.text for cell in row] for row in zip(*network_table(records).columns.values(), strict=True)]
    assert rows == [
        [
            "a",
            "published encoder, BiLSTM of 2 x 128, attention, ArcFace head",
            "logarithm of skewed positive features, z-scores",
            "focal loss (gamma 2), effective-number weights, SMOTE",
            "Adam, rate 0.001",
            "validation macro-F1",
        ],
        [
            "b",
            "our encoder (32 values a family), BiLSTM of 2 x 64, no attention",
            "signed logarithms",
            "cross-entropy",
            "AdamW, rate 0.001, weight decay 0.0001, gradients clipped to 2",
            "validation accuracy",
        ],
    ]


def test_published_numbers_are_quoted_beside_the_described_networks_only():
    quoted = HUMAN.quote(dict.fromkeys(("attention", "published bilstm", "released attention", COMPONENT_FOREST)))
    assert set(quoted) == {"released attention", COMPONENT_FOREST}, "our encoder is another model; bilstm has no number"
    assert quoted[COMPONENT_FOREST] == {"macro_f1": "0.6589", "accuracy": "0.7518"}
    assert MOUSE.quote({"published arcface+smote": None})["published arcface+smote"]["macro_f1"] == "0.8923"


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
