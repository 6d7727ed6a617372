"""MulT against golden outputs of its public implementation, its encoder against loops, its options against what they
say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmkd_lib.data.batch import Batch, Shape, by_length
from mmkd_lib.methods.answers import Classes, Questions
from mmkd_lib.methods.base import Clock, Step
from mmkd_lib.methods.crossmodal import (
    CrossmodalEncoder,
    CrossmodalLayer,
    Dropouts,
    attention,
    attention_mask,
    causal,
    dropped_out,
    embedded,
    sinusoids,
)
from mmkd_lib.methods.mult import RECIPE, MulT, MulTOptions
from mmkd_lib.runs.experiments import plan
from mmkd_lib.support.draws import Draws
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.fit import fit

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "mult.npz"
golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden is not here")
SMALL = {"width": 8, "heads": 2, "depth": 2}
OFFICIAL = {"positions": "nonzero", "padding": "attended", "last": "final"}
CALM = {
    f"{name}_dropout": 0.0 for name in ("embed", "attention", "other_attention", "relu", "residual", "out")
}  # trains as it tests
EMOTIONS = ("happy", "sad", "angry", "neutral")
CLOCK = Clock("method", 1, 10, 0, 1)


def method_of(widths=None, lengths=None, classes=(), seed=0, **options):
    widths = widths or {"l": 6, "a": 4, "v": 3}
    torch.manual_seed(seed)
    task = "classification" if classes else "regression"
    shape = Shape(widths, lengths or {m: 7 for m in widths}, task, tuple(classes))
    return MulT(shape, MulTOptions.of(**SMALL | options)).eval()


def batch_of(shape, n=9, seed=0, where="behind", ends=None):
    """Utterances of unequal lengths; the padding is zeros."""
    draw = torch.Generator().manual_seed(seed)
    x, valid = {}, {}
    for m, width in shape.widths.items():
        steps = shape.lengths[m]
        end = torch.randint(1, steps + 1, (n,), generator=draw) if ends is None else ends
        valid[m] = torch.arange(steps) < end.unsqueeze(1)
        valid[m] = valid[m].flip(1) if where == "in front" else valid[m]
        x[m] = torch.randn(n, steps, width, generator=draw) * valid[m].unsqueeze(-1)
    y = torch.randint(0, len(shape.classes), (n,), generator=draw) if shape.classes else torch.randn(n, generator=draw)
    return Batch(x=x, frames=dict(valid), valid=valid, y=y)


def noisy(batch):
    """Other numbers where there is padding."""
    x = {m: torch.where(batch.valid[m].unsqueeze(-1), x, torch.randn_like(x)) for m, x in batch.x.items()}
    return batch._replace(x=x)


def extended(batch, steps=4):
    """More padding behind."""
    x = {m: F.pad(x, (0, 0, 0, steps)) for m, x in batch.x.items()}
    valid = {m: F.pad(valid, (0, steps)) for m, valid in batch.valid.items()}
    return Batch(x=x, frames=dict(valid), valid=valid, y=batch.y)


def differ(one, other):
    """Whether the answers of every utterance differ."""
    return bool(((one - other).abs() > 1e-4).any(-1).all())


# --- golden file and sizes ---


def golden_names(method):
    """Our parameters -> theirs: a target `l` that reads `a` is trans_l_with_a, a memory trans_l_mem."""
    inside = {"project_in.": "self_attn.in_proj_", "project_out.": "self_attn.out_proj.", "widen.": "fc1."}
    inside |= {"narrow.": "fc2.", "norms.": "layer_norms."}
    whole = {"residual.0": "proj1", "residual.1": "proj2", "head": "out_layer"}
    found = {}
    for name, _ in method.named_parameters():
        part, *rest = name.split(".")
        if part == "projections":
            theirs = f"proj_{rest[0]}.weight"
        elif part in ("crossmodal", "memory"):
            source, _, target = rest[0].partition("_to_")
            encoder = f"trans_{target}_with_{source}" if target else f"trans_{source}_mem"
            last = ".".join(rest[1:])
            last = f"layer_{last}" if last.startswith("norm.") else last
            for ours, there in inside.items():
                last = last.replace(ours, there)
            theirs = f"{encoder}.{last}"
        else:
            layer, _, kind = name.rpartition(".")
            theirs = f"{whole[layer]}.{kind}"
        found[name] = theirs
    return found


@golden
def test_golden_outputs_loss_and_gradients():
    """Unequal lengths 9/11/7, zero frames in front and behind, one modality missing."""
    data = np.load(GOLDEN, allow_pickle=False)
    x = {m: torch.from_numpy(data[f"in/x_{m}"]) for m in "lav"}
    valid = {m: (t != 0).any(-1) for m, t in x.items()}
    batch = Batch(x=x, frames=dict(valid), valid=valid, y=torch.from_numpy(data["in/y"]).squeeze(-1))
    assert not all(bool(there.all()) for there in valid.values())
    sizes = {"width": 30, "heads": 5, "depth": 4}
    method = method_of({m: t.shape[2] for m, t in x.items()}, {m: t.shape[1] for m, t in x.items()}, **OFFICIAL | sizes)
    names = golden_names(method)
    assert {f"gradnorm/{name}" for name in names.values()} == {key for key in data.files if key.startswith("gradnorm/")}
    method.load_state_dict({ours: torch.from_numpy(data[f"state/{theirs}"]) for ours, theirs in names.items()})
    output = method(batch)
    torch.testing.assert_close(output.logits, torch.from_numpy(data["out/pred"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.embedding, torch.from_numpy(data["out/hidden"]), rtol=1e-5, atol=1e-6)
    loss = method.losses(Step({"student": batch}), clock=CLOCK)["task"]
    assert float(loss.detach()) == pytest.approx(float(data["out/loss_scalar"]), rel=1e-6)
    loss.backward()
    for ours, theirs in names.items():
        norm = float(method.get_parameter(ours).grad.norm())
        assert norm == pytest.approx(float(data[f"gradnorm/{theirs}"]), rel=1e-4, abs=1e-7), ours


@pytest.mark.parametrize(
    ("classes", "options", "count"),
    [
        ((), {"width": 30, "heads": 5, "depth": 5}, 1_073_731),
        (EMOTIONS, {"width": 30, "heads": 5, "depth": 5, "heads_per_class": "one-vs-rest"}, 1_074_998),
        ((), {"width": 30, "heads": 10, "depth": 4}, 874_651),
        ((), RECIPE.printed["mosi"][0], 1_540_601),
        ((), {"heads": 8}, 1_540_601),
        (EMOTIONS, {"heads_per_class": "one-vs-rest"}, 1_542_288),
    ],
)
def test_parameter_counts(classes, options, count):
    shape = Shape(
        {"l": 300, "a": 74, "v": 35}, {m: 50 for m in "lav"}, "classification" if classes else "regression", classes
    )
    assert sum(p.numel() for p in MulT(shape, MulTOptions.of(**options)).parameters()) == count


# --- the encoder against loops ---


def looped_positions(x, placed):
    """sqrt(d) x + positions from 1; none for what is not placed."""
    found = math.sqrt(x.shape[2]) * x
    half = x.shape[2] // 2
    for b, t, i in np.ndindex(len(x), x.shape[1], half):
        there = bool(x[b, t, 0] != 0) if placed is None else bool(placed[b, t])
        angle = (t + 1) * 10_000 ** (-i / (half - 1))
        found[b, t, i] += there * math.sin(angle)
        found[b, t, half + i] += there * math.cos(angle)
    return found


def looped_attention(queries, keys, values, allowed, heads):
    """softmax(q k / sqrt(d/H)) v over the keys that allowed(b, i, j) names, head by head."""
    size, found = queries.shape[2] // heads, torch.zeros_like(queries)
    for b, i, h in np.ndindex(len(queries), queries.shape[1], heads):
        own = slice(h * size, (h + 1) * size)
        seen = [j for j in range(keys.shape[1]) if allowed(b, i, j)] or [0]
        scores = torch.stack([queries[b, i, own] @ keys[b, j, own] / math.sqrt(size) for j in seen])
        shares = scores.exp() / scores.exp().sum()
        found[b, i, own] = sum(share * values[b, j, own] for share, j in zip(shares, seen, strict=True))
    return found


def normalised(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def looped_encoder(encoder, target, source=None, exist=None, placed=None, source_placed=None):
    """Section 3.1, its source normalised anew in each layer."""
    x, d = looped_positions(target, placed), target.shape[2]
    still = None if source is None else looped_positions(source, source_placed)
    ahead = 0 if source is None else abs(source.shape[1] - target.shape[1])

    def allowed(b, i, j):
        return (not encoder.causal or j <= i + ahead) and (exist is None or bool(exist[b, j]))

    for layer in encoder.layers:
        weight, bias = layer.project_in.weight, layer.project_in.bias
        own = normalised(x, layer.norms[0])
        other = own if still is None else normalised(still, layer.norms[0])
        queries = own @ weight[:d].T + bias[:d]
        keys, values = (other @ weight[n * d : (n + 1) * d].T + bias[n * d : (n + 1) * d] for n in (1, 2))
        x = x + layer.project_out(looped_attention(queries, keys, values, allowed, layer.heads))
        x = x + layer.narrow(layer.widen(normalised(x, layer.norms[1])).clamp(min=0))
    return normalised(x, encoder.norm)


def encoder_of(seed=0, width=8, heads=2, depth=2, dropouts=None, **how):
    """In float64, its norms and biases not those of an untrained one."""
    torch.manual_seed(seed)
    encoder = CrossmodalEncoder(width, heads, depth, dropouts or Dropouts(), **how).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder


def sequences(target=5, source=4, n=3, width=8):
    """Two sequences with frames of zeros, and which frames of the source exist, one utterance's padding in front."""
    x, y = torch.randn(n, target, width).double(), torch.randn(n, source, width).double()
    x[0, target // 2], y[1, :2], y[2, 1:] = 0, 0, 0
    return x, y, (y != 0).any(-1)


@torch.no_grad()
@pytest.mark.parametrize(("target", "source"), [(5, 5), (5, 3), (3, 6), (4, None), (1, 4), (4, 1)])
@pytest.mark.parametrize("causally", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_encoder_is_the_equations(target, source, causally, masked):
    encoder = encoder_of(causal=causally)
    x, y, exist = sequences(target if source else 5, source or 4)
    y, exist = (y, exist) if source else (None, (x != 0).any(-1))
    if exist.shape[1] > 1:
        exist[0] = torch.arange(exist.shape[1]) > 0  # in front, so that the first query has no key
    exist = exist if masked else None
    expected = looped_encoder(encoder, x, y, exist)
    torch.testing.assert_close(encoder(x, y, exist=exist), expected)
    place = torch.tensor([0, x.shape[1] - 1, x.shape[1] // 2])
    read = encoder(x, y, exist=exist, place=place)
    torch.testing.assert_close(read, expected[torch.arange(3), place])


@torch.no_grad()
def test_positions_of_those_that_are_placed():
    encoder, (x, y, exist) = encoder_of(), sequences(6, 4)
    placed, source_placed = torch.rand(3, 6) > 0.4, ~exist
    found = encoder(x, y, placed=placed, source_placed=source_placed)
    torch.testing.assert_close(found, looped_encoder(encoder, x, y, None, placed, source_placed))
    assert not torch.allclose(found, encoder(x, y))


def test_positions_by_hand():
    table = sinusoids(3, 4, torch.float64, torch.device("cpu"))  # rates 1 and 1/10,000
    expected = [[math.sin(t), math.sin(t / 1e4), math.cos(t), math.cos(t / 1e4)] for t in (1, 2, 3)]
    torch.testing.assert_close(table, torch.tensor(expected, dtype=torch.float64))
    x = torch.tensor([[[0.0, 3.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]]).double()
    found = embedded(x)
    assert torch.equal(found[0, 0], 2 * x[0, 0])  # its first channel is 0: no position
    torch.testing.assert_close(found[0, 1], 2 * x[0, 1] + table[1])


def test_which_keys_a_query_sees():
    assert causal(3, 3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal(2, 4).sum(1).tolist() == [3, 4]
    assert causal(4, 2).all()
    exist = torch.tensor([[False, True, True], [True, True, False]])
    mask = attention_mask(causal(3, 3), exist, torch.zeros(1))
    seen = [[(row == 0).nonzero().flatten().tolist() for row in one] for one in mask]
    assert seen == [[[0], [1], [1, 2]], [[0], [0, 1], [0, 1]]]  # padding in front sees its first frame, for want of any
    assert mask[mask != 0].unique().tolist() == [-math.inf]
    assert attention_mask(None, None, torch.zeros(1)) is None


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_equation_and_torchs(heads):
    torch.manual_seed(0)
    queries, keys, values = torch.randn(3, 5, 8).double(), torch.randn(3, 4, 8).double(), torch.randn(3, 4, 8).double()
    allowed = torch.rand(3, 5, 4) > 0.4
    allowed[..., 0] = True
    found = attention(queries, keys, values, torch.where(allowed, 0.0, -torch.inf).double(), heads)
    torch.testing.assert_close(found, looped_attention(queries, keys, values, lambda b, i, j: allowed[b, i, j], heads))
    parts = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values)]
    torchs = F.scaled_dot_product_attention(*parts, attn_mask=allowed[:, None]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, torchs)


@torch.no_grad()
def test_the_source_is_normalised_once_and_folded():
    """Its keys and values are those of each layer's own norm and projection."""
    encoder, (_, y, _) = encoder_of(depth=3), sequences()
    for layer, (keys, values) in zip(encoder.layers, encoder.of_source(y, None), strict=True):
        own = layer.project_in(layer.norms[0](embedded(y)))
        torch.testing.assert_close(torch.cat([keys, values], -1), own[..., 8:])


@torch.no_grad()
def test_what_is_watched_is_what_is_attended_with():
    encoder, (x, y, exist) = encoder_of(depth=3), sequences()
    seen = []
    encoder(x, y, exist=exist, watch=seen)
    assert len(seen) == 3
    first = encoder.layers[0]
    torch.testing.assert_close(seen[0].queries, first.project_in(first.norms[0](embedded(x)))[..., :8])
    for attended, (keys, _) in zip(seen, encoder.of_source(y, None), strict=True):
        torch.testing.assert_close(attended.keys, keys)
        assert (attended.mask == 0).any(-1).all()


# --- dropout ---


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.97])
def test_dropout_has_its_share_and_keeps_the_mean(share):
    x = torch.rand(401, 1_003, dtype=torch.float64) + 1
    torch.manual_seed(0)
    found = dropped_out(x, share)
    kept = found != 0
    deviation = math.sqrt(share * (1 - share) / x.numel())
    assert abs(float((~kept).double().mean()) - share) < 5 * deviation
    torch.testing.assert_close(found[kept], x[kept] / (1 - share), rtol=2e-3 if share > 0.9 else 1e-4, atol=0)
    assert abs(float(found.mean() / x.mean()) - 1) < 6 * deviation / (1 - share)
    signs = kept.double() - kept.double().mean()
    for lag in (1, 2, 3, 4, 1_003):  # decisions of one random number, and of neighbours
        flat = signs.flatten()
        together = float((flat[lag:] * flat[:-lag]).mean() / flat.square().mean())
        assert abs(together) < 5 / math.sqrt(x.numel()), lag
    assert not torch.equal(dropped_out(x, share) != 0, kept)
    torch.manual_seed(0)
    assert torch.equal(dropped_out(x, share), found)


def test_stacked_networks_drop_what_is_their_own():
    x = torch.ones(3, 40, 1_001)
    found = torch.vmap(lambda one: dropped_out(one, 0.3), randomness="different")(x)
    lost = (found == 0).float()
    assert (lost.mean((1, 2)) - 0.3).abs().max() < 0.02
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(float((lost[one] * lost[other]).mean()) - 0.09) < 0.01
    torch.testing.assert_close(found[found != 0].unique(), torch.tensor([1 / 0.7]), rtol=1e-4, atol=0)


def test_dropout_at_its_ends_and_its_gradient():
    x = torch.randn(3, 7, 5, requires_grad=True)
    assert dropped_out(x, 0.0) is x
    assert torch.isfinite(dropped_out(x, 1 - 1e-9)).all()
    found = dropped_out(x, 0.5)
    found.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), found.detach())


