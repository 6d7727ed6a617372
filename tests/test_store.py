"""The run store under fire: killed workers and drivers, interrupts, full and read-only disks, damaged files, claims."""

import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from threading import Event, Thread

import numpy as np
import psutil
import pytest
from conftest import awaited
from filelock import FileLock

from mmkd_lib.runs import asked, recording, running
from mmkd_lib.runs import store as stores
from mmkd_lib.runs.damage import damage, damaged
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import RunsFailed, run
from mmkd_lib.runs.store import CORE, Store
from mmkd_lib.runs.tidying import forget, size, sweep
from mmkd_lib.support.errors import BadInput
from mmkd_lib.support.workers import Lost, each

# A driver whose trainings, in whatever process, write themselves down, and stop before their record is finished while
# the file `open` is not there, the first two seeds apart.
WATCHED = """
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from mmkd_lib.runs import running
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.store import Store

HERE = Path(__file__).parent
train, writing = running.train, Store.writing


def written_down(experiments, device, store):
    with (HERE / "log").open("a") as log:
        log.write("".join(f"{os.getpid()} {e.key(device)}\\n" for e in experiments))
    train(experiments, device, store)


@contextmanager
def held_up(store, key):
    with writing(store, key) as folder:
        yield folder
        while json.loads((folder / "config.json").read_text())["seed"] >= 2 and not (HERE / "open").exists():
            time.sleep(0.01)


running.train, Store.writing = written_down, held_up


class Work(running._Work):
    "A worker that is to call this has to import this module."


def main(folder, count, epochs, jobs):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running._Work = Work
    settings = {"epochs": int(epochs), "looks": 1}
    experiments = plan("corrkd", "synthetic-mosi", "smoke", range(int(count)), "plain", settings=settings)
    (HERE / f"ready-{os.getpid()}").touch()
    while not (HERE / "start").exists():
        time.sleep(0.01)
    running.run(experiments, ["l"], jobs=int(jobs), store=Store(folder))
"""


def quick(seeds=(0,), stage="plain", epochs=1):
    settings = {"epochs": epochs, "looks": 1}
    return plan("corrkd", "synthetic-mosi", "smoke", list(seeds), stage, settings=settings)


def written(store):
    """key -> when the weights of each record were written."""
    return {record.key: (record.folder / "weights.npz").stat().st_mtime_ns for record in store.records()}


def hidden_drafts(store):
    return store.drafts() + list(store.folder.glob("*/.draft-*"))


def whole(store, count):
    """There are as many records, all undamaged, and nothing half-written."""
    records = store.records()
    return len(records) == count and not any(damage(r) for r in records) and not hidden_drafts(store)


