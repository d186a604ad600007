"""The family table: what it holds, that it survives the disk, and one sentence for every bad input."""

import numpy as np
import pytest

from jaxephys.schemas.feature_table import SCHEMA, FeatureTable, content_hash

WIDTHS = {"isi": 2, "psth": 3}


def make(values=None, label=("a", "b", "a", "b"), **known) -> FeatureTable:
    return FeatureTable.of(np.arange(20.0).reshape(4, 5) if values is None else values, WIDTHS, label, **known)


def with_value(value: float) -> np.ndarray:
    values = np.zeros((4, 5))
    values[2, 3] = value
    return values


def test_a_table_survives_the_disk(tmp_path):
    table = make(donor=np.array(["x", "x", "y", "y"]))
    table.save(tmp_path / "table.npz")
    back = FeatureTable.read(tmp_path / "table.npz")
    np.testing.assert_array_equal(back.values, table.values)
    assert (back.families, back.widths, back.features) == (table.families, table.widths, table.features)
    assert list(back.donor) == ["x", "x", "y", "y"]
    assert back.species is None
    assert list(back.codes()) == [0, 1, 0, 1]


def test_missing_values_words_and_origin_survive_the_disk(tmp_path):
    observed = np.ones((4, 5), bool)
    observed[2, 3:] = False  # one missing, one a stand-in
    table = make(
        with_value(np.nan),
        observed=observed,
        about={"condition": np.array(["acute", "", "culture", "acute"])},
        provenance={"source": "simulated", "cells": 4},
    )
    table.save(tmp_path / "named")  # no ending is added
    back = FeatureTable.read(tmp_path / "named")
    np.testing.assert_array_equal(back.values, table.values)
    np.testing.assert_array_equal(back.observed, observed)
    assert list(back.about["condition"]) == ["acute", "", "culture", "acute"]
    assert back.provenance == {"source": "simulated", "cells": 4}
    np.testing.assert_array_equal(back.rows(np.array([2])).observed, observed[2:3])


def test_another_text_can_be_the_label():
    kinds = {"subclass4": np.array(["Vip", "Sst", "", "Sst"]), "donor_age": np.array(["1", "2", "3", "4"])}
    table = make(label=None, about=kinds).labelled("subclass4")
    assert (list(table.label), list(table.cell)) == (["Vip", "Sst", "Sst"], ["0", "1", "3"])
    assert list(table.about["donor_age"]) == ["1", "2", "4"]
    with pytest.raises(ValueError, match="knows no 'subclass5' of its cells: it knows subclass4, donor_age"):
        table.labelled("subclass5")


