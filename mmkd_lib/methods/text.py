"""BERT as the first part of a network, tuned with it: word pieces in, vectors out. Needs the extra `bert`."""

import os
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..support.errors import BadInput

FOLDER = "MMKD_BERT"  # the environment variable that names a local folder of weights
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # in one file, or in several
ROWS = 3  # what a token is in a batch: its id, whether it is there, its segment


class TextEncoder(nn.Module):
    """(B, T, 3) ids, mask and segments of word pieces -> (B, T, d), the last hidden states; padding is not attended to.
    Where no word piece is shown, the empty first place is attended to: finite numbers, for the caller to leave out.

    The weights are those of a folder on this machine, as transformers' `save_pretrained` writes it; nothing is fetched,
    and nothing pickled is opened. All of them are tuned. The paper's learning rate of 2e-5 belongs to this option:
    `settings={"lr": 2e-5}`; it is AdamW's there, and here Adam's, for all parts of the network.
    """

    def __init__(self):
        super().__init__()
        self.bert = _pretrained(os.environ.get(FOLDER, "")).float()
        self.width = self.bert.config.hidden_size

    def forward(self, tokens: Tensor) -> Tensor:
        self.check(tokens)
        ids, mask, segments = tokens.long().unbind(-1)
        first = torch.arange(mask.shape[-1], device=mask.device) == 0
        mask = mask | (first & ~mask.any(-1, keepdim=True))
        return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state

    def check(self, tokens):
        """Refuse what is no batch of word pieces of this BERT. It looks at values: not for stacked seeds."""
        if tokens.shape[-1] != ROWS:
            raise BadInput(
                f"text_encoder='bert' reads word pieces, and language has {tokens.shape[-1]} columns: choose a "
                "benchmark with tokens (NAME-tokens, from a file of MMSA), or text_encoder='frozen'."
            )
        known = self.bert.config
        if tokens.shape[-2] > known.max_position_embeddings:
            raise BadInput(
                f"language has {tokens.shape[-2]} word pieces, and the BERT in {FOLDER} reads at most "
                f"{known.max_position_embeddings}: choose weights for longer sentences, or text_encoder='frozen'."
            )
        ends = tokens.new_tensor([known.vocab_size, 2, known.type_vocab_size])
        if ((tokens >= 0) & (tokens < ends) & (tokens == tokens.floor())).all():
            return
        if not ((tokens >= 0) & (tokens == tokens.floor())).all():
            raise BadInput(
                "text_encoder='bert' reads ids of word pieces, and language holds numbers that are not whole or below "
                '0, as after standardising or with noise: train with settings={"standardise": False}, test without '
                "noise."
            )
        largest = ", ".join(f"{value:.0f}" for value in tokens.flatten(0, -2).amax(0).tolist())
        raise BadInput(
            f"the largest id, mask and segment of a word piece are {largest}, and the BERT in {FOLDER} knows those "
            f"below {known.vocab_size}, 2 and {known.type_vocab_size}: choose the weights that the word pieces "
            "were made for."
        )


def _pretrained(folder):
    """The BertModel in a folder, every weight from there; refuses whatever else lies there."""
    if not folder or not Path(folder, "config.json").is_file():
        raise BadInput(
            f"text_encoder='bert' needs BERT's weights: let {FOLDER} name a folder with config.json and its weights "
            f"(there is none in {folder!r}), or choose text_encoder='frozen'."
        )
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        raise BadInput(
            "text_encoder='bert' needs transformers, which is not installed: pip install transformers, or this "
            "handbook with its extra [bert]."
        ) from None
    if not any(Path(folder, name).is_file() for name in WEIGHTS):
        _refuse(folder, f"it holds config.json but no weights, {WEIGHTS[0]}")
    how = {"add_pooling_layer": False, "use_safetensors": True, "output_loading_info": True}
    try:
        kind = BertConfig.get_config_dict(folder, local_files_only=True)[0].get("model_type", "bert")
        if kind == "bert":
            with _quiet():
                model, found = BertModel.from_pretrained(folder, local_files_only=True, **how)
    except Exception as error:  # transformers and safetensors raise a dozen kinds on damaged files
        _refuse(folder, f"its files are damaged or belong to different models ({type(error).__name__})")
    if kind != "bert":
        _refuse(folder, f"it holds a model of the kind {kind!r}, not BERT")
    if lost := sorted(found["missing_keys"]):
        _refuse(folder, f"its weights lack {len(lost)} of BERT's, {lost[0]} for one")
    return model


def _refuse(folder, why):
    raise BadInput(
        f"the folder {folder!r} that {FOLDER} names is refused: {why}; write it anew with transformers' "
        "save_pretrained."
    )


@contextmanager
def _quiet():
    """No progress bars and reports of transformers for a while: what matters in them is refused here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
