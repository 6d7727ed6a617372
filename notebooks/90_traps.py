# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The museum of traps: how tables go wrong
#
# Two tables of the field can differ by ten points while the two systems behind them are the same. This lecture collects
# the reasons that are known: a swapped pair of arguments, a lookup that begins at one, a mask that nobody redrew. Each
# stands here in a few lines, the wrong way beside the right one, and its effect is measured.
#
# All of them were found in public code that serious people wrote and others built upon. The handbook names effects, not
# authors: a reader who finds one of these in code of their own is in good company.
#
# | profile | what runs | time on two CPU cores (virtual machine, x86-64) |
# |---|---|---|
# | `smoke` | everything, on tiny synthetic data where labels alone are not enough | under half a minute |
# | `small` | the same on the stand-in of MOSI | under half a minute |
#
# ## What you will learn
#
# To ask four questions of any table: *which utterances, which classes and which weights are behind this score? What
# share of the input was really missing? Who chose the epoch? What does a system score that knows nothing?*
#
# Notation: $y$ a score in $[-3, 3]$, $N$ utterances, $M = 3$ modalities, a *slot* is one modality of one utterance.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke or small
benchmarks: list = []  # empty: the three stand-ins; the first with scores is used
artefacts: list = []  # empty: all
seeds: list = []  # nothing here is trained through the run store: no effect
device: str = "auto"
jobs: int = 1
scheduler: str = ""
out: str = ""  # where artefacts go; empty: figures/ (smoke: runs/)
retrain: bool = False

# %% tags=["plan"]
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

from mmkd_lib.book import session, traps
from mmkd_lib.book.printing import check, source
from mmkd_lib.data import metrics, missing
from mmkd_lib.data.benchmarks import load
from mmkd_lib.results import figures, tables
from mmkd_lib.support.draws import generator

# %% tags=["plan", "nbval-ignore-output"]
here = session.start(
    "traps",
    profile=profile,
    benchmarks=benchmarks,
    artefacts=artefacts,
    seeds=seeds,
    device=device,
    jobs=jobs,
    scheduler=scheduler,
    out=out,
    retrain=retrain,
)

# %% [markdown]
# Scores are taken on the 686 test labels of CMU-MOSI wherever labels are all that is needed: their counts by value are a
# published fact. Where predictions are needed, a small network is trained below, on synthetic data. Every exhibit goes
# into one list, from which the table at the end is made.

# %%
museum = []


def exhibit(trap, measured_on, quantity, wrong, right, digits=1):
    """Keep one line of the museum: a quantity, the wrong way and the right way."""
    museum.append((trap, measured_on, quantity, float(wrong), float(right), digits))


source(traps.mosi_test_labels)
y = traps.mosi_test_labels()
rated = y != 0  # labels that are not neutral
check("686 labels, of which 30 are exactly 0", (len(y), (~rated).sum()) == (686, 30))
check("277 positive, 379 negative", ((y > 0).sum(), (y < 0).sum()) == (277, 379))

# %% [markdown]
# ## Part 1: the score
#
# ### Trap 1: the arguments of the weighted F1
#
# *Where it hides.* `f1_score(prediction, truth, average="weighted")`: the library wants the truth first. F1 of a class
# is symmetric in the two, so nothing looks wrong; the weights are not.
#
# $$F_\text{weighted} = \sum_c w_c \frac{2\,\text{hits}_c}{\text{support}_c + \text{claims}_c}, \qquad
# \text{right: } w_c = \frac{\text{support}_c}{N}, \qquad \text{swapped: } w_c = \frac{\text{claims}_c}{N}$$
#
# A class that is never predicted then has weight 0, and its F1 of 0 costs nothing.

# %%
source(traps.f1_swapped)
constant = np.full(len(y), -1.0)  # "negative", always
right = metrics.score("regression", (), y, constant)
swapped = traps.f1_swapped(y[rated] > 0, constant[rated] > 0)
print(f"always negative: {right['f1_weighted_nonzero']:.1f}, swapped {swapped:.1f}")
exhibit("1 swapped F1", "MOSI labels, 656 not neutral", "weighted F1 of 'negative' (%)", swapped, right["f1_weighted_nonzero"])

# %% tags=["check"]
check("the constant scores 42.3, swapped 73.2", (round(right["f1_weighted_nonzero"], 1), round(swapped, 1)) == (42.3, 73.2))
in_full = traps.f1_swapped(y >= 0, constant >= 0)
check("with the neutral ones as 'not negative': 39.3, swapped 71.2", (round(right["f1_weighted_nonneg"], 1), round(in_full, 1)) == (39.3, 71.2))

# %% [markdown]
# Thirty points, for a system that never listens. Living systems gain less, and the more the further their answers lean
# to one side. A system that hears the label with noise, shifted towards the negative:

# %%
noise = generator("a living system", 0).normal(0, 1.5, len(y))
for shift in (0.0, 0.5, 1.0, 1.5, 2.0):
    heard = y + noise - shift
    fair = metrics.score("regression", (), y, heard)["f1_weighted_nonzero"]
    gained = traps.f1_swapped(y[rated] > 0, heard[rated] > 0) - fair
    print(f"shift {shift:.1f}: says negative to {(heard[rated] <= 0).mean():.0%}, weighted F1 {fair:.1f}, swapped {gained:+.2f}")
    if shift == 1.0:
        exhibit("1 swapped F1", "MOSI labels, 656 not neutral", "weighted F1 of a leaning system (%)", fair + gained, fair)

