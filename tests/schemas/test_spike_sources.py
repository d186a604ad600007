"""Spike times of the user's own: mappings, stand-ins of SpikeInterface and pynapple objects, and folders of Phy give the same recording."""

from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.__main__ import main
from jaxephys.schemas.recording import Recording, as_recording
from jaxephys.schemas.spike_sources import read_params
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_sources import as_unit_table

RNG = np.random.default_rng(0)
RATE = 20_000.0
SAMPLES = {7: np.sort(RNG.integers(0, 40_000, 90)), 3: np.sort(RNG.integers(0, 40_000, 40)), 12: np.array([20, 39_999])}
TIMES = {unit: samples / RATE for unit, samples in SAMPLES.items()}
SECONDS = 2.0


class Sorting:
    """The methods of a SpikeInterface sorting that are read."""

    unit_ids = np.array(list(SAMPLES))

    def __init__(self, segments=1, samples=None):
        self.segments, self.samples = segments, samples

    def get_num_segments(self):
        return self.segments

    def get_sampling_frequency(self):
        return RATE

    def has_recording(self):
        return self.samples is not None

    def get_num_samples(self, segment_index):
        return self.samples

    def get_unit_spike_train(self, unit_id, segment_index=None):
        return SAMPLES[int(unit_id)]


class TsGroup(dict):
    """The properties of a pynapple TsGroup that are read; the clock of the times starts at 100 s."""

    def __init__(self, starts=(100.0,), stops=(100.0 + SECONDS,)):
        super().__init__({unit: SimpleNamespace(t=100.0 + times) for unit, times in TIMES.items()})
        self.rates = self.index = None
        self.time_support = SimpleNamespace(start=np.array(starts), end=np.array(stops))


def write_sorting(folder, groups=("good", "good", "mua"), table="cluster_group.tsv", column="group", seconds=SECONDS):
    """Write a folder of Phy, or of Kilosort, with the raw data of the duration."""
    folder.mkdir()
    clusters = np.repeat(list(SAMPLES), [len(samples) for samples in SAMPLES.values()])
    samples = np.concatenate(list(SAMPLES.values()))
    order = np.argsort(samples, kind="stable")
    np.save(folder / "spike_times.npy", samples[order][:, None].astype(np.uint64))
    np.save(folder / "spike_clusters.npy", clusters[order].astype(np.int32))
    rows = [f"{unit}\t{group}" for unit, group in zip(SAMPLES, groups, strict=True)]
    (folder / table).write_text("\n".join([f"cluster_id\t{column}", *rows]) + "\n")
    (folder / "params.py").write_text(
        f"import os\ndat_path = ['raw.dat']\nn_channels_dat = 2\ndtype = 'int16'\noffset = 0\nsample_rate = {RATE}\n"
        "hp_filtered = os.path.exists('raw.dat')\n"
    )
    if seconds:
        (folder / "raw.dat").write_bytes(bytes(int(seconds * RATE) * 2 * 2))
    return folder


def same_spikes(one, other):
    return one.unit_id.tolist() == other.unit_id.tolist() and np.array_equal(one.packed, other.packed)


# Times in seconds.


