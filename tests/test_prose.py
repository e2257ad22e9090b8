"""The language of the code and the documents: plain sentences in the field's words."""

import ast
import json
import re
from itertools import pairwise, product
from pathlib import Path

import pytest

from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.recipe.fields import replace

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "muybridge").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
GENERATED = {ROOT / "docs" / "fidelity.md", *(ROOT / "docs" / "reference").glob("*.md")}
"""Pages that a program writes from the code."""

HANGING = {"of", "by", "with", "what", "which", "where", "as", "how"}
"""A docstring that begins so is no sentence: it hangs on the name above it."""

BANNED = (
    "is told",
    "are told",
    "goes on",
    "go on with",
    "gone on",
    "is no ",
    "are none",
    "is none",
    "so many",
    "of one's own",
)
MOST_WORDS = 30
MOST_SEMICOLONS = 1


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, after in pairwise(body):
                is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(before, ast.Assign | ast.AnnAssign) and is_text and isinstance(after.value.value, str):
                    yield after.lineno, after.value.value


def strings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "muybridge")))
def test_docstrings_stand_alone(path):
    tree = ast.parse(path.read_text())
    found = [f"{path}:{line}: {text.splitlines()[0]}" for line, text in docstrings(tree)
             if re.split(r"\W+", text.strip(), maxsplit=1)[0].lower() in HANGING]  # fmt: skip
    found += [f"{path}:{line}: '{words}'" for line, text in strings(tree) for words in BANNED if words in text.lower()]
    assert not found, "\n".join(found)


def paragraphs(text):
    """Prose alone: no code, tables, headings."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith(("|", "#", "<", "!["))]
        for item in re.split(r"\n(?=\s*(?:[-*]|\d+\.)\s)", "\n".join(lines)):
            if item.strip():
                yield " ".join(item.split())


def sentences(paragraph):
    plain = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph))
    return re.split(r"(?<=[.!?:])\s+", plain)


def text_of(page):
    """Text of a page, or of the cells of a notebook that are no code."""
    if page.suffix != ".ipynb":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


WRITTEN = [page for page in [*PAGES, *NOTEBOOKS] if page not in GENERATED]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_pages_are_written_in_short_sentences(path):
    found = []
    for paragraph in paragraphs(text_of(path)):
        if paragraph.count(";") > MOST_SEMICOLONS:
            found.append(f"{paragraph.count(';')} semicolons: {paragraph[:90]}")
        found += [f"{len(s.split())} words: {s[:90]}" for s in sentences(paragraph) if len(s.split()) > MOST_WORDS]
        found += [f"'{words}': {paragraph[:90]}" for words in BANNED if words in paragraph.lower()]
    assert not found, "\n".join(found)


ERRORS = {"UserError", "Diverged", "InUse", "MissingColumn", "ProcessLost", "WorkerLost"}
"""Classes of errors whose first argument is the message."""

PARTIAL = {"DecodeError", "Missing", "MachineFault"}
"""Errors with a subject and a fault alone: their reasons are stored in files, and the remedy depends on who reads."""

REMEDIES = {"nearest", "last_good", "_channels_advice"}
"""Functions whose result ends with what to do."""

FORWARDED = {
    ("recipe/fields.py", "_explain"): "made of parts, see test_every_fault_of_a_field_has_a_remedy",
    ("reporting/render.py", "message"): "what another process printed as its UserError",
    ("training/speed.py", "answer"): "what another process sent as its UserError",
}
"""Places that pass on a whole message."""

IMPERATIVES = (
    "Add Allow Ask Begin Call Change Check Choose Compare Continue Convert Correct Count Cut Delete Download Evaluate "
    "Export Fill Free Get Give Install Leave Load Lower Make Measure Mend Name Prepare Put Raise Remove Rename Repeat Replace "
    "Rerun Restore Resume Return Save Say See Set Shorten Start Take Train Try Turn Use Wait Write"
)
CONDITIONS = {"For", "If", "Or", "To"}
"""First words of a remedy that says first when it applies."""

HOLE = "…"


def texts_of(node, names):
    """Texts that an expression may give, with `HOLE` for what is known at run time; `names`: texts of variables."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(each) for each in product(*(texts_of(part, names) for part in parts))]
        case ast.FormattedValue(value=value):
            return texts_of(value, names)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return [a + b for a, b in product(texts_of(left, names), texts_of(right, names))]
        case ast.IfExp(body=body, orelse=orelse):
            return texts_of(body, names) + texts_of(orelse, names)
        case ast.Name(id=name):
            return names.get(name, [HOLE])
        case ast.Call(func=ast.Name(id="str"), args=[value]):
            return texts_of(value, names)
        case ast.Call(func=ast.Attribute(value=value, attr="rstrip")):
            return [text.rstrip(".") for text in texts_of(value, names)]
        case ast.Call(func=ast.Name(id=name)) if name in REMEDIES:
            return [f"Use {HOLE}"]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name in ERRORS:
            return [f"{HOLE}: {HOLE}. Use {HOLE}"]
    return [HOLE]


