"""From files to a table: every recording is in the table or has a row in qc.csv, and tables read back equal."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("ipfx", reason="files are extracted with IPFX")

from data_prep.patchseq.collect import build_table, empty_rows, extract_all, find_files, read_extracted
from data_prep.patchseq.drop_reasons import REASONS, count_reasons, note, read_qc
from data_prep.patchseq.labels import read_labels
from data_prep.patchseq.table import drop_incomplete_cells, make_table, save_table
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError
from tests.data_prep import toy

LABELS = "cell,label,donor,species\n11,Sst,d1,mouse\n12,Sncg,d1,mouse\n14,Vip,d2,mouse\n15,,d2,mouse\n99,Vip,d3,mouse\n"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Four good cells, one of them twice; one file cut off, one of another clamp."""
    folder = tmp_path_factory.mktemp("recordings")
    short = toy.sweeps()[4:]
    for name in ("a/11", "a/12", "b/14", "b/15", "b/11"):
        path = folder / f"{name}.nwb"
        path.parent.mkdir(exist_ok=True)
        toy.write_nwb(path, toy.sweeps() if name == "a/12" else short)
    (folder / "b/16.nwb").write_bytes((folder / "b/14.nwb").read_bytes()[:9000])
    toy.write_nwb(folder / "b/17.nwb", [])
    return folder