@pytest.mark.parametrize("name", Dropouts._fields)
def test_each_share_drops_what_it_says(name):
    """A share close to one leaves nothing of its branch."""
    share = {"embedding": 1 - 1e-9} if name == "embedding" else {name: 1 - 1e-9}
    encoder, (x, y, _) = encoder_of(depth=1, dropouts=Dropouts(**share)), sequences(6, 6, n=40)
    tested = encoder(x, y).detach()
    torch.testing.assert_close(tested, looped_encoder(encoder, x, y).detach())
    found, layer = encoder.train()(x, y).detach(), encoder.layers[0]
    start = torch.zeros_like(x) if name == "embedding" else embedded(x)
    constant = layer.norms[0].bias @ layer.project_in.weight[16:].T + layer.project_in.bias[16:]
    mixed = layer.project_out(torch.zeros_like(x) if name == "attention" else constant.expand_as(x))
    if name in ("relu", "residual"):
        whole = looped_attention(
            layer.project_in(layer.norms[0](start))[..., :8],
            *encoder.of_source(y, None)[0],
            lambda b, i, j: j <= i,
            layer.heads,
        )
        mixed = layer.project_out(whole) if name == "relu" else torch.zeros_like(x)
    start = start + mixed
    hidden = layer.widen(layer.norms[1](start)).relu() * (name != "relu")
    expected = encoder.norm(start + layer.narrow(hidden) * (name != "residual")).detach()
    untouched = (found - expected).abs().amax(-1) < 1e-6  # one decision in 65,536 keeps a number
    assert float(untouched.double().mean()) > 0.9
    assert not torch.allclose(found, tested)


