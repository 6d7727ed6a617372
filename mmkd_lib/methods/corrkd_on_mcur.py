"""CorrKD's losses (its Eqs. 1-7, defaults of its own) on embeddings and logits of MCUR's network, for MCUR's Table 4.

A score has a target part only: the score itself; its prototypes are those of its sign.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from . import corrkd
from .answers import Answer, Questions, Score
from .layers import perceptron
from .steps import Output

MARGIN = 1.2  # CorrKD's eta on MOSI


def statistics_networks(answer: Answer) -> nn.ModuleDict:
    """The statistics networks of CorrKD's Eq. 6: of the target part of a response, and of the rest if there is one."""
    if isinstance(answer, Score):
        sizes = {"target": 1}
    else:
        sizes = {"target": 1, "rest": 1 if isinstance(answer, Questions) else answer.size - 1}
    return nn.ModuleDict({name: perceptron([2 * n, 64, 1]) for name, n in sizes.items()})


def terms(answer: Answer, questions, statistics, student: Output, teacher: Output, y: Tensor) -> dict[str, Tensor]:
    """SCD, CPD and RCD from what both networks say of B utterances with labels y (B,). questions(logits, y): logits and
    targets of what classes are asked as, see `MCUR.questions`; statistics: `statistics_networks`."""
    score = isinstance(answer, Score)
    classes = (y.sign() + 1).long() if score else y
    count = 3 if score else answer.classes if isinstance(answer, Questions) else answer.size
    pair = tuple(F.normalize(one.embedding, dim=-1) for one in (student, teacher))
    means = [corrkd.class_prototypes(one.embedding, classes, count) for one in (student, teacher)]
    near = [corrkd.prototype_similarity(o.embedding, m) for o, (m, _) in zip((student, teacher), means, strict=True)]
    if score:
        parts = [(student.logits, teacher.logits)]
    else:
        (s, target), (t, _) = questions(student.logits, y), questions(teacher.logits, y)
        parts = list(zip(corrkd.disentangle(s, target), corrkd.disentangle(t, target), strict=True))
    networks = zip(statistics.values(), parts, strict=True)
    return {
        "SCD": corrkd.contrastive_distillation(*pair, MARGIN),
        "CPD": corrkd.prototype_loss(*near, means[1][1]),
        "RCD": -sum(corrkd.response_information(f, s, t) for f, (s, t) in networks),
    }
