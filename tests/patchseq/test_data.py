"""The family table: what it holds, that it survives the disk, and one sentence for every bad input."""

import numpy as np
import pytest

from jaxephys.patchseq.data import FamilyTable
from jaxephys.patchseq.planted import bayes_predictions, plant

WIDTHS = {"isi": 2, "psth": 3}


def make(values=None, label=("a", "b", "a", "b"), **known) -> FamilyTable:
    return FamilyTable.of(np.arange(20.0).reshape(4, 5) if values is None else values, WIDTHS, label, **known)


def with_value(value: float) -> np.ndarray:
    values = np.zeros((4, 5))
    values[2, 3] = value
    return values


def test_a_table_survives_the_disk(tmp_path):
    table = make(donor=np.array(["x", "x", "y", "y"]))
    table.save(tmp_path / "table.npz")
    back = FamilyTable.read(tmp_path / "table.npz")
    np.testing.assert_array_equal(back.values, table.values)
    assert (back.families, back.widths, back.features) == (table.families, table.widths, table.features)
    assert list(back.donor) == ["x", "x", "y", "y"]
    assert back.species is None
    assert list(back.codes()) == [0, 1, 0, 1]


BAD = {
    "nan": (lambda: make(with_value(np.nan)), r"feature 'psth_1' of cell 2 is nan"),
    "infinity": (lambda: make(with_value(np.inf)), r"feature 'psth_1' of cell 2 is inf"),
    "a wrong width": (lambda: make(np.zeros((4, 6))), "do not make up the 6 columns"),
    "one dimension": (lambda: make(np.zeros(4)), "a table is"),
    "no cells": (lambda: make(np.zeros((0, 5)), label=()), "at least one of each"),
    "a label too few": (lambda: make(label=("a", "b", "a")), "label has shape"),
    "an empty label": (lambda: make(label=("a", "", "a", "b")), "cell 1 has no label"),
    "one id twice": (lambda: make(cell=["u", "v", "u", "w"]), "cell u stands 2 times"),
    "no labels": (lambda: make(label=None).codes(), "the table has no labels"),
    "a strange label": (lambda: make().codes(np.array(["a", "c"])), "label 'b' is not one of the classes"),
    "no widths": (lambda: FamilyTable.of(np.zeros((4, 5)), ["isi", "psth"]), "give the width of each family"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_one_sentence(case):
    build, hint = BAD[case]
    with pytest.raises(ValueError, match=hint) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["absent", "truncated", "foreign", "pickled"])
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, damage):
    path = tmp_path / "table.npz"
    make().save(path)
    if damage == "absent":
        path.unlink()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    if damage == "foreign":
        np.savez(path, x=np.zeros(3))
    if damage == "pickled":
        np.savez(path, schema=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"table\.npz"):
        FamilyTable.read(path)


def test_the_planted_posterior_is_calibrated_so_its_argmax_is_the_best():
    planted = plant(6000, seed=1, strength=0.6)
    right = bayes_predictions(planted) == planted.table.codes()
    confidence = planted.posterior.max(axis=1)
    np.testing.assert_allclose(planted.posterior.sum(axis=1), 1, atol=1e-9)
    assert abs(right.mean() - confidence.mean()) < 3 * right.std() / np.sqrt(len(right))
    assert 0.6 < right.mean() < 0.98
