"""Embedding, classifier and abstention in one call."""

import numpy as np
import pytest

import jaxephys
from jaxephys.hippie.synthetic import make_synthetic_units
from jaxephys.hippie.unit_labels import label_units
from jaxephys.schemas.unit_table import UnitTable
from tests.checkpoints.write_fixtures import HERE


@pytest.fixture(scope="module")
def units():
    return make_synthetic_units(60)


@pytest.fixture(scope="module")
def model():
    return jaxephys.load(HERE / "schema-2" / "hippie")


def test_units_like_the_reference_get_its_labels(model, units):
    reference, query = units.rows(np.arange(45)), units.rows(np.arange(45, 60))
    found = label_units(model, reference, query)
    assert found.unit.tolist() == query.name.tolist() and set(found.classes) == set(reference.classes)
    np.testing.assert_allclose(found.class_probability.sum(axis=1), 1)
    np.testing.assert_array_equal(found.class_probability.max(axis=1), found.probability)
    np.testing.assert_array_equal(found.classes[found.class_probability.argmax(axis=1)], found.label)
    answered = ~found.abstained
    assert answered.sum() >= 5 and np.mean(found.label[answered] == query.label[answered]) > 0.8


def test_a_larger_coverage_abstains_more_often_or_as_often_from_ambiguity(model, units):
    reference, query = units.rows(np.arange(45)), units.rows(np.arange(45, 60))
    wide, narrow = (label_units(model, reference, query, coverage=coverage) for coverage in (0.99, 0.5))
    assert wide.abstained.all(), "classes of 15 units are never excluded at this coverage"
    assert not narrow.abstained.all()
    np.testing.assert_array_equal(wide.label, narrow.label)


def test_a_unit_without_curves_is_not_labelled(model, units):
    raw = {name: np.full_like(curves[:2], np.nan) for name, curves in units.raw.items()}
    raw["wave"][0] = units.raw["wave"][0]
    found = label_units(model, units, UnitTable.from_arrays(**raw))
    assert found.abstained[1] and np.isfinite(found.probability).all()


def test_labels_may_be_given_and_unlabelled_units_are_left_out(model, units):
    query, labels = units.rows(np.arange(5)), units.label.copy()
    expected = label_units(model, units.rows(np.arange(10, 60)), query)
    labels[:10] = ""
    found = label_units(model, units, query, labels)
    np.testing.assert_array_equal(found.class_probability, expected.class_probability)


def test_too_few_labels_are_one_sentence(model, units):
    one = np.array(["a"] * 59 + ["b"])
    for labels, expected in (
        (one, r"the reference has a \(59\), b \(1\): give at least 2"),
        ([""] * 60, "has no label"),
        (["a"], "1 labels do not fit 60 units"),
    ):
        with pytest.raises(ValueError, match=expected):
            label_units(model, units, units, labels)


def test_curves_of_other_lengths_are_labelled(model, units):
    raw = {
        **units.raw,
        "acg": np.repeat(units.raw["acg"], 2, axis=1)[:, :-1],
        "wave": np.repeat(units.raw["wave"], 2, axis=1),
    }
    query = UnitTable.from_arrays(**raw, technology=units.column("technology"))
    found = label_units(model, units, query)
    assert np.mean(found.label == units.label) > 0.8
