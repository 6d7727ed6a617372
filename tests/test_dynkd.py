"""DynKD against independent oracles: Python sets, orders of players, gradients as flat vectors, and loops over the
paper's equations in float64, one utterance and one set of modalities at a time.

A set of modalities is a frozenset of places in the oracles, and absent ones are left out, not masked. They are written
from the paper, never from the code under test. Where gradients matter an oracle is a graph of its own.
"""

import math
from collections import Counter
from dataclasses import replace
from itertools import chain, combinations, permutations, product
from unittest.mock import patch

import numpy as np
import pytest
import shapiq
import torch
from contract import (
    TASKS,
    WIDTHS,
    close,
    drawn,
    far,
    in_double,
    losses,
    network,
    other_choices,
    plain_losses,
    scores,
    sequences,
    shaken,
    shape,
    stacked,
    stacked_losses,
    update,
    views_drawn,
    weights_of,
    with_other_values,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from test_readers_folders import iemocap

from mmkd_lib.data.batch import Batch
from mmkd_lib.data.readers import files
from mmkd_lib.data.subsets import between, code_of, members, present
from mmkd_lib.data.synthetic import exact
from mmkd_lib.methods import dynkd
from mmkd_lib.methods.dynkd import BY_RULE, BY_UTILITY, TEACHERS, DynKD, DynKDOptions, rectification
from mmkd_lib.methods.dynkd_routing import (
    candidate_teachers,
    marginal_gains,
    pairs,
    routing_probabilities,
    shapley_values,
)
from mmkd_lib.methods.dynkd_watching import ANGLES, against_truth, angle_shares, routes
from mmkd_lib.methods.losses import mean_counted, softened_kl
from mmkd_lib.runs.experiments import plan
from mmkd_lib.support.draws import Draws, generator
from mmkd_lib.support.errors import BadInput
from mmkd_lib.training.cohort import Cohort
from mmkd_lib.training.fit import fit
from mmkd_lib.training.stack import Stack

VECTORS = {"l": 1, "a": 1, "v": 1}  # frames of each modality
UNEQUAL = {"l": 5, "a": 7, "v": 1}
FOUR = {"l": 1, "a": 3, "v": 1, "e": 1}
FIVE = {"l": 1, "a": 2, "v": 1, "e": 1, "g": 3}
SMALL = {"width": 4, "heads": 2, "dropout": 0.0}
TERMS = ("task", "kd", "align")
brief = settings(deadline=None, max_examples=20)


# --- sets and games by hand ------------------------------------------------------------------------------------------


def mean(values):
    """Of nothing, nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def powerset(items):
    """All subsets, from nothing on."""
    items = sorted(items)
    return [frozenset(c) for size in range(len(items) + 1) for c in combinations(items, size)]


def number(chosen):
    """The code of a set of places."""
    return sum(2**i for i in chosen)


def places(code):
    """The set of a code."""
    return frozenset(i for i in range(8) if int(code) >> i & 1)


def candidates_by_hand(student, exists, most):
    """Eqs. 1-2."""
    absent = exists - student
    k = min(most, len(absent))
    return [student | set(added) for added in combinations(sorted(absent), k)]


def supersets(student, exists):
    return [student | more for more in powerset(exists - student)]


def shapley_by_orders(value, student, absent):
    """Eq. 5 as a mean over all orders in which the absent ones may come; value: set -> number."""
    orders = [*permutations(sorted(absent))]
    found = dict.fromkeys(absent, 0.0)
    for order in orders:
        held = student
        for m in order:
            found[m] += (value[held | {m}] - value[held]) / len(orders)
            held = held | {m}
    return found


def greedy_by_hand(value, student, absent):
    return {m: value[student | {m}] - value[student] for m in absent}


def routed_by_hand(worth, student, candidates, temperature):
    """Eqs. 6-7: set -> probability."""
    scores = {t: sum(worth[m] for m in t - student) / temperature for t in candidates}
    top = max(scores.values())
    shares = {t: math.exp(score - top) for t, score in scores.items()}
    return {t: share / sum(shares.values()) for t, share in shares.items()}


def drawn_by_hand(probability, uniform):
    """Eq. 8 by the inverse of the distribution function, sets in the order of their codes."""
    total = 0.0
    for chosen in sorted(probability, key=number):
        total += probability[chosen]
        if uniform < total:
            return chosen
    return chosen


def values_of(row):
    """A row of a table as set -> value."""
    return {places(code): v for code, v in enumerate(row.tolist())}


# --- Eqs. 1-2: sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_members_and_codes_are_sets(count):
    held = members(count)
    assert held.shape == (2**count, count)
    assert [frozenset(row.nonzero().flatten().tolist()) for row in held] == [places(c) for c in range(2**count)]
    assert code_of(held).tolist() == [*range(2**count)]
    assert code_of(held.view(2, -1, count)).shape == (2, 2 ** (count - 1))


def test_a_modality_is_present_when_a_frame_of_it_is():
    frames = {"l": torch.tensor([[0, 0], [0, 1], [1, 1]]) > 0, "a": torch.tensor([[1], [0], [1]]) > 0}
    assert present(frames).tolist() == [[False, True], [True, False], [True, True]]
    assert code_of(present(frames)).tolist() == [2, 1, 3]
    assert present({m: torch.stack([f, ~f]) for m, f in frames.items()}).tolist()[1] == [
        [True, False],
        [True, True],
        [False, False],
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_between_is_inclusion_both_ways(count):
    every = powerset(range(count))
    for least, most in product(every, every):
        expected = [least <= places(c) <= most for c in range(2**count)]
        told = between(torch.tensor([number(least)]), torch.tensor([number(most)]), torch.arange(2**count))
        assert told.tolist() == expected


def nested(count):
    """All (student, exists), the one within the other."""
    return [(s, e) for e in powerset(range(count)) for s in powerset(e)]


def codes(sets):
    return torch.tensor([number(s) for s in sets])


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_candidate_teachers_are_those_of_equations_1_and_2(count, most):
    """For utterances that lack modalities, too: what an utterance does not have cannot be added."""
    students, exists = zip(*nested(count), strict=True)
    told = candidate_teachers(codes(students), codes(exists), count, most)
    for row, s, e in zip(told, students, exists, strict=True):
        found = [places(c) for c in row.nonzero().flatten()]
        assert sorted(found, key=number) == sorted(candidates_by_hand(s, e, most), key=number)
        assert (s == e) == (found == [s])


def test_one_modality_more_is_the_default():
    three = [frozenset({0}), frozenset(range(5))]
    assert candidate_teachers(codes(three[:1]), codes(three[1:]), 5)[0].nonzero().flatten().tolist() == [3, 5, 9, 17]


# --- Eqs. 4-5: Shapley values ----------------------------------------------------------------------------------------


def game_of(value, student, absent):
    """The game of the absent modalities beside a student, in shapiq's form."""

    def play(coalitions):
        joined = [student | {m for m, there in zip(absent, row, strict=True) if there} for row in coalitions]
        return np.array([value[chosen] for chosen in joined])

    return play


@pytest.mark.parametrize("count", [3, 4, 5])
def test_shapley_values_agree_with_shapiq(count):
    """The exact computer plays C -> V(S + C) for every S that is not everything."""
    everything = frozenset(range(count))
    students = powerset(everything)[1:-1]
    table = drawn(len(students), 2**count, seed=count)
    told = shapley_values(table, codes(students))
    for row, s, found in zip(table, students, told, strict=True):
        absent = sorted(everything - s)
        exact = shapiq.ExactComputer(game_of(values_of(row), s, absent), len(absent))("SV")
        expected = [exact[(absent.index(m),)] if m in absent else 0.0 for m in range(count)]
        close(found, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_shapley_values_are_means_over_orders(count):
    """The game is that of the modalities an utterance has: others are worth nothing and change nothing."""
    students, exists = zip(*nested(count), strict=True)
    table = drawn(len(students), 2**count, seed=count)
    told = shapley_values(table, codes(students), codes(exists))
    for row, s, e, found in zip(table, students, exists, told, strict=True):
        worth = shapley_by_orders(values_of(row), s, e - s)
        close(found, [worth.get(m, 0.0) for m in range(count)])
    everything = torch.tensor([e == frozenset(range(count)) for e in exists])
    close(shapley_values(table, codes(students))[everything], told[everything])


def small_games():
    """(number of modalities, student, exists, seed)."""
    return st.integers(1, 5).flatmap(
        lambda count: st.tuples(st.just(count), st.sampled_from(nested(count)), st.integers(0, 10**6))
    )


@brief
@given(small_games())
def test_shapley_values_are_efficient_linear_symmetric_and_give_nothing_to_null_players(game):
    count, (s, e), seed = game
    one, other = drawn(2, 1, 2**count, seed=seed)
    student, exists = codes([s]), codes([e])
    told = shapley_values(one, student, exists)
    close(told.sum(), one[0, number(e)] - one[0, number(s)])
    close(shapley_values(2 * one - 3 * other, student, exists), 2 * told - 3 * shapley_values(other, student, exists))
    absent = sorted(e - s)
    if len(absent) > 1:
        m, k = absent[:2]
        swap = {m: k, k: m}
        symmetric = one.clone()
        for c in range(2**count):
            symmetric[0, c] = one[0, c] + one[0, number({swap.get(i, i) for i in places(c)})]
        told = shapley_values(symmetric, student, exists)
        close(told[0, m], told[0, k])
        null = one.clone()
        for c in range(2**count):
            null[0, c] = one[0, number(places(c) - {m})]
        told = shapley_values(null, student, exists)
        assert told[0, m].abs() < 1e-12
        rest = shapley_values(one, student, codes([e - {m}]))
        close(told, rest)


def test_sets_that_do_not_hold_the_student_are_of_no_weight():
    """Whatever stands in the table for them; no utility of theirs is ever computed."""
    table, student = drawn(1, 16, seed=3), torch.tensor([0b0010])
    wild = table.clone()
    wild[0, [c for c in range(16) if not c & 2]] = 1e12
    assert torch.equal(shapley_values(table, student), shapley_values(wild, student))
    assert torch.equal(marginal_gains(table, student), marginal_gains(wild, student))


def test_shapley_values_of_single_precision_stay_single():
    assert shapley_values(drawn(2, 8).float(), torch.tensor([1, 2])).dtype == torch.float32


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_marginal_gains_are_one_step(count):
    students, exists = zip(*nested(count), strict=True)
    table = drawn(len(students), 2**count, seed=count)
    told = marginal_gains(table, codes(students), codes(exists))
    unbounded = marginal_gains(table, codes(students))
    for n, (row, s, e) in enumerate(zip(table, students, exists, strict=True)):
        value = values_of(row)
        close(told[n], [value[s | {m}] - value[s] if m in e else 0.0 for m in range(count)])
        close(unbounded[n], [value[s | {m}] - value[s] for m in range(count)])


@brief
@given(st.sampled_from([(s, e) for s, e in nested(3) if s]), st.integers(0, 10**6))
def test_for_three_modalities_shapley_and_greedy_route_alike(pair, seed):
    """An identity: with two absent phi_1 - phi_2 = V(S + 1) - V(S + 2), and a softmax knows differences only."""
    student, exists = codes([pair[0]]), codes([pair[1]])
    table = drawn(1, 8, seed=seed)
    allowed = candidate_teachers(student, exists, 3)
    told = [
        routing_probabilities(worth(table, student, exists), allowed, 0.1) for worth in (shapley_values, marginal_gains)
    ]
    torch.testing.assert_close(*told, rtol=0, atol=1e-12)
    if len(pair[0]) == 1 and len(pair[1]) == 3:
        m, k = sorted(pair[1] - pair[0])
        phi, value = shapley_values(table, student)[0], values_of(table[0])
        close(phi[m] - phi[k], value[pair[0] | {m}] - value[pair[0] | {k}])


def test_for_four_modalities_shapley_and_greedy_route_apart():
    """Modality 1 helps at once, 2 and 3 only together: greedy takes 1, the mean over coalitions does not."""
    value = torch.zeros(1, 16).double()
    for c in range(16):
        value[0, c] = 0.1 * (c >> 1 & 1) + 1.0 * (c >> 2 & c >> 3 & 1)
    student, exists = torch.tensor([1]), torch.tensor([15])
    close(shapley_values(value, student, exists), [[0, 0.1, 0.5, 0.5]])
    close(marginal_gains(value, student, exists), [[0, 0.1, 0, 0]])
    allowed = candidate_teachers(student, exists, 4)
    shapley, greedy = (
        routing_probabilities(worth(value, student, exists), allowed) for worth in (shapley_values, marginal_gains)
    )
    assert (shapley.argmax().item(), greedy.argmax().item()) == (5, 3)


# --- Eqs. 6-8: routing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.7, 5.0])
@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_routing_probabilities_are_those_of_equations_6_and_7(count, most, temperature):
    students, exists = zip(*nested(count), strict=True)
    worth = drawn(len(students), count, seed=most)
    for n, s in enumerate(students):
        worth[n, sorted(s)] = 0
    allowed = candidate_teachers(codes(students), codes(exists), count, most)
    told = routing_probabilities(worth, allowed, temperature)
    assert bool((told[~allowed] == 0).all())
    close(told.sum(-1), torch.ones(len(students)))
    for n, (s, e) in enumerate(zip(students, exists, strict=True)):
        expected = routed_by_hand(dict(enumerate(worth[n].tolist())), s, candidates_by_hand(s, e, most), temperature)
        close(told[n], [expected.get(places(c), 0.0) for c in range(2**count)])


def test_the_default_temperature_is_the_printed_one():
    worth, allowed = drawn(1, 3), torch.tensor([[False, False, False, True, False, True, False, False]])
    close(routing_probabilities(worth, allowed), routing_probabilities(worth, allowed, 0.1))
    assert far(routing_probabilities(worth, allowed), routing_probabilities(worth, allowed, 0.2))


def test_temperatures_lead_from_the_best_candidate_to_an_even_choice():
    worth = torch.tensor([[0.0, 0.3, -0.2, 0.29]])
    allowed = candidate_teachers(torch.tensor([1]), torch.tensor([15]), 4)
    cold, warm = (routing_probabilities(worth.double(), allowed, t) for t in (1e-4, 1e6))
    close(cold[0], [1.0 if c == 3 else 0.0 for c in range(16)])
    torch.testing.assert_close(warm, allowed / 3.0, rtol=0, atol=1e-6, check_dtype=False)


def grid(steps):
    return torch.arange(steps) / steps


@pytest.mark.parametrize(
    "shares", [[0, 3, 0, 5], [8, 0, 0, 0], [0, 0, 0, 8], [1, 0, 6, 1], [2, 2, 2, 2], [0, 4, 4, 0]], ids=str
)
def test_sets_are_drawn_as_often_as_their_probability_says(shares):
    """Numbers on a grid: every set is drawn exactly as often as its share."""
    steps = 2**10
    probability = torch.tensor(shares).div(8).expand(steps, -1)
    told = dynkd.drawn(probability, grid(steps))
    assert [int((told == c).sum()) for c in range(4)] == [share * steps // 8 for share in shares]
    assert bool((told.diff() >= 0).all())
    assert torch.equal(told, dynkd.drawn(probability * 8, grid(steps)))  # shares need not sum to one


THIRDS = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=32).filter(lambda p: max(p) > 1e-3)


@settings(deadline=None, max_examples=200)
@given(THIRDS, st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-24]), st.floats(0, 1, width=32, exclude_max=True)))
def test_what_is_drawn_is_possible_and_lies_where_the_number_does(shares, uniform):
    p = torch.tensor([shares])
    [told] = dynkd.drawn(p, torch.tensor([uniform], dtype=torch.float32)).tolist()
    assert p[0, told] > 0
    exact, at = [math.fsum(shares[:c]) for c in range(len(shares) + 1)], uniform * math.fsum(shares)
    assert exact[told] - 1e-4 <= at <= exact[told + 1] + 1e-4


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24, 1.0])
@pytest.mark.parametrize("shares", [[0, 0, 1, 3, 0, 0], [0, 1, 0], [0.1] * 7 + [0] * 3, [1e-30, 0, 1]], ids=str)
def test_the_ends_of_the_interval_draw_the_first_and_the_last_that_is_possible(shares, uniform):
    """A number that rounding carried to the end itself draws something possible, too."""
    [told] = dynkd.drawn(torch.tensor([shares]) / sum(shares), torch.tensor([uniform])).tolist()
    there = [c for c, share in enumerate(shares) if share]
    if uniform == 1:
        assert told in there
    else:
        assert told == there[-1 if uniform else 0]