class Drivers:
    """Starts processes that call run(); knows what they trained."""

    def __init__(self, folder, home):
        folder.mkdir()
        (folder / "watched.py").write_text(WATCHED)
        paths = os.pathsep.join([str(folder), str(home), os.environ.get("PYTHONPATH", "")])
        self.folder, self.started, self.surroundings = folder, [], os.environ | {"PYTHONPATH": paths}

    def start(self, store, count, epochs=1, jobs=1):
        words = ["import sys, watched; watched.main(*sys.argv[1:])", store.folder, count, epochs, jobs]
        with (self.folder / "output").open("a") as output:
            driver = subprocess.Popen(
                [sys.executable, "-c", *map(str, words)],
                env=self.surroundings,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started.append(driver)
        return driver

    def go(self):
        """Let all that were started begin at the same time."""
        awaited(lambda: all(self.has(f"ready-{driver.pid}") for driver in self.started), *self.started)
        self.signal("start")

    def has(self, name):
        return (self.folder / name).exists()

    def signal(self, name):
        (self.folder / name).touch()

    def trained(self):
        """(process, key) of each training that began."""
        return [tuple(line.split()) for line in (self.folder / "log").read_text().splitlines()]

    def in_the_middle(self, store):
        """A driver of six with two workers: two records are finished, and two are all but finished. With its workers
        and all its processes."""
        driver = self.start(store, 6, jobs=2)
        self.go()
        awaited(lambda: len(store.records()) == 2 and len(list(store.folder.glob(".draft-*/history.npz"))) == 2, driver)
        family = psutil.Process(driver.pid).children(recursive=True)
        return driver, [p for p in family if any("popen_loky" in word for word in p.cmdline())], family

    def output(self):
        return (self.folder / "output").read_text()

    def close(self):
        for driver in self.started:
            with suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()


@pytest.fixture
def drivers(tmp_path, root):
    """Makes drivers; they and their workers are gone after the test."""
    made = Drivers(tmp_path / "drivers", root)
    yield made
    made.close()


def living(processes):
    _, alive = psutil.wait_procs(processes, timeout=0)
    return [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


# --- killed processes ------------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_what_it_had_in_hand(drivers, store):
    """SIGKILL of one of two workers: the run ends well, and only what was in work is trained again."""
    driver, workers, _ = drivers.in_the_middle(store)
    before = written(store)
    workers[0].kill()
    drivers.signal("open")
    assert driver.wait() == 0, drivers.output()
    assert whole(store, 6)
    trainings = Counter(key for _, key in drivers.trained())
    assert {key: trainings[key] for key in before} == dict.fromkeys(before, 1)
    assert sum(trainings.values()) <= 6 + 2
    assert before.items() <= written(store).items()


def test_a_killed_driver_leaves_a_store_that_goes_on(drivers, store, monkeypatch, capsys):
    """Its workers, which outlive it, end the record in hand and no more; the next run leaves that to them and trains
    the rest: everything is trained once."""
    driver, workers, _ = drivers.in_the_middle(store)
    before, train, ours = written(store), running.train, []

    def counted(experiments, device, where):
        train(experiments, device, where)
        ours.append(experiments[0].key(device))
        if len(ours) == 2:
            assert len(store.drafts()) == 2, "what the living write is not swept"
            drivers.signal("open")

    driver.kill()
    driver.wait()
    assert len(living(workers)) == 2
    monkeypatch.setattr(running, "train", counted)
    records = run(quick(range(6)), ["l"], store=store)
    assert "6 runs: 2 from store, 4 to train" in capsys.readouterr().out
    assert whole(store, 6)
    assert sorted(ours + [key for _, key in drivers.trained()]) == sorted(record.key for record in records)
    assert before.items() <= written(store).items()
    with store.claimed([record.key for record in records]) as free:
        assert free


@pytest.mark.parametrize("whom", ["driver", "group"])
def test_an_interrupted_run_leaves_a_clean_store(drivers, store, capsys, whom):
    """SIGINT to the driver alone or, as a terminal sends it, to all: it ends soon, with no draft and no process left,
    and the next run goes on."""
    driver, _, family = drivers.in_the_middle(store)
    before = written(store)
    (os.kill if whom == "driver" else os.killpg)(driver.pid, signal.SIGINT)
    assert driver.wait() != 0
    assert "KeyboardInterrupt" in drivers.output()
    assert not hidden_drafts(store)
    awaited(lambda: not living(family))
    run(quick(range(6)), ["l"], store=store)
    assert "6 runs: 2 from store, 4 to train" in capsys.readouterr().out
    assert whole(store, 6)
    assert before.items() <= written(store).items()


def test_an_interrupt_in_the_middle_of_a_record_leaves_nothing_of_it(store, monkeypatch):
    """Ctrl-C while this process writes: what was finished stays, the rest is gone, and nothing counts as failed."""
    savez, calls = np.savez, []

    def interrupted(path, **arrays):
        savez(path, **arrays)
        calls.append(path)
        if len(calls) == 3:  # the weights of the second record
            raise KeyboardInterrupt

    monkeypatch.setattr(recording.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(quick(range(3)), ["l"], store=store)
    assert whole(store, 1)
    assert not store.failed()


def test_two_drivers_of_one_store_train_everything_once(drivers, store):
    """Two processes that want the same at the same time share it out, and both end with all of it."""
    both = [drivers.start(store, 8, epochs=40) for _ in range(2)]
    drivers.signal("open")
    drivers.go()
    assert [driver.wait() for driver in both] == [0, 0], drivers.output()
    assert whole(store, 8)
    assert Counter(key for _, key in drivers.trained()) == Counter(record.key for record in store.records())
    assert {int(process) for process, _ in drivers.trained()} == {driver.pid for driver in both}


# --- tasks that kill their process -----------------------------------------------------------------------------------


def deadly(folder, always, once):
    """Work that doubles numbers; some kill the process that works on them."""

    def work(task):
        import os
        import signal

        mark = os.path.join(folder, f"been-{task}")
        if task in always or (task in once and not os.path.exists(mark)):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * task

    return work


@pytest.mark.parametrize(
    ("always", "once"), [((3,), ()), ((0, 7), ()), ((), (2,))], ids=["one killer", "two killers", "only the first time"]
)
def test_the_store_loses_only_the_task_that_kills_its_process(tmp_path, always, once):
    """Each task has one outcome: that of a killer is `Lost`, one that kills once is tried again, the others end."""
    ended = list(each(deadly(str(tmp_path), always, once), list(range(8)), jobs=2))
    assert sorted(task for task, _ in ended) == list(range(8))
    lost = {task for task, outcome in ended if isinstance(outcome, Lost)}
    assert lost == set(always)
    assert {task: outcome for task, outcome in ended if task not in lost} == {
        task: 2 * task for task in range(8) if task not in lost
    }


# --- disks -----------------------------------------------------------------------------------------------------------


class Disk:
    """A file system of its own, of a size that can be changed."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def mount(self, options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A small disk, mounted for the test."""
    disk = Disk(tmp_path / "disk")
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk, on a system that has mount")
    if (mounted := disk.mount("size=8m")).returncode:
        pytest.skip(f"this machine mounts no tmpfs: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk.folder)], check=True)


def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_space(disk, capsys):
    """Wherever in a record the disk fills up: one sentence that says what and where, what is there is whole, and no
    remains take space. With more of it the run ends."""
    store = Store(disk.folder / "runs")
    run(quick(), ["l"], store=store)
    used = shutil.disk_usage(disk.folder).used
    when = set()
    for records in (1.3, 1.6, 1.9, 2.2, 2.5, 2.8):
        disk.remount(f"size={int(records * used)}")
        with pytest.raises((RunsFailed, BadInput)) as stopped:  # while it runs, or before anything trains
            run(quick(range(4)), ["l"], store=store)
        when.add(stopped.type)
        assert str(store.folder) in str(stopped.value)
        assert "No space left on device" in str(stopped.value)
        assert "\n" not in str(stopped.value)
        assert "Traceback" not in str(stopped.value)
        held = len(store.records())
        assert int(records) <= held < 4
        assert whole(store, held)
        assert not store.failed()
    assert RunsFailed in when
    before = written(store)
    disk.remount("size=8m")
    run(quick(range(4)), ["l"], store=store)
    assert f"4 runs: {held} from store, {4 - held} to train" in capsys.readouterr().out
    assert whole(store, 4)
    assert before.items() <= written(store).items()


def test_a_disk_that_can_only_be_read_serves_what_is_there(disk, monkeypatch, capsys):
    """What is held is served; what would have to be trained is refused in one sentence, before anything trains."""
    store = Store(disk.folder / "runs")
    [first] = run(quick(), ["l"], store=store)
    capsys.readouterr()
    disk.remount("ro")
    monkeypatch.setattr(running, "train", lambda *_: pytest.fail("something trains"))
    [again] = run(quick(), ["l"], store=store)
    assert "1 runs: 1 from store, 0 to train" in capsys.readouterr().out
    assert np.array_equal(again.predictions["logits/l"], first.predictions["logits/l"])
    for wish in ((quick(range(2)), ["l"]), (quick(), ["l", "a"])):
        with pytest.raises(BadInput, match="Read-only file system") as refusal:
            run(*wish, store=store)
        assert str(store.folder) in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert not hidden_drafts(store)


# --- damaged files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two records, with representations."""
    store = Store(tmp_path_factory.mktemp("trained") / "runs")
    run(quick(range(2)), ["l", "a"], embeddings=["l"], store=store)
    return store


@pytest.fixture
def copied(trained, store):
    """A store with two records that a test may damage."""
    shutil.copytree(trained.folder, store.folder)
    return store


def wanted_again(store):
    return run(quick(range(2)), ["l", "a"], embeddings=["l"], store=store)


def cut(file, _):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file, _):
    """Another bit in the first array: its bytes end where the next file of the archive begins."""
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x03\x04", 4) - 20] ^= 1
    file.write_bytes(content)


def empty(file, _):
    file.write_bytes(b"")


def garble(file, _):
    file.write_text("{no JSON")


def remove(file, _):
    file.unlink()


def exchange(file, other):
    file.write_bytes((other / file.name).read_bytes())


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("weights.npz", cut),
        ("history.npz", flip),
        ("weights.npz", remove),
        ("cost.json", garble),
        ("config.json", exchange),
        ("environment.json", empty),
    ],
    ids=lambda said: said if isinstance(said, str) else said.__name__,
)
def test_a_damaged_record_is_set_aside_and_trained_anew(copied, trained, capsys, file, harm):
    """A sentence names record and file, what was damaged is kept to look at, and the new record is the old one to the
    last bit; its neighbour is not touched."""
    one, two = (experiment.key() for experiment in quick(range(2)))
    harm(copied.folder / one / file, copied.folder / two)
    harmed = {p.name: p.read_bytes() for p in (copied.folder / one).iterdir()}
    before = written(copied) if file != "weights.npz" or harm is not remove else None
    wanted_again(copied)
    said = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert len(said) == 1
    assert one in said[0]
    assert f"({file} " in said[0]
    assert "trained anew" in said[0]
    [aside] = damaged(copied)
    assert {p.name: p.read_bytes() for p in aside.iterdir()} == harmed
    assert whole(copied, 2)
    new, old = copied.record(one), trained.record(one)
    assert new.weights().keys() == old.weights().keys()
    assert all(np.array_equal(new.weights()[name], old.weights()[name]) for name in old.weights())
    assert (new.config, new.scores) == (old.config, old.scores)
    assert before is None or before[two] == written(copied)[two]
    wanted_again(copied)
    assert "2 runs: 2 from store, 0 to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "harm"),
    [("predictions-*.npz", cut), ("scores-*.json", garble), ("embeddings-*.npz", flip)],
    ids=lambda said: said if isinstance(said, str) else said.__name__,
)
def test_a_record_with_damaged_parts_is_tested_anew_not_trained(copied, trained, monkeypatch, capsys, part, harm):
    """The weights are well: predictions, scores and representations come back from them, equal."""
    key = quick()[0].key()
    file = sorted((copied.folder / key).glob(part))[0]
    harm(file, None)
    before = written(copied)
    monkeypatch.setattr(running, "train", lambda *_: pytest.fail("something trains"))
    [record, _] = wanted_again(copied)
    out = capsys.readouterr().out
    assert f"record {key} is damaged ({file.name} " in out
    assert "tested anew" in out
    assert "2 runs: 2 from store, 0 to train" in out
    assert written(copied) == before
    assert whole(copied, 2)
    old = trained.record(key)
    assert record.scores == old.scores
    for now, then in ((record.predictions, old.predictions), (record.embeddings(), old.embeddings())):
        assert now.keys() == then.keys()
        assert all(np.array_equal(now[name], then[name]) for name in then)
    [aside] = damaged(copied)
    assert file.name in {p.name for p in aside.iterdir()}