def names_in(function):
    """Texts of the variables of a function that hold a text, and of the errors that it catches."""
    names = {}
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name and node.type:
            caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)}
            if caught <= ERRORS:
                names[node.name] = [f"{HOLE}: {HOLE}. Use {HOLE}"]
            elif caught <= ERRORS | PARTIAL:
                names[node.name] = [f"{HOLE}: {HOLE}"]
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names.setdefault(name, []).extend(texts_of(value, {}))
    return names


def messages(path):
    """Line and text of each message that a source gives to an error."""
    tree = ast.parse(path.read_text())
    relative = path.relative_to(ROOT / "src" / "muybridge").as_posix()
    classes = ERRORS | ({"ValueError"} if relative == "recipe/rules.py" else set())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in classes):
            continue
        first = next((node.id for node in ast.walk(call.args[0]) if isinstance(node, ast.Name)), "")
        if (relative, first) in FORWARDED and not isinstance(call.args[0], ast.JoinedStr):
            continue
        around = [f for f in functions if f.lineno <= call.lineno <= f.end_lineno]
        names = names_in(max(around, key=lambda f: f.lineno)) if around else {}
        for text in texts_of(call.args[0], names):
            yield call.lineno, text


def fault_of(message):
    """What is wrong with the form of a message: `<field or file>: <what is wrong>. <What to do>`."""
    subject, colon, rest = message.partition(": ")
    if not colon or not subject.strip() or re.search(r"[.;?] ", subject):
        return "no subject"
    said = re.split(r"(?<=[.?])\s+", rest.strip())
    first = re.split(r"[^\w-]", said[-1], maxsplit=1)[0]
    if len(said) < 2 or first not in {*IMPERATIVES.split(), *CONDITIONS, "Did", "Valid"}:
        return "no remedy at the end"
    long = [sentence for sentence in said if len(sentence.split()) > MOST_WORDS]
    return f"{len(long[0].split())} words in a sentence" if long else ""


def test_every_error_says_where_what_and_what_to_do():
    found = [f"{path}:{line}: {fault}: {text}" for path in SOURCES for line, text in messages(path)
             if (fault := fault_of(text))]  # fmt: skip
    assert not found, "\n".join(found)


def test_the_classes_of_errors_are_all_known():
    defined, known = set(), {"UserError"}
    classes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    while known - defined:
        defined |= known
        known |= {
            node.name for node in classes for base in node.bases if isinstance(base, ast.Name) and base.id in known
        }
    assert known - PARTIAL == ERRORS


@pytest.mark.parametrize(
    "changes",
    [{"optim.lr": -1}, {"optim.lr": "x"}, {"optim.schedule": "cosin"}, {"optim.schedule": 3}, {"optim.lrr": 1},
     {"optim.warmup_epochs": 1000}, {"clip.modality": "x"}, {"seed": 0.5}],
    ids=str,
)  # fmt: skip
def test_every_fault_of_a_field_has_a_remedy(changes):
    with pytest.raises(UserError) as caught:
        replace(Recipe(), changes)
    assert not fault_of(str(caught.value)), str(caught.value)
