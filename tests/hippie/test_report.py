"""Tables of the HIPPIE experiments: intervals of the ranking are based on one value per fold, and clusters are sorted."""

from dataclasses import replace

import numpy as np

from jaxephys.evaluation.intervals import corrected_interval, corrected_test
from jaxephys.evaluation.scores import Score
from jaxephys.hippie.benchmark import (
    KERNEL_CLASSIFIER,
    Benchmark,
)
from jaxephys.hippie.protocol import DENSE, PUBLISHED_BENCHMARK, BenchmarkSettings
from jaxephys.hippie.report import (
    ACCURACY,
    INTERVAL,
    METRIC,
    ablation_headlines,
    bootstrap_differences,
    cluster_names,
    main_model,
    name_network,
    protocol_notes,
    ranking_table,
)
from jaxephys.reporting.headline import Headline


def test_ranking_intervals_are_based_on_one_value_per_fold(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    values = {"svm": np.array([[0.6, 0.7, 0.5, 0.65, 0.55]]), "ours": np.array([[0.7, 0.8, 0.6, 0.8, 0.7], [0.9] * 5])}
    scores = [
        Score("e", model, "lisberger", "lisberger", seed, fold, "test", METRIC, float(value), 22)
        for model, of_run in values.items()
        for (seed, fold), value in np.ndenumerate(of_run)
    ]
    table = ranking_table(scores, bench, "svm", {"HIPPIE": "0.678 ± 0.030"})
    sizes = (len(bench.table) * 0.8, len(bench.table) * 0.2)
    interval = corrected_interval(values["ours"].mean(axis=0), *sizes)
    test = corrected_test(values["ours"].mean(axis=0), values["svm"][0], *sizes)
    cells = {name: [cell.text for cell in column] for name, column in table.columns.items()}
    assert cells["model"] == ["svm", "ours", "HIPPIE, published"]
    assert cells[ACCURACY] == ["0.600", f"0.810 ± {np.std([0.72, 0.9], ddof=1):.3f}", "-"]
    assert cells[INTERVAL][1] == f"[{interval.low:.3f}, {interval.high:.3f}]"
    assert cells[f"difference from svm, {INTERVAL}"][:2] == ["reference", f"+0.210 [{test.low:+.3f}, {test.high:+.3f}]"]
    assert cells["published"] == ["-", "-", "0.678 ± 0.030"]


def test_names_of_clusters_are_sorted_by_number():
    names = cluster_names(np.array([10, -1, 2, 0]))
    assert names.tolist() == ["10", "none", "02", "00"] and np.unique(names).tolist()[-1] == "none"
    assert cluster_names(np.array([-1, -1])).tolist() == ["none", "none"]


def test_tables_and_notes_name_the_network_and_its_training():
    published, dense = BenchmarkSettings(**PUBLISHED_BENCHMARK), BenchmarkSettings(**DENSE)
    assert list(name_network({"hull": 1}, published)) == ["hull (ResNet-18 of width 64, latent 10 per modality)"]
    assert list(name_network({"hull": 1}, dense)) == ["hull (dense network of width 16, latent 30)"]
    assert name_network({"hull": 1}, replace(dense, width=0)) == {"hull": 1}
    network, used = protocol_notes(published)
    assert (
        "10 seeds" in network
        and "100 epochs on all units of the data set, test units included, then 20 epochs" in network
    )
    assert "curves of test units" in used and protocol_notes(dense)[1] == "No test unit was used in any training."
    assert protocol_notes(replace(dense, width=0)) == []
    models = [main_model(settings) for settings in (dense, published, replace(published, width=0))]
    assert models == [KERNEL_CLASSIFIER, "knn on published embedding", KERNEL_CLASSIFIER]


def test_differences_of_a_single_fold_have_intervals_over_the_tested_units(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    codes = bench.codes[bench.split(0)[1]]
    right = np.eye(len(bench.classes))[codes]
    wrong = np.roll(right, 1, axis=1)
    probabilities = {bench: {"ours": {(0, 0): right, (1, 0): right}, "svm": {(0, 0): wrong}, "knn": {(0, 0): right}}}
    headline = Headline(METRIC, "ours", ["svm", "knn"], "lisberger")
    found = bootstrap_differences(probabilities, [headline])
    assert found["lisberger", "lisberger", "ours - svm", METRIC] == (1.0, 1.0, 1.0)
    assert found["lisberger", "lisberger", "ours - knn", METRIC] == (0.0, 0.0, 0.0)


def test_an_ablation_is_compared_with_the_published_objective_and_a_sweep_is_quoted():
    (found,) = ablation_headlines(["published", "no class", "masking", "contrast"], METRIC)
    assert (found.model, found.baselines) == ("masking", ["published"])
    (smallest,) = ablation_headlines(["published"], METRIC)
    assert (smallest.model, smallest.baselines) == ("published", [])
    sweep = ablation_headlines(["z 16, beta 1.0", "z 30, beta 1.0", "z 30, beta 4.0"], METRIC)
    assert [(one.model, one.published) for one in sweep] == [
        ("z 30, beta 1.0", "0.734 (Hausser)"),
        ("z 30, beta 4.0", "0.770 (Hausser)"),
    ]