def content(file):
    if file.suffix == ".json":
        return json.loads(file.read_text())
    with np.load(file, allow_pickle=False) as arrays:
        return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def test_no_cut_file_of_a_record_goes_unnoticed(copied):
    """Cut at any length, a file is named, it alone, or says what it said."""
    dice, record = random.Random(0), copied.record(quick()[0].key())
    for file in sorted(record.folder.glob("*.*")):
        whole_one, said = file.read_bytes(), content(file)
        for length in [0, len(whole_one) - 1, *(dice.randrange(len(whole_one)) for _ in range(8))]:
            file.write_bytes(whole_one[:length])
            wrong = damage(Store(copied.folder).record(record.key))
            assert list(wrong) == [file.name] or (not wrong and content(file) == said), (file.name, length)
        file.write_bytes(whole_one)
    assert not damage(record)


def test_no_changed_byte_of_an_array_of_a_record_goes_unnoticed(copied):
    """Whatever byte of an archive is another one, it is named, or holds the same arrays."""
    dice, record = random.Random(0), copied.record(quick()[0].key())
    for file in sorted(record.folder.glob("*.npz")):
        whole_one, said = file.read_bytes(), content(file)
        for place in (dice.randrange(len(whole_one)) for _ in range(15)):
            other = bytes([whole_one[place] ^ dice.randrange(1, 256)])
            file.write_bytes(whole_one[:place] + other + whole_one[place + 1 :])
            wrong = damage(record)
            assert list(wrong) == [file.name] or (not wrong and content(file) == said), (file.name, place)
        file.write_bytes(whole_one)


