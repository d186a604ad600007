"""Families and records: equal to IPFX on the same sweeps, and masked where IPFX would lose the cell."""

import json
import re
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ipfx", reason="the families need IPFX")

import ipfx.script_utils
from ipfx.bin.run_feature_vector_extraction import data_for_specimen_id
from ipfx.data_set_features import extract_data_set_features
from ipfx.dataset.ephys_data_interface import EphysDataInterface
from ipfx.dataset.ephys_data_set import EphysDataSet
from ipfx.stimulus import STIMULUS_TYPE_NAME_MAPPING, StimulusOntology, StimulusType

from data_prep.patchseq.cell_record import INTERVALS, NEW_NAMES, OLD_NAMES
from data_prep.patchseq.extract import extract_cell
from data_prep.patchseq.families import Layout
from data_prep.patchseq.published_families import WIDTH, WIDTHS
from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Recording, protocol_of
from tests.data_prep import toy

WIDE = {"step_subthresh": 700, "subthresh_norm": 140, "subthresh_depol_norm": 140, "isi_shape": 100} | {
    "first_ap_v": 450,
    "first_ap_dv": 447,
    "psth": 120,
    **dict.fromkeys(("inst_freq", *(f"spiking_{x}" for x in ("upstroke_downstroke_ratio", "peak_v"))), 300),
    **dict.fromkeys((f"spiking_{x}" for x in ("fast_trough_v", "threshold_v", "width")), 300),
    "inst_freq_norm": 300,
}


class Arrays(EphysDataInterface):
    """Sweeps in memory with the least interface that IPFX's data set needs."""

    def __init__(self, sweeps):
        super().__init__(StimulusOntology.default(), validate_stim=False)
        self.by_number = {sweep.number: sweep for sweep in sweeps}

    @property
    def sweep_numbers(self):
        return list(self.by_number)

    def get_sweep_data(self, sweep_number):
        sweep = self.by_number[sweep_number]
        units = {"stimulus_unit": "Amps", "sampling_rate": sweep.rate}
        return {"stimulus": sweep.current, "response": sweep.voltage, **units}

    def get_sweep_metadata(self, sweep_number):
        code = self.get_stimulus_code(sweep_number)
        names = {"stimulus_code": code, "stimulus_code_ext": code, "stimulus_name": self.get_stimulus_name(code)}
        values = dict.fromkeys(("bridge_balance_mohm", "leak_pa", "stimulus_scale_factor"))
        return {"sweep_number": sweep_number, "stimulus_units": "Amps", "clamp_mode": "CurrentClamp", **names, **values}

    def get_stimulus_code(self, sweep_number):
        return self.by_number[sweep_number].stimulus.removesuffix("_DA_0")

    def get_sweep_attrs(self, sweep_number):
        return self.get_sweep_metadata(sweep_number)

    def get_full_recording_date(self):
        return datetime(2020, 1, 1)

    def get_stimulus_unit(self, sweep_number):
        return "Amps"

    def get_clamp_mode(self, sweep_number):
        return "CurrentClamp"


@pytest.fixture(scope="module")
def sweeps():
    return toy.sweeps()


@pytest.fixture(scope="module")
def ours(sweeps):
    return extract_cell(sweeps)


def without(sweeps, protocol):
    return [sweep for sweep in sweeps if sweep.protocol != protocol]


def reasons(result) -> set[str]:
    return {row.reason for row in result.notes}


