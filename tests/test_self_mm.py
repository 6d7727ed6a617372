"""Self-MM against golden outputs of its public implementation; the rule that makes labels against its properties."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_lib.data.batch import Batch, Shape
from mmkd_lib.methods.base import Clock, Step, Train
from mmkd_lib.methods.self_mm import (
    RECIPE,
    SelfMM,
    SelfMMOptions,
    class_sums,
    moved_labels,
    proposed_labels,
    relative_distance,
)
from mmkd_lib.support.draws import Draws

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "self_mm.npz"
golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden is not here")
SMALL = {"hidden_l": 5, "out_l": 4, "hidden_a": 3, "out_a": 3, "hidden_v": 4, "out_v": 5, "post_joint": 6}
SMALL |= {"post_l": 4, "post_a": 3, "post_v": 5, "dropout_l": 0.0, "dropout_a": 0.0}
MOSEI = {"hidden_a": 32, "hidden_v": 32, "post_l": 32, "post_v": 16}
OF_GOLDEN = {"text_net": "vector", "hidden_a": 6, "out_a": 4, "hidden_v": 5, "out_v": 3}
OF_GOLDEN |= {"post_joint": 8, "post_l": 5, "post_a": 4, "post_v": 6}


def shape_of(widths, lengths, classes=()):
    return Shape(widths, lengths, "classification" if classes else "regression", tuple(classes))


def method_of(widths=None, lengths=None, classes=(), seed=0, **options):
    widths = widths or {"l": 6, "a": 4, "v": 3}
    torch.manual_seed(seed)
    lengths = lengths or {m: 7 for m in widths}
    return SelfMM(shape_of(widths, lengths, classes), SelfMMOptions.of(**SMALL | options)).eval()


def batch_of(shape, n, seed=0):
    """Utterances of unequal lengths, padding behind."""
    draw = torch.Generator().manual_seed(seed)
    x, valid = {}, {}
    for m, width in shape.widths.items():
        steps = shape.lengths[m]
        ends = torch.randint(1, steps + 1, (n, 1), generator=draw)
        valid[m] = torch.arange(steps) < ends
        x[m] = torch.randn(n, steps, width, generator=draw) * valid[m].unsqueeze(-1)
    if shape.classes:
        y = torch.randint(0, len(shape.classes), (n,), generator=draw)
    else:
        y = torch.randint(-6, 7, (n,), generator=draw) / 2
    return Batch(x=x, frames=dict(valid), valid=valid, y=y)


def clock_of(epoch, stage="method"):
    return Clock(stage, epoch, 10, 0, 1)


def epoch_of(method, batch, epoch, size=5):
    """One pass over the batches in an order of the epoch's own, as training makes it; the terms of the last one."""
    order = torch.randperm(len(batch.y), generator=torch.Generator().manual_seed(epoch))
    for rows in order.split(size):
        step = Step({"student": batch.take(rows)}, rows=rows)
        terms, kept = method.losses(step, clock=clock_of(epoch))
        method.after_step(step, {name: f.detach() for name, f in kept.items()}, clock=clock_of(epoch))
    return terms


def loaded(data):
    """Our network with the golden parameters: theirs are called after modalities t, a, v and fusion."""
    shape = shape_of({"l": 10, "a": 7, "v": 5}, {"l": 1, "a": 9, "v": 9})
    method = SelfMM(shape, SelfMMOptions.of(**OF_GOLDEN)).eval()
    names = {}
    for ours, theirs in (("a", "audio"), ("v", "video")):
        for part in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            names[f"nets.{ours}.lstm.rnn.{part}"] = f"{theirs}_model.rnn.{part}"
        for part in ("weight", "bias"):
            names[f"nets.{ours}.project.{part}"] = f"{theirs}_model.linear_1.{part}"
    for ours, theirs in (("joint", "fusion"), ("l", "text"), ("a", "audio"), ("v", "video")):
        for number, layer in enumerate(("first", "second", "last"), 1):
            for part in ("weight", "bias"):
                names[f"heads.{ours}.{layer}.{part}"] = f"post_{theirs}_layer_{number}.{part}"
    assert {f"state/{name}" for name in names.values()} == {key for key in data.files if key.startswith("state/")}
    method.load_state_dict({ours: torch.from_numpy(data[f"state/{theirs}"]) for ours, theirs in names.items()})
    return method, names