def test_the_source_is_dropped_out_twice():
    encoder, (_, y, _) = encoder_of(dropouts=Dropouts(embedding=0.5)), sequences(source=30)
    layer = encoder.layers[0]
    with torch.no_grad():  # keys and values project alike
        layer.project_in.weight[8:16] = layer.project_in.weight[16:]
        layer.project_in.bias[8:16] = layer.project_in.bias[16:]
    keys, values = encoder.of_source(y, None)[0]
    torch.testing.assert_close(keys, values)
    keys, values = encoder.train().of_source(y, None)[0]
    assert not torch.isclose(keys, values)[y.any(-1)].all(-1).any()


def test_where_each_share_goes():
    shares = {"embed_dropout": 0.21, "attention_dropout": 0.22, "other_attention_dropout": 0.23}
    shares |= {"relu_dropout": 0.24, "residual_dropout": 0.25, "out_dropout": 0.26}
    method = method_of(**shares)
    assert set(method.crossmodal) == {"a_to_l", "v_to_l", "l_to_a", "v_to_a", "l_to_v", "a_to_v"}
    for name, encoder in method.crossmodal.items():
        attention_share = 0.22 if name.startswith("l_to") else 0.23
        assert encoder.dropouts == Dropouts(0.21, attention_share, 0.24, 0.25), name
        assert all(layer.dropouts == encoder.dropouts for layer in encoder.layers)
    assert all(encoder.dropouts == Dropouts(0.21, 0.22, 0.24, 0.25) for encoder in method.memory.values())
    x = torch.ones(2, 3, 6)
    asked = []
    method.drop = lambda x, share: asked.append(share) or x
    method.project("l", x)
    method.project("a", x[..., :4])
    assert asked == [0.21]
    method(batch_of(method.shape))
    assert asked == [0.21, 0.21, 0.26]


