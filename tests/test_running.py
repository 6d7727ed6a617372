"""run(): keys, resuming, what is evaluated and what trained, shipped records, failures, fingerprints of code."""

import ast
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_score

from mmkd_lib.data import benchmarks
from mmkd_lib.data.benchmarks import load
from mmkd_lib.data.missing import frozen_mask, subsets
from mmkd_lib.results import tables
from mmkd_lib.runs import experiments, recording, running
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import RunsFailed, run
from mmkd_lib.runs.shipped import read_shipped, ship
from mmkd_lib.runs.store import Store
from mmkd_lib.support import fingerprint
from mmkd_lib.support.errors import BadInput

QUICK = {"settings": {"epochs": 1, "looks": 1}}


def quick(seeds=(0,), stage="method", **options):
    return plan("corrkd", "synthetic-mosi", "smoke", list(seeds), stage, options=options, **QUICK)


def test_the_second_run_trains_nothing(store, capsys):
    """Student and teacher are trained once; then both come from the store with the same numbers."""
    [first] = run(quick(), store=store)
    assert "2 runs: 0 from store, 2 to train" in capsys.readouterr().out
    [second] = run(quick(), store=store)
    assert "2 runs: 2 from store, 0 to train" in capsys.readouterr().out
    assert all(np.array_equal(first.predictions[k], second.predictions[k]) for k in first.predictions)


def test_a_record_holds_what_design_promises(store):
    [record] = run(quick(), embeddings=["l & frames=0.5"], store=store)
    names = {path.name.partition("-")[0].removesuffix(".npz") for path in record.folder.iterdir()}
    arrays = {"predictions", "history", "weights", "embeddings"}
    assert names == arrays | {"scores", "config.json", "cost.json", "environment.json", "done"}
    assert {f"logits/{c}" for c in (*subsets(), "l & frames=0.5")} <= set(record.predictions)


def test_scores_are_those_of_the_predictions(store):
    """Stored scores, agreement, floor and realised rates against the predictions, the truth and the mask themselves."""
    [record], data = run(quick(), ["a & frames=0.5"], store=store), load("synthetic-mosi", "smoke")
    rows, said = data.rows("test"), record.predictions["prediction/a & frames=0.5"]
    found = record.scores["a & frames=0.5"]["metrics"]
    assert found["f1_weighted_nonzero"] == pytest.approx(data.score(said, rows)["f1_weighted_nonzero"], abs=1e-5)
    truth = data.truth[rows]
    assert found["agreement"] == pytest.approx(
        100 * np.mean(np.sign(said) == np.sign(truth), where=truth != 0), abs=1e-5
    )
    mask = frozen_mask("a & frames=0.5", data.batch, rows, data.mask_key)
    assert found["missing_slots"] == pytest.approx(200 / 3, abs=1e-5)  # l and v of each utterance
    assert found["missing_frames"] == pytest.approx(100 * mask.realised["frames"], abs=1e-5)
    assert record.scores["a & frames=0.5"]["mask"] == mask.hash
    always = [data.score(np.full(200, sign), rows)["f1_weighted_nonzero"] for sign in (-1.0, 1.0)]
    assert record.environment["data"]["floor"]["f1_weighted_nonzero"] == pytest.approx(max(always), abs=1e-5)


def test_kept_representations_are_a_hundred_a_group(store):
    """They belong to the utterances they name, and the silhouette is scikit-learn's of them."""
    [record], data = run(quick(), ["l"], embeddings=["l"], store=store), load("synthetic-mosi", "smoke")
    kept = record.embeddings()
    assert np.array_equal(kept["y"], data.batch.y.numpy()[data.rows("test")][kept["rows"]])
    signs = np.sign(data.batch.y.numpy()[data.rows("test")])
    _, counts = np.unique(signs, return_counts=True)
    _, held = np.unique(np.sign(kept["y"]), return_counts=True)
    assert held.tolist() == np.minimum(counts, recording.EMBEDDED).tolist()
    assert kept["l"].shape == (held.sum(), 24)
    expected = silhouette_score(kept["l"].astype(float), np.sign(kept["y"]))
    assert record.scores["l"]["metrics"]["silhouette"] == pytest.approx(expected, abs=1e-6)