def golden_batch(data):
    x = {"l": data["in/text_cls"][:, None], "a": data["in/audio"], "v": data["in/vision"]}
    valid = {"l": torch.ones(5, 1, dtype=torch.bool)}
    valid |= {m: torch.arange(9) < torch.from_numpy(data[f"in/len_{m}"]).unsqueeze(1) for m in "av"}
    x = {m: torch.from_numpy(values) * valid[m].unsqueeze(-1) for m, values in x.items()}
    return Batch(x=x, frames=dict(valid), valid=valid, y=torch.from_numpy(data["in/lab_m"]))


@golden
def test_golden_outputs_loss_and_gradients():
    data = np.load(GOLDEN, allow_pickle=False)
    method, names = loaded(data)
    batch = golden_batch(data)
    method.begin(Train(batch))
    output = method(batch)
    for ours, scores, features in (("joint", "M", "f"), ("l", "T", "t"), ("a", "A", "a"), ("v", "V", "v")):
        torch.testing.assert_close(
            output.extras[f"logits {ours}"], torch.from_numpy(data[f"out/{scores}"]), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(
            output.extras[f"features {ours}"], torch.from_numpy(data[f"out/Feature_{features}"]), rtol=1e-5, atol=1e-6
        )
    table = [data[f"in/lab_{name}"] for name in "mtav"]
    method.labels.copy_(torch.from_numpy(np.stack(table, 1)).unsqueeze(-1))
    terms, _ = method.losses(Step({"student": batch}, rows=torch.arange(5)), clock=clock_of(2))
    total = sum(terms.values())
    assert float(total.detach()) == pytest.approx(float(data["out/loss_scalar"]), rel=1e-5)
    total.backward()
    for ours, theirs in names.items():
        norm = float(method.get_parameter(ours).grad.norm())
        assert norm == pytest.approx(float(data[f"gradnorm/{theirs}"]), rel=1e-4), ours


@golden
def test_golden_labels_of_three_epochs():
    data = np.load(GOLDEN, allow_pickle=False)
    method, _ = loaded(data)
    y = torch.from_numpy(data["in/labels_m"])
    method.begin(Train(golden_batch(data)._replace(y=y)))
    for epoch in (1, 2, 3):
        for rows in torch.arange(10).split(5):
            kept = {
                ours: torch.from_numpy(data[f"in/feat_epoch{epoch}_{theirs}"])[rows]
                for ours, theirs in (("joint", "f"), ("l", "t"), ("a", "a"), ("v", "v"))
            }
            method.after_step(Step({}, rows=rows), kept, clock=clock_of(epoch))
        table = torch.from_numpy(data["out/label_map_epochs123_ftav"][epoch - 1])  # (4, 10)
        # labels reach 3; near 0 they are differences, and their centres were means in single precision
        torch.testing.assert_close(method.labels.squeeze(-1).T, table, rtol=1e-5, atol=3e-6)
    assert not torch.equal(method.labels[:, 1], method.labels[:, 0])


@pytest.mark.parametrize(
    ("width", "options", "count"),
    [(768, {"text_net": "vector"}, 172_532), (300, {"text_net": "vector"}, 97_652), (300, {}, 306_804)],
)
def test_parameter_counts_of_the_mosei_configuration(width, options, count):
    shape = shape_of({"l": width, "a": 74, "v": 35}, {"l": 50, "a": 50, "v": 50})
    method = SelfMM(shape, SelfMMOptions.of(**MOSEI | options))
    assert sum(p.numel() for p in method.parameters()) == count


def test_the_printed_mosei_options_have_the_official_size():
    method = SelfMM(
        shape_of({"l": 300, "a": 74, "v": 35}, {m: 50 for m in "lav"}), SelfMMOptions.of(**RECIPE.printed["mosei"][0])
    )
    assert sum(p.numel() for p in method.parameters()) == 306_804


@settings(deadline=None, max_examples=40)
@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(-3, 3), st.floats(0.1, 5))
def test_proposed_labels_are_the_equation_and_stay_in_bounds(own, joint, y, bound):
    found = float(proposed_labels(*(torch.tensor(v, dtype=torch.float64) for v in (own, joint, y)), bound))
    expected = 0.5 * own / (joint + 1e-8) * y + 0.5 * (y + own - joint)
    assert found == pytest.approx(max(-bound, min(bound, expected)), rel=1e-9, abs=1e-12)
    assert -bound <= found <= bound


