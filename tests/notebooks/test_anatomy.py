"""Every chapter keeps the rules of its anatomy, and the rules catch a chapter that does not."""

from pathlib import Path

import pytest

from tests.notebooks.anatomy import problems

SOURCES = sorted((Path(__file__).parents[2] / "notebooks" / "src").glob("*.py"))

EXERCISE = "@exercise(vit.part)\ndef part(x):\n    raise NotImplementedError"


def chapter() -> list[tuple[str, str]]:
    """The cells (kind, source) of a chapter that keeps every rule."""
    sentence = "A sentence of exactly ten words stands here for prose. "
    return [
        ("text", "# Vision transformers\n\n45 minutes; runs on two CPU cores, faster on a GPU."),
        ("text", "## Where we are\n\n![the model, this part lit](../assets/eye.svg)"),
        ("text", "## After this you can\n\n- cut an image into patches"),
        ("code", 'from vlmcourse.workbook import begin\nbegin("02_vit", lang="en")'),
        *[("text", f"## Section {k}\n\n" + sentence * 10) for k in range(20)],
        *[("code", EXERCISE)] * 5,
        *[("code", "assert 1 + 1 == 2")] * 5,
        ("code", '%matplotlib inline\nfig, ax = plt.subplots()\nfigure(fig, alt="one line that rises")'),
        ("text", "## Recap\n\n" + sentence),
        ("text", "## Quiz"),
        *[("code", 'quiz("02_vit/1", "Why?", [("because", True, "yes")])')] * 3,
        ("text", "## References\n\nDosovitskiy et al. 2021.\n\n**Next:** [CNN or ViT?](03_cnn_vs_vit.ipynb)"),
    ]


@pytest.fixture
def check(tmp_path):
    def write(cells, name="02_vit"):
        path = tmp_path / "notebooks" / "src" / f"{name}.py"
        for folder in (path.parent, tmp_path / "assets"):
            folder.mkdir(parents=True)
        (tmp_path / "assets" / "eye.svg").touch()
        parts = []
        for k, (kind, source) in enumerate(cells):
            lines = source if kind == "code" else "\n".join(f"# {line}" for line in source.split("\n"))
            parts.append(f'# %% {"" if kind == "code" else "[markdown] "}id="c{k}" lang="en"\n{lines}\n')
        path.write_text("\n".join(parts))
        return problems(path)

    return write


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_chapter_keeps_the_rules(path):
    assert problems(path) == []


def test_good_chapter_has_no_problems(check):
    assert check(chapter()) == []


def replaced(old, new):
    return lambda cells: [(kind, source.replace(old, new)) for kind, source in cells]


def without(text):
    return lambda cells: [cell for cell in cells if text not in cell[1]]


def plus(*sources, kind="code"):
    return lambda cells: [*cells[:-1], *[(kind, source) for source in sources], cells[-1]]


BROKEN = {
    "no heading or call with 'Recap'": without("## Recap"),
    "the parts must come in the order": lambda cells: [*cells[:2], cells[3], cells[2], *cells[4:]],
    "the first cell lacks the minutes": replaced("45 minutes", "an hour"),
    "the first cell lacks what runs on CPU": replaced("two CPU cores, faster on a GPU", "anything"),
    "promises 90 minutes; reading, exercises and cells take 44": replaced("45 minutes", "90 minutes"),
    "cells, must be 40 to 80": plus(*["x = 1"] * 45),
    "words of prose, must be 1500 to 3000": without("Section 1"),
    "a code cell of 31 lines": plus("x = 1\n\n" * 31),
    "code cells have a median of 10 lines": plus(*["x = 1\n" * 10] * 18),
    "a tenth of the code cells": plus(*["x = 1\n" * 25] * 4),
    "a code line of 101 letters": plus("x = '" + "y" * 95 + "'"),
    "0 exercises, must be 3 to 10": replaced("@exercise", "@other"),
    "0 cells with an assert": replaced("assert 1 + 1 == 2", "x = 'assert'"),
    "2 cells call begin()": plus('begin("02_vit", lang="en")'),
    "the setup cell has 7 lines": replaced("import begin", "import begin" + "\nimport torch" * 5),
    "the setup cell must say": replaced('begin("02_vit", lang="en")', 'begin("04_clip", lang="en")'),
    "0 quiz questions": replaced("quiz(", "ask("),
    "picture ../assets/eye.svg has no alt text": replaced("the model, this part lit", ""),
    "no alt text: <img": plus('<img src="x.png">', kind="text"),
    "a figure without alt=": replaced('alt="one line that rises"', "'one line'"),
    "a colour without a role: #0072B2": plus("figure(fig, alt='x', color='#0072B2')"),
    "a colour without a role: 'gray'": plus("ax.plot(x, color='gray'); figure(fig, alt='x')"),
    "letters in another colour than ink: set_title('x', color=roles.text": plus(
        "ax.set_title('x', color=roles.text); figure(fig, alt='x')"
    ),
    "letters under 9 points: fontsize=8.5": plus("ax.set_title('x', fontsize=8.5); figure(fig, alt='x')"),
    "print where tabulate belongs: 'print({": plus("print({name: 1})"),
    "print where tabulate belongs: 'x = f": plus('x = f"{name:>22}: {share:.0%}"'),
    "print in a loop": plus("for k in range(9):\n    if k:\n        print(k)"),
    "clear_output in": plus("from IPython.display import clear_output"),
    "the last cell has no link to 03_cnn_vs_vit.ipynb": replaced("](03_cnn", "](04_cnn"),
    "there is no picture ../assets/ear.svg": replaced("eye.svg", "ear.svg"),
}


@pytest.mark.parametrize("told", BROKEN)
def test_broken_rule_is_named(check, told):
    assert any(told in problem for problem in check(BROKEN[told](chapter())))
