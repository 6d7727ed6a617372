"""Codes of sets of modalities against sets of names, and the training view that draws them."""

import torch

from mmkd_lib.data.subsets import between, code_of, code_of_names, members, present

NAMES = ("l", "a", "v", "x")


def named(code, names=NAMES):
    return {m for i, m in enumerate(names) if code >> i & 1}


def test_a_code_is_the_set_of_its_names():
    for code in range(2 ** len(NAMES)):
        assert code_of_names(named(code), NAMES) == code
        assert code_of_names(sorted(named(code), reverse=True), NAMES) == code  # the order of a wish does not matter


def test_names_that_a_benchmark_lacks_have_no_bit():
    assert code_of_names(("x", "v", "full"), ("l", "a", "v")) == 4


def test_codes_of_names_and_of_masks_are_the_same():
    held = members(len(NAMES))
    for code, row in enumerate(held):
        assert {m for m, there in zip(NAMES, row.tolist(), strict=True) if there} == named(code)
    assert code_of(held).tolist() == [code_of_names(named(code), NAMES) for code in range(len(held))]


def test_present_modalities_have_at_least_one_frame():
    frames = {"l": torch.tensor([[False, True], [False, False]]), "a": torch.tensor([[True], [False]])}
    assert present(frames).tolist() == [[True, True], [False, False]]


def test_between_agrees_with_python_sets():
    codes = torch.arange(2 ** len(NAMES))
    for least in range(2 ** len(NAMES)):
        for most in range(2 ** len(NAMES)):
            found = between(torch.tensor(least), torch.tensor(most), codes)
            assert found.tolist() == [named(least) <= named(c) <= named(most) for c in range(len(codes))]