def test_teachers_are_drawn_row_by_row():
    p = torch.tensor([[0.5, 0.5, 0], [0, 0.25, 0.75], [1, 0, 0]])
    assert dynkd.drawn(p, torch.tensor([0.6, 0.2, 0.9])).tolist() == [1, 1, 0]
    assert dynkd.drawn(p, torch.tensor([0.4, 0.3, 0.0])).tolist() == [0, 2, 0]


# --- Eqs. 15-23: gradients -------------------------------------------------------------------------------------------

EPS = 1e-8


def cosine_by_hand(one, other):
    """Eq. 18, with the small constant that keeps zero gradients finite."""
    return (one @ other / (one.norm() * other.norm() + EPS)).item()


def rectified_by_hand(main, aux, alpha, rho, eps=EPS):
    """Eqs. 18-22 on two flat vectors, literally."""
    s = cosine_by_hand(main, aux)
    if s >= 0:
        return (1 + alpha * s) * aux
    parallel = (aux @ main) / (main.norm() ** 2 + eps) * main
    return rho * parallel + (aux - parallel)


def gramian_of(*vectors):
    rows = torch.stack(vectors)
    return rows @ rows.T


def rectify(main, *others, alpha=0.1, rho=0.3):
    """The rectified gradients from inner products, and the cosines."""
    keep, add, cosines = rectification(gramian_of(main, *others), alpha, rho)
    return [k * g + a * main for k, a, g in zip(keep, add, others, strict=True)], cosines


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.floats(0, 2),
    st.floats(0, 1),
    st.sampled_from([1.0, 1e-3, 1e-4, 1e-5, 1e3]),
    st.sampled_from([1.0, 1e-4, 1e2]),
)
def test_rectification_is_equations_18_to_22(seed, alpha, rho, long, wide):
    """Small gradients, too, where the constant of Eq. 20 is felt."""
    main, kd, align = drawn(3, 6, seed=seed) * torch.tensor([[long], [long * wide], [wide]])
    told, cosines = rectify(main, kd, align, alpha=alpha, rho=rho)
    for found, aux, (before, after) in zip(told, (kd, align), cosines.T, strict=True):
        expected = rectified_by_hand(main, aux, alpha, rho)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11 * float(aux.norm()))
        close(before, cosine_by_hand(main, aux))
        torch.testing.assert_close(after, torch.tensor(cosine_by_hand(main, expected)).double(), rtol=1e-7, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 1))
def test_what_agrees_grows_and_what_conflicts_loses_its_parallel_part(seed, alpha, rho):
    """From the definitions alone: directions, lengths, angles."""
    main, aux = drawn(2, 5, seed=seed)
    [told], (before, after) = rectify(main, aux, alpha=alpha, rho=rho)
    unit = main / main.norm()
    near = {"rtol": 1e-6, "atol": 1e-6}
    if main @ aux >= 0:
        torch.testing.assert_close(told / told.norm(), aux / aux.norm(), **near)
        cos = torch.cosine_similarity(main, aux, dim=0)
        torch.testing.assert_close(told.norm(), (1 + alpha * cos) * aux.norm(), **near)
        torch.testing.assert_close(after, before, **near)
    else:
        torch.testing.assert_close(told - (told @ unit) * unit, aux - (aux @ unit) * unit, **near)
        torch.testing.assert_close(told @ unit, rho * (aux @ unit), **near)
        assert before - 1e-9 <= after <= 1e-6
        if rho == 0:
            assert abs(after) < 1e-6
    torch.testing.assert_close(after.squeeze(), torch.cosine_similarity(main, told, dim=0), **near)


