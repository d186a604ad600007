"""From a user's own data to a result: spike times to a forecast, an analyzer to an embedding, a data frame and a CSV to a classifier's table."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxephys import Hippie, NetworkOptions, SpikeTransformer, UnitTable
from jaxephys.hippie import estimator as hippie_estimator
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import TableError
from jaxephys.spikes import estimator as spikes_estimator

RNG = np.random.default_rng(0)
RATE = 30_000.0


def make_spike_times(units, seconds):
    """Return spike times of about 50 Hz; the last one of each unit is in the last bin."""
    return {f"u{unit}": np.append(RNG.uniform(0, seconds, int(50 * seconds)), seconds - 1e-4) for unit in range(units)}


def make_analyzer(units):
    """Return a stand-in of a SpikeInterface analyzer with the methods that are read."""
    times = list(make_spike_times(units, 4.0).values())
    shape = -np.exp(-0.5 * ((np.arange(90) - 30) / 6) ** 2)
    templates = [np.outer(shape, RNG.uniform(0.2, 1.0, 3)) for _ in range(units)]  # [sample, channel]
    sorting = SimpleNamespace(
        get_unit_spike_train=lambda unit, segment_index: np.round(times[int(unit)] * RATE).astype(int),
        get_property_keys=lambda: ["type"],
        get_property=lambda name: np.array(["PV", "SOM"] * (units // 2)),
    )
    extension = SimpleNamespace(
        params={"operators": ["average"]}, get_unit_template=lambda unit, operator: templates[int(unit)]
    )
    return SimpleNamespace(
        sorting=sorting,
        get_extension={"templates": extension}.get,
        get_num_segments=lambda: 1,
        unit_ids=[str(unit) for unit in range(units)],
        sampling_frequency=RATE,
    )


class Stopped(Exception):
    """Raised in place of training; it holds what would have been trained on."""


def stop(*arguments, **options):
    raise Stopped(arguments)


def test_estimators_are_fitted_on_sources_of_data(monkeypatch):
    monkeypatch.setattr(spikes_estimator, "make_data", stop)
    times = make_spike_times(units=4, seconds=3.0)
    with pytest.raises(Stopped) as stopped:
        SpikeTransformer().fit([times, Recording.from_times(times, name="other")])
    first, other = stopped.value.args[0][0]
    assert (first.name, other.name) == ("spikes", "other") and np.array_equal(first.packed, other.packed)
    monkeypatch.setattr(hippie_estimator, "make_data", stop)
    analyzer = make_analyzer(units=10)
    with pytest.raises(Stopped) as stopped:
        Hippie().fit(analyzer, technology="neuropixels")
    (units,) = stopped.value.args[0][0]
    assert units.sha256 == UnitTable.from_spikeinterface(analyzer, technology="neuropixels").sha256


# Sizes of the two models are those of the examples of their classes, so that compiled programs are shared.


@pytest.mark.slow
def test_spike_times_become_a_forecast():
    times = make_spike_times(units=4, seconds=3.0)
    network = NetworkOptions(width=8, window=16)
    model = SpikeTransformer(network, length=64, max_epochs=1, calibration_bins=200, progress=False).fit(times)
    assert model.bin_ms_ == 1.0 and model.units_ == 4 and model.sources_ == ["spikes"]
    recording = Recording.from_times(times)
    predicted = model.predict_proba(times)
    start, stop = recording.span("test")
    assert predicted.shape == (stop - start, 4)
    np.testing.assert_array_equal(predicted, model.predict_proba(recording))


@pytest.mark.slow
def test_analyzer_becomes_an_embedding():
    analyzer = make_analyzer(units=60)
    model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(
        analyzer, technology="neuropixels"
    )
    embedding = model.embed(analyzer, technology="neuropixels")
    assert embedding.shape == (60, 4)
    units = UnitTable.from_spikeinterface(analyzer, label="type", technology="neuropixels")
    np.testing.assert_array_equal(embedding, model.embed(units))
    assert model.seen(analyzer).sum() == 60 and units.classes.tolist() == ["PV", "SOM"]


# Data frames.


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    columns = {
        "psth_0": [1.0, 2.0, 3.0],
        "psth_1": [2, 3, 4],
        "ap_width": pandas.array([0.4, None, 0.9], dtype="Float64"),
        "ap peak": [31.0, 25.0, np.nan],
        "type": ["Pvalb", "Sst", None],
        "donor": ["d1", "d1", "d2"],
        "layer": pandas.Categorical(["2", "3", "2"]),
    }
    return pandas.DataFrame(columns, index=["c1", "c2", "c3"])


def test_data_frame_becomes_a_table(frame):
    table = FeatureTable.from_dataframe(frame, donor="donor")
    assert table.families == ("psth", "ap_width", "ap peak") and table.widths == (2, 1, 1)
    np.testing.assert_array_equal(
        table.values, np.array([[1, 2, 0.4, 31], [2, 3, np.nan, 25], [3, 4, 0.9, np.nan]], np.float32)
    )
    assert table.cell.tolist() == ["c1", "c2", "c3"] and table.donor.tolist() == ["d1", "d1", "d2"]
    assert table.label is None and table.about["type"].tolist() == ["Pvalb", "Sst", ""]
    assert table.about["layer"].tolist() == ["2", "3", "2"]
    labelled = FeatureTable.from_dataframe(frame, "type").labelled("label")
    assert labelled.label.tolist() == ["Pvalb", "Sst"]


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ("prefix", {"psth": 2, "ap": 2}),
        ("column", {"psth_0": 1, "psth_1": 1, "ap_width": 1, "ap peak": 1}),
        ({"spike": ["ap peak", "ap_width"]}, {"spike": 2}),
    ],
)
def test_families_of_a_data_frame(frame, families, expected):
    table = FeatureTable.from_dataframe(frame, ["a", "b", "a"], families=families)
    assert dict(zip(table.families, table.widths, strict=True)) == expected
    assert table.label.tolist() == ["a", "b", "a"]
    for name in table.features:
        expected_values = frame[name].to_numpy(np.float32, na_value=np.nan)
        np.testing.assert_array_equal(table.values[:, table.features.index(name)], expected_values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "class"}, "no column 'class' for the label: it has psth_0"),
        ({"cell": "id"}, "no column 'id' for the cell"),
        ({"cell": "donor"}, "cell d1 occurs 2 times"),
        ({"families": "word"}, "families by 'word' are not known: give one of 'number', 'prefix', 'column'"),
        ({"families": {"x": ["psth_2"]}}, "no column 'psth_2' of the families"),
        ({"families": {"x": ["type"]}}, "column 'type' of the data frame holds no numbers"),
    ],
)
def test_invalid_data_frame_is_refused(frame, options, message):
    with pytest.raises(TableError, match=message):
        FeatureTable.from_dataframe(frame, **options)
    with pytest.raises(TableError, match="a ndarray is no data frame"):
        FeatureTable.from_dataframe(np.ones((2, 2)))
