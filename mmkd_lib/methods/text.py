"""BERT as the first part of a network, tuned with it: word pieces in, vectors out. Needs the extra `bert`."""

import os
from pathlib import Path

from torch import Tensor, nn

from ..errors import BadInput

FOLDER = "MMKD_BERT"  # the environment variable that names a local folder of weights
ROWS = 3  # what a token is in a batch: its id, whether it is there, its segment


class TextEncoder(nn.Module):
    """(B, T, 3) ids, mask and segments of word pieces -> (B, T, d), the last hidden states; padding is not attended to.

    The weights are those of a folder on this machine, as transformers' `save_pretrained` writes it; nothing is fetched.
    """

    def __init__(self):
        super().__init__()
        folder = os.environ.get(FOLDER, "")
        if not (Path(folder) / "config.json").is_file():
            raise BadInput(
                f"text_encoder='bert' needs BERT's weights: let {FOLDER} name a folder with config.json and its weights "
                f"(there is none in {folder!r}), or choose text_encoder='frozen'."
            )
        try:
            from transformers import BertModel
        except ImportError:
            raise BadInput(
                "text_encoder='bert' needs transformers, which is not installed: pip install transformers, or this "
                "handbook with its extra [bert]."
            ) from None
        self.bert = BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
        self.width = self.bert.config.hidden_size

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.shape[-1] != ROWS:
            raise BadInput(
                f"text_encoder='bert' reads word pieces, and language has {tokens.shape[-1]} columns: choose a benchmark "
                "with tokens (NAME-tokens, from a file of MMSA), or text_encoder='frozen'."
            )
        ids, mask, segments = tokens.long().unbind(-1)
        return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state