def test_without_shares_training_is_testing():
    method = method_of(**CALM)
    batch = batch_of(method.shape)
    torch.testing.assert_close(method.train()(batch).logits, method.eval()(batch).logits)
    method = method_of()
    assert differ(method.train()(batch).logits, method.eval()(batch).logits)


# --- options ---


def test_encoders_and_memories():
    method = method_of(depth=1)
    assert {len(encoder.layers) for encoder in method.crossmodal.values()} == {1}
    assert {len(encoder.layers) for encoder in method.memory.values()} == {3}
    assert {encoder.norm.normalized_shape for encoder in method.memory.values()} == {(16,)}
    assert {len(encoder.layers) for encoder in method_of(depth=4).memory.values()} == {4}
    assert method.head.in_features == 48


def test_the_network_by_its_parts():
    """h_m = memory([CM_1->m; CM_2->m])[last]; y = W2 (W1 relu(W0 h) + h)."""
    method = method_of(seed=3)
    batch = batch_of(method.shape, where="in front")
    valid = {m: batch.valid[m] | (torch.arange(7) == 0) & ~batch.valid[m].any(1, keepdim=True) for m in "lav"}
    p = {m: (batch.x[m] @ method.projections[m].weight[..., 0].T) for m in "lav"}
    parts = []
    for target, sources in (("l", "av"), ("a", "lv"), ("v", "la")):
        streams = [method.crossmodal[f"{s}_to_{target}"](p[target], p[s], exist=valid[s]) for s in sources]
        parts.append(method.memory[target](torch.cat(streams, -1), exist=valid[target], placed=None)[:, -1])
    h = torch.cat(parts, -1)
    torch.testing.assert_close(method(batch).embedding, h)
    logits = method.head(method.residual[1](method.residual[0](h).relu()) + h)
    torch.testing.assert_close(method(batch).logits, logits)


