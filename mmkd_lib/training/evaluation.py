"""What trained networks say under test conditions. Knows stacks, batches and masks, not training."""

import torch

from ..methods.base import Output

ROWS_AT_ONCE = {"cpu": 512, "cuda": 16384}  # (condition, utterance) pairs in one forward pass


@torch.no_grad()
def complete_outputs(stack, pool, rows):
    """What S networks say of n complete utterances each: an `Output` of tensors (S, n, ...)."""
    stack.mode(training=False)
    at_once = max(1, ROWS_AT_ONCE[rows.device.type] // stack.size)
    pieces = [stack("forward", pool.take(some)) for some in rows.split(at_once, 1)]
    extras = {name: torch.cat([piece.extras[name] for piece in pieces], 1) for name in pieces[0].extras}
    return Output(*(torch.cat(field, 1) for field in zip(*(piece[:2] for piece in pieces), strict=True)), extras)


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
