"""Do the tests notice small changes of the code?

    python tools/mutants.py --room models --count 25 --seed 1      one room
    python tools/mutants.py --count 20 --save left.json            20 changes in every room
    python tools/mutants.py --again left.json                      those that went unnoticed, once more
    python tools/mutants.py --room models --within vit.py          one file

A mutant is the package with one small change: another number, ``<`` for ``<=``, ``+`` for ``-``, ``and`` for
``or``, a dropped ``not``, two arguments swapped, one left out, ``True`` for ``False``, ``min`` for ``max``,
another string, an early return of None, a guard or a call removed. Docstrings, annotations, decorators,
messages, reprs and what is printed stay as they are. Changes are drawn with a seed, one from each function of
the room in turn.

Each mutant is tried in a private copy of the tree. For a change in data/text.py, first the tests of
tests/data/test_text.py run, then those of other files that import the module, until one fails or ``--files``
and ``--budget`` are used up. A test that fails must pass on the unchanged copy. Slow tests and those with a
browser do not take part. An endless loop or too much memory counts as noticed. One warm process has the
libraries imported and forks for each mutant: on a quiet machine it costs about a second, an unnoticed one
what the tests cost.

What is printed in the end is a table by room, and for each change that went unnoticed its place and its lines
before and after. Not every such change is a hole in the tests: some change nothing that can be seen.
"""

import argparse
import ast
import contextlib
import gc
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ["vlmcourse", "tests", "tools", "*.md", "*.toml", "*.yml", "Makefile"]
LINKED = ["assets", "notebooks", "benchmarks", ".git"]

ROOMS = {
    "slots": ["slots.py", "moved.py"],
    "models": ["models"],
    "data": ["data", "data/formats"],
    "world": ["world"],
    "training": ["training"],
    "evaluation": ["evaluation"],
    "diagnostics": ["diagnostics"],
    "interop": ["interop"],
    "widgets": ["widgets"],
    "exercises": ["exercises/__init__.py", "exercises/base.py"],
    "workbook": ["workbook"],
    "families": ["families", "recipes"],
    "speak": ["*.py"],
}
"""The files of each room, below vlmcourse. A file belongs to the first room that has it."""

NO_TESTS_FOR_IT = ("tests/browser", "tests/notebooks", "tests/tools", "tests/test_project.py")

FLIPS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//",
    ast.And: "or", ast.Or: "and",
}  # fmt: skip
SILENT = {"print", "warn", "debug", "info", "warning", "log", "echo", "secho"}
NO_MEANING = {
    "device",
    "strict",
    "encoding",
    "errors",
    "flush",
    "file",
    "ensure_ascii",
    "indent",
    "frozen",
    "layout",
}
EITHER_WAY = {"min", "max", "minimum", "maximum", "equal", "gcd", "transpose", "swapaxes"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Change:
    """One small change: ``new`` stands for ``old`` at the bytes from ``start`` of ``path``."""

    path: str
    function: str
    line: int
    start: int
    old: str
    new: str
    kind: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.start + len(self.old.encode()) :]