# %% [markdown]
# A system that is as often positive as the labels are gains nothing: the trap pays for leaning. Under missing modalities
# most systems lean, because an answer without evidence falls back to the more frequent one.
#
# ### Trap 2: two rules for zero
#
# *Where it hides.* "Acc-2" and "F1" stand for two rules. **Non0** leaves out the utterances whose label is 0 and asks
# *positive?*; **Has0** keeps all and asks *negative or not?* The first counts a prediction of exactly 0 as negative, the
# second as not negative. Both are sound, and both are here; only one name for both is the trap.

# %%
zero = metrics.score("regression", (), y, np.zeros(len(y)))
print({name: round(value, 1) for name, value in zero.items() if name.endswith(("nonzero", "nonneg"))})
exhibit("2 two rules for 0", "MOSI labels", "accuracy of 'always 0': Has0, Non0 (%)", zero["acc_nonneg"], zero["acc_nonzero"])
blunt = metrics.rounded(y + noise).astype(float)  # a system that answers in whole numbers says 0 often
both = metrics.score("regression", (), y, blunt)
print({name: round(value, 1) for name, value in both.items() if name.endswith(("nonzero", "nonneg"))})
exhibit("2 two rules for 0", "MOSI labels", "accuracy in whole numbers: Has0, Non0 (%)", both["acc_nonneg"], both["acc_nonzero"])

# %% tags=["check"]
check("always 0 is 'positive' for 307 of 686", np.isclose(zero["acc_nonneg"], 100 * 307 / 686))
check("and 'negative' for 379 of 656", np.isclose(zero["acc_nonzero"], 100 * 379 / 656))

# %% [markdown]
# The same predictions, and two scores some points apart, in either direction. A third rule exists: on Chinese data of the
# same file family zero counts as *negative* in all utterances.
#
# ### Trap 3: seven classes
#
# *Where it hides.* Nearly all code rounds scores to the nearest whole number. The data set's own description cuts
# elsewhere: $(0, 1]$ is class 1, $[-1, 0)$ is class $-1$, and only 0 is 0. And `numpy.round` sends halves to the *even*
# number: 0.5 becomes 0, and 1.5 becomes 2.

# %%
source(metrics.rounded)
source(metrics.binned)
moved = metrics.rounded(y) != metrics.binned(y)
ties = np.abs(y) % 1 == 0.5
away = np.sign(y) * np.floor(np.abs(y) + 0.5)  # halves away from zero, as taught at school
print(f"{moved.sum()} of {len(y)} labels change class ({moved.mean():.0%}); {ties.sum()} are exact halves,")
print(f"of which {(metrics.rounded(y) != away).sum()} have another class when halves go away from zero")
perfect = metrics.score("regression", (), y, metrics.rounded(y).astype(float))
exhibit("3 seven classes", "MOSI labels", "Acc-7 of the labels, rounded (%)", perfect["acc7_rounded"], perfect["acc7_bins"])

# %% tags=["check"]
check("263 of 686 labels change class, 18 are ties", (moved.sum(), ties.sum()) == (263, 18))
check("a perfect answer in whole numbers: 100, and 61.7 by bins", np.isclose(perfect["acc7_bins"], 100 * (1 - 263 / 686)))

# %% [markdown]
# More than a third of the labels belong to another class under the other definition. The handbook reports both, under
# names that say which: `acc7_rounded` and `acc7_bins`.
#
# ### Trap 4: "no" is a good answer
#
# *Where it hides.* IEMOCAP's "happy, sad, angry, neutral" are, in one family of code, four questions with yes and no,
# each scored over both answers, then averaged. In another family they are one question with four answers. The first has
# a floor of 75: three of four answers are "no" by construction.

# %%
counts = list(traps.IEMOCAP_TEST.values())
emotion = np.repeat(np.arange(4), counts)
never = np.zeros((len(emotion), 4), bool)
four = metrics.score("classification", tuple(traps.IEMOCAP_TEST), emotion, never)
floor = metrics.floor("classification", tuple(traps.IEMOCAP_TEST), emotion)
print({name: round(value, 2) for name, value in four.items()})
print("best constant, one question of four answers:", {name: round(floor[name], 2) for name in ("wa", "ua", "f1_weighted")})
exhibit("4 'no' to everything", "IEMOCAP counts", "accuracy knowing nothing: four questions, one (%)", four["acc_mean"], floor["wa"])
exhibit("4 'no' to everything", "IEMOCAP counts", "weighted F1, likewise (%)", four["f1_weighted_mean"], floor["f1_weighted"])

# %% tags=["check"]
check("75.00 accuracy", round(four["acc_mean"], 2) == 75.00)
check("64.66 weighted F1", round(four["f1_weighted_mean"], 2) == 64.66)

# %% [markdown]
# So 76 on such a table is one point above nothing, and cannot be set beside 76 on a table of the other family. The
# remedy costs one line: print the floor under every table, as the handbook does.
#
# ## Part 2: what was missing
#
# ### Trap 5: a rate of batches
#
# *Where it hides.* A "missing rate" of 0.5 is realised by taking modalities away from whole *batches*, in shares that
# two short tables hold, relative to the number of batches rounded to tens.

# %%
source(traps.lost_by_batch)
source(traps.mr_batch)

# %% tags=["check"]
told = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
mosi = [traps.lost_by_batch(22, rate).mean() / 3 for rate in told]  # 686 = 21 * 32 + 14
mosei = [traps.lost_by_batch(37, rate).mean() / 3 for rate in told]  # 4,659 in batches of 128
print("told ", *(f"{rate:.3f}" for rate in told))
print("MOSI ", *(f"{rate:.3f}" for rate in mosi))
print("MOSEI", *(f"{rate:.3f}" for rate in mosei))
check("MOSI's test split", np.allclose(mosi, [0.091, 0.182, 0.273, 0.364, 0.455, 0.545, 0.606], atol=5e-4))
check("MOSEI's test split", np.allclose(mosei, [0.108, 0.216, 0.324, 0.432, 0.541, 0.649, 0.667], atol=5e-4))