@pytest.mark.parametrize("bin_ms", [1.0, 5.0])
def test_spike_times_fill_their_bins(bin_ms):
    recording = Recording.from_times(
        {unit: RNG.permutation(times) for unit, times in TIMES.items()}, duration=SECONDS, bin_ms=bin_ms
    )
    assert len(recording) == SECONDS * 1000 / bin_ms and recording.unit_id.tolist() == ["7", "3", "12"]
    for u, samples in enumerate(SAMPLES.values()):
        expected = np.unique(samples // round(RATE * bin_ms / 1000))
        np.testing.assert_array_equal(np.flatnonzero(recording.bits(0, len(recording))[:, u]), expected)


def test_recording_ends_with_the_last_spike_or_after_the_duration():
    assert len(Recording.from_times({"a": [0.25, 0.5004], "b": []})) == 501
    assert len(Recording.from_times({"a": [10.25, 10.5004]}, start=10.0)) == 501
    late = Recording.from_times({"a": [0.0002, 0.5, 0.9993]}, duration=0.9996)
    assert len(late) == 999 and late.provenance["notes"] == ["1 spikes after the last whole bin left out"]


def test_spikes_outside_are_refused_or_left_out():
    times = {"a": [0.1, 0.2, 0.7], "b": [0.65]}
    with pytest.raises(
        DataError, match=r"unit a has a spike at 0\.7 s, outside of the recording from 0 to 0\.6 s: .* outside='drop'"
    ):
        Recording.from_times(times, duration=0.6)
    with pytest.raises(DataError, match=r"unit a has a spike at 0\.1 s, outside of the recording from 0\.15"):
        Recording.from_times(times, start=0.15)
    kept = Recording.from_times(times, start=0.15, duration=0.45, outside="drop")
    assert len(kept) == 450 and kept.events()[0].tolist() == [50] and kept.units == 2
    assert kept.provenance["notes"] == ["3 spikes outside of the recording left out"]


INVALID = [
    ({"a": [1, 2]}, {}, "spike times of unit a are integers: give seconds, such as samples / 30000"),
    ({"a": [0.1, np.nan]}, {}, "unit a has a spike time that is not finite"),
    ({"a": ["0.1"]}, {}, "of unit a are of type <U3: give numbers, in seconds"),
    ({"a": [0.1], "b": [5e6]}, {}, r"would last 57\.9 days: give times in seconds, not in ms or samples"),
    ({"a": []}, {"duration": 1.0}, "has no spike in 1000 bins"),
    ({}, {}, "for 0 units|at least one unit"),
    ({"a": [0.1]}, {"bin_ms": 0.0}, "a bin of 0 ms has no width"),
    ({"a": [0.1]}, {"duration": -1.0}, "ends at -1 s and starts at 0 s"),
    ({"a": [0.1]}, {"outside": "clip"}, "outside is 'clip': give 'raise' or 'drop'"),
    ({1: [0.1], "1": [0.2]}, {"duration": 0.5}, "unit 1 occurs 2 times"),
]


@pytest.mark.parametrize(("times", "options", "message"), INVALID, ids=[message for *_, message in INVALID])
def test_invalid_times_give_one_sentence(times, options, message):
    with pytest.raises(DataError, match=message) as error:
        Recording.from_times(times, **options)
    assert "\n" not in str(error.value)


# Objects and folders.


def test_every_source_gives_the_same_recording(tmp_path):
    expected = Recording.from_times(TIMES, duration=SECONDS)
    assert same_spikes(as_recording(Sorting(samples=40_000)), expected)
    assert same_spikes(Recording.from_spikeinterface(Sorting(), duration=SECONDS), expected)
    analyzer = SimpleNamespace(sorting=Sorting(), get_extension=None, get_num_samples=lambda segment: 40_000)
    assert same_spikes(as_recording(analyzer), expected)
    assert same_spikes(as_recording(TsGroup()), expected)
    folder = write_sorting(tmp_path / "phy")
    curated = Recording.from_times({unit: TIMES[unit] for unit in (3, 7)}, duration=SECONDS)
    assert same_spikes(Recording.from_phy(folder), curated) and same_spikes(as_recording(folder), curated)
    assert Recording.from_phy(folder).name == "phy"
    everything = Recording.from_phy(folder, good_only=False)
    assert everything.unit_id.tolist() == ["3", "7", "12"] and everything.counts("train").sum() > 0
    kilosort = write_sorting(tmp_path / "ks", ("mua", "good", "good"), "cluster_KSLabel.tsv", "KSLabel", seconds=0)
    assert Recording.from_kilosort(kilosort).unit_id.tolist() == ["3", "12"] == as_recording(kilosort).unit_id.tolist()
    assert len(Recording.from_kilosort(kilosort)) == 2000, "there are no raw data: it ends with the last spike"
    stored = expected.write(tmp_path)
    assert same_spikes(as_recording(stored), expected)


def test_arrays_and_data_frames_are_recordings():
    pandas = pytest.importorskip("pandas")
    spikes = (RNG.random((400, 3)) < 0.1).astype(np.uint8)
    frame = pandas.DataFrame(spikes, columns=["u1", "u2", "u3"])
    for source in (spikes, spikes.tolist(), frame):
        np.testing.assert_array_equal(as_recording(source, bin_ms=2.0).bits(0, 400), spikes)
    assert as_recording(frame).unit_id.tolist() == ["u1", "u2", "u3"] and as_recording(spikes, bin_ms=2.0).bin_ms == 2.0
    with pytest.raises(
        DataError, match=r"16 bins of 24000 units, fewer bins than units: give bins x units, here perhaps spikes\.T"
    ):
        as_recording(np.zeros((16, 24_000), np.uint8))


def test_sources_that_are_no_recording_are_refused(tmp_path):
    for source, message in [
        (3.0, "a float holds no recording: give a Recording"),
        (Sorting(segments=2), "has 2 segments: choose one with segment_index=0 to 1"),
        (TsGroup((0.0, 5.0), (1.0, 6.0)), "has 2 intervals: restrict it to one with group.restrict"),
        (tmp_path, "has no params.py: give a folder that Kilosort or Phy has written"),
        (tmp_path / "absent.npz", "there is no recording"),
    ]:
        with pytest.raises(DataError, match=message):
            as_recording(source)
    with pytest.raises(DataError, match="no segment 3: give segment_index=0 to 0"):
        Recording.from_spikeinterface(Sorting(), segment_index=3)


FOLDERS = [
    (lambda folder: (folder / "spike_times.npy").unlink(), "there is no file .*spike_times.npy"),
    (lambda folder: (folder / "spike_clusters.npy").unlink(), "has no spike_clusters.npy"),
    (lambda folder: (folder / "cluster_group.tsv").unlink(), "has no cluster_group.tsv or .* take all units"),
    (
        lambda folder: (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n7\tnoise\n"),
        "is marked 'good': curate it",
    ),
    (
        lambda folder: (folder / "cluster_group.tsv").write_bytes(b"cluster_id\tgroup\n\xff\tgood\n"),
        "cluster_group.tsv is not a table",
    ),
    (lambda folder: (folder / "params.py").write_text("sample_rate = rate"), "has no sample_rate: add the line"),
    (lambda folder: (folder / "params.py").write_text("sample_rate: x y"), "is not a file of Python assignments"),
    (lambda folder: np.save(folder / "spike_times.npy", np.arange(3)), "3 spike times and 132 spike clusters"),
]


@pytest.mark.parametrize(("change", "message"), FOLDERS, ids=[message for _, message in FOLDERS])
def test_damaged_folder_gives_one_sentence(tmp_path, change, message):
    folder = write_sorting(tmp_path / "phy")
    change(folder)
    with pytest.raises(DataError, match=message) as error:
        Recording.from_phy(folder)
    assert "\n" not in str(error.value)


def test_params_are_read_and_not_executed(tmp_path):
    (tmp_path / "params.py").write_text("sample_rate = 3e4\nprobe = {'a': [1, 2]}\nx = print('run')\ny = 1 / 0\n")
    assert read_params(tmp_path / "params.py") == {"sample_rate": 3e4, "probe": {"a": [1, 2]}}


def test_build_takes_folders_of_phy_and_kilosort(tmp_path, capsys):
    folder = write_sorting(tmp_path / "phy")
    (folder / "cluster_KSLabel.tsv").write_text("cluster_id\tKSLabel\n12\tgood\n3\tgood\n")
    splits = ["--train", "0", "1000", "--validation", "1000", "1500", "--test", "1500", "2000"]
    for option, units in (("--phy", ["3", "7"]), ("--kilosort", ["3", "12"])):
        assert main(["spikes", "build", "mine", option, str(folder), "--out", str(tmp_path), *splits]) == 0
        built = Recording.read(tmp_path / "mine.npz")
        assert built.unit_id.tolist() == units and built.provenance["source"] == option[2:]
        expected = Recording.from_times({unit: TIMES[int(unit)] for unit in units}, duration=SECONDS)
        np.testing.assert_array_equal(built.packed, expected.packed)
    assert (
        main(["spikes", "build", "mine", "--phy", str(folder), "--tick-ms", "1", "--out", str(tmp_path), *splits]) == 2
    )
    assert "is that of its params.py" in capsys.readouterr().err


def test_sources_without_waveforms_are_tables_of_units(tmp_path):
    units = as_unit_table(TIMES)
    assert units.unit.tolist() == ["7", "3", "12"] and units.present.tolist() == [[False, True, True]] * 2 + [
        [False] * 3
    ]
    for source in (Sorting(), TsGroup()):
        np.testing.assert_array_equal(as_unit_table(source).raw["isi"], units.raw["isi"])
    assert as_unit_table(write_sorting(tmp_path / "phy")).unit.tolist() == ["3", "7"]
    with pytest.raises(DataError, match=r"a ndarray of shape \(3, 250\) holds no units: give a UnitTable"):
        as_unit_table(np.zeros((3, 250)))


# The real packages, where they are installed.


def test_sorting_and_analyzer_of_spikeinterface():
    spikeinterface = pytest.importorskip("spikeinterface.core")
    recorded, sorting = spikeinterface.generate_ground_truth_recording(
        durations=[5.0], num_channels=4, num_units=3, seed=0
    )
    analyzer = spikeinterface.create_sorting_analyzer(sorting, recorded)
    analyzer.compute(["random_spikes", "templates"])
    assert same_spikes(as_recording(analyzer), Recording.from_spikeinterface(sorting, duration=5.0))
    assert as_unit_table(analyzer).present.all()


def test_ts_group_of_pynapple():
    pynapple = pytest.importorskip("pynapple")
    interval = pynapple.IntervalSet(0.0, SECONDS)
    group = pynapple.TsGroup({unit: pynapple.Ts(times) for unit, times in TIMES.items()}, time_support=interval)
    expected = Recording.from_times({unit: TIMES[unit] for unit in sorted(TIMES)}, duration=SECONDS)
    assert same_spikes(Recording.from_pynapple(group), expected)
