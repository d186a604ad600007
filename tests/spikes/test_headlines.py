"""The summary of a transfer grid: networks with their baselines, and the published script without."""

import numpy as np

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.report.recordings import drawn_recordings
from jaxephys.spikes.report.transfer import FORECAST, RECONSTRUCTION, group_headlines

BITS = np.eye(100, 4, dtype=np.uint8)
RECORDINGS = [
    Recording.from_array(BITS, name=f"{domain} {i}", domain=f"in {domain}")
    for domain in ("vitro", "vivo")
    for i in (0, 1)
]


def test_each_network_is_compared_over_the_pairs_of_each_group():
    found = group_headlines(RECORDINGS, ["population"], ["exponential"])
    by_group = {one.label: one for one in found}
    assert set(by_group) == {
        "in vitro, self",
        "in vitro, others",
        "in vivo, self",
        "in vivo, others",
        "in vitro -> in vivo",
        "in vivo -> in vitro",
    }
    assert by_group["in vitro -> in vivo"].published == "0.70 ± 0.09"
    assert len(by_group["in vitro -> in vivo"].pairs or ()) == 4 and by_group["in vivo, self"].baselines == [
        "exponential"
    ]


def test_the_published_script_is_quoted_as_a_reconstruction_and_compared_as_a_forecast():
    found = group_headlines(RECORDINGS, [FORECAST, RECONSTRUCTION], ["exponential"])
    for one in found:
        assert (one.published is None) == (one.model == FORECAST)
        assert list(one.baselines) == ([] if one.model == RECONSTRUCTION else ["exponential"])


def test_of_many_recordings_the_first_of_each_domain_is_drawn():
    assert drawn_recordings(RECORDINGS) == [one.name for one in RECORDINGS]
    more = [*RECORDINGS, Recording.from_array(BITS, name="vivo 2", domain="in vivo")]
    assert drawn_recordings(more) == ["vitro 0", "vivo 0"]