# %% [markdown]
# MOSI is made easier than the table says, MOSEI harder; so is any other batch size. Counted in slots of utterances the
# rates are a little higher on MOSI, because it is the last, short batch that stays complete. Validation is another
# number of batches, and so another rate: with five batches or fewer nothing is lost at all.

# %%
for rate in (0.5, 0.7):
    easy, hard = traps.mr_batch(686, 32, rate), traps.mr_batch(4659, 128, rate)
    print(f"told {rate}: slots of utterances lost on MOSI {easy.realised:.3f}, on MOSEI {hard.realised:.3f}")
    if rate == 0.5:
        exhibit("5 a rate of batches", "686 utterances, batches of 32", "slots lost at 0.5 (%)", 100 * easy.realised, 100 * rate)
        exhibit("5 a rate of batches", "4,659 utterances, batches of 128", "slots lost at 0.5 (%)", 100 * hard.realised, 100 * rate)
print("MOSI's validation split, 229 utterances:")
for size in (32, 64):
    lost = traps.lost_by_batch(-(-229 // size), 0.5)
    print(f"  batches of {size}: {len(lost)} batches, {lost.mean() / 3:.3f} of their slots")

# %% [markdown]
# ### Trap 6: rate zero
#
# *Where it hides.* The tables begin at 0.1, so the row is `int(rate * 10 - 1)`. Python counts negative indices from the
# end: "nothing missing" reads the *last* row, the harshest there is.

# %%
source(traps.row_of)
nothing = traps.mr_batch(686, 32, 0.0)
rows = {rate: traps.row_of(rate) for rate in (0.0, 0.05, 0.1, 1 - 0.8, 0.35, 0.7)}
print("rate -> row:", rows)
print(f"slots lost at rate 0: {nothing.realised:.3f}")
exhibit("6 rate 0 is row -1", "686 utterances, batches of 32", "slots lost at 0.0 (%)", 100 * nothing.realised, 0)

# %% tags=["check"]
check("rate 0 loses what 0.7 loses", traps.lost_by_batch(22, 0.0).tolist() == traps.lost_by_batch(22, 0.7).tolist())
check("1 - 0.8 is a little less than 0.2, and reads the row of 0.1", rows[1 - 0.8] == traps.row_of(0.1))

# %% [markdown]
# The same cut turns 0.35 into 0.3, and 1 - 0.8 into 0.1. A rate is a number, not an index: the handbook's `mr=r` computes
# with it and removes exactly round($r N M$) slots.
#
# ### Figure 1: six things called missing rate
#
# `drop-prob` is the chance that an utterance keeps one of the six incomplete subsets, which lack 1.5 of three modalities
# in the mean: half of the nominal rate. `mr-cpm` keeps one modality of each utterance, so nothing beyond 2/3 can go.

# %%
source(traps.drop_prob)
source(traps.mr_cpm)
name = [*here.benchmarks("regression"), "synthetic-mosi"][0]
data = load(name, here.profile)
pool = generator("test part").permutation(data.rows("test"))
test, fresh = np.split(pool, [min(686, len(pool) // 2)])  # as many as MOSI has, and others to judge a choice by
whole = {rate: missing.frozen_mask(f"mr={rate}", data.batch, test, data.mask_key).realised["slots"] for rate in (0.0, *told)}
exact = [abs(lost - rate) * 3 * len(test) for rate, lost in whole.items() if rate < 2 / 3]
check("ours is exact to half a slot", max(exact) <= 0.5 + 1e-6)

# %% tags=["artefact:traps/figure1", "nbval-ignore-output"]
protocols = {
    "mr-batch, 686 in 32s": lambda rate: traps.mr_batch(686, 32, rate).realised,
    "mr-batch, 4,659 in 128s": lambda rate: traps.mr_batch(4659, 128, rate).realised,
    "drop-prob": lambda rate: traps.drop_prob(4659, rate).realised,
    "mr-cpm": lambda rate: traps.mr_cpm(4659, rate).realised,
    "mr=r, here": whole.get,
}
figure = figures.blank(figures.COLUMN, 3.0)
axis = figure.subplots()
axis.plot([0, 0.7], [0, 0.7], color="0.4", lw=0.8, label="as told")
axis.axhline(2 / 3, color="0.4", lw=0.8, ls=(0, (4, 3)), label="one modality each")
lines = []
for (label, realised), (colour, marker) in zip(protocols.items(), figures.CLASSES, strict=False):
    found = [(rate, realised(rate)) for rate in (0.0, *told)]
    look = {"color": colour, "marker": marker} | ({"mfc": "none", "ms": 6} if label == "mr-cpm" else {})
    axis.plot(*np.transpose(found[1:]), label=label, ls=(0, (2, 1.5)) if label == "mr-cpm" else "-", **look)
    axis.plot(*found[0], **look)  # rate 0 stands alone
    lines += [(label, *point) for point in found]

# %% tags=["nbval-ignore-output"]
axis.set(xlabel="missing rate as told", ylabel="share of slots that is missing", ylim=(-0.02, 0.72))
figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
numbers = pd.DataFrame(lines, columns=["protocol", "nominal", "realised"])
if here.wants("traps/figure1"):
    alt = (
        "Share of slots that is really missing against the missing rate as told, five protocols. Batch-wise rates lie "
        "below the diagonal for 686 utterances, above it for 4,659, and near two thirds at rate zero; drop-prob loses "
        "half of the rate; the other two follow the diagonal up to two thirds."
    )
    here.show_figure("traps/figure1", figure, numbers, alt, names=[name])
half = numbers.set_index(["protocol", "nominal"])["realised"].to_dict()
exhibit("7 other rates", "4,659 utterances, drop-prob", "slots lost at 0.5 (%)", 100 * half["drop-prob", 0.5], 50)
exhibit("7 other rates", "4,659 utterances, mr-cpm", "slots lost at 0.7 (%)", 100 * half["mr-cpm", 0.7], 70)

# %% [markdown]
# At the same label on the axis a model may lose a quarter or more than half of its input. Two curves over "missing rate"
# can only be compared when the axis is the *realised* share; the handbook stores it beside every score.
#
# ### A small system to test on
#
# Two exhibits need predictions. Twenty networks with one hidden layer read the mean of each modality's frames; they
# differ in initial weights and order. After each of 20 epochs their answers are kept; of the first network, at the end,
# those under every subset of modalities.

# %%
batch = data.standardised(data.rows("train"))
means = [batch.x[m].sum(1) / batch.valid[m].sum(1, keepdim=True).clamp(min=1) for m in missing.MODALITIES]
widths = [mean.shape[1] for mean in means]
shown = torch.from_numpy(np.repeat(traps.PATTERNS, widths, axis=1))  # (7, D): the features that a subset leaves
inputs = torch.cat(means, 1) * shown.unsqueeze(1)  # (7, N, D)
count, epochs, hidden = 20, 20, 16
own = [generator("network", seed) for seed in range(count)]
sizes = {"first": (sum(widths), hidden), "last": (hidden, 1)}
weights = {k: torch.tensor(np.stack([g.normal(0, d**-0.5, (d, h)) for g in own])).float() for k, (d, h) in sizes.items()}


def answers(x):
    """Scores (S, ...) of all networks for x (S, ..., D) or (..., D)."""
    return ((x @ weights["first"]).relu() @ weights["last"]).squeeze(-1)


# %% tags=["nbval-ignore-output"]
torch.set_num_threads(1)  # matrices this small are not worth sharing
optimiser = torch.optim.Adam([w.requires_grad_() for w in weights.values()], 0.002)
train, target, kept = torch.from_numpy(data.rows("train")), data.batch.y, []
for _ in range(epochs):
    order = torch.from_numpy(np.stack([g.permutation(train) for g in own]))  # (S, n)
    for rows in order.split(32, 1):
        loss = (answers(inputs[-1][rows]) - target[rows]).square().mean(1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        kept.append(answers(inputs[-1]))  # (S, N)
with torch.no_grad():
    one = torch.stack([answers(x)[0] for x in inputs]).numpy()  # (7, N): the first network after the last epoch
said, truth = torch.stack(kept, 1).numpy(), target.numpy()  # (S, E, N), (N,)


def scored(rows, predictions):
    """The main metric of predictions (N,) on some utterances."""
    return metrics.score("regression", (), truth[rows], predictions[rows])["f1_weighted_nonzero"]


# %% [markdown]
# ### Trap 8: a new mask at every test pass
#
# *Where it hides.* Masks are drawn inside the item function, or from a generator that goes on. Then no two passes, no
# two epochs and no two methods see the same test set. One network, 200 passes, its modalities lost anew each time, under
# three protocols at the nominal rate 0.5.

# %%
passes = 200
position = {tuple(pattern): k for k, pattern in enumerate(traps.PATTERNS)}


def under(mask):
    """Score of the network when each test utterance keeps the modalities of its row of mask (n, 3)."""
    mixed = one[-1].copy()
    mixed[test] = one[[position[tuple(row)] for row in mask], test]
    return scored(test, mixed)


def slots(mask_seed):
    """The modalities kept (n, 3) under the handbook's `mr=0.5`."""
    frames = missing.frozen_mask("mr=0.5", data.batch, test, data.mask_key, mask_seed).frames
    return np.stack([frames[m].any(1).numpy() for m in missing.MODALITIES], 1)


# %%
size = -(-len(test) // 22)  # as many batches as MOSI has: 32 utterances each, in smoke 5
redrawn = {
    "drop-prob, anew": [under(traps.drop_prob(len(test), 0.5, reading=k).kept) for k in range(passes)],
    "mr-batch, anew": [under(traps.mr_batch(len(test), size, 0.5, seed=k).kept) for k in range(passes)],
    "mr=r, anew": [under(slots(k)) for k in range(passes)],
    "mr=r, frozen": [under(slots(0)) for _ in range(3)],
}
spread = {label: np.std(values, ddof=1) for label, values in redrawn.items()}

# %% tags=["check", "nbval-ignore-output"]
for label, values in redrawn.items():
    print(f"{label}: mean {np.mean(values):.1f}, deviation {spread[label]:.2f}, from {min(values):.1f} to {max(values):.1f}")
check("a frozen mask: three passes, one score", spread["mr=r, frozen"] == 0)
check("masks drawn anew: scores differ", spread["drop-prob, anew"] > 0)
check("under the handbook's own protocol, too", spread["mr=r, anew"] > 0)
for label in list(redrawn)[:-1]:
    words = f"deviation over passes, {label.split(',')[0]} (points)"
    exhibit("8 masks drawn anew", f"{name}, one network", words, spread[label], spread["mr=r, frozen"], 2)

# %% [markdown]
# The deviation is that of one and the same model. Whoever compares two methods, each under masks of its own, adds 1.4
# times this much noise to the difference, and whoever keeps the best of several passes adds it to the score. No protocol
# is to blame: the handbook's own `mr=r` wanders as far when it is drawn anew. Freezing is what helps.
#
# The handbook draws test masks once, from a key of benchmark, condition and mask seed, and writes their hash into every
# record; tables refuse to compare systems whose hashes differ. A frozen mask is one draw like any other, kind or harsh:
# comparisons under it are fair, and another mask seed tells how far the level itself would move.
#
# ### Trap 9: masks frozen by worker
#
# *Where it hides.* The opposite mistake, in training. Masks are to be drawn anew every epoch; the data set does so
# *inside its item function, when it is asked for item 0*. With loader workers each has a copy of the data set, and only
# the copy that is asked for item 0 draws. The others serve the masks of the day the data set was made.

# %%
source(traps.RedrawnAtZero)
source(traps.epoch_with_workers)


def stale(n, workers, batch_size, epochs):
    """Utterances per epoch (epochs,) whose mask is still the one from construction."""
    dataset, draws = traps.RedrawnAtZero(n, 0.5), generator("order", n, workers)
    counts = []
    for _ in range(epochs):
        drawing, _ = traps.epoch_with_workers(dataset, draws.permutation(n), workers, batch_size)
        counts.append((drawing == 0).sum())
    return np.array(counts)


# %% tags=["check"]
eight, none = stale(64, 8, 8, 400), stale(64, 0, 8, 20)
print(f"64 utterances, eight workers: {eight.min()} to {eight.max()} stale, {eight.mean():.1f} in the mean")
print("no workers, epoch by epoch:", *none[:6], "...")
check("eight workers: 56 to 63 of 64, every epoch", (eight.min(), eight.max()) == (56, 63))
check("no workers: none after the first epoch", not none[1:].any())
real = stale(1284, 8, 64, 30)
print(f"1,284 utterances in batches of 64, eight workers: {real.mean() / 1284:.0%} stale")
exhibit("9 masks frozen by worker", "1,284 utterances, 8 workers", "masks not redrawn (%)", 100 * real.mean() / 1284, 0)

# %% [markdown]
# The training set meant to be drawn anew is nearly constant, and the run reports nothing unusual. With eight utterances a
# worker, one to eight follow item 0 in its worker's queue, so 56 to 63 of 64 are stale. Without workers only the first
# epoch is, up to the place of item 0 in the order. In the handbook a mask is a pure function of (seed, step, name);
# who computes it, and in which order, cannot matter.
#
# ## Part 3: choosing, weighing, reporting
#
# ### Trap 10: the epoch is chosen on the test set
#
# *Where it hides.* The test set is scored after every epoch, and the best line is copied into the table. Twenty
# networks; one half of the pool plays the test set, the utterances beside it have not been looked at by anybody.

# %%
source(traps.peeked)
valid = data.rows("valid")[:229]
halves = {"valid": valid, "test": test, "fresh": fresh}
curves = {part: np.array([[scored(rows, e) for e in run] for run in said]) for part, rows in halves.items()}  # (S, E)
proper, best = traps.peeked(curves["valid"], curves["test"])
everyone = np.arange(count)
by_test = curves["fresh"][everyone, curves["test"].argmax(1)]  # what the two choices are worth to others
by_valid = curves["fresh"][everyone, curves["valid"].argmax(1)]


def points(gain):
    """Mean of a gain (S,) with its 95 % t interval, in words."""
    return f"{tables.format_number(gain.mean(), tables.half_width(gain))} points (n = {len(gain)})"


print("on the test set that chose:", points(best - proper))
print("on fresh utterances:", points(by_test - by_valid))
exhibit("10 the test set chooses", f"{name}, 20 networks", "weighted F1 of the chosen epoch (%)", best.mean(), proper.mean(), 2)
check("peeking never loses on the set that was peeked at", (best >= proper).all())
check("and gains in the mean", best.mean() > proper.mean())

# %% [markdown]
# The first number is what the table gains, the second what a user of the model gains. What is left of the second is the
# worth of a larger set to choose on; the rest is luck that belongs to these test utterances. The gain grows with
# the number of looks:

# %% tags=["artefact:traps/figure2", "nbval-ignore-output"]
figure = figures.blank(figures.FULL, 2.7)
left, axis = figure.subplots(1, 2)
jitter, lines = generator("jitter").uniform(-0.3, 0.3, passes), []
for row, (label, values) in enumerate(redrawn.items()):
    colour, marker = figures.CLASSES[{"drop-prob": 2, "mr-batch": 0, "mr=r": 4}[label.split(",")[0]]]  # as in figure 1
    dots = {"color": colour, "marker": marker, "s": 9, "alpha": 0.6, "lw": 0}
    left.scatter(values, row + jitter[: len(values)] * (spread[label] > 0), **dots)
    lines += [("a", label, k, value, np.nan) for k, value in enumerate(values)]
left.axvline(redrawn["mr=r, frozen"][0], color="0.4", lw=0.8, ls=(0, (4, 3)))
left.set(title=f"(a) one network, {passes} test passes", xlabel="weighted F1 (%)", ylim=(3.6, -0.6))
left.set_yticks(range(len(redrawn)), labels=list(redrawn))
for label, judged in {"the set that chose": "test", "fresh utterances": "fresh"}.items():
    for k in range(1, epochs + 1):
        picks = {part: curves[part][:, :k].argmax(1) for part in ("valid", "test")}
        gain = curves[judged][everyone, picks["test"]] - curves[judged][everyone, picks["valid"]]
        lines.append(("b", label, k, gain.mean(), tables.half_width(gain)))
numbers = pd.DataFrame(lines, columns=["panel", "label", "x", "value", "half"])

# %% tags=["nbval-ignore-output"]
styles = zip(("the set that chose", "fresh utterances"), (figures.CLASSES[1], figures.CLASSES[3]), strict=True)
for label, (colour, marker) in styles:
    line = numbers[(numbers["panel"] == "b") & (numbers["label"] == label)]
    axis.plot(line["x"], line["value"], color=colour, marker=marker, label=label)
    axis.fill_between(line["x"], line["value"] - line["half"], line["value"] + line["half"], color=colour, alpha=0.18, lw=0)
axis.axhline(0, color="0.4", lw=0.8)
axis.set(title="(b) test-chosen less validation-chosen epoch", xlabel="epochs looked at", ylabel="gain (points)")
axis.xaxis.set_major_locator(figures.plt.MaxNLocator(integer=True))
axis.legend(loc="upper left", fontsize=7)
if here.wants("traps/figure2"):
    alt = (
        f"(a) A dot a test pass: scores of one network over {passes} passes with modalities lost anew, under three "
        "protocols at the nominal rate 0.5; each spreads over several points. The dashed line is the one score under a "
        "frozen mask. (b) Gain of choosing the epoch on the test set against the number of epochs looked at: it grows on "
        "the set that chose, and less on fresh utterances. Mean of 20 networks with the 95 % t interval."
    )
    here.show_figure("traps/figure2", figure, numbers, alt, names=[name])

# %% [markdown]
# (a) Every dot is the same network at the same nominal rate. Where a row stands tells how much its protocol really takes
# away; how wide it is tells what redrawing costs. (b) The upper curve is what tables gain; the distance to the lower one
# is paid by nobody's users.
#
# ### Trap 11: the mean of a divergence
#
# *Where it hides.* `kl_div` has two means. `"batchmean"` is the Kullback-Leibler divergence averaged over utterances;
# `"mean"`, the default, also divides by the number of classes. So a loss weight that one paper prints is another weight
# in code that took the other mean, and the two tune to different optima.

# %%
source(traps.kl_mean_of_elements)
torch_draws = torch.Generator().manual_seed(0)
for classes in (2, 4, 7):
    logits = torch.randn(2, 64, classes, generator=torch_draws, dtype=torch.float64)
    log_q, p = logits[0].log_softmax(-1), logits[1].softmax(-1)
    defined = F.kl_div(log_q, p, reduction="batchmean")
    found = traps.kl_mean_of_elements(log_q, p)
    print(f"C = {classes}: KL {defined:.4f}, mean of elements {found:.4f}: a weight of 1 is really {found / defined:.3f}")
    check(f"the ratio is 1 / {classes}", torch.isclose(found * classes, defined))
    if classes == 4:
        exhibit("11 mean of elements", "random logits, C = 4", "what a KL weight of 1 is", found / defined, 1, 2)
torch_default = F.kl_div(log_q, p, reduction="none").mean()  # "mean" says so itself, in a warning
check("this is the default of kl_div", torch.isclose(torch_default, found))

# %% [markdown]
# Two answers: half the weight; seven: a seventh. On sequences of $T$ frames and $d$ columns the same default divides by
# $T d$, and a term with weight 1 all but vanishes. It is a change of a hyper-parameter, not of the method; but a printed
# weight means nothing without the reduction. The handbook's softened KL is the mean over utterances.
#
# ### Trap 12: the deviation of three seeds
#
# *Where it hides.* `numpy.std` divides by $n$. Of few seeds that is too small by $\sqrt{(n - 1) / n}$, and a table shows
# steadier systems than it has.

# %%
source(traps.population_deviation)
final = curves["test"][:, -1]
for n in (3, 5, 10, 20):
    few, right = traps.population_deviation(final[:n]), np.std(final[:n], ddof=1)
    covered = 1 - 2 * stats.t.sf(np.sqrt(n - 1), n - 1)  # of seeds that vary like a normal
    print(f"n = {n}: {few / right:.3f} of the right deviation; mean ± deviation holds the truth in {covered:.0%} of cases")
    check(f"n = {n}: it is sqrt((n - 1) / n)", np.isclose(few / right, np.sqrt((n - 1) / n)))
    if n == 3:
        exhibit("12 divisor n", f"{name}, three networks", "deviation over seeds (points)", few, right, 2)

# %% [markdown]
# For three seeds a fifth of the spread is gone. And a deviation is no interval: as printed, mean ± deviation of three
# seeds misses the truth in three of ten cases, and of twenty seeds it hardly ever does. Tables here hold the 95 % t
# interval of the mean, and the number of seeds.
#
# ## Table 1: the museum on one page

# %% tags=["artefact:traps/table1", "nbval-ignore-output"]
frame = pd.DataFrame(museum, columns=["trap", "measured on", "quantity", "wrong", "right", "digits"])
frame["effect"] = frame["wrong"] - frame["right"]
cells = frame.drop(columns="digits").astype(object)
for column, form in {"wrong": "{:.{}f}", "right": "{:.{}f}", "effect": "{:+.{}f}"}.items():
    cells[column] = [form.format(value, digits) for value, digits in zip(frame[column], frame["digits"], strict=True)]
notes = [
    "Wrong less right. Of trap 2 neither is wrong: one name for both is. MOSI and IEMOCAP rows: published label counts.",
    "Slots: share of (utterance, modality) pairs; 'right' is the rate that was asked for, where mr-cpm and the handbook's "
    "mr=r stop at two thirds: what is right is to write down the realised one.",
    f"Trap 10: {points(best - proper)} on the set that chose, {points(by_test - by_valid)} on fresh utterances.",
]
if here.wants("traps/table1"):
    here.show_table("traps/table1", tables.Table(cells, frame.drop(columns="digits").round(4), notes), names=[name])
check("every trap is in the museum", frame["trap"].str.split().str[0].astype(int).nunique() == 12)

# %% [markdown]
# Read the last column from the top: the largest effects come from the *meaning* of a score and of a rate, and need no
# model at all. They are also the cheapest to find. Before a difference between two tables is explained by a method, put
# a constant predictor through both pipelines, and count what is missing under both masks.
#
# ## Exercises
#
# Write the lines yourself, then run the cell below them: it says what holds. They need the imports and no training. For
# a class, `mmkd exercises 90_traps` writes a copy with gaps and one with hints.

# %% [markdown] tags=["exercise"]
# ### Exercise 1: both F1 from one function
#
# *easy, 15 minutes*
#
# Write the weighted F1 in per cent for any number of classes, with the truth first. It shall not divide by zero: a class
# that neither is there nor is said must not matter. Called with its arguments swapped, it is the trap.
#
# Before you run the check, guess: for which predictions do both orders give the same?


# %% tags=["solution"]
def weighted_f1(labels, claimed):
    """Weighted F1 (%) of the classes claimed (N,) for the labels (N,): weights are the shares of the labels."""
    # solution
    total = 0.0
    for c in np.unique(labels):  # only these have a weight
        hits = ((labels == c) & (claimed == c)).sum()
        total += (labels == c).mean() * 2 * hits / ((labels == c).sum() + (claimed == c).sum())
    return 100 * total
    # end of solution


# %% tags=["check"]
tosses = np.random.default_rng(3)
for size in (2, 4, 7):
    gold, claimed_now = tosses.integers(size, size=(2, 90))
    both_ways = weighted_f1(gold, claimed_now), weighted_f1(claimed_now, gold)
    check(f"{size} classes, swapped: the trap", np.isclose(both_ways[1], traps.f1_swapped(gold, claimed_now)))
    mixed_up = tosses.permutation(gold)  # every class is said as often as it is there
    check(f"{size} classes: no lean, no gain", np.isclose(weighted_f1(gold, mixed_up), weighted_f1(mixed_up, gold)))
gold = traps.mosi_test_labels()
gold = gold[gold != 0]
for told_always in (-1.0, 1.0):
    constantly = np.full(len(gold), told_always)
    library = metrics.score("regression", (), gold, constantly)["f1_weighted_nonzero"]
    check(f"always {told_always:+.0f}: the library's {library:.1f}", np.isclose(weighted_f1(gold > 0, constantly > 0), library))
check("a class that is never there does not matter", np.isclose(weighted_f1(np.array([0, 0]), np.array([0, 9])), 200 / 3))

# %% [markdown] tags=["instructor"]
# **Instructor.** Ten minutes, five for the guess. Both orders agree where claims equal supports, class by class; this is
# why a calibrated system hides the trap. They also agree by accident, for example with two classes when F1 is equal.
#
# *Common mistake:* the unweighted mean over classes (macro F1), or the F1 of the positive class alone.
#
# *Follow-up:* which constant is rewarded most by the swap, and at which class balance? (The rarer the class, the more
# of its F1 of $2s / (1 + s)$ the right weight $s$ takes away: the loss is largest at $s = \sqrt 2 - 1$.)
#
# <details><summary>Tempting answers that the check refuses</summary>
#
# - macro F1: `np.unique(labels)` → `np.unique([labels, claimed])`,
#   `(labels == c).mean()` → `1 / len(np.unique([labels, claimed]))`
# - the swap itself: `return traps.f1_swapped(labels, claimed)`
# - accuracy: `return 100 * (labels == claimed).mean()`
# - F1 of the largest class: `np.unique(labels)` → `[labels.max()]`, `(labels == c).mean() * 2` → `2`
# - a share, not per cent: `100 * total` → `total`
# - weighted recall: `return 100 * sum(((labels == c) & (claimed == c)).mean() for c in np.unique(labels))`
#
# </details>

# %% [markdown] tags=["exercise"]
# ### Exercise 2: what a rate really was
#
# *medium, 20 minutes*
#
# A paper reports a batch-wise missing rate. Compute the share of batch slots that was really lost, from the number of
# batches and the rate, without a loop over batches. The tables are `traps.LOSE_TWO` and `traps.LOSE_ONE`.
#
# For which numbers of batches is the rate, up to 0.6, exactly what was said?


# %% tags=["solution"]
def really_lost(batches, rate):
    """Share (0 to 1) of the 3 * batches slots that are lost under `mr-batch` at one of the rates 0.1 ... 0.7."""
    # solution
    row = round(rate * 10) - 1
    divisor = round(batches / 10) * 10  # halves to the even number of tens
    two = min(round(traps.LOSE_TWO[row] * divisor), batches)
    one = min(round(traps.LOSE_ONE[row] * divisor), batches - two)
    return (2 * two + one) / (3 * batches)
    # end of solution


# %% tags=["check"]
rates = [k / 10 for k in range(1, 8)]
wrong_at = [
    (batches, rate)
    for batches in range(1, 151)
    for rate in rates
    if not np.isclose(really_lost(batches, rate), traps.lost_by_batch(batches, rate).mean() / 3)
]
check(f"1 to 150 batches, seven rates; first failures: {wrong_at[:3]}", not wrong_at)
honest = [b for b in range(1, 151) if all(np.isclose(really_lost(b, rate), rate) for rate in rates[:-1])]
check("honest for multiples of ten, and for nothing else", honest == list(range(10, 151, 10)))
check("0.7 is two thirds at most", max(really_lost(b, 0.7) for b in range(1, 151)) <= 2 / 3)

# %% [markdown] tags=["instructor"]
# **Instructor.** Fifteen minutes, five for the question. Three things go wrong: 25 batches round to 20 and not to 30;
# with 37 batches and a divisor of 40 the tables promise more batches than there are; with five the divisor is 0.
#
# *Common mistake:* dividing by the divisor in the end. The rate is then the nominal one, and nothing has been learnt.
#
# *Follow-up:* other tables, (0.4, 0.4) at 0.4 and (0.6, 0.3) at 0.5, are in use as well. Do the realised rates tell them
# apart? (No: the same number of slots, in other patterns.)
#
# <details><summary>Tempting answers that the check refuses</summary>
#
# - the rate as it was told: `return min(rate, 2 / 3)`
# - divisor is the number of batches: `round(batches / 10) * 10` → `batches`
# - halves up: `round(batches / 10)` → `int(batches / 10 + 0.5)`
# - more batches than there are: `min(round(traps.LOSE_TWO[row] * divisor), batches)` → `traps.LOSE_TWO[row] * divisor`,
#   `min(round(traps.LOSE_ONE[row] * divisor), batches - two)` → `traps.LOSE_ONE[row] * divisor`
# - divided by the divisor: `(2 * two + one) / (3 * batches)` → `(2 * traps.LOSE_TWO[row] + traps.LOSE_ONE[row]) / 3`
# - one for two: `2 * two + one` → `two + one`
#
# </details>

# %% [markdown] tags=["exercise"]
# ### Exercise 3: the price of a look
#
# *hard, 30 minutes*
#
# A system answers each of $n$ test utterances rightly with probability $p$. It is scored $k$ times, each time on new
# luck, and the best score is reported. How many points is the report too high in the mean? Give the exact number, from
# the distribution of a count of right answers, without simulation.
#
# With MOSI's 656 utterances and $p = 0.8$, guess the price of 20 looks first.


# %% tags=["solution"]
def price(looks, n, p):
    """Points by which the best of `looks` independent accuracies on n utterances exceeds 100 p in the mean."""
    # solution
    below = stats.binom.cdf(np.arange(n), n, p)  # P(count <= x) for x = 0 ... n - 1
    best = (1 - below**looks).sum()  # the mean of a count is the sum of P(count > x)
    return 100 * (best / n - p)
    # end of solution


# %% tags=["check"]
check("one look costs nothing", abs(price(1, 656, 0.8)) < 1e-9)
dice = np.random.default_rng(4)
for looks, n, p in ((20, 656, 0.8), (5, 100, 0.6), (200, 656, 0.57)):
    trials = 100 * (dice.binomial(n, p, (20_000, looks)).max(1).mean() / n - p)
    check(f"{looks} looks at {n} utterances: {price(looks, n, p):.2f} points", abs(price(looks, n, p) - trials) < 0.06)
paid = [price(k, 656, 0.8) for k in (1, 2, 5, 10, 20, 50, 100)]
check("every further look costs less than the one before", (np.diff(paid) > 0).all() and paid[2] - paid[1] > paid[-1] - paid[-2])
check("one utterance, two looks at a coin: three quarters", np.isclose(price(2, 1, 0.5), 25))

# %% [markdown] tags=["instructor"]
# **Instructor.** Fifteen minutes on paper, ten at the keyboard. $P(\max \le x) = P(X \le x)^k$, and the mean of a count
# is $\sum_{x \ge 0} P(\max > x)$. For 656 utterances and $p = 0.8$ the deviation is 1.6 points and twenty looks cost 2.9.
#
# *Common mistake:* $k$ times the deviation, or $\sqrt{2 \log k}$ deviations, which is the limit for very many looks and
# a quarter too much at twenty.
#
# *Follow-up:* why did trap 10 find less? Epochs of one run answer mostly alike; their luck is shared, and twenty of them
# are worth a few independent looks. Twenty seeds of which the best is reported come closer.
#
# <details><summary>Tempting answers that the check refuses</summary>
#
# - a normal limit: `return 100 * np.sqrt(2 * np.log(looks) * p * (1 - p) / n)`
# - looks times the deviation: `return 100 * (looks - 1) * np.sqrt(p * (1 - p) / n)`
# - median of the best: `return 100 * (stats.binom.ppf(0.5 ** (1 / looks), n, p) / n - p)`
# - off by one utterance: `np.arange(n)` → `np.arange(n + 1)`, `best / n` → `best / (n + 1)`
# - a share, not points: `100 * (best / n - p)` → `best / n - p`
# - the worst of them: `stats.binom.cdf(np.arange(n), n, p)` → `stats.binom.sf(np.arange(n), n, p)`,
#   `1 - below**looks` → `below**looks`
#
# </details>

# %% [markdown]
# ## What was hard
#
# The effects of traps 1 to 6, 11 and 12 are arithmetic and hold for everyone. Those of 8 and 10 depend on the system, and
# were measured on synthetic data with a tiny network: read their order of magnitude. The toy from which trap 9 is known
# showed 61 to 63 stale masks in a few epochs; over many it is 56 to 63. Of the two lookup tables of trap 5 several
# versions exist that realise the same rates with other patterns.
#
# ## References
#
# * Zadeh et al., *MOSI*, 2016 (labels and split). * Bagher Zadeh et al., *CMU-MOSEI*, ACL 2018 (seven classes). * Busso et
#   al., *IEMOCAP*, 2008. * Zhang et al., *CPM-Nets*, NeurIPS 2019 (the missing rate that keeps one view of each sample).
#   * Cawley and Talbot, *On over-fitting in model selection and subsequent selection bias in performance evaluation*,
#   JMLR 2010. * Sokolova and Lapalme, *A systematic analysis of performance measures for classification tasks*, 2009.
