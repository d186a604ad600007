"""Reading NWB files: sweeps read back equal; every unusable file and series has a reason code."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ipfx", reason="files are extracted with IPFX")

import h5py

from data_prep.patchseq.drop_reasons import REASONS, Note
from data_prep.patchseq.extract import extract_file
from data_prep.patchseq.nwb import UnreadableFile, ids_from_path, read_recording
from tests.data_prep import toy

RESPONSE, STIMULUS = "acquisition/data_{:05d}_AD0", "stimulus/presentation/data_{:05d}_DA0"
FEW = [toy.square(3, -90), toy.square(4, 90), toy.short(7, 250)]


@pytest.fixture
def path(tmp_path):
    return toy.write_nwb(tmp_path / "sub-77_ses-601506492_icephys.nwb", FEW)


def test_sweeps_read_back_equal(path):
    found = read_recording(path)
    assert (found.cell, found.donor, found.species, found.excluded) == ("601506492", "d1", "mouse", {})
    assert found.source["reader"] == "h5py" and found.source["rates"] == [50_000.0]
    for ours, theirs in zip(found.sweeps, FEW, strict=True):
        assert (ours.number, ours.stimulus, ours.rate) == (theirs.number, theirs.stimulus, theirs.rate)
        np.testing.assert_allclose(ours.voltage, theirs.voltage, rtol=1e-12)
        np.testing.assert_allclose(ours.current, theirs.current, rtol=1e-12)


def test_cell_and_donor_are_in_the_path():
    assert ids_from_path("sub-1000610030/sub-1000610030_ses-1000615166_icephys.nwb") == ("1000615166", "1000610030")
    assert ids_from_path(Path("mine/Zelle α.nwb")) == ("Zelle α", "")


def edit(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def set_attribute(name, key, value):
    return lambda path: edit(path, lambda file: file[name].attrs.__setitem__(key, value))


def replace_data(name, samples):
    def change(file):
        attributes = dict(file[name]["data"].attrs)
        del file[name]["data"]
        file[name].create_dataset("data", data=samples).attrs.update(attributes)

    return lambda path: edit(path, change)


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def only_voltage_clamp(path):
    for i in range(3):
        set_attribute(RESPONSE.format(i), "neurodata_type", "VoltageClampSeries")(path)


def forget_names(path):
    with h5py.File(path, "a") as file:
        for group in (*file["acquisition"].values(), *file["stimulus/presentation"].values()):
            del group.attrs["stimulus_description"]


FILES = {
    "truncated": (truncate, "unreadable file"),
    "no HDF5": (lambda path: path.write_text("cell,label\n"), "unreadable file"),
    "empty": (lambda path: path.write_bytes(b""), "unreadable file"),
    "absent": (lambda path: path.unlink(), "unreadable file"),
    "voltage clamp only": (only_voltage_clamp, "no current clamp"),
    "nothing within": (lambda path: edit(path, lambda file: file.clear()), "no current clamp"),
    "no stimulus metadata": (forget_names, "no stimulus metadata"),
}


@pytest.mark.parametrize("case", FILES)
def test_unusable_file_has_a_reason_and_no_cell(path, case):
    spoil, reason = FILES[case]
    spoil(path)
    with pytest.raises(UnreadableFile) as caught:
        read_recording(path)
    assert caught.value.reason == reason
    arrays, facts = extract_file(path)
    assert arrays == {} and facts["cell"] == "601506492" and facts["notes"][0].reason == reason


FIRST, FIRST_STIMULUS = RESPONSE.format(0), STIMULUS.format(0)
SERIES = {
    "unknown stimulus": (set_attribute(FIRST, "stimulus_description", "C1NSSEED_1"), 3, "other stimulus"),
    "no stimulus trace": (
        lambda path: edit(path, lambda file: file.__delitem__(FIRST_STIMULUS)),
        3,
        "no stimulus trace",
    ),
    "zero length": (replace_data(FIRST, np.zeros(0)), 3, "empty sweep"),
    "no data": (lambda path: edit(path, lambda file: file.__delitem__(f"{FIRST}/data")), 3, "empty sweep"),
    "a strange unit": (set_attribute(f"{FIRST}/data", "unit", "bananas"), 3, "unknown unit"),
    "amperes for volts": (set_attribute(f"{FIRST}/data", "unit", "amperes"), 3, "unknown unit"),
    "no rate": (
        lambda path: edit(path, lambda file: file.__delitem__(f"{FIRST}/starting_time")),
        3,
        "no sampling rate",
    ),
    "rate zero": (set_attribute(f"{FIRST}/starting_time", "rate", 0.0), 3, "no sampling rate"),
    "one number twice": (set_attribute(RESPONSE.format(1), "sweep_number", 3), 3, "duplicate sweep number"),
    "voltage clamp": (set_attribute(FIRST, "neurodata_type", "VoltageClampSeries"), "data_00000_AD0", "voltage clamp"),
}


@pytest.mark.parametrize("case", SERIES)
def test_unusable_series_is_excluded_and_others_are_kept(path, case):
    spoil, name, reason = SERIES[case]
    spoil(path)
    found = read_recording(path)
    assert found.excluded == {name: reason} and reason in REASONS
    gone = {3, 4} if reason == "duplicate sweep number" else {3}
    assert {sweep.number for sweep in found.sweeps} == {3, 4, 7} - gone


def test_stimulus_name_is_taken_from_the_stimulus_series(path):
    edit(path, lambda file: file[FIRST].attrs.pop("stimulus_description"))
    assert read_recording(path).sweeps[0].stimulus == FEW[0].stimulus
    edit(path, lambda file: file[FIRST_STIMULUS].attrs.pop("stimulus_description"))
    assert read_recording(path).excluded == {3: "no stimulus name"}


def test_sweep_number_is_taken_from_the_name_of_the_series(path):
    for name in (FIRST, FIRST_STIMULUS):
        edit(path, lambda file, name=name: file[name].attrs.pop("sweep_number"))
    assert [sweep.number for sweep in read_recording(path).sweeps] == [0, 4, 7]
    edit(path, lambda file: file.move(FIRST, "acquisition/first"))
    found = read_recording(path)
    assert found.excluded == {"first": "no sweep number"} and len(found.sweeps) == 2


def test_units_with_prefixes_conversions_and_offsets(path):
    set_attribute(f"{FIRST}/data", "unit", "mV")(path)
    set_attribute(f"{FIRST}/data", "conversion", 1.0)(path)
    set_attribute(f"{FIRST}/data", "offset", 2.0)(path)
    np.testing.assert_allclose(read_recording(path).sweeps[0].voltage, FEW[0].voltage + 2)


def test_evenly_spaced_timestamps_give_the_rate(path):
    def change(file):
        del file[FIRST]["starting_time"]
        file[FIRST]["timestamps"] = np.arange(len(FEW[0].voltage)) / 25_000

    edit(path, change)
    assert read_recording(path).sweeps[0].rate == pytest.approx(25_000)


def test_nan_in_the_trace_drops_the_sweep(path):
    samples = FEW[0].voltage.copy()
    samples[40_000] = np.nan
    replace_data(FIRST, samples)(path)
    _, facts = extract_file(path)
    assert ["sweep", "3", "dropped", "nan in trace", ""] in facts["notes"]


def test_a_name_that_is_not_ascii(tmp_path):
    found = read_recording(toy.write_nwb(tmp_path / "Zelle α 細胞.nwb", FEW))
    assert found.cell == "Zelle α 細胞" and len(found.sweeps) == 3


def test_sweeps_of_other_stimuli_are_listed_and_not_read(tmp_path):
    path = toy.write_nwb(tmp_path / "many.nwb", FEW)
    with h5py.File(path, "a") as file:
        for number in range(100, 10_100):
            group = file.create_group(f"acquisition/x_{number}")
            group.attrs.update(neurodata_type="CurrentClampSeries", sweep_number=number, stimulus_description="C2CHIRP")
    found = read_recording(path)
    assert (
        len(found.sweeps) == 3 and len(found.excluded) == 10_000 and set(found.excluded.values()) == {"other stimulus"}
    )


def test_the_facts_of_a_file_can_be_stored(path):
    arrays, facts = extract_file(path)
    assert arrays["values"].dtype == np.float32 and arrays["values"].shape == arrays["observed"].shape == (4197,)
    assert all(Note(*row).reason in REASONS for row in facts["notes"])


def test_files_that_pynwb_refuses_have_a_reason(path):
    with pytest.raises(UnreadableFile, match="unreadable file"):
        read_recording(path, reader="pynwb")  # without a schema
    assert len(read_recording(path).sweeps) == 3