@pytest.mark.parametrize("file", ["cost.json", "scores-*.json"])
def test_a_damaged_record_on_a_disk_that_can_only_be_read_is_named(disk, file):
    """It can be neither used nor set aside: one sentence says which and why."""
    store = Store(disk.folder / "runs")
    [record] = run(quick(), ["l"], store=store)
    garble(next(record.folder.glob(file)), None)
    disk.remount("ro")
    with pytest.raises(BadInput, match=f"record {record.key} is damaged .*Read-only file system") as refusal:
        run(quick(), ["l"], store=store)
    assert "\n" not in str(refusal.value)


def test_what_is_sound_by_itself_but_was_not_written_is_damage(copied):
    """The weights of another run, a cost that is none, scores that are a list: each is named."""
    one, two = copied.records()
    exchange(one.folder / "weights.npz", two.folder)
    (one.folder / "cost.json").write_text("null")
    assert set(damage(one)) == {"weights.npz", "cost.json"}
    scores = next(two.folder.glob("scores-*"))
    scores.write_text("[]")
    assert set(damage(two)) == {scores.name}
    scores.unlink()


@pytest.mark.parametrize("part", ["predictions", "embeddings"])
def test_parts_that_were_deleted_are_made_again(copied, capsys, part):
    """Scores without the predictions, or silhouettes without the representations, that they are of."""
    record = copied.record(quick()[0].key())
    for file in record.folder.glob(f"{part}-*"):
        file.unlink()
    assert damage(record) == {f"{part}-*.npz": "is missing"}
    wanted_again(copied)
    assert "tested anew" in capsys.readouterr().out
    assert whole(copied, 2)
    assert list(record.folder.glob(f"{part}-*"))