def test_every_family_equals_ipfx_on_the_same_sweeps(sweeps, ours, monkeypatch):
    monkeypatch.setattr(ipfx.script_utils, "dataset_for_specimen_id", lambda *_, **__: EphysDataSet(Arrays(sweeps)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = data_for_specimen_id(1, "none", "filesystem", StimulusOntology.default(), ap_window_length=0.003)
    assert "error" not in theirs, theirs
    compared = set(theirs) - {"id"}
    assert len(compared) == 13 and compared == set(ours.families) - {"inst_freq_norm"}
    for name in compared:
        values, observed = ours.families[name]
        assert values.shape == (WIDE[name],) and observed.all(), name
        np.testing.assert_allclose(values, theirs[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_old_record_equals_ipfx_cell_record(sweeps, ours):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, _, record, _, _, states = extract_data_set_features(EphysDataSet(Arrays(sweeps)), subthresh_min_amp=-100)
    assert not any(state["failed_fx"] for state in states.values()), json.dumps(states)
    shared = set(OLD_NAMES) & set(record)
    assert len(shared) == 45 and set(ours.old) == set(OLD_NAMES)
    for name in shared:
        wanted = np.nan if record[name] is None else record[name]
        np.testing.assert_allclose(ours.old[name], wanted, rtol=1e-6, atol=1e-9, err_msg=name)
    for name, (later, earlier) in INTERVALS.items():
        assert ours.old[f"{name}_ramp"] == pytest.approx(ours.old[f"{later}_ramp"] - ours.old[f"{earlier}_ramp"])


def test_record_recovers_the_parameters_of_the_toy_neuron(ours):
    """The toy's resistance, time constant, rheobase and gain are known."""
    assert set(ours.new) == set(NEW_NAMES)
    assert ours.new["input_resistance"] == pytest.approx(1000 * toy.RESISTANCE, rel=0.01)
    assert ours.new["tau"] == pytest.approx(toy.TAU, rel=0.02)
    assert ours.old["tau"] == pytest.approx(1000 * toy.TAU, rel=0.02), "the old record counts in ms"
    assert ours.new["v_baseline"] == pytest.approx(toy.REST, abs=0.01)
    assert ours.new["rheobase_i"] == toy.RHEOBASE
    assert ours.new["fi_fit_slope"] == pytest.approx(toy.GAIN, rel=0.05)
    assert ours.new["peak_deltav_rheo"] == pytest.approx(
        ours.old["peak_v_long_square"] - ours.old["threshold_v_long_square"]
    )
    assert ours.new["latency_rheo"] == pytest.approx(0.0103, abs=0.0005)


def test_the_normalised_frequency_has_every_level_at_most_one(ours):
    values, _ = ours.families["inst_freq_norm"]
    frequency = ours.families["inst_freq"][0].reshape(6, 50)
    np.testing.assert_allclose(values.reshape(6, 50), frequency / frequency.max(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("protocol", "block", "reason"),
    [(SHORT_SQUARE, 0, "no short square"), (LONG_SQUARE, 1, "no long square"), (RAMP, 2, "no ramp")],
)
def test_a_missing_protocol_empties_its_block_and_nothing_else(sweeps, ours, protocol, block, reason):
    result = extract_cell(without(sweeps, protocol))
    assert not result.dropped and reason in reasons(result)
    values, observed = (part.reshape(3, 150) for part in result.families["first_ap_v"])
    full = ours.families["first_ap_v"][0].reshape(3, 150)
    for part in range(3):
        if part == block:
            assert np.isnan(values[part]).all() and not observed[part].any()
        else:
            np.testing.assert_array_equal(values[part], full[part])
            assert observed[part].all()
    others = set(ours.families) - {"first_ap_v", "first_ap_dv"}
    for name in others:
        if protocol == LONG_SQUARE:
            assert not result.families[name][1].any(), name
        else:
            np.testing.assert_array_equal(result.families[name][0], ours.families[name][0], err_msg=name)


def test_missing_level_is_a_masked_substitute(sweeps, ours):
    """130 pA is rheobase + 80: its values are the mean of its neighbours, as in IPFX, and it is marked."""
    result = extract_cell([sweep for sweep in sweeps if sweep.number != 11])
    values, observed = (part.reshape(6, 50) for part in result.families["inst_freq"])
    full = ours.families["inst_freq"][0].reshape(6, 50)
    assert observed[[0, 1, 2, 3, 5]].all() and not observed[4].any()
    np.testing.assert_allclose(values[4], (full[3] + full[5]) / 2)
    assert any(row.reason == "missing level" and row.detail == "80 pA" for row in result.notes)


def test_single_spiking_level_is_kept(sweeps):
    """IPFX needs two levels and fails otherwise."""
    result = extract_cell([sweep for sweep in sweeps if not 8 <= sweep.number < 20])
    observed = result.families["psth"][1].reshape(6, 20)
    assert observed[0].all() and not observed[1:].any() and np.isfinite(result.families["psth"][0]).all()


def test_a_missing_step_amplitude_is_marked(sweeps):
    result = extract_cell([sweep for sweep in sweeps if sweep.number != 3])  # -50 pA
    observed = result.families["step_subthresh"][1].reshape(5, 140)
    assert not observed[2].any() and observed[[0, 1, 3, 4]].all()


def test_a_cell_that_never_spikes_keeps_its_subthreshold_families(sweeps):
    silent = [sweep for sweep in sweeps if sweep.protocol == LONG_SQUARE and sweep.number < 7]
    result = extract_cell(silent)
    assert result.families["step_subthresh"][1].all() and result.families["subthresh_depol_norm"][1].all()
    assert not result.families["psth"][1].any() and {"no spike", "no ramp", "no short square"} <= reasons(result)
    assert result.new["input_resistance"] == pytest.approx(150, rel=0.01) and np.isnan(result.new["rheobase_i"])


def test_a_cell_without_hyperpolarising_steps_keeps_its_spikes(sweeps):
    result = extract_cell([sweep for sweep in sweeps if sweep.number > 5])
    assert result.families["psth"][1].all() and not result.families["subthresh_norm"][1].any()
    assert "no hyperpolarising step" in reasons(result)


def test_other_rates_give_the_same_widths_and_nearly_the_same_numbers(ours):
    result = extract_cell(toy.sweeps(20_000))
    assert "resampled" in reasons(result)
    for name, (values, observed) in result.families.items():
        assert values.shape == (WIDE[name],) and observed.all(), name
    for name in ("inst_freq", "step_subthresh", "subthresh_norm"):
        np.testing.assert_allclose(result.families[name][0], ours.families[name][0], rtol=0.03, atol=0.15, err_msg=name)
    assert np.corrcoef(result.families["first_ap_v"][0], ours.families["first_ap_v"][0])[0, 1] > 0.98


def test_a_rate_that_changes_between_sweeps_changes_no_width(sweeps):
    mixed = [toy.square(sweep.number, 90, 12_500) if sweep.number == 9 else sweep for sweep in sweeps]
    result = extract_cell(mixed)
    assert all(values.shape == (WIDE[name],) and observed.all() for name, (values, observed) in result.families.items())


def test_step_of_another_length_needs_another_layout():
    short_steps = [toy.square(n, amplitude, length=0.6) for n, amplitude in enumerate((-90, -50, 50, 70, 90))]
    result = extract_cell(short_steps, layout=Layout(step=0.6))
    assert {name: len(values) for name, (values, _) in result.families.items()} == Layout(step=0.6).widths()
    assert result.families["psth"][1].reshape(6, 12)[:3].all()
    refused = extract_cell(short_steps)
    assert refused.dropped
    assert refused.notes[-1].detail == "5 x step of another length"


def test_published_families_are_twelve_of_one_width(sweeps, ours):
    families = extract_cell(sweeps, preset="paper").families
    assert list(families) == list(WIDTHS) and len(families) == 12 and sum(WIDTHS.values()) == 2009
    for name, (values, observed) in families.items():
        assert values.shape == observed.shape == (WIDTH,) == (420,)
        assert (
            observed[: WIDTHS[name]].all() and not observed[WIDTHS[name] :].any() and not values[WIDTHS[name] :].any()
        )
    for name in ("inst_freq", "spiking_width"):  # levels 0, +40, +80 of the six
        six = ours.families[name][0].reshape(6, 50)
        np.testing.assert_allclose(families[name][0][:150], six[[0, 2, 4]].ravel(), err_msg=name)
    steps = ours.families["step_subthresh"][0].reshape(5, 140)
    np.testing.assert_allclose(families["step_subthresh"][0], steps[[3, 2, 0]].ravel())
    spikes = ours.families["first_ap_v"][0].reshape(3, 150)
    # One mean over the protocols; not quite that of the six-level families, whose short squares have a threshold of their own.
    assert np.corrcoef(families["first_ap_v"][0][:150], spikes.mean(axis=0))[0, 1] > 0.98


def test_published_families_have_zeros_for_missing_values(sweeps):
    families = extract_cell(without(sweeps, LONG_SQUARE), preset="paper").families
    assert not families["psth"][0].any() and not families["psth"][1].any()
    assert families["first_ap_v"][1].any()


def test_sweeps_with_the_same_number_are_dropped(sweeps):
    result = extract_cell([*sweeps, replace(sweeps[0], stimulus="ramp")])
    twice = [row for row in result.notes if row.reason == "duplicate sweep number"]
    assert [row.name for row in twice] == ["0", "0"]


def test_the_order_of_the_sweeps_does_not_matter(sweeps, ours):
    result = extract_cell(sweeps[::-1])
    for name, (values, _) in ours.families.items():
        np.testing.assert_array_equal(result.families[name][0], values)


def test_recording_without_usable_sweeps_is_dropped_with_reasons():
    result = extract_cell(
        Recording("c", (), excluded={4: "other stimulus", 5: "other stimulus", 6: "no stimulus trace"})
    )
    assert result.dropped and result.notes[-1].reason == "no usable sweep"
    assert result.notes[-1].detail == "2 x other stimulus, 1 x no stimulus trace"
    assert [row.name for row in result.notes[:-1]] == ["4", "5", "6"]


def test_the_example_of_the_documentation_runs():
    page = (Path(__file__).parents[2] / "docs" / "data_preparation.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "extract_cell" in block]
    sweep = toy.square(0, 90)
    names = {"voltage": sweep.voltage, "current": sweep.current}
    exec(code, names)
    assert names["result"].families["inst_freq"][1][:50].all()


def test_unknown_preset_is_an_error(sweeps):
    with pytest.raises(ValueError, match="no preset 'nature': choose one of ipfx, paper"):
        extract_cell(sweeps, preset="nature")


def test_stimulus_names_agree_with_the_ontology_of_ipfx():
    """Every code and name that IPFX knows belongs to the protocol that IPFX gives it."""
    wanted = {
        LONG_SQUARE: STIMULUS_TYPE_NAME_MAPPING[StimulusType.LONG_SQUARE],
        SHORT_SQUARE: STIMULUS_TYPE_NAME_MAPPING[StimulusType.SHORT_SQUARE],
        RAMP: STIMULUS_TYPE_NAME_MAPPING[StimulusType.RAMP],
    }
    known = 0
    for stimulus in StimulusOntology.default().stimuli:
        names = [name for tags in stimulus.tags(tag_type="name") for name in tags[1:]]
        protocols = [protocol for protocol, of in wanted.items() if set(names) & of]
        for code in (code for tags in stimulus.tags(tag_type="code") for code in tags[1:]):
            assert protocol_of(f"{code}_DA_0") == (protocols[0] if protocols else None), (code, names)
            known += bool(protocols)
    assert known > 40
