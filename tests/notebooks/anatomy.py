"""The rules of a chapter, read from its source: parts in order, sizes, alt texts, quiet cells, proofs.

    problems(path)    every broken rule as one sentence; empty for a good chapter

Rules count what a reader meets: prose without code, links and
pictures; code lines without blank ones. The cell that the builder adds to every notebook is no chapter's and
does not count here; tests/tools/test_publishing.py holds its form.
"""

import ast
import re
import statistics
from pathlib import Path

import jupytext
from IPython.core.inputtransformer2 import TransformerManager

from vlmcourse.workbook.chapters import CHAPTERS

PARTS = ["Where we are", "After this you can", "begin(", "Recap", "Quiz", "References"]
HOSTILE = ["clear_output", "interact(", "interactive(", "widgets.Output", "display_id"]  # not for nbval
WIDEST = 100  # letters of a code line that a laptop's screen shows beside the file browser
PER_100_WORDS, RUN = 2, 2  # minutes: to read, and for the cells to run
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


class Chapter:
    """A source, split into what the rules look at.

    Attributes:
        text: sources of the English text cells.
        code: sources of the code cells, magics turned into Python.
    """

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem
        cells = jupytext.read(path, fmt="py:percent").cells
        self.cells = [c for c in cells if c.metadata.get("lang") != "ja"]
        python = TransformerManager().transform_cell
        self.text = [c.source for c in self.cells if c.cell_type == "markdown"]
        self.code = [python(c.source) for c in self.cells if c.cell_type == "code"]
        self.first = self.name.startswith("00")  # teaches the workbook itself: shorter, with one exercise


def problems(path: Path) -> list[str]:
    """Every broken rule, as one sentence that names the cell's first line."""
    chapter = Chapter(path)
    rules = (order, opening, minutes, size, cell_lengths, widths, exercises, proofs, setup, quiz, alt_texts)
    rules += (quiet, pictures_exist, leads_on, colours, results)
    return [f"{chapter.name}: {problem}" for rule in rules for problem in rule(chapter)]


def order(chapter: Chapter) -> list[str]:
    """Headings, and the setup cell, stand in the order of the anatomy."""
    lines = []
    for cell in chapter.cells:
        wanted = r"^#+ .*" if cell.cell_type == "markdown" else r"^.*\bbegin\(.*"
        lines += re.findall(wanted, cell.source, flags=re.MULTILINE)
    lines = [line.lower() for line in lines]
    begins = [re.compile(rf"\b{re.escape(part.lower())}") for part in PARTS]  # "preferences" are none
    places = [next((k for k, line in enumerate(lines) if part.search(line)), None) for part in begins]
    missing = [part for part, place in zip(PARTS, places, strict=True) if place is None]
    if missing:
        return [f"no heading or call with {part!r}" for part in missing]
    return [] if places == sorted(places) else [f"the parts must come in the order {', '.join(PARTS)}"]


def opening(chapter: Chapter) -> list[str]:
    """The first cell is the title, with the minutes and what runs on which device."""
    first = chapter.text[0] if chapter.text else ""
    wanted = {"a title (# ...)": r"\A# ", "the minutes": r"\d+ min", "what runs on CPU and GPU": r"CPU|GPU"}
    lacking = [what for what, pattern in wanted.items() if not re.search(pattern, first)]
    return [f"the first cell lacks {what}" for what in lacking]


def minutes(chapter: Chapter) -> list[str]:
    """The title promises what reading, the exercises and the cells take, to five minutes."""
    needed = words(chapter) * PER_100_WORDS / 100 + RUN
    needed += sum(int(m) for m in re.findall(r"difficulty \d/5 · (\d+) min", "\n".join(chapter.text)))
    promised = re.search(r"(\d+) min", chapter.text[0]) if chapter.text else None
    if not promised or abs(int(promised[1]) - needed) <= 5:
        return []
    return [f"the title promises {promised[1]} minutes; reading, exercises and cells take {needed:.0f}"]


def words(chapter: Chapter) -> int:
    return sum(len(prose(text).split()) for text in chapter.text)


def size(chapter: Chapter) -> list[str]:
    cells, count = len(chapter.cells), words(chapter)
    low, most_cells, few_words = (20, 80, 1200) if chapter.first else (40, 80, 1500)
    found = [] if low <= cells <= most_cells else [f"{cells} cells, must be {low} to {most_cells}"]
    if not few_words <= count <= 3000:
        found.append(f"{count} words of prose, must be {few_words} to 3000")
    return found


