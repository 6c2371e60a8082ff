"""Build the notebooks a learner opens from the one text file a person edits.

    notebooks/src/02_vit.py  ->  notebooks/02_vit.ipynb      English edition
                             ->  notebooks/ja/02_vit.ipynb   Japanese edition, once it is translated
    notebooks/src/index.toml ->  notebooks/INDEX.md          the index of terms, see tools/course_index.py

    python tools/build_notebooks.py                     build every chapter
    python tools/build_notebooks.py 02_vit              build one
    python tools/build_notebooks.py --check             write nothing; list what is stale and fail
    python tools/build_notebooks.py --adopt NOTEBOOK    bring edits made in JupyterLab back into the source
    python tools/build_notebooks.py --repository https://github.com/OWNER/NAME
                                                        for who publishes the course there, see publishing.py

A source is jupytext's py:percent.  Every cell names itself, and text stands once per language:

    # %% [markdown] id="intro" lang="en"
    # %% [markdown] id="intro" lang="ja" of="<hash of the English text>"
    # %% id="setup"

Code stands once and both editions share it, so they cannot drift apart.  When the English text changes, the
hash no longer fits and the build stops until somebody has looked at the translation.  The same source gives
the same bytes on every machine; a built notebook holds no outputs and no widget state.

Below its title every notebook gets a cell that no source has: where the course is not installed, on Colab
say, it brings the course (vlmcourse/away.py); elsewhere it does nothing.
"""

import argparse
import ast
import hashlib
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from course_index import Index, Source
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from publishing import AWAY, Address, address_given, address_in, away_cell, published, unpublished

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHAPTER = re.compile(r"\d\d_[a-z0-9_]+")
CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CELL_OPTIONS = {"id", "lang", "of", "tags", "lines_to_next_cell"}  # the last one is jupytext's own
TAGS = {"raises-exception"}  # the run goes on behind a cell that is meant to fail
MARKER = re.compile(r"# ?%%( |$)")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class BuildError(Exception):
    """What is wrong with a source or a notebook, one line per problem."""

    def __init__(self, where: Path | None, problems: list[str]):
        name = f"{where.name}: " if where else ""  # several sources name themselves
        super().__init__("\n".join(f"{name}{problem}" for problem in problems))


def text_hash(text: str) -> str:
    """Eight hex digits that a translation quotes to say which English text it translates."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


# ---- reading a source --------------------------------------------------------------------------------------


def read_source(path: Path, stale_is_fine: bool = False) -> nbformat.NotebookNode:
    """Parse a py:percent source and check the rules of its cells.

    Raises:
        BuildError: with one line per problem, each naming its cell.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        source = jupytext.reads(text, fmt="py:percent")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        raise BuildError(
            path, [f"line {before.count(10) + 1} is not UTF-8; save the file as UTF-8"]
        ) from error
    except Exception as error:  # jupytext raises anything for options that are none
        reason = str(error).strip().split("\n")[0]
        raise BuildError(path, [f"a cell's options cannot be read ({reason})"]) from error
    problems = marker_problems(text)
    problems = problems or [
        problem for k, cell in enumerate(source.cells) for problem in cell_problems(k, cell)
    ]
    problems = problems or [*pairing_problems(source.cells), *text_problems(text, source.cells)]
    if not problems and not stale_is_fine:
        problems = translation_problems(source.cells)
    if problems:
        raise BuildError(path, problems)
    return source


def marker_problems(text: str) -> list[str]:
    """No cell at all, or lines that stand before the first."""
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if MARKER.match(line)), None)
    if first is None:
        return ['there is no cell; one begins with  # %% id="name"']
    stray = [n for n, line in enumerate(lines[:first], 1) if line.strip()]
    return [f'line {stray[0]} stands before the first cell; write  # %% id="name"  above it'] if stray else []


def text_problems(text: str, cells: list[nbformat.NotebookNode]) -> list[str]:
    """Text that is no comment, a block of code in it that does not end, code that is no Python."""
    lines, problems = text.splitlines(), []
    starts = [n for n, line in enumerate(lines, 1) if MARKER.match(line)]
    for start, end, cell in zip(starts, [*starts[1:], len(lines) + 1], cells, strict=True):
        name = f"cell {cell.metadata.id!r}"
        if cell.cell_type == "code":
            problems += [f"{name}, line {start + n}: {told}" for n, told in syntax_error(cell.source)]
            continue
        bare = [n for n in range(start + 1, end) if lines[n - 1].strip() and lines[n - 1][0] != "#"]
        problems += [f"{name}, line {n}: text is written behind '# ', to its end" for n in bare[:1]]
        if len(re.findall(r"^ *```", cell.source, flags=re.MULTILINE)) % 2:
            problems.append(f"{name}: a block that begins with ``` does not end")
    return problems


