"""FeatureTable: content, writing and reading, hashes, and one sentence for every invalid input."""

import numpy as np
import pytest
from scipy import sparse

from jaxephys.schemas.feature_table import SCHEMA, FeatureTable, group_features
from jaxephys.schemas.storage import content_hash

WIDTHS = {"isi": 2, "psth": 3}


def make(values=None, label=("a", "b", "a", "b"), **known) -> FeatureTable:
    return FeatureTable.from_arrays(np.arange(20.0).reshape(4, 5) if values is None else values, WIDTHS, label, **known)


def with_value(value: float) -> np.ndarray:
    values = np.zeros((4, 5))
    values[2, 3] = value
    return values


def test_saved_table_reads_back_equal(tmp_path):
    table = make(donor=np.array(["x", "x", "y", "y"]))
    table.write_file(tmp_path / "table.npz")
    back = FeatureTable.read(tmp_path / "table.npz")
    np.testing.assert_array_equal(back.values, table.values)
    assert (back.families, back.widths, back.features) == (table.families, table.widths, table.features)
    assert list(back.donor) == ["x", "x", "y", "y"]
    assert back.species is None
    assert list(back.codes()) == [0, 1, 0, 1]


def test_missing_values_texts_and_provenance_read_back_equal(tmp_path):
    observed = np.ones((4, 5), bool)
    observed[2, 3:] = False  # one missing, one a stand-in
    table = make(
        with_value(np.nan),
        observed=observed,
        about={"condition": np.array(["acute", "", "culture", "acute"])},
        provenance={"source": "simulated", "cells": 4},
    )
    table.write_file(tmp_path / "named")  # no ending is added
    back = FeatureTable.read(tmp_path / "named")
    np.testing.assert_array_equal(back.values, table.values)
    np.testing.assert_array_equal(back.observed, observed)
    assert list(back.about["condition"]) == ["acute", "", "culture", "acute"]
    assert back.provenance == {"source": "simulated", "cells": 4}
    np.testing.assert_array_equal(back.rows(np.array([2])).observed, observed[2:3])


def test_another_text_column_can_be_the_label():
    kinds = {"subclass4": np.array(["Vip", "Sst", "", "Sst"]), "donor_age": np.array(["1", "2", "3", "4"])}
    table = make(label=None, about=kinds).labelled("subclass4")
    assert (list(table.label), list(table.cell)) == (["Vip", "Sst", "Sst"], ["0", "1", "3"])
    assert list(table.about["donor_age"]) == ["1", "2", "4"]
    with pytest.raises(ValueError, match="no text column 'subclass5': it has label, subclass4, donor_age"):
        table.labelled("subclass5")