def test_one_suppresses_nothing_and_zero_projects():
    main = torch.tensor([2.0, 0, 0]).double()
    aux = torch.tensor([-3.0, 1, 2]).double()
    close(rectify(main, aux, rho=1)[0][0], aux)
    near = {"rtol": 0, "atol": 1e-7, "check_dtype": False}
    torch.testing.assert_close(rectify(main, aux, rho=0)[0][0], torch.tensor([0.0, 1, 2]), **near)
    torch.testing.assert_close(rectify(main, aux, rho=0.3)[0][0], torch.tensor([-0.9, 1, 2]), **near)
    torch.testing.assert_close(rectify(main, -aux, alpha=0)[0][0], -aux, **near)
    right = torch.tensor([0.0, 5, 0]).double()  # at 90 degrees nothing is changed
    close(rectify(main, right)[0][0], right)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_zero_gradients_are_left_alone(rho):
    """A batch in which nobody is taught, or one whose labels are all learnt."""
    main, aux, zero = *drawn(2, 4), torch.zeros(4).double()
    for one, other in ((main, zero), (zero, aux), (zero, zero)):
        [told], cosines = rectify(one, other, rho=rho)
        close(told, other)
        assert bool((cosines == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_opposite_gradient_that_is_projected_leaves_finite_numbers(dtype):
    """What is left of it is rounding, and its square may come out negative."""
    for seed in range(100):
        main, times = 1e3 * drawn(5, seed=seed).to(dtype), 0.1 + seed / 37
        [told], (before, after) = rectify(main, -times * main, rho=0)
        assert told.norm() < 1e-5 * times * main.norm()
        assert bool(after.isfinite().all())
        torch.testing.assert_close(before, torch.full_like(before, -1))
        assert bool((before >= -1).all() and (rectify(main, times * main)[1] <= 1).all())  # else there is no angle


@pytest.mark.parametrize("seed", range(3))
def test_rectification_takes_seeds_groups_and_terms_at_once(seed):
    vectors = drawn(2, 3, 4, 5, seed=seed)  # (S, G, K, P)
    keep, add, cosines = rectification(vectors @ vectors.mT, 0.1, 0.3)
    assert (keep.shape, add.shape, cosines.shape) == ((2, 3, 3), (2, 3, 3), (2, 2, 3, 3))
    for s, g in product(range(2), range(3)):
        one = rectification(vectors[s, g] @ vectors[s, g].mT, 0.1, 0.3)
        close(keep[s, g], one[0])
        close(add[s, g], one[1])
        close(cosines[:, s, g], one[2])


def test_angle_shares_are_a_histogram():
    cosines = drawn(3, 200, seed=4).clamp(-1, 1) ** 3
    told = angle_shares(cosines)
    assert told.shape == (3, ANGLES)
    assert ANGLES == 36
    for row, shares in zip(cosines, told, strict=True):
        counts = np.histogram(np.degrees(np.arccos(row.numpy())), np.arange(0, 181, 5))[0]
        close(shares, counts / 200)


def test_angles_at_the_ends_and_at_ninety_degrees_stand_in_a_bin():
    """As in numpy a bin holds its lower end, and the last one both."""
    for cosine, place in ((1.0, 0), (0.0, 18), (-1.0, 35)):
        assert angle_shares(torch.tensor([cosine]).double()).argmax() == place
    close(angle_shares(torch.tensor([1.0, 1.0, 0.0, -1.0]).double())[[0, 18, 35]], [0.5, 0.25, 0.25])


# --- the network by hand ---------------------------------------------------------------------------------------------


def linear(x, weight, bias):
    return x @ weight.T + bias


def perceptron_by_hand(layers, x):
    """Fully-connected layers with ReLU between them."""
    parameters = [*layers.parameters()]
    for i in range(0, len(parameters), 2):
        x = linear(x.clamp(min=0) if i else x, parameters[i], parameters[i + 1])
    return x


def normalised(norm, x):
    """Layer norm over the features."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def attended(attention, x):
    """Self-attention of (n, d), one head after the other, and their projection."""
    d = x.shape[-1]
    size, w, b = d // attention.heads, attention.project_in.weight, attention.project_in.bias
    heads = []
    for i in range(0, d, size):
        queries, keys, values = (linear(x, w[k + i : k + i + size], b[k + i : k + i + size]) for k in (0, d, 2 * d))
        score = (queries @ keys.T / math.sqrt(size)).exp()
        heads.append(score / score.sum(1, keepdim=True) @ values)
    return linear(torch.cat(heads, -1), *attention.project_out.parameters())


def tokens_by_hand(method, batch, n):
    """Place of a modality that utterance n has -> its token (d,)."""
    found = {}
    for i, m in enumerate(method.names):
        there = [t for t, valid in enumerate(batch.valid[m][n].tolist()) if valid]
        if not there:
            continue
        frames = [perceptron_by_hand(method.encoders[m], batch.x[m][n, t]) for t in there]
        weights = [1 / len(there)] * len(there)
        if method.options.pooling == "attention":
            scores = [linear(frame, *method.attention[m].parameters()).exp() for frame in frames]
            weights = [score / sum(scores) for score in scores]
        found[i] = sum(w * frame for w, frame in zip(weights, frames, strict=True))
    return found


def fused_by_hand(method, tokens, chosen):
    """F_Q of the tokens of a set: absent ones are not there."""
    o, d = method.options, method.options.width
    told = {i: tokens[i] + method.kinds[i] for i in sorted(chosen)}
    if o.fusion == "perceptron":
        none = torch.zeros(d, dtype=torch.float64)
        return perceptron_by_hand(method.fusion, torch.cat([told.get(i, none) for i in range(len(method.names))]))
    x = torch.stack([*told.values()])
    for block in method.fusion.blocks:
        x = x + attended(block.attention, normalised(block.norms[0], x))
        first, second = block.network[0], block.network[3]
        hidden = linear(normalised(block.norms[1], x), first.weight, first.bias).clamp(min=0)
        x = x + linear(hidden, second.weight, second.bias)
    return normalised(method.fusion.final, x).mean(0)


def answered_by_hand(method, z):
    return linear(z, method.head.weight, method.head.bias)


def log_softmax(z):
    return z - z.exp().sum().log()


def label_loss(method, logits, y):
    """The task's loss of one utterance; None for one that is of neither polarity."""
    if method.shape.task == "regression" and method.options.answers == "score":
        return (logits[0] - y) ** 2
    if method.shape.task == "regression":
        return None if y == 0 else -log_softmax(logits)[int(y > 0)]
    return -log_softmax(logits)[int(y)]


# --- teachers and terms by hand --------------------------------------------------------------------------------------


def named(method, text):
    return frozenset(i for i, m in enumerate(method.names) if m in text.split("+"))


def allowed_by_hand(method, student, exists):
    """The sets that may teach."""
    o = method.options
    if o.students != "all" and student != named(method, o.students):
        return []
    if student == exists:
        return [student] if o.complete_samples == "self" else []
    if o.teacher in ("shapley", "greedy", "uniform"):
        return candidates_by_hand(student, exists, o.added)
    if o.teacher == "random":
        return [t for t in supersets(student, exists) if t != student]
    one = {"full": exists, "complementary": exists - student}.get(o.teacher)
    one = named(method, o.teacher) & exists if one is None else one
    return [one] if one else []


def asked_by_hand(method, student, exists, uniform):
    """The sets that are fused as possible teachers."""
    allowed = allowed_by_hand(method, student, exists)
    if len(allowed) < 2:
        return allowed
    if method.options.teacher == "shapley":
        return supersets(student, exists)
    if method.options.teacher == "greedy":
        more = [student, *(student | {m} for m in exists - student)]
        return sorted({*more, *allowed}, key=number)
    return [drawn_by_hand({t: 1 / len(allowed) for t in allowed}, uniform)]


def routes_by_hand(count, added):
    """Students with several candidates, and these."""
    everything = frozenset(range(count))
    found = []
    for s in sorted(powerset(everything)[1:], key=number):
        candidates = sorted(candidates_by_hand(s, everything, added), key=number)
        found += [(s, t) for t in candidates] if len(candidates) > 1 else []
    return found or [(frozenset({0}), frozenset({0}))]


def told_by_hand(method, views):
    """Every term of a step as a graph, and what is watched, utterance by utterance."""
    o, batch, routing = method.options, views["complete"], views["routing"]
    count, own = len(method.names), []
    for n, y in enumerate(batch.y.tolist()):
        tokens = tokens_by_hand(method, batch, n)
        s, e = places(routing.student[n]), frozenset(tokens)
        allowed = allowed_by_hand(method, s, e)
        asked = asked_by_hand(method, s, e, routing.uniform[n].item())
        value = {}
        for q in asked:
            loss = label_loss(method, answered_by_hand(method, fused_by_hand(method, tokens, q)), y)
            value[q] = 0.0 if loss is None else -loss.item()
        one = {"y": y, "s": s, "e": e, "value": value, "p": {}, "t": None}
        one["z"] = fused_by_hand(method, tokens, s)
        if len(allowed) == 1 or (allowed and o.teacher not in ("shapley", "greedy")):
            one["p"] = {asked[0]: 1.0}
        elif allowed:
            worth = (greedy_by_hand if o.teacher == "greedy" else shapley_by_orders)(value, s, e - s)
            one["p"] = routed_by_hand(worth, s, allowed, o.routing_temperature)
        if allowed:
            p = one["p"]
            best = max(sorted(p, key=number), key=p.get)
            one["t"] = best if o.choice == "best" else drawn_by_hand(p, routing.uniform[n].item())
            one["live"] = fused_by_hand(method, tokens, one["t"])
            prior = one["live"] if o.through_teacher == "yes" else one["live"].detach()
            mixed = (1 - o.mix) * one["z"] + o.mix * (method.adapter.weight @ prior)  # Eqs. 10-11
            one["mixed"] = mixed if o.mixer == "linear" else one["z"]
        own.append(one)
    taught = [one for one in own if one["t"] is not None]

    def task(ones, which):
        losses = [label_loss(method, answered_by_hand(method, which(one)), one["y"]) for one in ones]
        return mean(loss for loss in losses if loss is not None)

    def read(one):
        return one["mixed"] if o.task_on == "mixed" and one["t"] is not None else one["z"]

    def response(one):
        student = answered_by_hand(method, one["mixed"] if o.kd_on == "mixed" else one["z"])
        teacher = answered_by_hand(method, one["live"]).detach()
        if method.shape.task == "regression" and o.answers == "score":
            return ((student - teacher) ** 2).sum()  # Eq. 14
        tau = o.distillation_temperature
        t, s = log_softmax(teacher / tau), log_softmax(student / tau)
        return (t.exp() * (t - s)).sum() * (tau**2 if o.kd_scale == "tau-squared" else 1)  # Eq. 13

    def apart(one):
        squares = (one["mixed"] - one["live"].detach()) ** 2
        return squares.sum() / (len(squares) if o.align_reduction == "mean" else 1)  # Eq. 12

    zero = sum(0 * one["z"].sum() for one in own)
    terms = {
        "task": zero + task(own, read) + (task(taught, lambda one: one["live"]) if o.teacher_task == "yes" else 0),
        "kd": zero + mean(map(response, taught)),
        "align": zero + mean(map(apart, taught)),
        "gap": mean((one["z"] - one["live"]).norm().item() for one in taught),
        "routing": [
            [sum(one["p"].get(t, 0.0) for one in taught if one["s"] == s), sum(one["s"] == s for one in taught)]
            for s, t in routes_by_hand(count, o.added)
        ],
        "utility": [
            [
                sum(one["value"].get(places(c), 0.0) for one in own),
                sum(places(c) in one["value"] for one in own),
            ]
            for c in range(1, 2**count)
        ],
    }
    if "world" in views:
        terms["world"] = world_by_hand(method, own, views["world"])
    return terms


def world_by_hand(method, own, world):
    """Sums over the utterances that have a choice of candidates and are taught."""
    sums = [0.0] * 6
    for one, row in zip(own, world, strict=True):
        candidates = candidates_by_hand(one["s"], one["e"], method.options.added)
        if one["t"] is None or len(candidates) < 2:
            continue
        value = values_of(row)
        phi = shapley_by_orders(value, one["s"], one["e"] - one["s"])
        best = max(candidates, key=value.get)
        valued = max(candidates, key=lambda t, one=one, phi=phi: sum(phi[m] for m in t - one["s"]))
        told = [
            1,
            value[best] - sum(p * value[t] for t, p in one["p"].items()),
            value[best] - mean(value[t] for t in candidates),
            one["p"].get(best, 0.0),
            one["p"].get(valued, 0.0),
            1 / len(candidates),
        ]
        sums = [total + more for total, more in zip(sums, told, strict=True)]
    return sums


# --- small networks and batches --------------------------------------------------------------------------------------


def build(task="regression", seed=0, lengths=UNEQUAL, **choices):
    return shaken(network(DynKD, shape(task, lengths), SMALL | choices, seed))


def utterances(task="regression", n=11, seed=0, lengths=UNEQUAL):
    """N utterances of different lengths, padded, the second without its last modality, the third without language and
    the fourth with language alone; scores in steps of 0.5 or classes."""
    names, y = [*lengths], scores(n, seed, 2)
    without = {1: names[-1:], 2: names[:1], 3: names[1:]} if n > 3 and len(names) > 1 else {}
    x, valid = sequences(n, seed, lengths, without)
    return Batch(x, dict(valid), valid, y if task == "regression" else (4 * y).long() % 4)


def pick(tree, s):
    """One seed of nested views."""
    if isinstance(tree, torch.Tensor):
        return tree[s]
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: pick(value, s) for key, value in tree.items()}
    return type(tree)(*(pick(value, s) for value in tree))


def only(batch, shown):
    """Of each utterance the modalities in a set of `shown` that it has; all that it has where that is none."""
    count = len(batch.modalities)
    exists = [
        frozenset(i for i, m in enumerate(batch.modalities) if batch.valid[m][n].any()) for n in range(len(shown))
    ]
    kept = torch.tensor([[i in (s & e or e) for i in range(count)] for s, e in zip(shown, exists, strict=True)])
    return batch.show({m: kept[:, i : i + 1] for i, m in enumerate(batch.modalities)})


def views_of(method, batch, seed=0, shown=None):
    """What a step shows of one batch, without the seed axis; every set of modalities is some student's, or `shown`."""
    every = powerset(range(len(method.names)))[1:]
    shown = [every[(n + seed) % len(every)] for n in range(len(batch.y))] if shown is None else shown
    with patch.object(dynkd, "training_view", lambda batch, draws, **_: stacked(only(pick(batch, 0), shown))):
        return pick(views_drawn(method, stacked(batch), Draws((seed,), 0)), 0)


def world_of(batch, seed=0):
    return -drawn(len(batch.y), 2 ** len(batch.modalities), seed=seed).abs()


def gradients(method, term):
    """Of a term, with regard to all parameters; zero where it does not reach."""
    names, parameters = zip(*method.named_parameters(), strict=True)
    if not term.requires_grad:
        return {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
    found = torch.autograd.grad(term, parameters, allow_unused=True, retain_graph=True)
    return {name: torch.zeros_like(p) if g is None else g for name, p, g in zip(names, parameters, found, strict=True)}


def agrees(method, views):
    """All that a step says, and the gradients of what trains, with the paper's."""
    told, expected = losses(method, views), told_by_hand(method, views)
    assert told.keys() == expected.keys()
    for name, value in expected.items():
        if name == "world":  # its even choice is in single precision
            torch.testing.assert_close(told[name], torch.tensor(value).double(), rtol=1e-6, atol=1e-6)
        else:
            close(told[name], value)
        assert told[name].requires_grad == (name in TERMS)
    for name in TERMS:
        by_hand, found = gradients(method, expected[name]), gradients(method, told[name])
        for parameter, g in by_hand.items():
            torch.testing.assert_close(found[parameter], g, rtol=1e-8, atol=1e-10, msg=f"{name}: {parameter}")


CHOICES = [*other_choices(DynKDOptions, {"width": 4, "heads": 2})]
READ = [{name: value} for name, value in CHOICES if name != "dropout"]  # dropout is zero where terms are compared
TOGETHER = [
    {"through_teacher": "yes", "teacher_task": "yes", "task_on": "mixed"},
    {"through_teacher": "yes", "kd_on": "student", "complete_samples": "self"},
    {"complete_samples": "self", "teacher": "complementary"},
    {"complete_samples": "self", "students": "l+a+v"},
    {"teacher": "greedy", "added": 2, "choice": "best"},
    {"teacher": "uniform", "added": 2, "students": "l"},
    {"mixer": "none", "task_on": "mixed", "through_teacher": "yes"},
    {"mix": 0.0},
    {"answers": "classes", "teacher_task": "yes", "kd_scale": "tau-squared"},
    {"answers": "classes", "complete_samples": "self", "choice": "best"},
    {"answers": "classes", "distillation_temperature": 1.0, "kd_on": "student"},
    {"teacher_dropout": "yes", "through_teacher": "yes"},
    {"pooling": "attention", "fusion": "perceptron", "depth": 2},
]
READERS = [{}, *TOGETHER, *READ]


# --- Eqs. 3-14: the terms of a step ----------------------------------------------------------------------------------


COMPARED = [("regression", choices) for choices in READERS]  # who teaches whom does not depend on the task
COMPARED += [("classification", choices) for choices in READERS if not choices.keys() & {"teacher", "students"}]


@pytest.mark.parametrize(("task", "choices"), COMPARED, ids=str)
def test_terms_and_their_gradients_are_those_of_the_paper(task, choices):
    """Every value of every option, with the true values of sets beside the batch."""
    method = build(task, **choices).eval()
    batch = utterances(task)
    agrees(method, views_of(method, batch) | {"world": world_of(batch)})


@pytest.mark.parametrize("choices", [{}, {"teacher": "greedy"}, {"added": 2}, {"added": 3}, *TOGETHER[4:6]], ids=str)
@pytest.mark.parametrize("lengths", [FOUR, FIVE], ids=["four", "five"])
def test_more_modalities_have_more_teachers(lengths, choices):
    method = build(lengths=lengths, **choices).eval()
    batch = utterances(lengths=lengths, n=18, seed=1)
    agrees(method, views_of(method, batch, 3) | {"world": world_of(batch)})


@pytest.mark.parametrize("lengths", [{"l": 5}, {"l": 1}, {"l": 4, "v": 1}, VECTORS], ids=str)
@pytest.mark.parametrize(
    "choices", [{}, {"pooling": "attention"}, {"fusion": "perceptron"}, {"complete_samples": "self"}], ids=str
)
@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_modalities_will_do(task, choices, lengths):
    method = build(task, lengths=lengths, **choices).eval()
    agrees(method, views_of(method, utterances(task, lengths=lengths)))


@pytest.mark.parametrize("choices", READERS[: 1 + len(TOGETHER)], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_answers_are_of_the_modalities_shown(task, choices):
    """Inference is one pass of what is there: no router, no mixer."""
    method, batch = build(task, **choices).eval(), utterances(task)
    every = powerset(range(3))[1:]
    view = only(batch, [every[n % 7] for n in range(len(batch.y))])
    told = method(view)
    for n in range(len(batch.y)):
        shown = frozenset(i for i, m in enumerate("lav") if view.frames[m][n].any())
        z = fused_by_hand(method, tokens_by_hand(method, batch, n), shown)
        close(told.embedding[n], z)
        close(told.logits[n], answered_by_hand(method, z))
    losses = [label_loss(method, z, y) for z, y in zip(told.logits, batch.y.tolist(), strict=True)]
    close(plain_losses(method, {"student": view})["task"], mean(x for x in losses if x is not None))


@pytest.mark.parametrize("choices", [{}, {"pooling": "attention"}, {"fusion": "perceptron"}], ids=str)
def test_frames_that_are_lost_at_test_time_are_not_there(choices):
    method, batch = build(**choices).eval(), utterances()
    keep = {m: drawn(*batch.frames[m].shape, seed=i) > 0 for i, m in enumerate(batch.x)}
    keep["v"][:] = True
    view = batch.show(keep)
    view = view._replace(valid=view.frames)
    logits = method(view).logits
    for n in range(len(batch.y)):
        tokens = tokens_by_hand(method, view, n)
        if tokens:
            close(logits[n], answered_by_hand(method, fused_by_hand(method, tokens, frozenset(tokens))))
    assert bool(logits.isfinite().all())


def test_an_utterance_of_nothing_has_a_finite_answer():
    for fusion in ("transformer", "perceptron"):
        method, batch = build(fusion=fusion).eval(), utterances()
        nothing = batch.show({m: torch.zeros_like(f) for m, f in batch.frames.items()})
        assert bool(method(nothing).logits.isfinite().all())


@pytest.mark.parametrize("choices", [{}, *TOGETHER], ids=str)
def test_what_is_not_shown_is_never_read(choices):
    method, batch = build(**choices).eval(), utterances()
    for shown in powerset(range(3))[1:]:
        view = only(batch, [shown] * len(batch.y))
        hidden = {m: ~f for m, f in view.frames.items()}
        assert torch.equal(method(view).logits, method(with_other_values(view, hidden)).logits)
    views = views_of(method, batch)
    wild = views | {"complete": with_other_values(batch, {m: ~f for m, f in batch.valid.items()})}
    for name, term in losses(method, views).items():
        assert torch.equal(losses(method, wild)[name], term)


def test_the_task_reads_what_the_student_is_shown_and_no_more():
    """The teacher sees the rest; by default labels hear nothing of it."""
    method, batch = build().eval(), utterances()
    shown = [frozenset({0})] * len(batch.y)
    batch = batch.take(torch.tensor([0, 1, 4, 5, 6]))
    views = views_of(method, batch, shown=shown[:5])
    wild = views | {"complete": with_other_values(batch, {m: f & (m != "l") for m, f in batch.valid.items()})}
    one, other = losses(method, views), losses(method, wild)
    assert torch.equal(one["task"], other["task"])
    assert all(far(one[name], other[name]) for name in ("kd", "align", "utility", "gap"))


@pytest.mark.parametrize("choices", [{}, *TOGETHER[:7]], ids=str)
def test_the_order_of_utterances_changes_nothing(choices):
    method, batch = build(**choices).eval(), utterances()
    views = views_of(method, batch) | {"world": world_of(batch)}
    order = drawn(len(batch.y), seed=5).argsort()
    back = order.argsort()
    r = views["routing"]
    routing = r._replace(
        student=r.student[order], exists=r.exists[order], allowed=r.allowed[order], uniform=r.uniform[order],
        row=back[r.row].flip(0), code=r.code.flip(0),
    )  # fmt: skip
    moved = {"student": views["student"].take(order), "complete": batch.take(order), "routing": routing}
    other = losses(method, moved | {"world": views["world"][order]})
    for name, term in losses(method, views).items():
        close(other[name], term)


def test_modalities_are_encoded_once():
    """Of each step, for the student, all candidates and the teacher together."""
    for choices in ({}, {"through_teacher": "yes"}, {"teacher": "full"}):
        method, batch = build(**choices).eval(), utterances()
        calls = Counter()
        for m, encoder in method.encoders.items():
            encoder.register_forward_hook(lambda module, read, told, m=m, calls=calls: calls.update({m: len(read[0])}))
        losses(method, views_of(method, batch))
        assert calls == dict.fromkeys("lav", len(batch.y))


@pytest.mark.parametrize("way", ["kd", "align"])
def test_by_default_no_gradient_reaches_the_branch_of_the_teacher(way):
    """Students of language alone: whatever reaches another encoder came through a teacher."""
    batch = utterances()
    for choices, reached in (({}, False), ({"through_teacher": "yes"}, True), ({"teacher_task": "yes"}, False)):
        method = build(**choices).eval()
        views = views_of(method, batch, shown=[frozenset({0})] * len(batch.y))
        keep = [n for n in range(len(batch.y)) if batch.valid["l"][n].any()]
        views = views_of(method, batch.take(torch.tensor(keep)), shown=[frozenset({0})] * len(keep))
        found = gradients(method, losses(method, views)[way])
        for m in "av":
            reach = any(bool((g != 0).any()) for name, g in found.items() if name.startswith(f"encoders.{m}."))
            assert reach == reached, (choices, m)
        assert any(bool((g != 0).any()) for name, g in found.items() if name.startswith("encoders.l."))
        assert bool((found["adapter.weight"] != 0).any())
    method = build(teacher_task="yes").eval()
    found = gradients(method, losses(method, views_of(method, batch, shown=[frozenset({0})] * len(batch.y)))["task"])
    assert bool((found["encoders.v.0.weight"] != 0).any())


def test_nothing_that_is_watched_has_a_gradient():
    method, batch = build().eval(), utterances()
    told = losses(method, views_of(method, batch) | {"world": world_of(batch)})
    assert {name for name, term in told.items() if term.requires_grad} == set(TERMS)
    assert weights_of(method) == {"kd": 0.2, "align": 0.1, **dict.fromkeys(("routing", "utility", "gap", "world"))}
    other = build(kd_weight=0.5, align_weight=0.0)
    assert (weights_of(other)["kd"], weights_of(other)["align"]) == (0.5, 0.0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("how", ["flat", "layers", "none"])
@pytest.mark.parametrize("choices", [{}, {"teacher": "full"}, {"students": "a"}], ids=str)
def test_a_batch_in_which_nobody_is_taught_teaches_nothing(task, how, choices):
    method, batch = build(task, rectify=how, **choices), utterances(task)
    views = views_of(method, batch, shown=[frozenset(range(3))] * len(batch.y))
    if "students" in choices:
        batch = batch.take(torch.tensor([0, 1, 4]))
        views = views_of(method, batch, shown=[frozenset({0})] * 3)
    told = losses(method, views)
    assert told["kd"] == told["align"] == told["gap"] == 0
    assert float(told["routing"].abs().sum() + told["utility"].abs().sum()) == 0
    stack, kept = Stack([method]), {name: p.clone() for name, p in method.named_parameters()}
    terms = stacked_losses(stack, "losses", pick_back(views))
    watched = update(stack, torch.optim.SGD(stack.parameters.values(), lr=1.0), terms, method, clip=0)
    assert all(term.isfinite().all() for term in watched.values())
    alone = gradients(method, losses(method, views)["task"])
    for name, p in stack.parameters.items():
        name = name.removeprefix("module.")
        close(p[0], kept[name] - alone[name])


def pick_back(tree):
    """One seed's views with a seed axis again."""
    if isinstance(tree, torch.Tensor):
        return tree.unsqueeze(0)
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: pick_back(value) for key, value in tree.items()}
    return type(tree)(*(pick_back(value) for value in tree))


def test_items_of_neither_polarity_carry_no_label():
    """Two classes are told, scores above and below zero; a teacher may still be asked about a neutral item."""
    method, batch = build(answers="classes").eval(), utterances()
    neutral = batch._replace(y=torch.zeros_like(batch.y))
    views = views_of(method, neutral)
    told = losses(method, views)
    assert told["task"] == 0
    assert bool((told["utility"][:, 0] == 0).all())
    assert bool(all((g == 0).all() for g in gradients(method, told["task"]).values()))
    few = batch._replace(y=torch.tensor([1.0, -2.0] + [0.0] * 9).double())
    view = views_of(method, few)["student"]
    close(
        plain_losses(method, {"student": view})["task"],
        plain_losses(method, {"student": view.take(torch.tensor([0, 1]))})["task"],
    )
    loss, counted = method.each_loss(drawn(3, 2), torch.tensor([0.0, 0.5, -0.5]).double())
    assert loss[0] == 0
    assert counted.tolist() == [False, True, True]


def test_mixing_all_of_the_student_is_the_student():
    """q = 0 leaves the mixer without effect, and its adapter without a gradient."""
    batch = utterances()
    one, other = build(mix=0.0).eval(), build(mixer="none").eval()
    told, plain = (losses(m, views_of(m, batch)) for m in (one, other))
    for name in TERMS:
        close(told[name], plain[name])
    assert bool((gradients(one, told["kd"])["adapter.weight"] == 0).all())


# --- counted means ---------------------------------------------------------------------------------------------------


@brief
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 10**6))
def test_means_are_over_what_is_counted(counted, seed):
    x, student, teacher = drawn(len(counted), seed=seed), *drawn(2, len(counted), 3, seed=seed)
    mask = torch.tensor(counted)
    there = [i for i, c in enumerate(counted) if c]
    close(mean_counted(x, mask), mean(x[i] for i in there))
    close(mean_counted(x, None), mean(x))
    for tau in (1.0, 2.0, 0.5):

        def divergence(i, tau=tau):
            t, s = log_softmax(teacher[i] / tau), log_softmax(student[i] / tau)
            return sum(p.exp() * (p - q) for p, q in zip(t, s, strict=True))

        close(softened_kl(student, teacher, tau, mask), mean(divergence(i) for i in there))
        close(softened_kl(student, teacher, tau), mean(divergence(i) for i in range(len(counted))))


# --- gradient surgery in training ------------------------------------------------------------------------------------


def several(count, lengths=UNEQUAL, task="regression", **choices):
    """Networks and batches of several seeds, with the views of each alone and of all side by side."""
    methods = [build(task, seed, lengths, **choices) for seed in range(count)]
    batches = [utterances(task, seed=50 * seed, lengths=lengths) for seed in range(count)]
    views = views_drawn(methods[0], stacked(*batches), Draws(range(count), 3))
    return methods, views


def groups_by_hand(method):
    """Shared parameters as one list of names, or one list a layer."""
    shared = [name for name, _ in method.named_parameters() if not name.startswith(("head.", "adapter."))]
    if method.options.rectify == "flat":
        return [shared]
    layers = []
    for module, layer in method.named_modules():
        own = [f"{module}.{name}".lstrip(".") for name, _ in layer.named_parameters(recurse=False)]
        layers += [[name for name in own if name in shared]]
    return [layer for layer in layers if layer]


def surgery_by_hand(method, views):
    """Eq. 23: name -> gradient, and the cosines of all groups before and after [(kd, align), ...]."""
    o, told = method.options, losses(method, views)
    each = {term: gradients(method, told[term]) for term in TERMS}
    weights = {"kd": o.kd_weight, "align": o.align_weight}
    total = {
        name: each["task"][name] + sum(w * each[term][name] for term, w in weights.items()) for name in each["task"]
    }
    cosines = []
    for group in [] if o.rectify == "none" else groups_by_hand(method):
        flat = {term: torch.cat([each[term][name].flatten() for name in group]) for term in TERMS}
        better = {term: rectified_by_hand(flat["task"], flat[term], o.amplify, o.suppress) for term in weights}
        cosines.append([[cosine_by_hand(flat["task"], these[term]) for term in weights] for these in (flat, better)])
        better_sum = flat["task"] + sum(w * better[term] for term, w in weights.items())
        for name, piece in zip(group, better_sum.split([each["task"][n].numel() for n in group]), strict=True):
            total[name] = piece.view_as(each["task"][name])
    return total, cosines


SURGERY = [{}, {"suppress": 0.0, "amplify": 0.5}, {"suppress": 1.0}, {"kd_weight": 1.0, "align_weight": 2.0}]
SURGERY += [{"through_teacher": "yes", "teacher_task": "yes"}, {"pooling": "attention", "fusion": "perceptron"}]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("how", ["flat", "layers", "none"])
@pytest.mark.parametrize("choices", SURGERY, ids=str)
def test_an_update_is_the_sum_of_rectified_gradients(choices, how, count):
    """Eqs. 15-23 through a real network, its seeds alone or side by side; head and adapter get the weighted sum."""
    methods, views = several(count, rectify=how, **choices)
    stack = Stack(methods).mode(training=True)
    optimiser = torch.optim.SGD(stack.parameters.values(), lr=0.0)
    watched = update(stack, optimiser, stacked_losses(stack, "losses", views), methods[0], clip=0)
    assert set(watched) == (set() if how == "none" else {"cosine", "angles"})
    for s, method in enumerate(methods):
        total, cosines = surgery_by_hand(method, pick(views, s))
        for name, p in stack.parameters.items():
            expected = total[name.removeprefix("module.")]
            found = torch.zeros_like(expected) if p.grad is None else p.grad[s]
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10, msg=f"{how}: {name}")
        if cosines:
            told = torch.tensor(cosines).double()  # (G, 2, K - 1)
            torch.testing.assert_close(watched["cosine"][s], told.mean(0), rtol=1e-6, atol=1e-7)
            angles = np.degrees(np.arccos(told.clamp(-1, 1).numpy()))
            for when, term in product(range(2), range(2)):
                shares = np.histogram(angles[:, when, term], np.arange(0, 181, 5))[0] / len(cosines)
                near_edge = np.abs(angles[:, when, term] / 5 - np.round(angles[:, when, term] / 5)).min() < 1e-4
                if not near_edge:
                    close(watched["angles"][s, when, term], shares)
                close(watched["angles"][s, when, term].sum(), 1.0)


