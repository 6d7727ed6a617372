"""Gradient surgery: give parameters gradients mixed from those of several loss terms. Knows stacks, not training."""

import torch


def combine(stack, method, terms, weights):
    """Give every parameter its gradient where a method mixes those of its terms by their inner products; returns what
    the method has to tell of them. Parameters outside its groups get the weighted sum."""
    names = [name.removeprefix("module.") for name in stack.parameters]
    parameters = list(stack.parameters.values())
    each = []  # one list of gradients (S, ...) a term; None where a term does not reach a parameter
    for left, name in zip(reversed(range(len(weights))), weights, strict=True):
        how = {"retain_graph": left > 0, "allow_unused": True}
        each.append(torch.autograd.grad(terms[name].sum(), parameters, **how))
    groups = [[i for i, name in enumerate(names) if name in group] for group in method.rectified]
    flat = [_flat(each, parameters, group) for group in groups]  # (S, K, P_g) of K terms
    gramian = torch.stack([f @ f.mT for f in flat], 1)  # (S, G, K, K)
    coefficients, watched = method.combine(gramian, weights)  # (S, G, K)
    for number, group in enumerate(groups):
        mixed = (coefficients[:, number].unsqueeze(1) @ flat[number]).squeeze(1)  # (S, P_g)
        pieces = mixed.split([parameters[i][0].numel() for i in group], 1)
        for i, piece in zip(group, pieces, strict=True):
            parameters[i].grad = piece.view_as(parameters[i]).contiguous()
    taken = {i for group in groups for i in group}
    for i, p in enumerate(parameters):
        if i not in taken:
            found = [weight * g[i] for weight, g in zip(weights.values(), each, strict=True) if g[i] is not None]
            p.grad = sum(found[1:], found[0]).contiguous() if found else None  # fused Adam reads memory in order
    return watched


def _flat(each, parameters, group):
    """The gradients of K terms by the parameters of a group, side by side: (S, K, P_g)."""
    rows = [[torch.zeros_like(parameters[i]) if g[i] is None else g[i] for i in group] for g in each]
    return torch.stack([torch.cat([piece.flatten(1) for piece in row], 1) for row in rows], 1)
