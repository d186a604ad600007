"""The transfer experiment on small synthetic tables: models are scored on the same folds, and conclusions follow intervals."""

import json

import numpy as np
import pytest

from data_prep.patchseq.feature_csv import read_cells
from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.splits import draw_splits
from jaxephys.patchseq.network.classifier import TwoSpeciesNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.report.transfer import published_texts
from jaxephys.patchseq.transfer_grid import TransferNetworks
from jaxephys.patchseq.transfer_task import human_cells_first
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run, run
from tests.patchseq.example_cells import quiet_folder, write_both


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    write_both(folder / "mouse_human_aligned.csv")
    return folder


QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}  # to compile


@pytest.fixture(scope="module")
def finished(tables):
    small = ("--folds", "cell", "--hidden", "4", "--rules", "code")
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
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert drawn == {"bars_cell", "few_labels", "confusions"}
    manifest = json.loads((finished / "manifest.json").read_text())
    phases = ("human", "mouse", "warm_up", "sequential", "joint", "fine_tune")
    assert all((finished / f"checkpoints_{phase}").is_dir() and phase in manifest for phase in phases)


def test_the_published_numbers_are_beside_the_networks_of_table_6(finished):
    rows = {}
    for line in (finished / "report.md").read_text().split("networks against")[1].split("\n## ")[0].splitlines():
        name, *texts = (cell.strip(" *") for cell in line.strip("|").split("|"))
        rows[name] = texts
    macro_f1, accuracy = (rows["Model"].index(f"{metric}, published") for metric in ("Macro F1", "Accuracy"))
    assert (rows["network by accuracy"][macro_f1], rows["network by accuracy"][accuracy]) == (
        "0.6580 ± 0.0286",
        "0.7710 ± 0.0172",
    )
    assert rows["joint network, tuned"][macro_f1] == "0.6795 ± 0.0120" and rows["network"][macro_f1] == "-"


def test_networks_with_our_encoder_have_no_published_number(tables):
    both = human_cells_first(read_cells(tables, "mouse_human_aligned.csv", "subclass4"))
    human = both.rows(np.arange(96))
    comparison = ModelComparison(human, draw_splits(human, ("cell",), 1, 2))
    layout = RaggedLayout.from_widths(both.widths)
    for token, rows in ((None, {"network", "joint network, tuned"}), (3, set())):
        network = TwoSpeciesNetwork(layout, 4, hidden=4, token=token)
        networks = TransferNetworks(quiet_folder(tables), comparison, both, network, TrainConfig())
        assert set(published_texts(networks)) == rows


def test_a_finished_run_resumes_to_the_same_scores(finished, tables):
    """Every phase is read from its checkpoint: none is trained again, and the numbers stay."""
    before = (finished / "scores.csv").read_bytes()
    (finished / "scores.csv").unlink()
    done = run("experiments.patchseq_transfer", "--resume", str(finished), cwd=tables, **QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resuming from the last checkpoint") == 6
    assert (finished / "scores.csv").read_bytes() == before
