"""Transfer from mouse cells: fractions of the labels are nested, and no prediction depends on labels of test cells."""

import numpy as np
import pytest
from rich.console import Console

from data_prep.patchseq.feature_csv import read_cells
from experiments.patchseq_transfer import FILE, PRESETS
from jaxephys.evaluation.comparison import ModelComparison
from jaxephys.evaluation.splits import SplitKey, draw_splits
from jaxephys.patchseq.source_transfer import LabelledCells, SourceDomain
from jaxephys.patchseq.transfer_grid import labelled_rows, train_classical_models
from jaxephys.patchseq.transfer_task import human_cells_first
from jaxephys.reporting.run_folder import RunFolder
from tests.patchseq.example_cells import write_both


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    write_both(folder / "mouse_human_aligned.csv")
    return folder


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