def test_a_task_that_is_as_sure_as_the_joint_one_proposes_the_human_label():
    delta, y = torch.tensor([-0.7, 0.2, 3.0]), torch.tensor([-2.0, 0.5, 1.0])
    torch.testing.assert_close(proposed_labels(delta, delta, y, 3.0), y)


def test_momentum_weights():
    """n = 1 takes the proposal; the weights sum to one; constant proposals give the mean weighted by the epoch."""
    old, new = torch.tensor([1.0]), torch.tensor([-2.0])
    assert float(moved_labels(old, new, 1)) == -2.0
    assert float(moved_labels(old, new, 2)) == pytest.approx(1 / 3 - 4 / 3)
    labels, proposals = torch.zeros(()), [float(v) for v in np.random.default_rng(0).normal(size=9)]
    for epoch, proposal in enumerate(proposals, 1):
        labels = moved_labels(labels, torch.tensor(proposal), epoch)
    weighted = sum(n * v for n, v in enumerate(proposals, 1)) / sum(range(1, 10))
    assert float(labels) == pytest.approx(weighted, rel=1e-5)


def test_relative_distance_by_hand_and_without_the_width():
    centres = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])  # positive, negative
    assert float(relative_distance(torch.zeros(1, 2), centres)) == pytest.approx((1 - 5) / 5)
    scaled = relative_distance(torch.zeros(1, 2), centres / math.sqrt(2))
    torch.testing.assert_close(scaled, relative_distance(torch.zeros(1, 2), centres))


@pytest.mark.parametrize(("zero", "positive"), [("left out", 1), ("positive", 2)])
def test_where_neutral_utterances_count(zero, positive):
    features = torch.tensor([[1.0], [10.0], [100.0]])
    sums, counts = class_sums(features, torch.tensor([[1.0], [0.0], [-1.0]]), zero)
    assert counts.flatten().tolist() == [positive, 1]
    assert sums.flatten().tolist() == [1.0 if positive == 1 else 11.0, 100.0]


@pytest.mark.parametrize("classes", [(), ("happy", "sad", "angry")])
@pytest.mark.parametrize("zero", ["left out", "positive"])
def test_running_sums_are_those_of_the_whole_table(classes, zero):
    method = method_of(classes=classes, zero=zero)
    batch = batch_of(method.shape, 17)
    method.begin(Train(batch))
    for epoch in range(1, 5):
        epoch_of(method, batch, epoch)
        with torch.no_grad():  # the network moves, so that features and signs of labels change
            for parameter in method.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    assert bool((method.labels[:, 1:].sign() != method.labels[:, :1].sign()).any())
    for number, name in enumerate(method.subtasks):
        sums, counts = class_sums(getattr(method, f"features_{name}"), method.labels[:, number], zero)
        torch.testing.assert_close(getattr(method, f"sums_{name}"), sums, rtol=1e-9, atol=1e-9)
        assert torch.equal(getattr(method, f"counts_{name}"), counts)


