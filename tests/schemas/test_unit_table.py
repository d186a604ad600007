"""UnitTable: files and CSV folders give the same table, and invalid data are refused with a message that names them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import _safe_indexing

from data_prep.units.registry import annotate_units
from jaxephys.schemas.storage import DataError, content_hash
from jaxephys.schemas.unit_csv import read_folder
from jaxephys.schemas.unit_table import UnitTable

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "hippie"
RNG = np.random.default_rng(0)
COUNT = 5
RAW = {
    "wave": RNG.normal(size=(COUNT, 4)).astype(np.float32),
    "isi": RNG.poisson(5.0, size=(COUNT, 3)).astype(np.float32),
    "acg": RNG.poisson(5.0, size=(COUNT, 6)).astype(np.float32),
}
LABELS = ["PV", "", "SOM", "PV", "VIP"]
FILES = {"wave": "waveforms.csv", "isi": "isi_dist.csv", "acg": "acg.csv"}


def make_table(**changed):
    complete = {"raw": RAW, "unit": np.array(list("abcde")), "about": {"label": np.array(LABELS)}}
    return UnitTable(**{**complete, **changed})


def write_csv(path, rows, *, index=False, header=None):
    names = [str(i) for i in range(rows.shape[1])] if header is None else header
    lines = [",".join([""] * index + names)]
    lines += [",".join([str(i)] * index + [repr(float(x)) for x in row]) for i, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    for name, file in FILES.items():
        write_csv(tmp_path / file, RAW[name], index=name == "isi")  # one with the row index of pandas
    (tmp_path / "labels.csv").write_text(",label\n0,b'PV'\n1,unlabeled\n2, SOM \n3,PV\n4,VIP\n")
    (tmp_path / "metadata.csv").write_text("unit_id,session_id,subject\n1,s1,m1\n2,s1,m1\n1,s2,m2\n2,s2,m2\n3,s2,m2\n")
    (tmp_path / "folds.csv").write_text("unit,label,fold\n0,PV,1\n2,SOM,0\n3,PV,0\n")
    return tmp_path


# Sources.


def test_csv_folder_is_read(folder):
    units = UnitTable.read(folder)
    for name, rows in RAW.items():
        np.testing.assert_allclose(units.raw[name], rows)
    assert units.label.tolist() == LABELS
    assert units.unit.tolist() == ["s1/1", "s1/2", "s2/1", "s2/2", "s2/3"]
    assert units.groups("subject").tolist() == ["m1", "m1", "m2", "m2", "m2"]
    assert units.fold.tolist() == [1, -1, 0, 0, -1]
    assert units.technology_codes.tolist() == [-1] * COUNT


def test_written_table_is_read_back(tmp_path):
    curves = RAW["wave"].copy()
    curves[2], curves[3] = np.nan, 1.0
    about = {"label": LABELS, "technology": ["neuropixels", "", "tetrode", "", ""]}
    written = UnitTable.from_arrays(
        **{**RAW, "wave": curves},
        unit=list("abcde"),
        truth={"width": np.arange(5.0)},
        provenance={"seed": 3, "notes": ["größer"]},
        **about,
    )
    written.write(tmp_path)
    for path in (tmp_path, tmp_path / "units.npz"):
        units = UnitTable.read(path)
        for name, values in written.raw.items():
            np.testing.assert_array_equal(units.raw[name], values)
        assert units.technology_codes.tolist() == [0, -1, 3, -1, -1], "an unknown technology is not the first one"
        assert units.present[:, 0].tolist() == [True, True, False, False, True], "a constant curve is no use to a model"
        assert units.finite[:, 0].tolist() == [True, True, False, True, True]
        assert units.unit.tolist() == list("abcde") and units.provenance == {"seed": 3, "notes": ["größer"]}
        assert units.truth["width"].tolist() == [0, 1, 2, 3, 4] and units.label.tolist() == LABELS
    with np.load(tmp_path / "units.npz") as stored:
        np.testing.assert_array_equal(stored["present"], units.finite)
        assert str(stored["sha256"]) == units.sha256 != make_table().sha256
        arrays = {name: stored[name] for name in stored.files if name not in ("schema", "sha256", "provenance")}
        assert set(arrays) == {
            "unit", "waveform", "isi", "acg", "present", "about", "about_label", "about_technology", "truths", "truth_width",
        }  # fmt: skip
        assert content_hash(arrays) == units.sha256


def test_csv_folder_and_table_built_from_it_are_equal(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    annotate_units(UnitTable(**read_folder(folder))).write(out)
    built, direct = UnitTable.read(out), UnitTable.read(folder)
    assert built.unit.tolist() == direct.unit.tolist()
    assert built.label.tolist() == direct.label.tolist() and built.fold.tolist() == direct.fold.tolist()
    for name in RAW:
        np.testing.assert_array_equal(built.raw[name], direct.raw[name])


def test_changed_file_is_refused(tmp_path):
    make_table().write(tmp_path)
    with np.load(tmp_path / "units.npz") as file:
        arrays = dict(file)
    arrays["isi"][0, 0] += 1
    np.savez(tmp_path / "units.npz", **arrays)
    with pytest.raises(ValueError, match="content hash differs"):
        UnitTable.read(tmp_path)


# The table.


def test_codes_are_indices_of_the_classes_and_minus_one_without_a_label():
    assert make_table().classes.tolist() == ["PV", "SOM", "VIP"]
    assert make_table().codes().tolist() == [0, -1, 1, 0, 2]
    assert make_table().codes(np.array(["PV", "SOM", "VIP", "X"])).tolist() == [0, -1, 1, 0, 2]
    with pytest.raises(ValueError, match="'SOM' is not one of the classes PV, VIP"):
        make_table().codes(np.array(["PV", "VIP"]))


def test_rows_keep_all_columns_and_small_classes_can_be_removed():
    some = make_table(truth={"width": np.arange(5.0)}).labelled(min_count=2)
    assert some.unit.tolist() == ["a", "d"] and some.truth["width"].tolist() == [0.0, 3.0]
    np.testing.assert_array_equal(some.raw["acg"], RAW["acg"][[0, 3]])


def test_hash_depends_on_content_and_not_on_provenance():
    assert make_table().sha256 == make_table(provenance={"x": 1}).sha256
    moved = {**RAW, "isi": RAW["isi"] + 1}
    others = [make_table(raw=moved), make_table(about={}), make_table(unit=np.array(list("abcdf")))]
    assert len({make_table().sha256, *(other.sha256 for other in others)}) == 4


def with_value(name, row, value):
    rows = RAW[name].copy()
    rows[row, 1] = value
    return {"raw": {**RAW, name: rows}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (with_value("wave", 2, np.inf), "wave of unit c is finite in part"),
        (with_value("acg", 1, np.nan), "acg of unit b is finite in part"),
        (with_value("isi", 3, -2.0), "isi of unit d has a negative value"),
        ({"unit": np.array(list("abcda"))}, "unit a occurs 2 times"),
        ({"about": {"label": np.array(["PV"])}}, r"label has the shape \(1,\) for 5 units"),
        ({"about": {"technology": np.array(["patch"] * 5)}}, "no technology 'patch'"),
        ({"raw": {"wave": RAW["wave"]}}, "give wave, isi, acg in order"),
    ],
)
def test_invalid_table_is_refused(changed, message):
    with pytest.raises(DataError, match=message):
        make_table(**changed)


# Identifiers.


def test_units_without_identifiers_are_named_after_their_curves():
    wave, isi = RAW["wave"], RAW["isi"]
    units, other = UnitTable.from_arrays(wave=wave, isi=isi), UnitTable.from_arrays(wave=wave + 1, isi=isi)
    assert len(set(units.unit)) == 5 and not set(units.name) & set(other.name), "tables of different units"
    part = UnitTable.from_arrays(wave=wave[3:], isi=isi[3:].astype(np.float64))
    assert part.unit.tolist() == units.unit[3:].tolist() == units.rows(np.arange(3, 5)).unit.tolist()
    assert UnitTable.from_arrays(wave=wave).unit[0] != units.unit[0], "the intervals are a part of the unit"


def test_copies_and_units_without_curves_have_different_names():
    wave = np.array([[0, 1, 2.0], [0, 1, 2], [5, 5, 5], [5, 5, 5], [np.nan] * 3])
    names = UnitTable.from_arrays(wave=wave).unit
    assert names[1] == f"{names[0]} copy 2" and len(set(names)) == 5
    later = UnitTable.from_arrays(wave=wave[2:])
    assert not set(names) & set(later.unit), "a unit without a curve is no known unit in another table"


def test_identifiers_are_kept_and_are_different(tmp_path):
    units = UnitTable.from_arrays(**RAW, unit=[30, 1, 2, 7, 5], dataset="hull")
    assert units.unit.tolist() == ["30", "1", "2", "7", "5"] and units.name[0] == "hull/30"
    units.write(tmp_path)
    assert UnitTable.read(tmp_path).name.tolist() == units.name.tolist()
    with pytest.raises(DataError, match="unit 1 occurs 2 times: give every unit its own identifier"):
        UnitTable.from_arrays(**RAW, unit=[1, 1, 2, 3, 4])
    with pytest.raises(DataError, match=r"identifiers of shape \(2,\) for 5 units: give one for each unit"):
        UnitTable.from_arrays(**RAW, unit=["a", "b"])
    with pytest.raises(DataError, match=r"isi has the shape \(4, \d+\) for 5 units: give one row for each unit"):
        UnitTable.from_arrays(wave=RAW["wave"], isi=RAW["isi"][:4])


@pytest.mark.parametrize("indices", [[1, 3], np.array([False, True, False, True, False]), slice(1, None, 2)])
def test_a_table_is_indexed_like_an_array(indices):
    units = make_table()
    assert units[indices].unit.tolist() == ["b", "d"]
    np.testing.assert_array_equal(units[indices].raw["wave"], RAW["wave"][[1, 3]])
    assert units[2].unit.tolist() == ["c"] and units.shape == (5, sum(curves.shape[1] for curves in RAW.values()))
    assert _safe_indexing(units, indices).label.tolist() == units[indices].label.tolist()
    with pytest.raises(IndexError):
        units[5]


def test_groups_must_be_known_for_every_unit():
    with pytest.raises(ValueError, match="the subject of any unit is unknown"):
        make_table().groups("subject")
    with pytest.raises(ValueError, match="the subject of unit b is unknown"):
        make_table(about={"subject": np.array(["m", "", "m", "n", "n"])}).groups("subject")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("acg.csv", "0,1\n1.0,2.0\n", r"different numbers of rows \(waveforms.csv 5, isi_dist.csv 5, acg.csv 1\)"),
        (
            "waveforms.csv",
            "0.3,0.1,0.3.1\n" + "1.0,2.0,3.0\n" * 5,
            "the first line of .* is a unit that was taken for a header",
        ),
        (
            "waveforms.csv",
            "0.3,0.1\n" + "1.0,2.0\n" * 5,
            r"different numbers of rows \(waveforms.csv 6, isi_dist.csv 5",
        ),
        ("waveforms.csv", "0,1\n", "holds no rows"),
        ("waveforms.csv", "0,1\n" + "1.0,two\n" * 5, "is not a table of numbers"),
        ("labels.csv", "label\nPV\n", r"has 1 rows \(and a header\) for 5 units"),
        ("labels.csv", "label\nPV\nPV\nPV\nPV\n", r"has 4 rows \(and a header\) for 5 units"),
        (
            "folds.csv",
            "unit,label,fold\n0,SOM,1\n",
            "has the label 'SOM' for unit 0 .* the folds belong to other units",
        ),
        ("folds.csv", "unit,label,fold\n0,PV,first\n", "has unit '0' in fold 'first'"),
        ("metadata.csv", "label\nSOM\nPV\nPV\nPV\nPV\n", "one of them is in another order"),
    ],
)
def test_malformed_csv_folder_is_refused(folder, file, text, message):
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        UnitTable.read(folder)


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no units in"):
        UnitTable.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="none of units.npz, waveforms.csv"):
        UnitTable.read(tmp_path)


# Real units.


@pytest.mark.skipif(not REAL.exists(), reason="the published units are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "units", "present", "folds", "classes"),
    [
        ("lisberger", 1152, [1151, 1151, 1151], 668, 5),
        ("hull_counts", 103, [103, 103, 103], 101, 5),  # GoC, of two units, is in no fold
        ("watson", 221, [201, 221, 221], 221, 2),
        ("s1", 224, [224, 224, 0], 224, 5),
    ],
)
def test_published_folders(name, units, present, folds, classes):
    table = UnitTable.read(REAL / name)
    assert len(table) == units and len(table.classes) == classes
    assert table.present.sum(axis=0).tolist() == present
    assert (table.fold >= 0).sum() == folds and set(table.fold) - {-1} == set(range(5))
    assert (table.label[table.fold >= 0] != "").all()