@pytest.mark.parametrize("file", CORE)
def test_every_file_that_only_training_gives_is_missed(copied, file):
    record = copied.record(quick()[0].key())
    (record.folder / file).unlink()
    assert damage(record) == {file: "is missing"}


# --- what failed -----------------------------------------------------------------------------------------------------


def test_what_failed_is_remembered_until_it_is_trained(store, monkeypatch):
    """A failed teacher takes only its student along, which is said in a line; later both are trained and forgotten."""
    train = running.train

    def broken(experiments, device, where):
        if experiments[0].stage == "complete" and experiments[0].seed == 1:
            raise ArithmeticError("the teacher is cursed")
        train(experiments, device, where)

    students = quick(range(2), "method")
    monkeypatch.setattr(running, "train", broken)
    with pytest.raises(RunsFailed, match="2 of 4 runs failed") as failed:
        run(students, ["l"], store=store)
    reports = store.failed()
    assert reports.keys() == {students[1].key(), students[1].parents["complete"].key()}
    assert "the teacher is cursed" in reports[students[1].parents["complete"].key()]
    assert "Traceback" in reports[students[1].parents["complete"].key()]
    assert reports[students[1].key()].splitlines() == [students[1].label, "its teacher failed"]
    assert all(report in str(failed.value) for report in reports.values())
    assert {record.key for record in store.records()} == {students[0].key(), students[0].parents["complete"].key()}
    monkeypatch.setattr(running, "train", train)
    run(students, ["l"], store=store)
    assert not store.failed()
    assert whole(store, 4)


