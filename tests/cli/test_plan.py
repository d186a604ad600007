"""``python -m jaxephys plan`` describes the trainings of an experiment exactly, and trains and writes nothing."""

import dataclasses
import re
import time
from importlib import import_module
from pathlib import Path

import jax
import pytest

from experiments import quickstart
from jaxephys.cli import main, plan
from jaxephys.cli.plan import EVALUATIONS, ExperimentPlan, PlannedFolder, describe_plan, format_seconds, plan_experiment
from jaxephys.engine import memory
from jaxephys.engine.plan_times import TimeEstimate
from jaxephys.hippie.estimator import Hippie
from jaxephys.patchseq.network.classifier import SubclassNetwork
from tests.hippie.example_tables import write_tables

TINY = ("quickstart", "smoke", "--cells", "300")
ESTIMATE = TimeEstimate(10.0, 10.0, 5.0, 60.0)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """The folder in which the commands run: nothing may be left there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "runs").exists()


def run(capsys, *words) -> tuple[int, str, str]:
    status = main(["plan", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_command_prints_a_row_for_each_training_and_their_total(capsys, empty_folder):
    status, printed, errors = run(capsys, *TINY)
    assert (status, errors) == (0, "")
    lines = printed.splitlines()
    row, total = (
        next(line.split() for line in lines if line.startswith(name + " ")) for name in ("quickstart  ", "total")
    )
    assert lines[0].startswith("quickstart smoke on ") and row[1:4] == ["8", "8", "1"] and total[1] == "8"
    assert "not included" in printed and "\nMemory" not in printed
    assert not any(empty_folder.iterdir())


def test_runs_parameters_and_batches_are_exact():
    planned = plan_experiment("quickstart", list(TINY[1:]))
    (training,) = planned.trainings
    assert (planned.preset, planned.announced_runs, planned.problem) == ("smoke", 8, "")
    assert (training.title, training.n_runs, training.n_batches) == ("quickstart", 8, 1)
    n_devices = min(8, len(jax.local_devices()))
    assert training.n_devices == n_devices and training.capacity == -(-8 // n_devices) * n_devices
    assert training.n_parameters == n_parameters_of_quickstart()
    assert training.config.max_epochs == training.shortest_epochs == 3
    # 60 % of the cells, with SMOTE in half of the variants.
    assert min(training.steps) == -(-180 // training.config.batch_size) and max(training.steps) >= min(training.steps)


def n_parameters_of_quickstart() -> int:
    from jaxephys.patchseq.network.ragged_layout import RaggedLayout
    from jaxephys.patchseq.synthetic import make_synthetic_cells
    from jaxephys.patchseq.task import make_task

    table, _ = make_synthetic_cells(300)
    network = SubclassNetwork(RaggedLayout.from_widths(table.widths), len(table.classes), 8, token=None)
    variables = jax.eval_shape(make_task(network).init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_searched_levels_multiply_the_runs():
    planned = plan_experiment("quickstart", [*TINY[1:], "--search", "learning_rate=1e-2,1e-3,1e-4"])
    assert (planned.announced_runs, planned.trainings[0].n_runs, planned.problem) == (24, 24, "")


def test_two_phases_are_planned_without_the_evaluations_between_them(empty_folder):
    write_tables(empty_folder / "hippie", {"hull": 50, "watson": 60})
    start = time.monotonic()
    planned = plan_experiment("hippie_probe", ["smoke", "--data", str(empty_folder / "hippie")])
    titles = [f"{name}_{phase}" for name in ("hull", "watson") for phase in ("pretrain", "folds")]
    assert [training.title for training in planned.trainings] == titles and planned.problem == ""
    assert sum(training.n_runs for training in planned.trainings) == planned.announced_runs
    assert time.monotonic() - start < plan.TIME_LIMIT


@pytest.mark.parametrize(
    "experiment, options, runs",
    [
        ("spikes_grid", ("--networks", "population", "units", "--populations", "2"), {"spikes_grid": 2, "units": 2}),
        ("spikes_attention", (), {"spikes_attention": 2, "blind": 2}),
        ("spikes_sensitivity", (), {"reference": 2, "depth_1": 2, "depth_2": 2, "dropout_0.3": 2}),
    ],
)
def test_calibration_and_scores_of_spike_networks_are_left_out(capsys, experiment, options, runs):
    planned = plan_experiment(experiment, ["smoke", *options])
    assert {training.title: training.n_runs for training in planned.trainings} == runs and planned.problem == ""
    assert capsys.readouterr().out == ""


def test_an_estimator_in_an_experiment_is_planned(empty_folder):
    write_tables(empty_folder / "hippie", {"hull": 50})
    planned = plan_experiment("hippie_embed", ["smoke", "--datasets-root", str(empty_folder / "hippie")])
    assert [training.n_runs for training in planned.trainings] == [Hippie().seeds] and planned.problem == ""


@pytest.mark.parametrize("path", EVALUATIONS)
def test_evaluations_exist_and_are_restored(path):
    owner, name = plan._import_object(path.rsplit(".", 1)[0]), path.rsplit(".", 1)[1]
    original = getattr(owner, name)
    with plan._without_evaluations(quickstart):
        assert getattr(owner, name) is EVALUATIONS[path]
    assert getattr(owner, name) is original


# Errors.


def test_an_unknown_experiment_is_one_sentence_with_all_names(capsys):
    status, _, error = run(capsys, "quickstrat")
    assert status == 2 and error.startswith("error: there is no experiment 'quickstrat': choose one of ")
    assert ", quickstart, " in error and "patchseq_mouse" in error and error.count("\n") == 1


def test_an_unknown_preset_is_one_sentence_with_the_nearest_name(capsys):
    status, _, error = run(capsys, "quickstart", "smoek")
    assert (status, error) == (2, "error: quickstart has no preset 'smoek': did you mean 'smoke'?\n")


def test_an_unknown_option_and_missing_data_are_one_sentence(capsys):
    status, _, error = run(capsys, "quickstart", "--sedes", "3")
    assert status == 2 and "did you mean '--seeds'" in error
    status, _, error = run(capsys, "patchseq_mouse", "smoke", "--data", "nowhere")
    assert status == 2 and "nowhere" in error and error.count("\n") == 1


def test_the_help_of_an_experiment_is_shown(capsys):
    with pytest.raises(SystemExit) as end:
        main(["plan", "quickstart", "--help"])
    assert end.value.code == 0 and "--cells" in capsys.readouterr().out


# Plans that end early.


def plan_with(monkeypatch, follow_up) -> ExperimentPlan:
    """Plan an experiment of 20 announced runs, 8 of which are trained before ``follow_up`` is called."""
    announce = PlannedFolder.announce_run
    monkeypatch.setattr(PlannedFolder, "announce_run", lambda folder, runs, **data: announce(folder, runs + 12))
    monkeypatch.setattr(quickstart, "save_model", lambda *_: follow_up())
    return plan_experiment("quickstart", list(TINY[1:]))


def test_a_failure_after_a_training_is_described(monkeypatch):
    def fail():
        raise ZeroDivisionError("division by zero\nsecond line")

    planned = plan_with(monkeypatch, fail)
    printed = describe_plan(planned, [ESTIMATE])
    assert (
        "Not all trainings are planned: what follows needs real results (ZeroDivisionError: division by zero)."
        in printed
    )
    assert "12 of the 20 announced runs are not planned." in printed


def test_a_plan_stops_at_its_time_limit(monkeypatch):
    original = PlannedFolder.fit

    def fit(folder, *arguments, **options):
        result = original(folder, *arguments, **options)
        monkeypatch.setattr(plan, "TIME_LIMIT", 0.0)
        plan.signal.setitimer(plan.signal.ITIMER_REAL, 0.05)
        return result

    monkeypatch.setattr(PlannedFolder, "fit", fit)
    planned = plan_with(monkeypatch, lambda: time.sleep(10))
    assert len(planned.trainings) == 1 and "stopped after" in planned.problem


def test_runs_without_networks_are_counted(monkeypatch):
    planned = plan_with(monkeypatch, lambda: None)
    assert "12 of the 20 announced runs train no network." in describe_plan(planned, [ESTIMATE])


# Text.


@pytest.fixture(scope="module")
def planned():
    return plan_experiment("quickstart", list(TINY[1:]))


def change(planned, **changes):
    return dataclasses.replace(planned, trainings=[dataclasses.replace(planned.trainings[0], **changes)])


def test_the_rows_of_the_table_are_aligned(planned):
    rows = describe_plan(planned, [ESTIMATE]).splitlines()[2:5]
    assert len({len(row) for row in rows}) == 1 and rows[0].endswith("time of training")
    assert rows[1].endswith("5.0 s to 60 s") and rows[2].endswith("5.0 s to 60 s")


def test_a_recorded_compilation_is_marked(planned):
    assert "*" not in describe_plan(change(planned, recorded_seconds=None), [ESTIMATE])
    printed = describe_plan(change(planned, recorded_seconds=2.0), [ESTIMATE._replace(compilation=2.0)])
    assert "2.0 s *" in printed and "compilation takes about 10 s in all" in printed


def test_remedies_name_options_of_the_experiment(planned):
    printed = describe_plan(change(planned, capacity=2), [ESTIMATE])
    assert (
        "holds 2 of the 8 runs of quickstart at once, so that they are trained in 4 batches: reduce --seeds" in printed
    )
    chosen = dataclasses.replace(planned.trainings[0].config, run_batch=2)
    assert "holds" not in describe_plan(change(planned, capacity=2, config=chosen), [ESTIMATE])
    printed = describe_plan(change(planned, memory_share=3.0), [ESTIMATE])
    assert "does not hold one run of quickstart: data and run need 3.0 times what is free." in printed
    printed = describe_plan(planned, [ESTIMATE._replace(longest=9000.0)])
    assert printed.endswith("Training may take 2.5 h: reduce --seeds or --max-epochs, or use a GPU.")


def test_an_experiment_without_networks_is_described(planned):
    printed = describe_plan(dataclasses.replace(planned, trainings=[]), [])
    assert "No network is trained." in printed and "8 of the 8 announced runs train no network." in printed


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.04, "0.0 s"),
        (4.21, "4.2 s"),
        (35.0, "35 s"),
        (89.9, "90 s"),
        (96.0, "1.6 min"),
        (750.0, "12 min"),
        (12_600.0, "3.5 h"),
    ],
)
def test_times_have_two_digits(seconds, text):
    assert format_seconds(seconds) == text


def test_memory_is_that_of_this_machine(planned):
    (training,) = planned.trainings
    assert training.memory_share < 0.1 and training.data_bytes < memory.free_bytes(jax.local_devices()[0])


def test_the_help_describes_every_column(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    printed = capsys.readouterr().out
    for column in plan.COLUMNS[1:]:
        if column not in ("batches", "parameters"):
            assert re.search(rf"^  {column} ", printed, re.MULTILINE), column


def test_experiments_are_not_imported_by_name():
    assert "import experiments" not in Path(import_module("jaxephys.cli.plan").__file__ or "").read_text()