def test_more_conditions_are_evaluated_not_trained(store, capsys):
    """A condition that a record lacks is added from its weights, equal to what one run would have given."""
    run(quick(), ["l"], store=store)
    capsys.readouterr()
    [record] = run(quick(), ["l", "frames=0.5"], store=store)
    assert "0 to train" in capsys.readouterr().out
    [fresh] = run(quick(), ["l", "frames=0.5"], store=Store(store.folder / "other"))
    assert all(np.array_equal(record.predictions[k], fresh.predictions[k]) for k in fresh.predictions)


def test_variants_share_their_teacher_and_references(store, capsys):
    """Options of the losses leave the teacher, plain and complete experiments as they are."""
    literal = quick(scd_reduction="sum")
    assert literal[0].parents["complete"] == quick()[0].parents["complete"] == quick(stage="complete")[0]
    assert quick(stage="plain", scd_reduction="sum") == quick(stage="plain")
    run(quick() + literal, ["l"], store=store)
    assert "3 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"benchmark": "synthetic-mosei"}, {"stage": "plain"}, {"size": "small"}, {"method": "corrkd"}],
    ids=str,
)
def test_the_key_follows_what_decides_the_numbers(other):
    [experiment] = quick()
    changed = replace(experiment, **other)
    assert (changed.key() == experiment.key()) == (changed == experiment)
    assert experiment.key("cuda") != experiment.key("cpu")


PREPARES = [
    "methods.corrkd",
    "methods.layers",
    "training.fit",
    "training.evaluation",
    "data.missing",
    "training.cohort",
]
PREPARES += ["data.benchmark"]


@pytest.mark.parametrize(
    ("module", "supervision"),
    [*((m, "plain") for m in PREPARES), ("data.synthetic.exact", "oracle"), ("data.synthetic.worlds", "plain")],
)
def test_the_key_follows_the_code_that_decides_the_numbers(monkeypatch, module, supervision):
    """A changed line in any of these modules makes another experiment; one in tables or session does not."""
    [experiment] = quick(stage=supervision)
    before = experiment.key()
    for changed, other in ((module, True), ("results.tables", False), ("book.session", False)):
        with monkeypatch.context() as patch:
            change(patch, changed)
            assert (experiment.key() != before) == other, changed


def change(patch, module, names=None):
    """As if these definitions of a module (all, if none is named) had another body."""
    read = fingerprint._read

    def changed(asked):
        source = read(asked)
        if asked != module:
            return source
        other = {
            name: (shape + "# changed" if names is None or name in names else shape, used)
            for name, (shape, used) in source.definitions.items()
        }
        return source._replace(definitions=other)

    patch.setattr(fingerprint, "_read", changed)


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        ("methods.layers", "Transformer", True),  # the method builds it
        ("methods.layers", "SelfAttention", True),  # the transformer uses it
        ("methods.losses", "softened_kl", True),
        ("data.missing", "frozen_mask", True),
        ("data.metrics", "_of_signs", True),  # the scores of a record
        ("data.metrics", "floor", False),  # of the labels, not of a record
        ("data.missing", "FRAME_CURVE", False),
        ("methods.base", "alternatives", False),
        ("methods.base", "option", True),
    ],
)
def test_the_key_follows_what_is_used_of_a_module_and_no_more(monkeypatch, module, name, other):
    [experiment] = quick()
    assert name in fingerprint._read(module).definitions
    before = experiment.key()
    change(monkeypatch, module, [name])
    assert (experiment.key() != before) == other