BAD = {
    "a nan that was observed": (
        lambda: make(with_value(np.nan), observed=np.ones((4, 5), bool)),
        "feature 'psth_1' of cell 2 is nan, but it is marked as observed",
    ),
    "a cell without a value": (
        lambda: make(np.where(np.arange(4)[:, None] == 1, np.nan, np.ones((4, 5)))),
        "cell 1 has no value at all",
    ),
    "a mask too small": (lambda: make(observed=np.ones((4, 4), bool)), "observed has shape"),
    "a word too few": (lambda: make(about={"condition": np.array(["acute"])}), "condition has the shape"),
    "infinity": (lambda: make(with_value(np.inf)), r"feature 'psth_1' of cell 2 is inf"),
    "a wrong width": (lambda: make(np.zeros((4, 6))), "do not make up the 6 columns"),
    "one dimension": (lambda: make(np.zeros(4)), "a table is"),
    "no cells": (lambda: make(np.zeros((0, 5)), label=()), "at least one of each"),
    "a label too few": (lambda: make(label=("a", "b", "a")), "label has the shape"),
    "an empty label": (lambda: make(label=("a", "", "a", "b")), "cell 1 has no label"),
    "one id twice": (lambda: make(cell=["u", "v", "u", "w"]), "cell u occurs 2 times"),
    "no labels": (lambda: make(label=None).codes(), "the table has no labels"),
    "a strange label": (lambda: make().codes(np.array(["a", "c"])), "label 'b' is not one of the classes"),
    "complex values": (lambda: make(np.ones((4, 5)) * 1j), r"values are complex \(complex128\): give real numbers"),
    "sparse values": (
        lambda: make(sparse.csr_array(np.eye(4, 5))),
        "values are a sparse csr_array: give values.toarray()",
    ),
    "words as values": (lambda: make(np.full((4, 5), "high")), "values of type <U4 are no numbers"),
    "no widths": (lambda: FeatureTable.from_arrays(np.zeros((4, 5)), ["isi", "psth"]), "give the width of each family"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_table_raises_one_sentence(case):
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
    offset = data.index(b"values.npy") + 40  # inside the compressed array
    data[offset] ^= 0xFF
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
        "was changed after it was written",
    ),
    "a word that is not there": (
        lambda path: np.savez(path, **fields(about=np.array(["label", "sex"]))),
        "lacks about_sex",
    ),
    "a feature less": (lambda path: np.savez(path, **fields(features=np.array(["a"]))), "1 feature names for 5"),
    "a family twice": (lambda path: np.savez(path, **fields(families=np.array(["isi", "isi"]))), "occurs twice"),
    "a donor less": (
        lambda path: np.savez(path, **fields(about=np.array(["label", "donor"]), about_donor=np.array(["x"]))),
        "donor has the shape",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_invalid_file_raises_one_sentence(tmp_path, damage):
    path = tmp_path / "table.npz"
    make().write_file(path)
    spoil, hint = DAMAGES[damage]
    spoil(path)
    with pytest.raises(ValueError, match=hint) as caught:
        FeatureTable.read(path)
    assert "\n" not in str(caught.value)


def test_valid_file_is_read(tmp_path):
    """What the cases above damage is a good file."""
    np.savez(tmp_path / "table.npz", **fields())
    assert len(FeatureTable.read(tmp_path / "table.npz")) == 4


def test_three_dimensional_values_are_concatenated_by_family():
    values = np.arange(24.0).reshape(2, 3, 4)
    table = FeatureTable.from_arrays(values, ["a", "b", "c"])
    assert table.widths == (4, 4, 4) and table.features[4] == "b_0"
    np.testing.assert_array_equal(table.values, values.reshape(2, 12))
    with pytest.raises(ValueError, match="2 families of widths"):
        FeatureTable.from_arrays(values, ["a", "b"])


def test_rows_keep_labels_and_text_columns():
    table = make(donor=np.array(["x", "x", "y", "z"])).rows(np.array([3, 0]))
    assert (list(table.cell), list(table.label), list(table.donor)) == (["3", "0"], ["b", "a"], ["z", "x"])
    np.testing.assert_array_equal(table.values[1], np.arange(5))


def test_hashes_of_tables_are_stable():
    """Tables of earlier versions have these hashes; a change would make every table on disk unreadable."""
    texts = {"donor": np.array(list("xxyy")), "species": np.full(4, "mouse")}
    table = make(with_value(np.nan), **texts, about={"condition": np.array(["acute", "", "culture", "acute"])})
    assert table.sha256 == "ea53ee78acd0d55e3ebf25640dc8d86accfbbcf862ac72cb467ee49a2e1d392a"
    about = {"label": list("abab"), "subclass4": list("cdcd"), "donor": list("xxyy")}
    assert make(label=None, about=about).sha256 == "4cbae5df03d12e122a0e2e685a04811f8fe2bb9bd9ffa1b9b71f88f768819b0f"


def test_text_columns_keep_their_order_and_hash_on_disk(tmp_path):
    about = {"label": list("abab"), "subclass4": list("cdcd"), "donor": list("xxyy"), "species": [""] * 4}
    table = make(label=None, about=about)
    back = FeatureTable.read(table.write(tmp_path / "table").parent)
    assert list(back.about) == list(about) and back.sha256 == table.sha256
    assert list(back.label) == list("abab") and back.species is None
    assert (tmp_path / "table" / "provenance.json").is_file()


def test_partly_labelled_table_is_read_but_has_no_codes(tmp_path):
    table = make(label=None, about={"label": ["a", "", "b", ""]})
    table.write_file(tmp_path / "table.npz")
    back = FeatureTable.read(tmp_path / "table.npz")
    assert len(back.labelled("label")) == 2
    with pytest.raises(ValueError, match="cell 1 has no label, and 1 others"):
        back.codes()


def test_columns_of_families_and_names_of_features():
    table = FeatureTable.from_arrays(np.ones((2, 3)), {"subthreshold": ["vrest", "ri"], "chirp": ["peak_freq_chirp"]})
    assert table.columns == {"subthreshold": slice(0, 2), "chirp": slice(2, 3)}
    assert table.features == ("vrest", "ri", "peak_freq_chirp") and table.widths == (2, 1)


def test_labels_can_be_replaced_and_removed():
    table = make(donor=np.array(list("xxyy")))
    assert list(table.with_label(np.array([1, 2, 1, 2])).label) == ["1", "2", "1", "2"]
    assert table.with_label(None).label is None and list(table.with_label(None).donor) == list("xxyy")


def test_names_of_the_form_family_number_are_grouped():
    table = make()
    grouped = group_features(table.features)
    assert {name: len(some) for name, some in grouped.items()} == dict(zip(table.families, table.widths, strict=True))
    assert group_features(["v", "v_1", "v_2"]) == {"v": ["v"], "v_1": ["v_1"], "v_2": ["v_2"]}, "v is a feature itself"
    assert group_features(["a_1_0", "a_1_1", "a_2_0", "_1"]) == {
        "a_1": ["a_1_0", "a_1_1"],
        "a_2": ["a_2_0"],
        "_1": ["_1"],
    }
