"""Losses that more than one method uses, as pure functions of tensors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def jsd_information(joint: Tensor, marginal: Tensor) -> Tensor:
    """Jensen-Shannon estimate of dependence from the scores of a statistics network.

        I = E_joint[-log(1 + e^-F)] - E_marginal[log(1 + e^F)]

    CorrKD Eq. 6, HFGD Eq. 4. joint: scores of pairs that belong together, any shape; marginal: of pairs that do not.
    Its supremum over F is 2 JSD - 2 log 2 (nats, at most 0), not the mutual information.
    """
    return -F.softplus(-joint).mean() - F.softplus(marginal).mean()


def mean_counted(x: Tensor, counted: Tensor | None) -> Tensor:
    """Mean of x (..., B) over the rows that are counted, (..., B): all where it is None, 0 where none is."""
    return x.mean(-1) if counted is None else (x * counted).sum(-1) / counted.sum(-1).clamp(min=1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum p (log p - log q) from logarithms of probabilities (..., C), nats: (...)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def softened_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, counted: Tensor | None = None) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student / tau)), mean over all but the last axis; logits (..., C).

    DynKD Eq. 13. No factor tau^2 (Hinton et al. 2015 add one so that gradients keep their size). counted: the rows (B,)
    of logits (B, C) that the mean is over.
    """
    log_student = torch.log_softmax(student / temperature, -1)
    log_teacher = torch.log_softmax(teacher / temperature, -1)
    each = kl_divergence(log_teacher, log_student)
    return each.mean() if counted is None else mean_counted(each, counted)


def jensen_shannon(one: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """Jensen-Shannon divergence of the responses to two sets of logits (..., C), mean over all but the last axis; nats.

        JS = (KL(p || m) + KL(q || m)) / 2,  m = (p + q) / 2,  p, q = softmax(logits / tau)

    UMDF Eq. 5, HFGD Eq. 11. From 0 (equal) to log 2 (no class in common).
    """
    p, q = (torch.softmax(logits / temperature, -1) for logits in (one, other))
    log_p, log_q = (torch.log_softmax(logits / temperature, -1) for logits in (one, other))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (p * (log_p - log_m) + q * (log_q - log_m)).sum(-1).mean() / 2


def without_target(x: Tensor, target: Tensor) -> Tensor:
    """x (N, C) without the column of the target (N,), the others in their order: (N, C - 1)."""
    columns = torch.arange(x.shape[-1] - 1, device=x.device)
    return x.gather(-1, columns + (columns >= target.unsqueeze(-1)).long())