@pytest.mark.parametrize(
    ("module", "readers"),
    [
        ("data.readers.unpickling", {"mmsa", "mult", "gcnet"}),
        ("data.readers.hdf5_process", {"mmin", "csd"}),
        ("data.readers.splits", {"mmsa", "mult"}),
        ("data.readers.contents", {"plain", "mmsa", "mult", "gcnet", "mmin", "csd"}),
        ("data.readers.csd", {"csd"}),
        ("data.known", set()),
    ],
)
def test_the_key_follows_the_code_that_opens_a_file(monkeypatch, module, readers):
    """Also where nothing calls it by name: a decoder that gets repaired must not leave its records in use."""
    every = ("plain", "mmsa", "mult", "gcnet", "mmin", "csd", None)
    before = {reader: experiments.code("corrkd", "plain", reader) for reader in every}
    change(monkeypatch, module)
    assert {reader for reader in every if experiments.code("corrkd", "plain", reader) != before[reader]} == readers


SEVERAL = {
    "used.py": "import math\nSIZE = 3\ndef one(x):\n    return two(x) + math.pi\ndef two(x):\n    return x * SIZE\n"
    "def three(x):\n    return x\n",
    "inner/__init__.py": "from ..used import three as third\n",
    "inner/deep.py": "from .. import used\nfrom . import third\n\nclass Deep:\n    def f(self, x):\n"
    "        return used.one(x)\n\n\ndef apart(x):\n    return third(x)\n",
}


def fingerprint_of(monkeypatch, folder, files, root):
    """The fingerprint of a root in a package of these files (name -> text)."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(fingerprint, "ROOT", folder)
    monkeypatch.setattr(fingerprint, "_parsed", getattr(fingerprint._parsed, "__wrapped__", fingerprint._parsed))
    return fingerprint.code_fingerprint(root)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from .. import used", "from mmkd_lib import used"),
        ("from .. import used", "import mmkd_lib.used as used"),
        ("from .. import used\n", "import mmkd_lib\n"),
        ("from .. import used\n", "from ..used import one as first\n"),
    ],
)
def test_a_fingerprint_does_not_know_how_a_name_was_imported(tmp_path, monkeypatch, old, new):
    """Relatively, by the library's name, from a module or as a part of it: one fingerprint, which follows the name."""
    text = SEVERAL["inner/deep.py"]
    call = {"import mmkd_lib\n": "mmkd_lib.used.one(x)"}.get(new, "first(x)" if "first" in new else "used.one(x)")
    other = SEVERAL | {"inner/deep.py": text.replace(old, new).replace("used.one(x)", call)}
    root = "inner.deep:Deep"
    before = fingerprint_of(monkeypatch, tmp_path / "one", SEVERAL, root)
    assert fingerprint_of(monkeypatch, tmp_path / "two", other, root) == before
    changed = other | {"used.py": other["used.py"].replace("x * SIZE", "x + SIZE")}
    assert fingerprint_of(monkeypatch, tmp_path / "three", changed, root) != before


def test_a_fingerprint_does_not_know_where_a_module_stands(tmp_path, monkeypatch):
    through = "from ..far.away.used import three as third\n"
    moved = {"far/away/used.py": SEVERAL["used.py"], "inner/__init__.py": through}
    moved["inner/deep.py"] = SEVERAL["inner/deep.py"].replace("from .. import used", "from ..far.away import used")
    for root in ("inner.deep", "inner.deep:Deep"):
        before = fingerprint_of(monkeypatch, tmp_path / "one", SEVERAL, root)
        assert fingerprint_of(monkeypatch, tmp_path / "two", moved, root) == before


