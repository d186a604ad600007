"""The simulator: the integrator against formulas and a finer step, cells against physiology, defects, files and tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pynwb", reason="files are written with the prep extra")

from data_prep.patchseq.labels import read_labels
from data_prep.patchseq.nwb import UnreadableFile, read_recording
from data_prep.patchseq.sweeps import LONG_SQUARE, PROTOCOLS, RAMP, SHORT_SQUARE, Recording, Sweep
from data_prep.simulate import DEFECTS, SimulatedCell, simulate_cells, write_cells
from data_prep.simulate.cells import ADDED, HUMAN, MEANS, MIX, NAMES, SPECIES, Cell, draw_cell
from data_prep.simulate.neuron import HOLD, STEP, Neurons, integrate
from data_prep.simulate.nwb import write_nwb
from data_prep.simulate.recording import record_cells
from data_prep.simulate.write import make_batches

SEED, EACH = 0, 3
FLAWED = [name for name in DEFECTS if name != "no_label"]  # those that show in the recording
WIDTHS = {
    "step_subthresh": 700,
    "subthresh_norm": 140,
    "subthresh_depol_norm": 140,
    "isi_shape": 100,
    "first_ap_v": 450,
    "first_ap_dv": 447,
    "psth": 120,
    "inst_freq": 300,
    **{
        f"spiking_{name}": 300
        for name in ("upstroke_downstroke_ratio", "peak_v", "fast_trough_v", "threshold_v", "width")
    },
}


def drawn(species: str = "mouse", count: int = 60, **options) -> list[Cell]:
    return [draw_cell(SEED, species, number, defects={}, **options) for number in range(count)]


def first_of_each() -> list[Cell]:
    """The first cells of every subclass."""
    return [cell for name in MEANS for cell in [c for c in drawn() if c.subclass == name][:EACH]]


@pytest.fixture(scope="module")
def cells() -> list[SimulatedCell]:
    """Some cells of each subclass, then the first one again with every defect: one batch, since its fixed cost is large."""
    first = first_of_each()
    return list(record_cells([*first, *(replace(first[0], defect=name) for name in FLAWED)], SEED))


@pytest.fixture(scope="module")
def sound(cells) -> list[SimulatedCell]:
    return [cell for cell in cells if not cell.defect]


@pytest.fixture(scope="module")
def flawed(cells) -> dict[str, Recording]:
    return {cell.defect: cell.recording for cell in cells if cell.defect}


def means(names=tuple(MEANS)) -> Neurons:
    return Neurons(*np.array([MEANS[name] for name in names]).T[: len(Neurons._fields)])


def of(recording: Recording, protocol: str) -> list[Sweep]:
    return [sweep for sweep in recording.sweeps if sweep.protocol == protocol]


def window(sweep: Sweep) -> slice:
    """The stimulus: what is not zero after the test pulse."""
    on = np.flatnonzero(sweep.current)
    on = on[on > 0.1 * sweep.rate]
    return slice(int(on[0]), int(on[-1]) + 1)


def amplitude(sweep: Sweep) -> float:
    return float(sweep.current[window(sweep).stop - 1])


def spike_times(sweep: Sweep) -> np.ndarray:
    """Seconds after the onset."""
    return (np.flatnonzero((sweep.voltage[:-1] < 0) & (sweep.voltage[1:] >= 0)) - window(sweep).start) / sweep.rate


def by_amplitude(cell: SimulatedCell) -> dict[float, Sweep]:
    return {amplitude(sweep): sweep for sweep in of(cell.recording, LONG_SQUARE)}


def rheobase(cell: SimulatedCell) -> float:
    return min(level for level, sweep in by_amplitude(cell).items() if len(spike_times(sweep)))


# The integrator


def test_passive_membrane_follows_the_formula():
    still = means()._replace(**{name: np.zeros(5) for name in ("sodium", "rectifier", "kv3", "delay", "slow", "sag")})
    current = np.zeros(1000)
    current[100:] = -50
    traces = integrate(still, [current] * 5)
    time = np.maximum(np.arange(1000 * HOLD) * STEP - 100 * HOLD * STEP, 0)
    for index, trace in enumerate(traces):
        tau = still.capacitance[index] / still.leak[index]
        expected = still.rest[index] - 50 / still.leak[index] * (1 - np.exp(-time / tau))
        np.testing.assert_allclose(trace, expected, atol=0.02)


def test_membrane_rests_without_current():
    for trace, rest in zip(integrate(means(), [np.zeros(1500)] * 5), means().rest, strict=True):
        np.testing.assert_allclose(trace, rest, atol=0.02)


def test_step_is_fine_enough_for_the_spike():
    """A quarter of the step changes neither the moment nor the shape of the first spike by what is measured of it."""
    current = np.full(400, 350.0)
    coarse, fine = integrate(means(), [current] * 5), integrate(means(), [current] * 5, substeps=4)
    for one, other in zip(coarse, fine, strict=True):
        shapes = []
        for trace in (one, other):
            peak = int(np.argmax(trace > 0)) + int(np.argmax(trace[int(np.argmax(trace > 0)) :][:50]))
            around = trace[peak - 50 : peak + 100]
            width = (around > -10).sum() * STEP
            shapes.append((peak * STEP, around.max(), width, np.diff(around).max() / STEP, around[50:].min()))
        time, height, width, upstroke, trough = np.abs(np.subtract(*shapes))
        assert time < 0.05 and height < 0.5 and width < 0.03 and trough < 0.2 and upstroke < 0.03 * shapes[1][3], shapes


def test_sweeps_of_different_length_are_independent():
    rng = np.random.default_rng(0)
    currents = [rng.normal(100, 50, length) for length in (170, 40, 333, 90, 51)]
    together = integrate(means(), currents)
    for index, current in enumerate(currents):
        alone = integrate(means().take(np.array([index])), [current])[0]
        np.testing.assert_array_equal(together[index], alone)


# The cells


def test_subclasses_differ_as_they_should(sound):
    measured: dict[str, list[tuple[float, ...]]] = {name: [] for name in MEANS}
    for cell in sound:
        sweeps, base = by_amplitude(cell), rheobase(cell)
        first = spike_times(sweeps[base])[0]
        spike = sweeps[base].voltage[window(sweeps[base]).start + round(first * 50_000) :][:150]
        deflection = sweeps[-110.0].voltage[window(sweeps[-110.0])].astype(float)
        smooth = np.convolve(deflection, np.ones(250) / 250, mode="valid")  # 5 ms
        before = sweeps[-110.0].voltage[: round(0.05 * 50_000)].mean()
        sag = (smooth[-5000:].mean() - smooth.min()) / (before - smooth.min())
        top = sweeps[base + 100]
        intervals = np.diff(spike_times(top))
        width = float(np.argmax(spike < 0)) * STEP
        resistance = (before - smooth[-5000:].mean()) / 0.11
        adaptation = intervals[-3:].mean() / intervals[:3].mean()
        measured[cell.subclass].append((base, first, width, sag, len(intervals) + 1, adaptation, resistance))
    median = {name: np.median(values, axis=0) for name, values in measured.items()}
    assert all(len(values) == EACH for values in measured.values())

    def extreme(column: int, pick=max) -> str:
        return pick(median, key=lambda name: median[name][column])

    assert extreme(0) in ("Pvalb", "Lamp5") and median["Sst"][0] < 0.7 * median["Pvalb"][0]  # rheobase
    assert extreme(1) == "Lamp5" and median["Lamp5"][1] > 0.2  # latency
    assert extreme(2, min) == "Pvalb"  # spike width
    assert extreme(3) in ("Sst", "Sncg") and median["Sst"][3] > 2 * median["Pvalb"][3]  # sag
    assert extreme(4) == "Pvalb" and median["Pvalb"][4] > 70  # spikes in a second
    assert median["Sst"][5] > 1.3 > 1.1 > median["Pvalb"][5]  # later intervals against the first
    assert min(median["Vip"][6], median["Sncg"][6]) > 1.5 * median["Pvalb"][6]  # resistance


def test_every_cell_has_the_whole_protocol(sound):
    for cell in sound:
        sweeps, base = by_amplitude(cell), rheobase(cell)
        assert set(sweeps) >= {-110.0, -90.0, -70.0, -50.0, -30.0, -10.0, *(base + np.arange(0, 120, 20.0))}
        assert base % 10 == 0 and base == cell.recording.source["rheobase"]
        assert max(level for level in sweeps if level < base) > 0  # a step that does not fire
        assert all(len(spike_times(sweeps[base + more])) for more in range(0, 120, 20))
        short = of(cell.recording, SHORT_SQUARE)
        firing = [amplitude(sweep) for sweep in short if len(spike_times(sweep))]
        assert len(short) == 4 and len(firing) >= 2 and len(set(firing)) == 1
        assert len(of(cell.recording, RAMP)) == 3 and all(len(spike_times(sweep)) for sweep in of(cell.recording, RAMP))
        for number, sweep in enumerate(cell.recording.sweeps):
            assert sweep.number == number and sweep.rate == 50_000
            assert len(sweep.voltage) == len(sweep.current) >= window(sweep).stop + 0.25 * sweep.rate
            assert sweep.current[2499] == 0 and (sweep.current[2500:3000] == -10).all() and sweep.current[3000] == 0
            assert sweep.voltage.dtype == sweep.current.dtype == np.float32


def test_draws():
    mouse, human, more = drawn(), drawn("human"), drawn(count=100)
    assert mouse == more[:60] and mouse != [draw_cell(1, "mouse", number, defects={}) for number in range(60)]
    assert len({cell.cell for cell in [*more, *human]}) == 160 and all(len(cell.cell) == 9 for cell in more)
    for species, cells in (("mouse", mouse), ("human", human)):
        for name, share in MIX[species].items():
            assert abs(sum(cell.subclass == name for cell in cells) - 60 * share) < 2
    assert {cell.t_type.split()[0] for cell in mouse if cell.subclass == "Sncg"} == {"Sncg"}
    donors = [cell.donor for cell in mouse]
    assert len(set(donors)) == 15
    # Cells of a donor resemble one another: the spread of donors' means is wider than that of means over strangers.
    z = np.array([np.log(cell.parameters["capacitance"] / MEANS[cell.subclass][0]) for cell in drawn(count=2000)])
    assert z.reshape(-1, 4).mean(1).std() > 1.1 * z.std() / 2


def test_human_cells_are_shifted_mouse_cells():
    for shifted, plain in zip(drawn("human"), drawn("human", shift=False), strict=True):
        assert (shifted.subclass, shifted.donor, shifted.cell) == (plain.subclass, plain.donor, plain.cell)
        for name, added, change in zip(NAMES, ADDED, HUMAN, strict=True):
            expected = plain.parameters[name] + change if added else plain.parameters[name] * change
            assert shifted.parameters[name] == pytest.approx(expected)


# Defects


def test_defects_have_their_share_of_the_cells():
    wanted = {"noise": 0.2, "no_ramp": 0.1}
    cells = [draw_cell(3, "mouse", number, defects=wanted) for number in range(1000)]
    shares = {name: sum(cell.defect == name for cell in cells) / 1000 for name in DEFECTS}
    assert abs(shares["noise"] - 0.2) < 0.04 and abs(shares["no_ramp"] - 0.1) < 0.03
    assert sum(shares.values()) == pytest.approx(shares["noise"] + shares["no_ramp"])
    assert [replace(cell, defect="") for cell in cells] == [draw_cell(3, "mouse", n, defects={}) for n in range(1000)]


@pytest.mark.parametrize("defects", [{"nois": 0.1}, {"noise": 0.7, "no_ramp": 0.4}, {"noise": -0.1}])
def test_impossible_fractions_of_defects_are_refused(defects):
    with pytest.raises(ValueError, match="defect"):
        next(simulate_cells(1, "mouse", 0, defects=defects))


def test_each_defect_is_visible(sound, flawed):
    plain = sound[0]
    base, counts = rheobase(plain), {p: len(of(plain.recording, p)) for p in PROTOCOLS}

    def quiet(recording: Recording, trace: str) -> float:
        return float(np.median([getattr(sweep, trace)[5000:25000].std() for sweep in recording.sweeps]))

    assert quiet(flawed["noise"], "voltage") > 3 * quiet(plain.recording, "voltage")
    assert quiet(flawed["noisy_current"], "current") > 0.3 > quiet(plain.recording, "current") == 0
    for name, protocol in (("no_ramp", RAMP), ("no_short_square", SHORT_SQUARE)):
        assert {p: len(of(flawed[name], p)) for p in PROTOCOLS} == counts | {protocol: 0}
    levels = {amplitude(sweep) for sweep in of(flawed["missing_level"], LONG_SQUARE)}
    (lost,) = set(by_amplitude(plain)) - levels
    assert base < lost < base + 100
    assert {sweep.rate for sweep in flawed["low_rate"].sweeps} == {12_500}
    for slow, fast in zip(flawed["low_rate"].sweeps, plain.recording.sweeps, strict=True):
        assert len(slow.voltage) == len(slow.current) == len(fast.voltage) // 4
        assert abs(slow.voltage.mean() - fast.voltage.mean()) < 0.5
    *others, last = of(flawed["long_window"], LONG_SQUARE)
    assert last.number == max(sweep.number for sweep in others) + 1
    assert (window(last).stop - window(last).start) / last.rate == 1.26
    assert {(window(sweep).stop - window(sweep).start) / sweep.rate for sweep in others} == {1.0}
    ended = [sweep for sweep in flawed["truncated_sweep"].sweeps if (sweep.voltage[-5000:] == 0).all()]
    assert len(ended) == 1 and ended[0].protocol == LONG_SQUARE
    assert (ended[0].voltage[window(ended[0])] != 0).any() and amplitude(ended[0]) != 0


# Files


@pytest.fixture(scope="module")
def file(sound, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nwb") / "sub-1_ses-2_icephys.nwb"
    write_nwb(sound[1], path, sweep_table=True)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return path


def test_file_holds_the_recording(sound, file):
    cell, read = sound[1], read_recording(file)
    assert (read.donor, read.species) == (cell.donor, "mouse") and not read.excluded
    for one, other in zip(cell.recording.sweeps, read.sweeps, strict=True):
        assert (one.number, one.stimulus, one.rate) == (other.number, other.stimulus, other.rate)
        np.testing.assert_allclose(other.voltage, one.voltage, atol=1e-6)
        np.testing.assert_allclose(other.current, one.current, atol=1e-6)


def test_ipfx_gives_thirteen_families(sound, file):
    import ipfx.json_utilities as json
    from ipfx.bin.run_feature_vector_extraction import data_for_specimen_id
    from ipfx.dataset.create import create_ephys_data_set
    from ipfx.stimulus import StimulusOntology

    ontology = StimulusOntology(json.read(StimulusOntology.DEFAULT_STIMULUS_ONTOLOGY_FILE))
    found = data_for_specimen_id(2, "none", "filesystem", ontology, 0.003, file_list={2: str(file)})
    assert "error" not in found, found
    found.pop("id")
    assert {name: len(values) for name, values in found.items()} == WIDTHS
    assert all(np.isfinite(values).all() and np.any(values) for values in found.values())
    table = create_ephys_data_set(nwb_file=str(file)).sweep_table
    assert len(table) == len(sound[1].recording.sweeps) and set(table["clamp_mode"]) == {"CurrentClamp"}
    assert {"X1PS_SubThresh", "X3LP_Rheo", "X4PS_SupraThresh", "X6SP_Rheo", "X7Ramp"} == set(table["stimulus_code"])


def test_nwbinspector_finds_no_violation(sound, tmp_path):
    nwbinspector = pytest.importorskip("nwbinspector", reason="the extra prep installs it with dandi")
    recording = replace(sound[1].recording, sweeps=sound[1].recording.sweeps[:3])
    write_nwb(replace(sound[1], recording=recording), tmp_path / "a.nwb")
    found = list(nwbinspector.inspect_nwbfile(nwbfile_path=str(tmp_path / "a.nwb")))
    assert {message.importance.name for message in found} <= {"BEST_PRACTICE_SUGGESTION"}, found
    assert {message.check_function_name for message in found} <= {"check_experimenter_exists"}
    read = read_recording(tmp_path / "a.nwb")
    assert len(read.sweeps) == 3 and not read.excluded
    with pytest.raises(UnreadableFile, match="IPFX needs a sweep table"):
        read_recording(tmp_path / "a.nwb", reader="ipfx")


def test_a_cell_depends_neither_on_its_batch_nor_on_the_workers(sound, tmp_path):
    """Two processes, with two cells and one, give the samples that one process gave with two dozen; and the folder stays."""
    defects = {"no_label": 0.0}
    made = write_cells(tmp_path, mouse=2, human=1, seed=SEED, workers=2, defects=defects)
    assert (made.cells, made.written) == (3, 3) and str(made).startswith(f"3 cells in {tmp_path}: 3 written")
    files = sorted(tmp_path.rglob("*.nwb"))
    mice = drawn(count=2)
    paths = [tmp_path / f"sub-{cell.donor}" / f"sub-{cell.donor}_ses-{cell.cell}_icephys.nwb" for cell in mice]
    assert len(files) == 3 and set(paths) < set(files)
    known = {cell.cell: cell for cell in sound}
    assert any(cell.cell in known for cell in mice)
    for cell, path in zip(mice, paths, strict=True):
        if cell.cell in known:
            for one, other in zip(known[cell.cell].recording.sweeps, read_recording(path).sweeps, strict=True):
                np.testing.assert_allclose(other.voltage, one.voltage, atol=1e-6)  # a difference would be 0.03 mV
                np.testing.assert_allclose(other.current, one.current, atol=1e-6)
    truth = list(csv.DictReader((tmp_path / "truth.csv").open()))
    assert [row["species"] for row in truth] == ["mouse", "mouse", "human"]
    for row, cell in zip(truth, mice, strict=False):
        assert (row["cell"], row["donor"], row["subclass"]) == (cell.cell, cell.donor, cell.subclass)
        assert float(row["capacitance"]) == pytest.approx(cell.parameters["capacitance"], rel=1e-4)
    times = [path.stat().st_mtime_ns for path in files]
    assert write_cells(tmp_path, mouse=2, human=1, seed=SEED, defects=defects).written == 0
    assert [path.stat().st_mtime_ns for path in files] == times
    with pytest.raises(ValueError, match="another folder"):
        write_cells(tmp_path, mouse=2, human=1, seed=SEED + 1, defects=defects)


def test_tables_are_read_as_the_published_ones(tmp_path):
    from data_prep.simulate.metadata import write_metadata

    defects = {"no_label": 0.1}
    cells = [draw_cell(SEED, species, number, defects=defects) for species in SPECIES for number in range(50)]
    write_metadata(tmp_path, cells)
    assert "Transcriptomic_type ," in (tmp_path / "metadata_human.csv").read_text().splitlines()[0]
    for species in SPECIES:
        labels = read_labels(tmp_path / f"metadata_{species}.csv")
        of_species = {cell.cell: cell for cell in cells if cell.species == species}
        assert labels.layout == species and labels.keys() | labels.dropped.keys() == of_species.keys()
        assert set(labels.dropped) == {name for name, cell in of_species.items() if cell.defect == "no_label"} != set()
        for name, about in labels.items():
            cell = of_species[name]
            texts = (about["subclass5"], about["t_type"], about["donor"], about["structure"], about["condition"])
            assert texts == (cell.subclass, cell.t_type, cell.donor, cell.structure, cell.condition)
    mouse = list(csv.DictReader((tmp_path / "metadata_mouse.csv").open()))
    assert {row["MET-type Label"].split("-")[0] for row in mouse} > {"NULL"}


@pytest.mark.parametrize(
    "count, workers, sizes", [(90, 2, [45, 45]), (0, 2, []), (100, 1, [34, 34, 32]), (3, 2, [2, 1])]
)
def test_cells_are_divided_evenly_into_batches(count, workers, sizes):
    assert [len(batch) for batch in make_batches(drawn(count=count), workers)] == sizes


def test_species_and_workers_are_checked(tmp_path):
    with pytest.raises(ValueError, match="mouse, human"):
        next(simulate_cells(1, "rat", 0))
    with pytest.raises(ValueError, match="workers"):
        write_cells(tmp_path, workers=0)
