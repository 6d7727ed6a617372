"""The shared encoder against its parts called one by one, and the usual options as papers change them."""

from dataclasses import dataclass, fields

import pytest
import torch

from mmkd_lib.data.batch import Shape
from mmkd_lib.methods.base import Options
from mmkd_lib.methods.encoders import USUAL, convolutions, encode, low_level, transformer, usual
from mmkd_lib.methods.layers import Transformer, attendable, positions
from mmkd_lib.support.errors import BadInput

SHAPE = Shape({"l": 5, "a": 3}, {"l": 6, "a": 6}, "regression", ())


@dataclass(frozen=True)
class Own(Options):
    width: int = usual("width", "2", "printed: 8", default=8)
    heads: int = usual("heads", "2", default=2)
    depth: int = usual("depth", "2", default=2)
    feedforward: int = usual("feedforward", "2")
    dropout: float = usual("dropout", "2")
    norm: str = usual("norm", "2")
    convolution: str = usual("convolution", "2")


@pytest.fixture
def utterances():
    x = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(6) < torch.tensor([[6], [4], [0]])  # the last has no frame at all


@pytest.mark.parametrize("kind", ["1d", "2d"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_encode_is_convolution_positions_transformer(kind, norm, utterances):
    x, valid = utterances
    options = Own(convolution=kind, norm=norm)
    convolution, encoder = convolutions(SHAPE, options)["l"], transformer(8, options).eval()
    features = convolution(x) + positions(6, 8, x.dtype, x.device)
    assert torch.equal(low_level(convolution, x), features)
    found = encode(convolution, encoder, x, valid)
    assert torch.equal(found, encoder(features, attendable(valid)))
    unmasked = encoder(features, torch.ones_like(valid))
    assert torch.equal(found[0], unmasked[0])
    assert not torch.allclose(found[1], unmasked[1])


def test_parts_are_built_in_order_under_the_names_of_modalities():
    torch.manual_seed(0)
    together = convolutions(SHAPE, Own())
    torch.manual_seed(0)
    apart = [torch.nn.Conv1d(width, 8, 3, padding=1, bias=False).weight for width in SHAPE.widths.values()]
    assert [*together.state_dict()] == ["l.convolution.weight", "a.convolution.weight"]
    assert all(torch.equal(*pair) for pair in zip(together.state_dict().values(), apart, strict=True))


@pytest.mark.parametrize("depth", [None, 1, 3])
def test_transformer_has_the_depth_of_the_options_unless_it_is_given(depth):
    found = transformer(16, Own(norm="post"), depth)
    as_it_is = Transformer(16, 2, 2 if depth is None else depth, 64, 0.1, "post")
    sizes = ({n: t.shape for n, t in network.state_dict().items()} for network in (found, as_it_is))
    assert next(sizes) == next(sizes)


def test_usual_options_keep_what_a_paper_does_not_change():
    told = {spec.name: (spec.default, *spec.metadata.values()) for spec in fields(Own)}
    assert told["width"] == (8, USUAL["width"][1], "network", "2", "printed: 8", None)
    assert told["norm"] == ("pre", ("pre", "post"), "network", "2", USUAL["norm"][3], "post")
    assert usual("norm", "1", printed="pre").metadata["printed"] == "pre"
    assert usual("complete_case", "1").metadata["scope"] == "views"


@pytest.mark.parametrize("name", USUAL)
def test_every_usual_default_is_allowed(name):
    one = dataclass(frozen=True)(type("One", (Options,), {"__annotations__": {name: object}, name: usual(name, "1")}))
    assert getattr(one(), name) == USUAL[name][0]
    with pytest.raises(BadInput, match=name):
        one(**{name: "no such choice"})