@torch.no_grad()
@pytest.mark.parametrize("where", ["in front", "behind"])
def test_padding_is_masked_or_attended_to(where):
    readings = [method_of(padding=padding, causal="no", positions="valid") for padding in ("masked", "attended")]
    batch = batch_of(readings[0].shape, ends=torch.tensor([1, 2, 3, 4, 5, 6]), n=6, where=where)
    masked, attended = ([method(b).logits for b in (batch, noisy(batch))] for method in readings)
    torch.testing.assert_close(*masked)
    assert differ(*attended)
    assert differ(masked[0], attended[0])
    whole = {m: torch.ones_like(valid) for m, valid in batch.valid.items()}
    unpadded = batch._replace(valid=whole, frames=whole)
    torch.testing.assert_close(*(method(unpadded).logits for method in readings))


@torch.no_grad()
def test_padding_behind_is_seen_by_nobody_where_no_step_sees_later_ones():
    """Of sequences of one length; the code attends to padding in front, as its files have it."""
    readings = [method_of(padding=padding) for padding in ("masked", "attended")]
    for where, same in (("behind", True), ("in front", False)):
        batch = batch_of(readings[0].shape, ends=torch.tensor([1, 2, 3, 4, 5, 6]), n=6, where=where)
        masked, attended = (method(batch).logits for method in readings)
        assert torch.allclose(masked, attended, atol=1e-5) == same
        assert same or differ(masked, attended)