def test_the_networks_of_these_tests_know_agreement_and_conflict():
    signs = set()
    for how in ("flat", "layers"):
        methods, views = several(3, rectify=how)
        for s, method in enumerate(methods):
            for (before, after), term in product(surgery_by_hand(method, pick(views, s))[1], range(2)):
                signs.add((how, before[term] >= 0))
                assert after[term] >= before[term] - 1e-9
    assert signs == set(product(("flat", "layers"), (True, False)))


def test_rectified_parameters_are_all_but_head_and_adapter():
    """One vector, or a group for every layer, each parameter in one of them."""
    for how, many in (("flat", 1), ("layers", None), ("none", 0)):
        method = build(rectify=how, pooling="attention")
        groups = method.rectified
        names = [name for group in groups for name in group]
        everything = {name for name, _ in method.named_parameters()}
        assert len(names) == len(set(names))
        assert many is None or len(groups) == many
        if how != "none":
            assert everything - set(names) == {"head.weight", "head.bias", "adapter.weight"}
            by_hand = {frozenset(group) for group in groups_by_hand(method)}
            assert {frozenset(group) for group in groups} == by_hand


def test_coefficients_are_those_of_the_sum():
    """(S, G, K): of the task what all conflicts add to it, of the others what is kept, times their weights."""
    method, vectors = build(), drawn(2, 2, 3, 6, seed=9)
    told, watched = method.combine(vectors @ vectors.mT, {"task": 2.0, "kd": 0.2, "align": 0.1})
    assert told.shape == (2, 2, 3)
    assert watched["cosine"].shape == (2, 2, 2)
    assert watched["angles"].shape == (2, 2, 2, ANGLES)
    for s, g in product(range(2), range(2)):
        main, kd, align = vectors[s, g]
        expected = (
            2 * main + 0.2 * rectified_by_hand(main, kd, 0.1, 0.3) + 0.1 * rectified_by_hand(main, align, 0.1, 0.3)
        )
        close(told[s, g] @ vectors[s, g], expected)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("how", ["flat", "layers", "none"])
