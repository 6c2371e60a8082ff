"""A brief says what the cases of its exercise ask for and nobody can guess."""

import functools
import inspect
import re

import jupytext
import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.notebooks.test_anatomy import SOURCES
from vlmcourse.exercises.base import Exercise, all_exercises

ALWAYS = "Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb)."


@functools.cache
def briefs() -> dict[tuple[str, str], str]:
    """The text before each stub, and the stub without its ``def`` line, by chapter and function."""
    found = {}
    for path in SOURCES:
        text = ""
        for cell in jupytext.read(path, fmt="py:percent").cells:
            if cell.metadata.get("lang") == "ja":
                continue
            if cell.cell_type == "markdown":
                text = cell.source
            elif name := re.search(r"^@exercise\(.*\)\ndef (\w+).*\n", cell.source, re.MULTILINE):
                found[path.stem, name[1]] = text + cell.source[name.end() :]
    return found


def wanted(task: Exercise) -> dict[str, str]:
    """What the cases ask for, each with the pattern that a brief says it with."""
    torch.manual_seed(20)
    cases, patterns = task.cases(), {}
    names = inspect.signature(task.slot.reference).parameters
    for name, values in zip(names, zip(*cases, strict=False), strict=False):
        if len({value.dim() for value in values if torch.is_tensor(value)}) > 1:
            patterns[f"{name} has other numbers of axes"] = r"\.\.\.|…"
        if any(callable(value) and not torch.is_tensor(value) for value in values):
            patterns[f"{name} is a function"] = r"[Cc]all"
    dtypes = {leaf.dtype for leaf in tree_leaves(cases) if torch.is_tensor(leaf)}
    if {torch.float16, torch.float64} & dtypes:
        patterns["another dtype than float32"] = r"dtype|float64"
    if task.without:
        patterns["something may not be called"] = r"[Dd]o not call"
    return patterns


def unsaid(task: Exercise, brief: str) -> list[str]:
    return [what for what, pattern in wanted(task).items() if not re.search(pattern, brief)]


@pytest.mark.parametrize("task", all_exercises().values(), ids=lambda task: task.slot.name)
def test_the_brief_says_what_nobody_can_guess(task):
    assert unsaid(task, briefs()[task.chapter, task.slot.__name__]) == []


@pytest.mark.parametrize("name", ["cnn.conv2d", "language.swiglu", "language.rope", "clip.normalise"])
def test_a_brief_that_says_nothing_is_found(name):
    assert unsaid(all_exercises()[name], "(batch, token) in, the same out")


@pytest.mark.parametrize("path", SOURCES[1:], ids=lambda path: path.stem)
def test_every_chapter_links_to_what_every_check_tries(path):
    assert path.read_text(encoding="utf-8").count(ALWAYS) == 1
