"""Exercises: copies for a class, refusals; every solution passes its check, every stub and tempting answer fails it."""

import ast
import contextlib
import io

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mmkd_lib.book import exercises
from mmkd_lib.support.errors import BadInput

# --- a tiny notebook --------------------------------------------------------------------------------------------------

TASK = "### Exercise {n}: {title}\n\n*easy, 5 minutes*\n\nAdd one."
SOLUTION = '''def add(x):
    """One more than x."""
    step = 1
    # solution
    if x:
        return x + step

    return step
    # end of solution


def twice(x):
    for _ in range(2):
        # solution
        x = add(x)
        # end of solution
    return x'''
STUB = '''def add(x):
    """One more than x."""
    step = 1
    raise NotImplementedError({error!r})


def twice(x):
    for _ in range(2):
        raise NotImplementedError({error!r})
    return x'''


def tagged(cell, *tags):
    cell["metadata"]["tags"] = list(tags)
    return cell


def one_exercise(n, title):
    code = [tagged(new_code_cell(SOLUTION), "solution"), tagged(new_code_cell("assert add(1) == 2"), "check", "slow")]
    hint = tagged(new_markdown_cell("the common mistake"), "instructor")
    return [tagged(new_markdown_cell(TASK.format(n=n, title=title)), "exercise"), *code, hint]


@pytest.fixture
def tiny():
    """Title, an executed cell, a check that belongs to no exercise, two exercises."""
    executed = new_code_cell("1 + 1", execution_count=7)
    executed["outputs"] = [new_output("stream", name="stdout", text="2\n")]
    cells = [new_markdown_cell("# Tiny"), executed, tagged(new_code_cell("assert True"), "check")]
    return new_notebook(cells=cells + one_exercise(1, "adding") + one_exercise(2, 'the "zero"'))


def test_exercises_are_found_with_their_cells(tiny):
    first, second = exercises.exercises(tiny)
    assert (first.number, first.title, first.level, first.minutes) == (1, "adding", "easy", 5)
    assert [(e.solution, e.check) for e in (first, second)] == [(4, 5), (8, 9)]
    assert exercises.exercises(new_notebook(cells=tiny.cells[:3])) == []


def test_a_student_copy_has_gaps_and_no_hints(tiny):
    before = nbformat.writes(tiny)
    made = exercises.student(tiny, "09_tiny")
    nbformat.validate(made)
    assert nbformat.writes(tiny) == before
    assert "09_tiny.ipynb" in made.cells[0].source
    assert "2 exercises, about 10 minutes" in made.cells[0].source
    kept = [cell for cell in tiny.cells if "instructor" not in cell.metadata.get("tags", [])]
    assert [cell.id for cell in made.cells[1:]] == [cell.id for cell in kept]
    stubs = {5: "Exercise 1: adding", 8: 'Exercise 2: the "zero"'}
    for place, (cell, old) in enumerate(zip(made.cells[1:], kept, strict=True), 1):
        assert cell.source == (STUB.format(error=stubs[place]) if place in stubs else old.source)
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert "solution" not in cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            ast.parse(cell.source)


def test_an_instructor_copy_holds_everything_and_an_overview(tiny):
    made = exercises.instructor(tiny, "09_tiny")
    nbformat.validate(made)
    assert [(cell.id, cell.source, cell.metadata) for cell in made.cells[1:]] == [
        (cell.id, cell.source, cell.metadata) for cell in tiny.cells
    ]
    assert not made.cells[2].outputs
    assert made.cells[2].execution_count is None
    assert "| 1. adding | easy | 5 |" in made.cells[0].source
    assert "| together | | 10 |" in made.cells[0].source


def with_source(index, change):
    def broken(cells):
        cells[index]["source"] = change(cells[index]["source"])

    return broken


def without(line, count=1):
    return with_source(4, lambda text: text.replace(f"    {line}\n", "", count))


BROKEN = {
    "has nothing to cut": with_source(4, lambda _: "def add(x):\n    return x + 1"),
    "do not pair": without(exercises.BEGIN),
    "do not pair: ": without(exercises.END),
    "marks that do not pair": with_source(4, lambda text: text.replace("    # end of", "  # end of", 1)),
    "cuts no code": with_source(4, lambda text: text.replace("x = add(x)", "# x = add(x)")),
    "cuts outside a function": with_source(4, lambda _: "# solution\nx = 1\n# end of solution"),
    "does not parse without": with_source(
        4, lambda text: text.replace("x = add(x)", "x = (").replace("return x", "2)")
    ),
    "lacks its check cell": lambda cells: cells[5]["metadata"].update(tags=[]),
    "exercise 2 lacks its check": lambda cells: cells.__delitem__(slice(9, None)),
    "lacks its solution cell": lambda cells: cells.insert(4, new_markdown_cell("a hint in between")),
    "exercise 1 lacks its solution": lambda cells: cells.__setitem__(4, tagged(new_markdown_cell("x"), "solution")),
    r"numbers its exercises \[1, 3\]": with_source(7, lambda text: text.replace("2", "3", 1)),
    r"exercises \[2\]: number": lambda cells: cells.__delitem__(slice(3, 7)),
    "begin the task with": with_source(3, lambda text: text.replace("### ", "## ")),
    "cell 3: begin the task": with_source(3, lambda text: text.replace(" minutes", "")),
    "unknown level of tiny, cell 3: exercise 1": with_source(3, lambda text: text.replace("easy", "simple")),
    "a solution without its exercise": lambda cells: cells.append(tagged(new_code_cell(SOLUTION), "solution")),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_broken_exercise_is_refused(tiny, sentence):
    BROKEN[sentence](tiny.cells)
    with pytest.raises(BadInput, match=f"tiny.*{sentence}" if "tiny" not in sentence else sentence):
        exercises.student(tiny, "tiny")
    with pytest.raises(BadInput):
        exercises.instructor(tiny, "tiny")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tiny, tmp_path, monkeypatch):
    """A project of two notebooks, one of them without exercises."""
    (tmp_path / "notebooks").mkdir()
    nbformat.write(tiny, tmp_path / "notebooks" / "09_tiny.ipynb")
    nbformat.write(new_notebook(cells=tiny.cells[:2]), tmp_path / "notebooks" / "08_none.ipynb")
    monkeypatch.setenv("MMKD_HOME", str(tmp_path))
    return tmp_path


def test_copies_are_written_where_asked(home):
    out = home / "class"
    written = exercises.write([], out)
    assert written == [out / "student" / "09_tiny.ipynb", out / "instructor" / "09_tiny.ipynb"]
    for path in written:
        nbformat.validate(nbformat.read(path, as_version=4))
    assert exercises.write(["09_tiny"], out) == written  # unchanged files are no reason to refuse


def test_a_file_with_work_in_it_is_not_overwritten(home):
    student, instructor = exercises.write(["09_tiny"], home / "class")
    fresh = student.read_text()
    student.write_text(fresh.replace("raise NotImplementedError", "return 1  #"))
    edited = student.read_text()
    instructor.unlink()
    with pytest.raises(BadInput, match=r"student.09_tiny\.ipynb is not as it was written"):
        exercises.write(["09_tiny"], home / "class")
    assert student.read_text() == edited
    assert not instructor.exists()  # refused before anything was written
    exercises.write(["09_tiny"], home / "class", force=True)
    assert student.read_text() == fresh
    assert instructor.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("08_none", "08_none has no exercises"), ("07", "unknown notebook '07': choose one of 08_none")],
)
def test_a_notebook_without_exercises_is_refused_by_name(home, name, sentence):
    with pytest.raises(BadInput, match=sentence):
        exercises.write([name], home / "class")
    assert not (home / "class").exists()


# --- the handbook's own exercises -------------------------------------------------------------------------------------