@pytest.mark.parametrize("choices", [{}, {"pooling": "attention", "task_on": "mixed", "encoder_layers": 3}], ids=str)
def test_gradients_lie_in_memory_as_their_parameters_do(choices, how, count):
    """Fused Adam reads memory in order, whatever the strides say: its step must equal one that looks at them."""
    kept = {}
    for fused in (True, False):
        methods, views = several(count, rectify=how, **choices)
        stack = Stack(methods).mode(training=True)
        optimiser = torch.optim.Adam(stack.parameters.values(), lr=0.1, fused=fused, foreach=False)
        for _ in range(2):
            update(stack, optimiser, stacked_losses(stack, "losses", views), methods[0], clip=1.0)
        for name, p in stack.parameters.items():
            if p.grad is not None:
                assert p.is_contiguous()
                assert p.grad.is_contiguous(), name
        kept[fused] = stack.state()
    for name, p in kept[True].items():
        torch.testing.assert_close(p, kept[False][name], rtol=1e-6, atol=1e-8)


def test_terms_without_weight_do_not_train():
    """Watched terms may have any shape, and a gradient of theirs would go nowhere."""
    methods, views = several(1)
    found = []
    for spoil in (False, True):
        stack = Stack(methods).mode(training=True)
        terms = stacked_losses(stack, "losses", views)
        if spoil:
            live = sum(p.square().sum() for p in stack.parameters.values())
            terms |= {"gap": 1e3 * live.view(1), "routing": live * terms["routing"], "world": live.view(1)}
        update(stack, torch.optim.SGD(stack.parameters.values(), lr=0.0), terms, methods[0], clip=0)
        found.append({name: p.grad for name, p in stack.parameters.items()})
    assert all(torch.equal(found[0][name], g) for name, g in found[1].items())