BAD = {
    "a nan that was observed": (
        lambda: make(with_value(np.nan), observed=np.ones((4, 5), bool)),
        "feature 'psth_1' of cell 2 is nan, and it is marked as observed",
    ),
    "a cell without a value": (
        lambda: make(np.where(np.arange(4)[:, None] == 1, np.nan, np.ones((4, 5)))),
        "cell 1 has no value at all",
    ),
    "a mask too small": (lambda: make(observed=np.ones((4, 4), bool)), "observed has shape"),
    "a word too few": (lambda: make(about={"condition": np.array(["acute"])}), "condition has shape"),
    "infinity": (lambda: make(with_value(np.inf)), r"feature 'psth_1' of cell 2 is inf"),
    "a wrong width": (lambda: make(np.zeros((4, 6))), "do not make up the 6 columns"),
    "one dimension": (lambda: make(np.zeros(4)), "a table is"),
    "no cells": (lambda: make(np.zeros((0, 5)), label=()), "at least one of each"),
    "a label too few": (lambda: make(label=("a", "b", "a")), "label has shape"),
    "an empty label": (lambda: make(label=("a", "", "a", "b")), "cell 1 has no label"),
    "one id twice": (lambda: make(cell=["u", "v", "u", "w"]), "cell u stands 2 times"),
    "no labels": (lambda: make(label=None).codes(), "the table has no labels"),
    "a strange label": (lambda: make().codes(np.array(["a", "c"])), "label 'b' is not one of the classes"),
    "no widths": (lambda: FeatureTable.of(np.zeros((4, 5)), ["isi", "psth"]), "give the width of each family"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_one_sentence(case):
    build, hint = BAD[case]
    with pytest.raises(ValueError, match=hint) as caught:
        build()
    assert "\n" not in str(caught.value)


def fields(**changed) -> dict:
    """All that a file holds, its hash in order."""
    table = make()
    names = ("values", "families", "widths", "features", "cell")
    content = {
        **{name: np.asarray(getattr(table, name)) for name in names},
        "observed": np.ones((4, 5), bool),
        "about": np.array(["label"]),
        "about_label": table.label,
        **{name: array for name, array in changed.items() if name != "schema"},
    }
    return {"schema": SCHEMA, "provenance": "{}", "sha256": content_hash(content), **content, **changed}


def without(name: str) -> dict:
    return {key: value for key, value in fields().items() if key != name}


def save_array(path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def flip_a_bit(path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(b"values.npy") + 40  # inside the compressed array
    data[place] ^= 0xFF
    path.write_bytes(bytes(data))


DAMAGES = {
    "absent": (lambda path: path.unlink(), "there is no table"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "is not a readable .npz"),
    "empty": (lambda path: path.write_bytes(b""), "is not a readable .npz"),
    "text": (lambda path: path.write_text("cell,label\n"), "is not a readable .npz"),
    "one array": (save_array, "is not a readable .npz"),
    "a flipped bit": (flip_a_bit, "is not a readable .npz"),
    "pickled": (lambda path: np.savez(path, x=np.array([{"a": 1}], dtype=object)), "is not a readable .npz"),
    "foreign": (
        lambda path: np.savez(path, x=np.zeros(3)),
        "lacks about, cell, families, features, observed, provenance, schema, sha256, values, widths",
    ),
    "a key less": (lambda path: np.savez(path, **without("widths")), "lacks widths"),
    "another schema": (lambda path: np.savez(path, **fields(schema="other 2")), "has the schema 'other 2'"),
    "text for values": (
        lambda path: np.savez(path, **fields(values=np.full((4, 5), "x"))),
        "its values are <U1 of shape",
    ),
    "half a width": (lambda path: np.savez(path, **fields(widths=np.array([2.5, 2.5]))), "its widths are float64"),
    "one width for all": (
        lambda path: np.savez(path, **fields(widths=np.array(5))),
        r"its widths are int64 of shape \(\)",
    ),
    "nan": (lambda path: np.savez(path, **fields(values=with_value(np.nan))), "feature 'psth_1' of cell 2 is nan"),
    "another value": (
        lambda path: np.savez(path, **{**fields(), "values": with_value(7)}),
        "is not what was written",
    ),
    "a word that is not there": (
        lambda path: np.savez(path, **fields(about=np.array(["label", "sex"]))),
        "lacks about_sex",
    ),
    "a feature less": (lambda path: np.savez(path, **fields(features=np.array(["a"]))), "1 feature names for 5"),
    "a family twice": (lambda path: np.savez(path, **fields(families=np.array(["isi", "isi"]))), "stands twice"),
    "a donor less": (
        lambda path: np.savez(path, **fields(about=np.array(["label", "donor"]), about_donor=np.array(["x"]))),
        "donor has shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, damage):
    path = tmp_path / "table.npz"
    make().save(path)
    spoil, hint = DAMAGES[damage]
    spoil(path)
    with pytest.raises(ValueError, match=hint) as caught:
        FeatureTable.read(path)
    assert "\n" not in str(caught.value)


def test_a_file_with_every_field_in_order_is_read(tmp_path):
    """What the cases above damage is a good file."""
    np.savez(tmp_path / "table.npz", **fields())
    assert len(FeatureTable.read(tmp_path / "table.npz")) == 4


def test_values_for_three_dimensions_are_laid_out_family_after_family():
    values = np.arange(24.0).reshape(2, 3, 4)
    table = FeatureTable.of(values, ["a", "b", "c"])
    assert table.widths == (4, 4, 4) and table.features[4] == "b_0"
    np.testing.assert_array_equal(table.values, values.reshape(2, 12))
    with pytest.raises(ValueError, match="2 families of widths"):
        FeatureTable.of(values, ["a", "b"])


def test_some_rows_are_a_table_with_all_that_is_known():
    table = make(donor=np.array(["x", "x", "y", "z"])).rows(np.array([3, 0]))
    assert (list(table.cell), list(table.label), list(table.donor)) == (["3", "0"], ["b", "a"], ["z", "x"])
    np.testing.assert_array_equal(table.values[1], np.arange(5))
