"""Copies of a notebook for a class: the student's with gaps to fill, the instructor's with solutions and hints.

Reads cells by their tags; must not know what any exercise is about.
"""

import ast
import re
import textwrap
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nbformat

from ..support import paths
from ..support.errors import BadInput, one_of

LEVELS = ("easy", "medium", "hard")
BEGIN, END = "# solution", "# end of solution"
PART = re.compile(rf"^([ \t]*){BEGIN}\n(.*?)^\1{END}$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r"### Exercise (\d+): (.+)\n\n?\*(\w+), (\d+) minutes\*(?:\n|$)")
SUMMARY = "<details><summary>Tempting answers that the check refuses</summary>"
TEMPTING = re.compile(rf"^{SUMMARY}\n(.*?)^</details>$", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"([^`]+):\s+(`.+`)\s*", re.DOTALL)  # its name, then code
WHOLE = re.compile(r"`([^`]+)`|```python\n(.+)\n```", re.DOTALL)
CHANGE = r"`([^`]+)`\s→\s`([^`]+)`"


@dataclass(frozen=True)
class Exercise:
    """One exercise: what its head says, the indices of its solution and check cells, and its wrong answers.

    wrong: the name of each -> the source of the solution cell with that answer in it.
    """

    number: int
    title: str
    level: str
    minutes: int
    solution: int
    check: int
    wrong: dict[str, str]

    @property
    def name(self):
        return f"Exercise {self.number}: {self.title}"


def exercises(notebook, name="the notebook"):
    """The exercises of a notebook in order; `name` is what a refusal calls it.

    An exercise is three cells: the task (tag `exercise`), its `solution`, its `check`. A cell with the tag `instructor`
    may follow: a hint and, between SUMMARY and </details>, a list of wrong answers. An item of it is either
    "- name: `old` → `new`" (several with commas between them), where `old` is there once in what is cut of a solution,
    or "- name: `code`" or a fenced block of Python, in the place of all that is cut. Raises BadInput for a broken
    exercise or wrong answer, for numbers that are not 1 to n, and for a solution cell that belongs to no exercise.
    """
    cells = notebook["cells"]
    found = [_exercise(cells, i, f"{name}, cell {i}") for i, cell in enumerate(cells) if "exercise" in _tags(cell)]
    numbers = [exercise.number for exercise in found]
    if numbers != list(range(1, len(found) + 1)):
        raise BadInput(f"{name} numbers its exercises {numbers}: number them 1 to {len(found)} in this order.")
    owned = {exercise.solution for exercise in found}
    if stray := [i for i, cell in enumerate(cells) if "solution" in _tags(cell) and i not in owned]:
        raise BadInput(f"{name}, cell {stray[0]}: a solution without its exercise; put it right below the task.")
    return found


def _tags(cell):
    return cell["metadata"].get("tags", [])


def _exercise(cells, index, where):
    """The exercise whose task is cells[index]; refuses one that cannot be handed out."""
    head = HEAD.match(cells[index]["source"])
    if not head:
        raise BadInput(f"{where}: begin the task with '### Exercise 1: title' and, below, '*easy, 10 minutes*'.")
    where = f"{where}: exercise {head[1]}"
    one_of(f"level of {where}", head[3], LEVELS)
    for place, tag in enumerate(("solution", "check"), index + 1):
        if place == len(cells) or cells[place]["cell_type"] != "code" or tag not in _tags(cells[place]):
            raise BadInput(f"{where} lacks its {tag} cell: task, solution and check are three cells in a row.")
    _refuse_bad_cut(cells[index + 1]["source"], where)
    told = "".join(cell["source"] for cell in cells[index + 3 : index + 4] if "instructor" in _tags(cell))
    wrong = _wrong_answers(told, cells[index + 1]["source"], where)
    return Exercise(int(head[1]), head[2].strip(), head[3], int(head[4]), index + 1, index + 2, wrong)


def _refuse_bad_cut(source, where):
    """Refuse a solution of which a stub cannot be made, or whose stub would give the answer away."""
    lines, parts = [line.strip() for line in source.splitlines()], PART.findall(source)
    if not {BEGIN, END} & set(lines):
        raise BadInput(f"{where} has nothing to cut: put '{BEGIN}' and '{END}' around the answer.")
    if not lines.count(BEGIN) == lines.count(END) == len(parts):
        raise BadInput(f"{where} has cut marks that do not pair: '{BEGIN}', then '{END}', equally indented.")
    for indent, body in parts:
        if not [line for line in body.splitlines() if line.strip() and not line.strip().startswith("#")]:
            raise BadInput(f"{where} cuts no code: put the answer between '{BEGIN}' and '{END}'.")
        if not indent:
            raise BadInput(f"{where} cuts outside a function: the stub would raise before anybody calls it.")
    try:
        ast.parse(cut(source, "pass"))
    except SyntaxError as error:
        raise BadInput(f"{where} does not parse without its answer ({error.msg}): cut whole statements.") from None


def _wrong_answers(told, solution, where):
    """Name -> source of the solution cell with that wrong answer in it, for those that an instructor's cell tells."""
    wrong = {}
    for item in re.split(r"^- ", "".join(TEMPTING.findall(told)), flags=re.MULTILINE):
        if not item.strip():
            continue
        if not (answer := ANSWER.fullmatch(item)):
            raise BadInput(f"{where}: write '- name: `old` → `new`' or '- name: `code`', not '{item.strip()}'.")
        place = f"{where}: the tempting answer '{answer[1]}'"
        if answer[1] in wrong:
            raise BadInput(f"{place} is there twice: give each a name of its own.")
        wrong[answer[1]] = _with_answer(solution, re.sub("^  ", "", answer[2], flags=re.MULTILINE), place)
    return wrong


def _with_answer(solution, answer, where):
    """The solution cell with one wrong answer in it; refuses what does not parse, and the solution itself."""
    source = solution
    if whole := WHOLE.fullmatch(answer):
        source = cut(solution, whole[1] or whole[2])
    elif re.fullmatch(rf"{CHANGE}(,\s{CHANGE})*", answer):
        for old, new in re.findall(CHANGE, answer):
            source = _changed(source, old, new, where)
    else:
        raise BadInput(f"{where} is neither changes, '`old` → `new`, ...', nor code alone: {answer}")
    try:
        same = ast.dump(ast.parse(source)) == ast.dump(ast.parse(solution))
    except SyntaxError as error:
        raise BadInput(f"{where} does not parse ({error.msg}): write whole statements.") from None
    if same:
        raise BadInput(f"{where} is the solution itself.")
    return source


def _changed(source, old, new, where):
    """`source` with `new` in the place of `old`, which must be there once in what is cut."""
    if (times := sum(part[0].count(old) for part in PART.finditer(source))) != 1:
        raise BadInput(f"{where} changes `{old}`, which the solution has {times} times: name what it has once.")
    return PART.sub(lambda part: part[0].replace(old, new), source)


def cut(source, instead):
    """`source` with the lines `instead` in place of each part to cut and its two marks, at the same indentation."""
    return PART.sub(lambda part: textwrap.indent(instead, part[1]), source)


def student(notebook, name):
    """A copy of a notebook where each answer is a NotImplementedError, without the instructor's cells."""
    found, made = exercises(notebook, name), _without_outputs(notebook)
    for exercise in found:
        cell = made["cells"][exercise.solution]
        cell["source"] = cut(cell["source"], f"raise NotImplementedError({exercise.name!r})")
        cell["metadata"]["tags"].remove("solution")
    made["cells"] = [cell for cell in made["cells"] if "instructor" not in _tags(cell)]
    text = (
        f"**Student copy** of `notebooks/{name}.ipynb`: {len(found)} exercises, "
        f"about {sum(exercise.minutes for exercise in found)} minutes. Put your lines in the place of each "
        "`raise NotImplementedError(...)`, then run the cell below it: it says what holds. The exercises need the cell "
        "with the imports, no training. Keep this file inside the handbook's folder, or set `MMKD_HOME` to that folder."
    )
    return _with_first_cell(made, "student-copy", text)


def instructor(notebook, name):
    """The full copy of a notebook, with an overview of its exercises on top."""
    found = exercises(notebook, name)
    rows = [f"| {e.number}. {e.title} | {e.level} | {e.minutes} |" for e in found]
    rows.append(f"| together | | {sum(e.minutes for e in found)} |")
    text = (
        f"**Instructor copy** of `notebooks/{name}.ipynb`: it holds all solutions and, after each exercise, a hint and "
        "answers that tempt and that the check refuses: what they change in the solution, or what stands in its place."
    )
    table = "\n".join(["| exercise | level | minutes |", "|---|---|---:|", *rows])
    return _with_first_cell(_without_outputs(notebook), "instructor-copy", f"{text}\n\n{table}")


def _without_outputs(notebook):
    made = deepcopy(notebook)
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return made


def _with_first_cell(notebook, key, text):
    """`notebook` under a new first cell; its id is fixed, so that a second copy is the same file."""
    notebook["cells"].insert(0, nbformat.v4.new_markdown_cell(text, id=key))
    return notebook


def write(names, folder, force=False):
    """Write student/NN_x.ipynb and instructor/NN_x.ipynb of notebooks into `folder`; returns the paths.

    names: none means every notebook with exercises. A file there that differs from a fresh copy may be
    somebody's work: BadInput, before anything is written, unless `force`.
    """
    files = paths.notebook_files()
    chosen = [one_of("notebook", Path(name).stem, files) for name in names or files]
    having = {}
    for name in chosen:
        notebook = nbformat.read(files[name], as_version=4)
        if exercises(notebook, name):
            having[name] = notebook
        elif names:
            raise BadInput(f"notebook {name} has no exercises: name one that has some.")
    fresh = {
        Path(folder) / make.__name__ / f"{name}.ipynb": f"{nbformat.writes(make(notebook, name))}\n".encode()
        for name, notebook in having.items()
        for make in (student, instructor)
    }
    edited = [path for path, copy in fresh.items() if path.exists() and path.read_bytes() != copy]
    if edited and not force:
        raise BadInput(f"{edited[0]} is not as it was written and may hold answers: move it away, or use --force.")
    for path, copy in fresh.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(copy)
    return list(fresh)
