"""One function over many items: what a kill, a poisonous item and a changed file cost, counted in calls of the function."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from data_prep.scale import ScaleError, file_stamp, outcome, run_over
from tests.data_prep.toy import HEAR_INTERRUPTS

ROOT = Path(__file__).parents[2]
HERE = "tests.data_prep.test_scale"


# What the workers do. An item is a file; its name says how it behaves, and every call leaves a line beside it.


def behave(path):
    with (path.parent / "calls.txt").open("a") as log:
        log.write(f"{path.name}\n")
    how = path.stem.split("-")[0]
    if how == "slow":
        time.sleep(0.2)
    if how == "raise":
        raise ValueError(f"no sweeps\nin {path.name}")
    if how == "quit":
        sys.exit("enough")
    if how == "exit":
        os._exit(7)
    if how == "crash":
        ctypes.string_at(0)
    if how == "hang":
        path.with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(600)
    if how == "object":
        return {"x": np.array([{}], dtype=object)}, {}
    if how == "unjson":
        return {}, {"x": np.float32(1)}
    return {"file": np.frombuffer(path.read_bytes(), np.uint8)}, {"pid": os.getpid()}


def ramp(number):
    """Late items of a pair end first, so that the order of the answers is not the order of the items."""
    time.sleep(0.01 if number % 7 == 0 else 0)
    values = {"allow_pickle": np.arange(number, dtype=np.float32), "a/b é": np.array(["µ", "x"])}
    return values, {"square": number**2, "none": float("nan"), "pid": os.getpid()}


def surroundings(_):
    return {}, {"threads": os.environ["OMP_NUM_THREADS"]}


def files(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return [folder / name for name in names]


def calls(folder):
    log = folder / "calls.txt"
    return sorted(log.read_text().split()) if log.exists() else []


def forget(folder):
    (folder / "calls.txt").unlink()


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# The plain way.


def test_every_item_has_its_outcome_in_the_order_of_the_items(tmp_path, capsys):
    start = time.perf_counter()
    outcomes = run_over(range(300), ramp, tmp_path, workers=2, title="ramps")
    assert time.perf_counter() - start < 20, "a worker must start once, not once an item"

    assert [found.key for found in outcomes] == [str(number) for number in range(300)]
    results = [found.load() for found in outcomes]
    assert [facts["square"] for _, facts in results] == [number**2 for number in range(300)]
    assert len({facts["pid"] for _, facts in results} | {os.getpid()}) == 3
    arrays, facts = results[5]
    assert sorted(arrays) == ["a/b é", "allow_pickle"] and arrays["a/b é"].tolist() == ["µ", "x"]
    np.testing.assert_array_equal(arrays["allow_pickle"], np.arange(5, dtype=np.float32), strict=True)
    assert np.isnan(facts["none"])
    assert all(found.done and not found.earlier and found.memory > 10e6 for found in outcomes)
    assert outcomes[7].seconds >= 0.01
    assert capsys.readouterr().err.splitlines()[-1].startswith("ramps: 300 of 300, 0 failed, ")
    assert len(list(tmp_path.iterdir())) == 300


def test_only_what_is_new_or_changed_is_done(tmp_path):
    items, store = files(tmp_path / "in", "a", "b", "c"), tmp_path / "store"
    run_over(items[:2], behave, store)
    assert calls(tmp_path / "in") == ["a", "b"]

    items[0].write_text("longer")
    forget(tmp_path / "in")
    outcomes = run_over(items, behave, store)
    assert calls(tmp_path / "in") == ["a", "c"]
    assert [found.earlier for found in outcomes] == [False, True, False]
    assert bytes(outcomes[0].load()[0]["file"]) == b"longer"

    before = items[1].stat()
    os.utime(items[1], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    forget(tmp_path / "in")
    run_over(items, behave, store)
    assert calls(tmp_path / "in") == ["b"], "the same size, and another time of change"

    forget(tmp_path / "in")
    run_over(items, behave, store, fingerprint=lambda path: f"{file_stamp(path)}, features 2")
    assert calls(tmp_path / "in") == ["a", "b", "c"], "another version of the work"


def test_no_two_keys_share_a_file(tmp_path):
    keys = ["a/b", "a_b", "a:b", "A_b", "é", "e\u0301", "", "..", "/", "x" * 500, "x" * 501, "\udcff"]
    names = [outcome.file_name(key) for key in keys]
    assert len({name.lower() for name in names}) == len(keys)
    assert all(name.isascii() and len(name) < 100 and name[0] not in ".-" for name in names)
    paths = [tmp_path / name for name in names]
    for key, path in zip(keys, paths, strict=True):
        outcome.write(path, outcome.attempt(ramp, 3, key, ""))
    assert [found.key for path in paths if (found := outcome.stored(path))] == keys


# What goes wrong costs one item.


def test_a_poisonous_item_costs_itself_only(tmp_path):
    poison = {
        "raise": "ValueError: no sweeps in raise-1",
        "quit": "SystemExit: enough",
        "object": "ValueError: Object arrays cannot be saved",
        "unjson": "TypeError: Object of type float32 is not JSON serializable",
        "exit": "worker died: exit code 7",
        "crash": "worker died: SIGSEGV",
        "hang": "timeout: longer than 2 s",
    }
    good = [f"good-{number}" for number in range(30)]
    names = [*good[:5], *(f"{how}-1" for how in poison), *good[5:]]
    items, store = files(tmp_path / "in", *names), tmp_path / "store"
    outcomes = dict(zip(names, run_over(items, behave, store, workers=2, timeout=2), strict=True))

    for how, reason in poison.items():
        failed = outcomes[f"{how}-1"]
        assert failed.reason.startswith(reason) and "\n" not in failed.reason
        with pytest.raises(ScaleError, match=reason):
            failed.load()
    assert all(outcomes[name].done for name in good)
    assert outcomes["hang-1"].seconds >= 2
    assert calls(tmp_path / "in") == sorted(names), "nothing was done twice"

    forget(tmp_path / "in")
    again = run_over(items, behave, store, workers=2, timeout=2)
    assert calls(tmp_path / "in") == [] and all(found.earlier for found in again)
    short = [path for path in items if not path.name.startswith("hang")]
    run_over(short, behave, store, workers=2, timeout=2, retry_failed=True)
    assert calls(tmp_path / "in") == sorted(f"{how}-1" for how in poison if how != "hang")


def test_a_damaged_outcome_is_done_again(tmp_path):
    items = files(tmp_path / "in", "a", "b", "c")
    found = run_over(items, behave, tmp_path / "store")
    found[0].path.write_bytes(found[0].path.read_bytes()[:-30])
    found[1].path.write_bytes(b"")
    with pytest.raises(ScaleError, match="delete it and run again"):
        found[0].load()
    forget(tmp_path / "in")
    assert all(again.load() for again in run_over(items, behave, tmp_path / "store"))
    assert calls(tmp_path / "in") == ["a", "b"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    outcome.write(path, outcome.attempt(ramp, 3, "x", ""))

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        outcome.write(path, outcome.attempt(ramp, 4, "x", ""))
    monkeypatch.undo()
    found = outcome.stored(path)
    assert found is not None and found.load()[1]["square"] == 9
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_work_at_all_is_said_in_one_sentence(tmp_path, monkeypatch, capfd):
    with pytest.raises(ScaleError, match="cannot be sent to a worker"):
        run_over([1], lambda item: ({}, {}), tmp_path)
    with pytest.raises(ScaleError, match="the key 'a' stands for 2 items"):
        run_over(["b", "a", "a"], ramp, tmp_path)
    with pytest.raises(ScaleError, match="workers=0"):
        run_over([1], ramp, tmp_path, workers=0)
    # A module that only this process knows: each worker dies of it, and no item must be blamed.
    gone = types.ModuleType("gone")
    exec("def work(item): return {}, {}", gone.__dict__)
    monkeypatch.setitem(sys.modules, "gone", gone)
    with pytest.raises(ScaleError, match="a worker cannot start"):
        run_over([1, 2], gone.work, tmp_path)
    assert "No module named 'gone'" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Kills.


def start(expression):
    """A run in a process of its own, with a process group of its own."""
    code = f"{HEAR_INTERRUPTS}\nfrom pathlib import Path\nfrom {HERE} import behave\nfrom data_prep.scale import run_over\n{expression}"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def processes_of(group):
    """Who is alive in a process group."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        alive += [stat] * (int(its_group) == group and state != "Z")
    return alive


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    names = [f"slow-{number:02}" for number in range(20)]
    (_, *items), store = files(tmp_path / "in", "hang-1", *names), tmp_path / "store"
    parent = start(f"run_over(sorted(Path({str(tmp_path / 'in')!r}).iterdir()), behave, {str(store)!r}, workers=2)")
    wait_for(lambda: len(list(store.glob("*.npz"))) >= 4)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not processes_of(parent.pid))  # the workers leave with their parent, even one that hangs

    kept = [path.name for path in items if outcome.stored(store / outcome.file_name(str(path)))]
    assert 4 <= len(kept) < 20
    forget(tmp_path / "in")
    outcomes = run_over(items, behave, store, workers=2)
    assert calls(tmp_path / "in") == sorted(set(names) - set(kept))
    assert [Path(found.key).name for found in outcomes if found.earlier] == kept
    assert [bytes(found.load()[0]["file"]).decode() for found in outcomes] == names


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_stops_the_workers_and_says_how_to_go_on(tmp_path):
    store = tmp_path / "store"
    files(tmp_path / "in", "good-1", "hang-1", "hang-2")
    parent = start(
        f"try: run_over(sorted(Path({str(tmp_path / 'in')!r}).iterdir()), behave, {str(store)!r}, workers=2)\n"
        "except KeyboardInterrupt as stop: raise SystemExit(str(stop))"
    )
    wait_for(lambda: calls(tmp_path / "in") == ["good-1", "hang-1", "hang-2"] and list(store.glob("*.npz")))
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the parent and the workers
    _, said = parent.communicate(timeout=20)
    assert parent.returncode == 1 and "Traceback" not in said
    assert said.splitlines()[-1] == f"stopped with 1 of 3 items in {store}: the same call goes on from there"
    wait_for(lambda: not processes_of(parent.pid))
    assert [found.done for path in store.iterdir() if (found := outcome.stored(path))] == [True]


