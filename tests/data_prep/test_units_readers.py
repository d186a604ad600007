"""Readers of units: small files in the layout of each source give the units that were written; each mistake gives one sentence."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from data_prep.units.alf import read_alf
from data_prep.units.arrays import read_arrays
from data_prep.units.fetch import IBL_PROJECT, fetch_brain_wide_map
from data_prep.units.registry import DATASETS, annotate_units, canonical_labels, find_dataset
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_csv import read_folder as read_parts
from jaxephys.schemas.unit_features import autocorrelogram, interval_histogram, waveform
from jaxephys.schemas.unit_table import UnitTable

h5py = pytest.importorskip("h5py", reason="NWB and C4 files need the prep extra")

REAL = Path(__file__).resolve().parents[3] / "shared/data/hippie"
RNG = np.random.default_rng(0)
WAVES, ISIS = RNG.normal(size=(4, 6)).round(3), RNG.integers(0, 50, (4, 5))
LABELS = ["PV", "b'SST'", "unlabeled", "Parvalbumin"]
RATE = 30_000.0


def read_folder(folder, **options):
    return UnitTable(**read_parts(folder, **options))


def write_csv(path, rows, header=None, index=False):
    lines = [",".join(map(str, header))] if header is not None else []
    lines += [",".join(map(str, ([i] if index else []) + list(row))) for i, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / "waveforms.csv", WAVES, range(6))
    write_csv(tmp_path / "isi_dist.csv", ISIS, ["-2.00", "-1.00", "0.00", "1.00", "2.00"])
    write_csv(tmp_path / "labels.csv", [[label] for label in LABELS], ["label"])
    return tmp_path


def test_folder_is_read_unchanged(folder):
    units = read_folder(folder)
    np.testing.assert_array_equal(units.raw["wave"], WAVES.astype(np.float32))
    np.testing.assert_array_equal(units.raw["isi"], ISIS)
    assert units.raw["acg"].shape == (4, 0) and not units.present[:, 2].any() and units.provenance["notes"] == []
    named = annotate_units(units, technology="tetrode")
    assert named.label.tolist() == ["PV", "SOM", "", "PV"] and named.column("label_raw").tolist() == LABELS
    assert named.technology_codes.tolist() == [3] * 4


@pytest.mark.parametrize("name", ["Unnamed: 0", "", "index"])
def test_row_index_is_dropped_and_reported(folder, name):
    write_csv(folder / "waveforms.csv", WAVES, [name, *range(6)], index=True)
    write_csv(folder / "labels.csv", [[label] for label in LABELS], [name, "0"], index=True)
    units = read_folder(folder)
    np.testing.assert_array_equal(units.raw["wave"], WAVES.astype(np.float32))
    assert units.label.tolist() == LABELS
    assert any("is a row index and was dropped" in note for note in units.provenance["notes"])


def test_files_without_a_header_lose_no_unit(folder):
    write_csv(folder / "waveforms.csv", WAVES)
    write_csv(folder / "labels.csv", [[label] for label in LABELS])
    units = read_folder(folder)
    np.testing.assert_array_equal(units.raw["wave"], WAVES.astype(np.float32))
    assert units.label.tolist() == LABELS and "has no header" in units.provenance["notes"][0]


def test_missing_values_and_files_of_zeros_are_missing_modalities(folder):
    rows = [list(row) for row in WAVES.tolist()]
    rows[1][2] = ""
    write_csv(folder / "waveforms.csv", rows, range(6))
    write_csv(folder / "acg.csv", np.zeros((4, 3)), range(3))
    units = read_folder(folder)
    assert units.present.tolist() == [[True, True, False], [False, True, False], *[[True, True, False]] * 2]
    assert [note.split()[0] for note in units.provenance["notes"]] == ["waveforms.csv:", "acg.csv"]


def test_subjects_sessions_folds_and_regions_are_read(folder):
    rows = [["s1", 1, "rat a"], ["s1", 2, "rat a"], ["s2", 1, "rat b"], ["s2", 2, "rat b"]]
    write_csv(folder / "metadata.csv", rows, ["session_id", "unit_id", "subject"])
    write_csv(folder / "folds.csv", [[3, "Parvalbumin", 1], [0, "PV", 0]], ["unit", "label", "fold"])
    write_csv(folder / "super_regions.csv", [["cortex"]] * 4, ["super_region"])
    write_csv(folder / "area.csv", [[4]] * 7, ["area"])
    units = read_folder(folder)
    assert list(units.unit) == ["s1/1", "s1/2", "s2/1", "s2/2"] and units.column("subject")[2] == "rat b"
    assert (
        units.column("fold").tolist() == ["0", "", "", "1"] and units.column("super_region").tolist() == ["cortex"] * 4
    )
    assert "area.csv has 7 rows" in units.provenance["notes"][0] and "region" not in units.about


@pytest.mark.parametrize(("which", "expected"), [("first", "L4"), ("last", "x"), ("type", "PV")])
def test_label_column_can_be_chosen(folder, which, expected):
    write_csv(folder / "labels.csv", [["L4", "PV", "x"]] * 4, ["layer", "type", "other"])
    assert read_folder(folder, label=which).label.tolist() == [expected] * 4
    with pytest.raises(DataError, match="choose the label with --label"):
        read_folder(folder)
    with pytest.raises(DataError, match="no column 'kind': choose from layer, type, other"):
        read_folder(folder, label="kind")


def remove(name):
    return lambda folder: (folder / name).unlink()


def rewrite(name, rows, header=None):
    return lambda folder: write_csv(folder / name, rows, header)


MISTAKES = [
    (lambda folder: [path.unlink() for path in folder.iterdir()], "has none of units.npz, waveforms.csv"),
    (rewrite("isi_dist.csv", ISIS[:3], range(5)), "different numbers of rows .waveforms.csv 4, isi_dist.csv 3"),
    (rewrite("labels.csv", [["a"]] * 7, ["label"]), "labels.csv has 7 rows .* for 4 units"),
    (rewrite("waveforms.csv", WAVES, ["0.11", "0.2", "0.2.1", "0.35", "0.4", "0.5"]), "taken for a header .'0.2.1'"),
    (rewrite("waveforms.csv", [["PV", 1], ["SST", 2]], ["a", "b"]), "is not a table of numbers"),
    (rewrite("waveforms.csv", [[1, 2], [3]], range(2)), "is not a table of numbers"),
    (lambda folder: (folder / "waveforms.csv").write_text("\n"), "is empty"),
    (rewrite("metadata.csv", [["VIP"]] * 4, ["label"]), "has the label 'VIP' in row 0 and labels.csv has 'PV'"),
    (rewrite("folds.csv", [[9, "PV", 0]], ["unit", "label", "fold"]), "has unit '9' in fold '0'"),
    (rewrite("folds.csv", [[0, "VIP", 0]], ["unit", "label", "fold"]), "the folds belong to other units"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_invalid_folder_is_refused(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        read_folder(folder)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        read_folder(tmp_path / "none")


def test_labels_are_cleaned():
    dirty = ["b'PkC_ss'", 'b"x"', b"PV", " FS  4.0 ", "nan", "Unlabelled", "b''"]
    assert [clean_label(label) for label in dirty] == ["PkC_ss", "x", "PV", "FS 4.0", "", "", ""]
    s1 = find_dataset("s1").labels
    assert canonical_labels(["E  4.0", "FS5.0", "SOMnan", "PVALB"], s1) == ["E_L4", "FS_L5", "SOM", "PV"]
    assert canonical_labels(["VGAT", "Juxt", "Pyra", "SST"], find_dataset("cellexplorer").labels) == [
        "",
        "",
        "Pyramidal",
        "SOM",
    ]


@pytest.mark.skipif(not REAL.exists(), reason=f"no real units in {REAL.name}: they are not part of the project")
@pytest.mark.parametrize(
    "folder", sorted(path.name for path in REAL.iterdir() if path.is_dir()) if REAL.exists() else []
)
def test_published_units_agree_with_their_provenance(folder):
    units = annotate_units(read_folder(REAL / folder), find_dataset(folder))
    dataset, description = find_dataset(folder), (REAL / folder / "PROVENANCE.txt").read_text()
    assert f"{len(units)} " in description and len(units) == dataset.units
    labels = units.label.tolist()
    assert {label: labels.count(label) for label in set(labels) - {""}} == dict(dataset.classes)
    tested = [label for label, fold in zip(labels, units.column("fold"), strict=True) if fold]
    large = {label: count for label, count in dataset.classes.items() if count >= 10}  # the benchmark's rule
    assert {label: tested.count(label) for label in set(tested)} == large


# Spike times.

SPIKE_TIMES = [np.sort(RNG.uniform(0, 20, size)) for size in (150, 40, 120)]
SHAPE = -50 * np.exp(-0.5 * ((np.arange(90) - 35) / 6) ** 2) + 10 * np.exp(-0.5 * ((np.arange(90) - 60) / 9) ** 2)
TEMPLATES = np.stack([np.outer([0.2, 1.0, 0.5], SHAPE) * scale for scale in (1, 2, 3)])  # [unit, channel, sample]


def check_units(units, rows=(0, 1, 2), templates=True):
    assert len(units) == len(rows)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(units.raw["isi"][i], interval_histogram(SPIKE_TIMES[row]))
        np.testing.assert_array_equal(units.raw["acg"][i], autocorrelogram(SPIKE_TIMES[row]))
        if templates:
            np.testing.assert_allclose(units.raw["wave"][i], waveform(SHAPE * (row + 1), RATE), rtol=1e-4, atol=1e-4)


def spike_arrays() -> dict:
    ends = np.cumsum([len(times) for times in SPIKE_TIMES])
    return {"spike_times": np.concatenate(SPIKE_TIMES), "spike_times_index": ends}


def test_archive_of_spike_times(tmp_path):
    np.savez(
        tmp_path / "a.npz", **spike_arrays(), template=TEMPLATES, rate=RATE, label=["a", "b", "nan"], subject="rat"
    )
    units = read_arrays(tmp_path / "a.npz")
    check_units(units)
    assert units.label.tolist() == ["a", "b", ""] and units.column("subject").tolist() == ["rat"] * 3


def test_archive_of_features(tmp_path):
    np.savez(tmp_path / "a.npz", isi=ISIS, unit=list("abcd"))
    units = read_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(units.raw["isi"], ISIS)
    assert list(units.unit) == list("abcd") and units.raw["wave"].shape == (4, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": np.zeros(3)}, "holds x: it needs waveform"),
        ({"isi": ISIS, "spike_times": np.zeros(2)}, "holds both isi and spike_times"),
        ({"spike_times": np.zeros(2)}, "one of spike_times and spike_times_index"),
        ({"spike_times": np.zeros(9), "spike_times_index": [3, 8]}, "does not increase to the 9 spikes"),
        ({"isi": ISIS, "label": ["PV"]}, "label of .* has the shape \\(1,\\) for 4 units"),
        ({"template": TEMPLATES}, "without a sampling rate: give it in Hz"),
        ({"label": np.array([{}], object)}, "not a file of plain arrays"),
    ],
)
def test_invalid_archive_is_refused(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=message):
        read_arrays(tmp_path / "a.npz")


def read_nwb(*paths, **options):
    from data_prep.units.nwb import read_nwb

    return read_nwb(paths, **options)


def test_nwb_file_of_pynwb(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    start = datetime(2020, 1, 1, tzinfo=UTC)
    file = pynwb.NWBFile("toy", "toy", start, session_id="one")
    file.subject = pynwb.file.Subject(subject_id="m7", species="Mus musculus")
    device = file.create_device("probe")
    group = file.create_electrode_group("shank1", "", "VISp", device)
    for _ in range(3):
        file.add_electrode(group=group, location="VISp")
    file.units = pynwb.misc.Units(name="units", waveform_rate=RATE)
    for name, description in (("cell_type", "the label"), ("isi_violations", ""), ("presence_ratio", "")):
        file.add_unit_column(name, description)
    for times, shape, label, violations in zip(
        SPIKE_TIMES, TEMPLATES, ["RS", "FS", "unknown"], [0.1, 0.2, 0.9], strict=True
    ):
        quality = {"isi_violations": violations, "presence_ratio": 1.0}
        file.add_unit(spike_times=times, waveform_mean=shape.T, cell_type=label, electrodes=[1], **quality)
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(file)
    units = read_nwb(tmp_path / "a.nwb")
    check_units(units)
    assert units.label.tolist() == ["RS", "FS", ""] and list(units.unit)[:2] == ["one/0", "one/1"]
    assert [units.column(name)[0] for name in ("subject", "session", "species", "region")] == [
        "m7",
        "one",
        "mouse",
        "VISp",
    ]
    kept = annotate_units(read_nwb(tmp_path / "a.nwb", dataset=find_dataset("watson")), find_dataset("watson"))
    check_units(kept, rows=[0])
    assert kept.label.tolist() == ["Excitatory"], "the second has fewer than 100 spikes"
    assert sorted(kept.provenance["notes"]) == [
        "1 units: fewer than 100 spikes",
        "1 units: isi_violations out of range",
    ]


def bare_nwb(path, **columns):
    """The units table alone, as other writers lay it out."""
    with h5py.File(path, "w") as file:
        table = file.create_group("units")
        for name, column in {"id": np.arange(3), **spike_arrays(), **columns}.items():
            table[name] = column
    return path


def test_templates_as_the_allen_institute_writes_them(tmp_path):
    path = bare_nwb(tmp_path / "a.nwb", waveform_mean=TEMPLATES.reshape(9, 90), waveform_mean_index=[3, 6, 9])
    with h5py.File(path, "a") as file:
        file["units/peak_channel_id"] = [850, 860, 850]
        file["general/extracellular_ephys/electrodes/id"] = [850, 860]
        file["general/extracellular_ephys/electrodes/location"] = [b"CA1", b"VISp"]
    units = read_nwb(path, rate=RATE)
    check_units(units)
    assert units.column("region").tolist() == ["CA1", "VISp", "CA1"] and units.column("session").tolist() == ["a"] * 3
    with pytest.raises(DataError, match="without a sampling rate"):
        read_nwb(path)


@pytest.mark.parametrize("samples_first", [False, True])
def test_templates_from_the_spike_events_of_a_shank(tmp_path, samples_first):
    path = bare_nwb(tmp_path / "a.nwb", cell_type=[b"pyramidal", b"interneuron", b""])
    stamps = np.concatenate([SPIKE_TIMES[0], SPIKE_TIMES[2], RNG.uniform(20, 30, 60)])
    rows = np.repeat([0, 2, 1], [150, 120, 60])
    order = np.argsort(stamps)
    events = TEMPLATES[rows[order]] + RNG.normal(0, 1, (330, 3, 90))
    with h5py.File(path, "a") as file:
        for shank in (1, 12):
            file.create_group(f"general/extracellular_ephys/shank{shank}")
        to = [file["general/extracellular_ephys/shank12"].ref, file["general/extracellular_ephys/shank1"].ref]
        file["units"].create_dataset("electrode_group", data=[to[0], to[1], to[0]], dtype=h5py.ref_dtype)
        series = file.create_group("processing/ecephys/SpikeWaveforms12")
        series["timestamps"], series["electrodes"] = stamps[order], np.arange(3)
        series["data"] = events.transpose(0, 2, 1) if samples_first else events
    units = annotate_units(read_nwb(path, rate=RATE), find_dataset("watson"))
    check_units(units, templates=False)
    assert units.present[:, 0].tolist() == [True, False, True]
    for row in (0, 2):
        np.testing.assert_allclose(units.raw["wave"][row], waveform(SHAPE * (row + 1), RATE), atol=1.0)
    assert units.label.tolist() == ["Excitatory", "Inhibitory", ""]


def test_invalid_nwb_file_is_refused(tmp_path):
    (tmp_path / "text.nwb").write_text("no")
    with h5py.File(tmp_path / "none.nwb", "w") as file:
        file["identifier"] = "x"
    for name, message in {
        "text": "not a readable HDF5",
        "none": "has no units table",
        "gone": "not a readable",
    }.items():
        with pytest.raises(DataError, match=message):
            read_nwb(tmp_path / f"{name}.nwb")
    with pytest.raises(DataError, match="no column 'type'"):
        read_nwb(bare_nwb(tmp_path / "a.nwb", cell_type=[b"a"] * 3), label="type")


def test_the_files_of_the_c4_database(tmp_path):
    from data_prep.units.c4 import read_c4

    with h5py.File(tmp_path / "hull.h5", "w") as file:
        for row in (2, 0, 10):
            group = file.create_group(f"hull_neuron_{row}")
            group["sampling_rate"], group["dataset_id"] = RATE, f"21-01-0{row}_m1"
            light = np.concatenate([SPIKE_TIMES[row % 10], [30.0, 30.001, 31.0]])  # spikes that the masks take away
            group["spike_indices"] = np.round(light * RATE).astype(np.uint32)
            group["mean_waveform_preprocessed"] = TEMPLATES[row % 10].astype(np.float32)
            group["sane_spikes"], group["fn_fp_filtered_spikes"] = light < 30.5, light != 30.0
            group["ground_truth_label"], group["human_layer"] = b"PkC_ss" if row else b"MFB", b"PCL"
    units = read_c4(tmp_path / "hull.h5")
    assert list(units.unit) == ["hull_neuron_0", "hull_neuron_2", "hull_neuron_10"]
    assert units.label.tolist() == ["MFB", "PkC_ss", "PkC_ss"] and units.column("session")[0] == "21-01-00_m1"
    assert units.raw["isi"].sum(axis=1).tolist() == [np.sum(np.diff(SPIKE_TIMES[row]) < 0.1) for row in (0, 2, 0)]
    np.testing.assert_allclose(units.raw["wave"][1], waveform(SHAPE * 3, RATE), rtol=1e-3, atol=1e-3)
    assert "PCL" not in [text for column in units.about.values() for text in column], "the layer nearly names the class"


def test_the_lisberger_file_of_the_c4_database(tmp_path):
    from data_prep.units.c4 import read_c4

    with h5py.File(tmp_path / "l.h5", "w") as file:
        group = file.create_group("lisberger_neuron_0")
        group["sampling_rate"], group["spike_indices"] = 40_000, np.round(SPIKE_TIMES[0] * 40_000).astype(np.uint32)
        group["mean_waveform_preprocessed"] = SHAPE[:, None]
        group["sane_spikes"], group["fn_fp_filtered_spikes"] = np.ones(150, np.uint8), b"None"
        group["ground_truth_label"], group["expert_label"] = b"None", b"GoC"
    units = read_c4(tmp_path / "l.h5")
    assert units.label.tolist() == ["GoC"] and units.raw["isi"].sum() == np.sum(np.diff(SPIKE_TIMES[0]) < 0.1)
    np.testing.assert_allclose(units.raw["wave"][0], waveform(SHAPE, 40_000.0), rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="no neuron of .* has the field 'type'"):
        read_c4(tmp_path / "l.h5", label="type")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("units")
    with pytest.raises(DataError, match="no group such as hull_neuron_0"):
        read_c4(tmp_path / "other.h5")


def test_sorting_analyzer():
    from jaxephys.schemas.unit_sources import read_analyzer

    def unit_template(unit, operator):
        if operator not in extension.params["operators"]:
            raise KeyError(operator)  # as SpikeInterface does
        return TEMPLATES[int(unit[1])].T  # SpikeInterface has [sample, channel]

    sorting = SimpleNamespace(
        get_unit_spike_train=lambda unit, segment_index: np.round(SPIKE_TIMES[int(unit[1])] * 1e6).astype(int),
        get_property_keys=lambda: ["quality", "type"],
        get_property=lambda name: np.array(["PV", "nan", "SOM"]) if name == "type" else None,
    )
    extension = SimpleNamespace(get_unit_template=unit_template, params={"operators": ["average", "std"]})
    extensions = {"templates": extension}
    analyzer = SimpleNamespace(sorting=sorting, get_extension=extensions.get, get_num_segments=lambda: 1)
    analyzer.unit_ids, analyzer.sampling_frequency = ["u0", "u1", "u2"], 1e6
    units = read_analyzer(analyzer, label="type")
    assert list(units.unit) == ["u0", "u1", "u2"] and units.label.tolist() == ["PV", "", "SOM"]
    np.testing.assert_allclose(units.raw["wave"][2], waveform(SHAPE * 3, 1e6), rtol=1e-4, atol=1e-4)
    assert units.raw["isi"].sum(axis=1).tolist() == [np.sum(np.diff(times) < 0.1) for times in SPIKE_TIMES]
    with pytest.raises(DataError, match="no property 'kind': choose from quality, type"):
        read_analyzer(analyzer, label="kind")
    extension.params = {"operators": ["median", ("percentile", 5)]}
    median = UnitTable.from_spikeinterface(analyzer, technology="tetrode", dataset="mouse")
    assert median.sha256 != units.sha256 and np.array_equal(median.raw["wave"], units.raw["wave"])
    assert median.name.tolist() == ["mouse/u0", "mouse/u1", "mouse/u2"] and median.technology_codes.tolist() == [3] * 3
    assert median.provenance["notes"] == ["the waveforms are median templates: the analyzer has no mean ones"]
    extension.params = {"operators": [("percentile", 5)]}
    with pytest.raises(
        DataError, match=r"templates of \('percentile', 5\) only: compute them with operators=\['average'\]"
    ):
        read_analyzer(analyzer)
    with pytest.raises(DataError, match="pip install spikeinterface|there is no analyzer"):
        read_analyzer("none")


def write_sorting(
    folder, waveforms, *, metrics="cluster_id,label,presence_ratio\n2,1,0.9\n0,1,0.8\n1,0.5,1\n3,1,0.1\n"
):
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(400) * 0.01
    np.save(folder / "spikes.times.npy", times)
    np.save(folder / "spikes.clusters.npy", np.r_[np.arange(390) % 3, np.full(10, 3)].astype(np.int32))
    np.save(folder / "clusters.waveforms.npy", waveforms)
    np.save(folder / "clusters.channels.npy", np.array([0, 1, 1, 0]))
    np.save(folder / "channels.brainLocationIds_ccf_2017.npy", np.array([672, 997]))
    (folder / "clusters.metrics.csv").write_text(metrics)


def test_folders_of_the_ibl(tmp_path, monkeypatch):
    waveforms = np.zeros((4, 82, 2))
    waveforms[0, 30:34, 1], waveforms[2, 20:30, 0] = -1e-4, -2e-4
    root = tmp_path / "lab/Subjects/M1/2021-04-13/001/alf"
    write_sorting(root / "probe00/pykilosort", waveforms)
    write_sorting(root / "probe00/pykilosort/#2024-05-06#", 2 * waveforms)
    write_sorting(root / "probe00", np.zeros((4, 82, 2)))  # an older sorting
    monkeypatch.setitem(sys.modules, "iblatlas", None)
    monkeypatch.setitem(sys.modules, "iblatlas.regions", None)
    units = read_alf([tmp_path])
    names = [f"M1/2021-04-13/001/probe00/{cluster}" for cluster in (0, 2, 3)]
    assert units.unit.tolist() == names and set(units.column("subject")) == {"M1"}
    assert units.provenance["notes"] == [
        "1 units: not of quality good",
        "regions are left out: install them with pip install iblatlas",
    ]
    np.testing.assert_allclose(units.raw["wave"][0], waveform(2 * waveforms[0].T, 30_000.0))
    assert units.finite[:, 0].tolist() == [True, True, False], "a constant template is none"
    assert units.raw["isi"][0].argmax() == 30

    class BrainRegions:
        def id2acronym(self, ids, mapping):
            assert mapping == "Cosmos"
            return np.array([{672: "CNU", 997: "root"}[number] for number in ids.tolist()])

    monkeypatch.setitem(sys.modules, "iblatlas", ModuleType("iblatlas"))
    monkeypatch.setitem(sys.modules, "iblatlas.regions", SimpleNamespace(BrainRegions=BrainRegions))
    selected = annotate_units(read_alf([root], dataset=find_dataset("ibl")), find_dataset("ibl"))
    assert selected.unit.tolist() == names[:2] and selected.label.tolist() == ["CNU", ""]
    assert "1 units: fewer than 100 spikes" in selected.provenance["notes"]
    assert selected.technology_codes.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "clusters.waveforms.npy").unlink(), r"holds no clusters.waveforms\*.npy"),
        (lambda folder: np.save(folder / "spikes.times.npy", np.zeros(3)), "3 spike times, 400 spike clusters"),
        (lambda folder: (folder / "clusters.metrics.csv").write_text("cluster_id\n0\n"), "has no column label"),
        (lambda folder: (folder / "spikes.times.npy").unlink(), "there is no spikes.times.npy"),
    ],
)
def test_incomplete_folders_of_the_ibl_are_refused(tmp_path, change, message):
    write_sorting(tmp_path / "alf/probe00", np.zeros((4, 82, 2)))
    change(tmp_path / "alf/probe00")
    with pytest.raises(DataError, match=message):
        read_alf([tmp_path])


def test_sessions_of_the_brain_wide_map_come_through_one(tmp_path, monkeypatch, capsys):
    class One:
        def __init__(self, **options):
            assert options["cache_dir"] == str(tmp_path)

        def search(self, project):
            return ["b", "a", "c"] if project == IBL_PROJECT else []

        def list_collections(self, session, filename):
            assert filename == "clusters.waveforms*"
            return np.array(["alf/probe00", "alf/probe00/pykilosort", "alf/probe01/pykilosort"])

        def load_object(self, session, name, collection, attribute, download_only):
            if session == "b":
                raise OSError("no route")
            downloaded.append((session, collection, name, tuple(attribute)))
            return [f"{name}.{x}" for x in attribute]

    downloaded: list = []
    exceptions = ModuleType("one.alf.exceptions")
    exceptions.ALFError = type("ALFError", (Exception,), {})
    for name in ("one", "one.alf"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "one.alf.exceptions", exceptions)
    monkeypatch.setitem(sys.modules, "one.api", SimpleNamespace(ONE=One))
    with pytest.raises(DataError, match=r"1 sessions failed, b: the server of the IBL failed: OSError: no route"):
        fetch_brain_wide_map(tmp_path, limit=2)
    assert {(session, collection) for session, collection, *_ in downloaded} == {
        ("a", "alf/probe00/pykilosort"),
        ("a", "alf/probe01/pykilosort"),
    }
    assert {file[2:] for file in downloaded} == {
        ("spikes", ("times", "clusters")),
        ("clusters", ("waveforms", "metrics", "channels")),
        ("channels", ("brainLocationIds_ccf_2017",)),
    }
    assert "2 probes of 2 sessions" in capsys.readouterr().out


def test_every_reader_of_the_registry_is_an_option_of_build():
    assert {dataset.reader for dataset in DATASETS} <= {"csv", "nwb", "h5", "alf"}