def syntax_error(code: str) -> list[tuple[int, str]]:
    """The line of a cell that is no Python, counted from 1, and why; nothing if it is Python, magics too."""
    try:
        ast.parse(TransformerManager().transform_cell(code))
    except SyntaxError as error:
        return [(error.lineno or 1, error.msg)]
    return []


def cell_problems(position: int, cell: nbformat.NotebookNode) -> list[str]:
    """What is wrong with one cell by itself."""
    options, name = cell.metadata, f"cell {cell.metadata.get('id', position + 1)!r}"
    if "id" not in options:
        first_line = cell.source.strip().split("\n")[0][:50]
        return [f'cell number {position + 1} ({first_line!r}) has no id; write  # %% id="name"']
    problems = [f"{name}: the builder's own cell has this id"] if options["id"] == AWAY else []
    if not CELL_ID.fullmatch(str(options["id"])):
        problems.append(f"{name}: an id has 1 to 64 letters, digits, '-' or '_'")
    if unknown := sorted(set(map(str, options.get("tags", []))) - TAGS):
        problems.append(f"{name}: unknown tag {', '.join(unknown)}; known are {', '.join(sorted(TAGS))}")
    if unknown := sorted(set(options) - CELL_OPTIONS):
        problems.append(f"{name}: unknown option {', '.join(unknown)}; known are id, lang, of, tags")
    if cell.cell_type == "markdown" and options.get("lang") not in ("en", "ja"):
        problems.append(f'{name}: text needs lang="en" or lang="ja", not {options.get("lang")!r}')
    if cell.cell_type == "code" and {"lang", "of"} & set(options):
        problems.append(f"{name}: code stands once for both languages; drop lang and of")
    return problems


def pairing_problems(cells: list[nbformat.NotebookNode]) -> list[str]:
    """Ids that occur twice, and translations that do not follow their English text."""
    problems, seen, before = [], set(), None
    for cell in cells:
        name = cell.metadata.id
        if language(cell) == "ja":
            if before is None or before.metadata.id != name or language(before) != "en":
                problems.append(
                    f"cell {name!r}: Japanese text must directly follow the English cell of the same id"
                )
        elif name in seen:
            problems.append(f"cell {name!r}: this id is used twice")
        seen.add(name)
        before = cell
    return problems


def translation_problems(cells: list[nbformat.NotebookNode]) -> list[str]:
    """Stale or missing translations; a chapter without a single Japanese cell has none."""
    english = {cell.metadata.id: text_hash(cell.source) for cell in cells if language(cell) == "en"}
    japanese = {cell.metadata.id: cell.metadata.get("of") for cell in cells if language(cell) == "ja"}
    if not japanese:
        return []
    missing = [f"cell {name!r}: the Japanese text is missing" for name in english if name not in japanese]
    return missing + [
        f"cell {name!r}: the English text has changed; revise the Japanese text, then write "
        f'of="{english[name]}" '
        f'(now of="{of}")'
        for name, of in japanese.items()
        if of != english[name]
    ]


def language(cell: nbformat.NotebookNode) -> str | None:
    """'en' or 'ja' for text, None for code."""
    return cell.metadata.get("lang")


# ---- building ----------------------------------------------------------------------------------------------


def build_chapter(path: Path, address: Address | None = None) -> dict[str, str]:
    """Every edition of one source: {'en': JSON text} and, once it is translated, 'ja'."""
    cells = read_source(path).cells
    editions = ["en", "ja"] if any(language(cell) == "ja" for cell in cells) else ["en"]
    chosen = {
        lang: [built_cell(cell, lang) for cell in cells if language(cell) in (None, lang)]
        for lang in editions
    }
    built = {}
    for lang, cells in chosen.items():
        place = edition_path(Path("notebooks"), path.stem, lang).as_posix()
        cells = published(cells, place, address) if address else cells
        built[lang] = as_json([*cells[:1], away_cell(address), *cells[1:]])
    return built


def built_cell(cell: nbformat.NotebookNode, lang: str) -> nbformat.NotebookNode:
    """One cell of one edition, with its source's id and, of the source's options, the tags."""
    new_cell = new_code_cell if cell.cell_type == "code" else new_markdown_cell
    tags = {"tags": list(cell.metadata.tags)} if cell.metadata.get("tags") else {}
    return new_cell(localise(cell.source, lang), id=cell.metadata.id, metadata=tags)


def localise(source: str, lang: str) -> str:
    """The few words that differ between editions: begin()'s language, and paths, as ja/ is deeper."""
    if lang == "en":
        return source
    return re.sub(r'(\bbegin\([^)\n]*\blang=)"en"', r'\1"ja"', source).replace(
        "](../assets/", "](../../assets/"
    )