# --- what a step shows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", READERS, ids=str)
def test_only_sets_that_may_matter_are_fused(choices):
    """Everything between student and utterance where there is a choice by Shapley value, the teacher alone where there
    is none; nothing for those who lack nothing."""
    method, batch = build(**choices), utterances(n=28)
    for seed in (0, 1):
        routing = views_drawn(method, stacked(batch), Draws((seed,), 1))["routing"]
        r = pick(routing, 0)
        asked = [[] for _ in batch.y]
        for n, c in zip(r.row.tolist(), r.code.tolist(), strict=True):
            asked[n].append(places(c))
        expected, teachers = [], []
        for n in range(len(batch.y)):
            s, e = places(r.student[n]), frozenset(i for i, m in enumerate("lav") if batch.valid[m][n].any())
            assert places(r.exists[n]) == e
            expected.append(sorted(asked_by_hand(method, s, e, r.uniform[n].item()), key=number))
            teachers.append(allowed_by_hand(method, s, e) if method.options.teacher in BY_UTILITY else expected[-1])
        if any(expected):
            assert asked == expected
        else:
            assert (r.row.tolist(), r.code.tolist()) == ([0], [0])
        assert [sorted(map(places, row.nonzero().flatten().tolist()), key=number) for row in r.allowed] == [
            sorted(t, key=number) for t in teachers
        ]


def test_pairs_of_a_step_are_as_many_as_the_game_needs():
    """Four sets for one modality of three, one for two, none for all of them; greedy leaves out the full set."""
    batch = utterances(n=1)
    for teacher, counts in (("shapley", [4, 4, 4, 1, 1, 1, 0]), ("greedy", [3, 3, 3, 1, 1, 1, 0])):
        method = build(teacher=teacher)
        for shown, count in zip(powerset(range(3))[1:], counts, strict=True):
            routing = views_of(method, batch, shown=[shown])["routing"]
            assert len(routing.code) == max(count, 1)
            assert count or routing.code.tolist() == [0]


@pytest.mark.parametrize("choices", [{}, {"teacher": "random"}, {"complete_case": "no"}], ids=str)
def test_views_depend_on_seed_and_step_and_on_no_neighbour(choices):
    """Beside seeds with more pairs a seed repeats its first one, and nothing that it says changes."""
    method, batches = build(**choices).eval(), [utterances(seed=s) for s in (0, 50, 100)]
    side = views_drawn(method, stacked(*batches), Draws((4, 5, 6), 2))
    longest = side["routing"].row.shape[-1]
    lengths = []
    for s, seed in enumerate((4, 5, 6)):
        alone = pick(views_drawn(method, stacked(batches[s]), Draws((seed,), 2)), 0)
        beside = pick(side, s)
        for field in ("student", "exists", "allowed", "uniform"):
            assert torch.equal(getattr(alone["routing"], field), getattr(beside["routing"], field))
        for m in "lav":
            assert torch.equal(alone["student"].frames[m], beside["student"].frames[m])
            assert torch.equal(beside["complete"].x[m], batches[s].x[m])
        size = len(alone["routing"].row)
        lengths.append(size)
        for field in ("row", "code"):
            mine, theirs = getattr(alone["routing"], field), getattr(beside["routing"], field)
            assert torch.equal(theirs[:size], mine)
            assert theirs[size:].tolist() == [mine[0].item()] * (longest - size)
        for name, term in losses(method, alone).items():
            close(losses(method, beside)[name], term)
        other = pick(views_drawn(method, stacked(batches[s]), Draws((seed,), 3)), 0)["routing"]
        assert not torch.equal(other.student, alone["routing"].student)
        assert not torch.equal(other.uniform, alone["routing"].uniform)
    assert max(lengths) == longest
    assert len(set(lengths)) > 1


def test_a_seed_without_pairs_is_filled_with_the_empty_set():
    asked = torch.zeros(2, 3, 8, dtype=torch.bool)
    asked[1, 2, 5] = asked[1, 1, 3] = True
    row, code = pairs(asked)
    assert (row.tolist(), code.tolist()) == ([[0, 0], [1, 2]], [[0, 0], [3, 5]])
    assert [t.tolist() for t in pairs(asked[:1])] == [[[0]], [[0]]]


