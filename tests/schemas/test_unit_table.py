"""Units at the border: both kinds of source tell the same, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.units.folder import read_folder
from data_prep.units.registry import described
from data_prep.units.table import TECHNOLOGIES, Units, write_units
from jaxephys.schemas import unit_table as module
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


def table(**changed):
    whole = {"raw": RAW, "unit": np.array(list("abcde")), "about": {"label": np.array(LABELS)}}
    return UnitTable(**{**whole, **changed})


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


def test_a_folder_of_csv(folder):
    units = UnitTable.read(folder)
    for name, rows in RAW.items():
        np.testing.assert_allclose(units.raw[name], rows)
    assert units.label.tolist() == LABELS
    assert units.unit.tolist() == ["s1/1", "s1/2", "s2/1", "s2/2", "s2/3"]
    assert units.groups("subject").tolist() == ["m1", "m1", "m2", "m2", "m2"]
    assert units.fold.tolist() == [1, -1, 0, 0, -1]
    assert units.technology.tolist() == [-1] * COUNT


def test_what_data_prep_writes_is_read(tmp_path):
    about = {"label": LABELS, "technology": ["neuropixels", "", "tetrode", "", ""]}
    rows = RAW["wave"].copy()
    rows[2] = np.nan
    written = Units(list("abcde"), rows, RAW["isi"], RAW["acg"], about, {"width": np.arange(5.0)}, {"seed": 3})
    write_units(written, tmp_path)
    for path in (tmp_path, tmp_path / "units.npz"):
        units = UnitTable.read(path)
        np.testing.assert_array_equal(units.raw["wave"], rows)
        assert units.technology.tolist() == [0, -1, 3, -1, -1] == written.technology_id.tolist()
        np.testing.assert_array_equal(units.present, written.present)
        assert units.truth["width"].tolist() == [0, 1, 2, 3, 4] and units.provenance == {"seed": 3}
    assert module.TECHNOLOGIES == TECHNOLOGIES


def test_both_sources_of_one_folder_tell_the_same(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    write_units(described(read_folder(folder)), out)
    built, ours = UnitTable.read(out), UnitTable.read(folder)
    assert built.unit.tolist() == ours.unit.tolist()
    assert built.label.tolist() == ours.label.tolist() and built.fold.tolist() == ours.fold.tolist()
    for name in RAW:
        np.testing.assert_array_equal(built.raw[name], ours.raw[name])


def test_a_changed_file_is_refused(tmp_path):
    write_units(Units(list("abcde"), *RAW.values()), tmp_path)
    with np.load(tmp_path / "units.npz") as file:
        arrays = dict(file)
    arrays["isi"][0, 0] += 1
    np.savez(tmp_path / "units.npz", **arrays)
    with pytest.raises(ValueError, match="content hash differs"):
        UnitTable.read(tmp_path)


# The table.


def test_codes_are_places_in_the_classes_and_minus_one_without_a_label():
    assert table().classes.tolist() == ["PV", "SOM", "VIP"]
    assert table().codes().tolist() == [0, -1, 1, 0, 2]
    assert table().codes(np.array(["PV", "SOM", "VIP", "X"])).tolist() == [0, -1, 1, 0, 2]
    with pytest.raises(ValueError, match="'SOM' is not one of the classes PV, VIP"):
        table().codes(np.array(["PV", "VIP"]))


def test_rows_take_everything_along_and_small_classes_can_go():
    some = table(truth={"width": np.arange(5.0)}).labelled(least=2)
    assert some.unit.tolist() == ["a", "d"] and some.truth["width"].tolist() == [0.0, 3.0]
    np.testing.assert_array_equal(some.raw["acg"], RAW["acg"][[0, 3]])


def test_the_hash_tells_content_not_order_of_mappings():
    assert table().sha256 == table(provenance={"x": 1}).sha256
    moved = {**RAW, "isi": RAW["isi"] + 1}
    others = [table(raw=moved), table(about={}), table(unit=np.array(list("abcdf")))]
    assert len({table().sha256, *(other.sha256 for other in others)}) == 4


def spoilt(name, row, value):
    rows = RAW[name].copy()
    rows[row, 1] = value
    return {"raw": {**RAW, name: rows}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (spoilt("wave", 2, np.inf), "wave of unit c is finite in part"),
        (spoilt("acg", 1, np.nan), "acg of unit b is finite in part"),
        (spoilt("isi", 3, -2.0), "isi of unit d holds a number below 0"),
        ({"unit": np.array(list("abcda"))}, "unit a stands 2 times"),
        ({"about": {"label": np.array(["PV"])}}, r"label has the shape \(1,\) for 5 units"),
        ({"about": {"technology": np.array(["patch"] * 5)}}, "no technology 'patch'"),
        ({"raw": {"wave": RAW["wave"]}}, "with wave, isi, acg in order"),
    ],
)
def test_what_is_wrong_is_named(changed, said):
    with pytest.raises(ValueError, match=said):
        table(**changed)


def test_groups_must_be_known_of_every_unit():
    with pytest.raises(ValueError, match="the subject is known of no unit"):
        table().groups("subject")
    with pytest.raises(ValueError, match="the subject is known not of unit b"):
        table(about={"subject": np.array(["m", "", "m", "n", "n"])}).groups("subject")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("acg.csv", "0,1\n1.0,2.0\n", r"different numbers of rows \(waveforms.csv 5, isi_dist.csv 5, acg.csv 1\)"),
        ("waveforms.csv", "0.3,0.1\n" + "1.0,2.0\n" * 5, "the first line of .* is a unit, not a header"),
        ("waveforms.csv", "0,1\n" + "1.0,two\n" * 5, "is no table of numbers"),
        ("labels.csv", "label\nPV\n", "has 1 rows of 1 columns for 5 units"),
        ("folds.csv", "unit,label,fold\n0,SOM,1\n", "unit '0' of class 'SOM' in fold '1': it is of other units"),
        ("metadata.csv", "label\nSOM\nPV\nPV\nPV\nPV\n", "one is in another order"),
    ],
)
def test_a_broken_folder_is_refused(folder, file, text, said):
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=said):
        UnitTable.read(folder)


def test_no_folder_and_an_empty_one(tmp_path):
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
        ("hull_counts", 103, [103, 103, 103], 101, 5),  # GoC, of two units, stands in no fold
        ("watson", 221, [201, 221, 221], 221, 2),
        ("s1", 224, [224, 224, 0], 224, 5),
    ],
)
def test_the_published_folders(name, units, present, folds, classes):
    table = UnitTable.read(REAL / name)
    assert len(table) == units and len(table.classes) == classes
    assert table.present.sum(axis=0).tolist() == present
    assert (table.fold >= 0).sum() == folds and set(table.fold) - {-1} == set(range(5))
    assert (table.label[table.fold >= 0] != "").all()
