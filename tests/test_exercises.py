"""Exercises: copies for a class, refusals; every solution passes its check, every stub and tempting answer fails it."""

import ast
import contextlib
import functools
import io

import nbformat
import pytest
from conftest import ROOT
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


HINT = """the common mistake

<details><summary>Tempting answers that the check refuses</summary>

- one less: `x + step` → `x - step`
- two changes, a part each: `x + step` → `x`,
  `add(x)` →
  `x`
- nothing at all: `return x`
- in several lines:
  ```python
  if not x:
      return 1
  return 2
  ```

</details>

what they have in common"""


def tagged(cell, *tags):
    cell["metadata"]["tags"] = list(tags)
    return cell


def one_exercise(n, title):
    code = [tagged(new_code_cell(SOLUTION), "solution"), tagged(new_code_cell("assert add(1) == 2"), "check", "slow")]
    hint = tagged(new_markdown_cell(HINT), "instructor")
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


def test_wrong_answers_are_solution_cells_with_that_answer(tiny):
    first, second = exercises.exercises(tiny)
    assert first.wrong == second.wrong
    assert first.wrong == {
        "one less": SOLUTION.replace("x + step", "x - step"),
        "two changes, a part each": SOLUTION.replace("x + step", "x").replace("x = add(x)", "x = x"),
        "nothing at all": exercises.cut(SOLUTION, "return x"),
        "in several lines": exercises.cut(SOLUTION, "if not x:\n    return 1\nreturn 2"),
    }


def test_an_exercise_may_have_no_wrong_answers(tiny):
    tiny.cells[6]["source"] = "the common mistake"
    tiny.cells[10]["metadata"]["tags"] = []
    assert [e.wrong for e in exercises.exercises(tiny)] == [{}, {}]


def with_source(index, change):
    def broken(cells):
        cells[index]["source"] = change(cells[index]["source"])

    return broken


def without(line, count=1):
    return with_source(4, lambda text: text.replace(f"    {line}\n", "", count))


def told(old, new):
    return with_source(6, lambda text: text.replace(old, new))


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
    "exercise 1: the tempting answer 'one less' changes `y`": told("`x + step` → `x -", "`y` → `x -"),
    "'one less' changes `step`, which the solution has 2": told("`x + step` → `x -", "`step` → `x -"),
    "'one less' changes `step = 1`, which the solution has 0": told("`x + step` → `x -", "`step = 1` → `x -"),
    "'two changes, a part each' changes `x`, which": told("  `add", "  `x` → `y`, `add"),
    "'one less' is the solution itself": told("`x - step`", "`(x + step)`"),
    "'one less' does not parse": told("`x - step`", "`x -`"),
    "'in several lines' does not parse": told("if not x:", "if not x"),
    "'nothing at all' is there twice": told("in several lines", "nothing at all"),
    "'one less' is neither changes": told("`x + step` → `x -", "`x + step` is not `x -"),
    "write '- name: `old` → `new`' .*, not 'one less `x": told("one less:", "one less"),
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

BOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
FOUND = {name: found for name, book in BOOKS.items() if (found := exercises.exercises(book, name))}
WRONG = [
    (name, exercise.number, what) for name, found in FOUND.items() for exercise in found for what in exercise.wrong
]


@functools.cache
def imported(name):
    """What the first code cell after a notebook's parameters binds, which imports and nothing else."""
    code = [cell for cell in BOOKS[name].cells if cell.cell_type == "code"]
    [place] = [i for i, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", [])]
    imports = code[place + 1].source
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(imports).body)
    return executed(imports, {})


def after_imports(name):
    """A namespace with the notebook's imports alone: what is bound in it, nobody else sees."""
    return dict(imported(name))


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


def test_every_paper_and_the_museum_have_exercises():
    assert list(FOUND) == [name for name in BOOKS if name != "00_glass_box"]
    assert len(FOUND) == 6


@pytest.mark.parametrize("name", FOUND)
def test_each_exercise_has_two_tempting_answers(name):
    assert min(len(exercise.wrong) for exercise in FOUND[name]) >= 2


@pytest.mark.parametrize("name", FOUND)
def test_solutions_pass_their_checks_and_need_the_imports_alone(name):
    cells = BOOKS[name].cells
    for exercise in FOUND[name]:
        names = executed(cells[exercise.solution].source, after_imports(name))
        executed(cells[exercise.check].source, names)


@pytest.mark.parametrize("name", FOUND)
def test_stubs_fail_their_checks_and_are_the_solution_elsewhere(name):
    handed_out = {cell.id: cell.source for cell in exercises.student(BOOKS[name], name).cells}
    for exercise in FOUND[name]:
        solution, check = (BOOKS[name].cells[i] for i in (exercise.solution, exercise.check))
        stub = handed_out[solution.id]
        names = executed(stub, after_imports(name))
        with pytest.raises(NotImplementedError, match=f"^Exercise {exercise.number}: "):
            executed(check.source, names)
        given = [line for line in stub.splitlines() if "raise NotImplementedError" not in line]
        assert given == outside_the_cut(solution.source)


@pytest.mark.parametrize("name", FOUND)
def test_exercises_change_no_name_that_other_cells_read(name):
    """Whoever goes back from the exercises to a table finds everything as it was."""
    cells = BOOKS[name].cells
    of_exercises = {i for e in FOUND[name] for i in (e.solution, e.check)}
    before, after = after_imports(name), after_imports(name)
    for i in sorted(of_exercises):
        executed(cells[i].source, after)
    changed = {key for key, value in after.items() if before.get(key, after) is not value}
    assert changed
    for i, cell in enumerate(cells):
        if cell.cell_type == "code" and i not in of_exercises:
            assert not read_from_elsewhere(cell.source) & changed, f"cell {i}"


@pytest.mark.parametrize(("name", "number", "what"), WRONG)
def test_a_tempting_answer_is_refused(name, number, what):
    exercise = FOUND[name][number - 1]
    names = executed(exercise.wrong[what], after_imports(name))
    with pytest.raises(AssertionError, match="this does not hold"):
        executed(BOOKS[name].cells[exercise.check].source, names)