# Tempting answers that a check must refuse: notebook -> exercise -> name -> what stands in the place of the solution.
TEMPTING = {
    "01_corrkd": {
        1: {
            "anchor among its negatives": """
                positive = (student - teacher).square().sum(-1)
                hinge = (margin - torch.cdist(student, teacher)).clamp(min=0).square()
                return positive.mean() + hinge.mean()""",
            "negatives divided by N": """
                positive = (student - teacher).square().sum(-1)
                hinge = (margin - torch.cdist(student, teacher)).clamp(min=0).square()
                return positive.mean() + ((hinge.sum(1) - hinge.diagonal()) / len(student)).mean()""",
            "mean over coordinates": """
                hinge = (margin - torch.cdist(student, teacher)).clamp(min=0).square()
                negative = (hinge.sum(1) - hinge.diagonal()) / (len(student) - 1)
                return F.mse_loss(student, teacher) + negative.mean()""",
            "margin against the square": """
                squared = torch.cdist(student, teacher).square()
                hinge = (margin - squared).clamp(min=0)
                return squared.diagonal().mean() + (hinge.sum() - hinge.diagonal().sum()) / hinge.numel()""",
            "positive out of the sum": """
                total = corrkd.contrastive_distillation(student, teacher, margin, "sum-positive-once")
                return total / (len(student) * (len(student) - 1))""",
            "the printed sum": 'return corrkd.contrastive_distillation(student, teacher, margin, "sum")',
            "negatives among students": """
                positive = (student - teacher).square().sum(-1)
                hinge = (margin - torch.cdist(student, student)).clamp(min=0).square()
                return (positive + (hinge.sum(1) - hinge.diagonal()) / (len(student) - 1)).mean()""",
            "one value an anchor": """
                hinge = (margin - torch.cdist(student, teacher)).clamp(min=0).square()
                negative = (hinge.sum(1) - hinge.diagonal()) / (len(student) - 1)
                return (student - teacher).square().sum(-1) + negative""",
        },
        2: {
            "raw tail": 'return corrkd.disentangle(logits, target, "raw")',
            "divided by its sum": """
                hit, tail = corrkd.disentangle(logits, target, "raw")
                return hit, tail / tail.sum(-1, keepdim=True)""",
            "softmax of probabilities": """
                hit, tail = corrkd.disentangle(logits, target, "raw")
                return hit, tail.softmax(-1)""",
            "target masked, not removed": """
                hit = logits.softmax(-1).gather(-1, target.unsqueeze(-1))
                return hit, (logits - 1000 * F.one_hot(target, logits.shape[-1])).softmax(-1)""",
            "others sorted": """
                hit, tail = corrkd.disentangle(logits, target)
                return hit, tail.sort(-1).values""",
            "target part as a vector": """
                hit, tail = corrkd.disentangle(logits, target)
                return hit.squeeze(-1), tail""",
            "largest class taken for the target": "return corrkd.disentangle(logits, logits.argmax(-1))",
        },
        3: {
            "zero times log zero": """
                product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
                middle = (joint + product) / 2
                d = lambda p, q: (p * (p / q).log()).sum()
                return d(joint, middle) + d(product, middle) - 2 * np.log(2), d(joint, product)""",
            "JSD, not twice": """
                product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
                h = [torch.special.entr(p).sum() for p in (joint, product, (joint + product) / 2)]
                return h[2] - (h[0] + h[1]) / 2 - 2 * np.log(2), h[1] - h[0]""",
            "bits": """
                product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
                h = [torch.special.entr(p).sum() / np.log(2) for p in (joint, product, (joint + product) / 2)]
                return 2 * h[2] - h[0] - h[1] - 2, h[1] - h[0]""",
            "without the constant": """
                product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
                h = [torch.special.entr(p).sum() for p in (joint, product, (joint + product) / 2)]
                return 2 * h[2] - h[0] - h[1], h[1] - h[0]""",
            "uniform in the place of the marginals": """
                product = torch.full_like(joint, 1 / joint.numel())
                h = [torch.special.entr(p).sum() for p in (joint, product, (joint + product) / 2)]
                return 2 * h[2] - h[0] - h[1] - 2 * np.log(2), h[1] - h[0]""",
            "Eq. 6 taken for the information": """
                product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
                h = [torch.special.entr(p).sum() for p in (joint, product, (joint + product) / 2)]
                return 2 * h[2] - h[0] - h[1] - 2 * np.log(2), 2 * h[2] - h[0] - h[1]""",
        },
        4: {
            "accuracy": "return 100 * max(share, 1 - share)",
            "F1 without its weight": "return 100 * 2 * max(share, 1 - share) / (1 + max(share, 1 - share))",
            "macro F1": "return 100 * max(share, 1 - share) / (1 + max(share, 1 - share))",
            "always positive": "return 100 * 2 * share**2 / (1 + share)",
            "always negative": "return 100 * 2 * (1 - share) ** 2 / (2 - share)",
            "a share, not per cent": "return 2 * max(share, 1 - share) ** 2 / (1 + max(share, 1 - share))",
            "a fair coin": "return 100 * (share**2 / (share + 0.5) + (1 - share) ** 2 / (1.5 - share))",
        },
        5: {
            "unpaired": """
                size = draws, len(plain)
                one, two, three = (x[rng.integers(size[1], size=size)].mean(1) for x in (plain, method, oracle))
                ends = np.quantile((two - one) / (three - one), (0.025, 0.975))
                return (method - plain).mean() / (oracle - plain).mean(), *ends""",
            "gain and gap drawn apart": """
                gain, gap = method - plain, oracle - plain
                one, two = (x[rng.integers(len(x), size=(draws, len(x)))].mean(1) for x in (gain, gap))
                return gain.mean() / gap.mean(), *np.quantile(one / two, (0.025, 0.975))""",
            "gap held fixed": """
                gain, gap = method - plain, oracle - plain
                means = gain[rng.integers(len(gain), size=(draws, len(gain)))].mean(1)
                return gain.mean() / gap.mean(), *np.quantile(means / gap.mean(), (0.025, 0.975))""",
            "mean of shares": """
                shares = (method - plain) / (oracle - plain)
                means = shares[rng.integers(len(shares), size=(draws, len(shares)))].mean(1)
                return shares.mean(), *np.quantile(means, (0.025, 0.975))""",
            "90 per cent": """
                gain, gap = method - plain, oracle - plain
                drawn = rng.integers(len(plain), size=(draws, len(plain)))
                ends = np.quantile(gain[drawn].mean(1) / gap[drawn].mean(1), (0.05, 0.95))
                return gain.mean() / gap.mean(), *ends""",
            "without replacement": """
                gain, gap = method - plain, oracle - plain
                drawn = rng.permuted(np.tile(np.arange(len(plain)), (draws, 1)), axis=1)
                ends = np.quantile(gain[drawn].mean(1) / gap[drawn].mean(1), (0.025, 0.975))
                return gain.mean() / gap.mean(), *ends""",
            "less than the oracle": """
                gain, gap = oracle - method, oracle - plain
                drawn = rng.integers(len(plain), size=(draws, len(plain)))
                ends = np.quantile(gain[drawn].mean(1) / gap[drawn].mean(1), (0.025, 0.975))
                return gain.mean() / gap.mean(), *ends""",
        },
    },
    "02_umdf": {
        1: {
            "not squared": """
                k = [(-torch.cdist(x, y).square() / width).exp().mean() for x in (one, other) for y in (one, other)]
                return (k[0] + k[3] - 2 * k[1]).clamp(min=0).sqrt()""",
            "distance in the place of its square": """
                k = [(-torch.cdist(x, y) / width).exp().mean() for x in (one, other) for y in (one, other)]
                return k[0] + k[3] - 2 * k[1]""",
            "width taken for a standard deviation": """
                pairs = [(x, y) for x in (one, other) for y in (one, other)]
                k = [(-torch.cdist(x, y) ** 2 / (2 * width**2)).exp().mean() for x, y in pairs]
                return k[0] + k[3] - 2 * k[1]""",
            "cross part once": """
                k = [(-torch.cdist(x, y).square() / width).exp().mean() for x in (one, other) for y in (one, other)]
                return k[0] + k[3] - k[1]""",
            "sums": """
                k = [(-torch.cdist(x, y).square() / width).exp().sum() for x in (one, other) for y in (one, other)]
                return k[0] + k[3] - 2 * k[1]""",
            "row by row": "return 2 - 2 * (-(one - other).square().sum(-1) / width).exp().mean()",
            "kernel of the two means": "return 2 - 2 * (-(one.mean(0) - other.mean(0)).square().sum() / width).exp()",
            "the library's five kernels": "return umdf.maximum_mean_discrepancy(one, other)",
            "sample sizes taken for equal": """
                return umdf.maximum_mean_discrepancy(one / width**0.5, other / width**0.5, 1, "one")""",
        },
        2: {
            "diagonal out, divided by N squared": """
                k = [(-torch.cdist(x, y).square() / width).exp() for x in (one, other) for y in (one, other)]
                within = sum(m.fill_diagonal_(0).mean() for m in (k[0], k[3]))
                return within - 2 * k[1].mean(), 2 / len(one)""",
            "i = j out of the cross part, too": """
                n = len(one)
                k = [(-torch.cdist(x, y).square() / width).exp() for x in (one, other) for y in (one, other)]
                printed = k[0].mean() + k[3].mean() - 2 * k[1].mean()
                left = [(m.sum() - m.trace()) / (n * (n - 1)) for m in k]
                return left[0] + left[3] - 2 * left[1], printed - left[0] - left[3] + 2 * left[1]""",
            "the diagonal alone for the excess": """
                return umdf.maximum_mean_discrepancy(
                    one / width**0.5, other / width**0.5, 1, "one", "u-statistic"
                ), 2 / len(one)""",
            "the excess of one sample, twice": """
                n, half = len(one), width**0.5
                k = (-torch.cdist(one, one).square() / width).exp()
                excess = 2 * (1 - (k.sum() - n) / (n * (n - 1))) / n
                return umdf.maximum_mean_discrepancy(one / half, other / half, 1, "one", "u-statistic"), excess""",
            "the average for the excess": """
                return umdf.maximum_mean_discrepancy(
                    one / width**0.5, other / width**0.5, 1, "one", "u-statistic"
                ), 1 / len(one)""",
            "no less than 0": """
                pair = one / width**0.5, other / width**0.5
                v, u = (umdf.maximum_mean_discrepancy(*pair, 1, "one", e) for e in umdf.ESTIMATORS[:2])
                return u.clamp(min=0), v - u.clamp(min=0)""",
            "N / (N - 1) as for a variance": """
                printed = umdf.maximum_mean_discrepancy(one / width**0.5, other / width**0.5, 1, "one")
                unbiased = printed * len(one) / (len(one) - 1)
                return unbiased, printed - unbiased""",
            "sign exchanged": """
                pair = one / width**0.5, other / width**0.5
                v, u = (umdf.maximum_mean_discrepancy(*pair, 1, "one", e) for e in umdf.ESTIMATORS[:2])
                return u, u - v""",
        },
        3: {
            "log of probabilities": """
                p, q = one.softmax(-1), other.softmax(-1)
                m = (p + q) / 2
                return (p * (p / m).log() + q * (q / m).log()).sum(-1).mean() / 2""",
            "three entropies": """
                p, q = one.softmax(-1), other.softmax(-1)
                h = [torch.special.entr(x).sum(-1) for x in ((p + q) / 2, p, q)]
                return (h[0] - (h[1] + h[2]) / 2).mean()""",
            "arguments of kl_div exchanged": """
                log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
                log_m = torch.logaddexp(log_p, log_q) - np.log(2)
                both = [F.kl_div(x, log_m, reduction="batchmean", log_target=True) for x in (log_p, log_q)]
                return sum(both) / 2""",
            "mean over classes, too": """
                log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
                log_m = torch.logaddexp(log_p, log_q) - np.log(2)
                return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).mean() / 2""",
            "not halved": "return 2 * jensen_shannon(one, other)",
            "bits": "return jensen_shannon(one, other) / np.log(2)",
            "mean of logits for M": """
                log_m = ((one + other) / 2).log_softmax(-1)
                both = [F.kl_div(log_m, x.log_softmax(-1), log_target=True, reduction="sum") for x in (one, other)]
                return sum(both) / 2 / len(one)""",
            "KL both ways": """
                log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
                return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2""",
            "root of it": "return jensen_shannon(one, other).clamp(min=0).sqrt()",
            "sum over rows": "return len(one) * jensen_shannon(one, other)",
        },
        4: {
            "unordered pairs": """
                sets = range(1, 2**modalities)
                pairs = [(a, b) for a in sets for b in sets if a <= b]
                within = sum(a != b and a & b in (a, b) for a, b in pairs)
                return len(sets), within, sum(a & b == 0 for a, b in pairs)""",
            "the empty subset, too": """
                pairs = [(a, b) for a in range(2**modalities) for b in range(2**modalities)]
                within = sum(a != b and a & b in (a, b) for a, b in pairs)
                return 2**modalities, within, sum(a & b == 0 for a, b in pairs)""",
            "two different subsets": """
                pairs = [(a, b) for a in range(1, 2**modalities) for b in range(1, 2**modalities) if a != b]
                return 0, sum(a & b in (a, b) for a, b in pairs), sum(a & b == 0 for a, b in pairs)""",
            "equals counted as within": """
                pairs = [(a, b) for a in range(1, 2**modalities) for b in range(1, 2**modalities)]
                within = sum(a & b in (a, b) for a, b in pairs)
                return 2**modalities - 1, within, sum(a & b == 0 for a, b in pairs)""",
            "only the first within the second": """
                pairs = [(a, b) for a in range(1, 2**modalities) for b in range(1, 2**modalities)]
                within = sum(a != b and a & b == a for a, b in pairs)
                return 2**modalities - 1, within, sum(a & b == 0 for a, b in pairs)""",
            "more modalities taken for all and more": """
                pairs = [(a, b) for a in range(1, 2**modalities) for b in range(1, 2**modalities)]
                within = sum(a.bit_count() != b.bit_count() for a, b in pairs)
                return 2**modalities - 1, within, sum(a & b == 0 for a, b in pairs)""",
            "without the complete version": """
                pairs = [(a, b) for a in range(1, 2**modalities - 1) for b in range(1, 2**modalities - 1)]
                within = sum(a != b and a & b in (a, b) for a, b in pairs)
                return sum(a == b for a, b in pairs), within, sum(a & b == 0 for a, b in pairs)""",
            "all that is not the same or without common part": """
                pairs = [(a, b) for a in range(1, 2**modalities) for b in range(1, 2**modalities)]
                nothing = sum(a & b == 0 for a, b in pairs)
                return 2**modalities - 1, len(pairs) - nothing - 2**modalities + 1, nothing""",
        },
        5: {
            "always the constant": "return torch.zeros_like(h_a[0])",
            "last singular vector, whatever its value": """
                w = torch.linalg.svd(h_a - h_b).Vh[-1]
                return w * (variance / (h_a @ w).var(correction=0)).sqrt()""",
            "thin decomposition": """
                w = torch.linalg.svd(h_a - h_b, full_matrices=False).Vh[-1]
                return w * (variance / (h_a @ w).var(correction=0)).sqrt()""",
            "differences centred": """
                gap = h_a - h_b - (h_a - h_b).mean(0)
                free = torch.linalg.svd(gap).Vh[torch.linalg.matrix_rank(gap) :]
                if not len(free):
                    return torch.zeros_like(h_a[0])
                w = torch.linalg.svd((h_a - h_a.mean(0)) @ free.T @ free).Vh[0]
                return w * (variance / (h_a @ w).var(correction=0)).sqrt()""",
            "utterances not centred": """
                gap = h_a - h_b
                free = torch.linalg.svd(gap).Vh[torch.linalg.matrix_rank(gap) :]
                left = h_a @ free.T @ free
                w = torch.linalg.svd(left).Vh[0]
                found = (left @ w).square().mean()
                return w * (variance / found).sqrt() if found > 1e-12 else 0 * w""",
            "divided by N - 1": """
                gap = h_a - h_b
                free = torch.linalg.svd(gap).Vh[torch.linalg.matrix_rank(gap) :]
                left = (h_a - h_a.mean(0)) @ free.T @ free
                w = torch.linalg.svd(left).Vh[0]
                found = (left @ w).var()
                return w * (variance / found).sqrt() if found > 1e-12 else 0 * w""",
            "scaled by the variance, not its root": """
                gap = h_a - h_b
                free = torch.linalg.svd(gap).Vh[torch.linalg.matrix_rank(gap) :]
                left = (h_a - h_a.mean(0)) @ free.T @ free
                w = torch.linalg.svd(left).Vh[0]
                found = (left @ w).square().mean()
                return w * variance / found if found > 1e-12 else 0 * w""",
            "rounding taken for a direction": """
                gap = h_a - h_b
                free = torch.linalg.svd(gap).Vh[torch.linalg.matrix_rank(gap) :]
                if not len(free):
                    return torch.zeros_like(h_a[0])
                return free[-1] * (variance / (h_a @ free[-1]).var(correction=0)).sqrt()""",
            "free directions from the number of rows": """
                free = torch.linalg.svd(h_a - h_b).Vh[len(h_a) :]
                left = (h_a - h_a.mean(0)) @ free.T @ free
                w = torch.linalg.svd(left).Vh[0]
                found = (left @ w).square().mean()
                return w * (variance / found).sqrt() if found > 1e-12 else 0 * w""",
        },
    },
    "03_hfgd": {
        1: {
            "T // N frames, the rest dropped": """
                count = min(count, x.shape[1])
                size = x.shape[1] // count
                low = (x * valid.unsqueeze(-1))[:, : size * count].unflatten(1, (count, size)).sum(2)
                held = valid[:, : size * count].unflatten(1, (count, size)).sum(2)
                return low / held.clamp(min=1).unsqueeze(-1), held > 0""",
            "chunks of T / N, rounded up": """
                count = min(count, x.shape[1])
                sums = torch.stack([part.sum(1) for part in (x * valid.unsqueeze(-1)).chunk(count, 1)], 1)
                held = torch.stack([part.sum(1) for part in valid.chunk(count, 1)], 1)
                return sums / held.clamp(min=1).unsqueeze(-1), held > 0""",
            "longer ones spread": """
                steps, count = x.shape[1], min(count, x.shape[1])
                member = (torch.arange(steps) * count // steps == torch.arange(count).unsqueeze(1)).float()
                held = valid.float() @ member.T
                return member @ (x * valid.unsqueeze(-1)) / held.clamp(min=1).unsqueeze(-1), held > 0""",
            "windows that overlap": """
                count = min(count, x.shape[1])
                held = F.adaptive_avg_pool1d(valid.float(), count)
                low = F.adaptive_avg_pool1d((x * valid.unsqueeze(-1)).mT, count).mT
                return low / held.clamp(min=1e-9).unsqueeze(-1), held > 0""",
            "divided by the length of the segment": """
                count = min(count, x.shape[1])
                parts = (x * valid.unsqueeze(-1)).tensor_split(count, 1)
                held = torch.stack([part.any(1) for part in valid.tensor_split(count, 1)], 1)
                return torch.stack([part.mean(1) for part in parts], 1), held""",
            "padding counted": """
                count = min(count, x.shape[1])
                held = torch.stack([part.any(1) for part in valid.tensor_split(count, 1)], 1)
                return torch.stack([part.mean(1) for part in x.tensor_split(count, 1)], 1), held""",
            "0 by 0": """
                count = min(count, x.shape[1])
                sums = torch.stack([part.sum(1) for part in (x * valid.unsqueeze(-1)).tensor_split(count, 1)], 1)
                held = torch.stack([part.sum(1) for part in valid.tensor_split(count, 1)], 1)
                return sums / held.unsqueeze(-1), held > 0""",
            "ten of three frames": """
                sums = torch.stack([part.sum(1) for part in (x * valid.unsqueeze(-1)).tensor_split(count, 1)], 1)
                held = torch.stack([part.sum(1) for part in valid.tensor_split(count, 1)], 1)
                return sums / held.clamp(min=1).unsqueeze(-1), held > 0""",
            "all segments held": """
                means, held = hfgd.segments(x, valid, count)
                return means, torch.ones_like(held)""",
            "held where all frames are": """
                count = min(count, x.shape[1])
                held = torch.stack([part.all(1) for part in valid.tensor_split(count, 1)], 1)
                return hfgd.segments(x, valid, count)[0], held""",
        },
        2: {
            "product of the mean marginals": """
                product, mean = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True), tables.mean(0, keepdim=True)
                pairs = (tables, product), (mean, mean.sum(2, keepdim=True) * mean.sum(1, keepdim=True))
                e = torch.special.entr
                return tuple((e(p + q) - e(p) - e(q)).sum((1, 2)).mean() for p, q in pairs)""",
            "one for all reads what one for each reads": """
                product, e = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True), torch.special.entr
                own = (e(tables + product) - e(tables) - e(product)).sum((1, 2)).mean()
                return own, own""",
            "mean of the scores": """
                product, e = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True), torch.special.entr
                own = (e(tables + product) - e(tables) - e(product)).sum((1, 2)).mean()
                f = (tables.clamp(min=1e-30) / product.clamp(min=1e-30)).log().mean(0)
                return own, (tables * F.logsigmoid(f) + product * F.logsigmoid(-f)).sum((1, 2)).mean()""",
            "network of the most informative pair for all": """
                product, e = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True), torch.special.entr
                own = (e(tables + product) - e(tables) - e(product)).sum((1, 2))
                f = (tables.clamp(min=1e-30) / product.clamp(min=1e-30)).log()[own.argmax()]
                return own.mean(), (tables * F.logsigmoid(f) + product * F.logsigmoid(-f)).sum((1, 2)).mean()""",
            "logarithm of empty cells": """
                product = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True)
                pairs = (tables, product), (tables.mean(0, keepdim=True), product.mean(0, keepdim=True))
                cells = (p * (p / (p + q)).log() + q * (q / (p + q)).log() for p, q in pairs)
                return tuple(found.sum((1, 2)).mean() for found in cells)""",
            "mutual information": """
                product = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True)
                pairs = (tables, product), (tables.mean(0, keepdim=True), product.mean(0, keepdim=True))
                e = torch.special.entr
                return tuple((e(q) - e(p)).sum((1, 2)).mean() for p, q in pairs)""",
            "the divergence itself": """
                product = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True)
                pairs = (tables, product), (tables.mean(0, keepdim=True), product.mean(0, keepdim=True))
                e = torch.special.entr
                return tuple((e((p + q) / 2) - e(p) / 2 - e(q) / 2).sum((1, 2)).mean() for p, q in pairs)""",
            "half of it": """
                product = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True)
                pairs = (tables, product), (tables.mean(0, keepdim=True), product.mean(0, keepdim=True))
                e = torch.special.entr
                return tuple((e(p + q) - e(p) - e(q)).sum((1, 2)).mean() / 2 for p, q in pairs)""",
            "sum over the pairs": """
                product = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True)
                pairs = (tables, product), (tables.mean(0, keepdim=True), product.mean(0, keepdim=True))
                e = torch.special.entr
                return tuple(len(tables) * (e(p + q) - e(p) - e(q)).sum((1, 2)).mean() for p, q in pairs)""",
            "the pair is told: one table with three axes": """
                product = tables.sum(2, keepdim=True) * tables.sum(1, keepdim=True).mean(0)
                e, means = torch.special.entr, (tables.mean(0), product.mean(0))
                own = (e(tables + product) - e(tables) - e(product)).sum((1, 2)).mean()
                return own, (e(sum(means)) - e(means[0]) - e(means[1])).sum()""",
        },
        3: {
            "row by row": "return ((one - other) @ directions).square().mean().sqrt()",
            "columns sorted before the projection": """
                first = one.sort(0).values.repeat_interleave(len(other), 0)
                second = other.sort(0).values.repeat_interleave(len(one), 0)
                return ((first - second) @ directions).square().mean().sqrt()""",
            "mean of the roots": """
                first = (one @ directions).sort(0).values.repeat_interleave(len(other), 0)
                second = (other @ directions).sort(0).values.repeat_interleave(len(one), 0)
                return (first - second).square().mean(0).sqrt().mean()""",
            "distances not squared": """
                first = (one @ directions).sort(0).values.repeat_interleave(len(other), 0)
                second = (other @ directions).sort(0).values.repeat_interleave(len(one), 0)
                return (first - second).abs().mean()""",
            "no root": """
                first = (one @ directions).sort(0).values.repeat_interleave(len(other), 0)
                second = (other @ directions).sort(0).values.repeat_interleave(len(one), 0)
                return (first - second).square().mean()""",
            "sum over the directions": """
                first = (one @ directions).sort(0).values.repeat_interleave(len(other), 0)
                second = (other @ directions).sort(0).values.repeat_interleave(len(one), 0)
                return (first - second).square().sum(1).mean().sqrt()""",
            "times the root of D": """
                first = (one @ directions).sort(0).values.repeat_interleave(len(other), 0)
                second = (other @ directions).sort(0).values.repeat_interleave(len(one), 0)
                return (first - second).square().mean().sqrt() * len(directions) ** 0.5""",
            "sorted over the directions": """
                first = (one @ directions).sort(1).values.repeat_interleave(len(other), 0)
                second = (other @ directions).sort(1).values.repeat_interleave(len(one), 0)
                return (first - second).square().mean().sqrt()""",
            "the samples repeated, not their rows": """
                first = (one @ directions).sort(0).values.repeat(len(other), 1)
                second = (other @ directions).sort(0).values.repeat(len(one), 1)
                return (first - second).square().mean().sqrt()""",
            "rows of the larger one dropped": """
                n = min(len(one), len(other))
                return hfgd.sliced_wasserstein(one[:n], other[:n], directions)""",
            "largest rows of the larger one dropped": """
                n = min(len(one), len(other))
                first, second = ((sample @ directions).sort(0).values[:n] for sample in (one, other))
                return (first - second).square().mean().sqrt()""",
            "quantiles interpolated": """
                at = torch.linspace(0, 1, max(len(one), len(other))).double()
                first, second = (torch.quantile(sample @ directions, at, dim=0) for sample in (one, other))
                return (first - second).square().mean().sqrt()""",
            "each row to the nearest": """
                first, second = one @ directions, other @ directions
                return (first.unsqueeze(1) - second).square().amin(1).mean().sqrt()""",
            "of the two normal distributions": "return hfgd.gaussian_wasserstein(one, other)",
        },
        4: {
            "nothing reversed": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1)
                error = (said.softmax(-1) - truth) / (m * n)
                loss = -(truth * said.log_softmax(-1)).sum(-1).mean()
                return loss, (vectors.mT @ error).sum(0), error @ weight.T""",
            "both reversed": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1)
                error = (truth - said.softmax(-1)) / (m * n)
                loss = -(truth * said.log_softmax(-1)).sum(-1).mean()
                return loss, (vectors.mT @ error).sum(0), error @ weight.T""",
            "the wrong one reversed": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1)
                error = (truth - said.softmax(-1)) / (m * n)
                loss = -(truth * said.log_softmax(-1)).sum(-1).mean()
                return loss, (vectors.mT @ error).sum(0), -error @ weight.T""",
            "sums over the rows": """
                said, truth = vectors @ weight, torch.eye(len(vectors)).unsqueeze(1)
                error = said.softmax(-1) - truth
                return -(truth * said.log_softmax(-1)).sum(), (vectors.mT @ error).sum(0), -error @ weight.T""",
            "gradients of the sum": """
                said, truth = vectors @ weight, torch.eye(len(vectors)).unsqueeze(1)
                error = said.softmax(-1) - truth
                loss = -(truth * said.log_softmax(-1)).sum(-1).mean()
                return loss, (vectors.mT @ error).sum(0), -error @ weight.T""",
            "mean over the entries of the truth, too": """
                said, truth = vectors @ weight, torch.eye(len(vectors)).unsqueeze(1)
                error = (said.softmax(-1) - truth) / said.numel()
                return -(truth * said.log_softmax(-1)).mean(), (vectors.mT @ error).sum(0), -error @ weight.T""",
            "softmax over the modalities that ask": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1)
                error = (said.softmax(0) - truth) / (m * n)
                return -(truth * said.log_softmax(0)).sum(-1).mean(), (vectors.mT @ error).sum(0), -error @ weight.T""",
            "a yes and a no for each": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1).expand(said.shape)
                error = (said.sigmoid() - truth) / said.numel()
                loss = F.binary_cross_entropy_with_logits(said, truth)
                return loss, (vectors.mT @ error).sum(0), -error @ weight.T""",
            "Eq. 7 as it is printed": """
                said = (vectors @ weight)[..., 0]
                error = (1 - 2 * said.sigmoid()).unsqueeze(-1) / said.numel()
                for_weight = F.pad((vectors * error).sum((0, 1)).unsqueeze(1), (0, weight.shape[1] - 1))
                return hfgd.literal_adversary(dict(enumerate(said))), for_weight, -error * weight[:, 0]""",
            "vectors held still": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1)
                error = (said.softmax(-1) - truth) / (m * n)
                loss = -(truth * said.log_softmax(-1)).sum(-1).mean()
                return loss, (vectors.mT @ error).sum(0), torch.zeros_like(vectors)""",
            "vectors towards a guess": """
                (m, n, _), said = vectors.shape, vectors @ weight
                truth = torch.eye(m).unsqueeze(1)
                error = (said.softmax(-1) - truth) / (m * n)
                to_guess = (said.softmax(-1) - 1 / m) / (m * n)
                loss = -(truth * said.log_softmax(-1)).sum(-1).mean()
                return loss, (vectors.mT @ error).sum(0), to_guess @ weight.T""",
        },
        5: {
            "the opposite": "return -torch.eye(width).double() if margin <= 2 else None",
            "the opposite in even widths": """
                return -torch.eye(width).double() if margin == 2 or (margin < 2 and width % 2 == 0) else None""",
            "a turn in one plane": """
                c = 1 - margin**2 / 2
                if abs(c) > 1 or (width % 2 and abs(c) < 1):
                    return None
                turn, s = torch.eye(width).double(), (1 - c**2) ** 0.5
                turn[:2, :2] = torch.tensor([[c, s], [-s, c]])[:width, :width]
                return turn""",
            "an angle of eta": """
                c, s = np.cos(margin), np.sin(margin)
                if margin > 2 or (width % 2 and 0 < margin < 2):
                    return None
                planes = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
                return c * torch.eye(width) if width % 2 else torch.kron(torch.eye(width // 2).double(), planes)""",
            "cosine without the half": """
                c = 1 - margin**2
                if abs(c) > 1 or (width % 2 and abs(c) < 1):
                    return None
                eye, s = torch.eye(width).double(), (1 - c**2) ** 0.5
                planes = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
                return c * eye if width % 2 else torch.kron(torch.eye(width // 2).double(), planes)""",
            "a reflection in each plane": """
                c = 1 - margin**2 / 2
                if abs(c) > 1 or (width % 2 and abs(c) < 1):
                    return None
                eye, s = torch.eye(width).double(), (1 - c**2) ** 0.5
                planes = torch.tensor([[c, s], [s, -c]], dtype=torch.float64)
                return c * eye if width % 2 else torch.kron(torch.eye(width // 2).double(), planes)""",
            "shrunk": """
                return (1 - margin) * torch.eye(width).double() if width % 2 == 0 or margin in (0, 2) else None""",
            "no skew part, so that rows are short": """
                c = 1 - margin**2 / 2
                return c * torch.eye(width).double() if abs(c) <= 1 and (width % 2 == 0 or abs(c) == 1) else None""",
            "a column left over in odd width": """
                c = 1 - margin**2 / 2
                if abs(c) > 1:
                    return None
                turn, s = np.sign(c) * torch.eye(width).double(), (1 - c**2) ** 0.5
                for i in range(0, width - 1, 2):
                    turn[i : i + 2, i : i + 2] = torch.tensor([[c, s], [-s, c]])
                return turn""",
            "none in any odd width": """
                c = 1 - margin**2 / 2
                if abs(c) > 1 or width % 2:
                    return None
                planes = torch.tensor([[c, (1 - c**2) ** 0.5], [-((1 - c**2) ** 0.5), c]], dtype=torch.float64)
                return torch.kron(torch.eye(width // 2).double(), planes)""",
            "margins above 2 cut to 2": """
                c = max(1 - margin**2 / 2, -1)
                if width % 2 and abs(c) < 1:
                    return None
                eye, s = torch.eye(width).double(), (1 - c**2) ** 0.5
                planes = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
                return c * eye if width % 2 else torch.kron(torch.eye(width // 2).double(), planes)""",
            "a matrix for the average row": """
                c = 1 - margin**2 / 2
                if abs(c) > 1 or (width % 2 and abs(c) < 1):
                    return None
                turn = torch.eye(width).double()
                turn[: round(width * (1 - c) / 2)] *= -1
                return turn""",
        },
    },
    "04_dynkd": {
        1: {
            "up to K": """
                absent, found = exists - student, set()
                for size in range(1, min(most, len(absent)) + 1):
                    found |= {student | set(more) for more in combinations(absent, size)}
                return found or {student}""",
            "no minimum": "return {student | set(more) for more in combinations(exists - student, most)}",
            "what is added, without the student": """
                absent = exists - student
                return {frozenset(more) for more in combinations(absent, min(most, len(absent)))}""",
            "modalities that do not exist": """
                absent = frozenset("lavxy") - student
                return {student | set(more) for more in combinations(absent, min(most, len(absent)))}""",
            "K counts the student's": """
                absent = exists - student
                added = min(max(most - len(student), 0), len(absent))
                return {student | set(more) for more in combinations(absent, added)}""",
            "one at a time": "return {student | {m} for m in exists - student} or {student}",
            "nobody teaches a complete one": """
                absent = exists - student
                return {student | set(more) for more in combinations(absent, min(most, len(absent))) if more}""",
            "any set of that size": """
                size = len(student) + min(most, len(exists - student))
                return {frozenset(some) for some in combinations(exists, size)}""",
            "in every order": """
                absent = sorted(exists - student)
                added = min(most, len(absent))
                return [student | set(more) for more in product(absent, repeat=added) if len(set(more)) == added]""",
            "the full set alone": "return {exists}",
        },
        2: {
            "all coalitions alike": """
                absent = max(value, key=len) - student
                found = {}
                for m in absent:
                    others = absent - {m}
                    sets = [student | set(c) for n in range(len(others) + 1) for c in combinations(others, n)]
                    found[m] = np.mean([value[c | {m}] - value[c] for c in sets])
                return found""",
            "all alike, made to sum": """
                absent = max(value, key=len) - student
                found = {}
                for m in absent:
                    others = absent - {m}
                    sets = [student | set(c) for n in range(len(others) + 1) for c in combinations(others, n)]
                    found[m] = np.mean([value[c | {m}] - value[c] for c in sets])
                total = value[max(value, key=len)] - value[student]
                return {m: phi * total / sum(found.values()) for m, phi in found.items()}""",
            "greedy gains": "return {m: value[student | {m}] - value[student] for m in max(value, key=len) - student}",
            "what the full set loses": """
                everything = max(value, key=len)
                return {m: value[everything] - value[everything - {m}] for m in everything - student}""",
            "the first and the last step": """
                top = max(value, key=len)
                first = {m: value[student | {m}] - value[student] for m in top - student}
                return {m: (gain + value[top] - value[top - {m}]) / 2 for m, gain in first.items()}""",
            "equal shares": """
                everything = max(value, key=len)
                absent = everything - student
                return dict.fromkeys(absent, (value[everything] - value[student]) / len(absent))""",
            "without the empty coalition": """
                absent = max(value, key=len) - student
                worth = dict.fromkeys(absent, 0.0)
                for m in absent:
                    for size in range(1, len(absent)):
                        coalitions = [student | set(c) for c in combinations(absent - {m}, size)]
                        worth[m] += np.mean([value[c | {m}] - value[c] for c in coalitions]) / (len(absent) - 1)
                return worth""",
            "sizes not divided by n": """
                absent = max(value, key=len) - student
                worth = dict.fromkeys(absent, 0.0)
                for m in absent:
                    for size in range(len(absent)):
                        coalitions = [student | set(c) for c in combinations(absent - {m}, size)]
                        worth[m] += np.mean([value[c | {m}] - value[c] for c in coalitions])
                return worth""",
            "the student's own among them": """
                everything = max(value, key=len)
                absent = everything - student
                worth = dict.fromkeys(everything, 0.0)
                for m in absent:
                    for size in range(len(absent)):
                        coalitions = [student | set(c) for c in combinations(absent - {m}, size)]
                        worth[m] += np.mean([value[c | {m}] - value[c] for c in coalitions]) / len(absent)
                return worth""",
            "the student's set counted as zero": """
                value, absent = value | {student: 0.0}, max(value, key=len) - student
                worth = dict.fromkeys(absent, 0.0)
                for m in absent:
                    for size in range(len(absent)):
                        coalitions = [student | set(c) for c in combinations(absent - {m}, size)]
                        worth[m] += np.mean([value[c | {m}] - value[c] for c in coalitions]) / len(absent)
                return worth""",
            "one order": """
                worth, held = {}, student
                for m in sorted(max(value, key=len) - student):
                    worth[m] = value[held | {m}] - value[held]
                    held = held | {m}
                return worth""",
            "n counts the student": """
                everything = max(value, key=len)
                absent = everything - student
                worth = dict.fromkeys(absent, 0.0)
                for m in absent:
                    for size in range(len(absent)):
                        coalitions = [student | set(c) for c in combinations(absent - {m}, size)]
                        worth[m] += np.mean([value[c | {m}] - value[c] for c in coalitions]) / len(everything)
                return worth""",
        },
        3: {
            "below, not at most": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, (upper < uniform.unsqueeze(-1)).sum(-1)""",
            "beyond the last": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                return p, (p.cumsum(-1) <= uniform.unsqueeze(-1)).sum(-1)""",
            "clamped to the last place": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                return p, (p.cumsum(-1) <= uniform.unsqueeze(-1)).sum(-1).clamp(max=score.shape[-1] - 1)""",
            "scores of zero": """
                p = (score / temperature * allowed).softmax(-1)
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, (upper <= uniform.unsqueeze(-1)).sum(-1)""",
            "removed after the softmax": """
                p = (score / temperature).softmax(-1) * allowed
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, (upper <= uniform.unsqueeze(-1)).sum(-1)""",
            "times the temperature": """
                p = (score * temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, (upper <= uniform.unsqueeze(-1)).sum(-1)""",
            "exponentials that overflow": """
                p = (score / temperature).exp() * allowed
                p = p / p.sum(-1, keepdim=True)
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, (upper <= uniform.unsqueeze(-1)).sum(-1)""",
            "the best, not drawn": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                return p, p.argmax(-1)""",
            "u ignored": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                return p, p.multinomial(1).squeeze(-1)""",
            "an even choice of the allowed": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                upper = (allowed / allowed.sum(-1, keepdim=True)).cumsum(-1)
                return p, (upper / upper[:, -1:] <= uniform.unsqueeze(-1)).sum(-1)""",
            "the likeliest first": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                high, order = p.sort(dim=-1, descending=True, stable=True)
                upper = high.cumsum(-1) / high.cumsum(-1)[:, -1:]
                return p, order.gather(-1, (upper <= uniform.unsqueeze(-1)).sum(-1, keepdim=True)).squeeze(-1)""",
            "places among the allowed": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(-1)
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, ((upper <= uniform.unsqueeze(-1)) & allowed).sum(-1)""",
            "softmax over the utterances": """
                p = (score / temperature).masked_fill(~allowed, -torch.inf).softmax(0).nan_to_num()
                upper = p.cumsum(-1) / p.cumsum(-1)[:, -1:]
                return p, (upper <= uniform.unsqueeze(-1)).sum(-1)""",
        },
        4: {
            "the whole gradient scaled": """
                cosine = (dot / (main * own).sqrt().clamp(min=1e-30)).clamp(-1, 1)
                return torch.where(dot >= 0, 1 + alpha * cosine, rho), torch.zeros_like(dot), cosine""",
            "all of the conflict removed": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                add = torch.where(dot >= 0, 0.0, -dot / main.clamp(min=1e-30))
                return keep, add, torch.where(dot >= 0, cosine, 0.0)""",
            "not amplified by s": """
                keep, add = torch.where(dot >= 0, 1 + alpha, 1.0), torch.where(dot >= 0, 0.0, (rho - 1) * dot / main)
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length)""",
            "the cosine before": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                return keep, torch.where(dot >= 0, 0.0, (rho - 1) * dot / main.clamp(min=1e-30)), cosine""",
            "the sign of add": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                add = torch.where(dot >= 0, 0.0, (1 - rho) * dot / main.clamp(min=1e-30))
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length).clamp(min=1e-30)""",
            "projected on the other one": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                add = torch.where(dot >= 0, 0.0, (rho - 1) * dot / own.clamp(min=1e-30))
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length).clamp(min=1e-30)""",
            "the cosine in the place of the projection": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                add = torch.where(dot >= 0, 0.0, (rho - 1) * cosine)
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length).clamp(min=1e-30)""",
            "zero by zero": """
                keep = torch.where(dot >= 0, 1 + alpha * dot / (main * own).sqrt(), 1.0)
                add = torch.where(dot >= 0, 0.0, (rho - 1) * dot / main)
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length)""",
            "lengths for their squares": """
                main, own = main.sqrt(), own.sqrt()
                cosine = dot / (main * own).clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                add = torch.where(dot >= 0, 0.0, (rho - 1) * dot / main.clamp(min=1e-30))
                length = (keep**2 * own**2 + 2 * keep * add * dot + add**2 * main**2).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main**2) / (main * length).clamp(min=1e-30)""",
            "the part across suppressed": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, rho)
                add = torch.where(dot >= 0, 0.0, (1 - rho) * dot / main.clamp(min=1e-30))
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length).clamp(min=1e-30)""",
            "whether they agree or not": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep, add = 1 + alpha * cosine, (rho - 1) * dot / main.clamp(min=1e-30)
                length = (keep**2 * own + 2 * keep * add * dot + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length).clamp(min=1e-30)""",
            "the length forgets the mixed product": """
                cosine = dot / (main * own).sqrt().clamp(min=1e-30)
                keep = torch.where(dot >= 0, 1 + alpha * cosine, 1.0)
                add = torch.where(dot >= 0, 0.0, (rho - 1) * dot / main.clamp(min=1e-30))
                length = (keep**2 * own + add**2 * main).clamp(min=1e-30).sqrt()
                return keep, add, (keep * dot + add * main) / (main.sqrt() * length).clamp(min=1e-30)""",
        },
        5: {
            "vision and x alike": """
                steps = {"l": 0, "la": 1, "lv": 0, "lx": 0, "lav": 1, "lax": 1, "lvx": 4, "lavx": 4}
                return {frozenset(held): lead * (step - 4) for held, step in steps.items()}""",
            "values above zero": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 2, "lax": 2, "lvx": 5, "lavx": 5}
                return {frozenset(held): lead * step for held, step in steps.items()}""",
            "the same lead in both brackets": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 2, "lax": 2, "lvx": 3, "lavx": 3}
                return {frozenset(held): lead * (step - 3) for held, step in steps.items()}""",
            "without the weights of a half": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 2, "lax": 2, "lvx": 4, "lavx": 4}
                return {frozenset(held): lead * (step - 4) for held, step in steps.items()}""",
            "the full set forgotten": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 2, "lax": 2, "lvx": 5, "lavx": 0}
                return {frozenset(held): lead * (step - 5) for held, step in steps.items()}""",
            "audio harmed by x": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 2, "lax": 0, "lvx": 3, "lavx": 3}
                return {frozenset(held): lead * (step - 3) for held, step in steps.items()}""",
            "one game for every lead": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 2, "lax": 2, "lvx": 5, "lavx": 5}
                return {frozenset(held): float(step - 5) for held, step in steps.items()}""",
            "the student's language left out": """
                steps = {"": 0, "a": 2, "v": 1, "x": 0, "av": 2, "ax": 2, "vx": 5, "avx": 5}
                return {frozenset(held): lead * (step - 5) for held, step in steps.items()}""",
            "no quarrel": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 0, "lav": 3, "lax": 2, "lvx": 1, "lavx": 3}
                return {frozenset(held): lead * (step - 3) for held, step in steps.items()}""",
            "the two exchanged": """
                steps = {"l": 0, "lv": 2, "la": 1, "lx": 0, "lav": 2, "lvx": 2, "lax": 5, "lavx": 5}
                return {frozenset(held): lead * (step - 5) for held, step in steps.items()}""",
            "x greedy's favourite": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 3, "lav": 2, "lax": 3, "lvx": 6, "lavx": 6}
                return {frozenset(held): lead * (step - 6) for held, step in steps.items()}""",
            "Shapley's favourite is x": """
                steps = {"l": 0, "la": 2, "lv": 1, "lx": 1.5, "lav": 2, "lax": 2, "lvx": 5, "lavx": 5}
                return {frozenset(held): lead * (step - 5) for held, step in steps.items()}""",
        },
    },
    "05_mcur": {
        1: {
            "the anchor left out": """
                others = 1 - torch.eye(len(classes), dtype=similarity.dtype)
                weight = similarity.exp() * others
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "Eqs. 3 and 4 exchanged": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_k, both / of_c])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "Eqs. 3 and 4 over the batch": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                shares = torch.stack([(weight * mask).sum(-1) for mask in (c, k, c & k)]) / weight.sum(-1)
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "all three added": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() + mu2 * shares[2].log()).mean()""",
            "without the minus": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, (shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "the two mu exchanged": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu2 * shares[1].log() - mu1 * shares[2].log()).mean()""",
            "mu1 for both": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * (shares[1].log() - shares[2].log())).mean()""",
            "the mean before the logarithm": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                first, second, third = shares.mean(-1).log()
                return shares, -(first + mu1 * second - mu2 * third)""",
            "the sum over anchors": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).sum()""",
            "means for sums": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) / mask.sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.mean(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "l < B as printed": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                of_k = (weight * k)[:, :-1].sum(-1)
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "masked similarities before the exponential": """
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((similarity * mask).exp().sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / similarity.exp().sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "counts, not weights": """
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = (mask.to(similarity).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / len(classes), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "either in the place of both": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c | k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(shares[0].log() + mu1 * shares[1].log() - mu2 * shares[2].log()).mean()""",
            "mu = 1 whatever is asked": """
                weight = similarity.exp()
                c, k = combination.unsqueeze(1) == combination, classes.unsqueeze(1) == classes
                of_c, of_k, both = ((weight * mask).sum(-1) for mask in (c, k, c & k))
                shares = torch.stack([of_c / weight.sum(-1), both / of_c, both / of_k])
                return shares, -(of_k / weight.sum(-1)).log().mean()""",
        },
        2: {
            "the mean inside the logarithm": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                count = partner.sum(-1)
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_mean = count.clamp(min=1).log() - log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return -(log_q * partner).sum(-1) / count.clamp(min=1), of_mean.where(count > 0, 0.0)""",
            "the anchor among the others": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                count = partner.sum(-1)
                log_q = similarity.log_softmax(-1)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return -(log_q * partner).sum(-1) / count.clamp(min=1), of_sum.where(count > 0, 0.0)""",
            "the anchor its own partner": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = classes.unsqueeze(1) == classes
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return -(log_q * partner).sum(-1) / partner.sum(-1), of_sum""",
            "the anchor in everything, as printed": """
                partner = classes.unsqueeze(1) == classes
                log_q = similarity.log_softmax(-1)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return -(log_q * partner).sum(-1) / partner.sum(-1), of_sum""",
            "the sum of logarithms": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return -(log_q * partner).sum(-1), of_sum.where(partner.any(-1), 0.0)""",
            "exponentials that overflow": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                count = partner.sum(-1)
                weight = similarity.exp() * others
                q = weight / weight.sum(-1, keepdim=True)
                supcon = -q.log().masked_fill(~partner, 0.0).sum(-1) / count.clamp(min=1)
                return supcon, -(q * partner).sum(-1).log().where(count > 0, 0.0)""",
            "a logarithm of what is almost nothing": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                count = partner.sum(-1)
                q = similarity.masked_fill(~others, -torch.inf).softmax(-1) + 1e-12
                supcon = -(q.log() * partner).sum(-1) / count.clamp(min=1)
                return supcon, -(q * partner).sum(-1).log().where(count > 0, 0.0)""",
            "no partner, no number": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_sum = -log_q.masked_fill(~partner, -torch.inf).logsumexp(-1)
                return -(log_q * partner).sum(-1) / partner.sum(-1), of_sum""",
            "the two exchanged": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                count = partner.sum(-1)
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return of_sum.where(count > 0, 0.0), -(log_q * partner).sum(-1) / count.clamp(min=1)""",
            "the same twice": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                supcon = -(log_q * partner).sum(-1) / partner.sum(-1).clamp(min=1)
                return supcon, supcon""",
            "each partner against the strangers": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                same = classes.unsqueeze(1) == classes
                partner = same & others
                strangers = similarity.masked_fill(same, -1e9).logsumexp(-1, keepdim=True)
                log_q = similarity - torch.logaddexp(similarity, strangers)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                supcon = -(log_q * partner).sum(-1) / partner.sum(-1).clamp(min=1)
                return supcon, of_sum.where(partner.any(-1), 0.0)""",
            "the nearest partner alone": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                nearest = -log_q.masked_fill(~partner, -1e9).amax(-1)
                supcon = -(log_q * partner).sum(-1) / partner.sum(-1).clamp(min=1)
                return supcon, nearest.where(partner.any(-1), 0.0)""",
            "divided by the batch": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1)
                return -(log_q * partner).mean(-1), of_sum.where(partner.any(-1), 0.0)""",
            "means over the batch": """
                others = ~torch.eye(len(classes), dtype=torch.bool)
                partner = (classes.unsqueeze(1) == classes) & others
                count = partner.sum(-1)
                log_q = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
                of_sum = -log_q.masked_fill(~partner, -1e9).logsumexp(-1).where(count > 0, 0.0)
                supcon = -(log_q * partner).sum(-1) / count.clamp(min=1)
                return supcon.mean().expand(len(classes)), of_sum.mean().expand(len(classes))""",
        },
        3: {
            "the student first": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (teacher, student):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the others not divided by their sum": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    every = logits.log_softmax(-1)
                    rest = every[~is_target].view(len(logits), -1)
                    pairs.append((torch.stack([every[is_target], rest.logsumexp(-1)], -1), rest))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the target's logit set to 0": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits.masked_fill(is_target, 0.0)
                    others = logits.masked_fill(is_target, -torch.inf).logsumexp(-1)
                    two = torch.stack([logits[is_target], others], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the target's term alone": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    pairs.append((logits.log_softmax(-1)[is_target].unsqueeze(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "probabilities that are rounded": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                p, q = student.softmax(-1), teacher.softmax(-1)
                b_s, b_t = p[is_target], q[is_target]
                first = b_t * (b_t / b_s).log() + (1 - b_t) * ((1 - b_t) / (1 - b_s)).log()
                rest = p[~is_target].view(len(p), -1) / (1 - b_s).unsqueeze(-1)
                rest_t = q[~is_target].view(len(q), -1) / (1 - b_t).unsqueeze(-1)
                return first, (rest_t * (rest_t / rest).log()).sum(-1)""",
            "rounded, and kept from 0": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    every = logits.softmax(-1)
                    yes, rest = every[is_target], every[~is_target].view(len(logits), -1)
                    rest = rest / rest.sum(-1, keepdim=True).clamp(min=1e-12)
                    two = torch.stack([yes, 1 - yes], -1)
                    pairs.append((two.clamp(min=1e-12).log(), rest.clamp(min=1e-12).log()))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "rounded, with a little added": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    every = logits.softmax(-1)
                    rest = every[~is_target].view(len(logits), -1)
                    two = torch.stack([every[is_target], 1 - every[is_target]], -1)
                    pairs.append(((two + 1e-3).log(), (rest / rest.sum(-1, keepdim=True) + 1e-3).log()))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the second part weighed": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                first, second = ((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))
                return first, pairs[1][0][:, 1].exp() * second""",
            "the printed alpha within": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                first, second = ((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))
                return 0.2 * first, 0.8 * second""",
            "what the teacher believes for the target": """
                is_target = F.one_hot(teacher.argmax(-1), student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the largest of the others for all": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.amax(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the sum of logits": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.sum(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "a mean over the batch": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1).mean() for s, t in zip(*pairs, strict=True))""",
            "a mean over the classes": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).mean(-1) for s, t in zip(*pairs, strict=True))""",
            "cross-entropies": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), rest.log_softmax(-1)))
                return tuple(-(t.exp() * s).sum(-1) for s, t in zip(*pairs, strict=True))""",
            "the whole KL for the second part": """
                is_target = F.one_hot(target, student.shape[-1]).bool()
                pairs = []
                for logits in (student, teacher):
                    rest = logits[~is_target].view(len(logits), -1)
                    two = torch.stack([logits[is_target], rest.logsumexp(-1)], -1)
                    pairs.append((two.log_softmax(-1), logits.log_softmax(-1)))
                return tuple((t.exp() * (t - s)).sum(-1) for s, t in zip(*pairs, strict=True))""",
        },
        4: {
            "the share of incomplete utterances": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.all(1).mean(), (m - 1) / m, sizes / sizes.sum()""",
            "the share that is there": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return available.mean(), (m - 1) / m, sizes / sizes.sum()""",
            "divided by the utterances": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return (~available).sum() / len(available), (m - 1) / m, sizes / sizes.sum()""",
            "missing over what is there": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return (~available).sum() / available.sum(), (m - 1) / m, sizes / sizes.sum()""",
            "one modality that all share": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.any(0).mean(), (m - 1) / m, sizes / sizes.sum()""",
            "the printed 0.7": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), 0.7, sizes / sizes.sum()""",
            "two thirds for any m": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), 2 / 3, sizes / sizes.sum()""",
            "1 / m can be missing": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), 1 / m, sizes / sizes.sum()""",
            "one slot of the table stays": """
                n, m = available.shape
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), 1 - 1 / (n * m), sizes / sizes.sum()""",
            "the empty pattern counted": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)
                return 1 - available.mean(), (m - 1) / m, sizes[1:] / sizes.sum()""",
            "and given a place": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)
                return 1 - available.mean(), (m - 1) / m, sizes / sizes.sum()""",
            "sizes equally likely": """
                m = available.shape[1]
                return 1 - available.mean(), (m - 1) / m, np.full(m, 1 / m)""",
            "the utterances that are given": """
                m = available.shape[1]
                sizes = np.bincount(available.sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), (m - 1) / m, sizes / sizes.sum()""",
            "without the complete one": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m - 1)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), (m - 1) / m, sizes / sizes.sum()""",
            "how many are missing, not there": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), (m - 1) / m, sizes[::-1] / sizes.sum()""",
            "seven patterns for any m": """
                m = available.shape[1]
                sizes = np.bincount((np.arange(1, 2**m)[:, None] >> np.arange(m) & 1).sum(1), minlength=m + 1)[1:]
                return 1 - available.mean(), (m - 1) / m, sizes / 7""",
        },
        5: {
            "both readings stopped": """
                worse = (score - label).square() - (teacher - label).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                return mean, deviation - 1 / deviation, stopped, stopped""",
            "the two readings exchanged": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, flowing, stopped""",
            "the weight's part alone": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                return mean, deviation - 1 / deviation, stopped, worse.sign() * 2 * (score - label) * inner""",
            "U without its sign": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                return mean, deviation - 1 / deviation, stopped, stopped + 2 * (score - label) * inner""",
            "U the other way round": """
                better = (teacher - label).square() - (score - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = better.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + better.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "only increased uncertainty": """
                worse = ((score - label).square() - (teacher - label).square()).clamp(min=0)
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "U of the two answers": """
                apart = (score - teacher).square()
                inner = (score - label).abs() + apart
                stopped = apart * ((score - label).sign() + 2 * (score - teacher))
                return mean, deviation - 1 / deviation, stopped, stopped + 2 * (score - teacher) * inner""",
            "the errors not squared": """
                worse = (score - label).abs() - (teacher - label).abs()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * (score - label).sign() * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "the label's side turned": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((label - score).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "a squared task": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).square() + (score - teacher).square()
                stopped = worse.abs() * 2 * (2 * score - label - teacher)
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "the logits' factor 2": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "U on the task alone": """
                worse = (score - label).square() - (teacher - label).square()
                stopped = worse.abs() * (score - label).sign() + 2 * (score - teacher)
                flowing = stopped + worse.sign() * 2 * (score - label) * (score - label).abs()
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "right of the truth where it is met": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                side = torch.where(score >= label, 1.0, -1.0)
                stopped = worse.abs() * (side + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "a slope where U is zero": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + torch.where(worse >= 0, 2.0, -2.0) * (score - label) * inner
                return mean, deviation - 1 / deviation, stopped, flowing""",
            "an average over the batch": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher)) / len(score)
                flowing = stopped + worse.sign() * 2 * (score - label) * inner / len(score)
                return mean / len(score), (deviation - 1 / deviation) / len(score), stopped, flowing""",
            "a wall for deviations below zero": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 1 / deviation.clamp(min=1e-6), stopped, flowing""",
            "the deviation taken for positive": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation.abs() - 1 / deviation.abs(), stopped, flowing""",
            "the logarithm of the variance": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation - 2 / deviation, stopped, flowing""",
            "without the half": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return 2 * mean, 2 * (deviation - 1 / deviation), stopped, flowing""",
            "by the logarithm of sigma": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                return mean, deviation.square() - 1, stopped, flowing""",
            "the KL of the prior from it": """
                worse = (score - label).square() - (teacher - label).square()
                inner = (score - label).abs() + (score - teacher).square()
                stopped = worse.abs() * ((score - label).sign() + 2 * (score - teacher))
                flowing = stopped + worse.sign() * 2 * (score - label) * inner
                by_deviation = 1 / deviation - (1 + mean.square()) / deviation**3
                return mean / deviation.square(), by_deviation, stopped, flowing""",
        },
    },
    "90_traps": {
        1: {
            "macro F1": """
                classes = np.unique([labels, claimed])
                hits = np.array([((labels == c) & (claimed == c)).sum() for c in classes])
                both = np.array([(labels == c).sum() + (claimed == c).sum() for c in classes])
                return 100 * (2 * hits / both).mean()""",
            "the swap itself": "return traps.f1_swapped(labels, claimed)",
            "accuracy": "return 100 * (labels == claimed).mean()",
            "F1 of the largest class": """
                c = labels.max()
                return 200 * ((labels == c) & (claimed == c)).sum() / ((labels == c).sum() + (claimed == c).sum())""",
            "a share, not per cent": "return traps.f1_swapped(claimed, labels) / 100",
            "weighted recall": "return 100 * sum(((labels == c) & (claimed == c)).mean() for c in np.unique(labels))",
        },
        2: {
            "the rate as it was told": "return min(rate, 2 / 3)",
            "divisor is the number of batches": """
                row = round(rate * 10) - 1
                two = round(traps.LOSE_TWO[row] * batches)
                one = min(round(traps.LOSE_ONE[row] * batches), batches - two)
                return (2 * two + one) / (3 * batches)""",
            "halves up": """
                row, divisor = round(rate * 10) - 1, int(batches / 10 + 0.5) * 10
                two = min(round(traps.LOSE_TWO[row] * divisor), batches)
                one = min(round(traps.LOSE_ONE[row] * divisor), batches - two)
                return (2 * two + one) / (3 * batches)""",
            "more batches than there are": """
                row, divisor = round(rate * 10) - 1, round(batches / 10) * 10
                return (2 * traps.LOSE_TWO[row] + traps.LOSE_ONE[row]) * divisor / (3 * batches)""",
            "divided by the divisor": """
                row = round(rate * 10) - 1
                return (2 * traps.LOSE_TWO[row] + traps.LOSE_ONE[row]) / 3""",
            "one for two": """
                row, divisor = round(rate * 10) - 1, round(batches / 10) * 10
                two = min(round(traps.LOSE_TWO[row] * divisor), batches)
                one = min(round(traps.LOSE_ONE[row] * divisor), batches - two)
                return (two + one) / (3 * batches)""",
        },
        3: {
            "a normal limit": "return 100 * np.sqrt(2 * np.log(looks) * p * (1 - p) / n)",
            "looks times the deviation": "return 100 * (looks - 1) * np.sqrt(p * (1 - p) / n)",
            "median of the best": "return 100 * (stats.binom.ppf(0.5 ** (1 / looks), n, p) / n - p)",
            "off by one utterance": """
                below = stats.binom.cdf(np.arange(n + 1), n, p)
                return 100 * ((1 - below**looks).sum() / (n + 1) - p)""",
            "a share, not points": """
                below = stats.binom.cdf(np.arange(n), n, p)
                return (1 - below**looks).sum() / n - p""",
            "the worst of them": """
                above = stats.binom.sf(np.arange(n), n, p)
                return 100 * ((above**looks).sum() / n - p)""",
        },
    },
}
WRONG = [(name, n, what) for name, found in TEMPTING.items() for n, answers in found.items() for what in answers]


def dedented(text):
    """The lines of an answer written above, at the margin."""
    lines = text.strip("\n").splitlines()
    space = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[space:] for line in lines)


def read(root, name):
    return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)


def after_imports(notebook):
    """A namespace with the notebook's imports alone: those of the first code cell after the parameters."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    [place] = [i for i, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", [])]
    imports = code[place + 1].source
    assert imports.startswith(("import ", "from "))
    return executed(imports, {})


def executed(source, names):
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, "cell", "exec"), names)
    return names