# The workers.


def test_workers_compute_with_one_thread_and_their_memory_is_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    ballast = np.ones(60_000_000)  # 480 MB, which ru_maxrss would count to the workers too
    (found,) = run_over([0], surroundings, tmp_path)
    assert found.load()[1]["threads"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "5" and "MKL_NUM_THREADS" not in os.environ
    assert outcome.peak_memory() > ballast.nbytes
    assert 10e6 < found.memory < 400e6


# A cluster.


@pytest.fixture(scope="module")
def cluster():
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
    ):
        yield cluster


def test_a_cluster_survives_the_death_of_a_worker(tmp_path, cluster):
    names = [f"slow-{number:02}" for number in range(20)]
    items, store = files(tmp_path / "in", *names), tmp_path / "store"
    left_at_kill = []

    def kill():
        wait_for(lambda: len(list(store.glob("*.npz"))) >= 4)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        left_at_kill.append(20 - len(list(store.glob("*.npz"))))

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = run_over(items, behave, store, scheduler=cluster.scheduler_address)
    killer.join()
    assert left_at_kill[0] > 4
    assert [found.reason for found in outcomes] == [""] * 20
    assert [bytes(found.load()[0]["file"]).decode() for found in outcomes] == names
    assert len({found.load()[1]["pid"] for found in outcomes}) >= 2

    forget(tmp_path / "in")
    assert all(found.earlier for found in run_over(items, behave, store, scheduler=cluster.scheduler_address))
    assert calls(tmp_path / "in") == []


