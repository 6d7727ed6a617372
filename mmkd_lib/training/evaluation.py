"""What trained networks answer under test conditions. Knows stacks, batches and masks, not training.

No label of what is tested is in a batch: it is NaN for a score, -1 for a class.
"""

import torch

from ..data.batch import whole_dialogues
from ..methods.steps import Output
from ..support.draws import seed_torch

AT_ONCE = {"cpu": 512, "cuda": 16384}  # (condition, utterance) pairs in one forward pass


def unlabelled(batch):
    """The batch without its labels."""
    nothing = torch.nan if batch.y.is_floating_point() else -1
    return batch._replace(y=torch.full_like(batch.y, nothing))


@torch.no_grad()
def complete_outputs(stack, utterances, indices):
    """What S networks say of n complete utterances each, indices (S, n): an `Output` of tensors (S, n, ...)."""
    stack.mode(training=False)
    passes = _passes(stack, utterances, indices, 1)
    pieces = [stack.forward(unlabelled(utterances.take(indices[:, some]))) for some in passes]
    extras = {name: _joined(stack, [piece.extras[name] for piece in pieces], passes) for name in pieces[0].extras}
    return Output(*(_joined(stack, [piece[i] for piece in pieces], passes) for i in range(2)), extras)


@torch.no_grad()
def outputs(stack, utterances, indices, masks, field="logits", noise=None):
    """Logits (or embeddings) of S networks for n utterances under C conditions: (S, C, n, K).

    utterances: all of them; indices (S, n): those of each seed; masks: C dicts m -> (S, n, T_m) bool. Conditions are
    stacked on the batch axis: the pairs (condition, utterance) run through the network in equal chunks. noise: for
    networks that draw from torch's generator when tested, (names of the seeds, names of the conditions): each seed and
    condition then has a pass, and draws, of its own.
    """
    stack.mode(training=False)
    if noise is not None:
        seeds, names = noise
        parts = [
            _noisy(stack.only(s), utterances, indices[s : s + 1], _of_seed(mask, s), field, (seed, name))
            for s, seed in enumerate(seeds)
            for name, mask in zip(names, masks, strict=True)
        ]
        return torch.cat(parts).unflatten(0, (len(seeds), len(names))).squeeze(2)
    count = indices.shape[1]
    shown = {m: torch.cat([mask[m] for mask in masks], 1).to(indices.device) for m in utterances.modalities}
    passes, pieces = _passes(stack, utterances, indices, len(masks)), []
    for pairs in passes:
        batch = utterances.take(indices[:, pairs % count]).show({m: mask[:, pairs] for m, mask in shown.items()})
        pieces.append(getattr(stack.forward(unlabelled(batch)), field))
    return _joined(stack, pieces, passes).unflatten(1, (len(masks), count))


def _passes(stack, utterances, indices, conditions):
    """The pairs (condition, utterance) of each forward pass, as places in C n: equal chunks, or whole dialogues of one
    condition."""
    at_once, count = max(1, AT_ONCE[indices.device.type] // stack.size), indices.shape[1]
    if stack.unit == "utterance":
        return torch.arange(conditions * count, device=indices.device).split(at_once)
    some = whole_dialogues(utterances.group[indices[0]], at_once)
    return [c * count + places for c in range(conditions) for places in some]


def _joined(stack, pieces, passes):
    """Answers (S, n_i, ...) of passes one after the other, in the order of places."""
    found = torch.cat(pieces, 1)
    return found if stack.unit == "utterance" else found[:, torch.cat(list(passes)).argsort()]


def _of_seed(mask, s):
    return {m: shown[s : s + 1] for m, shown in mask.items()}


def _noisy(stack, utterances, indices, mask, field, key):
    """One seed under one condition, (1, 1, n, K), torch's generator seeded by both and left as it was."""
    devices = [indices.device] if indices.is_cuda else []
    with torch.random.fork_rng(devices):
        seed_torch("noise of a network", *key)
        return outputs(stack, utterances, indices, [mask], field)