@torch.no_grad()
def test_the_last_step_is_valid_or_final():
    valid, final = (method_of(last=last, seed=2) for last in ("valid", "final"))
    batch = batch_of(valid.shape, ends=torch.tensor([1, 2, 3, 4, 5, 6]), n=6)
    assert valid.place("l", batch).tolist() == [0, 1, 2, 3, 4, 5]
    assert final.place("l", batch).tolist() == [6] * 6
    torch.testing.assert_close(valid(extended(batch)).logits, valid(batch).logits)
    assert differ(final(extended(batch)).logits, final(batch).logits)
    assert differ(final(batch).logits, valid(batch).logits)
    front = batch_of(valid.shape, where="in front")
    torch.testing.assert_close(final(front).logits, valid(front).logits)
    nothing = {m: torch.zeros_like(there) for m, there in batch.valid.items()}
    empty = batch.show(nothing)._replace(valid=nothing)
    assert valid.place("l", empty).tolist() == [0] * 6
    assert torch.isfinite(valid(empty).logits).all()


@torch.no_grad()
def test_positions_of_what_is_missing():
    """The code gives none to zeros, so that a missing source is one key many times: its length does not matter."""
    nonzero, valid = (method_of(positions=positions, padding="attended") for positions in ("nonzero", "valid"))
    batch = batch_of(nonzero.shape, ends=torch.full((6,), 7), n=6)
    torch.testing.assert_close(nonzero(batch).logits, valid(batch).logits)
    dark = batch.keep("l+v")
    assert differ(nonzero(dark).logits, valid(dark).logits)
    for method, constant in ((nonzero, True), (valid, False)):
        projected = {m: method.project(m, x) for m, x in dark.x.items()}
        for keys, values in method.crossmodal["a_to_l"].of_source(projected["a"], method.placed("a", dark)):
            assert torch.allclose(keys, keys[:, :1].expand_as(keys), atol=1e-6) == constant
            assert torch.allclose(values, values[:, :1].expand_as(values), atol=1e-6) == constant
        one = method.attend("l", "a", projected, dark)
        shorter = {**projected, "a": projected["a"][:, :3]}
        cut = dark._replace(valid=dark.valid | {"a": dark.valid["a"][:, :3]})
        assert torch.allclose(method.attend("l", "a", shorter, cut), one, atol=1e-6) == constant


