"""Readers of spike times: small files in the layout of each source give the times that were written; each mistake gives one sentence."""

import numpy as np
import pytest
from scipy.io import savemat

from data_prep.spikes.binning import bin_spikes
from data_prep.spikes.spike_files import read_alf, read_arrays, read_asdf, read_nwb
from jaxephys.schemas.storage import DataError

TICKS = [np.array([1, 5, 9]), np.array([], int), np.array([2, 3, 20])]


def write_asdf(path, ticks=TICKS, tick=(), length=20, units=None, shape=(-1, 1)):
    cells = np.empty(len(ticks) + 2, object)
    for i, unit_ticks in enumerate(ticks):
        cells[i] = np.asarray(unit_ticks)[None]
    cells[-2], cells[-1] = np.array(tick), np.array([len(ticks) if units is None else units, length])
    savemat(path, {"asdf_x": cells.reshape(shape)})
    return path


def times(spikes):
    return [unit_times.tolist() for unit_times in spikes.times]


# Asdf.


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_asdf_cells_may_be_a_row_or_a_column(tmp_path, shape):
    path = write_asdf(tmp_path / "a.mat", shape=shape)
    spikes = read_asdf(path, tick_ms=0.5)
    assert times(spikes) == [[0.5, 2.5, 4.5], [], [1.0, 1.5, 10.0]]
    assert spikes.length == 10.5, "MATLAB counts from 1: a spike at the length is in the last tick"
    assert list(spikes.unit) == ["0", "1", "2"] and spikes.notes == ["1 of 3 units have no spike"]


def test_asdf_may_contain_the_tick(tmp_path):
    spikes = read_asdf(write_asdf(tmp_path / "a.mat", tick=[2.0]))
    assert times(spikes)[0] == [2, 10, 18]
    assert times(read_asdf(tmp_path / "a.mat", tick_ms=1.0))[0] == [1, 5, 9], "the argument takes precedence"


ASDF = {
    "no tick": ({}, {}, "does not contain the length of a tick: give --tick-ms 1"),
    "tick of zeros": ({"tick": [0, 0]}, {}, "does not contain the length of a tick"),
    "wrong tick": (
        {"ticks": [range(0, 200, 2)], "length": 200},
        {"tick_ms": 1 / 30},
        "fire 15,000 times per second with ticks",
    ),
    "negative": ({"ticks": [[-3, 4]]}, {"tick_ms": 1}, "unit 0 of .* has a spike at -3, before the start: cut"),
    "beyond": ({"ticks": [[3], [4, 21]]}, {"tick_ms": 1}, "unit 1 of .* has a spike at 21, beyond the end at 20"),
    "not finite": ({"ticks": [[3, np.nan]]}, {"tick_ms": 1}, "unit 0 of .* not finite"),
    "no spike": ({"ticks": [[], []]}, {"tick_ms": 1}, "has 2 units and no spike"),
    "no unit": ({"ticks": []}, {"tick_ms": 1}, "2 cells|no units"),
    "tail": ({"units": 7}, {"tick_ms": 1}, r"is \[7, 20\] for 3 units"),
    "empty interval": ({}, {"tick_ms": 1, "interval": (3, 3)}, "from 3 to 3 s is empty"),
}


@pytest.mark.parametrize("case", ASDF)
def test_each_mistake_in_asdf_gives_one_sentence(tmp_path, case):
    written, options, message = ASDF[case]
    with pytest.raises(DataError, match=message) as error:
        read_asdf(write_asdf(tmp_path / "a.mat", **written), **options)
    assert "\n" not in str(error.value)


def test_file_of_matlab_7_3_is_refused_with_a_remedy(tmp_path):
    h5py = pytest.importorskip("h5py", reason="it makes the file")
    path = tmp_path / "new.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["asdf"] = np.zeros(3)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + (0x0200).to_bytes(2, "little") + b"IM")
    with pytest.raises(DataError, match=r"is a file of MATLAB v7\.3: save it again in MATLAB with save"):
        read_asdf(path, tick_ms=1)


def test_files_that_are_not_asdf_are_refused(tmp_path):
    (tmp_path / "text.mat").write_text("spikes")
    savemat(tmp_path / "plain.mat", {"x": np.zeros(3)})
    for name, message in (
        ("none.mat", "there is no file"),
        ("text.mat", "not a readable MATLAB"),
        ("plain.mat", "0 cell arrays"),
    ):
        with pytest.raises(DataError, match=message):
            read_asdf(tmp_path / name, tick_ms=1)