@pytest.mark.parametrize(
    ("root", "file", "old", "new", "other"),
    [
        ("inner.deep:Deep", "used.py", "x * SIZE", "x + SIZE", True),  # two steps away
        ("inner.deep:Deep", "used.py", "SIZE = 3", "SIZE = 4", True),
        ("inner.deep:Deep", "used.py", "import math", "import cmath as math", True),
        ("inner.deep:Deep", "used.py", "    return x\n", "    return -x\n", False),  # three is not used by Deep
        ("inner.deep:apart", "used.py", "    return x\n", "    return -x\n", True),  # through the package
        ("inner.deep", "used.py", "    return x\n", "    return -x\n", True),
        ("inner.deep:apart", "inner/deep.py", "used.one(x)", "used.two(x)", False),
        ("inner.deep:Deep", "used.py", "SIZE = 3", "SIZE = 3\nprint()", True),  # runs on import
        ("inner.deep:Deep", "used.py", "SIZE = 3", "SIZE = 3\nnew = 4", False),
        ("inner.deep:missing", "inner/deep.py", "used.one(x)", "used.two(x)", True),  # whatever it is: everything
    ],
)
def test_a_fingerprint_follows_names(tmp_path, monkeypatch, root, file, old, new, other):
    before = fingerprint_of(monkeypatch, tmp_path, SEVERAL, root)
    text = SEVERAL[file]
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    assert (fingerprint.code_fingerprint(root) != before) == other


def test_the_key_follows_the_teacher():
    """Another choice of the teacher's checkpoint is another student."""
    assert quick(teacher_selection="last")[0].key() != quick()[0].key()


def test_processes_give_the_numbers_of_one(store):
    """Two workers or none: same records, to the last bit."""
    experiments = quick(seeds=(0, 1), stage="plain")
    many = run(experiments, ["l"], jobs=2, store=store)
    alone = run(experiments, ["l"], jobs=1, store=Store(store.folder / "alone"))
    for one, two in zip(many, alone, strict=True):
        assert np.array_equal(one.predictions["logits/l"], two.predictions["logits/l"])


def test_a_folder_without_done_is_no_record(store):
    (store.folder / "bbbb").mkdir(parents=True)
    assert not store.holds("bbbb")
    with store.writing("bbbb") as folder:
        (folder / "config.json").write_text("{}")
    assert store.holds("bbbb")
    assert [record.key for record in store.records()] == ["bbbb"]


def test_a_failure_inside_a_record_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.writing("cccc"):
        _ = 1 / 0
    assert not list(store.folder.iterdir())


def test_failed_runs_are_reported_and_the_others_finish(store, monkeypatch):
    """One broken experiment does not take the others with it; the report names it."""
    train = running.train

    def broken(experiments, device, where):
        if experiments[0].seed == 1:
            raise ArithmeticError("seed one is cursed")
        train(experiments, device, where)

    monkeypatch.setattr(running, "train", broken)
    with pytest.raises(RunsFailed, match=r"1 of 3 runs failed(.|\n)*seed 1(.|\n)*seed one is cursed"):
        run(quick(seeds=(0, 1, 2), stage="plain"), ["l"], store=store)
    assert len(store.records()) == 2


def test_code_that_changed_under_a_run_is_noticed(store, monkeypatch):
    """A worker whose code gives another key than the driver's refuses to train under the driver's key."""
    [experiment] = quick(stage="plain")
    failure = running._Work("cpu", store.folder, {})([running.Wanted(experiment, ("0123456789abcdef",), ("l",))])
    assert "changed since this run began" in failure.report
    assert not store.records()


@pytest.fixture
def shipped(store, tmp_path):
    """Shipped records of a student and its teacher with two seeds, tested under `l` and looked at there."""
    experiments = quick((0, 1)) + quick((0, 1), "complete")
    records = run(experiments, ["l"], embeddings=["l"], store=store)
    ship(records, tmp_path / "records" / "corrkd")
    return read_shipped(tmp_path / "records")