def test_labels_move_from_the_second_epoch_and_the_human_one_never():
    method = method_of()
    batch = batch_of(method.shape, 15)
    method.begin(Train(batch))
    terms = epoch_of(method, batch, 1)
    assert all(float(term.detach()) == 0 for name, term in terms.items() if name != "task")
    assert torch.equal(method.labels, batch.y.view(-1, 1, 1).expand_as(method.labels))
    epoch_of(method, batch, 2)
    assert torch.equal(method.labels[:, 0, 0], batch.y)
    assert bool((method.labels[:, 1:] != method.labels[:, :1]).any())
    assert float(method.labels.abs().max()) <= 3
    early = method_of(labels_from=1)
    early.begin(Train(batch))
    epoch_of(early, batch, 1)
    assert bool((early.labels[:, 1:] != early.labels[:, :1]).any())


def test_only_the_rows_of_the_batch_move():
    method = method_of()
    batch = batch_of(method.shape, 12)
    method.begin(Train(batch))
    epoch_of(method, batch, 1)
    before, rows = method.labels.clone(), torch.tensor([7, 2, 11])
    step = Step({"student": batch.take(rows)}, rows=rows)
    with torch.no_grad():
        method.after_step(step, method.losses(step, clock=clock_of(3))[1], clock=clock_of(3))
    others = [row for row in range(12) if row not in rows.tolist()]
    assert torch.equal(method.labels[others], before[others])
    assert not torch.equal(method.labels[rows], before[rows])


def test_labels_stay_where_a_class_has_no_centre():
    method = method_of()
    batch = batch_of(method.shape, 10)
    batch = batch._replace(y=batch.y.abs() + 0.5)  # nobody is negative
    method.begin(Train(batch))
    for epoch in (1, 2, 3):
        epoch_of(method, batch, epoch)
    assert torch.equal(method.labels, batch.y.view(-1, 1, 1).expand_as(method.labels))


def test_labels_carry_no_gradient_and_unimodal_losses_do():
    method = method_of()
    batch = batch_of(method.shape, 10)
    method.begin(Train(batch))
    for epoch in (1, 2):
        epoch_of(method, batch, epoch)
    assert not any(buffer.requires_grad for buffer in method.buffers())
    rows = torch.tensor([8, 3, 5, 0])
    terms, kept = method.losses(Step({"student": batch.take(rows)}, rows=rows), clock=clock_of(3))
    said, label, y = method(batch).extras["logits a"][rows], method.labels[rows, 2], batch.y[rows].unsqueeze(1)
    torch.testing.assert_close(terms["unimodal a"], (torch.tanh((label - y).abs()) * (said - label).abs()).mean())
    assert float(terms["unimodal a"].detach()) > 0
    with torch.no_grad():
        method.after_step(Step({}, rows=rows), kept, clock=clock_of(3))
    assert all(torch.equal(getattr(method, f"features_{name}")[rows], kept[name]) for name in method.subtasks)
    terms["unimodal a"].backward()
    moved = {name.split(".")[1] for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"a"}


def test_neither_padding_nor_what_is_missing_is_read():
    method = method_of()
    batch = batch_of(method.shape, 6)
    padded = {m: torch.where(batch.valid[m].unsqueeze(-1), batch.x[m], torch.nan) for m in batch.x}
    torch.testing.assert_close(method(batch._replace(x=padded)).logits, method(batch).logits)
    other = batch._replace(x=batch.x | {"v": batch.x["v"].flip(0) * batch.valid["v"].unsqueeze(-1) + 1})
    assert not torch.equal(method(other).logits, method(batch).logits)
    assert torch.equal(method(other.keep("l+a")).logits, method(batch.keep("l+a")).logits)


def test_padding_in_front_is_padding_behind():
    method = method_of()
    batch = batch_of(method.shape, 6)
    front = [{m: t.flip(1) for m, t in field.items()} for field in (batch.x, batch.valid)]
    order = {m: (~valid).int().argsort(dim=1, stable=True) for m, valid in front[1].items()}
    behind = [
        {m: torch.stack([row[i] for row, i in zip(t, order[m], strict=True)]) for m, t in f.items()} for f in front
    ]
    outputs = [method(Batch(x=x, frames=dict(v), valid=v, y=batch.y)).logits for x, v in (front, behind)]
    torch.testing.assert_close(*outputs)