def test_unsorted_times_are_sorted_and_counted(tmp_path):
    spikes = read_asdf(write_asdf(tmp_path / "a.mat", [[9, 1, 5], [2, 3]]), tick_ms=1)
    assert times(spikes)[0] == [1, 5, 9]
    assert spikes.notes == ["the spike times of 1 units were not in order, and were sorted"]


def test_interval_is_cut_out_and_nothing_outside_is_checked(tmp_path):
    path = write_asdf(tmp_path / "a.mat", [[-4, 1000, 1500, 2000], [1999, 9000]], length=5000)
    spikes = read_asdf(path, tick_ms=1, interval=(1, 2))
    assert times(spikes) == [[0, 500], [999]] and spikes.length == 1000
    assert spikes.notes == ["cut to 1 to 2 s: 3 spikes outside left out"]


def test_tick_that_makes_a_recording_of_hours_is_noted(tmp_path):
    path = write_asdf(tmp_path / "a.mat", [np.arange(1, 21_000_000, 100_000)], length=21_000_000)
    assert "350 min and its median unit fire 0.01 times per second" in read_asdf(path, tick_ms=1).notes[0]
    assert not read_asdf(path, tick_ms=1 / 30).notes


# NumPy.


def test_npz_by_index_and_by_cluster(tmp_path):
    np.savez(
        tmp_path / "a.npz", spike_times=[0.5, 1.5, 0.25], spike_times_index=[2, 3], unit=["x", "y"], depth=[10, 20]
    )
    spikes = read_arrays(tmp_path / "a.npz")
    assert times(spikes) == [[500, 1500], [250]] and list(spikes.unit) == ["x", "y"] and spikes.length is None
    assert spikes.about["depth"].tolist() == [10, 20]
    np.savez(tmp_path / "b.npz", spike_times=[60, 120, 90], spike_clusters=[7, 7, 2], duration=300)
    spikes = read_arrays(tmp_path / "b.npz", tick_ms=0.1)
    assert times(spikes) == [[9], [6, 12]] and list(spikes.unit) == ["2", "7"] and spikes.length == 30
    np.save(tmp_path / "c.npy", np.array([[7, 0.006], [7, 0.012], [2, 0.009]]))
    np.testing.assert_allclose(times(read_arrays(tmp_path / "c.npy"))[1], [6, 12])


NPZ = {
    "whole numbers": (dict(spike_times=[1, 2], spike_times_index=[2]), "whole numbers: give the length of a tick"),
    "no unit of a spike": (dict(spike_times=[0.1]), "add spike_times_index or spike_clusters"),
    "index": (dict(spike_times=[0.1, 0.2], spike_times_index=[1]), "does not increase to the 2 spikes"),
    "clusters": (dict(spike_times=[0.1, 0.2], spike_clusters=[1]), "2 spike times and 1 spike_clusters"),
    "depth": (dict(spike_times=[0.1], spike_times_index=[1], depth=[1, 2]), "depth of .* has 2 entries for 1 units"),
    "nothing": (dict(other=[1]), "holds other: it needs spike_times"),
    "built": (dict(schema="jaxephys spikes 1"), "is a finished table or recording"),
    "no units": (dict(spike_times=[], spike_clusters=[]), "has no units|whole numbers"),
}


@pytest.mark.parametrize("case", NPZ)
def test_each_mistake_in_npz_gives_one_sentence(tmp_path, case):
    content, message = NPZ[case]
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=message):
        read_arrays(tmp_path / "a.npz")


def test_npy_of_another_shape_and_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(4))
    np.save(tmp_path / "b.npy", np.array([[1], [1, 2]], object), allow_pickle=True)
    for name, message in (
        ("a.npy", r"shape \(4,\)"),
        ("b.npy", "not a file of plain arrays"),
        ("c.npz", "there is no file"),
    ):
        with pytest.raises(DataError, match=message):
            read_arrays(tmp_path / name)


# Alf.


@pytest.fixture
def alf(tmp_path):
    folder = tmp_path / "alf" / "probe00" / "pykilosort"
    folder.mkdir(parents=True)
    np.save(folder / "spikes.times.npy", np.array([10.0, 10.5, 99.0, 20.001, 110.0]))
    np.save(folder / "spikes.clusters.npy", np.array([2, 0, 0, 2, 0]))
    np.save(folder / "clusters.depths.npy", np.array([100.0, 200.0, 300.0]))
    (folder / "clusters.metrics.csv").write_text("cluster_id,label\n0,1.0\n1,\n2,0.33\n")
    return tmp_path / "alf"