def delocalise(source: str, lang: str) -> str:
    """The inverse of `localise`."""
    if lang == "en":
        return source
    return re.sub(r'(\bbegin\([^)\n]*\blang=)"ja"', r'\1"en"', source).replace(
        "](../../assets/", "](../assets/"
    )


def as_json(cells: list[nbformat.NotebookNode]) -> str:
    """A notebook in the same form in which Jupyter saves it, so that opening and saving changes nothing."""
    notebook = new_notebook(cells=cells, metadata=METADATA)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def edition_path(root: Path, name: str, lang: str) -> Path:
    """Where an edition of a chapter lies."""
    return (root if lang == "en" else root / lang) / f"{name}.ipynb"


def built_editions(root: Path, sources: list[Path], address: Address | None = None) -> dict[Path, str]:
    """Where each edition of the sources lies, and its text.

    Raises:
        BuildError: with the problems of all sources, one per line.
    """
    editions, problems = {}, []
    for path in sources:
        if not CHAPTER.fullmatch(path.stem):
            problems.append(f"{path.name}: a source is named NN_name.py, in lower case")
            continue
        try:
            chapter = build_chapter(path, address)
        except BuildError as error:
            problems += str(error).split("\n")
            continue
        editions |= {edition_path(root, path.stem, lang): text for lang, text in chapter.items()}
    if problems:
        raise BuildError(None, problems)
    return editions


def built_index(root: Path, sources: list[Path]) -> dict[Path, str]:
    """Where the index of terms lies, and its text; nothing if no source of it is here.

    Raises:
        BuildError: with the problems of its entries.
    """
    entries = root / "src" / "index.toml"
    if not entries.exists():
        return {}
    from vlmcourse.workbook.chapters import CHAPTERS

    index = Index(CHAPTERS, {path.stem: Source(path.stem, read_source(path).cells) for path in sources})
    page = index.page(entries)
    if index.problems:
        raise BuildError(entries, index.problems)
    return {root / "INDEX.md": page}


def holds(path: Path, text: str) -> bool:
    """Whether a file has exactly this text."""
    return path.exists() and path.read_bytes() == text.encode()


def build(
    root: Path, names: list[str] | None = None, check: bool = False, address: Address | None = None
) -> list[str]:
    """Write every edition that differs from what its source says, or with check=True only list them.

    Nothing is written if any source has a problem.

    Returns:
        one line per notebook that was stale, relative to root, and for the index, which is built with all of
        them.  A built notebook without a source counts as stale and is never deleted here: it may be
        somebody's work.
    """
    sources = sorted((root / "src").glob("*.py"))
    if unknown := sorted(set(names or []) - {path.stem for path in sources}):
        raise BuildError(root / "src", [f"there is no source {name}.py" for name in unknown])
    editions = built_editions(root, [path for path in sources if not names or path.stem in names], address)
    editions |= {} if names else built_index(root, sources)
    stale = [target for target, text in editions.items() if not holds(target, text)]
    for target in [] if check else stale:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(editions[target], encoding="utf-8", newline="\n")
    stale = [str(target.relative_to(root)) for target in stale]
    if not names:
        built = [
            path for path in (*root.glob("*.ipynb"), *root.glob("ja/*.ipynb")) if CHAPTER.fullmatch(path.stem)
        ]
        stale += [
            f"{path.relative_to(root)} (has no source; delete it)"
            for path in sorted(set(built) - set(editions))
        ]
    return stale


# ---- adopting edits made in JupyterLab ---------------------------------------------------------------------


