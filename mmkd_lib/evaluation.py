"""What trained networks say under test conditions. Knows stacks, batches and masks, not training."""

import torch

ROWS_AT_ONCE = {"cpu": 512, "cuda": 16384}  # (condition, utterance) pairs in one forward pass


@torch.no_grad()
def outputs(stack, pool, rows, masks, field="logits"):
    """Logits (or embeddings) of S networks for n utterances under C conditions: (S, C, n, K).

    pool: all utterances; rows (S, n): the utterances of each seed; masks: C dicts m -> (S, n, T_m) bool. Conditions
    are stacked on the batch axis: the pairs (condition, utterance) run through the network in equal chunks.
    """
    stack.mode(training=False)
    count = rows.shape[1]
    shown = {m: torch.cat([mask[m] for mask in masks], 1).to(rows.device) for m in pool.modalities}  # (S, C n, T_m)
    at_once = max(1, ROWS_AT_ONCE[rows.device.type] // stack.size)
    pieces = []
    for pairs in torch.arange(len(masks) * count, device=rows.device).split(at_once):
        batch = pool.take(rows[:, pairs % count]).show({m: mask[:, pairs] for m, mask in shown.items()})
        pieces.append(getattr(stack("forward", batch), field))
    return torch.cat(pieces, 1).unflatten(1, (len(masks), count))