def outside_the_cut(source):
    """The lines of a solution that a student is given."""
    kept, inside = [], False
    for line in source.splitlines():
        inside = inside or line.strip() == "# solution"
        kept += [] if inside else [line]
        inside = inside and line.strip() != "# end of solution"
    return kept


def read_from_elsewhere(source):
    """Names that a cell reads and does not bind itself."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return {node.id for node in names if isinstance(node.ctx, ast.Load)} - own


def with_exercises(root):
    """Notebooks with cells that are tagged as exercises."""
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if any("exercise" in cell.metadata.get("tags", []) for cell in read(root, path.stem).cells):
            yield path.stem


def test_every_notebook_with_exercises_is_tested_here(root):
    assert list(with_exercises(root)) == list(TEMPTING)


@pytest.mark.parametrize("name", TEMPTING)
def test_each_exercise_has_two_tempting_answers(root, name):
    found = exercises.exercises(read(root, name), name)
    assert {e.number for e in found} == set(TEMPTING[name])
    assert min(len(answers) for answers in TEMPTING[name].values()) >= 2


@pytest.mark.parametrize("name", TEMPTING)
def test_solutions_pass_their_checks_and_need_the_imports_alone(root, name):
    notebook = read(root, name)
    found = exercises.exercises(notebook, name)
    assert found
    for exercise in found:
        names = executed(notebook.cells[exercise.solution].source, after_imports(notebook))
        executed(notebook.cells[exercise.check].source, names)


@pytest.mark.parametrize("name", TEMPTING)
def test_stubs_fail_their_checks_and_are_the_solution_elsewhere(root, name):
    notebook = read(root, name)
    handed_out = {cell.id: cell.source for cell in exercises.student(notebook, name).cells}
    found = exercises.exercises(notebook, name)
    assert found
    for exercise in found:
        solution, check = (notebook.cells[i] for i in (exercise.solution, exercise.check))
        stub = handed_out[solution.id]
        names = executed(stub, after_imports(notebook))
        with pytest.raises(NotImplementedError, match=f"^Exercise {exercise.number}: "):
            executed(check.source, names)
        given = [line for line in stub.splitlines() if "raise NotImplementedError" not in line]
        assert given == outside_the_cut(solution.source)


@pytest.mark.parametrize("name", TEMPTING)
def test_exercises_change_no_name_that_other_cells_read(root, name):
    """Whoever goes back from the exercises to a table finds everything as it was."""
    notebook = read(root, name)
    of_exercises = {i for e in exercises.exercises(notebook, name) for i in (e.solution, e.check)}
    before = after_imports(notebook)
    after = dict(before)
    for i in sorted(of_exercises):
        executed(notebook.cells[i].source, after)
    changed = {key for key, value in after.items() if before.get(key, after) is not value}
    assert changed
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and i not in of_exercises:
            assert not read_from_elsewhere(cell.source) & changed, f"cell {i}"


@pytest.mark.parametrize(("name", "number", "what"), WRONG)
def test_a_tempting_answer_is_refused(root, name, number, what):
    notebook = read(root, name)
    exercise = exercises.exercises(notebook, name)[number - 1]
    answer = dedented(TEMPTING[name][number][what])
    names = executed(exercises.cut(notebook.cells[exercise.solution].source, answer), after_imports(notebook))
    with pytest.raises(AssertionError, match="this does not hold"):
        executed(notebook.cells[exercise.check].source, names)