def test_shipped_records_serve_without_training(shipped, store, tmp_path, capsys):
    """Same scores, history, costs, and the first seed's representations; nothing is written into the store."""
    below = Store(tmp_path / "clone", shipped)
    own = run(quick((0, 1)), ["l"], embeddings=["l"], store=store)
    capsys.readouterr()
    came = run(quick((0, 1)), ["l"], embeddings=["l"], store=below)
    assert "4 runs: 4 from store, 0 to train" in capsys.readouterr().out
    assert not below.folder.exists()
    for one, two in zip(own, came, strict=True):
        assert (one.key, one.config, one.scores, one.cost) == (two.key, two.config, two.scores, two.cost)
        assert all(one.history[n].shape == two.history[n].shape for n in one.history)
        assert all(np.allclose(one.history[n], two.history[n], rtol=1e-5) for n in one.history)
    assert np.array_equal(own[0].embeddings()["l"], came[0].embeddings()["l"])
    assert not came[1].embeddings()
    frames = [tables.scores({"CorrKD": records, "twice": records}) for records in (own, came)]
    pd.testing.assert_frame_equal(*frames)
    assert tables.floors(own + own) == tables.floors(came + came)


def test_shipping_twice_gives_the_same_bytes_and_damage_is_refused(shipped, store, tmp_path):
    """A commit changes only where records do; half a file is named, with where a whole one comes from."""
    file = tmp_path / "records" / "corrkd" / "records.jsonl.gz"
    ship(run(quick((0, 1)) + quick((0, 1), "complete"), ["l"], embeddings=["l"], store=store), tmp_path / "again")
    assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    for damaged in (file.read_bytes()[:200], b"no archive", file.read_bytes()[:60] + b"\0" * 200):
        file.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"is damaged .*\(git checkout\)"):
            read_shipped(tmp_path / "records")


def test_a_shipped_record_serves_whatever_device_it_was_trained_on(shipped, tmp_path):
    """Asked for on a GPU, a record that a CPU left redraws the table; no GPU is touched."""
    [record] = run(quick(), ["l"], device="cuda", store=Store(tmp_path / "clone", shipped))
    assert record.config["device"]["class"] == "cpu"


def test_what_shipped_records_lack_is_trained(shipped, tmp_path, capsys):
    """Another condition asks for weights, which are not shipped: the student and its teacher are trained here."""
    below = Store(tmp_path / "clone", shipped)
    [record] = run(quick(), ["l", "a"], store=below)
    assert "2 runs: 0 from store, 2 to train" in capsys.readouterr().out
    assert set(record.scores) >= {"l", "a"}
    run(quick(scd_reduction="sum"), ["l"], store=below)  # a new student; its teacher has weights by now
    assert "2 runs: 1 from store, 1 to train" in capsys.readouterr().out


def test_a_new_student_of_a_shipped_teacher_trains_both(shipped, tmp_path, capsys):
    run(quick(scd_reduction="sum"), ["l"], store=Store(tmp_path / "clone", shipped))
    assert "2 runs: 0 from store, 2 to train" in capsys.readouterr().out