def test_a_missing_modality_is_a_constant_of_its_length():
    """No treatment of missing modalities: an LSTM over zeros depends on the length alone."""
    method = method_of()
    batch = batch_of(method.shape, 40).keep("l+v")
    vectors, lengths = method.encode("a", batch), batch.valid["a"].sum(1)
    for length in range(1, 8):
        same = vectors[lengths == length]
        assert len(same)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert len(vectors.round(decimals=6).unique(dim=0)) == 7


@pytest.mark.parametrize("classification", ["scores", "cross-entropy"])
def test_classes(classification):
    method = method_of(classes=("happy", "sad", "angry", "neutral"), classification=classification)
    batch = batch_of(method.shape, 20)
    method.begin(Train(batch))
    for epoch in (1, 2, 3):
        for rows in torch.arange(20).split(5):
            step = Step({"student": batch.take(rows)}, rows=rows)
            found = method.losses(step, clock=clock_of(epoch))
            if classification == "scores":
                kept = {name: features.detach() for name, features in found[1].items()}
                method.after_step(step, kept, clock=clock_of(epoch))
    logits = method(batch).logits.detach()
    assert logits.shape == (20, 4)
    assert torch.equal(method.answer.prediction(logits).argmax(-1), logits.argmax(-1))
    if classification == "cross-entropy":
        assert not list(method.buffers())
        expected = torch.nn.functional.cross_entropy(method(step.views["student"]).extras["logits a"], batch.y[rows])
        torch.testing.assert_close(found["unimodal a"], expected)
        return
    human = torch.full((20, 4), -1.0).scatter(1, batch.y.unsqueeze(1), 1.0)
    assert torch.equal(method.labels[:, 0], human)
    assert float(method.labels.abs().max()) <= 1
    torch.testing.assert_close(method.answer.loss(logits, batch.y), (logits - human).abs().mean())
    shares = torch.nn.functional.one_hot(batch.y, 4).float()
    torch.testing.assert_close(method.answer.soft(logits, shares), method.answer.loss(logits, batch.y))


def test_views_are_complete_unless_asked_for():
    stacked = batch_of(method_of().shape, 30).take(torch.arange(30).unsqueeze(0))
    views, _ = method_of().views(stacked, Draws([0], 0))
    assert all(torch.equal(views["student"].x[m], stacked.x[m]) for m in "lav")
    views, _ = method_of(train_missing="mrm").views(stacked, Draws([0], 0))
    assert any(bool((views["student"].frames[m] != stacked.frames[m]).any()) for m in "lav")


def test_each_parameter_is_in_one_group_with_its_rate():
    method = method_of({"l": 6, "a": 4, "v": 3, "vv": 2}, lr_a=5.0, decay_a=0.25)
    groups = method.groups(clock_of(1))
    for name, _ in method.named_parameters():
        assert sum(name.startswith(group.prefixes) for group in groups) == 1, name
    audio = next(group for group in groups if "nets.a." in group.prefixes)
    assert (audio.lr, audio.weight_decay) == (5.0, 0.25)
    assert groups[-1].prefixes == ("heads.",)
    assert (groups[-1].lr, groups[-1].weight_decay) == (1.0, None)


@pytest.mark.parametrize("widths", [{"l": 6}, {"a": 4, "v": 3}, {"l": 6, "a": 4, "v": 3, "gaze": 2}])
def test_any_modalities_and_lengths(widths):
    method = method_of(widths, {m: 1 + 3 * i for i, m in enumerate(widths)})
    batch = batch_of(method.shape, 10)
    method.begin(Train(batch))
    for epoch in (1, 2, 3):
        epoch_of(method, batch, epoch)
    assert torch.isfinite(method.labels).all()
    assert method.labels.shape == (10, 1 + len(widths), 1)
