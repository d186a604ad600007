"""Every number that a reader sees is one of the tidy table, and what is missing is said."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from jaxephys.reporting.maps import _apart, draw_attention, draw_confusion, draw_embedding
from jaxephys.reporting.plots import draw_bars, draw_classes, draw_curves, draw_selective
from jaxephys.reporting.score_table import (
    SCORE_COLUMNS,
    Score,
    class_table,
    markdown,
    print_table,
    read_scores,
    summarise,
    table,
    write_report,
    write_scores,
)

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


def read_rows(png: Path) -> list[dict[str, str]]:
    with open(png.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


def assert_picture(png: Path) -> None:
    pixels = imread(png)
    assert min(pixels.shape[:2]) > 200
    assert np.all(pixels[0, 0] == 1.0), "the background is white"
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


# The tidy table.


def test_scores_survive_a_round_trip_byte_for_byte(tmp_path):
    rng = np.random.default_rng(1)
    scores = [*make_scores(), make_score(seed=9, value=np.nan, n=np.int64(7))]
    first = write_scores(tmp_path / "a" / "scores.csv", scores)
    shuffled = [scores[i] for i in rng.permutation(len(scores))]
    second = write_scores(tmp_path / "b.csv", shuffled)
    third = write_scores(tmp_path / "c.csv", read_scores(first))
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.csv", "c.csv"]


def test_values_are_written_in_full_and_whatever_their_type(tmp_path):
    values = [1 / 3, np.float64(0.1) + 0.2, np.float32(0.1), 1]
    rows = [make_score(seed=seed, value=value) for seed, value in enumerate(values)]
    read = read_scores(write_scores(tmp_path / "scores.csv", rows))
    assert [score.value for score in read] == [float(value) for value in values]
    assert {type(score.value) for score in read} == {float}


def test_rows_are_sorted_by_number_not_by_text(tmp_path):
    rows = [make_score(v, seed, fold) for v in "ba" for seed in (10, 2) for fold in (1, 0)]
    read = read_scores(write_scores(tmp_path / "scores.csv", rows))
    order = [(score.variant, score.seed, score.fold) for score in read]
    assert order == [(v, seed, fold) for v in "ab" for seed in (2, 10) for fold in (0, 1)]


def test_a_table_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("variant,seed,value\nbilstm,0,0.5\n")
    with pytest.raises(ValueError, match="lacks the columns experiment, train_on, test_on, fold"):
        read_scores(path)


def test_a_value_that_is_no_number_is_named_with_its_line(tmp_path):
    path = write_scores(tmp_path / "scores.csv", [make_score(value=0.5)])
    path.write_text(path.read_text().replace("0.5", "good"))
    with pytest.raises(ValueError, match="line 2: value is 'good', which is no float"):
        read_scores(path)


def test_the_columns_are_those_of_the_design():
    names = "experiment variant train_on test_on seed fold split metric value n"
    assert tuple(names.split()) == SCORE_COLUMNS


# Mean and standard deviation.


def test_sd_is_over_seeds_after_the_mean_over_folds():
    values = np.array([[0.70, 0.90], [0.72, 0.94], [0.71, 0.86]])  # seed, fold
    scores = [make_score(seed=s, fold=f, value=v) for (s, f), v in np.ndenumerate(values)]
    summary = summarise(scores)["bilstm", "accuracy"]
    per_seed = np.array([0.80, 0.83, 0.785])
    np.testing.assert_allclose(summary.mean, per_seed.sum() / 3)
    deviations = per_seed - per_seed.sum() / 3
    np.testing.assert_allclose(summary.sd, np.sqrt((deviations**2).sum() / 2))
    assert summary.sd < 0.5 * values.std(ddof=1), "folds do not widen it"
    assert (summary.n_seeds, summary.n_folds, summary.n_missing) == (3, 2, 0)


def test_one_seed_has_no_sd_however_many_folds():
    scores = [make_score(fold=fold, value=0.1 * fold) for fold in range(5)]
    summary = summarise(scores)["bilstm", "accuracy"]
    assert summary.mean == pytest.approx(0.2) and np.isnan(summary.sd)
    shown = table(scores, ["accuracy"])
    assert shown.columns["accuracy"][0].text == "0.200"
    assert shown.notes[0] == "One seed, so no sd; a seed is the mean of its 5 folds."


def test_a_diverged_run_is_left_out_and_reported():
    values = [0.5, 0.7, np.nan]
    scores = [make_score(seed=seed, value=value) for seed, value in enumerate(values)]
    assert summarise(scores)["bilstm", "accuracy"][:] == pytest.approx((0.6, np.std([0.5, 0.7], ddof=1), 2, 1, 1))
    note = "bilstm: 1 run without a finite accuracy, left out of its mean."
    assert note in table(scores, ["accuracy"]).notes


def test_two_data_sets_are_not_averaged_unseen():
    scores = [make_score(), make_score()._replace(test_on="scala")]
    with pytest.raises(ValueError, match="two values for seed 0, fold 0"):
        summarise(scores)
    assert len(summarise(scores, by=("variant", "metric", "test_on"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, r"no split tset; there are \['test', 'train'\]"),
        ({"by": ("model",)}, "no column model"),
    ],
)
def test_misspelt_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        summarise(make_scores(), **arguments)


# Tables.


def test_bold_is_the_highest_accuracy_and_the_lowest_ece():
    shown = table(make_scores(), ["accuracy", "ece"])
    bold = {
        metric: [variant.text for variant, cell in zip(shown.columns["variant"], cells, strict=True) if cell.bold]
        for metric, cells in shown.columns.items()
    }
    assert bold == {"variant": [], "accuracy": ["arcface"], "ece": ["arcface"]}
    ece = [float(cell.text.split()[0]) for cell in shown.columns["ece"]]
    assert ece[2] == min(ece)
    assert "Lower is better for ece. Bold: the best mean of a column." in shown.notes


def test_means_that_print_alike_are_both_bold():
    scores = [make_score("a", value=0.88301), make_score("b", value=0.88299)]
    assert [cell.bold for cell in table(scores, ["accuracy"]).columns["accuracy"]] == [True, True]


def test_published_numbers_stand_beside_ours_as_they_were_printed():
    published = {"bilstm": {"accuracy": "0.91"}, "random forest": {"accuracy": "0.9 (t-types)"}}
    shown = table(make_scores(), ["accuracy", "ece"], published)
    texts = {name: [cell.text for cell in cells] for name, cells in shown.columns.items()}
    assert texts["variant"] == [*VARIANTS, "random forest"]
    assert texts["accuracy, published"] == ["-", "0.91", "-", "0.9 (t-types)"]
    assert texts["accuracy"][3] == texts["ece"][3] == "-"
    assert "ece, published" not in texts
    with pytest.raises(ValueError, match="no metric acuracy"):
        table(make_scores(), ["accuracy"], {"bilstm": {"acuracy": "0.91"}})


def test_the_difference_to_a_baseline_is_paired_and_said_in_words():
    from jaxephys.evaluation.intervals import corrected_test

    scores = make_scores()
    shown = table(scores, ["accuracy"], reference="logistic")
    value = {s[:8]: s.value for s in scores}
    a, b = ([value[make_score(variant, *run)[:8]] for run in np.ndindex(4, 3)] for variant in ("arcface", "logistic"))
    test = corrected_test(np.array(a), np.array(b), n_train=400, n_test=100)
    expected = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
    cells = shown.columns["accuracy minus logistic [95%]"]
    assert cells[0].text == "reference" and cells[2].text == expected
    words = f"arcface is better than logistic on accuracy: difference {expected} over 12 paired runs."
    assert words in shown.notes


@pytest.mark.parametrize(
    ("shift", "metric", "verdict"),
    [
        ((0.0, 0.0, -0.05), "accuracy", "logistic is better than arcface on accuracy"),
        ((0.0, 0.0, -0.05), "ece", "logistic is better than arcface on ece"),
        ((0.0, 0.0, 0.05), "ece", "arcface is better than logistic on ece"),
        ((0.0, 0.0, 0.0), "accuracy", "arcface and logistic do not differ clearly on accuracy"),
    ],
)
def test_the_winner_is_named_even_if_it_is_the_baseline(shift, metric, verdict):
    shown = table(make_scores(shift), [metric], reference="logistic", n_train=400)
    assert any(note.startswith(verdict) for note in shown.notes)


def test_runs_that_one_side_lacks_are_left_out_and_named():
    scores = [s for s in make_scores() if (s.variant, s.seed) != ("logistic", 2)]
    shown = table(scores, ["accuracy"], reference="logistic")
    assert (
        "arcface and logistic are compared without runs that one of them lacks: "
        "seed 2, fold 0; seed 2, fold 1; seed 2, fold 2."
    ) in shown.notes
    assert any(note.endswith("over 9 paired runs.") for note in shown.notes)


def test_the_verdicts_on_many_variants_are_one_sentence_each():
    rng = np.random.default_rng(5)
    shifts = {"ref": 0.0, **{f"up{i}": 0.1 for i in range(4)}, **{f"down{i}": -0.1 for i in range(3)}, "even": 0.0}
    scores = [
        make_score(name, seed, value=0.8 + shift + 0.01 * rng.normal(), n=50)
        for name, shift in shifts.items()
        for seed in range(6)
    ]
    lacking = [score for score in scores if (score.variant, score.seed) != ("up0", 3)]
    notes = table([*lacking, make_score("alone", 0)], ["accuracy"], reference="ref", n_train=500).notes
    assert "Better than ref on accuracy: up0, up1, up2, up3." in notes
    assert "Worse than ref on accuracy: down0, down1, down2." in notes
    assert "Not clearly different from ref on accuracy: even." in notes
    assert "Too few runs for an interval to ref on accuracy: alone." in notes
    assert "up0 and ref are compared without runs that one of them lacks: seed 3, fold 0." in notes
    assert not any("paired runs" in note for note in notes)


def test_one_shared_run_gives_no_interval():
    scores = [
        make_score("logistic", seed=0),
        make_score("bilstm", seed=0),
        make_score("bilstm", seed=1),
    ]
    shown = table(scores, ["accuracy"], reference="logistic", n_train=400)
    assert shown.columns["accuracy minus logistic [95%]"][1].text == "-"
    assert "bilstm and logistic share too few runs (1) for an interval." in shown.notes


def test_the_paired_test_asks_for_the_training_size():
    scores = [score for score in make_scores() if score.split == "test"]
    with pytest.raises(ValueError, match="needs n_train"):
        table(scores, ["accuracy"], reference="logistic")


def make_class_scores() -> list[Score]:
    """Two variants, two classes; the logistic regression never says Vip in one run."""
    values = {("logistic", "Sst"): (0.8, 0.6), ("logistic", "Vip"): (0.5, np.nan), ("bilstm", "Sst"): (0.9, 0.7)}
    values["bilstm", "Vip"] = (0.2, 0.4)
    return [
        make_score(variant, seed, metric=f"{measure} {name}", value=value)
        for (variant, name), both in values.items()
        for measure in ("precision", "recall")
        for seed, value in enumerate(both)
    ] + make_scores()


def test_classes_stand_in_rows_and_the_better_variant_is_bold():
    shown = class_table(make_class_scores(), ("Sst", "Vip"), ("bilstm", "logistic"), ("precision",))
    texts = {header: [cell.text for cell in cells] for header, cells in shown.columns.items()}
    assert texts == {
        "class": ["Sst", "Vip"],
        "precision, bilstm": ["0.800 ± 0.141", "0.300 ± 0.141"],
        "precision, logistic": ["0.700 ± 0.141", "0.500"],
    }
    assert [cell.bold for cell in shown.columns["precision, bilstm"]] == [True, False]
    assert "logistic: 1 run without a finite precision Vip, left out of its mean." in shown.notes
    with pytest.raises(ValueError, match="no metric precision Sts"):
        class_table(make_class_scores(), ("Sts",), ("bilstm",), ("precision",))


def test_what_has_no_best_is_not_bold():
    shown = table(make_scores(), ["accuracy"], ranked=False)
    assert not any(cell.bold for cells in shown.columns.values() for cell in cells)


def test_both_renderings_show_the_same_cells():
    shown = table(make_scores(), ["accuracy", "ece"], {"arcface": {"ece": "[bold]|x"}})
    console = Console(file=io.StringIO(), width=160)
    print_table(shown, console)
    terminal, text = console.file.getvalue(), markdown(shown)
    for cells in shown.columns.values():
        for cell in cells:
            assert cell.text in terminal
            escaped = cell.text.replace("|", r"\|")
            assert f"| **{escaped}** |" in text if cell.bold else f"| {escaped} |" in text
    for note in shown.notes:
        assert note in terminal and f"- {note}" in text


# Figures.


def test_curves_stop_where_fewer_than_half_of_the_runs_live(tmp_path):
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
    with pytest.raises(ValueError, match="4 runs, but 2 names"):
        draw_curves(tmp_path, history, ["a", "b"], ["loss"])


def test_confusion_keeps_counts_and_shares(tmp_path):
    counts = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    png = draw_confusion(tmp_path, counts, CLASSES[:3], "demo")
    rows = read_rows(png)
    assert [int(row["count"]) for row in rows] == counts.ravel().tolist()
    share = np.array([float(row["share"]) for row in rows]).reshape(3, 3)
    np.testing.assert_allclose(share, [[0.8, 0.2, 0], [0.25, 0.75, 0], [np.nan] * 3])
    assert (rows[1]["true"], rows[1]["predicted"]) == ("Lamp5", "Sncg")
    assert_picture(png)


def test_attention_is_drawn_as_given(tmp_path):
    attention = np.random.default_rng(2).dirichlet(np.ones(12), size=5)
    families = [f"a_rather_long_family_name_{number}" for number in range(12)]
    png = draw_attention(tmp_path, attention, CLASSES, families)
    drawn = {(row["class"], row["family"]): float(row["attention"]) for row in read_rows(png)}
    for (i, j), weight in np.ndenumerate(attention):
        assert drawn[CLASSES[i], families[j]] == weight
    assert_picture(png)


def test_an_embedding_is_drawn_as_given_a_panel_each(tmp_path):
    rng = np.random.default_rng(3)
    planes = {"one": rng.normal(size=(60, 2)), "two": rng.normal(size=(60, 2)).astype(np.float32)}
    label = np.array(CLASSES)[np.arange(60) % 5]
    png = draw_embedding(tmp_path, planes, label, note="what it is")
    rows = read_rows(png)
    for title, plane in planes.items():
        own = [row for row in rows if row["panel"] == title]
        assert [row["class"] for row in own] == label.tolist()
        assert [(float(row["x"]), float(row["y"])) for row in own] == [tuple(point) for point in plane.tolist()]
    assert_picture(png)
    assert imread(png).shape[1] > 1.3 * imread(draw_embedding(tmp_path, planes["one"], label, name="one")).shape[1]
    with pytest.raises(ValueError, match=r"embedding 'one' has shape \(60, 2\), but there are 59 labels"):
        draw_embedding(tmp_path, planes, label[1:])


def test_names_of_classes_that_lie_together_do_not_hide_each_other():
    placed = _apart(np.array([[0.0, 0.0], [0.1, 0.01], [0.0, 0.9], [5.0, 0.0], [0.2, 0.02]]), 1.0)
    np.testing.assert_allclose(placed[3], [5.0, 0.0])
    beside = placed[[0, 1, 2, 4]]
    assert np.diff(np.sort(beside[:, 1])).min() >= 1.0
    np.testing.assert_allclose(placed[:, 0], [0.0, 0.1, 0.0, 5.0, 0.2])


def test_bars_hold_the_numbers_of_the_table(tmp_path):
    scores = make_scores()
    lines = {"Bayes classifier": 0.9}
    png = draw_bars(tmp_path, scores, "accuracy", lines, baselines=["logistic"])
    drawn = {(row["name"], row["drawn as"], row["seed"]): float(row["value"]) for row in read_rows(png)}
    for (variant, metric), summary in summarise(scores).items():
        if metric == "accuracy":
            assert drawn[variant, "mean", ""] == summary.mean
            assert drawn[variant, "sd", ""] == summary.sd
            seeds = [drawn[variant, "seed", str(seed)] for seed in range(4)]
            assert np.mean(seeds) == pytest.approx(summary.mean)
    assert drawn["Bayes classifier", "reference line", ""] == 0.9
    assert_picture(png)


def test_classes_are_drawn_from_the_tidy_table(tmp_path):
    png = draw_classes(tmp_path, make_class_scores(), "precision", ("Sst", "Vip"), ("bilstm", "logistic"))
    drawn = {(row["class"], row["variant"], row["drawn as"], row["seed"]): row["value"] for row in read_rows(png)}
    assert float(drawn["Sst", "bilstm", "mean", ""]) == pytest.approx(0.8)
    assert float(drawn["Vip", "logistic", "mean", ""]) == 0.5, "the run without a precision is left out"
    assert float(drawn["Vip", "bilstm", "seed", "1"]) == 0.4
    assert_picture(png)


def test_a_selective_curve_is_the_mean_over_seeds(tmp_path):
    coverage, accuracy = np.array([0.5, 1.0]), np.array([[1.0, 0.8], [0.9, 0.6]])
    png = draw_selective(tmp_path, coverage, {"bilstm": accuracy, "logistic": accuracy[:1]})
    rows = [row for row in read_rows(png) if row["variant"] == "bilstm"]
    assert [float(row["coverage"]) for row in rows] == [0.5, 1.0]
    np.testing.assert_allclose([float(row["mean"]) for row in rows], [0.95, 0.7])
    np.testing.assert_allclose([float(row["sd"]) for row in rows], accuracy.std(axis=0, ddof=1))
    assert_picture(png)


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "arcface"), ("ece", "arcface")])
def test_the_best_variant_is_on_top_and_a_dead_one_at_the_bottom(tmp_path, metric, best):
    scores = [*make_scores(), make_score("dead", value=np.nan, metric=metric)]
    rows = read_rows(draw_bars(tmp_path, scores, metric))
    names = [row["name"] for row in rows if row["drawn as"] == "mean"]
    assert names[0] == best and names[3] == "dead"


def test_names_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no metric acc"):
        draw_bars(tmp_path, make_scores(), "acc")
    with pytest.raises(ValueError, match="no variant forest"):
        draw_bars(tmp_path, make_scores(), "accuracy", baselines=["forest"])
    with pytest.raises(ValueError, match=r"5 x 2 names for an array of \(5, 3\)"):
        draw_attention(tmp_path, np.full((5, 3), 1 / 3), CLASSES, ["a", "b"])


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    one, two = (draw_bars(tmp_path / name, make_scores(), "ece") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


# The report.


def test_every_link_of_the_report_exists(tmp_path):
    scores = make_scores()
    png = draw_bars(tmp_path / "a run", scores, "accuracy", name="by variant")
    report = write_report(
        tmp_path / "a run",
        "Interneurons",
        "What was asked.",
        {"Scores": table(scores, ["accuracy", "ece"])},
        {"Accuracy by variant": png},
        ["One defect is kept."],
    )
    text = report.read_text()
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links == ["figures/by%20variant.png", "figures/by%20variant.csv"]
    assert all((report.parent / link.replace("%20", " ")).is_file() for link in links)
    assert text.startswith("# Interneurons\n\nWhat was asked.\n\n## Scores\n\n| variant |")
    assert text.endswith("## Notes\n\n- One defect is kept.\n")


def test_a_report_does_not_link_to_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"lost\.png of the report does not exist"):
        write_report(tmp_path, "t", "i", {}, {"lost": tmp_path / "lost.png"})
    assert not (tmp_path / "report.md").exists()