def adopt(notebook_path: Path) -> list[str]:
    """Bring the cells of an edited notebook back into its source; cells of the other language stay.

    The notebook decides which cells there are and in which order.  A changed Japanese text is taken as a
    translation of the English text as it stands now, so its hash is renewed.

    Returns:
        one line per change, such as "changed: intro".  Without a change the source is not touched.
    """
    lang = "ja" if notebook_path.parent.name == "ja" else "en"
    root = notebook_path.parent.parent if lang == "ja" else notebook_path.parent
    source_path = root / "src" / f"{notebook_path.stem}.py"
    if not source_path.exists():
        raise BuildError(notebook_path, [f"there is no source {source_path}"])
    source = read_source(source_path, stale_is_fine=True)
    edited = nbformat.read(notebook_path, as_version=4)
    edited.cells = [cell for cell in edited.cells if cell.id != AWAY]
    before = {cell.metadata.id: cell for cell in source.cells if language(cell) in (None, lang)}
    others = {cell.metadata.id: cell for cell in source.cells if language(cell) not in (None, lang)}
    report, cells = [], []
    for cell in edited.cells:
        text, old = delocalise(unpublished(cell.source, lang).strip("\n"), lang), before.get(cell.id)
        if old is None or old.cell_type != cell.cell_type:
            if not text.strip():
                continue
            old = source_cell(notebook_path, cell, text, lang, taken=set(before))
            before[old.metadata.id] = old
            report.append(f"added: {old.metadata.id}")
        elif (old.source.strip("\n"), old.metadata.get("tags", [])) != (text, cell.metadata.get("tags", [])):
            report.append(f"changed: {old.metadata.id}")
        cells += updated_pair(old, others.get(old.metadata.id), text, cell.metadata.get("tags", []))
    kept = [cell.metadata.id for cell in cells]
    report += [f"removed: {name}" for name in before if name not in kept]
    if not report and kept != [cell.metadata.id for cell in source.cells]:
        report.append("changed: the order of the cells")
    if report:
        source.cells = cells
        write_source(source_path, source)
    return report


def updated_pair(cell, other, text: str, tags: list[str]) -> list[nbformat.NotebookNode]:
    """The source cells that stand for one notebook cell: itself and, next to it, the other language's."""
    changed = cell.source.strip("\n") != text
    cell.source = text
    cell.metadata.pop("tags", None)
    if tags:
        cell.metadata["tags"] = list(tags)
    if other is None or cell.cell_type == "code":
        return [cell]
    if language(cell) == "en":
        return [cell, other]
    if changed:
        cell.metadata["of"] = text_hash(other.source)
    return [other, cell]


def source_cell(where: Path, cell, text: str, lang: str, taken: set[str]) -> nbformat.NotebookNode:
    """A source cell for a notebook cell that the source does not know, under an id made from its words."""
    if cell.cell_type not in ("code", "markdown"):
        raise BuildError(where, [f"cell {cell.id!r} is a {cell.cell_type} cell; make it code or markdown"])
    if cell.cell_type == "markdown" and lang == "ja":
        raise BuildError(
            where, [f"cell {cell.id!r} is new; add it to the English edition first, then translate it"]
        )
    words = re.findall(r"[a-z0-9]+", text.lower())[:4] or [cell.cell_type]
    stem = "-".join(words)[:50]
    names = (stem if k == 1 else f"{stem}-{k}" for k in range(1, len(taken) + 2))
    name = next(name for name in names if name not in taken)
    if cell.cell_type == "code":
        return new_code_cell(text, metadata={"id": name})
    return new_markdown_cell(text, metadata={"id": name, "lang": "en"})


def write_source(path: Path, source: nbformat.NotebookNode) -> None:
    """Write a py:percent source, after making sure that reading it gives the same cells."""
    text = jupytext.writes(source, fmt="py:percent")
    again = jupytext.reads(text, fmt="py:percent")
    wanted, got = ([(c.metadata.get("id"), c.source.strip("\n")) for c in nb.cells] for nb in (source, again))
    if wanted != got:
        lost = next((w for w, g in zip(wanted, got, strict=False) if w != g), wanted[-1])
        raise BuildError(
            path, [f"cell {lost[0]!r} cannot be written as py:percent; does a line start with '# %%'?"]
        )
    path.write_bytes(text.encode())


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code is 0 when all is well and 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chapter", nargs="*", help="name of a source, such as 02_vit; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing; list what is stale and fail")
    parser.add_argument("--adopt", type=Path, metavar="NOTEBOOK", help="bring edits made in JupyterLab back")
    parser.add_argument("--root", type=Path, default=NOTEBOOKS, help="the notebooks folder")
    parser.add_argument("--repository", metavar="URL", help="where you publish the course: links for Colab")
    parser.add_argument("--branch", help="of that repository; default: main")
    options = parser.parse_args(arguments)
    try:
        address = address_in(options.root) if options.check else None  # it was built for that one
        address = address_given(options.repository, options.branch) or address
    except ValueError as problem:
        parser.error(str(problem))
    try:
        if options.adopt:
            print("\n".join(adopt(options.adopt.resolve())) or "nothing has changed")
            return 0
        lines = build(options.root, options.chapter, options.check, address)
    except BuildError as problem:
        print(problem, file=sys.stderr)
        return 1
    orphans = [line for line in lines if "has no source" in line]
    for line in lines:
        print(("stale: " if options.check or line in orphans else "built: ") + line)
    if options.check and lines:
        print("Run `make notebooks` and commit what it builds.", file=sys.stderr)
    return 1 if orphans or (options.check and lines) else 0


if __name__ == "__main__":
    sys.exit(main())