@torch.no_grad()
def test_no_step_sees_later_ones_unless_told_to():
    for chosen in ("yes", "no"):
        method = method_of(causal=chosen)
        batch = batch_of(method.shape, ends=torch.full((6,), 7), n=6)
        later = {m: torch.where((torch.arange(7) > 3).unsqueeze(-1), x + 1, x) for m, x in batch.x.items()}
        streams = []
        for x in (batch.x, later):
            projected = {m: method.project(m, features) for m, features in x.items()}
            streams.append(method.attend("a", "l", projected, batch))
        early = (streams[0] - streams[1])[:, :4].abs().amax(-1)
        assert bool((early < 1e-6).all() if chosen == "yes" else (early > 1e-4).all())


def test_classes_are_one_softmax_or_four_questions():
    softmax, questions = (method_of(classes=EMOTIONS, heads_per_class=how) for how in ("softmax", "one-vs-rest"))
    batch = batch_of(softmax.shape)
    assert isinstance(softmax.answer, Classes)
    assert isinstance(questions.answer, Questions)
    assert (softmax(batch).logits.shape, questions(batch).logits.shape) == ((9, 4), (9, 8))
    terms = softmax.losses(Step({"student": batch}), clock=CLOCK)
    torch.testing.assert_close(terms["task"], F.cross_entropy(softmax(batch).logits, batch.y))
    pairs = questions(batch).logits.view(9, 4, 2).log_softmax(-1)
    by_hand = -sum(pairs[i, c, int(batch.y[i] == c)] for i in range(9) for c in range(4)) / 36
    torch.testing.assert_close(questions.losses(Step({"student": batch}), clock=CLOCK)["task"], by_hand)


def test_a_score_is_learnt_by_its_distance():
    method = method_of()
    batch = batch_of(method.shape)
    expected = (method(batch).logits.squeeze(-1) - batch.y).abs().mean()
    torch.testing.assert_close(method.losses(Step({"student": batch}), clock=CLOCK)["task"], expected)


