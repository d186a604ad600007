"""The transfer experiment on small synthetic tables: models are scored on the same folds, and conclusions follow intervals."""

import csv
import json

import numpy as np
import pytest
from rich.console import Console

from data_prep.patchseq.feature_csv import read_cells
from experiments.patchseq_transfer import FILE, PRESETS
from jaxephys.evaluation.comparison import ModelComparison, SplitKey
from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.grid import draw_splits
from jaxephys.patchseq.report.transfer import conclusion, donor_bootstrap, gains
from jaxephys.patchseq.source_transfer import LabelledCells, SourceDomain, macro_f1_of_confusion
from jaxephys.patchseq.transfer_grid import labelled_rows, train_classical_models
from jaxephys.patchseq.transfer_task import human_cells_first, is_mouse
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run

CLASSES = ("Lamp5", "Pvalb", "Sst", "Vip")
NAMES = ("vrest", "ri", "sag", "updown_ramp", "threshold_v_ramp")
CENTERS = 3.0 * np.eye(4, 5)


def write_both(path, human: int = 96, mouse: int = 160) -> None:
    """Four features separate the classes, in both species; mouse cells have other values, and some of its Vip cells are Sncg."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        about = ("cell_id", "species", "dataset", "subclass4", "subclass5", "t_type", "donor", "structure", "condition")
        writer.writerow((*about, *NAMES))
        for species, cells in (("mouse", mouse), ("human", human)):  # the order of the real file
            label = rng.permutation(np.resize(np.arange(4), cells))
            values = CENTERS[label] + rng.normal(size=(cells, 5)) + 20 * (species == "mouse")
            for i in range(cells):
                name = CLASSES[label[i]]
                fine = "Sncg" if species == "mouse" and name == "Vip" and i % 3 == 0 else name
                row = ["" if rng.random() < 0.03 else f"{value:.4f}" for value in values[i]]
                known = (f"{species}{i}", species, "synthetic", name, fine, "", f"{species}{i // 3}", "V1")
                writer.writerow((*known, ("acute", "culture")[i % 2], *row))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    write_both(folder / "mouse_human_aligned.csv")
    return folder


QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}  # to compile


@pytest.fixture(scope="module")
def finished(tables):
    small = ("--folds", "cell", "--hidden", "4", "--token", "3", "--released")
    done = run("experiments.patchseq_transfer", "smoke", "--data", str(tables), *small, cwd=tables, **QUICK)
    assert done.returncode == 0, done.stderr
    return only_run(tables)


def test_every_model_is_scored_on_every_fold(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if score.metric == "macro_f1"]
    networks = ("network", "network by accuracy", "mouse network", "sequential network", "joint network, alpha 0")
    networks += ("joint network, alpha 0.5", "joint network, selected alpha", "joint network, tuned")
    kernels = ("human-only average", "kernel", "kernel, mouse types", "kernel, shuffled types")
    classical = (
        "lda",
        "source-regularised lda",
        "logistic",
        "svm",
        "stacked logistic",
        "joint logistic",
        "mouse logistic",
        *kernels,
    )
    full = [score for score in scores if "labels" not in score.train_on and score.test_on == "cell"]
    assert {score.variant for score in full} == {*networks, *classical, "unlabelled transfer"}
    assert all(sum(s.n for s in full if s.variant == model) == 96 for model in networks), (
        "every human cell once, no mouse cell"
    )
    assert {s.train_on for s in full if s.variant == "mouse network"} == {"mouse"}
    few = {score.variant for score in scores if score.train_on == "20% of the labels"}
    assert few == {
        "lda",
        "source-regularised lda",
        "lda, unlabelled",
        "source-regularised lda, unlabelled",
        *kernels[:3],
    }


def test_separable_classes_are_found_and_transferred(finished):
    scores = [score for score in read_scores(finished / "scores.csv") if "labels" not in score.train_on]
    for model in ("lda", "source-regularised lda", "joint logistic", "mouse logistic", "unlabelled transfer"):
        found = [s.value for s in scores if (s.variant, s.metric, s.test_on) == (model, "macro_f1", "cell")]
        assert np.mean(found) > 0.75, model


def test_report_has_conclusions_and_names_the_deviations(finished):
    report = (finished / "report.md").read_text()
    for heading in ("Folds by cell", "Folds by cell: few labels", "Folds by cell: no label", "Test cells: cell, acute"):
        assert f"## {heading}" in report
    assert "Folds by cell, all labels: " in report and "differs in the selection only" in report
    assert "mouse Sncg cells count as Lamp5" in report
    assert {path.name for path in (finished / "figures").glob("*.png")} == {"bars_cell.png", "few_labels.png"}
    manifest = json.loads((finished / "manifest.json").read_text())
    phases = ("human", "mouse", "warm_up", "sequential", "joint", "fine_tune")
    assert all((finished / f"checkpoints_{phase}").is_dir() and phase in manifest for phase in phases)


def test_a_finished_run_resumes_to_the_same_scores(finished, tables):
    """Every phase is read from its checkpoint: none is trained again, and the numbers stay."""
    before = (finished / "scores.csv").read_bytes()
    (finished / "scores.csv").unlink()
    done = run("experiments.patchseq_transfer", "--resume", str(finished), cwd=tables, **QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resuming from the last checkpoint") == 6
    assert (finished / "scores.csv").read_bytes() == before


# What it is made of.


def test_human_cells_come_first_and_sncg_is_labelled_as_requested(tables):
    for released, name in ((False, "Vip"), (True, "Lamp5")):
        table = read_cells(tables, FILE, "subclass5" if released else "subclass4")
        both = human_cells_first(table, sncg_as_lamp5=released)
        mouse = is_mouse(both)
        assert not mouse[:96].any() and mouse[96:].all() and set(both.classes) == set(CLASSES)
        assert set(both.label[both.about["subclass5"] == "Sncg"]) == {name}


def test_larger_fractions_of_labels_include_smaller_ones_and_two_cells_of_each_class():
    codes, rows = np.repeat([0, 1, 2], [100, 40, 10]), np.arange(0, 150, 2)
    parts = [labelled_rows(codes, rows, fraction, SplitKey("cell", 3, 1)) for fraction in (0.05, 0.2, 1.0)]
    assert np.bincount(codes[parts[0]]).tolist() == [2, 2, 2] and np.bincount(codes[parts[1]]).tolist() == [10, 4, 2]
    assert set(parts[0]) <= set(parts[1]) <= set(parts[2]) == set(rows)


def test_no_prediction_depends_on_the_labels_of_test_cells(tables):
    """Changed labels of the test cells of one fold change none of its probabilities."""
    both = human_cells_first(read_cells(tables, FILE, "subclass4"))
    human, mouse = both.rows(np.arange(96)), both.rows(np.arange(96, len(both)))
    splits = draw_splits(human, ("donor",), 1, n_folds=2)
    key = SplitKey("donor", 0, 1)
    label = human.label.copy()
    label[splits[key].test] = np.roll(label[splits[key].test], 1)
    source, probabilities = SourceDomain(LabelledCells(mouse.values, mouse.codes())), []
    for table in (human, human.with_label(label)):
        comparison = ModelComparison(table, {key: splits[key]})
        folder = RunFolder(tables, "patchseq_transfer", PRESETS["smoke"], [], Console(quiet=True))
        few_labels = train_classical_models(folder, comparison, source, (0.2,))
        probabilities.append([*comparison.test_probability.values(), *few_labels[0.2].test_probability.values()])
    for ours, again in zip(*probabilities, strict=True):
        np.testing.assert_array_equal(ours[key], again[key])


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
