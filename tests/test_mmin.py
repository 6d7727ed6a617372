"""MMIN in both forms against golden outputs of its public implementations; who reads what, and what moves what."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmkd_lib.data.batch import Batch, Shape
from mmkd_lib.methods.base import Clock, Step
from mmkd_lib.methods.cascade import Cascade
from mmkd_lib.methods.mmin import FRAMES, MMIN, RECIPE, MMINOptions
from mmkd_lib.methods.vector_encoders import LSTMEncoder, TextCNN, to_front
from mmkd_lib.support.draws import Draws

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is not here")
FORMS = pytest.mark.parametrize("form", ["utterance", "frames"])
SMALL = {"width": 4, "hidden": 8, "outer": 10, "middle": 6, "bottleneck": 3, "blocks": 2}
SMALL |= {"initial_weights": "kaiming"}  # weights of 0.02 would make all answers alike
METHOD, PRETRAINING = Clock("method", 1, 10, 0, 1), Clock("pretraining", 1, 10, 0, 1)
PATTERNS = [("a",), ("v",), ("l",), ("a", "v"), ("a", "l"), ("v", "l")]  # shown, as the golden missing_index has them


def method_of(form, widths=None, lengths=None, classes=("happy", "sad", "angry", "neutral"), seed=0, **options):
    widths = widths or {"l": 7, "a": 6, "v": 5}
    torch.manual_seed(seed)
    task = "classification" if classes else "regression"
    shape = Shape(widths, lengths or {m: 8 for m in widths}, task, tuple(classes))
    return MMIN(shape, MMINOptions.of(form=form, **SMALL | options)).eval()


def batch_of(shape, n=9, seed=0):
    """Utterances of unequal lengths, padding behind."""
    draw = torch.Generator().manual_seed(seed)
    valid = {m: torch.arange(t) < torch.randint(1, t + 1, (n, 1), generator=draw) for m, t in shape.lengths.items()}
    x = {m: torch.randn(*valid[m].shape, d, generator=draw) * valid[m].unsqueeze(-1) for m, d in shape.widths.items()}
    y = torch.randint(0, len(shape.classes), (n,), generator=draw) if shape.classes else torch.randn(n, generator=draw)
    return Batch(x=x, frames=dict(valid), valid=valid, y=y)


def patterns(batch, shown):
    """The view with the modalities `shown[i]` of utterance i, and that of the others."""
    kept = {m: torch.tensor([m in some for some in shown]).unsqueeze(1) for m in batch.x}
    return batch.show(kept), batch.show({m: ~there for m, there in kept.items()})


def step_of(method, batch, shown, parent):
    """A step as training makes it, the parent asked about the lost modalities."""
    student, lost = patterns(batch, shown)
    with torch.no_grad():
        told = parent(lost)
    return Step({"student": student, "lost": lost}, told={"pretraining": told})


# --- golden files ---


def cascade_names(ours, theirs, blocks):
    layers = [
        (f"{part}s.{i}.{j}", f"{part}_{i}.{j}")
        for part in ("encoder", "decoder")
        for i in range(blocks)
        for j in (0, 2, 4)
    ]
    return {
        f"{ours}.{o}": f"{theirs}.{t}"
        for o, t in [*layers, ("transition.0", "transition.0"), ("transition.2", "transition.2")]
    }


def perceptron_names(ours, theirs):
    return {f"{ours}.layers.{i}": f"{theirs}.{t}" for i, t in enumerate(("module.0", "module.3", "fc_out"))}


def encoder_names(form, prefix=""):
    """Our layers -> theirs, of the three encoders."""
    if form == "utterance":
        return {o: t for m in "alv" for o, t in perceptron_names(f"encoders.{m}", f"{prefix}net{m.upper()}").items()}
    text = {f"encoders.l.filters.{i}": f"{prefix}netL.conv{i + 1}" for i in range(3)}
    return (
        {"encoders.a.rnn": f"{prefix}netA.rnn", "encoders.v.rnn": f"{prefix}netV.rnn"}
        | text
        | {"encoders.l.project": f"{prefix}netL.embd.0"}
    )


def load(method, data, names):
    """Copy the golden parameters of the named layers; returns the keys that were read."""
    read = set()
    for ours, theirs in names.items():
        for part, parameter in method.get_submodule(ours).named_parameters():
            value = torch.from_numpy(data[f"sd/{theirs}.{part}"])
            value = value.squeeze(1).mT if value.dim() == 4 else value  # their filters are of two dimensions
            with torch.no_grad():
                parameter.copy_(value)
            read.add(f"sd/{theirs}.{part}")
    return read


def golden_pair(form):
    """(our method, its frozen parent, the step of the six patterns, the golden file)."""
    data = np.load(GOLDEN / ("gcmmin.npz" if form == "utterance" else "mmin.npz"), allow_pickle=False)
    x = {m: torch.from_numpy(data[f"in/{m.upper()}_feat"]) for m in "alv"}
    x = {m: t if t.dim() == 3 else t.unsqueeze(1) for m, t in x.items()}
    valid = {m: torch.ones(t.shape[:2], dtype=torch.bool) for m, t in x.items()}
    batch = Batch(x=x, frames=dict(valid), valid=valid, y=torch.from_numpy(data["in/label"]))
    widths, lengths = {m: t.shape[2] for m, t in x.items()}, {m: t.shape[1] for m, t in x.items()}
    method, parent = (method_of(form, widths, lengths) for _ in range(2))  # modalities in the golden order a, l, v
    cascades = cascade_names("forth", "netAE", 2) | cascade_names("back", "netAE_cycle", 2)
    read = load(method, data, encoder_names(form) | cascades | perceptron_names("head", "netC"))
    read |= load(parent, data, encoder_names(form, "pre.") | perceptron_names("first_head", "pre.netC"))
    assert read == {key for key in data.files if key.startswith("sd/")}
    index = data["in/missing_index"]  # its columns are a, v, l
    assert [tuple(m for m, there in zip("avl", row, strict=True) if there) for row in index] == PATTERNS
    return method, parent, step_of(method, batch, PATTERNS, parent), data


@golden
@FORMS
def test_golden_outputs_and_losses(form):
    method, _, step, data = golden_pair(form)
    output = method(step.views["student"])
    again, _ = method.back(output.extras["imagined"])
    found = {"logits": output.logits, "latent": output.embedding, "recon_fusion": output.extras["imagined"]}
    found |= {"feat_fusion_miss": output.extras["f"], "recon_cycle": again}
    found |= {"T_embds": step.told["pretraining"].extras["f"]}
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor.detach(), torch.from_numpy(data[f"out/{name}"]), rtol=1e-5, atol=1e-6, msg=name
        )
    terms, weights = method.losses(step, clock=METHOD), method.weights(METHOD)
    for ours, theirs in (("task", "CE"), ("imagine", "mse"), ("cycle", "cycle")):  # theirs are weighted
        assert float(terms[ours].detach()) * weights[ours] == pytest.approx(float(data[f"out/loss_{theirs}"]), rel=1e-5)


@golden
def test_golden_cascade_with_a_code():
    """CIF-MMIN reminds every block of the invariant code."""
    data = np.load(GOLDEN / "cifmmin.npz", allow_pickle=False)
    cascade = torch.nn.ModuleDict({"forth": Cascade(12, (10, 6, 3), 2)})
    load(cascade, data, cascade_names("forth", "netAE", 2))
    fused, code = (torch.from_numpy(data[f"out/{name}"]) for name in ("feat_fusion_miss", "consistent_miss"))
    imagined, _ = cascade["forth"](fused, code)
    torch.testing.assert_close(imagined.detach(), torch.from_numpy(data["out/recon_fusion"]), rtol=1e-5, atol=1e-6)


def count(method, parts):
    return sum(p.numel() for name, p in method.named_parameters() if name.startswith(parts))


@pytest.mark.parametrize(
    ("form", "widths", "second", "first"),
    [
        ("utterance", {"l": 1024, "a": 512, "v": 1024}, 3_874_052, 493_444),
        ("frames", {"l": 1024, "a": 130, "v": 342}, 5_444_228, 2_063_620),
    ],
)
def test_parameter_counts(form, widths, second, first):
    shape = Shape(widths, {m: 1 for m in widths}, "classification", ("happy", "sad", "angry", "neutral"))
    method = MMIN(shape, MMINOptions.of(form=form))
    assert count(method, ("encoders.", "forth.", "back.", "head.")) == second
    assert count(method, ("encoders.", "first_head.")) == first
    assert count(method, ("forth.",)) == 1_694_400


# --- what is read ---


@FORMS
def test_student_and_teacher_read_disjoint_modalities(form):
    method = method_of(form)
    stacked = batch_of(method.shape, 400).take(torch.arange(400).unsqueeze(0))
    views, _ = method.views(stacked, Draws([0], 0))
    there = {view: torch.stack([views[view].frames[m].any(-1)[0] for m in "lav"], 1) for view in ("student", "lost")}
    assert bool((there["student"] ^ there["lost"]).all())
    assert set(map(tuple, there["student"].tolist())) == {
        tuple(m in some for m in "lav") for some in map(set, PATTERNS)
    }  # the full pattern never occurs
    full, _ = method_of(form, complete_case="yes").views(stacked, Draws([0], 0))
    assert bool(torch.stack([full["student"].frames[m].any(-1) for m in "lav"]).all(0).any())


@FORMS
def test_what_is_missing_and_padding_are_never_read(form):
    method, parent = method_of(form), method_of(form, seed=1)
    batch = batch_of(method.shape)
    shown = (PATTERNS * 2)[:9]
    noisy = batch._replace(x={m: x + 3 * batch.valid[m].unsqueeze(-1) for m, x in batch.x.items()})
    student, _ = patterns(batch, shown)
    mixed, _ = patterns(noisy, [set("lav") - set(some) for some in shown])  # other features where the view is dark
    mixed = student._replace(x={m: student.x[m] + mixed.x[m] for m in "lav"})
    assert torch.equal(method(mixed.show(student.frames)).logits, method(student).logits)
    step, other = (step_of(method, b, shown, parent) for b in (batch, noisy))
    assert not torch.equal(step.told["pretraining"].extras["f"], other.told["pretraining"].extras["f"])
    only = {
        m: torch.where(torch.tensor([m in some for some in shown])[:, None, None], noisy.x[m], batch.x[m])
        for m in "lav"
    }
    changed = step_of(
        method, batch._replace(x=only), shown, parent
    )  # what the student sees is not what it is taught on
    assert torch.equal(changed.told["pretraining"].extras["f"], step.told["pretraining"].extras["f"])
    behind = torch.nan if form == "frames" else 0
    padded = {m: torch.where(batch.valid[m].unsqueeze(-1), batch.x[m], behind) for m in "lav"}
    longer = [
        {m: F.pad(t, (0, 0, 0, 3) if t.dim() == 3 else (0, 3)) for m, t in f.items()} for f in (padded, batch.valid)
    ]
    extended = Batch(x=longer[0], frames=longer[1], valid=longer[1], y=batch.y)
    torch.testing.assert_close(method(extended).logits, method(batch).logits)


def test_pooling_over_padding_is_the_literal_reading():
    method, literal = (method_of("frames", pooling=pooling) for pooling in ("valid", "all"))
    batch = batch_of(method.shape)
    whole = {m: torch.ones_like(valid) for m, valid in batch.valid.items()}
    unpadded = batch._replace(valid=whole, frames=whole)
    torch.testing.assert_close(method(unpadded).logits, literal(unpadded).logits)
    assert not torch.allclose(method(batch).logits, literal(batch).logits)


def test_encoders_against_loops():
    torch.manual_seed(0)
    x, valid = torch.randn(4, 9, 6), torch.rand(4, 9) > 0.5
    valid[3] = torch.arange(9) == 4  # one frame
    lstm, text = LSTMEncoder(6, 5, "max").eval(), TextCNN(6, 5, channels=3).eval()
    front, there = to_front(x, valid)
    for i in range(4):
        own = x[i, valid[i]]
        torch.testing.assert_close(front[i, : len(own)], own)
        assert not front[i, len(own) :].any()
        assert int(there[i].sum()) == len(own)
        torch.testing.assert_close(lstm(x, valid)[i], lstm.rnn(own)[0].amax(0))
        found = []
        for kernel, filters in zip((3, 4, 5), text.filters, strict=True):
            words = F.pad(own, (0, 0, 0, max(0, kernel - len(own))))
            found.append(torch.relu(filters(words.T)).amax(-1))
        torch.testing.assert_close(text(x, valid)[i], torch.relu(text.project(torch.cat(found))))


def test_text_shorter_than_a_filter_and_nothing_valid():
    method = method_of("frames", lengths={"l": 2, "a": 1, "v": 3})
    batch = batch_of(method.shape)
    nothing = {m: torch.zeros_like(valid) for m, valid in batch.valid.items()}
    dark = batch.show(nothing)
    assert torch.isfinite(method(dark._replace(valid=nothing)).logits).all()
    assert torch.isfinite(method(batch).logits).all()


@FORMS
def test_without_any_input_the_answer_is_one_of_the_lengths(form):
    """A missing modality enters as the embedding of zeros: utterance vectors of nothing are all alike."""
    method = method_of(form)
    batch = batch_of(method.shape, 30)
    logits = method(batch.show({m: torch.zeros_like(v) for m, v in batch.valid.items()})).logits
    spread = float((logits - logits[:1]).abs().max().detach())
    assert (spread < 1e-6) == (form == "utterance")


# --- what moves ---


def moved(method, term):
    """The sub-networks that a term moves."""
    method.zero_grad()
    term.backward(retain_graph=True)
    return {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}


@FORMS
def test_each_loss_moves_what_it_should(form):
    method, parent = method_of(form), method_of(form, seed=1)
    step = step_of(method, batch_of(method.shape), (PATTERNS * 2)[:9], parent)
    terms = method.losses(step, clock=METHOD)
    assert moved(method, terms["task"]) == {"encoders", "forth", "head"}
    assert moved(method, terms["imagine"]) == {"encoders", "forth"}
    assert moved(method, terms["cycle"]) == {"encoders", "forth", "back"}
    assert all(p.grad is None for p in parent.parameters())
    first, _ = method.losses(step, clock=PRETRAINING)
    assert moved(method, first["task"]) == {"encoders", "first_head"}


def test_the_cycle_does_not_move_its_target():
    """The gradient of the cycle to f is that through the way forth and back alone."""
    method = method_of("utterance")
    batch = batch_of(method.shape)
    step = step_of(method, batch, (PATTERNS * 2)[:9], method)
    weight = method.encoders["a"].layers[-1].weight
    found = torch.autograd.grad(method.losses(step, clock=METHOD)["cycle"], weight)[0]
    f = method.encode(step.views["student"], 0.5)
    target = f.detach().clone()
    expected = torch.autograd.grad((method.back(method.forth(f)[0])[0] - target).square().mean(), weight)[0]
    torch.testing.assert_close(found, expected)
    attached = torch.autograd.grad(
        (method.back(method.forth(f := method.encode(step.views["student"], 0.5))[0])[0] - f).square().mean(), weight
    )[0]
    assert not torch.allclose(found, attached)


def test_cascade_by_hand():
    torch.manual_seed(0)
    cascade, f, code = Cascade(4, (3, 2), 2), torch.randn(5, 4), torch.randn(5, 4)
    z1 = cascade.encoders[0](f)
    x2 = f + cascade.decoders[0](z1)
    z2 = cascade.encoders[1](x2)
    imagined, latent = cascade(f)
    torch.testing.assert_close(latent, torch.cat([z1, z2], -1))
    torch.testing.assert_close(imagined, cascade.transition(x2 + cascade.decoders[1](z2)))
    z1 = cascade.encoders[0](f + code)
    torch.testing.assert_close(cascade(f, code)[1][:, :2], z1)
    torch.testing.assert_close(cascade(f, code)[1][:, 2:], cascade.encoders[1](cascade.decoders[0](z1) + code))


def test_shared_weights_are_one_cascade():
    method = method_of("utterance", share_weight="yes")
    step = step_of(method, batch_of(method.shape), (PATTERNS * 2)[:9], method)
    terms = method.losses(step, clock=METHOD)
    assert moved(method, terms["cycle"]) == {"encoders", "forth"}
    assert not any(name.startswith("back.") for name in method.state_dict())


# --- stages ---


def test_stages_are_start_and_teacher_at_once():
    first, second = MMIN.stages(MMINOptions.of())
    assert (first.name, first.views, dict(first.settings)) == ("pretraining", "complete", {"betas": (0.9, 0.999)})
    assert second.name == "method"
    assert dict(second.starts_from) == {"pretraining": ("encoders.",)}
    assert dict(second.taught_by) == {"pretraining": ("lost",)}
    options, settings = FRAMES
    first, _ = MMIN.stages(MMINOptions.of(**options))
    assert dict(first.settings) == {"betas": (0.9, 0.999), "clip": 0.5, "epochs": 20}
    assert (settings["betas"], settings["clip"], settings["clip_by"]) == ((0.5, 0.999), 1.0, "norm of groups")
    assert RECIPE.printed["iemocap"][1]["epochs"] == 100


def test_the_first_training_is_validated_on_its_own_head():
    method = method_of("utterance")
    batch = batch_of(method.shape)
    second = method(batch).logits
    _, kept = method.losses(Step({"student": batch}), clock=PRETRAINING)
    method.after_step(Step({"student": batch}), kept, clock=PRETRAINING)
    first = method(batch).logits
    torch.testing.assert_close(first, method.first_head(method.encode(batch, 0.3), 0.3))
    assert not torch.allclose(first, second)
    told = method_of("utterance")
    told.load_state_dict(method.state_dict())
    assert torch.equal(told(batch).logits, first)


@FORMS
@pytest.mark.parametrize("share_weight", ["no", "yes"])
def test_each_parameter_is_in_one_group_by_sub_network(form, share_weight):
    method = method_of(form, share_weight=share_weight)
    groups = [group.prefixes for group in method.groups(METHOD)]
    for name, _ in method.named_parameters():
        assert sum(name.startswith(prefixes) for prefixes in groups) == 1, name
    assert method.vmappable == (form == "utterance")


@pytest.mark.parametrize(
    ("form", "how", "small"),
    [("utterance", "as-form", True), ("utterance", "kaiming", False), ("frames", "as-form", False)],
)
def test_initial_weights(form, how, small):
    method = method_of(form, initial_weights=how, width=40, outer=60, hidden=50)
    weight = method.forth.transition[0].weight
    expected = 0.02 if small else (2 / weight.shape[1]) ** 0.5
    assert float(weight.std().detach()) == pytest.approx(expected, rel=0.05)
    weight = method.first_head.layers[0].weight
    assert float(weight.std().detach()) == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.05)
    assert not any(p.any() for name, p in method.named_parameters() if name.endswith("bias") and "rnn" not in name)


@FORMS
@pytest.mark.parametrize("widths", [{"l": 6}, {"a": 4, "v": 3}, {"l": 6, "a": 4, "v": 3, "gaze": 2}])
def test_any_modalities_and_scores(form, widths):
    method = method_of(form, widths, {m: 1 + 3 * i for i, m in enumerate(widths)}, classes=())
    batch = batch_of(method.shape)
    views, _ = method.views(batch.take(torch.arange(9).unsqueeze(0)), Draws([0], 0))
    views = {name: view.take(0) for name, view in views.items()}
    terms = method.losses(Step(views, told={"pretraining": method(views["lost"])}), clock=METHOD)
    assert all(torch.isfinite(term) for term in terms.values())
    prediction = method(views["student"]).logits
    torch.testing.assert_close(terms["task"], F.mse_loss(prediction.squeeze(-1), batch.y))
