"""Figures show the numbers of the score table."""

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from jaxephys.reporting.bars import draw_bars, draw_classes
from jaxephys.reporting.maps import draw_attention, draw_confusion, draw_confusions, draw_embedding, spread_labels
from jaxephys.reporting.plots import draw_curves, draw_selective
from jaxephys.reporting.score_table import summarize
from tests.reporting.example_scores import CLASSES, make_class_scores, make_score, make_scores


def read_rows(png: Path) -> list[dict[str, str]]:
    with open(png.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


def assert_picture(png: Path) -> None:
    pixels = imread(png)
    assert min(pixels.shape[:2]) > 200
    assert np.all(pixels[0, 0] == 1.0), "the background is white"
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


def test_curves_end_when_fewer_than_half_of_the_runs_train(tmp_path):
    values = np.array([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, np.nan, np.nan], [5.0, 6.0, 7.0, np.nan]])
    history = {"loss": np.vstack([values, np.full((1, 4), 0.5)])}
    png = draw_curves(tmp_path, history, ["a", "a", "a", "b"], ["loss"])
    rows = [row for row in read_rows(png) if row["variant"] == "a"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["live"] for row in rows] == ["3", "3", "2"]
    assert [float(row["mean"]) for row in rows] == [3.0, 4.0, 5.0]
    np.testing.assert_allclose([float(row["sd"]) for row in rows], [2.0, 2.0, np.sqrt(8)])
    assert_picture(png)
    with pytest.raises(ValueError, match="no metric f1; there are"):
        draw_curves(tmp_path, history, ["a", "a", "a", "b"], ["f1"])
    with pytest.raises(ValueError, match="4 runs, but there are 2 variants"):
        draw_curves(tmp_path, history, ["a", "b"], ["loss"])


def test_confusion_figure_has_counts_and_shares(tmp_path):
    counts = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    png = draw_confusion(tmp_path, counts, CLASSES[:3], "demo")
    rows = read_rows(png)
    assert [int(row["count"]) for row in rows] == counts.ravel().tolist()
    share = np.array([float(row["share"]) for row in rows]).reshape(3, 3)
    np.testing.assert_allclose(share, [[0.8, 0.2, 0], [0.25, 0.75, 0], [np.nan] * 3])
    assert (rows[1]["true"], rows[1]["predicted"]) == ("Lamp5", "Sncg")
    assert_picture(png)


def test_confusions_of_several_models_are_panels_of_one_figure(tmp_path):
    counts = {"one": np.array([[8, 2], [1, 3]]), "two": np.array([[0, 0], [3, 1]])}
    png = draw_confusions(tmp_path, counts, CLASSES[:2])
    rows = read_rows(png)
    assert [row["panel"] for row in rows] == ["one"] * 4 + ["two"] * 4
    assert [int(row["count"]) for row in rows] == [8, 2, 1, 3, 0, 0, 3, 1]
    np.testing.assert_allclose([float(row["share"]) for row in rows], [0.8, 0.2, 0.25, 0.75, *2 * [np.nan], 0.75, 0.25])
    assert (rows[1]["true"], rows[1]["predicted"]) == tuple(CLASSES[:2])
    assert_picture(png)
    with pytest.raises(ValueError, match="give at least one model"):
        draw_confusions(tmp_path, {}, CLASSES)


def test_attention_figure_has_the_given_weights(tmp_path):
    attention = np.random.default_rng(2).dirichlet(np.ones(12), size=5)
    families = [f"a_rather_long_family_name_{number}" for number in range(12)]
    png = draw_attention(tmp_path, attention, CLASSES, families)
    drawn = {(row["class"], row["family"]): float(row["attention"]) for row in read_rows(png)}
    for (i, j), weight in np.ndenumerate(attention):
        assert drawn[CLASSES[i], families[j]] == weight
    assert_picture(png)


def test_embedding_figure_has_a_panel_per_embedding(tmp_path):
    rng = np.random.default_rng(3)
    planes = {"one": rng.normal(size=(60, 2)), "two": rng.normal(size=(60, 2)).astype(np.float32)}
    label = np.array(CLASSES)[np.arange(60) % 5]
    png = draw_embedding(tmp_path, planes, label, note="what it is")
    rows = read_rows(png)
    for title, plane in planes.items():
        of_panel = [row for row in rows if row["panel"] == title]
        assert [row["class"] for row in of_panel] == label.tolist()
        assert [(float(row["x"]), float(row["y"])) for row in of_panel] == [tuple(point) for point in plane.tolist()]
    assert_picture(png)
    assert imread(png).shape[1] > 1.3 * imread(draw_embedding(tmp_path, planes["one"], label, name="one")).shape[1]
    with pytest.raises(ValueError, match=r"embedding 'one' has shape \(60, 2\), but 59 labels need shape"):
        draw_embedding(tmp_path, planes, label[1:])


