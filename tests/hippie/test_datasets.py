"""Folders of data sets: copies of a held-out data set are excluded from pretraining."""

import pytest

from data_prep.units.registry import find_dataset, held_out
from jaxephys.hippie.datasets import unrelated_tables


def test_copies_of_a_held_out_data_set_are_excluded_from_pretraining(tables):
    assert set(unrelated_tables(["hull"], tables, find_dataset, held_out)) == {"lisberger", "watson"}
    assert len(unrelated_tables(["watson"], tables, find_dataset, held_out)) == 2, "one copy of two"
    with pytest.raises(ValueError, match="no data set 'lisbon' to hold out: choose one of hull, hull_counts"):
        unrelated_tables(["lisbon"], tables, find_dataset, held_out)
    assert (
        unrelated_tables(["hull"], {name: tables[name] for name in ("hull", "hull_counts")}, find_dataset, held_out)
        == {}
    )