@pytest.fixture(scope="module")
def extracted(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("extracted")
    extract_all(find_files(recordings), out, workers=2)
    return out


@pytest.fixture(scope="module")
def built(extracted, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_text(LABELS)
    return build_table([extracted], [read_labels(path)])


def test_every_recording_is_in_the_table_or_has_a_row_in_qc_csv(recordings, extracted, built):
    table, rows = built
    assert list(table.cell) == ["11", "12", "14"]
    dropped = {(cell, row.reason) for cell, row in rows if (row.what, row.action) == ("cell", "dropped")}
    assert dropped == {
        ("15", "no label"),
        ("11", "duplicate cell"),
        ("16", "unreadable file"),
        ("17", "no current clamp"),
        ("99", "no recording"),
    }
    files = len(find_files(recordings))
    assert files == len(table) + len(dropped) - 1, "one row is of a cell that has no file"
    assert {cell for cell, _ in read_qc(extracted / "qc.csv")} >= {"16", "17", "11"}


def test_table_has_families_and_text_columns(built):
    table, _ = built
    assert table.widths[:3] == (700, 140, 140) and len(table.features) == 4197
    assert list(table.label) == ["Sst", "Sncg", "Vip"] and list(table.about["subclass4"]) == ["Sst", "Vip", "Vip"]
    assert list(table.donor) == ["d1", "d1", "d2"] and set(table.about["species"]) == {"mouse"}
    assert table.provenance["preset"] == "ipfx" and table.provenance["ipfx"]
    full = table.observed[1]
    assert full.all() and not table.observed[0].all(), "cell 11 lacks hyperpolarising steps"


def test_written_table_reads_back_equal(built, tmp_path):
    table, rows = built
    save_table(table, rows, tmp_path / "out")
    theirs = FeatureTable.read(tmp_path / "out")
    np.testing.assert_array_equal(theirs.values, table.values)
    np.testing.assert_array_equal(theirs.observed, table.observed)
    assert theirs.families == table.families and list(theirs.label) == list(table.label)
    assert theirs.provenance == json.loads(json.dumps(dict(table.provenance)))
    theirs.save(tmp_path / "table.npz")
    back = FeatureTable.read(tmp_path / "table.npz")
    assert list(back.about) == list(table.about) and list(back.cell) == list(table.cell)
    assert theirs.sha256 == back.sha256 == table.sha256


def test_same_files_give_the_same_hash(recordings, extracted, built, tmp_path):
    extract_all(find_files(recordings), tmp_path, workers=1)
    path = tmp_path / "labels.csv"
    path.write_text(LABELS)
    again, _ = build_table([tmp_path], [read_labels(path)])
    assert again.sha256 == built[0].sha256


def test_second_run_repeats_nothing_unless_settings_differ(recordings, extracted):
    before = {path: path.stat().st_mtime_ns for path in (extracted / "cells").iterdir()}
    extract_all(find_files(recordings), extracted, workers=1)
    assert {path: path.stat().st_mtime_ns for path in (extracted / "cells").iterdir()} == before
    extract_all(find_files(recordings / "a" / "11.nwb"), extracted, preset="paper", workers=1)
    assert read_extracted(extracted)[0]["preset"] == "paper" and len(read_extracted(extracted)[1]) == 1
    extract_all(find_files(recordings), extracted, workers=1)


def test_published_families_have_the_order_of_the_study(recordings, tmp_path):
    extract_all(find_files(recordings / "a" / "12.nwb"), tmp_path, preset="paper", workers=1)
    table, _ = build_table([tmp_path])
    assert table.families == (
        *("first_ap_v", "first_ap_dv", "isi_shape", "inst_freq", "spiking_threshold_v", "spiking_peak_v"),
        *("spiking_width", "spiking_fast_trough_v", "spiking_upstroke_downstroke_ratio"),
        *("step_subthresh", "subthresh_norm", "psth"),
    )
    assert len(drop_incomplete_cells(table, 1.0)[0]) == 1, "padding does not count as missing"
    steps = table.values[0, table.columns["step_subthresh"]]
    assert steps[:420].all() and -90 < steps[:420].mean() < -60, "mV at rest and below"
    # An extraction of an earlier version does not record its families, which then had another order.
    settings = json.loads((tmp_path / "extract.json").read_text())
    assert settings.pop("families") == list(table.families)
    (tmp_path / "extract.json").write_text(json.dumps(settings))
    earlier, _ = build_table([tmp_path])
    assert earlier.families[0] == "step_subthresh" and earlier.families[-1] == "spiking_width"
    np.testing.assert_array_equal(earlier.values, table.values)


def test_cells_with_few_measured_features_are_left_out():
    values = np.array([[1, 2, 3, np.nan], [1, np.nan, np.nan, np.nan], [1, 2, np.nan, np.nan]], np.float32)
    table = FeatureTable.from_arrays(values, {"f": 4}, cell=["a", "b", "c"])
    for share, cells in ((0.0, "abc"), (0.5, "ac"), (2 / 3, "ac"), (0.9, "a")):
        kept, rows = drop_incomplete_cells(table, share)
        assert "".join(kept.cell) == cells and {cell for cell, _ in rows} == set("abc") - set(cells)
    with pytest.raises(TableError, match="give a number from 0 to 1"):
        drop_incomplete_cells(table, -0.1)
    halves = FeatureTable.from_arrays(np.array([[1, np.nan], [np.nan, 1]], np.float32), {"f": 2})
    with pytest.raises(TableError, match=r"at most 50.0%: lower min_observed"):
        drop_incomplete_cells(halves, 0.9)


@pytest.mark.parametrize(("features", "width"), [("old", 54), ("new", 45), ("aligned", 25)])
def test_scalar_features_under_every_naming(extracted, features, width):
    table, _ = build_table([extracted], features=features)
    assert len(table.features) == width and "label" not in table.about
    column = table.features.index({"old": "ri", "new": "input_resistance", "aligned": "ri"}[features])
    assert table.values[list(table.cell).index("12"), column] == pytest.approx(150, rel=0.01)


def test_cells_without_values_are_left_out_and_listed():
    values = np.array([[1.0], [np.nan]], np.float32)
    table = make_table(["a", "b"], {"f": ["x"]}, values, np.isfinite(values), {"label": ["Sst", "Vip"]}, {})
    assert list(table.cell) == ["a"] and list(table.label) == ["Sst"]
    assert [(cell, row.reason) for cell, row in empty_rows(table)] == [("b", "no value")]


MISTAKES = {
    "nothing there": (lambda folder: find_files(folder / "nowhere"), "there is no .nwb file in"),
    "not extracted": (lambda folder: build_table([folder]), "holds no finished extraction"),
    "a reason that is none": (lambda folder: note("cell", "", "dropped", "bad luck"), "'bad luck' is not in REASONS"),
    "features": (lambda folder: build_table([folder], features="all"), "features 'all' are unknown"),
    "no table": (lambda folder: FeatureTable.read(folder / "x"), "there is no table"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_raises_one_sentence(tmp_path, mistake):
    call, hint = MISTAKES[mistake]
    with pytest.raises((TableError, KeyError), match=hint):
        call(tmp_path)


def test_table_changed_after_writing_is_refused(tmp_path, built):
    path = built[0].write(tmp_path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["values"][0, 0] += 1
    np.savez(path, **arrays)
    with pytest.raises(TableError, match="was changed after it was written"):
        FeatureTable.read(tmp_path)


def test_reasons_are_counted_and_read_back(tmp_path, built):
    _, rows = built
    counted = {(what, reason): (notes, cells) for what, _, reason, notes, cells in count_reasons(rows)}
    assert counted["cell", "no label"] == (1, 1)
    save_table(*built, tmp_path)
    assert read_qc(tmp_path / "qc.csv") == rows
    with open(tmp_path / "qc.csv", newline="") as file:
        assert next(csv.reader(file)) == ["cell", "what", "name", "action", "reason", "detail"]
    assert {row.reason for _, row in rows} <= set(REASONS)
