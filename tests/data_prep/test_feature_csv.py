"""Scalar features: names, families and units, the map between old and new names, and tables from CSV files."""

import csv
import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.patchseq import feature_names
from data_prep.patchseq.feature_columns import KEYS, FeatureMap, read_feature_map
from data_prep.patchseq.feature_csv import align_table, find_repeated_rows, read_feature_csv
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError

DATA = Path(os.environ.get("JAXEPHYS_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "patchseq"
REAL = {"mouse_v1": ("old", 54), "human": ("new", 93), "mouse_human_aligned": ("aligned", 25)}


def real(name):
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{name}.csv is not here: put it into the folder patchseq of JAXEPHYS_DATA")
    return path


def both_records(cells=7):
    """The same made-up cells under the old names and under the new, and what the aligned features must be."""
    rng = np.random.default_rng(0)
    old, new, truth = {}, {}, {}
    for ours, before, after, factor in [
        ("vrest", "vrest", "v_baseline", 1),
        ("ri", "ri", "input_resistance", 1),
        ("tau", "tau", "tau", 1e-3),  # ms before, s after
        ("sag", "sag", "sag", 1),
        ("vm_for_sag", "vm_for_sag", "vm_for_sag", 1),
        ("fi_slope", "f_i_curve_slope", "fi_fit_slope", 1),
        ("rheobase_i", "threshold_i_long_square", "rheobase_i", 1),
        ("adapt", "adaptation", "adapt_hero", 1),
        ("latency", "latency", "latency_hero", 1),
        ("avg_isi", "avg_isi", "mean_isi_hero", 1e-3),
    ]:
        truth[ours] = rng.normal(10, 2, cells)
        old[before], new[after] = truth[ours], truth[ours] * factor
    for block, where in (("long_square", "rheo"), ("ramp", "ramp"), ("short_square", "short_square")):
        ratio, threshold = rng.normal(2, 0.1, cells), rng.normal(-35, 5, cells)
        old[f"upstroke_downstroke_ratio_{block}"] = new[f"upstroke_downstroke_ratio_{where}"] = ratio
        old[f"threshold_v_{block}"] = new[f"threshold_v_{where}"] = threshold
        truth |= {f"updown_{block}": ratio, f"threshold_v_{block}": threshold}
        for dip, height in (("peak", 60), ("fast_trough", -20), ("trough", -25)):
            if (dip, block) != ("trough", "short_square"):
                truth[f"{dip}_dv_{block}"] = rng.normal(height, 5, cells)
                new[f"{dip}_deltav_{where}"] = truth[f"{dip}_dv_{block}"]
            old[f"{dip}_v_{block}"] = threshold + truth.get(f"{dip}_dv_{block}", -30.0)
    truth["threshold_i_ramp"] = old["threshold_i_ramp"] = new["threshold_i_ramp"] = rng.normal(150, 20, cells)
    # The sweep at rheobase is a trap: another latency, interval and, in the same place, nothing of the hero sweep.
    new |= {"latency_rheo": np.full(cells, 0.9), "mean_isi_rheo": np.full(cells, 0.8)}
    return old, new, truth


@pytest.fixture
def written(tmp_path):
    def write(columns, about=None, name="cells.csv"):
        cells = len(next(iter(columns.values())))
        columns = {"cell_id": [f"c{i}" for i in range(cells)], "species": ["mouse"] * cells, **(about or {}), **columns}
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return tmp_path / name

    return write


# Names.


@pytest.mark.parametrize("naming", ["old", "new"])
def test_both_records_give_the_same_aligned_features(naming):
    old, new, truth = both_records()
    found = feature_names.align_columns({"old": old, "new": new}[naming], naming)
    assert list(found) == list(feature_names.ALIGNED) and set(found) == set(truth) and len(found) == 25
    for name, values in truth.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
    assert feature_names.align_columns(found, "aligned").keys() == found.keys()


def test_naming_is_found_from_names():
    old, new, truth = both_records()
    assert [feature_names.find_naming(columns) for columns in (old, new, truth)] == ["old", "new", "aligned"]
    with pytest.raises(ValueError, match="names of old and new naming"):
        feature_names.find_naming([*old, *new])
    with pytest.raises(ValueError, match="none of the known names"):
        feature_names.find_naming(["tau", "sag", "sag_area"])


def test_columns_missing_for_alignment_are_named():
    old, _, _ = both_records()
    del old["adaptation"]
    with pytest.raises(ValueError, match="need adaptation under the old names"):
        feature_names.align_columns(old, "old")
    with pytest.raises(ValueError, match="naming 'older' is not known"):
        feature_names.align_columns(old, "older")


@pytest.mark.parametrize(
    ("name", "naming", "family", "unit"),
    [
        ("tau", "old", "subthreshold", "ms"),
        ("tau", "aligned", "subthreshold", "ms"),
        ("tau", "new", "subthreshold", "s"),
        ("tau", None, "subthreshold", ""),
        ("avg_isi", "old", "spike_train", "ms"),
        ("mean_isi_hero", "new", "spike_train", "s"),
        ("sag_peak_t_depol", "new", "subthreshold", "s"),
        ("threshold_v_short_square", "old", "short_square_ap", "mV"),
        ("fast_trough_v_last_rheo", "new", "long_square_ap", "mV"),
        ("threshold_v_adapt_ratio", "new", "adaptation", ""),
        ("threshold_i_ramp", "new", "ramp_ap", "pA"),
        ("3db_freq_chirp", "new", "chirp", "Hz"),
    ],
)
def test_family_and_unit(name, naming, family, unit):
    found = feature_names.known_feature(name, naming)
    assert found is not None and (found.family, found.unit) == (family, unit)


@pytest.mark.parametrize("name", ["genotype", "layer", "threshold_v", "tau_ramp", "cell_depth", "ramp", "_ramp"])
def test_other_columns_are_no_features(name):
    assert feature_names.known_feature(name, "old") is None


def test_clock_times_are_not_their_differences():
    assert feature_names.is_clock_time("peak_t_ramp") and feature_names.is_clock_time("slow_trough_t_short_square")
    assert not any(
        map(feature_names.is_clock_time, ("peak_minus_thr_t_ramp", "sag_peak_t", "sag_peak_t_depol", "peak_v_ramp"))
    )


def test_plausible_ranges_are_ranges():
    for name, known in (feature_names.STEMS | feature_names.VECTOR_FAMILIES).items():
        assert known.low < known.high, name
        smallest = 0 if known.low <= 0 <= known.high else min(abs(known.low), abs(known.high))
        low, high = known.typical or (smallest, smallest + 1e-9)
        assert smallest <= low < high <= max(abs(known.low), abs(known.high)), f"{name}: typical lies outside the range"


# Reading a table.


def test_columns_are_grouped_into_families_and_missing_values_masked(written):
    old, _, _ = both_records()
    old["sag"] = ["", 0.5, "NaN", 1, 2, 3, 4]
    old["peak_t_ramp"] = [5.0] * 7
    path = written(old | {"genotype": ["x"] * 7}, {"subclass4": ["Vip"] * 7, "subclass5": ["Sncg"] * 7})
    table = read_feature_csv(path)
    assert list(table.families) == [name for name in feature_names.FAMILIES if name != "chirp"]
    assert sorted(table.features) == sorted(set(old) - {"peak_t_ramp"})
    sag = table.features.index("sag")
    assert table.values.dtype == np.float32
    np.testing.assert_array_equal(table.values[:, sag], [np.nan, 0.5, np.nan, 1, 2, 3, 4])
    assert table.observed[:, sag].tolist() == [False, True, False, True, True, True, True]
    assert list(table.label) == ["Sncg"] * 7 and list(table.about["subclass4"]) == ["Vip"] * 7
    assert table.provenance["left_out"] == {"genotype": "no known feature", "peak_t_ramp": "clock time"}
    assert table.provenance["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (table.provenance["naming"], table.provenance["units"]["tau"]) == ("old", "ms")
    timed = read_feature_csv(path, clock_times=True)
    assert "peak_t_ramp" in timed.features[timed.columns["ramp_ap"]]


def test_feature_with_low_coverage_is_left_out_and_named(written):
    old, _, _ = both_records()
    old["sag"] = ["", "", "", "", "1", "2", "3"]  # 43 %
    table = read_feature_csv(written(old))
    assert table.provenance["left_out"] == {"sag": "measured in 42.9% of the cells"}
    assert "sag" not in table.features and "sag" in read_feature_csv(written(old), min_coverage=0.4).features


def test_tables_with_human_cells_have_four_classes(written):
    old, _, _ = both_records()
    about = {"species": ["mouse"] * 6 + ["human"], "subclass4": ["Vip"] * 7, "subclass5": ["Sncg"] * 7}
    assert set(read_feature_csv(written(old, about)).about["label"]) == {"Vip"}
    assert set(read_feature_csv(written(old, about | {"label": ["mine"] * 7})).about["label"]) == {"mine"}


def test_repeated_rows_are_counted(written):
    old, _, _ = both_records()
    old = {name: [*values[:6], values[2]] for name, values in old.items()}
    assert read_feature_csv(written(old)).provenance["repeated_rows"] == 1
    rows = np.array([[1, np.nan], [np.nan, 1], [1, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    assert find_repeated_rows(rows).tolist() == [False, False, True, False, False]


def test_aligned_table_from_either_naming(written):
    old, new, truth = both_records()
    old["trough_v_ramp"][3] = np.nan
    mouse, human = (align_table(read_feature_csv(written(columns))) for columns in (old, new))
    assert mouse.features == human.features and set(mouse.features) == set(truth)
    gap = (3, mouse.features.index("trough_dv_ramp"))
    assert not mouse.observed[gap] and mouse.observed.sum() == mouse.observed.size - 1
    np.testing.assert_allclose(mouse.values[mouse.observed], human.values[mouse.observed], rtol=1e-5)
    assert (mouse.provenance["naming"], mouse.provenance["aligned_from"]) == ("aligned", "old")


def test_substitutes_are_not_aligned_as_measured_values(written):
    table = read_feature_csv(written(both_records()[0]))
    observed = table.observed.copy()
    observed[2, table.features.index("threshold_v_ramp")] = False  # finite, but not measured
    found = align_table(replace(table, observed=observed))
    lost = {name for name, seen in zip(found.features, found.observed[2], strict=True) if not seen}
    assert lost == {"threshold_v_ramp", "peak_dv_ramp", "fast_trough_dv_ramp", "trough_dv_ramp"}
    assert found.observed.sum() == found.observed.size - len(lost)


def test_table_from_csv_reads_back_equal(written, tmp_path):
    table = read_feature_csv(written(both_records()[0]))
    table.write(tmp_path / "table")
    assert FeatureTable.read(tmp_path / "table").sha256 == table.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sag": ["a lot"] * 7}, "sag of cell c0 .* is 'a lot': it must be a number"),
        ({"cell_id": ["c"] * 7}, "cell c occurs 7 times"),
        ({"cell_id": ["c", ""] * 3 + ["d"]}, "cell 2 of .* has no cell_id"),
        ({"v_baseline": [1.0] * 7}, "names of old and new naming"),
    ],
)
def test_invalid_csv_is_refused(written, change, message):
    with pytest.raises(TableError, match=message):
        read_feature_csv(written(both_records()[0] | change))


def test_csv_without_features_is_refused(written, tmp_path):
    with pytest.raises(TableError, match="no table of features: none of its columns .*genotype holds numbers of cells"):
        read_feature_csv(written({"genotype": ["x"]}))
    with pytest.raises(TableError, match="no feature is left"):
        read_feature_csv(written({"vrest": [""], "f_i_curve_slope": [""]}))
    for text in ("recorded,vrest\n1,-70\n", "id,vrest\n1,-70\n1,-60\n", "cell_id,vrest\n"):
        (tmp_path / "other.csv").write_text(text)
        with pytest.raises(TableError, match="it needs cell_id and cells"):
            read_feature_csv(tmp_path / "other.csv")


# Tables of other laboratories.

OTHER = """cell_name,Subclass,Layer,RMP (mV),AP width (ms),ap_peak,ap_2,sag,soma area
a,Sst,2,-70,0.4,30,1,0.1,150
b,Vip,3,-65,0.9,25,2,,140
"""


def test_table_of_another_laboratory_is_read_with_a_map(tmp_path):
    (tmp_path / "cells.csv").write_text(OTHER)
    (tmp_path / "features.toml").write_text(
        """
        id = "cell_name"
        [text]
        label = "Subclass"
        [features]
        vrest = "RMP (mV)"
        width_ramp = { column = "AP width (ms)", times = 0.001 }
        [families]
        morphology = ["soma area"]
        """
    )
    columns = read_feature_map(tmp_path / "features.toml")
    table = read_feature_csv(tmp_path / "cells.csv", feature_map=columns)
    assert table.families == ("subthreshold", "ramp_ap", "morphology") and table.cell.tolist() == ["a", "b"]
    assert table.features == ("sag", "vrest", "width_ramp", "soma area") and table.label.tolist() == ["Sst", "Vip"]
    np.testing.assert_allclose(table.values[0], [0.1, -70, 0.0004, 150], rtol=1e-6)
    assert table.provenance["units"] == {"sag": "", "vrest": "mV", "width_ramp": "s", "soma area": ""}
    assert set(table.provenance["left_out"]) == {"Layer", "ap_peak", "ap_2"}
    grouped = read_feature_csv(tmp_path / "cells.csv", feature_map=columns, others="prefix")
    assert grouped.columns["ap"] == slice(4, 6) and set(grouped.provenance["left_out"]) == {"Layer"}


def test_table_without_known_names_is_a_table(tmp_path):
    (tmp_path / "cells.csv").write_text(OTHER.replace("sag", "sag ratio"))
    table = read_feature_csv(tmp_path / "cells.csv")
    assert table.features == ("RMP (mV)", "AP width (ms)", "ap_peak", "ap_2", "sag ratio", "soma area")
    assert table.widths == (1, 1, 1, 1, 1, 1) and table.cell.tolist() == ["a", "b"], "cell_name is a usual name"
    assert table.provenance["naming"] is None and set(table.provenance["left_out"]) == {"Subclass", "Layer"}


def test_mixed_names_are_read_under_the_naming_that_is_given(written):
    path = written(both_records()[0] | {"v_baseline": [1.0] * 7})
    for naming, unit in (("old", "ms"), ("new", "s")):
        assert read_feature_csv(path, naming=naming).provenance["units"]["tau"] == unit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id = 3", "another form: id is a text"),
        ("[text]\nlabels = 'Subclass'", "has labels = 'Subclass': give a column for one of label, "),
        ("[features]\nfoo = 'Layer'", "'foo', which is no known feature"),
        ("[features]\nvrest = { column = 'x', factor = 2 }", r"give \"COLUMN\" or \{ column"),
        ("[families]\nap = 'ap_2'", "give a list of columns"),
        ("[units]\na = 1", "has the part 'units': the parts of a map are id, text, features, families"),
        ("vrest: x", "is not a TOML file"),
    ],
)
def test_invalid_map_is_refused(tmp_path, text, message):
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(TableError, match=message):
        read_feature_map(tmp_path / "map.toml")


def test_map_of_another_file_is_refused(written):
    with pytest.raises(TableError, match="has no column 'RMP': it has cell_id"):
        read_feature_csv(written(both_records()[0]), feature_map=FeatureMap(features={"vrest": ("RMP", 1.0)}))


def test_preview_shows_features_and_units_and_writes_a_map(tmp_path, capsys):
    pytest.importorskip("dandi", reason="the commands need the prep extra")
    from data_prep.__main__ import main

    path, described, out = tmp_path / "cells.csv", tmp_path / "map.toml", tmp_path / "table"
    path.write_text(OTHER.replace("ap_peak", "width_ramp"))  # in ms
    assert main(["patchseq", "preview", str(path), "--label", "Subclass", "--write-map", str(described)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "width_ramp width_ramp ramp_ap s 27.5 100 %" in shown and "sag sag subthreshold - 0.1 50 %" in shown
    assert "RMP (mV) no known feature vrest" in shown and "identified by 'cell_name'" in shown
    assert "width_ramp: the median size is 27.5, expected 0.00015 to 0.005 s" in shown
    assert read_feature_map(described) == FeatureMap(
        "cell_name", {"label": "Subclass"}, {"width_ramp": ("width_ramp", 1.0), "sag": ("sag", 1.0)}
    )
    text = described.read_text()
    assert '# vrest = "RMP (mV)"' in text and '"soma area"' in text and "Layer" not in text
    described.write_text(text.replace("# vrest", "vrest"))
    assert main(["patchseq", "table", str(out), "--csv", str(path), "--map", str(described)]) == 0
    assert "4 columns without a known name left out: Layer," in capsys.readouterr().out
    assert set(FeatureTable.read(out).features) == {"width_ramp", "sag", "vrest"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--csv", "cells.csv", "--labels", "labels.csv"], "--labels is for extracted folders: give .* --label"),
        (["--from", "extracted", "--naming", "old"], "--naming is for --csv"),
        (["--csv", "cells.csv", "--id-column", "Layers"], "has no column 'Layers': it has cell_name"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, monkeypatch, capsys, options, message):
    pytest.importorskip("dandi", reason="the commands need the prep extra")
    from data_prep.__main__ import main

    monkeypatch.chdir(tmp_path)
    Path("cells.csv").write_text(OTHER)
    assert main(["patchseq", "table", "out", *options]) == 2
    assert re.search(message, capsys.readouterr().err) and not Path("out").exists()


# The real tables.


@pytest.mark.parametrize("name", REAL)
def test_every_real_feature_belongs_to_one_family(name):
    naming, count = REAL[name]
    table = read_feature_csv(real(name), clock_times=True, min_coverage=0)
    with open(real(name), newline="") as file:
        columns = next(csv.reader(file))
    assert len(table.features) == len(set(table.features)) == count
    assert set(table.features) == set(columns) - set(KEYS)
    assert table.provenance["naming"] == naming and table.provenance["left_out"] == {}


def test_real_tables_have_the_known_widths():
    widths = {name: sum(read_feature_csv(real(name)).widths) for name in REAL}
    assert widths == {"mouse_v1": 48 - 12, "human": 81, "mouse_human_aligned": 25}
    assert sum(read_feature_csv(real("mouse_v1"), clock_times=True).widths) == 48


@pytest.mark.parametrize(("name", "species"), [("mouse_v1", "mouse"), ("human", "human")])
def test_alignment_reproduces_the_real_aligned_table(name, species):
    """Of every cell and feature: the same values to 1e-6, and the same gaps."""
    native, ours = _columns(real(name)), _columns(real("mouse_human_aligned"))
    rows = np.array(ours["species"]) == species
    assert np.array_equal(np.array(native["cell_id"]), np.array(ours["cell_id"])[rows])
    numbers = {key: _floats(native[key]) for key in native if key not in KEYS}
    for key, values in feature_names.align_columns(numbers, REAL[name][0]).items():
        np.testing.assert_allclose(values, _floats(ours[key])[rows], rtol=1e-6, equal_nan=True, err_msg=key)


def _columns(path):
    with open(path, newline="") as file:
        columns, *rows = csv.reader(file)
    return dict(zip(columns, zip(*rows, strict=True), strict=True))


def _floats(texts):
    return np.array([float(text or "nan") for text in texts])
