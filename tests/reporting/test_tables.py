"""Tables of a report show the numbers of the score table."""

import io

import numpy as np
import pytest
from rich.console import Console

from jaxephys.evaluation.intervals import corrected_test
from jaxephys.reporting.markdown import table_to_markdown
from jaxephys.reporting.tables import class_table, model_table, print_table
from tests.reporting.example_scores import VARIANTS, make_class_scores, make_score, make_scores


def test_bold_is_the_highest_accuracy_and_the_lowest_ece():
    shown = model_table(make_scores(), ["accuracy", "ece"])
    bold = {
        metric: [variant.text for variant, cell in zip(shown.columns["Model"], cells, strict=True) if cell.bold]
        for metric, cells in shown.columns.items()
    }
    assert bold == {"Model": [], "Accuracy": ["arcface"], "Expected calibration error": ["arcface"]}
    ece = [float(cell.text.split()[0]) for cell in shown.columns["Expected calibration error"]]
    assert ece[2] == min(ece)
    assert "Lower is better for expected calibration error. Bold: the best mean of a column." in shown.notes


def test_means_that_print_alike_are_both_bold():
    scores = [make_score("a", value=0.88301), make_score("b", value=0.88299)]
    assert [cell.bold for cell in model_table(scores, ["accuracy"]).columns["Accuracy"]] == [True, True]


def test_published_numbers_are_shown_unchanged_beside_ours():
    published = {"bilstm": {"accuracy": "0.91"}, "random forest": {"accuracy": "0.9 (t-types)"}}
    shown = model_table(make_scores(), ["accuracy", "ece"], published)
    texts = {name: [cell.text for cell in cells] for name, cells in shown.columns.items()}
    assert texts["Model"] == [*VARIANTS, "random forest"]
    assert texts["Accuracy, published"] == ["-", "0.91", "-", "0.9 (t-types)"]
    assert texts["Accuracy"][3] == texts["Expected calibration error"][3] == "-"
    assert "Expected calibration error, published" not in texts
    with pytest.raises(ValueError, match="no metric acuracy"):
        model_table(make_scores(), ["accuracy"], {"bilstm": {"acuracy": "0.91"}})


def test_difference_from_a_reference_is_paired_and_described():
    scores = make_scores()
    shown = model_table(scores, ["accuracy"], reference="logistic")
    value = {s[:8]: s.value for s in scores}
    a, b = ([value[make_score(variant, *run)[:8]] for run in np.ndindex(4, 3)] for variant in ("arcface", "logistic"))
    test = corrected_test(np.array(a), np.array(b), n_train=400, n_test=100)
    expected = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
    cells = shown.columns["Accuracy minus logistic [95 % interval]"]
    assert cells[0].text == "reference" and cells[2].text == expected
    words = f"arcface is better than logistic in accuracy: difference {expected} over 12 paired runs."
    assert words in shown.notes


@pytest.mark.parametrize(
    ("shift", "metric", "verdict"),
    [
        ((0.0, 0.0, -0.05), "accuracy", "logistic is better than arcface in accuracy"),
        ((0.0, 0.0, -0.05), "ece", "logistic is better than arcface in expected calibration error"),
        ((0.0, 0.0, 0.05), "ece", "arcface is better than logistic in expected calibration error"),
        ((0.0, 0.0, 0.0), "accuracy", "arcface and logistic do not differ clearly in accuracy"),
    ],
)
def test_better_model_is_named(shift, metric, verdict):
    shown = model_table(make_scores(shift), [metric], reference="logistic", n_train=400)
    assert any(note.startswith(verdict) for note in shown.notes)


def test_unpaired_runs_are_left_out_and_named():
    scores = [s for s in make_scores() if (s.variant, s.seed) != ("logistic", 2)]
    shown = model_table(scores, ["accuracy"], reference="logistic")
    assert (
        "The comparison of arcface and logistic leaves out runs that one of them lacks: "
        "seed 2, fold 0; seed 2, fold 1; seed 2, fold 2."
    ) in shown.notes
    assert any(note.endswith("over 9 paired runs.") for note in shown.notes)


def test_many_models_are_compared_in_one_sentence_per_result():
    rng = np.random.default_rng(5)
    shifts = {"ref": 0.0, **{f"up{i}": 0.1 for i in range(4)}, **{f"down{i}": -0.1 for i in range(3)}, "even": 0.0}
    scores = [
        make_score(name, seed, value=0.8 + shift + 0.01 * rng.normal(), n=50)
        for name, shift in shifts.items()
        for seed in range(6)
    ]
    incomplete = [score for score in scores if (score.variant, score.seed) != ("up0", 3)]
    notes = model_table([*incomplete, make_score("alone", 0)], ["accuracy"], reference="ref", n_train=500).notes
    assert "Better than ref in accuracy: up0, up1, up2, up3." in notes
    assert "Worse than ref in accuracy: down0, down1, down2." in notes
    assert "Not clearly different from ref in accuracy: even." in notes
    assert "Too few runs for an interval of the difference from ref in accuracy: alone." in notes
    assert "The comparison of up0 and ref leaves out runs that one of them lacks: seed 3, fold 0." in notes
    assert not any("paired runs" in note for note in notes)


def test_one_shared_run_gives_no_interval():
    scores = [
        make_score("logistic", seed=0),
        make_score("bilstm", seed=0),
        make_score("bilstm", seed=1),
    ]
    shown = model_table(scores, ["accuracy"], reference="logistic", n_train=400)
    assert shown.columns["Accuracy minus logistic [95 % interval]"][1].text == "-"
    assert "bilstm and logistic have too few runs in common (1) for an interval." in shown.notes


def test_paired_test_requires_the_number_of_training_rows():
    scores = [score for score in make_scores() if score.split == "test"]
    with pytest.raises(ValueError, match="needs n_train"):
        model_table(scores, ["accuracy"], reference="logistic")


def test_class_table_has_a_row_per_class():
    shown = class_table(make_class_scores(), ("Sst", "Vip"), ("bilstm", "logistic"), ("precision",))
    texts = {header: [cell.text for cell in cells] for header, cells in shown.columns.items()}
    assert texts == {
        "Class": ["Sst", "Vip"],
        "Precision, bilstm": ["0.800 ± 0.141", "0.300 ± 0.141"],
        "Precision, logistic": ["0.700 ± 0.141", "0.500"],
    }
    assert [cell.bold for cell in shown.columns["Precision, bilstm"]] == [True, False]
    assert "logistic: 1 run without a finite precision, Vip is left out of the mean." in shown.notes
    with pytest.raises(ValueError, match="no metric precision Sts"):
        class_table(make_class_scores(), ("Sts",), ("bilstm",), ("precision",))


def test_unranked_table_has_no_bold_cells():
    shown = model_table(make_scores(), ["accuracy"], ranked=False)
    assert not any(cell.bold for cells in shown.columns.values() for cell in cells)


def test_terminal_and_markdown_show_the_same_cells():
    shown = model_table(make_scores(), ["accuracy", "ece"], {"arcface": {"ece": "[bold]|x"}})
    console = Console(file=io.StringIO(), width=160)
    print_table(shown, console)
    terminal, text = console.file.getvalue(), table_to_markdown(shown)
    for cells in shown.columns.values():
        for cell in cells:
            assert cell.text in terminal
            escaped = cell.text.replace("|", r"\|")
            assert f"| **{escaped}** |" in text if cell.bold else f"| {escaped} |" in text
    for note in shown.notes:
        assert note in terminal and f"- {note}" in text
