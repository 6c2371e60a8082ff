"""What a notebook calls around its exercises: begin, course_map, drawing, budget, figure, quiz, progress."""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from vlmcourse.exercises.base import all_exercises, all_quizzes
from vlmcourse.widgets import stills
from vlmcourse.workbook import engine, portfolio
from vlmcourse.workbook.card import Card, number_of
from vlmcourse.workbook.chapters import CHAPTERS

LANGUAGES = ("en", "ja")
FIGURES = Path(__file__).resolve().parents[2] / "assets" / "figures"


def begin(chapter: str, lang: str = "en") -> None:
    """Set up a chapter: language, seed, plot style, the checker, and the functions you passed before.

    Raises:
        ValueError: for a chapter or language the course does not have.
    """
    names = [c.name for c in CHAPTERS]
    if chapter not in names:
        raise ValueError(f"no chapter {chapter!r}; the chapters are {', '.join(names)}")
    if lang not in LANGUAGES:
        raise ValueError(f"no edition in {lang!r}; there is {' and '.join(LANGUAGES)}")
    engine.checker.start()
    engine.language = lang
    torch.manual_seed(0)
    plot_style()
    try:
        installed, complaints = engine.reinstall()
        others = portfolio.strangers()
    except OSError as error:
        installed, complaints, others = [], [str(error)], []
    engine.checker.ready()  # so that the first check is as quick as all others
    lines = [engine.tell("runs_on", device=device_words())]
    if installed:
        lines.append(engine.tell("your_code", slots=", ".join(installed)))
    if others:
        complaints.append(engine.tell("left_alone", files=", ".join(others)))
    Card("plain", engine.tell("ready", chapter=chapter), lines + complaints).show()


def device() -> str:
    """The device training runs on: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_words() -> str:
    kind = device()
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return "Apple GPU" if kind == "mps" else f"CPU, {number_of(torch.get_num_threads(), 'thread')}"


def plot_style() -> None:
    """One style for all figures: the course's colours, no clutter, readable at 100 %."""
    import matplotlib

    colours = matplotlib.cycler(color=[stills.TEXT, stills.IMAGE, stills.GOOD, stills.ACCENT])
    matplotlib.rc("axes", prop_cycle=colours, titlesize=10, labelsize=9)
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("font", size=9)
    matplotlib.rc("figure", dpi=110)
    matplotlib.rc("image", cmap="cividis")
    matplotlib.rc("legend", frameon=False)
    matplotlib.rc("text", color=stills.INK)


@dataclass(repr=False)
class Described:
    """A figure with its description, for people who see it and people who hear it."""

    data: bytes
    width: int
    alt: str
    kind: str = "png"

    def _repr_html_(self) -> str:
        source = f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"
        style = "background:white;border-radius:6px;max-width:100%"
        return f'<img alt="{html.escape(self.alt)}" style="{style}" width="{self.width}" src="{source}">'

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"