def test_labels_of_close_classes_do_not_overlap():
    placed = spread_labels(np.array([[0.0, 0.0], [0.1, 0.01], [0.0, 0.9], [5.0, 0.0], [0.2, 0.02]]), 1.0)
    np.testing.assert_allclose(placed[3], [5.0, 0.0])
    beside = placed[[0, 1, 2, 4]]
    assert np.diff(np.sort(beside[:, 1])).min() >= 1.0
    np.testing.assert_allclose(placed[:, 0], [0.0, 0.1, 0.0, 5.0, 0.2])


def test_bars_have_the_numbers_of_the_table(tmp_path):
    scores = make_scores()
    lines = {"Bayes classifier": 0.9}
    png = draw_bars(tmp_path, scores, "accuracy", lines, baselines=["logistic"])
    drawn = {(row["name"], row["drawn as"], row["seed"]): float(row["value"]) for row in read_rows(png)}
    for (variant, metric), summary in summarize(scores).items():
        if metric == "accuracy":
            assert drawn[variant, "mean", ""] == summary.mean
            assert drawn[variant, "sd", ""] == summary.sd
            seeds = [drawn[variant, "seed", str(seed)] for seed in range(4)]
            assert np.mean(seeds) == pytest.approx(summary.mean)
    assert drawn["Bayes classifier", "reference line", ""] == 0.9
    assert_picture(png)


def test_class_figure_has_the_scores_of_the_table(tmp_path):
    png = draw_classes(tmp_path, make_class_scores(), "precision", ("Sst", "Vip"), ("bilstm", "logistic"))
    drawn = {(row["class"], row["variant"], row["drawn as"], row["seed"]): row["value"] for row in read_rows(png)}
    assert float(drawn["Sst", "bilstm", "mean", ""]) == pytest.approx(0.8)
    assert float(drawn["Vip", "logistic", "mean", ""]) == 0.5, "the run without a precision is left out"
    assert float(drawn["Vip", "bilstm", "seed", "1"]) == 0.4
    assert_picture(png)


def test_selective_figure_is_the_mean_over_seeds(tmp_path):
    coverage, accuracy = np.array([0.5, 1.0]), np.array([[1.0, 0.8], [0.9, 0.6]])
    png = draw_selective(tmp_path, coverage, {"bilstm": accuracy, "logistic": accuracy[:1]})
    rows = [row for row in read_rows(png) if row["variant"] == "bilstm"]
    assert [float(row["coverage"]) for row in rows] == [0.5, 1.0]
    np.testing.assert_allclose([float(row["mean"]) for row in rows], [0.95, 0.7])
    np.testing.assert_allclose([float(row["sd"]) for row in rows], accuracy.std(axis=0, ddof=1))
    assert_picture(png)


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "arcface"), ("ece", "arcface")])
def test_best_model_is_first_and_a_diverged_one_last(tmp_path, metric, best):
    scores = [*make_scores(), make_score("dead", value=np.nan, metric=metric)]
    rows = read_rows(draw_bars(tmp_path, scores, metric))
    names = [row["name"] for row in rows if row["drawn as"] == "mean"]
    assert names[0] == best and names[3] == "dead"


def test_unknown_names_in_figures_raise(tmp_path):
    with pytest.raises(ValueError, match="no metric acc"):
        draw_bars(tmp_path, make_scores(), "acc")
    with pytest.raises(ValueError, match="no model forest"):
        draw_bars(tmp_path, make_scores(), "accuracy", baselines=["forest"])
    with pytest.raises(ValueError, match=r"5 x 2 names were given for an array of shape \(5, 3\)"):
        draw_attention(tmp_path, np.full((5, 3), 1 / 3), CLASSES, ["a", "b"])


def test_equal_scores_give_equal_files(tmp_path):
    one, two = (draw_bars(tmp_path / name, make_scores(), "ece") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