class Finder(ast.NodeVisitor):
    """Collects every change of one file."""

    def __init__(self, path: str, source: bytes):
        self.path, self.source, self.changes = path, source, []
        self.begins = [0]
        for line in source.splitlines(keepends=True):
            self.begins.append(self.begins[-1] + len(line))
        self.scope = [""]
        self.visit(ast.parse(source))

    def offset(self, line: int, column: int) -> int:
        return self.begins[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def add(self, kind: str, start: int, end: int, new: str) -> None:
        old = self.source[start:end].decode()
        line = self.source[:start].count(b"\n") + 1
        if old != new:
            self.changes.append(Change(self.path, self.scope[-1], line, start, old, new, kind))

    def replace(self, kind: str, node: ast.AST, new: str) -> None:
        self.add(kind, *self.span(node), new)

    def between(self, kind: str, left: ast.AST, right: ast.AST, operator: ast.AST) -> None:
        """Replace the operator that stands between two nodes."""
        start, end = self.span(left)[1], self.span(right)[0]
        pattern = rb"is\s+not|not\s+in|\b(?:is|in|and|or)\b|//|[<>=!]=|[-+*/%<>]"
        place = re.search(pattern, re.sub(rb"#[^\n]*", lambda m: b" " * len(m[0]), self.source[start:end]))
        if place and type(operator) in FLIPS:
            self.add(kind, start + place.start(), start + place.end(), FLIPS[type(operator)])

    def visit_body(self, body: list[ast.stmt], early: bool) -> None:
        for statement in body:
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not is_text:
                self.removed(statement, early)
                self.visit(statement)

    def removed(self, statement: ast.stmt, early: bool) -> None:
        guard = isinstance(statement, ast.If) and not statement.orelse and len(statement.body) == 1
        if guard and isinstance(statement.body[0], ast.Raise | ast.Continue):
            self.replace("guard removed", statement, "pass")
        call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        if (call and name_of(statement.value.func) not in SILENT) or isinstance(statement, ast.AugAssign):
            self.replace("statement removed", statement, "pass")
        if isinstance(statement, ast.Return) and statement.value is not None and early:
            self.replace("early return of None", statement, "return None")

    def generic_visit(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "type_params"}:
                continue
            if name in {"body", "orelse", "finalbody"} and isinstance(value, list):
                self.visit_body(value, early=not isinstance(node, FUNCTION))
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        if node.name not in {"__repr__", "__str__"}:
            self.scope.append(f"{self.scope[-1]}.{node.name}".strip("."))
            self.generic_visit(node)
            self.scope.pop()

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def nothing(self, node: ast.AST) -> None:
        """What carries no meaning for a test: messages, imports, formatted text."""

    visit_Raise = visit_Import = visit_ImportFrom = visit_JoinedStr = visit_Global = nothing

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)

    def visit_If(self, node: ast.If) -> None:
        if name_of(node.test) != "TYPE_CHECKING" and "__name__" not in self.text(node.test):
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(name_of(target) in {"__all__", "__slots__"} for target in node.targets):
            self.visit(node.value)
            for target in node.targets:
                self.visit(target)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.replace("not dropped", node, f"bool({self.text(node.operand)})")
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = node.operand.value
            self.replace("number", node, "-2" if value == 1 and isinstance(value, int) else f"-{value}*2")
            return
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace("True/False", node, str(not value))
        elif isinstance(value, int):
            self.replace("number", node, str(value + 1))
            self.replace("number", node, str(value - 1) if value else "1")
        elif isinstance(value, float):
            self.replace(
                "number", node, repr(value * 100 if abs(value) < 1e-4 else value * 1.5) if value else "0.5"
            )
        elif isinstance(value, str) and re.fullmatch(r"[\w./:{}-]{1,30}", value):
            self.replace("string", node, repr(value + "x"))

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip(
            [node.left, *node.comparators], node.ops, node.comparators, strict=False
        ):
            self.between("comparison", left, right, operator)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.between("arithmetic", node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.between("and/or", node.values[0], node.values[1], node.op)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = name_of(node.func)
        if name in SILENT:
            return
        if name in {"min", "max", "minimum", "maximum", "amin", "amax", "argmin", "argmax"}:
            swap = {"min": "max", "max": "min"}
            end = self.span(node.func)[1]
            at = end - len(name.encode())
            self.add("min/max", at, end, re.sub("min|max", lambda m: swap[m[0]], name, count=1))
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        if len(plain) == len(node.args) >= 2 and name not in EITHER_WAY:
            first, second = self.text(plain[0]), self.text(plain[1])
            middle = self.source[self.span(plain[0])[1] : self.span(plain[1])[0]].decode()
            self.add(
                "arguments swapped", self.span(plain[0])[0], self.span(plain[1])[1], second + middle + first
            )
        if plain and len(plain) == len(node.args) >= 2 and not node.keywords:
            self.add("argument dropped", self.span(plain[-2])[1], self.span(plain[-1])[1], "")
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in NO_MEANING:
                start, end = self.span(keyword)
                rest = re.match(rb"\s*,\s*", self.source[end:])
                self.add("argument dropped", start, end + (len(rest[0]) if rest else 0), "")
        self.visit(node.func)
        for child in [*node.args, *(k.value for k in node.keywords if k.arg not in NO_MEANING)]:
            self.visit(child)


def name_of(node: ast.AST) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def changes_of(room: str, root: Path) -> list[Change]:
    """Every change of a room's files that leaves valid Python."""
    package, patterns, taken = root / "vlmcourse", ROOMS[room], set()
    for other in ROOMS:
        if other == room:
            break
        taken |= {file for pattern in ROOMS[other] for file in python_files(package, pattern)}
    changes = []
    for file in sorted({file for pattern in patterns for file in python_files(package, pattern)} - taken):
        source = file.read_bytes()
        for change in Finder(str(file.relative_to(root)), source).changes:
            try:
                ast.parse(change.apply(source))
            except SyntaxError:
                continue
            changes.append(change)
    return changes


def python_files(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern, those of a folder without what lies deeper."""
    return [
        f for p in folder.glob(pattern) for f in (p.glob("*.py") if p.is_dir() else [p]) if f.suffix == ".py"
    ]


def drawn(changes: list[Change], count: int, seed: int) -> list[Change]:
    """``count`` changes, one from each function in turn, and of each kind that a function offers alike."""
    dice = random.Random(seed)
    groups: dict[tuple, list[Change]] = {}
    for change in changes:
        groups.setdefault((change.path, change.function), []).append(change)
    turns, chosen = list(groups.values()), []
    while turns and len(chosen) < count:
        dice.shuffle(turns)
        for group in turns:
            kind = dice.choice(sorted({change.kind for change in group}))
            change = dice.choice([change for change in group if change.kind == kind])
            group[:] = [other for other in group if other.start != change.start]
            chosen.append(change)
        turns = [group for group in turns if group]
    return chosen[:count]


class Watch:
    """A pytest plugin that runs the quickest tests first and tells how long each took and which failed."""

    def __init__(self, seconds: dict[str, float], budget: float, only: str, never: set[str]):
        self.known, self.end, self.only, self.never = seconds, time.process_time() + budget, only, never
        self.seconds, self.failed = {}, ""

    def pytest_collection_modifyitems(self, session, items) -> None:
        self.session = session
        kept = [item for item in items if self.only in ("", item.nodeid) and item.nodeid not in self.never]
        items[:] = sorted(kept, key=lambda item: self.known.get(item.nodeid, 1.0))

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed = report.nodeid
        if time.process_time() > self.end:
            self.session.shouldstop = "enough"

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.failed = report.nodeid or "collection"


class Workshop:
    """A private copy of the tree, in which mutants are tried."""

    def __init__(self, root: Path):
        self.root = Path(tempfile.mkdtemp(prefix="mutants-"))
        for source in [path for pattern in COPIED for path in root.glob(pattern)]:
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.root / source.name)
        for source in [root / name for name in LINKED if (root / name).exists()]:
            (self.root / source.name).symlink_to(source)
        self.cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmcourse"
        self.kept = self.fresh_cache()
        files = [str(path.relative_to(self.root)) for path in sorted(self.root.glob("tests/**/test_*.py"))]
        files = [file for file in files if not file.startswith(NO_TESTS_FOR_IT)]
        self.imports = {file: imported(self.root / file) for file in files}
        self.seconds: dict[str, float] = {}
        self.sound, self.broken = set(), set()

    def fresh_cache(self, known: dict | None = None) -> dict:
        """Copy what the package keeps between runs, unless it is as known: a mutant may have spoilt it."""
        mine = self.root / "cache" / "vlmcourse"
        now = {file: file.stat().st_mtime_ns for file in mine.glob("**/*")}
        if now == known:
            return now
        shutil.rmtree(mine, ignore_errors=True)
        if self.cache.exists():
            shutil.copytree(self.cache, mine)
        return {file: file.stat().st_mtime_ns for file in mine.glob("**/*")}

    def forked(self, work, seconds: float) -> tuple[str, str]:
        """Run ``work`` in a child: what it returned, or how it ended, as (answer, "") or ("", reason)."""
        answer = self.root / "answer"
        answer.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            self.become_child(int(seconds))
            try:
                answer.write_text(work())
            finally:
                os._exit(0)
        begin = time.monotonic()
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() - begin > 6 * seconds:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it may have started itself
        return (answer.read_text(), "") if answer.exists() else ("", "time, memory or a crash")

    def become_child(self, seconds: int) -> None:
        os.setsid()
        os.chdir(self.root)
        out = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.path.insert(0, str(self.root))
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        (self.root / "tmp").mkdir(exist_ok=True)
        tempfile.tempdir = str(self.root / "tmp")
        os.environ |= {"PYTHONPATH": str(self.root), "TMPDIR": tempfile.tempdir, "MPLBACKEND": "Agg"}
        os.environ |= {"XDG_CACHE_HOME": str(self.root / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 6 * 2**30,) * 2)

    def near(self, change: Change) -> list[str]:
        """Test files for a change, the nearest first: named after the module, of its room, importing it."""
        module, room = change.path.removesuffix(".py").replace("/", "."), Path(change.path).parent.name
        name = Path(change.path).stem

        def distance(file: str) -> tuple:
            named, own = Path(file).stem == f"test_{name}", Path(file).parent.name == room
            return not named, module not in self.imports[file], name not in file, not own, file

        ranked = sorted(self.imports, key=distance)
        importing = [
            file for file in ranked if module in self.imports[file] or Path(file).stem == f"test_{name}"
        ]
        return importing or [file for file in ranked if Path(file).parent.name == room]

    def noticed_by(self, change: Change, options: argparse.Namespace) -> str:
        """The test that fails with a change and passes without it, or "" if there is none."""
        target = self.root / change.path
        files = self.near(change)[: options.files]
        while files:
            by = self.with_change(change, files[0], options.budget)
            if "::" in by and target.stem not in files[0]:
                by = self.with_change(
                    change, files[0], options.budget, only=by
                )  # by chance, on a busy machine?
            if "::" in by and by not in self.sound and self.failing(files[0], options.budget, only=by):
                print(f"    fails anyway: {by}")
                self.broken.add(by)
                continue
            if by:
                self.sound.add(by)
                return by
            del files[0]
        return ""

    def with_change(self, change: Change, file: str, budget: float, only: str = "") -> str:
        target = self.root / change.path
        source = target.read_bytes()
        for compiled in (target.parent / "__pycache__").glob(f"{target.stem}.*"):
            compiled.unlink()
        target.write_bytes(change.apply(source))
        try:
            return self.failing(file, budget, only)
        finally:
            target.write_bytes(source)
            self.kept = self.fresh_cache(self.kept)

    def failing(self, file: str, budget: float, only: str = "") -> str:
        """The first test that fails in a file, how else it came to an end, or "".

        What the tests import of libraries is imported here too, once for all children that follow.
        """

        def work() -> str:
            import pytest

            watch = Watch(self.seconds, budget, only, self.broken)
            code = pytest.main([file, "-x", *QUICK], plugins=[watch])
            failed = watch.failed or ("" if code in (0, 2, 5) else f"pytest ends with {code}")
            libraries = [name for name in sys.modules if name.partition(".")[0] not in OURS]
            return json.dumps([failed, watch.seconds, libraries])

        answer, reason = self.forked(work, 60 + budget)
        if reason:
            return reason
        failed, seconds, libraries = json.loads(answer)
        self.seconds |= {test: took for test, took in seconds.items() if test != failed}
        for name in set(libraries) - set(sys.modules):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        gc.collect()
        gc.freeze()  # children would copy what their collector touches
        return failed


def imported(file: Path) -> set[str]:
    """The modules that a file imports, as full names; a name imported from a package may be one too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.Constant) and str(node.value).startswith("vlmcourse."):
            names.add(node.value)  # for importlib
    return names


OURS = {"vlmcourse", "tests", "conftest"}
QUICK = ["-q", "-p", "no:cacheprovider", "-m", "not slow and not browser", "--tb=no", "--no-header"]


def shown(change: Change, root: Path) -> str:
    """Where a change stands, and its lines before and after."""
    source = (root / change.path).read_bytes()
    before, after = source.decode().splitlines(), change.apply(source).decode().splitlines()
    end = change.line + change.old.count("\n")
    old = [f"    - {line.strip()}" for line in before[change.line - 1 : end]]
    new = [f"    + {line.strip()}" for line in after[change.line - 1 : change.line + change.new.count("\n")]]
    return "\n".join([f"{change.path}:{change.line} {change.function} ({change.kind})", *old, *new])


def tried(room: str, changes: list[Change], options: argparse.Namespace) -> list[Change]:
    """Try changes one after the other; the ones that no test noticed."""
    workshop, left = Workshop(ROOT), []
    try:
        for number, change in enumerate(changes, start=1):
            begin = time.monotonic()
            by = workshop.noticed_by(change, options)
            if not by:
                left.append(change)
                print(f"UNNOTICED {shown(change, workshop.root)}")
            place = f"{time.monotonic() - begin:5.1f} s {change.path}:{change.line}"
            print(f"{room} {number}/{len(changes)} {place} {by or '-'}", flush=True)
        return left
    finally:
        shutil.rmtree(workshop.root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", nargs="*", choices=list(ROOMS), help="default: every room")
    parser.add_argument("--count", type=int, default=20, help="changes in each room")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", default="", help="only files whose path has this in it")
    parser.add_argument("--budget", type=float, default=30, help="seconds of tests in one file, at most")
    parser.add_argument("--files", type=int, default=3, help="test files for one change, at most")
    parser.add_argument("--save", type=Path, help="file for the changes that went unnoticed")
    parser.add_argument("--again", type=Path, help="such a file: try its changes instead of new ones")
    options = parser.parse_args()
    wanted = None
    if options.again:
        saved = json.loads(options.again.read_text())
        wanted = {(change["path"], change["function"], change["old"], change["new"]) for change in saved}
    rows, unnoticed = [], []
    for room in options.room or ROOMS:
        changes = [change for change in changes_of(room, ROOT) if options.within in change.path]
        if wanted is None:
            changes = drawn(changes, options.count, options.seed)
        else:
            changes = [c for c in changes if (c.path, c.function, c.old, c.new) in wanted]
        if changes:
            left = tried(room, changes, options)
            rows.append((room, len(changes), len(left)))
            unnoticed += left
            if options.save:
                options.save.write_text(json.dumps([asdict(change) for change in unnoticed], indent=1))
    print("\n".join(["", *(shown(change, ROOT) for change in unnoticed), ""]))
    rows.append(("all", sum(made for _, made, _ in rows), len(unnoticed)))
    print(f"{'room':12} {'made':>5} {'noticed':>8} {'%':>5}")
    for room, made, left in rows:
        print(f"{room:12} {made:5} {made - left:8} {100 * (made - left) / max(made, 1):5.0f}")


if __name__ == "__main__":
    main()