def test_alf_has_a_unit_for_every_cluster(alf):
    spikes = read_alf(alf)
    assert times(spikes) == [[10500, 99000, 110000], [], [10000, 20001]] and list(spikes.unit) == ["0", "1", "2"]
    assert spikes.about["depth"].tolist() == [100, 200, 300]
    np.testing.assert_array_equal(spikes.about["quality"], [1.0, np.nan, 0.33])
    assert "no passive periods: all is taken" in spikes.notes


PERIODS = "passiveProtocol,spontaneousActivity,RFM,taskReplay"


def test_alf_takes_the_spontaneous_interval(alf):
    (alf / "_ibl_passivePeriods.intervalsTable.csv").write_text(f",{PERIODS}\nstart,5,10,30,40\nstop,50,20,40,50\n")
    for folder in (alf, alf / "probe00" / "pykilosort"):
        spikes = read_alf(folder)
        assert times(spikes) == [[500], [], [0]] and spikes.length == 10_000
    assert times(read_alf(alf, interval=(99, 111)))[0] == [0, 11000], "the argument takes precedence"


@pytest.mark.parametrize(
    "array",
    [
        np.array([10.0, 20.0]),
        np.array([[5.0, 10, 30, 40], [50, 20, 40, 50]]),
        np.array([(10.0,), (20.0,)], dtype=[("spontaneousActivity", float)]),
    ],
)
def test_passive_periods_as_an_array(alf, array):
    np.save(alf / "passivePeriods.npy", array)
    assert read_alf(alf).length == 10_000


def test_mistakes_in_alf_are_named(alf, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        read_alf(tmp_path / "none")
    with pytest.raises(DataError, match=r"should hold one spikes\.times\*\.npy and holds none"):
        read_alf(make(tmp_path / "empty"))
    (alf / "_ibl_passivePeriods.intervalsTable.csv").write_text("start,stop\n1,2\n")
    with pytest.raises(DataError, match="no column spontaneousActivity"):
        read_alf(alf)
    np.save(alf / "probe00" / "pykilosort" / "clusters.depths.npy", np.zeros(2))
    with pytest.raises(DataError, match=r"other rows \(depth 2, quality 3\)"):
        read_alf(alf)


def make(folder):
    folder.mkdir()
    return folder


# NWB.


def test_nwb_units(tmp_path):
    h5py = pytest.importorskip("h5py", reason="NWB files need the prep extra")
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["units/id"] = [4, 9]
        file["units/spike_times"] = [0.25, 0.5, 0.125]
        file["units/spike_times_index"] = [2, 3]
        file["units/obs_intervals"] = [[0.0, 2.0], [0.0, 2.0]]
        file["units/depth"] = [11.0, 22.0]
    spikes = read_nwb(tmp_path / "a.nwb")
    assert times(spikes) == [[250, 500], [125]] and list(spikes.unit) == ["4", "9"] and spikes.length == 2000
    assert spikes.about["depth"].tolist() == [11, 22]
    with h5py.File(tmp_path / "b.nwb", "w") as file:
        file["acquisition/x"] = [1]
    with pytest.raises(DataError, match="has no units with spike times"):
        read_nwb(tmp_path / "b.nwb")


# Bins.


def test_spikes_in_one_bin_count_once_and_are_counted(tmp_path):
    spikes = read_asdf(write_asdf(tmp_path / "a.mat", [[1, 2, 3, 8], [0, 9]], length=10), tick_ms=1)
    binned = bin_spikes([spikes], 4.0)
    assert [bins.tolist() for bins in binned.spikes] == [[0], [0]] and binned.bins == 2
    assert list(binned.notes) == [
        "2 spikes after the last whole bin left out",
        "2 of 6 spikes share a bin of 4 ms with another of their unit and count once",
    ]


def test_rounding_moves_no_spike_over_an_edge_of_a_bin(tmp_path):
    rows = np.arange(1, 5000)
    np.save(tmp_path / "seconds.npy", np.stack([np.zeros(4999), rows / 1000], axis=1))
    np.savez(tmp_path / "samples.npz", spike_times=rows * 30, spike_times_index=[4999])
    for spikes in (read_arrays(tmp_path / "seconds.npy"), read_arrays(tmp_path / "samples.npz", tick_ms=1000 / 30_000)):
        assert bin_spikes([spikes], 1.0).spikes[0].tolist() == rows.tolist()