def prose(text: str) -> str:
    """A text cell without code blocks, formulas, pictures, addresses, table rules, and the link onward."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\*\*Next:.*", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|https?://\S+|[|#*]|-{3,}", " ", PICTURE.sub(" ", text))
    return text


def cell_lengths(chapter: Chapter) -> list[str]:
    """Median at most 8 lines, nine tenths at most 20, none above 30."""
    lengths = sorted(length(code) for code in chapter.code)
    if len(lengths) < 2:
        return ["fewer than two code cells"]
    median, tenth = statistics.median(lengths), statistics.quantiles(lengths, n=10)[-1]
    longest = [code for code in chapter.code if length(code) > 30]
    found = [f"a code cell of {length(code)} lines, at most 30: {start(code)}" for code in longest]
    found += [f"code cells have a median of {median:g} lines, at most 8"] if median > 8 else []
    found += [f"a tenth of the code cells has {tenth:g} lines or more, at most 20"] if tenth > 20 else []
    return found


def widths(chapter: Chapter) -> list[str]:
    lines = [line for cell in chapter.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    wide = [line for line in lines if len(line) > WIDEST]
    return [f"a code line of {len(line)} letters, at most {WIDEST}: {line.strip()[:60]!r}" for line in wide]


def colours(chapter: Chapter) -> list[str]:
    """Colours are named by their role; letters have 9 points or more and the page's ink, dark pages' too."""
    fixed = r"(?<!cmap=)(?:#[0-9A-Fa-f]{6}\b|[\"'](?:gr[ae]y|red|blue|green|orange|black)[\"'](?=[,)\]]))"
    small = r"(?:fontsize|labelsize|titlesize)=[0-8](?:\.\d+)?\b"
    pale = r"(?:set_[xyt]\w*label|set_title|suptitle|\.text)\([^\n]*color=roles\.(?!ink)\w+"
    rules = {"a colour without a role": fixed, "letters under 9 points": small}
    rules["letters in another colour than ink"] = pale
    drawn = [code for code in chapter.code if "figure(" in code]
    return [f"{rule}: {c}" for rule, form in rules.items() for code in drawn for c in re.findall(form, code)]


def results(chapter: Chapter) -> list[str]:
    """Results stand in tables: nothing is aligned by hand, no dict is printed."""
    by_hand = r"\{\w+:>\d+|\{\w+:\d+\}|:>\d+\}|print\(\{|print\(dict\("
    return [
        f"print where tabulate belongs: {start(code)}" for code in chapter.code if re.search(by_hand, code)
    ]


def length(code: str) -> int:
    return sum(bool(line.strip()) for line in code.splitlines())


def start(code: str) -> str:
    return repr(code.strip().split("\n")[0][:60])


def exercises(chapter: Chapter) -> list[str]:
    count = sum(bool(re.search(r"^@exercise\(", code, re.MULTILINE)) for code in chapter.code)
    low, high = (1, 1) if chapter.first else (3, 10)
    return [] if low <= count <= high else [f"{count} exercises, must be {low} to {high}"]


def proofs(chapter: Chapter) -> list[str]:
    """What is claimed is asserted."""
    trees = [list(ast.walk(ast.parse(code))) for code in chapter.code]
    count = sum(any(isinstance(node, ast.Assert) for node in tree) for tree in trees)
    return [] if count >= 4 else [f"{count} cells with an assert, must be at least 4"]


def setup(chapter: Chapter) -> list[str]:
    cells = [code for code in chapter.code if re.search(r"\bbegin\(", code)]
    found = [f"{len(cells)} cells call begin(), must be 1"] if len(cells) != 1 else []
    found += [f"the setup cell has {length(c)} lines, at most 6" for c in cells if length(c) > 6]
    call = f'begin("{chapter.name}", lang="en")'
    return found + [f"the setup cell must say {call}" for c in cells if call not in c]


def quiz(chapter: Chapter) -> list[str]:
    count = sum(len(re.findall(r"^(?:\w+ = )?quiz\(", code, re.MULTILINE)) for code in chapter.code)
    return [] if count == 3 else [f"{count} quiz questions, must be 3"]


def alt_texts(chapter: Chapter) -> list[str]:
    """Every picture in text, and every figure drawn by code, says what it shows."""
    everything = "\n".join(chapter.text)
    found = [f"picture {path} has no alt text" for alt, path in PICTURE.findall(everything) if len(alt) < 10]
    tags = re.findall(r"<img\b[^>]*>", everything)
    found += [f"no alt text: {tag[:60]}" for tag in tags if "alt=" not in tag]
    draws = re.compile(r"\bplt\.(subplots|figure|plot|imshow|bar|scatter)\(")
    drawn = [code for code in chapter.code if draws.search(code)]
    return found + [f"a figure without alt=: {start(code)}" for code in drawn if "alt=" not in code]


def quiet(chapter: Chapter) -> list[str]:
    """No print in a loop, and nothing nbval cannot run."""
    hostile = [(word, code) for code in chapter.code for word in HOSTILE if word in code]
    found = [f"{word} in {start(code)}: nbval cannot run it" for word, code in hostile]
    for code in chapter.code:
        loops = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.For | ast.While)]
        calls = [node for loop in loops for node in ast.walk(loop) if isinstance(node, ast.Call)]
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            found.append(f"print in a loop: {start(code)}")
    return found


def pictures_exist(chapter: Chapter) -> list[str]:
    """Local pictures are found from the folder of the built notebook."""
    folder = chapter.path.parents[1]
    paths = [path for _, path in PICTURE.findall("\n".join(chapter.text)) if "://" not in path]
    return [f"there is no picture {path}" for path in paths if not (folder / path).is_file()]


def leads_on(chapter: Chapter) -> list[str]:
    """The last cell links to the next chapter that is here; the last chapter has none."""
    ready = [c.name for c in CHAPTERS if c.ready]
    following = ready[ready.index(chapter.name) + 1 :][:1]
    last = chapter.text[-1]
    missing = [name for name in following if f"]({name}.ipynb)" not in last]
    return [f"the last cell has no link to {name}.ipynb" for name in missing]