def test_a_seed_in_which_nobody_is_taught_trains_beside_others():
    methods = [build(seed=s).eval() for s in (0, 1)]
    batches = [utterances(seed=s) for s in (0, 50)]
    shown = ([frozenset(range(3))] * 11, [frozenset({0})] * 11)
    sides = [views_of(m, b, shown=t) for m, b, t in zip(methods, batches, shown, strict=True)]
    with patch.object(
        dynkd, "training_view", lambda *_, **__: stacked(*(only(b, t) for b, t in zip(batches, shown, strict=True)))
    ):
        side = views_drawn(methods[0], stacked(*batches), Draws((0, 0), 0))
    terms = stacked_losses(Stack(methods).mode(training=False), "losses", side)
    for s, method in enumerate(methods):
        for name, alone in losses(method, sides[s]).items():
            close(terms[name][s], alone)
    assert terms["kd"][0] == 0 < terms["kd"][1]


def full_batch(n):
    valid = {m: torch.ones(n, 1, dtype=torch.bool) for m in "lav"}
    return Batch({m: drawn(n, 1, WIDTHS[m]) for m in "lav"}, dict(valid), valid, torch.zeros(n).double())


@pytest.mark.parametrize(("complete", "kinds"), [("yes", 7), ("no", 6)])
def test_students_are_shown_every_set_equally_often(complete, kinds):
    """Uniformly over the sets, and independently of the number that draws the teacher."""
    method = build(lengths=VECTORS, complete_case=complete)
    routing = pick(views_drawn(method, stacked(full_batch(7000)), Draws((0,), 0)), 0)["routing"]
    counts = Counter(routing.student.tolist())
    assert sorted(counts) == [*range(1, kinds + 1)]
    assert chisquare([*counts.values()]).pvalue > 1e-3
    assert bool((routing.exists == 7).all())
    table = np.histogram2d(routing.student.numpy(), routing.uniform.numpy(), [np.arange(0.5, kinds + 1), 5])[0]
    assert chi2_contingency(table).pvalue > 1e-3
    assert torch.equal(routing.uniform, Draws((0,), 0).uniform("teacher", (7000,))[0])


@pytest.mark.parametrize("complete", ["yes", "no"])
def test_the_student_sees_whole_modalities_of_what_there_is(complete):
    method, batch = build(complete_case=complete), utterances(n=60)
    views = views_drawn(method, stacked(batch, batch), Draws((0, 1), 0))
    for s in range(2):
        student, whole = views["student"], views["complete"]
        shown = present(student.frames)[s]
        assert bool(shown.any(-1).all())
        for i, m in enumerate("lav"):
            assert torch.equal(student.frames[m][s], batch.frames[m] & shown[:, i : i + 1])
            assert torch.equal(student.x[m][s], batch.x[m] * shown[:, i, None, None])
            assert torch.equal(whole.x[m][s], batch.x[m])
        assert torch.equal(views["routing"].student[s], code_of(shown))
        assert torch.equal(student.y[s], batch.y)


def test_teachers_are_drawn_with_their_probability():
    """Of 7000 equal utterances as many as the routing says are taught by each candidate; the best choice is one."""
    method, one = build(lengths=VECTORS, routing_temperature=1.0).eval(), full_batch(1)
    batch = one.take(torch.zeros(7000, dtype=torch.long))
    views = views_of(method, batch, shown=[frozenset({1})] * 7000)
    fused, values = method.consider(method.encode(batch), batch.y, views["routing"])
    probability = method.probability(values, views["routing"])
    told = dynkd.drawn(probability, views["routing"].uniform)
    counts = {c: int((told == c).sum()) for c in (3, 6)}
    assert sum(counts.values()) == 7000
    p = probability[0, [3, 6]]
    assert 0.02 < float(p[0]) < 0.98
    assert chisquare([*counts.values()], (7000 * p / p.sum()).numpy()).pvalue > 1e-3
    assert (fused.requires_grad, values.requires_grad) == (False, False)


# --- dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_is_of_the_student_alone_unless_asked_for():
    """Section 4.2: the teacher's branch, and what sets are worth, are without it."""
    for choices, noisy in (({}, False), ({"teacher_dropout": "yes"}, True)):
        method, batch = build(dropout=0.5, **choices).train(), utterances()
        views = views_of(method, batch)
        torch.manual_seed(0)
        one, other = losses(method, views), losses(method, views)
        assert far(one["task"], other["task"])
        assert far(one["align"], other["align"])
        assert torch.equal(one["utility"], other["utility"]) != noisy
        assert torch.equal(one["routing"], other["routing"]) != noisy
        method.eval()
        one, other = losses(method, views), losses(method, views)
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("noisy", ["no", "yes"])
@pytest.mark.parametrize("name", ["kd", "align"])
def test_gradients_through_the_teacher_change_no_value(name, noisy):
    """Eqs. 10 and 12 speak of one Z_T: whether gradients run through psi(Z_T) is no matter of its value."""
    batch, told = utterances(), []
    for through in ("no", "yes"):
        method = build(dropout=0.5, teacher_dropout=noisy, through_teacher=through).train()
        views = views_of(method, batch)
        torch.manual_seed(0)
        told.append(losses(method, views)[name])
    close(*told)


def test_dropout_zeroes_half_of_the_tokens_and_scales_the_rest():
    method = build(dropout=0.5, lengths=VECTORS).train()
    told = method.drop(torch.ones(1000, 3, 4))
    assert set(told.unique().tolist()) == {0.0, 2.0}
    assert abs(float((told == 0).double().mean()) - 0.5) < 0.02
    assert torch.equal(method.eval().drop(torch.ones(5, 3, 4)), torch.ones(5, 3, 4))


# --- watching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("added", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_routes_are_the_choices_that_there_are(count, added):
    assert [*routes(count, added)] == [(number(s), number(t)) for s, t in routes_by_hand(count, added)]
    assert routes(3) == ((1, 3), (1, 5), (2, 3), (2, 6), (4, 5), (4, 6))


def test_routing_that_knows_the_truth_has_no_regret():
    """A table of true values in which the routing is certain of the best candidate, and one in which it is of the
    worst."""
    method, batch = build(lengths=VECTORS).eval(), full_batch(3)
    views = views_of(method, batch, shown=[frozenset({0}), frozenset({1}), frozenset({0, 1})])
    routing = views["routing"]
    certain = torch.zeros(3, 8).double()
    certain[0, 3] = certain[1, 6] = certain[2, 7] = 1
    world = torch.zeros(3, 8).double()
    world[0, 3] = world[1, 6] = 2.0
    close(against_truth(certain, routing, method.options.added, world), [2, 0, 2, 2, 2, 1])
    close(against_truth(certain, routing, method.options.added, -world), [2, 4, 2, 0, 0, 1])


def test_true_values_of_a_group_are_those_of_the_posterior():
    """For every set of modalities, the empty one too; zero off the training rows; each seed's own data."""
    experiments = plan("dynkd", "synthetic-iemocap", "smoke", [0, 1])
    group = Cohort(experiments, "cpu")
    assert experiments[0].watches_world
    table = group.true_values()
    assert table.shape == (len(group.utterances.y), 8)
    seen = torch.zeros(len(table), dtype=torch.bool)
    for data, offset, rows in zip(group.data, group.offsets, group.indices("train"), strict=True):
        truth = exact.values(data, data.rows("train"))
        names = data.batch.modalities
        assert len(truth) == 8
        for chosen, values in truth.items():
            column = number(i for i, m in enumerate(names) if m in chosen)
            assert torch.equal(table[rows, column], values.float())
        assert rows.tolist() == (data.rows("train") + offset).tolist()
        seen[rows] = True
    assert bool((table[~seen] == 0).all())
    assert bool((table[seen] < 0).all())
    assert 0 < int(seen.sum()) < len(seen)
    assert torch.equal(group.ready().world, table)


def test_teachers_are_chosen_by_utility_by_rule_or_named():
    assert set(TEACHERS) == {*BY_UTILITY, *BY_RULE, "l", "a", "v", "l+a", "l+v", "a+v", "l+a+v"}


@pytest.mark.parametrize(
    ("name", "value"), [("routing_temperature", 0), ("distillation_temperature", 0), ("suppress", 1.5)]
)
def test_numbers_that_the_equations_do_not_allow_are_refused(name, value):
    """Eqs. 7 and 13 divide by their temperatures; Eq. 22 has rho from 0 to 1."""
    with pytest.raises(BadInput):
        DynKDOptions.of(**{name: value})


@pytest.mark.parametrize("choices", [{}, {"teacher_dropout": "yes", "through_teacher": "yes"}], ids=str)
def test_stacked_networks_learn_with_dropout(choices):
    methods, views = several(3, dropout=0.5, **choices)
    stack = Stack(methods).mode(training=True)
    optimiser = torch.optim.Adam(stack.parameters.values(), lr=0.05, fused=True)
    before = None
    for _ in range(30):
        terms = stacked_losses(stack, "losses", views)
        update(stack, optimiser, terms, methods[0], clip=1.0)
        before = terms["task"].detach() if before is None else before
    assert all(term.isfinite().all() for term in terms.values())
    assert bool((stacked_losses(stack.mode(training=False), "losses", views)["task"] < before).all())


# --- the network as its options say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "answers", "outputs"),
    [("regression", "score", 1), ("regression", "classes", 2), ("classification", "score", 4)],
)
def test_the_head_answers_with_a_score_two_polarities_or_the_emotions(task, answers, outputs):
    assert build(task, answers=answers).head.out_features == outputs