def test_a_poisonous_item_costs_itself_only_on_a_cluster(tmp_path, cluster):
    names = ["good-1", "exit-1", "good-2", "raise-1", *(f"good-{number}" for number in range(3, 12))]
    items = files(tmp_path / "in", *names)
    outcomes = run_over(items, behave, tmp_path / "store", scheduler=cluster.scheduler_address)
    assert [Path(found.key).name for found in outcomes] == names
    failed = {Path(found.key).name: found.reason for found in outcomes if not found.done}
    assert failed == {"exit-1": "worker died: so did 2 in turn", "raise-1": "ValueError: no sweeps in raise-1"}


def test_an_item_that_hangs_on_a_cluster_is_given_up_with_its_worker(tmp_path, cluster):
    items = files(tmp_path / "in", "good-1", "hang-1", "good-2", "good-3")
    outcomes = run_over(items, behave, tmp_path / "store", scheduler=cluster.scheduler_address, timeout=2)
    assert [found.reason for found in outcomes] == ["", "timeout: longer than 2 s", "", ""]
    assert calls(tmp_path / "in").count("hang-1") == 1, "Dask must not try it again"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "in" / "hang-1.pid").read_text()), 0)


def test_whom_dask_gives_up_is_heard_again_and_few_items_are_in_flight(tmp_path, cluster, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from data_prep.scale import cluster as dask_way

    verdicts = iter(["worker died"] * 3)  # three that died beside a poisonous item, innocent
    submitted, heard, flying = [], [], []
    submit = distributed.Client.submit

    def counted(self, *job, **options):
        submitted.append(job)
        return submit(self, *job, **options)

    def verdict(future):
        heard.append(future.key)
        flying.append(len(submitted) - len(heard))
        return next(verdicts, "")

    monkeypatch.setattr(distributed.Client, "submit", counted)
    monkeypatch.setattr(dask_way, "killed", verdict)
    outcomes = run_over(range(40), ramp, tmp_path, scheduler=cluster.scheduler_address)
    assert [found.reason for found in outcomes] == [""] * 40
    assert len(submitted) == 43 and max(flying[:40]) < 2 * dask_way.AHEAD and flying[40:] == [0, 0, 0]


def test_a_cluster_that_is_not_there_is_said_in_one_sentence(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    from data_prep.scale import cluster as dask_way

    monkeypatch.setattr(dask_way, "START", 0.5)
    with pytest.raises(ScaleError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        run_over([1], ramp, tmp_path, scheduler="tcp://127.0.0.1:9")


def test_a_cluster_without_dask_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "data_prep.scale.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ScaleError, match=r'pip install "jaxephys\[prep\]"'):
        run_over([1], ramp, tmp_path, scheduler="tcp://127.0.0.1:8786")
