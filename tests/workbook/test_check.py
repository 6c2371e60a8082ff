"""Hostile and plausible answers to real exercises get a true, specific sentence, and the kernel lives."""

import inspect
import shutil
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy
import pytest
import torch
from torch.nn import functional as F

from tests.workbook.learner import cell
from vlmcourse.diagnostics import gap
from vlmcourse.exercises.base import Exercise, Slip, Unaffected, all_exercises, exercise_of
from vlmcourse.models import attention, cnn, language, vit
from vlmcourse.slots import REGISTRY, Slot
from vlmcourse.workbook.check import judge
from vlmcourse.workbook.engine import check, feedback
from vlmcourse.workbook.outcomes import trial_of
from vlmcourse.workbook.search import missing_import
from vlmcourse.workbook.worker import Checker

GOOD = """
def patchify(images, size):
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // size, size, w // size, size).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(b, (h // size) * (w // size), size * size * c)
"""


def variant(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


RETURN = "    return x.reshape(b, (h // size) * (w // size), size * size * c)\n"
ANSWERS = {
    "none": (variant(RETURN, ""), "is None: is the `return` missing?"),
    "a list": (variant(RETURN, RETURN.rstrip() + ".tolist()\n"), "is a list, expected a Tensor"),
    "a NumPy array": (variant(RETURN, RETURN.rstrip() + ".numpy()\n"), "is a ndarray, expected a Tensor"),
    "a tuple": (variant(RETURN, RETURN.rstrip() + ", size\n"), "is a tuple, expected a Tensor"),
    "another dtype": (variant(RETURN, RETURN.rstrip() + ".double()\n"), "has dtype torch.float64"),
    "integers": (variant(RETURN, RETURN.rstrip() + ".long()\n"), "has dtype torch.int64"),
    "axes swapped": (
        variant(RETURN, RETURN.rstrip() + ".transpose(1, 2)\n"),
        "the axes are in another order",
    ),
    "one axis too few": (variant(RETURN, RETURN.rstrip() + "[0]\n"), "expected 2×10×48"),
    "a factor": (variant(RETURN, RETURN.rstrip() + " / 255\n"), "constant factor: every number is 0.003922"),
    "an offset": (variant(RETURN, RETURN.rstrip() + " - 0.5\n"), "first, at batch 0, patch 0, pixel 0"),
    "NaN": (variant(RETURN, "    x = x * 0 / 0\n" + RETURN), "NaN or infinite"),
    "input changed": (variant("    x =", "    images.mul_(2)\n    x ="), "changes its input images in place"),
    "input changed, right result": (
        variant(RETURN, RETURN.replace("return", "out =") + "    images.zero_()\n    return out\n").replace(
            "x.reshape(b", "x.clone().reshape(b"
        ),
        "changes its input images in place",
    ),
    "detached": (variant(RETURN, RETURN.rstrip() + ".detach()\n"), "no gradient reaches images"),
    "through NumPy": (
        variant(
            RETURN, RETURN.replace("return", "out =") + "    return torch.tensor(out.detach().numpy())\n"
        ),
        "no gradient reaches images",
    ),
    "float32 only": (variant(RETURN, RETURN.rstrip() + ".float()\n"), "not in float64"),
    "CPU only": (variant(RETURN, RETURN.rstrip() + " + torch.zeros(1, dtype=x.dtype)\n"), "device=x.device"),
    "a fixed size": (variant("size * size * c)", "48)"), "RuntimeError"),
    "an index error": (variant("    x =", "    images.shape[7]\n    x ="), "IndexError in line 4"),
    "a name error": (
        variant("    x =", "    nothing\n    x ="),
        "NameError in line 4: name 'nothing' is not defined",
    ),
    "an assert": (variant("    x =", "    assert False, 'why'\n    x ="), "AssertionError in line 4: why"),
    "wrong arguments": ("def patchify(images):\n    return images * 1\n", "must be (images, size)"),
    "too many arguments": (
        "def patchify(images, size, more):\n    return images\n",
        "must be (images, size)",
    ),
    "sys.exit": ("import sys\ndef patchify(images, size):\n    sys.exit()\n", "stops Python itself"),
    "quit": ("def patchify(images, size):\n    raise SystemExit(0)\n", "stops Python itself"),
    "interrupt": ("def patchify(images, size):\n    raise KeyboardInterrupt\n", "stops Python itself"),
    "endless recursion": (
        "def patchify(images, size):\n    return patchify(images, size)\n",
        "calls itself without end",
    ),
    "100 GB": ("def patchify(images, size):\n    return torch.ones(25, 10**9)\n", "more memory than"),
    "100 GB of list": ("def patchify(images, size):\n    return [0] * 10**13\n", "more memory than"),
    "growing memory": (
        "def patchify(images, size):\n    x = []\n    while True:\n        x.append(torch.ones(10**8))\n",
        "more memory than",
    ),
    "a crash in C": (
        "import os\ndef patchify(images, size):\n    os._exit(3)\n",
        "brought down the Python process that checks it (exit code 3)",
    ),
    "a killed process": (
        "import os\ndef patchify(images, size):\n    os.kill(os.getpid(), 9)\n",
        "brought down the Python process",
    ),
    "a generator": ("def patchify(images, size):\n    yield images\n", "is a generator, expected a Tensor"),
    "the input itself": ("def patchify(images, size):\n    return images\n", "is 2×3×8×20, expected 2×10×48"),
    "a view of the input": (
        "def patchify(images, size):\n    b, c = images.shape[:2]\n"
        "    return images.view(b, -1, size * size * c)\n",
        "a reshape alone reads across the whole image",
    ),
    "deleted inputs": (
        "def patchify(images, size):\n    del images, size\n",
        "is None: is the `return` missing?",
    ),
    "closed descriptors": (
        "import os\ndef patchify(images, size):\n    os.closerange(0, 50)\n    return images\n",
        "brought down the Python process",
    ),
    "a lock among the globals": (
        "import threading\nlock = threading.Lock()\n"
        "def patchify(images, size):\n    with lock: return images\n",
        "cannot be sent to the checker",
    ),
    "random numbers": (
        "def patchify(images, size):\n    return torch.randn(2, 10, 48)\n",
        "first, at batch 0, patch 0, pixel 0",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_answer_gets_its_sentence(name):
    source, sentence = ANSWERS[name]
    verdict = check(vit.patchify, cell(source))
    assert verdict.status == "wrong"
    assert sentence in verdict.says.en
    assert verdict.says.ja


@pytest.mark.parametrize(
    ("answer", "slot", "line"),
    [
        ("return float(normalise_answer(reply) == normalise_answer(answer))", "rewards.truth_reward",
         "from vlmcourse.evaluation.vqa import normalise_answer"),
        ("return (reply[0].isupper() and SENTENCE in instruction) * 1.0", "rewards.format_reward",
         "from vlmcourse.evaluation.rewards import SENTENCE"),
    ],
)  # fmt: skip
def test_a_name_that_has_to_be_imported_is_told_with_its_line(answer, slot, line):
    """And no other change is proposed, though with the name at hand many would do."""
    task = all_exercises()[slot]
    names = ", ".join(inspect.signature(task.slot.reference).parameters)
    says = judge(task, cell(f"def {task.slot.__name__}({names}):\n    {answer}\n")).says
    assert f"write `{line}` above the function." in says.en and f"`{line}`" in says.ja
    assert "in its place" not in says.en and "NameError in line 2" in says.en


@pytest.mark.parametrize(
    ("name", "line"), [("math", "import math"), ("F", "import torch.nn.functional as F"), ("maths", None)]
)
def test_a_module_that_has_to_be_imported_is_told_under_its_name(name, line):
    says = missing_import(
        NameError("", name=name), trial_of(all_exercises()["attention.scaled_dot_product"], 0)
    )
    assert says is None if line is None else f"write `{line}` above" in says.en


@pytest.mark.parametrize("error", [None, UnboundLocalError("", name="math"), ValueError("math")])
def test_another_error_asks_for_no_import(error):
    assert missing_import(error, trial_of(all_exercises()["attention.scaled_dot_product"], 0)) is None


def test_a_wrong_number_is_told_without_speaking_of_shapes_and_places():
    source = """
def feature_statistics(x):
    return x.norm(dim=-1).mean(), x.mean(0), x.std(0), x.new_tensor(0.25)
"""
    says = check(gap.feature_statistics, cell(source)).says.en
    assert says.startswith("output[3] is 0.25, expected 0.62")


def test_a_right_answer_passes_after_all_of_that():
    assert check(vit.patchify, cell(GOOD)).status == "passed"


def test_an_answer_may_use_helpers_and_constants_of_other_cells():
    helper = cell("def cut(x, axis, size):\n    return x.unflatten(axis, (-1, size))\n")
    source = """
def patchify(images, size):
    x = cut(cut(images, ROWS, size), ROWS + 2, size)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
"""
    assert check(vit.patchify, cell(source, cut=helper, ROWS=2)).status == "passed"


@pytest.mark.parametrize(
    "body", ["raise NotImplementedError", "...", "pass", '"""Docstring."""', "raise NotImplementedError()"]
)
def test_an_unwritten_function_is_a_todo(body):
    assert (
        check(vit.patchify, cell(f"def patchify(images, size):\n    # think\n    {body}\n")).status == "todo"
    )


def test_a_half_written_function_that_gives_up_is_a_todo():
    source = "def patchify(images, size):\n    b, c, h, w = images.shape\n    raise NotImplementedError\n"
    assert check(vit.patchify, cell(source)).status == "todo"


@pytest.mark.parametrize("thing", [3, "patchify", None, torch.nn.Linear(2, 2), lambda images, size: images])
def test_something_that_is_no_def_gets_a_sentence(thing):
    verdict = check(vit.patchify, thing)
    assert verdict.status == "wrong"
    assert verdict.says.en


def test_an_endless_loop_is_stopped_in_time():
    checker = Checker()
    checker.start()
    assert checker.check("vit.patchify", cell(GOOD)).status == "passed"
    verdict = checker.check(
        "vit.patchify", cell("def patchify(images, size):\n    while True: pass\n"), seconds=1
    )
    assert "no answer after 1 s" in verdict.says.en
    assert checker.check("vit.patchify", cell(GOOD)).status == "passed"
    checker.stop()


def test_a_check_is_bounded_by_the_cpu_time_it_uses_and_only_loosely_by_the_clock(monkeypatch):
    checker = Checker()
    waits = variant("    x =", "    if not calls:\n        calls.append(1)\n        time.sleep(2.5)\n    x =")
    answer = cell(waits, time=time, calls=[])
    assert checker.check("vit.patchify", answer, seconds=2).status == "passed"
    monkeypatch.setattr("vlmcourse.workbook.worker.PATIENCE", 1)
    assert "no answer after 2 s" in checker.check("vit.patchify", answer, seconds=2).says.en
    checker.stop()


def test_a_checker_that_cannot_start_is_not_blamed_on_the_learner(monkeypatch):
    monkeypatch.setattr("vlmcourse.workbook.worker.sys.executable", shutil.which("false"))
    assert "could not be checked" in Checker().check("vit.patchify", cell(GOOD)).says.en


def test_ten_megabytes_of_prints_are_shortened():
    verdict = check(vit.patchify, cell(variant("    x =", "    print('ab' * 5_000_000)\n    x =")))
    assert verdict.status == "passed"
    assert verdict.printed.startswith("abab")
    assert len(verdict.printed) < 1100
    assert "more characters" in verdict.printed


def test_the_line_is_the_learners_even_if_a_library_raised():
    answer = cell("def patchify(images, size):\n    x = images\n    return torch.reshape(x, (7, 7))\n")
    verdict = check(vit.patchify, answer)
    assert "in line 3" in verdict.says.en
    assert verdict.line[1] == 3


def test_pictures_of_expected_and_got_come_along():
    verdict = judge(exercise_of(vit.patchify), exercise_of(vit.patchify).slips[0].wrong)
    assert set(verdict.pictures) == {"expected", "got"}
    assert verdict.pictures["expected"] != verdict.pictures["got"]


@pytest.mark.parametrize("name", ["NaN", "detached", "input changed, right result", "one axis too few"])
def test_no_picture_is_shown_that_holds_no_numbers_or_shows_no_difference(name):
    assert judge(exercise_of(vit.patchify), cell(ANSWERS[name][0])).pictures == {}


def test_attention_with_a_swapped_result_says_so():
    answer = cell(
        "def scaled_dot_product(query, key, value, mask=None, bias=0):\n"
        "    s = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5 + bias\n"
        "    s = s if mask is None else s.masked_fill(~mask, -1e9)\n"
        "    w = s.softmax(-1)\n    return w, w @ value\n"
    )
    assert "swapped" in check(attention.scaled_dot_product, answer).says.en


def test_of_two_mistakes_at_once_the_first_is_explained_by_what_would_mend_the_first_case():
    source = """
def scaled_dot_product(query, key, value, mask=None, bias=None):
    weights = (query @ key.transpose(-2, -1)).softmax(-1)
    return weights @ value, weights
"""
    says = check(attention.scaled_dot_product, cell(source)).says.en
    assert "in line 3" in says.lower() and "wrong cases would be right" in says
    assert "/ math.sqrt(query.shape[-1])" in says


# Slots of every kind of output, made here because no chapter of today needs them all.


def made(reference, cases, axes, **more):
    """An exercise outside the course."""
    slips = [Slip(lambda *a: "no", "a"), Slip(lambda *a: "nope", "b")]
    try:
        return Exercise(Slot(reference), "02_vit", lambda: cases, slips, [], axes, **more)
    finally:
        from vlmcourse.exercises.base import EXERCISES

        EXERCISES.pop(f"test_check.{reference.__name__}", None)
        REGISTRY.pop(f"test_check.{reference.__name__}", None)


def stats(x):
    return {"mean": x.mean(0), "count": len(x)}


def number(x):
    return float(x.sum())


def words(x):
    return ["red", "circle"] * x


def sentence(x):
    return "a red circle" * x


def running_mean(x):
    return x.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)


X = torch.arange(15.0).reshape(5, 3)
OUTPUTS = [
    (stats, [(X,)], "width", lambda x: {"mean": x.mean(0)}, "keys ['mean'], expected keys ['mean', 'count']"),
    (
        stats,
        [(X,)],
        "width",
        lambda x: {"mean": x.mean(1), "count": 5},
        "output['mean'] has length 5, expected 3",
    ),
    (stats, [(X,)], "width", lambda x: {"mean": x.mean(0), "count": 4}, "output['count'] is 4, expected 5"),
    (
        stats,
        [(X,)],
        "width",
        lambda x: {"mean": x.mean(0), "count": torch.tensor(5)},
        "is a Tensor, expected an int",
    ),
    (number, [(X,)], "", lambda x: x.sum(), "is a Tensor, expected a float"),
    (number, [(X,)], "", lambda x: float(x.mean()), "the output is 7.0, expected 105.0"),
    (words, [(1,), (2,)], "", lambda x: ["red", "circle"], "has 2 items, expected 4 items"),
    (
        words,
        [(1,), (2,)],
        "",
        lambda x: ["circle", "red"] * x,
        "the output is backwards. Output[0] is 'circle', expected 'red'",
    ),
    (words, [(1,), (2,)], "", lambda x: ("red", "circle") * x, "is a tuple, expected a list"),
    (sentence, [(1,)], "", lambda x: "a blue circle", "'a blue circle', expected 'a red circle'"),
]


@pytest.mark.parametrize(("reference", "cases", "axes", "wrong", "says"), OUTPUTS)
def test_outputs_of_every_kind_are_explained(reference, cases, axes, wrong, says):
    task = made(reference, cases, {"return": axes})
    assert judge(task, reference).status == "passed"
    verdict = judge(task, wrong)
    assert verdict.status == "wrong"
    assert says in verdict.says.en


def test_an_answer_that_looks_into_the_future_is_told_so():
    def change(case):
        later = case[0].clone()
        later[:, -1] += 5
        return (later,)

    future = Unaffected("it looks at future tokens.", change, lambda out: out[:, :-1])
    task = made(
        running_mean, [(torch.randn(3, 5),)], {"return": "batch token"}, unaffected=[future], gradient=("x",)
    )
    assert judge(task, running_mean).status == "passed"
    assert (
        judge(task, lambda x: x.mean(1, keepdim=True).expand_as(x) * 1.0).says.en
        == "it looks at future tokens."
    )


def test_a_gradient_cut_in_one_branch_is_noticed():
    task = made(running_mean, [(torch.randn(3, 5),)], {"return": "batch token"}, gradient=("x",))
    verdict = judge(task, lambda x: (x.cumsum(1) - x).detach() / torch.arange(1, 6) + x / torch.arange(1, 6))
    assert "the gradient of x is not" in verdict.says.en


def test_tensors_inside_a_tuple_argument_are_named_by_their_sizes_and_watched():
    task = exercise_of(attention.extend_cache)

    def stumble(old, key, value):
        return (key, value) if old is None else old.nothing

    def overwrite(old, key, value):
        result = task.slot.reference(old, key, value)
        if old is not None:
            old[0].zero_()
        return tuple(part.clone() for part in result)

    assert "old = (2×3×5×4, 2×3×5×4), key 2×3×5×4 (batch group token part)" in judge(task, stumble).says.en
    assert "changes its input old in place" in judge(task, overwrite).says.en


CARD_SURVIVES = {
    "two axes in front": "def causal_mask(queries, keys):\n"
    "    return torch.ones(queries, keys).tril(keys - queries).bool()[None, None]\n",
    "complex": "def causal_mask(queries, keys):\n    return torch.ones(queries, keys) * 1j\n",
    "sparse": "def causal_mask(queries, keys):\n    return torch.eye(queries, keys).bool().to_sparse()\n",
    "empty": "def causal_mask(queries, keys):\n    return torch.ones(0, keys).bool()\n",
    "one number": "def causal_mask(queries, keys):\n    return torch.tensor(True)\n",
    "a class": "class Odd:\n    def __eq__(self, other): raise RuntimeError\n    __repr__ = __eq__\n"
    "def causal_mask(queries, keys):\n    return Odd()\n",
}


@pytest.mark.parametrize("name", CARD_SURVIVES)
def test_the_card_survives_an_output_of_any_rank_size_and_type(name):
    verdict = check(language.causal_mask, cell(CARD_SURVIVES[name]))
    assert verdict.status == "wrong" and verdict.says.en and verdict.says.ja
    feedback(language.causal_mask, verdict)._repr_html_()


def test_only_the_learners_own_raise_is_not_written_yet():
    body = "    return torch.zeros(2, 3) < 0.15 & ~(torch.zeros(2, 3) > 1)\n"
    verdict = check(vit.patchify, cell("def patchify(images, size):\n" + body))
    assert verdict.status == "wrong" and "in line 2" in verdict.says.en


def test_numpy_where_a_gradient_is_needed_is_blamed_on_the_learners_line():
    answer = cell(variant(RETURN, "    x = torch.tensor(x.numpy())\n" + RETURN))
    verdict = check(vit.patchify, answer)
    assert "gradient is needed" in verdict.says.en and "in line 5" in verdict.says.en


def test_an_answer_that_changes_from_call_to_call_is_not_told_of_dtypes():
    calls = []

    def forgetful(x):
        calls.append(0)
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1) + (len(calls) > 1)

    task = made(running_mean, [(torch.randn(3, 5),)], {"return": "batch token"})
    assert "a second call" in judge(task, forgetful).says.en


def test_where_the_reference_raises_the_answer_must():
    def strict(x):
        raise KeyError(x)

    task = made(strict, [("a",)], {"return": ""})
    assert judge(task, lambda x: x).says.en == "it must raise KeyError here. The call was: x = 'a'."
    assert judge(task, strict).status == "passed"


def test_a_dict_of_another_kind_is_a_dict_and_its_order_says_nothing():
    task = made(stats, [(X,)], {"return": "width"})
    assert judge(task, lambda x: OrderedDict(mean=x.mean(0), count=len(x))).status == "passed"
    assert judge(task, lambda x: {"count": len(x), "mean": x.mean(0)}).status == "passed"
    says = judge(task, lambda x: {"count": len(x), "mean": x.mean(0) + 1}).says.en
    assert "off by +1" in says and "output['mean']" in says and "Right: output['count']." in says


def test_where_the_order_of_keys_counts_the_sentence_says_so():
    task = made(stats, [(X,)], {"return": "width"}, ordered=True)
    assert judge(task, stats).status == "passed"
    says = judge(task, lambda x: {"count": len(x), "mean": x.mean(0)}).says.en
    assert "their order counts here: it is ['count', 'mean'], expected ['mean', 'count']." in says


def test_a_whole_number_is_as_good_as_the_float_it_equals_and_not_the_other_way():
    task = made(number, [(X,), (X - X,)], {"return": ""})
    assert judge(task, lambda x: int(x.sum())).status == "passed"
    assert "is a bool, expected a float" in judge(task, lambda x: bool(x.sum() < 0)).says.en
    task = made(lambda x: len(x), [(X,)], {"return": ""})
    assert "is a float, expected an int" in judge(task, lambda x: float(len(x))).says.en
    assert judge(task, lambda x: numpy.int64(len(x))).status == "passed"
    assert "is a bool" in judge(task, lambda x: numpy.bool_(True)).says.en


def test_what_a_record_holds_is_compared_field_by_field():
    @dataclass(frozen=True)
    class Note:
        key: str
        turns: tuple = ()
        place: str = field(default="", compare=False)

    task = made(lambda row: Note(row["key"], (row["said"],)), [({"key": "7", "said": "red"},)], {})
    assert judge(task, lambda row: Note("7", ("red",), place="elsewhere")).status == "passed"
    assert "output.key is '8', expected '7'" in judge(task, lambda row: Note("8", ("red",))).says.en.lower()
    assert "output.turns is a list, expected a tuple" in judge(task, lambda row: Note("7", ["red"])).says.en
    says = judge(task, lambda row: Note("7", ("a red",))).says.en
    assert says.startswith("output.turns[0] is right but for what is too much: 'a '.")
    assert "is a dict, expected a Note" in judge(task, lambda row: {"key": "7"}).says.en


def test_who_changes_a_list_or_dict_is_not_told_of_tensors():
    task = made(lambda words: len(words), [(["a", "b"],)], {})
    says = judge(task, lambda words: words.clear() or 2).says
    assert says.en == "it changes its input words in place; whoever called still needs it. Work on a copy."
    assert "テンソル" not in says.ja and "コピー" in says.ja


def test_a_list_in_another_order_is_called_that():
    task = made(lambda n: {"rows": list(range(n))}, [(4,), (5,)], {})
    says = judge(task, lambda n: {"rows": [n - 1, *range(n - 1)]}).says.en
    assert says.startswith("output['rows'] holds the right items in another order.")


def test_one_number_for_everything_is_not_said_to_be_right_for_something_else():
    task = made(lambda x, n: int(x[n]), [(torch.arange(4), 2), (torch.arange(5), 3)], {"x": "place"})
    assert "would be right for" not in judge(task, lambda x, n: 0 * int(x[n])).says.en


def test_between_a_lone_number_and_another_no_ratio_and_no_difference_is_told():
    task = made(lambda x: float(len(x)), [("a",), ("b",), ("red",)], {"return": ""})
    says = judge(task, lambda x: 0.5 if len(x) == 1 else 3.0).says.en
    assert says.startswith("the output is 0.5, expected 1.0.")
    assert "off by -2" in judge(task, lambda x: len(x) - 2.0).says.en


def test_a_factor_very_near_to_1_is_called_nearly_right():
    task = made(running_mean, [(X,)], {"return": "batch width"})
    assert judge(task, lambda x: 1.0005 * running_mean(x)).says.en.startswith("nearly right")
    assert "1.002 times" in judge(task, lambda x: 1.002 * running_mean(x)).says.en


@pytest.mark.parametrize("right", [lambda x: float(x % 2 == 0), lambda x: (x % 2, x // 4)])
def test_where_outputs_are_small_numbers_only_a_slip_that_is_alike_in_every_case_speaks(right):
    """Two wrong answers are alike there by chance wherever both are wrong."""
    task = made(right, [(n,) for n in range(5)], {"return": ""})
    task.slips[:] = [Slip(lambda x: right(2), "always that of 2.")]
    assert judge(task, lambda x: right(2)).says.en == "always that of 2."
    assert "always that of 2." not in judge(task, lambda x: right(2) if x == 1 else right(x)).says.en


def test_of_larger_numbers_a_slip_speaks_that_is_alike_where_the_answer_is_wrong():
    task = made(lambda x: 100 * x, [(n,) for n in range(5)], {"return": ""})
    task.slips[:] = [Slip(lambda x: 99 * x, "99 times.")]
    assert judge(task, lambda x: 99 * x if x > 2 else 100 * x).says.en == "99 times."


def test_gradient_and_dtype_reach_into_dicts_and_lists():
    def both(state):
        return {"sum": state["a"] + state["b"]}

    case = ({"a": torch.randn(3), "b": torch.randn(3)},)
    task = made(both, [case], {"return": "width"}, gradient=("state",))
    assert judge(task, both).status == "passed"
    assert "no gradient reaches state" in judge(task, lambda s: {"sum": (s["a"] + s["b"]).detach()}).says.en
    assert "gradient of state" in judge(task, lambda s: {"sum": s["a"] + s["b"].detach()}).says.en
    assert "not in float64" in judge(task, lambda s: {"sum": (s["a"] + s["b"]).float()}).says.en


def test_bfloat16_must_stay_what_it_is_and_may_round():
    def halves(x):
        return x @ torch.eye(len(x), dtype=x.dtype, device=x.device) / 2

    task = made(halves, [(torch.randn(3),)], {"return": "width"})
    assert judge(task, halves).status == "passed"
    assert judge(task, lambda x: (x.double() * 0.5).to(x.dtype)).status == "passed"
    assert "not in bfloat16" in judge(task, lambda x: x * 0.5 + torch.zeros(3)).says.en
    assert "not in bfloat16" in judge(task, lambda x: x / 2 if x.element_size() > 2 else x.float()).says.en


def test_a_fixed_device_is_found_where_the_reference_reads_a_value():
    def counts(x):
        return torch.zeros(int(x.max()) + 1, device=x.device).index_add(0, x, torch.ones_like(x).float())

    task = made(counts, [(torch.tensor([2, 0, 2]),)], {"return": "number"})
    assert judge(task, counts).status == "passed"
    assert judge(task, lambda x: torch.bincount(x).float()).status == "passed"
    fixed = judge(task, lambda x: torch.zeros(int(x.max()) + 1).index_add(0, x, torch.ones(len(x))))
    assert "device=x.device" in fixed.says.en


def test_a_fixed_device_is_shown_where_the_tensor_was_made_not_where_it_is_used():
    def late(x):
        own = torch.arange(len(x))
        own = own + 1
        return x * own

    task = made(
        lambda x: x * torch.arange(1, len(x) + 1, device=x.device), [(torch.ones(3),)], {"return": "number"}
    )
    fixed = judge(task, late)
    assert "device=x.device" in fixed.says.en and fixed.line == (__file__, late.__code__.co_firstlineno + 1)


def test_an_answer_that_calls_what_it_is_to_build_is_told_so():
    def by_function(images, weight, stride=1, padding=0, groups=1):
        return F.conv2d(images, weight, None, stride, padding, groups=groups)

    def by_layer(images, weight, stride=1, padding=0, groups=1):
        channels = weight.shape[1] * groups, len(weight)
        layer = torch.nn.Conv2d(*channels, weight.shape[2:], stride, padding, groups=groups, bias=False)
        return torch.func.functional_call(layer, {"weight": weight}, images)

    for answer in (by_function, by_layer):
        says = judge(exercise_of(cnn.conv2d), answer).says.en
        assert says.startswith("the values are right, but torch's convolution made them")


def test_what_differs_from_the_cases_that_are_right_is_told():
    task = made(words, [(1,), (2,), (3,)], {"return": ""})
    says = judge(task, lambda x: ["red", "circle"] * min(x, 2)).says.en
    assert "has 4 items, expected 6 items" in says and "x = 1 / 2" in says
    assert "Missing: ['red', 'circle']; too many: []." in says
    task = made(lambda n: [("row", k / 2) for k in range(n)], [(2,)], {})
    says = judge(task, lambda n: [("row", 0.5), ("row", 3), ("row", 4)]).says.en
    assert "Missing: [('row', 0.0)]; too many: [('row', 3), ('row', 4)]." in says


def test_a_long_list_of_tuples_is_shortened_in_the_call():
    task = made(lambda rows: len(rows), [([("word", number) for number in range(300)],)], {})
    says = judge(task, lambda rows: 7).says.en
    assert "rows = [('word', 0), ('word', 1)" in says and len(says) < 400


def both(x):
    return x.sum(0), x.mean(0)


LIKE = {
    "exchanged": (both, lambda x: both(x)[::-1], "the two outputs are exchanged"),
    "moved": (running_mean, lambda x: running_mean(x).roll(1, 0), "moved by one place along batch"),
    "negated": (running_mean, lambda x: -running_mean(x), "every number is -1 times the expected one"),
    "nearly equal": (
        running_mean,
        lambda x: running_mean(x) + 0.01 * running_mean(x).sin(),
        "nearly right: no number of the output is off by more than 0.01",
    ),
}


@pytest.mark.parametrize("name", LIKE)
def test_how_an_output_resembles_the_right_one_is_told(name):
    reference, wrong, says = LIKE[name]
    task = made(reference, [(X + 1,), (X.flip(0) + 2,)], {"return": "batch width"})
    assert says in judge(task, wrong).says.en


def test_of_texts_it_is_told_what_is_missing_or_too_much():
    task = made(sentence, [(2,), (3,)], {"return": ""})
    says = judge(task, lambda x: sentence(x).replace("red ", "")).says.en
    assert says.startswith("the output is right but for what is missing: ' red'.")
    says = judge(task, lambda x: "<" + sentence(x) + ">").says.en
    assert says.startswith("the output is right but for what is too much: '<', '>'.")
    assert "right but" not in judge(task, lambda x: sentence(x).replace("red", "blue")).says.en


def test_a_number_that_differs_in_every_case_explains_no_mistake():
    def decayed(x, decay):
        return x * decay

    task = made(decayed, [(torch.ones(n), 0.1 * n) for n in (2, 3, 4)], {"return": "width"})
    assert "Right are the cases" not in judge(task, lambda x, decay: x * decay * (len(x) < 4)).says.en


def test_where_it_is_right_is_told_if_the_wrong_places_stand_together():
    def plain(x):
        return x * 1.0

    def with_rows(rows):
        wrong = X.clone()
        wrong[rows] = wrong[rows].cos()
        return judge(task, lambda x: wrong).says.en

    task = made(plain, [(X,)], {"return": "token width"})
    assert with_rows([3, 4]).startswith("Right: token 0, 1, 2; wrong: token 3, 4.")
    assert with_rows([2]).startswith("Only token 2 is wrong.")
    assert "ight: token" not in with_rows([0, 2])