def test_code_that_changed_leaves_shipped_records_aside(shipped, tmp_path, monkeypatch, capsys):
    """A key that no longer fits is not found: results of other code are never shown as today's."""
    change(monkeypatch, "methods.losses")
    run(quick(), ["l"], store=Store(tmp_path / "clone", shipped))
    assert "2 runs: 0 from store, 2 to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plan("corkd", "synthetic-mosi", "smoke", [0]), "corrkd"),
        (lambda: plan("corrkd", "synthetic-mosi", "tiny", [0]), "smoke, small, paper"),
        (lambda: plan("corrkd", "nosuch", "smoke", [0]), "synthetic-mosi"),
        (lambda: plan("corrkd", "synthetic-mosi", "smoke", [0], "half"), "method, plain, complete, oracle"),
        (lambda: plan("corrkd", "synthetic-mosi", "smoke", [0], settings={"rate": 1}), "lr, batch"),
        (lambda: plan("corrkd", "synthetic-mosi", "smoke", [0], options={"tale": "raw"}), "tail"),
        (lambda: plan("corrkd", "synthetic-mosi", "smoke", [0], options={"tail": "long"}), "renormalised, raw"),
        (lambda: run(quick(), ["l+x"]), "l\\+x"),
        (lambda: plan("corrkd", "mosi", "small", [0], "oracle"), "needs a synthetic benchmark"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(call, named):
    with pytest.raises(BadInput, match=named) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_a_fingerprint_leaves_prose_out(tmp_path, monkeypatch):
    """Docstrings, sentences of errors, place and reason of an option: whoever improves them trains nothing anew."""
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    monkeypatch.setattr(fingerprint, "_parsed", fingerprint._parsed.__wrapped__)

    def shape(text):
        (tmp_path / "some.py").write_text(text)
        return fingerprint._read("some")

    code = 'def f(x):\n    "why"\n    raise BadInput(f"no {x}")\n\nw: int = option(40, ALL, "loss", "4.2", "so", "x")'
    first = shape(code)
    for prose in ("why", "no {x}", "4.2", "so"):
        assert shape(code.replace(prose, "other")) == first, prose
    for counts in ("40", "ALL", '"loss"', '"x"', "f(x)"):
        assert shape(code.replace(counts, "g(y)" if counts == "f(x)" else '"other"')) != first, counts


def test_a_fingerprint_is_of_what_code_does_not_of_how_it_is_written():
    """Layout, quotes, comments and fields that only some versions of Python have do not count; a changed value does."""

    def shape(code):
        body = code.body if isinstance(code, ast.Module) else ast.parse(code).body
        return fingerprint._definition(body, fingerprint.Source({}, {}), "", set())[0]

    code = "def f(x):\n    return {'a': f'{x}', 'b': (1, None)}"
    assert shape(code) == shape('def f(x):  # why\n    return {\n"a": f"{x}", "b": (1, None),\n}\n')
    assert shape(code) != shape(code.replace("1", "2"))
    assert shape(code) != shape(code.replace("None", "False"))
    assert shape("x = 1") != shape("x = 1.0")
    older, newer = ast.parse(code), ast.parse(code)
    older.body[0].__dict__.pop("type_params", None)
    newer.body[0].type_params = []
    assert shape(older) == shape(newer)


def test_rotated_folds_are_one_a_seed(monkeypatch):
    """Seed s holds out fold s, and begins again where the folds end."""
    real = benchmarks.load
    folded = lambda *some: replace(real(*some), roles=np.zeros((3, len(real(*some).batch.y)), np.int8))  # noqa: E731
    monkeypatch.setattr(benchmarks, "load", folded)
    found = plan("corrkd", "synthetic-mosi", "smoke", range(5), "plain", rotated=True)
    assert [(e.seed, e.fold) for e in found] == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1)]
    every = plan("corrkd", "synthetic-mosi", "smoke", [0, 1], "plain")
    assert [(e.seed, e.fold) for e in every] == [(s, k) for s in (0, 1) for k in range(3)]


def test_weight_decay_is_a_choice_that_records_without_one_do_not_name():
    [plain] = plan("corrkd", "synthetic-mosi", "smoke", [0], "plain")
    [decayed] = plan("corrkd", "synthetic-mosi", "smoke", [0], "plain", settings={"weight_decay": 1e-5})
    assert "weight_decay" not in plain.config()["settings"]
    assert decayed.config()["settings"]["weight_decay"] == 1e-5
    assert plain.key() != decayed.key()
    for name in ("weight_decay", "clip"):
        with pytest.raises(BadInput, match=f"{name}=-1 must not be below 0"):
            plan("corrkd", "synthetic-mosi", "smoke", [0], settings={name: -1})


def test_who_watches_the_world_has_its_code(monkeypatch):
    """The true values of teachers are logged with DynKD on generated data: what computes them is in its fingerprint."""
    before = [experiments.code("dynkd", s, r) for s, r in (("method", None), ("plain", None), ("method", "mmsa"))]
    real = fingerprint.code_fingerprint
    told = []
    monkeypatch.setattr(
        experiments, "code_fingerprint", lambda *roots, without: told.append(without) or real(*roots, without=without)
    )
    assert [
        experiments.code("dynkd", s, r) for s, r in (("method", None), ("plain", None), ("method", "mmsa"))
    ] == before
    assert ["data.synthetic.exact" in without for without in told] == [False, True, True]
