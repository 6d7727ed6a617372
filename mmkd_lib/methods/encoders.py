"""The encoder of a sequence that most systems share, convolution + positions + Transformer, and its usual options.

Knows options by the names of `USUAL`; no method. Parts are built in the order in which a method asks for them, under
names that it gives: both decide initial weights.
"""

from torch import Tensor, nn

from ..data.batch import Shape
from .base import SHARE, WHOLE, Options, option
from .layers import ALIGN, TemporalConvolution, Transformer, attendable, positions

YES_NO = ("yes", "no")
USUAL = {  # name -> default, allowed, scope, and the reason and printed reading of those that papers share
    "width": (40, WHOLE, "network", "not given", None),
    "heads": (10, WHOLE, "network", "not given; must divide the width", None),
    "depth": (4, WHOLE, "network", "layers not given", None),
    "feedforward": (4, WHOLE, "network", "width of the feed-forward part in units of d; not given", None),
    "dropout": (0.1, SHARE, "network", "not given", None),
    "norm": ("pre", ("pre", "post"), "network", "not given; post is the cited Transformer's", "post"),
    "convolution": ("1d", ("1d", "2d"), "network", "a 1-D convolution with a kernel of 3 x 3 does not exist", "2d"),
    "align": ("repeat-one", ALIGN, "network", "sequences side by side need equal lengths; files differ", None),
    "drop_modalities": ("yes", YES_NO, "views", "rates of random missing are not given", None),
    "drop_frames": ("yes", YES_NO, "views", "rates of random missing are not given", None),
    "complete_case": ("yes", YES_NO, "views", "whether the student ever sees all modalities is not said", None),
}


def usual(name, place, reason=None, default=None, printed=None):
    """A usual option as one paper has it: `place` in it, and what differs from `USUAL`.

    width: int = usual("width", "4.2", "printed: 40 on all three datasets")
    """
    value, allowed, scope, shared, reading = USUAL[name]
    default = value if default is None else default
    return option(default, allowed, scope, place, reason or shared, printed or reading)


def convolutions(shape: Shape, options: Options) -> nn.ModuleDict:
    """A `TemporalConvolution` for each modality, from its width to that of the options."""
    o = options
    return nn.ModuleDict({m: TemporalConvolution(width, o.width, o.convolution) for m, width in shape.widths.items()})


def transformer(width: int, options: Options, depth: int | None = None) -> Transformer:
    """A `Transformer` of a width; heads, depth (unless given), feed-forward part, dropout and norm of the options."""
    o = options
    return Transformer(width, o.heads, o.depth if depth is None else depth, o.feedforward * width, o.dropout, o.norm)


def low_level(convolution: nn.Module, x: Tensor) -> Tensor:
    """Convolution and positions: (B, T, d_m) -> (B, T, d)."""
    features = convolution(x)
    return features + positions(*features.shape[-2:], features.dtype, features.device)


def encode(convolution: nn.Module, encoder: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    """Convolution, positions and Transformer over the frames that exist, `valid` (B, T): (B, T, d_m) -> (B, T, d)."""
    return encoder(low_level(convolution, x), attendable(valid))