@pytest.mark.parametrize(("kernels", "sizes"), [("1/1/1", (1, 1, 1)), ("1/3/3", (1, 3, 3)), ("3/3/5", (3, 3, 5))])
def test_kernels_see_zeros_beside_the_sequence_and_keep_its_length(kernels, sizes):
    method = method_of({"l": 6, "a": 4, "v": 3, "gaze": 2}, kernels=kernels)
    x = {m: torch.randn(2, 7, width) for m, width in method.shape.widths.items()}
    for m, size in zip(("l", "a", "v", "gaze"), (*sizes, sizes[2]), strict=True):
        found, filters = method.project(m, x[m]), method.projections[m]
        assert (found.shape, filters.kernel_size, filters.bias) == ((2, 7, 8), (size,), None)
        framed = F.pad(x[m], (0, 0, size // 2, size // 2))
        for t in range(7):
            expected = sum(framed[:, t + k] @ filters.weight[..., k].T for k in range(size))
            torch.testing.assert_close(found[:, t], expected)


def test_features_of_the_common_width_are_not_projected():
    method = method_of({"l": 6, "a": 8, "v": 3})
    x = torch.randn(2, 7, 8)
    assert torch.equal(method.project("a", x), x)
    assert [name for name, _ in method.projections.named_parameters()] == ["l.weight", "v.weight"]


def test_views_are_complete_unless_asked_for():
    stacked = batch_of(method_of().shape, 30).take(torch.arange(30).unsqueeze(0))
    views, _ = method_of().views(stacked, Draws([0], 0))
    assert all(torch.equal(views["student"].x[m], stacked.x[m]) for m in "lav")
    views, _ = method_of(train_missing="yes").views(stacked, Draws([0], 0))
    assert any(bool((views["student"].frames[m] != stacked.frames[m]).any()) for m in "lav")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 9, "heads": 3}, "width=9"),
        ({"width": 2, "heads": 1}, "width=2"),
        ({"heads": 3}, "3 attention heads do not divide the width 8"),
        ({"positions": "learned"}, "learned"),
        ({"embed_dropout": 1.0}, "embed_dropout=1.0"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(BadInput, match=words) as refusal:
        method_of(**options)
    assert "\n" not in str(refusal.value)


def test_parts_of_their_own_refuse_the_same():
    with pytest.raises(BadInput, match="even width"):
        sinusoids(3, 7, torch.float32, torch.device("cpu"))
    with pytest.raises(BadInput, match="do not divide"):
        CrossmodalLayer(8, 3, Dropouts())


# --- batches and training ---


@torch.no_grad()
def test_groups_of_similar_length_answer_as_one_batch(monkeypatch):
    method = method_of(lengths={m: 60 for m in "lav"})
    ends = torch.tensor([3, 60, 7, 55, 4, 58, 2, 60, 5, 51] * 3)
    batch = batch_of(method.shape, 30, ends=ends)
    assert len(by_length(batch)) > 1
    whole, sizes, answered = method.answered(batch), [], method.answered
    monkeypatch.setattr(method, "answered", lambda some: sizes.append(some.x["l"].shape[:2]) or answered(some))
    output = method(batch)
    torch.testing.assert_close(output.logits, whole.logits)
    torch.testing.assert_close(output.embedding, whole.embedding)
    assert len(sizes) > 1
    assert sum(n for n, _ in sizes) == 30
    assert min(steps for _, steps in sizes) == 7
    for reading in ({"padding": "attended"}, {"last": "final"}):  # padding is read: one group
        literal = method_of(lengths={m: 60 for m in "lav"}, **reading)
        torch.testing.assert_close(literal(batch).logits, literal.answered(batch).logits)


@pytest.mark.parametrize("widths", [{"l": 6}, {"a": 4, "v": 3}, {"l": 6, "a": 4, "v": 3, "gaze": 2}])
@pytest.mark.parametrize("reading", [{}, OFFICIAL])
def test_any_modalities_and_lengths(widths, reading):
    """Every parameter has a gradient; a modality alone goes to its memory encoder as it is."""
    method = method_of(widths, {m: 1 + 3 * i for i, m in enumerate(widths)}, **reading)
    batch = batch_of(method.shape, where="in front")
    loss = method.losses(Step({"student": batch}), clock=CLOCK)["task"]
    assert torch.isfinite(loss)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert method(batch).embedding.shape[1] == len(widths) * max(1, len(widths) - 1) * 8


def test_it_learns():
    """Better than the best constant on what it was trained on, after a few epochs."""
    [experiment] = plan(
        "mult", "synthetic-mosi", "smoke", [0], options=CALM, settings={"epochs": 25, "looks": 5, "lr": 5e-3}
    )
    ready = Cohort([experiment], "cpu").ready()
    y = ready.utterances.y[ready.train[0]]
    constant = float((y - y.median()).abs().mean())
    terms = fit(ready).history[0]["terms/task"]
    assert terms[-1] < 0.6 * constant, (terms, constant)
