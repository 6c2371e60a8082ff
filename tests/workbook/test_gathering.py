"""Saved files become one file: each thing once, in the order of the data, and nothing of them is lost."""

from pathlib import Path

import pytest

from vlmcourse.workbook.gathering import OTHER, SECTIONS, gather, section_of
from vlmcourse.workbook.portfolio import Saved


def gathered(answers, order=()):
    """The text of the file, and what it defines."""
    text = gather({name: Saved(Path(f"{name}.py"), code) for name, code in answers.items()}, order)
    held = {}
    exec(compile(text, "my_vlm.py", "exec"), held)
    return text, held


def body_of(text):
    """What stands between the head of the file and its table."""
    return text.partition("annotations\n")[2].partition("MY_CODE")[0]


def test_the_part_of_a_slot_is_told_by_its_beginning():
    parts = {"pixels.x": "picture", "vit.x": "vision encoder", "frames.x": "words", "losses.x": "training",
             "generation.x": "language model", "fusion.x": "connector", "vitality.x": OTHER,
             "x.vit.": OTHER}  # fmt: skip
    assert {name: section_of(name) for name in parts} == parts
    assert next(iter(SECTIONS)) == "picture" and OTHER not in SECTIONS


def test_parts_follow_the_data_then_the_given_order_then_the_courses():
    names = ["my.own", "language.causal_mask", "vit.add_class_and_positions", "vit.patchify", "language.rope"]
    names.append("retrieval.recall")
    answers = {name: f"def {name.split('.')[1]}(x):\n    return x\n" for name in names}
    text, held = gathered(answers, ["language.rope", "no.answer", "language.rope", "retrieval.recall"])
    first = ["vit.patchify", "vit.add_class_and_positions", "language.rope", "language.causal_mask"]
    assert list(held["MY_CODE"]) == [*first, "retrieval.recall", "my.own"]
    assert "# my.own, chapter ?\n" in text and "# vit.patchify, chapter 02_vit\n" in text
    assert text.count(f" {OTHER} ---") == text.count(" language model ---") == text.count("def rope") == 1
    assert text.count('"language.rope": rope,') == 1


SHARED = '"""Of a file."""\n\nfrom __future__ import annotations\nimport os.path\nimport torch as t\n' \
         "from math import sqrt, pi as PI\nimport math\n\nSIZE, (LOW, HIGH) = 3, (4, 5)\n\n\n"  # fmt: skip


def test_what_two_answers_share_stands_once_and_a_docstring_of_a_file_nowhere():
    answers = {
        "vit.one": f"{SHARED}def one(x):\n    '''Mine.'''\n    return sqrt(x) * SIZE * LOW * HIGH * PI\n",
        "vit.two": f"{SHARED}def two(x):\n    return math.sqrt(x), os.path.sep, t.ones(2), one\n",
    }
    answers["vit.two"] = answers["vit.two"].replace(
        "def two", answers["vit.one"].partition("5)\n\n\n")[2] + "\n\ndef two"
    )
    text, held = gathered(answers)
    assert text.count("SIZE, (LOW") == text.count("def one") == text.count("import torch as t") == 1
    assert text.count("from math import") == text.count("from __future__") == 1
    assert "Of a file" not in text and "Mine." in text
    assert held["MY_CODE"]["vit.one"](4.0) == pytest.approx(2 * 60 * 3.14159265)
    assert held["MY_CODE"]["vit.two"](9)[0] == 3
    head = text.partition("annotations\n")[2].split("\n\n")[0].strip().splitlines()
    assert head == sorted(head) and len(head) == 4


def test_an_answer_that_another_one_defines_is_told_to_stand_above():
    one = "def one(x):\n    return x + 1\n"
    text, held = gathered({"vit.two": f"{one}\n\ndef two(x):\n    return one(x)\n", "vit.one": one})
    assert text.count("def one") == 1 and "# vit.one, chapter ?\n# one stands above\n" in text
    assert held["MY_CODE"]["vit.one"] is held["one"] and held["MY_CODE"]["vit.two"](1) == 2


@pytest.mark.parametrize("clash", [
    "SIZE = 2", "ONE = SIZE = 2", "import numpy as SIZE", "class SIZE:\n    real = 2",
    "def SIZE():\n    return 2",
])  # fmt: skip
def test_a_name_for_two_things_is_two_things(clash):
    text, held = gathered({
        "vit.one": "SIZE = 1\n\n\ndef one():\n    return SIZE\n",
        "vit.two": f"{clash}\n\n\ndef two():\n    return SIZE\n",
        "vit.three": "SIZE = 1\n\n\ndef three():\n    return SIZE\n",
    })  # fmt: skip
    assert held["MY_CODE"]["vit.one"]() == held["MY_CODE"]["vit.three"]() == held["SIZE"] == 1
    assert held["MY_CODE"]["vit.two"]() != 1 and held["MY_CODE"]["vit.two"] is held["vit_two"]
    assert text.count("SIZE = 1\n") == 1 and "two" not in held


def test_a_name_that_an_answer_brings_from_elsewhere_and_a_class_are_names_too():
    _, held = gathered({
        "vit.one": "from math import pi as SIZE\n\n\nclass Kept:\n    size = SIZE\n\n\n"
        "def one():\n    return Kept\n",
        "vit.two": "SIZE = 2\n\n\ndef two():\n    return SIZE\n",
        "vit.three": "vit_two = 3\n\n\ndef three():\n    return vit_two\n",
    })  # fmt: skip
    assert held["MY_CODE"]["vit.one"]() is held["Kept"] and held["Kept"].size == held["SIZE"] > 3
    assert held["MY_CODE"]["vit.two"]() == 2 and held["MY_CODE"]["vit.three"]() == 3
    assert held["vit_two"] is held["MY_CODE"]["vit.two"]


def test_decorators_belong_to_their_function():
    text = "import functools\n\n\n@functools.cache\n@functools.wraps(print)\ndef one():\n    return []\n"
    _, held = gathered({"vit.one": text})
    assert held["one"]() is held["one"]() and held["one"].__name__ == "print"


STATEMENTS = {
    "with a type": ("SIZE: int = 3", 3),
    "in several steps": ("SIZE = 1\nSIZE += 2", 3),
    "by case": ("if True:\n    SIZE = 3\nelse:\n    SIZE = 4", 3),
    "step by step": ("SIZE = []\nfor n in range(3):\n    SIZE.append(n)", [0, 1, 2]),
    "in turn": ("SIZE = 1\nTWO = SIZE + 2\nSIZE = 9\nSIZE = TWO", 3),
    "by a call": ("SIZE = {}\nSIZE.update(a=1)", {"a": 1}),
    "one of several": ("ONE = SIZE = 3", 3),
}


@pytest.mark.parametrize("how", STATEMENTS)
def test_whatever_stands_in_a_file_is_kept(how):
    """The course writes functions, classes and values down; who edits a file may write anything."""
    code, value = STATEMENTS[how]
    _, held = gathered({"vit.one": f"{code}\n\n\ndef one():\n    return SIZE\n"})
    assert held["MY_CODE"]["vit.one"]() == value


def test_what_is_no_python_is_named_by_its_file():
    with pytest.raises(ValueError, match=r"my_vlm/vit_one\.py is no Python \(.*; pass it again"):
        gathered({"vit.one": "def one(:"})
    with pytest.raises(ValueError, match="holds no function yet"):
        gathered({})
