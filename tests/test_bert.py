"""BERT as a part of the network, and word pieces out of files of MMSA. Nothing is fetched: no test may connect."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_readers_pickles import IDS, SENTENCES, mmsa_tree, mult_tree, write

from mmkd_lib.data import benchmarks
from mmkd_lib.data.batch import Batch, Shape
from mmkd_lib.data.benchmarks import PARTS
from mmkd_lib.data.missing import frozen_mask
from mmkd_lib.data.synthetic import worlds
from mmkd_lib.methods import get
from mmkd_lib.methods.text import FOLDER, TextEncoder
from mmkd_lib.runs import costs
from mmkd_lib.runs.experiments import plan
from mmkd_lib.runs.running import RunsFailed, Wanted, _stacks, run
from mmkd_lib.support.errors import BadInput

LENGTHS = [length for part in PARTS for length in SENTENCES[part][1]]  # of 7 utterances, up to 6 word pieces
BERT = {"text_encoder": "bert"}
RAW = {"standardise": False}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whoever connects fails, whatever a library makes of the variable."""

    def refused(*_):
        raise AssertionError("something wants to connect")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed: the extra [bert]")


@pytest.fixture
def folder(transformers, tmp_path, monkeypatch):
    """A folder with the random weights of a tiny BERT, which MMKD_BERT names."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    monkeypatch.setenv(FOLDER, str(tmp_path / "bert"))
    return tmp_path / "bert"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MMKD_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def sentence(row, length):
    """Word pieces of one utterance: 2, some of its own, 3."""
    return [2, *range(10 + 5 * row, 8 + 5 * row + length), 3]


def tree_of_tokens(dtype=np.float32):
    """A file of MMSA with other word pieces in every utterance, and some where there are none."""
    tree, row = mmsa_tree(), 0
    for part in PARTS:
        ids, masks, segments = np.full((3, len(IDS[part]), 6), 59)
        for i, length in enumerate(SENTENCES[part][1]):
            ids[i, :length], masks[i], segments[i] = sentence(row, length), np.arange(6) < length, np.arange(6) > 2
            row += 1
        tree[part]["text_bert"] = np.stack([ids, masks, segments], 1).astype(dtype)
    return tree


def refusal(what, *args, **kwargs):
    """The one sentence of a refusal."""
    with pytest.raises(BadInput) as caught:
        what(*args, **kwargs)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


# ------------------------------------------------------------------ benchmarks of word pieces


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_language_is_the_word_pieces_and_all_else_as_it_was(data, dtype):
    write(data, tree_of_tokens(dtype), "mosi.pkl")
    found, plain = benchmarks.load("mosi-tokens"), benchmarks.load("mosi")
    assert found.name == "mosi-tokens"
    assert found.batch.modalities == ("l", "a", "v")
    assert found.batch.x["l"].dtype == torch.float32
    assert found.shape.widths["l"] == 3
    for row, length in enumerate(LENGTHS):
        x = found.batch.x["l"][row]
        assert x[:length, 0].tolist() == sentence(row, length)
        assert x[:, 1].tolist() == [float(t < length) for t in range(6)]
        assert x[:, 2].tolist() == [float(2 < t < length) for t in range(6)]
        assert not x[length:].any()
    for m in "av":
        assert torch.equal(found.batch.x[m], plain.batch.x[m])
    for m in "lav":
        assert torch.equal(found.batch.valid[m], plain.batch.valid[m])
        assert torch.equal(found.batch.frames[m], plain.batch.frames[m])
    assert torch.equal(found.batch.y, plain.batch.y)
    assert found.ids.tolist() == plain.ids.tolist() == [name for part in PARTS for name in IDS[part]]
    assert found.split.tolist() == plain.split.tolist()
    assert found.reader == benchmarks.reader("mosi-tokens") == "mmsa"
    assert (found.task, found.findings["l"]["longest"], found.findings["l"]["width"]) == ("regression", 6, 3)
    rows = plain.rows("test")
    one, other = (frozen_mask("mr=0.5 & frames=0.5", b.batch, rows, b.mask_key) for b in (found, plain))
    assert one.hash == other.hash
    assert found.measured_on == f"{plain.measured_on}; language as word pieces"


def test_the_largest_ids_are_exact(data):
    tree = tree_of_tokens()
    tree["train"]["text_bert"][0, 0] = [30521, 101, 102, 2**24 - 1, 29999, 30000]
    write(data, tree, "mosi.pkl")
    assert benchmarks.load("mosi-tokens").batch.x["l"][0, :, 0].tolist() == [30521, 101, 102, 2**24 - 1, 29999, 30000]


def test_parts_may_differ_in_steps_and_words_need_no_vectors(data):
    tree = tree_of_tokens()
    for part in PARTS:
        del tree[part]["text"]
    tree["test"]["text_bert"] = tree["test"]["text_bert"][:, :, :4]
    write(data, tree, "sims.pkl")
    found = benchmarks.load("sims-tokens")
    assert found.batch.modalities == ("l", "a", "v")
    assert found.batch.valid["l"].sum(1).tolist() == LENGTHS
    assert found.batch.x["l"][-1, :, 0].tolist() == [2, 3, 0, 0, 0, 0]


def test_names_of_word_pieces(data):
    """They are known where a file of MMSA has them, name the data and the code that reads it, and keep the family."""
    write(data, tree_of_tokens(), "mosi-mine.pkl")
    write(data, mmsa_tree(bert=False), "none.pkl")
    write(data, mult_tree(), "mosei_senti_data.pkl")
    there = ["mosei", "mosei_senti_data", "mosi-mine", "mosi-mine-tokens", "none"]
    assert benchmarks.available() == (*worlds.NAMES, *there)
    assert benchmarks.check("mosi-mine-tokens") == "mosi-mine-tokens"
    families = [benchmarks.family(name) for name in ("mosi-mine-tokens", "mosei-tokens", "sims-tokens")]
    assert families == ["mosi", "mosei", "sims"]
    assert benchmarks.place("mosi-mine-tokens") == benchmarks.place("mosi-mine") == data / "mosi-mine.pkl"
    named, plain = benchmarks.fingerprint("mosi-mine-tokens"), benchmarks.fingerprint("mosi-mine")
    assert named.startswith(f"{plain}/tokens/")
    first = benchmarks.load("mosi-mine-tokens")
    assert first.fingerprint == named
    assert benchmarks.load("mosi-mine-tokens") is first, "an unchanged file is read once"
    write(data, mmsa_tree(), "mosi-mine.pkl")
    assert benchmarks.fingerprint("mosi-mine-tokens") != named
    assert benchmarks.load("mosi-mine-tokens").batch.x["l"][0, 1, 0] == 7592


def test_a_file_of_that_very_name_comes_first(data):
    write(data, tree_of_tokens(), "mosi.pkl")
    write(data, mmsa_tree(), "mosi-tokens.pkl")
    assert benchmarks.load("mosi-tokens").shape.widths["l"] == 4
    assert benchmarks.place("mosi-tokens") == data / "mosi-tokens.pkl"
    assert "mosi-tokens-tokens" in benchmarks.available()


@pytest.mark.parametrize("look", [benchmarks.check, benchmarks.load, benchmarks.fingerprint])
def test_a_name_without_word_pieces_is_refused_with_the_way_out(data, look):
    write(data, mmsa_tree(bert=False), "mosi.pkl")
    np.savez(data / "mine.npz", text_bert=np.zeros(3))
    (data / "empty.pkl").touch()
    for base, file in (("mosi", "mosi.pkl"), ("mine", "mine.npz"), ("empty", "empty.pkl")):
        assert refusal(look, f"{base}-tokens") == (
            f"benchmark '{base}-tokens' needs word pieces and {file} holds none: put a pickle of MMSA that holds "
            f"text_bert into {data} as {base}-mmsa.pkl, and choose {base}-mmsa-tokens."
        )
    assert refusal(look, "mosei-tokens") == (
        "benchmark 'mosei-tokens' needs word pieces and there is no file of 'mosei': put a pickle of MMSA that holds "
        f"text_bert into {data} as mosei.pkl."
    )
    for name in ("-tokens", "tokens", "synthetic-mosi-tokens", "a/b-tokens"):
        assert refusal(look, name).startswith(f"unknown benchmark {name!r}: ")


def changed(key, value):
    """A tree with other numbers in the word pieces of train: of the row `key` of its first utterance."""
    tree = tree_of_tokens()
    tree["train"]["text_bert"][0, key, 1] = value
    return tree


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (mult_tree() | {"text_bert": 0}, "it is no file of MMSA, and word pieces are read from those only"),
        (mmsa_tree(bert=False) | {"text_bert": 0}, "it holds no 'text_bert', so no word pieces"),
        (changed(0, 2.5), "'text_bert' of 'train' holds ids or segments that are no whole numbers from 0 to 16777215"),
        (changed(0, np.nan), "'text_bert' of 'train' holds ids or segments that are no whole numbers from 0 to"),
        (changed(0, np.inf), "'text_bert' of 'train' holds ids or segments that are no whole numbers from 0 to"),
        (changed(2, -1), "'text_bert' of 'train' holds ids or segments that are no whole numbers from 0 to 16777215"),
        (changed(0, 2**24), "'text_bert' of 'train' holds ids or segments that are no whole numbers from 0 to 167"),
        (changed(1, 2), "'text_bert' of 'train' is not (N, 3, T) of ids, mask (ones, then zeros) and segments"),
    ],
)
def test_files_without_sound_word_pieces_are_refused(data, tree, why):
    write(data, tree, "mosi.pkl")
    assert refusal(benchmarks.load, "mosi-tokens").startswith(f"mosi.pkl is refused: {why}")


def test_sentences_that_no_bert_reads_are_refused(data):
    tree = tree_of_tokens()
    tree["valid"]["text_bert"] = np.zeros((2, 3, 513), np.int8)
    write(data, tree, "long.pkl")
    assert refusal(benchmarks.load, "long-tokens") == (
        "long.pkl is refused: 'text_bert' has 513 steps, BERT reads at most 512 word pieces."
    )
    for part in PARTS:
        tree[part]["text_bert"] = np.zeros((len(IDS[part]), 3, 6))
    write(data, tree, "none.pkl")
    assert refusal(benchmarks.load, "none-tokens") == (
        "none.pkl is refused: the masks of its 'text_bert' show no word piece."
    )


def test_padding_may_hold_anything(data):
    tree = tree_of_tokens()
    tree["train"]["text_bert"][1, 0, 3:] = [np.inf, np.nan, -7.5]
    write(data, tree, "mosi.pkl")
    assert not benchmarks.load("mosi-tokens").batch.x["l"][1, 3:].any()


# ------------------------------------------------------------------ BERT


def batch_of(*sentences, steps=6):
    """Tokens (B, T, 3) of sentences of ids, the second half of each in the other segment."""
    x = torch.zeros(len(sentences), steps, 3)
    for row, ids in zip(x, sentences, strict=True):
        row[: len(ids), 0] = torch.tensor(ids, dtype=torch.float32)
        row[: len(ids), 1] = 1
        row[len(ids) // 2 : len(ids), 2] = 1
    return x


def test_forward_is_that_of_transformers_on_the_sentence_alone(folder, transformers, capfd):
    encoder = TextEncoder().eval()
    assert encoder.width == 16
    assert capfd.readouterr() == ("", ""), "loading says nothing"
    own = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    sentences = [2, 7, 8, 9, 11, 3], [2, 59, 3], [2, 3]
    x = batch_of(*sentences, steps=9)
    said = encoder(x)
    assert said.shape == (3, 9, 16)
    for row, ids in zip(range(3), sentences, strict=True):
        segments = x[row : row + 1, : len(ids), 2].long()
        alone = own(input_ids=torch.tensor([ids]), token_type_ids=segments).last_hidden_state[0]
        torch.testing.assert_close(said[row, : len(ids)], alone)
    other = x.clone()
    other[1, 3:, 0] = 40  # whatever stands in padding
    torch.testing.assert_close(encoder(other)[1, :3], said[1, :3])
    nothing = encoder(torch.zeros(2, 9, 3))  # the empty first place alone is attended to
    torch.testing.assert_close(nothing[:, 0], own(input_ids=torch.zeros(2, 1).long()).last_hidden_state[:, 0])


def test_every_weight_of_bert_is_tuned(folder):
    encoder = TextEncoder()
    x = batch_of([2, 7, 8, 9, 11, 3], [2, 59, 3])
    encoder(x).square().sum().backward()
    assert all(p.requires_grad and p.grad is not None and p.dtype == torch.float32 for p in encoder.parameters())
    used = encoder.bert.embeddings.word_embeddings.weight.grad.abs().sum(1) > 0
    assert set(used.nonzero().flatten().tolist()) >= {2, 3, 7, 8, 9, 11, 59}


def network(batch):
    lengths = {m: x.shape[1] for m, x in batch.x.items()}
    shape = Shape({m: x.shape[2] for m, x in batch.x.items()}, lengths, "regression", ())
    cls = get("mcur")
    return cls(shape, cls.Options.of(**(cls.recipe("mosi", "smoke")[0] | BERT)))


def test_missing_language_is_finite_and_without_influence(folder):
    """Nothing of language shown: no NaN, whatever the words were, and no gradient in BERT; one word shown: both."""
    torch.manual_seed(0)
    x = {"l": batch_of([2, 7, 8, 3], [2, 9, 10, 11, 3]), "a": torch.randn(2, 4, 3), "v": torch.randn(2, 4, 2)}
    there = {m: torch.ones(values.shape[:2], dtype=torch.bool) for m, values in x.items()}
    there["l"] = x["l"][..., 1] > 0
    batch = Batch(x, dict(there), there, torch.tensor([1.0, -1.0]))
    module = network(batch).eval()
    hidden = batch.keep("a+v")
    assert not hidden.x["l"].any()
    assert torch.isfinite(module.text(hidden.x["l"])).all()
    said = module(hidden)
    assert torch.isfinite(said.logits).all()
    other = batch._replace(x=x | {"l": batch_of([2, 30, 31, 3], [2, 32, 33, 34, 3])})
    assert torch.equal(module(other.keep("a+v")).logits, said.logits)
    assert not torch.equal(module(other).logits, module(batch).logits)
    said.logits.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in module.text.parameters())
    mixed = batch.show({"l": torch.tensor([[True], [False]]), "a": there["a"], "v": there["v"]})
    module(mixed).logits.sum().backward()
    words = module.text.bert.embeddings.word_embeddings.weight.grad.abs().sum(1) > 0
    assert {7, 8} <= set(words.nonzero().flatten().tolist())
    assert not words[[9, 10, 11]].any()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_what_is_no_batch_of_word_pieces_is_refused(folder):
    encoder = TextEncoder()
    x = batch_of([2, 7, 8, 3], [2, 9, 3])
    assert refusal(encoder, torch.zeros(2, 6, 4)) == (
        "text_encoder='bert' reads word pieces, and language has 4 columns: choose a benchmark with tokens "
        "(NAME-tokens, from a file of MMSA), or text_encoder='frozen'."
    )
    for strange in (x - x.mean((0, 1)), -x, x / 2, x * torch.nan):
        assert refusal(encoder, strange) == (
            "text_encoder='bert' reads ids of word pieces, and language holds numbers that are not whole or below 0, "
            'as after standardising or with noise: train with settings={"standardise": False}, test without noise.'
        )
    assert refusal(encoder, batch_of([2, 60, 3])) == (
        f"the largest id, mask and segment of a word piece are 60, 1, 1, and the BERT in {FOLDER} knows those below "
        "60, 2 and 2: choose the weights that the word pieces were made for."
    )
    assert "are 3, 2, 1, and" in refusal(encoder, batch_of([2, 3]) * torch.tensor([1, 2, 1]))
    assert refusal(encoder, batch_of([2, 3], steps=13)) == (
        f"language has 13 word pieces, and the BERT in {FOLDER} reads at most 12: choose weights for longer sentences, "
        "or text_encoder='frozen'."
    )


# ------------------------------------------------------------------ the folder of weights


@pytest.mark.parametrize("named", [None, "", "bert-base-uncased", "google-bert/bert-base-uncased"])
def test_no_folder_is_refused_before_anything_is_looked_for(monkeypatch, named):
    """Also where transformers is not installed; the name of a model is no folder, and nothing is fetched."""
    monkeypatch.delenv(FOLDER, raising=False)
    if named is not None:
        monkeypatch.setenv(FOLDER, named)
    assert refusal(TextEncoder) == (
        f"text_encoder='bert' needs BERT's weights: let {FOLDER} name a folder with config.json and its weights (there "
        f"is none in {named or ''!r}), or choose text_encoder='frozen'."
    )


def test_without_transformers_a_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal(TextEncoder) == (
        "text_encoder='bert' needs transformers, which is not installed: pip install transformers, or this handbook "
        "with its extra [bert]."
    )


def cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def cut_early(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def pickled(folder):
    """The format that may hold code, even beside a promise of safe pieces."""
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def lost_piece(folder):
    index = {"metadata": {}, "weight_map": {"embeddings.LayerNorm.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def deeper(folder):
    """Weights of two layers, a configuration of three."""
    configured(folder, num_hidden_layers=3)


def wider(folder):
    configured(folder, hidden_size=18)


def other_kind(folder):
    configured(folder, model_type="roberta")


def configured(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def damaged_config(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (without_weights, "it holds config.json but no weights, model.safetensors"),
        (pickled, "it holds config.json but no weights, model.safetensors"),
        (cut_off, "its files are damaged or belong to different models (SafetensorError)"),
        (cut_early, "its files are damaged or belong to different models (SafetensorError)"),
        (lost_piece, "its files are damaged or belong to different models ("),
        (wider, "its files are damaged or belong to different models (RuntimeError)"),
        (damaged_config, "its files are damaged or belong to different models ("),
        (deeper, "its weights lack 16 of BERT's, encoder.layer.2.attention.output.LayerNorm.bias for one"),
        (other_kind, "it holds a model of the kind 'roberta', not BERT"),
    ],
)
def test_a_folder_without_sound_weights_is_refused(folder, damage, why):
    damage(folder)
    text = refusal(TextEncoder)
    assert text.startswith(f"the folder {str(folder)!r} that {FOLDER} names is refused: {why}")
    assert text.endswith("; write it anew with transformers' save_pretrained.")


def test_weights_of_a_whole_pretraining_model_serve_in_half_precision_too(folder, transformers):
    """As they circulate: with heads, their names under `bert.`."""
    torch.manual_seed(1)
    config = transformers.BertConfig.from_pretrained(folder)
    whole = transformers.BertForPreTraining(config).half()
    shutil.rmtree(folder)
    whole.save_pretrained(folder)
    encoder = TextEncoder()
    assert encoder.bert.pooler is None
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(dict(encoder.bert.named_parameters())[name], whole.bert.get_parameter(name).float())
    assert torch.isfinite(encoder(batch_of([2, 7, 3]))).all()


# ------------------------------------------------------------------ training


def experiments(seeds, settings, options=BERT):
    brief = {"epochs": 1, "looks": 1, "batch": 3}
    return plan("mcur", "mosi-tokens", "smoke", seeds, options=options, settings=brief | settings)


def test_a_teacher_and_a_student_are_trained_and_tested(folder, data, store):
    """From the weights in the folder, tuned; tested under every condition, twice the same to the last bit."""
    write(data, tree_of_tokens(), "mosi.pkl")
    [record] = run(experiments([0], RAW), store=store)
    conditions = ["l", "a", "v", "l+a", "l+v", "a+v", "l+a+v"]
    assert not record.lacks(conditions, ())[0]
    weights, start = record.weights(), dict(TextEncoder().named_parameters())
    moved = [not torch.equal(weights[f"text.{name}"], p.detach()) for name, p in start.items()]
    assert sum(moved) > len(moved) / 2
    assert all(torch.isfinite(p).all() for p in weights.values())
    assert record.config["data"] == benchmarks.fingerprint("mosi-tokens")
    shutil.rmtree(store.folder)
    [again] = run(experiments([0], RAW), store=store)
    assert all(torch.equal(weights[name], p) for name, p in again.weights().items())


def test_standardised_word_pieces_end_with_the_way_out(folder, data, store):
    write(data, tree_of_tokens(), "mosi.pkl")
    with pytest.raises((BadInput, RunsFailed), match=r"train with settings={.standardise.: False}"):
        run(experiments([0], {}), store=store)


def test_seeds_that_tune_bert_are_never_stacked(data):
    write(data, tree_of_tokens(), "mosi.pkl")
    tuned, frozen = experiments([0, 1, 2], RAW), experiments([0, 1, 2], RAW, {})
    wanted = [Wanted(e, (str(i),)) for i, e in enumerate(tuned + frozen)]
    groups = _stacks(wanted)
    assert sorted(len(group) for group in groups) == [1, 1, 1, 3]
    assert {w for group in groups for w in group} == set(wanted)
    assert next(group for group in groups if len(group) == 3) == wanted[3:]
    assert [together for *_, together in costs._parcels(wanted, "cuda")] == [1, 1, 1, 3, 3, 3]  # priced as they train


def test_the_weights_are_part_of_a_run_that_tunes_them(folder, data):
    """Another folder of weights is another run; a network that does not read them has one name, whatever lies there."""
    write(data, tree_of_tokens(), "mosi.pkl")
    [tuned] = plan("mcur", "mosi-tokens", "smoke", [0], options={"text_encoder": "bert"})
    [frozen] = plan("mcur", "synthetic-mosi", "smoke", [0])
    assert "weights" not in frozen.config()
    before = tuned.key(), frozen.key()
    config = Path(folder, "config.json")
    config.write_text(config.read_text() + "\n")
    assert tuned.key() != before[0]
    assert frozen.key() == before[1]