def figure(fig, alt: str) -> None:
    """Show a matplotlib figure, and close it, so that the notebook does not show it twice.

    Args:
        alt: what the figure shows, in a sentence, for screen readers and text output.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if not alt.strip():
        raise ValueError("a figure needs a description: figure(fig, alt='what it shows')")
    stream = io.BytesIO()
    fig.savefig(stream, format="png", dpi=200, facecolor="white")
    plt.close(fig)
    display(Described(stream.getvalue(), round(fig.get_figwidth() * 105), alt))


def course_map(lit: str = "") -> None:
    """Show the picture of a vision-language model, with "vision", "connector", "language" or no part lit."""
    from IPython.display import display

    svg = (FIGURES / "vlm.svg").read_text(encoding="utf-8")
    if lit and f'<g id="{lit}" class="part">' not in svg:
        raise ValueError(f"the map has no part {lit!r}; there are vision, connector and language")
    style = f"<style>#{lit} rect{{fill:#ffe9b8;stroke:#D55E00;stroke-width:3}}</style>" if lit else ""
    svg = svg.replace("<defs>", f"{style}<defs>", 1)
    way = "image → vision encoder → connector → language model → answer"
    part = f", with the {lit} part lit: this chapter" if lit else ""
    alt = f"{way}; the question enters the language model{part}"
    display(Described(svg.encode(), 720, alt, "svg+xml"))


def drawing(name: str) -> None:
    """Show the architecture of a chapter, with the learner's exercises lit; tools/draw_figures.py draws them.

    Raises:
        ValueError: if there is no such drawing.
    """
    from IPython.display import display

    path = FIGURES / f"{name}.svg"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in FIGURES.glob("*.svg")))
        raise ValueError(f"no drawing {name!r}; there are {there}")
    svg = path.read_text(encoding="utf-8")
    alt = html.unescape(svg.partition("<desc>")[2].partition("</desc>")[0])
    display(Described(svg.encode(), 720, alt, "svg+xml"))


def budget(cpu: dict, gpu: dict) -> SimpleNamespace:
    """Pick the sizes of a training run by device and say which.

        budget(cpu=dict(steps=300), gpu=dict(steps=3000)).steps

    Raises:
        ValueError: if both do not name the same sizes.
    """
    if set(cpu) != set(gpu):
        differ = ", ".join(sorted(set(cpu) ^ set(gpu)))
        raise ValueError(f"cpu and gpu must name the same sizes, but differ in {differ}")
    chosen = cpu if device() == "cpu" else gpu
    sizes = ", ".join(f"{name} = {value:,}" for name, value in chosen.items())
    print(f"Budget for {device_words()}: {sizes}")
    return SimpleNamespace(**chosen)


def quiz(name: str):
    """Show a multiple-choice question by its name, such as "02_vit/1"; each choice has an explanation.

    Raises:
        LookupError: if there is no such question.
    """
    from vlmcourse.widgets.quiz import Quiz

    if name not in all_quizzes():
        raise LookupError(f"no quiz question {name!r}; there are {', '.join(all_quizzes())}")
    asked = all_quizzes()[name]
    choices = [(engine.pick(text), right, engine.pick(why)) for text, right, why in asked.choices]
    widget = Quiz(engine.pick(asked.question), choices)

    def note(change: dict) -> None:
        portfolio.note(chapter=name.split("/")[0], quiz=name, right=bool(widget.correct))

    widget.observe(note, "chosen")
    return widget


def progress() -> Card:
    """How far you are, from your diary: one row per chapter with a link to it, and one for all of them."""
    try:
        place = portfolio.workspace() / "my_vlm" / "diary.jsonl"
        diary, lines = portfolio.diary(), [engine.tell("from_diary", place=place)]
        if damaged := portfolio.damaged():
            numbers = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
            lines.append(engine.tell("damaged_lines", count=len(damaged), numbers=numbers))
    except OSError as error:
        diary, lines = [], [engine.tell("no_diary", error=error)]
    passed = {event.get("slot") for event in diary if event.get("status") == "passed"}
    right = {event.get("quiz") for event in diary if event.get("right")}
    exercises = [(task.chapter, name in passed) for name, task in all_exercises().items()]
    quizzes = [(name.split("/")[0], name in right) for name in all_quizzes()]
    rows, complete = [], 0
    for chapter in CHAPTERS:
        if not chapter.ready:
            rows.append([chapter.name, engine.tell("to_come"), ""])
            continue
        done = [is_passed for place, is_passed in exercises if place == chapter.name]
        bar = "█" * sum(done) + "░" * (len(done) - sum(done))
        answered = [is_right for place, is_right in quizzes if place == chapter.name]
        rows.append([chapter.name, f"{bar} {_share(done)}", _share(answered)])
        complete += all(done)
    total = [is_passed for _, is_passed in exercises]
    rows.append([engine.tell("in_all"), _share(total), _share([is_right for _, is_right in quizzes])])
    numbers = {"passed": sum(total), "exercises": len(total), "complete": complete}
    title = engine.tell("so_far", **numbers, chapters=sum(chapter.ready for chapter in CHAPTERS))
    header = [engine.tell(name) for name in ("chapter", "exercises_passed", "quizzes_right")]
    return Card("plain", title, lines, table=(header, rows), links=_addresses())


def _share(done: list[bool]) -> str:
    return f"{sum(done)}/{len(done)}"


def _addresses() -> dict[str, str]:
    """The chapters' notebooks as seen from the one that runs; the Japanese edition lies one folder deeper."""
    addresses = {}
    for chapter in CHAPTERS:
        for address in (f"../{chapter.name}.ipynb", f"{chapter.name}.ipynb"):  # of two, the nearer
            if Path(address).is_file():
                addresses[chapter.name] = address
    return addresses
