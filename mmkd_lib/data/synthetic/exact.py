"""The exact posterior of a synthetic world under any set of observed frames, and what follows from it: ceilings of
every metric, the value of every set of modalities, Shapley values.

    p(s | x_Q)  ~  p(s) sum_f p(f) prod_m sum_{r, n} p(r) p(n) prod_{t in Q_m} p(x_t | s, f, r, n)
    p(x_t | ...) = rho N(x_t; A (content + nuisance), 1) + (1 - rho) N(x_t; A nuisance, 1)

in log space and float64; rho = salient / length. Lengths are known, whatever is missing.
"""

from itertools import chain, combinations
from math import factorial

import numpy as np
import torch

from .. import metrics
from ..missing import Condition, frozen_mask

CHUNK = 2**22  # frames times latent states at once


def evidence(world, batch, frames):
    """log p(x_m | level, flip) of the shown frames, up to a constant of the frames: m -> (N, K, 2).

    batch: raw utterances; frames: m -> (N, T_m) bool.
    """
    return {m: _evidence(world, m, batch.x[m], batch.valid[m], frames[m]) for m in world.steps}


def _evidence(world, m, x, valid, shown):
    strengths = world.strengths
    content = torch.from_numpy(world.content(m)).flatten(0, 2)  # (J, 4), J = K * 2 * 2
    habits = torch.from_numpy(world.habits[m])  # (H, 4)
    prior = torch.tensor([strengths.unreliable, 1 - strengths.unreliable], dtype=torch.float64).log()  # low, 1
    length = valid.sum(-1).clamp(min=1).double()[:, None, None]  # (N, 1, 1)
    rho = (strengths.salient / length).clamp(max=1)
    log_salient, log_other = rho.log(), torch.log1p(-rho)
    at_once = max(1, CHUNK // (x.shape[1] * len(content)))
    found = []
    for rows in torch.arange(len(x)).split(at_once):
        seen = x[rows].double() @ torch.from_numpy(world.directions[m]).T  # (n, T, 4): all that the frames tell
        by_habit = []
        for habit in habits:
            rest = seen - habit
            louder = rest @ content.T - content.square().sum(-1) / 2  # (n, T, J) log ratio, salient against not
            frame = torch.logaddexp(log_salient[rows] + louder, log_other[rows])
            frame = frame + (seen @ habit - habit.square().sum() / 2).unsqueeze(-1)
            by_habit.append((frame * shown[rows].unsqueeze(-1)).sum(1))  # (n, J)
        table = torch.stack(by_habit).unflatten(-1, (-1, 2, 2)) + prior  # (H, n, K, 2, 2)
        found.append(table.logsumexp((0, -1)) - np.log(len(habits)))
    return torch.cat(found)


def level_posterior(world, tables):
    """p(level | x_Q), (N, K), from the evidence tables of the modalities in Q (none: the prior, (K,))."""
    flip = torch.tensor([1 - world.strengths.flip, world.strengths.flip], dtype=torch.float64).log()
    joint = torch.from_numpy(world.prior).log().unsqueeze(-1) + flip  # (K, 2)
    for table in tables:
        joint = joint + table
    return joint.logsumexp(-1).softmax(-1)


def label_posterior(world, tables):
    """p(label | x_Q), (N, K): the level, or with the annotator's rate a guess from the prior."""
    noise = world.strengths.annotator
    return (1 - noise) * level_posterior(world, tables) + noise * torch.from_numpy(world.prior)


def soft_labels(benchmark):
    """The exact full-modality posterior of every utterance's label, (N, K) float32: what an oracle teaches."""
    tables = evidence(benchmark.world, benchmark.batch, benchmark.batch.valid)
    return label_posterior(benchmark.world, tables.values()).float()


# --- ceilings --------------------------------------------------------------------------------------------------------


def ceilings(benchmark, condition):
    """The best that any system can be expected to do on the test utterances under a condition: metric -> value.

    Every metric of `metrics.score` under the decision rule that is best for it: MAE of the median, correlation of the
    mean, seven classes by the most probable one, UA by the class that gains most over its share. Multi-class F1 has no
    such rule in closed form, and a calibration error of 0 takes no knowledge: neither has a ceiling here. Measured on
    the test labels, like the systems.
    """
    y = benchmark.batch.y.numpy()[benchmark.rows("test")]
    return ceilings_of(benchmark.world, answers_to(benchmark, condition), y)


def ceilings_under(benchmark, conditions):
    """`ceilings` of several conditions: condition -> metric -> value. Where modalities are missing as a whole, the
    evidence of all frames is looked at once for all of them: a modality that is missing has none, its table is 0."""
    rows, names = benchmark.rows("test"), benchmark.batch.modalities
    batch, full, found = benchmark.batch.take(torch.from_numpy(rows)), None, {}
    for condition in conditions:
        wish = Condition.parse(condition, names)
        if wish.frames or wish.moments:
            found[condition] = ceilings(benchmark, condition)
            continue
        full = full or evidence(benchmark.world, batch, batch.valid)
        mask = frozen_mask(condition, benchmark.batch, rows, benchmark.mask_key).frames
        tables = [full[m] * mask[m].any(-1)[:, None, None] for m in names]
        found[condition] = ceilings_of(benchmark.world, label_posterior(benchmark.world, tables), batch.y.numpy())
    return found


def answers_to(benchmark, condition):
    """The exact posterior of the label of every test utterance under a condition, (n, K)."""
    rows = benchmark.rows("test")
    batch = benchmark.batch.take(torch.from_numpy(rows))
    mask = frozen_mask(condition, benchmark.batch, rows, benchmark.mask_key).frames
    return label_posterior(benchmark.world, evidence(benchmark.world, batch, mask).values())


def ceilings_of(world, posterior, y):
    """`ceilings` from a posterior of the labels (N, K) and the labels y (N,)."""
    shares = posterior.numpy()
    found = {"nll": float(-np.log(shares[np.arange(len(y)), _index(world, y)]).mean())}
    found |= metrics.calibration(world.task, y, _chances(world, shares))
    if world.task == "regression":
        return found | _ceilings_of_scores(world, shares, y)
    wa = metrics.score(world.task, world.classes, y, shares)
    ua = metrics.score(world.task, world.classes, y, shares / shares.mean(0))
    found |= {"wa": wa["wa"], "ua": ua["ua"], "brier": wa["brier"]}
    by_class = [best_answers(shares[:, c], np.ones(len(y))) for c in range(len(world.classes))]
    for name in ("f1_weighted", "acc"):
        scores = metrics.score(world.task, world.classes, y, np.stack([answers[name] for answers in by_class], 1))
        found |= {key: value for key, value in scores.items() if key.startswith(name)}
    return found


def _chances(world, shares):
    """Probabilities of the questions of `metrics.calibration`: positive, of what is not 0, or each class."""
    if world.task != "regression":
        return shares
    return (shares[:, world.values > 0].sum(1) / shares[:, world.values != 0].sum(1))[:, None]


def _ceilings_of_scores(world, shares, y):
    """The part of `ceilings_of` that is about scores: shares (N, K) of the values of the world."""
    values = world.values
    median = values[(shares.cumsum(1) >= 0.5).argmax(1)]
    of_mean = metrics.score(world.task, (), y, shares @ values)["corr"]
    found = {"mae": metrics.score(world.task, (), y, median)["mae"], "corr": 0.0 if np.isnan(of_mean) else of_mean}
    for name, reading in (("acc7_rounded", metrics.rounded), ("acc7_bins", metrics.binned)):
        classes = np.unique(reading(values))
        mass = np.stack([shares[:, reading(values) == c].sum(1) for c in classes], 1)
        found[name] = metrics.score(world.task, (), y, classes[mass.argmax(1)].astype(np.float64))[name]
    positive, nonzero = shares[:, values > 0].sum(1), shares[:, values != 0].sum(1)
    nonneg = shares[:, values >= 0].sum(1)
    for kind, asked in (("nonzero", (positive / nonzero, nonzero)), ("nonneg", (nonneg, np.ones(len(y))))):
        for name, said in best_answers(*asked).items():
            found[f"{name}_{kind}"] = metrics.score(world.task, (), y, np.where(said, 1, -1))[f"{name}_{kind}"]
    return found


def best_answers(probability, weight):
    """The yes-or-no answers that maximise the expected accuracy and the expected weighted F1: two arrays (N,) bool.

    probability, weight (N,): p(yes | x, asked) and p(asked | x). The best answers say yes to the k most probable; for
    F1 k is chosen on expected counts, so the labels are not looked at. Ties are split if that is best: who knows
    nothing does better in F1 with some yes and some no than with a constant.
    """
    order = np.argsort(-probability, kind="stable")
    yes, asked = (probability * weight)[order], weight[order]
    hits, said = (np.concatenate([[0.0], np.cumsum(part)]) for part in (yes, asked))  # of the first k, k = 0 ... N
    positives, everyone = hits[-1], said[-1]
    negatives = everyone - positives
    right = negatives - (said - hits)  # rightly said no among the rest
    f1_yes = 2 * hits / (said + positives)
    f1_no = 2 * right / (everyone - said + negatives)
    k = int((positives * f1_yes + negatives * f1_no).argmax())
    answers = np.zeros(len(probability), bool)
    answers[order[:k]] = True
    return {"acc": probability > 0.5, "f1_weighted": answers}


# --- agreement with the truth ----------------------------------------------------------------------------------------


def as_said(world, labels):
    """Labels (N,) in the form of predictions: scores as they are, classes as (N, C) bool."""
    return labels if world.task == "regression" else labels[:, None] == world.values


def best_reading(world, posterior):
    """The prediction that agrees most with the truth, from the posterior of the level (N, K)."""
    if world.task == "regression":
        sign = torch.from_numpy(np.sign(world.values)).to(posterior.dtype)
        return (posterior @ sign).numpy()
    return (posterior == posterior.max(-1, keepdim=True).values).numpy()


def readings(world, batch, truth, conditions):
    """What a world makes possible, in per cent: the ceiling of the main metric under subsets of modalities, then the
    agreement with the truth of the `labels` and of the `best` reader of everything."""
    tables, y, found = evidence(world, batch, batch.valid), batch.y.numpy(), {}
    for condition in conditions:
        shares = label_posterior(world, [tables[m] for m in condition.split("+")])
        found[condition] = ceilings_of(world, shares, y)[metrics.main_metric(world.task)]
    found["labels"] = metrics.agreement(world.task, truth, as_said(world, y))
    found["best"] = metrics.agreement(world.task, truth, best_reading(world, level_posterior(world, tables.values())))
    return found


# --- the value of modalities -----------------------------------------------------------------------------------------


def values(benchmark, rows):
    """V*(Q) = log p(y | x_Q) of each utterance for every set of modalities: tuple of names -> (n,), () included."""
    world, batch = benchmark.world, benchmark.batch.take(torch.as_tensor(rows))
    tables, found = evidence(world, batch, batch.valid), {}
    index = torch.from_numpy(_index(world, batch.y.numpy()))
    for chosen in chain.from_iterable(combinations(world.steps, size) for size in range(len(world.steps) + 1)):
        posterior = label_posterior(world, [tables[m] for m in chosen]).expand(len(index), -1)
        found[chosen] = posterior.gather(-1, index.unsqueeze(-1)).squeeze(-1).log()
    return found


def shapley(values):
    """Exact Shapley value of each modality: m -> (n,); sums to V(all) - V().

    phi_m = sum over C without m of |C|! (M - |C| - 1)! / M! (V(C + m) - V(C))
    """
    everything = max(values, key=len)
    count, found = len(everything), {}
    for m in everything:
        found[m] = sum(
            factorial(len(c)) * factorial(count - len(c) - 1) / factorial(count)
            * (values[tuple(k for k in everything if k in c or k == m)] - v)
            for c, v in values.items()
            if m not in c
        )  # fmt: skip
    return found


def best_candidate(values, present, added=1):
    """For each utterance the set of `present` and `added` more modalities with the highest V*: (sets, index (n,))."""
    everything = max(values, key=len)
    absent = [m for m in everything if m not in present]
    sets = [
        tuple(m for m in everything if m in present or m in more)
        for more in combinations(absent, min(added, len(absent)))
    ]
    return sets, torch.stack([values[chosen] for chosen in sets]).argmax(0)


def _index(world, y):
    """The grid position of each label."""
    return np.searchsorted(world.values, y)