def test_what_failed_when_it_was_tested_is_forgotten_when_it_is_tested(store, monkeypatch):
    monkeypatch.setattr(running, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(RunsFailed, match="ZeroDivisionError"):
        run(quick(), ["l"], store=store)
    assert store.failed().keys() == {quick()[0].key()}
    monkeypatch.undo()
    run(quick(), ["l"], store=store)
    assert not store.failed()


def test_a_store_that_cannot_remember_a_failure_says_so_to_nobody(store, monkeypatch):
    """The report is a courtesy: a full disk does not turn it into a second error."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    store.fail("aaaa", "report")


# --- what notebooks asked for ----------------------------------------------------------------------------------------


def test_what_was_asked_for_is_done_shipped_failed_or_missing(store, monkeypatch):
    """A run is done by its own key only, and shipped by that of any device; what fails and came shipped is shipped."""
    with store.writing("done"):
        pass
    for key in ("failed", "both"):
        store.fail(key, "report")
    runs = [["done", "x"], ["x", "done"], ["x", "came"], ["both", "came"], ["failed", "x"]]
    asked.ask(store, "paper-small-1", {"paper": "a", "runs": [{"label": "", "keys": keys} for keys in runs]})
    asked.ask(store, "paper-small-2", {"paper": "b", "runs": []})
    monkeypatch.setattr(asked, "read_shipped", lambda folder: {"came": None})
    one, two = asked.progress(store)
    assert (one[0]["paper"], two[0]["paper"]) == ("a", "b")
    assert one[1] == {"done": 1, "shipped": 2, "failed": 1, "missing": 1}
    assert not two[1]
    assert asked.keys(store) == {"done", "x", "came", "both", "failed"}


def test_a_store_that_can_only_be_read_forgets_who_asked(store, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    asked.ask(store, "paper-small-1", {})
    assert asked.asked(store) == {}


# --- claims ----------------------------------------------------------------------------------------------------------


CLAIM = """
import sys
from pathlib import Path
from mmkd_lib.runs.store import Store

with Store(sys.argv[1]).claimed(["aaaa", "bbbb"]) as ours:
    Path(sys.argv[2]).write_text(str(ours))
    sys.stdin.read()  # until it is killed
"""


@pytest.fixture
def refused(monkeypatch):
    """Set as soon as this process has asked for a lock that is taken."""
    refused = Event()

    class Watched(FileLock):
        def _acquire(self):
            super()._acquire()
            if not self.is_locked:
                refused.set()

    monkeypatch.setattr(stores, "FileLock", Watched)
    return refused


def test_a_claim_ends_with_the_process_that_held_it(store, tmp_path, root, refused):
    """While another process has one of the records nobody else gets it; SIGKILL frees it, at once for who waits."""
    mark, got = tmp_path / "claimed", Event()
    command = [sys.executable, "-c", CLAIM, str(store.folder), str(mark)]
    holder = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE)

    def wait():
        with store.claimed(["bbbb", "cccc"], wait=True) as ours:
            if ours:
                got.set()

    waiter = Thread(target=wait, daemon=True)
    try:
        assert awaited(lambda: mark.exists() and mark.read_text(), holder) == "True"
        with store.claimed(["aaaa"]) as ours, store.claimed(["cccc"]) as free:
            assert not ours
            assert free
        assert refused.is_set()
        refused.clear()
        waiter.start()
        awaited(lambda: refused.is_set() or got.is_set())
        assert not got.is_set()
    finally:
        holder.kill()
        holder.communicate()
    assert got.wait()
    waiter.join()
    with store.claimed(["aaaa", "bbbb", "cccc"]) as ours:
        assert ours


def test_who_waits_for_a_claim_holds_no_later_one(store, refused):
    """Records are claimed in one order, whatever order they are named in: no two wait for each other."""
    done = Event()

    def claim():
        with store.claimed(["bbbb", "aaaa"], wait=True):
            done.set()

    with store.claimed(["aaaa"]) as ours:
        assert ours
        thread = Thread(target=claim, daemon=True)
        thread.start()
        awaited(lambda: refused.is_set() or done.is_set())
        with store.claimed(["bbbb"]) as free:
            assert free
    assert done.wait()
    thread.join()


def test_claims_in_opposite_order_all_come_to_an_end(store):
    """Overlapping sets, each waited for again and again from both sides."""

    def claim(keys):
        for _ in range(10):
            with store.claimed(keys, wait=True) as ours:
                assert ours

    threads = [Thread(target=claim, args=[keys], daemon=True) for keys in (["a", "b", "c"], ["c", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(thread.is_alive() for thread in threads)


def test_one_at_a_time_has_a_claim(store):
    """Threads that ask for one record without pause, while its lock is made and removed, never have it together."""
    inside, seen = [], []

    def ask():
        while len(seen) < 500:
            with store.claimed(["aaaa"]) as ours:
                if ours:
                    inside.append(1)
                    time.sleep(0.0005)
                    seen.append(len(inside))
                    inside.pop()

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {1}
    assert not list(store.folder.glob(".locks/*"))


def test_a_claim_is_free_after_a_failure_inside(store):
    with pytest.raises(ZeroDivisionError), store.claimed(["aaaa"]):
        _ = 1 / 0
    with store.claimed(["aaaa"]) as ours:
        assert ours


# --- tidying ---------------------------------------------------------------------------------------------------------


def test_drafts_of_dead_processes_are_swept_and_those_of_living_ones_stay(store):
    with store.writing("aaaa") as mine:
        dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-999999999-"))
        dead.mkdir()
        sweep(store)
        assert mine.exists()
        assert not dead.exists()
    assert store.holds("aaaa")
    left = store.folder / "aaaa" / dead.name
    left.touch()
    sweep(store)
    assert not left.exists()


def test_two_writers_of_one_record_leave_one_whole_record(store):
    """Whoever comes second drops its own; the first record is not touched."""
    with store.writing("dddd") as one:
        (one / "mark").write_text("one")
        with store.writing("dddd") as two:
            (two / "mark").write_text("two")
    assert (store.folder / "dddd" / "mark").read_text() == "two"  # the inner block ended first
    assert not store.drafts()


def test_what_two_processes_add_to_a_record_is_all_there(store):
    """Each addition is a part of its own: none is read, merged and written back over another."""
    with store.writing("eeee"):
        pass
    one, two = store.record("eeee"), store.record("eeee")
    for record, condition in ((one, "l"), (two, "a")):
        record.add("predictions", {f"logits/{condition}": np.zeros(2), "y": np.zeros(2)})
        record.add("scores", {condition: {"mask": condition, "metrics": {"acc": 1.0}}})
    one.add("scores", {"l": {"mask": "l", "metrics": {"silhouette": 0.5}}})
    assert store.record("eeee").lacks(["l", "a", "v"], ["l", "a"]) == (["v"], ["a"])
    assert store.record("eeee").scores["l"]["metrics"] == {"acc": 1.0, "silhouette": 0.5}
    assert set(store.record("eeee").predictions) == {"logits/l", "logits/a", "y"}


def test_a_draft_of_another_make_is_left_alone(store):
    (store.folder / ".draft-x").mkdir(parents=True)
    sweep(store)
    assert store.drafts()


def test_drafts_of_other_machines_stay(store):
    """Whether a process of another machine lives cannot be known here."""
    elsewhere = store.folder / ".draft-0123456789ab-999999999-else-where"
    here = store.folder / f".draft-0123456789ab-999999999-{socket.gethostname()}"
    for draft in (elsewhere, here):
        draft.mkdir(parents=True)
        (draft / "weights.npz").touch()
    assert store.drafts() == sorted([elsewhere, here])
    sweep(store)
    assert store.drafts() == [elsewhere]


def test_hidden_folders_are_no_records(copied):
    """What was set aside or is being written does not count, even with its `done` inside."""
    keys = {record.key for record in copied.records()}
    for hidden in (".damaged/x", ".draft-x", ".damaged"):
        (copied.folder / hidden).mkdir(parents=True, exist_ok=True)
        (copied.folder / hidden / "done").touch()
    assert {record.key for record in copied.records()} == keys == {experiment.key() for experiment in quick(range(2))}


def test_forgetting_frees_what_was_said(copied):
    """Records, drafts and what was set aside have a size, and are gone when they are forgotten, the rest is not."""
    one, two = copied.records()
    expected = sum(file.stat().st_size for file in one.folder.iterdir())
    assert size(one.folder) == expected > 0
    assert forget(one.folder) == expected
    assert not one.folder.exists()
    assert [record.key for record in copied.records()] == [two.key]
    draft = copied.folder / ".draft-x"
    draft.mkdir()
    (draft / "weights.npz").write_bytes(b"12345")
    assert size(draft / "weights.npz") == 5
    assert forget(draft / "weights.npz") == 5
    assert not list(draft.iterdir())
    assert forget(draft) == 0
    assert not draft.exists()
    assert whole(copied, 1)


def test_a_record_that_is_half_forgotten_is_none(copied, monkeypatch):
    """Where removing stops in the middle nobody reads what is left, and the next run trains it anew."""

    def stopped(folder):
        (folder / "config.json").unlink()
        raise OSError(errno.EBUSY, "busy")

    key = quick()[0].key()
    with monkeypatch.context() as patch:
        patch.setattr("mmkd_lib.runs.tidying.shutil.rmtree", stopped)
        forget(copied.folder / key)
    assert (copied.folder / key / "weights.npz").exists()
    assert not copied.holds(key)
    wanted_again(copied)
    assert whole(copied, 2)