def test_the_network_is_as_deep_and_wide_as_its_options_say():
    def at(width=4, encoder_layers=2, depth=1, feedforward=2, fusion="transformer", pooling="mean"):
        method = build(
            width=width, encoder_layers=encoder_layers, depth=depth, feedforward=feedforward, fusion=fusion,
            pooling=pooling,
        )  # fmt: skip
        return sum(p.numel() for p in method.parameters())

    def by_hand(d, layers, depth, f, fusion, attention):
        encoders = sum(WIDTHS[m] * d + d + (layers - 1) * (d * d + d) for m in "lav")
        block = 3 * d * d + 3 * d + d * d + d + 2 * (2 * d) + d * f * d + f * d + f * d * d + d
        fused = depth * block + 2 * d
        if fusion == "perceptron":
            fused = 3 * d * f * d + f * d + (depth - 1) * (f * d * f * d + f * d) + f * d * d + d
        return encoders + 3 * d + fused + d + 1 + d * d + 3 * (d + 1) * attention

    for fusion, depth, layers, f, pooling in product(
        ("transformer", "perceptron"), (1, 3), (1, 2), (1, 2), ("mean", "attention")
    ):
        expected = by_hand(4, layers, depth, f, fusion, pooling == "attention")
        assert at(4, layers, depth, f, fusion, pooling) == expected
    assert at(8) == by_hand(8, 2, 1, 2, "transformer", False)


def test_the_adapter_begins_as_no_change():
    """A bias-free matrix (section 3.3); at random it begins as any other layer does."""
    options = DynKDOptions.of(**SMALL)
    method = DynKD(shape("regression", UNEQUAL), options)
    assert torch.equal(method.adapter.weight, torch.eye(4))
    assert method.adapter.bias is None
    other = DynKD(shape("regression", UNEQUAL), replace(options, adapter="random"))
    assert not torch.equal(other.adapter.weight, torch.eye(4))


def test_heads_must_divide_the_width():
    with pytest.raises(BadInput, match="3 attention heads do not divide the width 4"):
        build(heads=3)


def test_predictions_are_scores_signs_or_probabilities():
    logits = torch.tensor([[0.2, -1.0], [0.5, 1.5]])
    assert build().answer.prediction(logits[:, :1]).tolist() == logits[:, 0].tolist()
    signs = build(answers="classes").answer.prediction(logits)
    assert (signs.tolist(), signs.dtype) == ([-1, 1], torch.int8)
    emotions = build("classification").answer.prediction(drawn(5, 4))
    close(emotions.sum(-1), torch.ones(5))
    close(emotions, drawn(5, 4).softmax(-1))


@pytest.mark.parametrize(
    ("task", "answers"), [("regression", "score"), ("regression", "classes"), ("classification", "score")]
)
def test_a_certain_posterior_teaches_what_a_label_does(task, answers):
    method = build(task, answers=answers)
    values = torch.tensor([-2.0, -0.5, 1.0, 3.0]) if task == "regression" else torch.arange(4.0)
    y = torch.tensor([0, 3, 1, 2])
    logits = drawn(4, method.head.out_features)
    soft = method.answer.shares(torch.eye(4).double()[y], values)
    labels = values.double()[y] if task == "regression" else y
    close(method.answer.soft(logits, soft), method.answer.loss(logits, labels))
    if answers == "classes":
        shares = method.answer.shares(torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64), values)
        close(shares, [[0.3, 0.7]])
        neutral = method.answer.shares(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([0.0, 1.0]))
        close(neutral, [[0.0, 0.5]])


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "benchmark_name", ["synthetic-mosi", "synthetic-mosei", "synthetic-iemocap", "synthetic-iemocap6"]
)
@pytest.mark.parametrize("count", [1, 2])
def test_three_steps_on_every_stand_in_are_finite(benchmark_name, count):
    experiments = plan("dynkd", benchmark_name, "smoke", range(count), settings={"epochs": 1})
    group = Cohort(experiments, "cpu")
    ready = group.ready()
    size = len(ready.train[0]) // 3
    result = fit(ready._replace(settings=replace(ready.settings, batch=size)))
    assert result.cost["steps"] == 3
    before = group.build(experiments[0]).state_dict()
    for history in result.history:
        told = {"task", "kd", "align", "gap", "routing", "utility", "world", "cosine", "angles"}
        assert {name.removeprefix("terms/") for name in history if name.startswith("terms/")} == told
        assert all(np.isfinite(values).all() for values in history.values())
        many, regret, even, best, valued, chance = history["terms/world"][0]
        assert many > 0
        assert regret >= 0
        assert even >= 0
        assert max(best, valued) <= many + 1e-4
        assert abs(chance - many / 2) < 1e-3  # of two candidates
        np.testing.assert_allclose(history["terms/angles"][0].sum(-1), 1, atol=1e-5)
    after = result.weights[0]
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_greedy_trains_exactly_as_shapley_does_on_three_modalities():
    """Their probabilities are equal but for rounding. Only the full set's utility is asked for by one and not by the
    other."""
    found = {}
    for teacher in ("shapley", "greedy"):
        experiments = plan(
            "dynkd", "synthetic-iemocap", "smoke", [0], options={"teacher": teacher}, settings={"epochs": 2}
        )
        found[teacher] = fit(Cohort(experiments, "cpu").ready())
    one, other = found["shapley"], found["greedy"]
    for name, values in one.history[0].items():
        if name == "terms/utility":
            np.testing.assert_allclose(values[:, :-1], other.history[0][name][:, :-1], rtol=1e-4, atol=1e-4)
            assert values[0, -1, 1] > other.history[0][name][0, -1, 1]
        else:
            np.testing.assert_allclose(values, other.history[0][name], rtol=1e-5, atol=1e-6)
    for name, p in one.weights[0].items():
        torch.testing.assert_close(p, other.weights[0][name], rtol=1e-4, atol=1e-6)


class AdamByHand:
    """Kingma and Ba 2015, weight decay added to the gradient."""

    def __init__(self, parameters, lr, decay):
        self.parameters, self.lr, self.decay, self.step_ = [*parameters], lr, decay, 0
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    def zero_grad(self, set_to_none):
        for p in self.parameters:
            p.grad = None

    def step(self):
        self.step_ += 1
        with torch.no_grad():
            for p, m, v in zip(self.parameters, self.first, self.second, strict=True):
                g = p.grad + self.decay * p
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                bias = (1 - 0.9**self.step_, 1 - 0.999**self.step_)
                p -= self.lr * (m / bias[0]) / ((v / bias[1]).sqrt() + 1e-8)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_weight_decay_is_that_of_adam(decay):
    """A whole training against a loop with an optimiser by hand, in float64, without dropout."""
    how = {
        "options": {"dropout": 0.0},
        "settings": {"weight_decay": decay, "epochs": 2, "selection": "last", "batch": 64},
    }
    experiments = plan("dynkd", "synthetic-mosi", "smoke", [3, 4], **how)
    result = fit(in_double(Cohort(experiments, "cpu").ready()))
    ready = in_double(Cohort(experiments, "cpu").ready())
    rows, head = ready.train, ready.methods[0]
    stack = Stack(ready.methods).mode(training=True)
    optimiser = AdamByHand(stack.parameters.values(), ready.settings.lr, decay)
    steps = rows.shape[1] // 64
    for epoch in (1, 2):
        order = torch.stack([torch.from_numpy(generator(s, "order", epoch).permutation(rows.shape[1])) for s in (3, 4)])
        for step in range(steps):
            chosen = rows.gather(1, order[:, step * 64 : (step + 1) * 64])
            views = views_drawn(head, ready.utterances.take(chosen), Draws((3, 4), (epoch - 1) * steps + step))
            update(stack, optimiser, stacked_losses(stack, "losses", views), head, ready.settings.clip)
    for s in range(2):
        for name, p in result.weights[s].items():
            torch.testing.assert_close(p, stack.parameters[f"module.{name}"][s].detach(), rtol=1e-6, atol=1e-9)


def test_the_plain_reference_has_no_surgery():
    """One term: the weighted sum, no cosines."""
    experiments = plan("dynkd", "synthetic-mosi", "smoke", [0], "plain", settings={"epochs": 1})
    history = fit(Cohort(experiments, "cpu").ready()).history[0]
    assert {name for name in history if name.startswith("terms/")} == {"terms/task"}
    assert not experiments[0].watches_world


# --- the printed setting ---------------------------------------------------------------------------------------------


def test_the_printed_setting_is_that_of_section_4_2():
    choices, trained = DynKD.recipe("iemocap", "paper")
    o = DynKDOptions.of(**choices)
    assert o == DynKDOptions()
    assert (o.added, o.routing_temperature, o.distillation_temperature, o.mix) == (1, 0.1, 2.0, 0.3)
    assert (o.align_weight, o.kd_weight, o.amplify, o.suppress, o.dropout) == (0.1, 0.2, 0.1, 0.3, 0.5)
    assert (o.teacher, o.mixer, o.rectify, o.choice, o.students) == ("shapley", "linear", "flat", "drawn", "all")
    assert (o.through_teacher, o.teacher_dropout, o.complete_samples) == ("no", "no", "none")
    assert {name: trained[name] for name in ("lr", "weight_decay", "batch")} == {
        "lr": 1e-4,
        "weight_decay": 1e-5,
        "batch": 32,
    }


def test_profiles_differ_and_unknown_ones_are_refused():
    assert DynKD.recipe("mosi", "smoke") != DynKD.recipe("mosi", "small") != DynKD.recipe("mosi", "paper")
    assert DynKDOptions.of(**DynKD.recipe("mosi", "paper")[0]).width == 256
    with pytest.raises(BadInput, match="unknown profile 'large'"):
        DynKD.recipe("mosi", "large")


# --- leave one session out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [4, 6])
def test_a_dialogue_stands_in_one_part_of_a_fold(tmp_path, classes):
    """Five folds, each tests a session: together they test every utterance once, and nobody trains on a dialogue that
    selects or tests."""
    ids, _ = iemocap(tmp_path, classes, dialogues=10)
    data = files.read(tmp_path)
    assert len(data.folds) == 5
    tested = [data.ids[row] for fold in data.folds for row in data.rows("test", fold)]
    assert Counter(tested) == Counter(chain.from_iterable(ids.values()))
    dialogue = {utterance: name for name, found in ids.items() for utterance in found}
    for fold in data.folds:
        train, valid, test = ({dialogue[data.ids[r]] for r in data.rows(p, fold)} for p in ("train", "valid", "test"))
        assert not train & valid
        assert not train & test
        assert not valid & test
        assert train
        assert valid
        assert {name[:5] for name in test} == {f"Ses{fold + 1:02}"}
        assert f"Ses{fold + 1:02}" not in {name[:5] for name in train | valid}
        assert 3 <= len(valid) <= 5  # a tenth of forty training dialogues
