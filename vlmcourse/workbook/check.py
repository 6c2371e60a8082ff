"""Judge a learner's function: run it on the cases of its exercise and find the most helpful true sentence.

The ladder, first match wins:

    1  it equals a slip on all cases in which it is wrong    the slip's own sentence
       (on all cases at all, where outputs are a few small numbers: many are alike by chance)
    2  it raises, or does not where it must                  the exception in one line, with its line number
    3  None · type · changed input · shape · dtype           structure, before values
    4  a broken promise                                      the promise's sentence
    5  other values                                          what is wrong, as far as it can be found out
    6  right values, but: not its own work · no gradient · dtype · device

What is found out of other values, and beside 2 and 3: the one edit of the learner's source that makes
everything right (repair.py), an argument that is not read, a changed argument for which the output would be
right, other calls (search.py), how the output resembles the right one (likeness.py), and last the first
differing element, by axis names.

This module runs inside the checker process (see worker.py) and only talks about outcomes; it installs
nothing.
"""

import contextlib
import copy
import dis
import inspect
import itertools
import math
import sysconfig
import textwrap
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmcourse.exercises.base import Exercise, Text, Unaffected, in_both
from vlmcourse.slots import Slot
from vlmcourse.workbook import likeness, outcomes
from vlmcourse.workbook.elsewhere import DeviceError, NumpyError, placed
from vlmcourse.workbook.outcomes import Outcome, Trial, equal, run, same
from vlmcourse.workbook.repair import Line
from vlmcourse.workbook.say import joined, phrase
from vlmcourse.workbook.search import by_accident, cause
from vlmcourse.workbook.words import describe, held, in_short, kind_of, number_in_short, sizes

SILENCE = Text("", "")
LIBRARIES = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(of) for of in ("stdlib", "purelib", "platlib")),
)


@dataclass
class Verdict:
    """The outcome of a check; crosses the process border as JSON."""

    status: str  # "passed", "wrong" or "todo"
    says: Text = SILENCE  # nothing when passed
    line: Line | None = None  # in the learner's code, that the sentence speaks of
    printed: str = ""  # by the learner's code, shortened
    pictures: dict[str, list] = field(default_factory=dict)  # "expected" and "got", if outputs can be shown

    def __post_init__(self):
        self.says = Text(*self.says)  # which JSON turns into a list


def judge(exercise: Exercise, answer: Callable, seed: int = outcomes.SEED) -> Verdict:
    """Check ``answer`` against the reference of ``exercise``. Never raises for what the answer does."""
    with outcomes.surroundings(exercise):
        return judged(outcomes.trial_of(exercise, Slot.changes, seed), answer)


def judged(trial: Trial, answer: Callable) -> Verdict:
    if problem := signature_problem(answer, trial):
        return Verdict("wrong", problem)
    got = []
    for case in trial.cases:
        got.append(run(answer, trial.names, case))
        if gave_up(got[-1].error):
            return Verdict("todo")
    wrong = [place for place, right in enumerate(trial.expected) if not same(got[place], right)]
    if wrong:
        return explain(answer, trial, got, wrong)
    return rejection(answer, trial) or Verdict("passed")


def rejection(answer: Callable, trial: Trial) -> Verdict | None:
    """What is wrong with an answer whose values are right in every case."""
    problems = (other_keys_first, unsteady, leaves_the_work, keeps_graph, gradient_problem, fixed_dtype)
    for problem in (*problems, fixed_device):
        if found := problem(answer, trial):
            return Verdict("wrong", *found)
    return None


def passes(exercise: Exercise, answer: Callable) -> bool:
    """Whether ``judge`` would pass an answer, in less time: nobody asks what is wrong with it."""
    trial = outcomes.trial_of(exercise, Slot.changes)
    if signature_problem(answer, trial):
        return False
    cases = zip(trial.cases, trial.expected, strict=True)
    with outcomes.surroundings(exercise):
        alike = all(same(run(answer, trial.names, case), right) for case, right in cases)
        return alike and not rejection(answer, trial)


def learners(trace: types.TracebackType | None) -> list[tuple[types.TracebackType, str]]:
    """The steps of a traceback, with their files, that are neither the checker's nor a library's."""
    steps = []
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(LIBRARIES) and not file.startswith("<frozen"):
            steps.append((trace, file))
        trace = trace.tb_next
    return steps


def gave_up(error: BaseException | None) -> bool:
    """Whether the learner's own ``raise NotImplementedError`` was reached; torch raises that type, too."""
    if not isinstance(error, NotImplementedError) or not (steps := learners(error.__traceback__)):
        return False
    last = steps[-1][0]
    codes = {code.offset: code.opname for code in dis.get_instructions(last.tb_frame.f_code)}
    return last.tb_next is None and codes.get(last.tb_lasti) == "RAISE_VARARGS"


def signature_problem(answer: Callable, trial: Trial) -> Text | None:
    """Whether ``answer`` can be called like the reference at all."""
    try:
        inspect.signature(answer).bind(*trial.cases[0])
    except TypeError:
        names = ", ".join(inspect.signature(answer).parameters)
        return phrase("bad_signature", got=f"({names})", right=f"({', '.join(trial.names)})")
    except ValueError:  # a builtin without a signature: calling it will tell
        pass
    return None


def explain(answer: Callable, trial: Trial, got: list[Outcome], wrong: list[int]) -> Verdict:
    """The most specific sentence about an answer that is wrong in the cases numbered ``wrong``."""
    mine, right, axes = got[wrong[0]], trial.expected[wrong[0]], trial.exercise.axes["return"]
    shown = pictures(trial.exercise, mine, right)
    every, false = dict(enumerate(got)), {place: got[place] for place in wrong}
    slip = trial.like_slip(every) or (None if trial.coarse else trial.like_slip(false))
    found = cause(answer, trial, got, wrong) if slip and by_accident(answer, slip) else None
    if slip and not (found and found[1]):
        return Verdict("wrong", in_both(slip.says), pictures=shown)
    call, line = describe(trial, wrong[0]), None
    if right.error is not None:
        name = "must_raise" if mine.error is None else "raises_other"
        says = phrase(name, right=kind_of(right.error), got=kind_of(mine.error), call=call)
        return Verdict("wrong", says)
    if mine.error is not None:
        says, line = error_sentence(mine.error, call)
    else:
        says = structure_problem(mine.value, right.value, axes)
        if not says and mine.changed != right.changed:
            changed = trial.cases[wrong[0]][trial.names.index(mine.changed)]
            name = "changed_input" if isinstance(changed, Tensor) else "changed_held"
            return Verdict("wrong", phrase(name, name=mine.changed), pictures=shown)
    if not says and (broken := broken_promise(answer, trial)):
        return Verdict("wrong", broken, pictures=shown)
    said, where = found or cause(answer, trial, got, wrong)
    values = None if says else value_problem(got, trial, wrong)
    says = joined(says or values, said, likeness.right_until(trial, wrong))
    return Verdict("wrong", says, line or where, pictures=shown)


def error_sentence(error: BaseException, call: str) -> tuple[Text, tuple[str, int] | None]:
    """One line about an exception, and the line of the learner's code it came from."""
    own = learners(error.__traceback__)
    cell = [(file, step.tb_lineno) for step, file in own if file == own[0][1]]  # not what it calls
    line = cell[-1] if cell else None
    kind = kind_of(error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return phrase("stops_python", kind=kind), line
    if isinstance(error, RecursionError):
        return phrase("recursion"), line
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return phrase("out_of_memory"), line
    first = textwrap.shorten((str(error).strip().splitlines() or [""])[0], 240, placeholder=" …")
    first = first if first.endswith((".", "?", "!")) else f"{first}."
    at = phrase("in_line", line=line[1]) if line else SILENCE
    return phrase("raises", kind=kind, at=at, error=first, call=call), line


def structure_problem(got: Any, right: Any, axes: str | tuple) -> Text | None:
    """Type, length, dtype and shape, looking into tuples, lists and dicts."""
    if got is None and right is not None:
        return phrase("returns_none")
    for mine, theirs, names, where in outcomes.parts(got, right, axes):
        if not outcomes.of_a_kind(mine, theirs):
            return phrase("wrong_type", where, got=kind_of(mine), right=kind_of(theirs))
        if not isinstance(theirs, Tensor):
            if contents(mine) != contents(theirs):
                return joined(
                    phrase("wrong_length", where, got=held(mine), right=held(theirs)), items(mine, theirs)
                )
            continue
        if says := wrong_shape(mine, theirs, names, where):
            return says
        if mine.dtype != theirs.dtype:
            return phrase("wrong_dtype", where, got=mine.dtype, right=theirs.dtype)
        if mine.device != theirs.device:
            return phrase("wrong_device", where, got=mine.device, right=theirs.device)
        if mine.layout != theirs.layout:
            return phrase("wrong_type", where, got=mine.layout, right=theirs.layout)
    return None


def items(got: Any, right: Any) -> Text | None:
    """What a list of another length lacks and what it has too many: texts, numbers, or tuples of them."""
    if not isinstance(right, list) or not all(map(is_plain, [*got, *right])):
        return None
    mine, theirs = Counter(got), Counter(right)
    lacks, extra = list((theirs - mine).elements()), list((mine - theirs).elements())
    return phrase("items", lacks=in_short(lacks), extra=in_short(extra))


def is_plain(value: Any) -> bool:
    """Whether a value is a text, a number, or a tuple of such."""
    return isinstance(value, str | int | float) or (isinstance(value, tuple) and all(map(is_plain, value)))


def wrong_shape(got: Tensor, right: Tensor, axes: str, where: str) -> Text | None:
    """Another shape, and whether the numbers are right nevertheless."""
    if got.shape == right.shape:
        return None
    words = {"got": sizes(got), "right": sizes(right), "axes": axes or "…"}
    if got.dim() == right.dim() == 1:
        return phrase("wrong_size", where, got=len(got), right=len(right))
    orders = itertools.permutations(range(got.dim())) if sorted(got.shape) == sorted(right.shape) else ()
    if any(equal(got.permute(order), right) for order in orders):
        return phrase("axes_swapped", where, **words)
    says = phrase("wrong_shape", where, **words)
    if got.numel() == right.numel() and equal(got.reshape(right.shape), right):
        return joined(says, phrase("only_shape"))
    if got.dim() and right.dim() and len(right) and (equal(got, right[0]) or equal(got, right[:1])):
        return joined(says, phrase("only_first", axis=axes.split()[0] if axes else "axis 0"))
    return says


def contents(value: Any) -> Any:
    """How much a tuple or list holds, or the keys of a dict, in whatever order; None for anything else."""
    if isinstance(value, dict):
        return value.keys()
    return len(value) if isinstance(value, tuple | list) else None


def value_problem(got: list[Outcome], trial: Trial, wrong: list[int]) -> Text:
    """Same structure, other values: NaN, a factor, a likeness, and the first difference."""
    axes = trial.exercise.axes["return"]
    mine, right = got[wrong[0]].value, trial.expected[wrong[0]].value
    exchanged = swapped_outputs(got, trial, wrong) or reordered(got, trial, wrong)
    rest = right_outputs(mine, right)
    mine, right, axes, where = outcomes.difference(mine, right, axes)
    pairs = pairs_at(where, got, trial, wrong) or [(mine, right)]
    call = phrase("the_call", call=describe(trial, wrong[0])) if trial.cases[wrong[0]] else None
    if not isinstance(right, Tensor):
        if isinstance(mine, float) and not math.isfinite(mine):
            return joined(phrase("not_finite", where, count=1, all=1), rest, call)
        says = phrase("wrong_value", where, got=in_short(mine), right=in_short(right))
        return joined(exchanged or likeness.likeness(pairs, "", where), says, rest, call)
    if right.is_floating_point():
        bad = ~mine.isfinite()
        if bad.any() and right.isfinite().all():
            return phrase("not_finite", where, count=bad.sum(), all=bad.numel())
        if not exchanged and (factor := outcomes.constant_factor(mine, right)):
            same_for_all = all(outcomes.constant_factor(a, b) == factor for a, b in pairs)
            return joined(phrase("factor", where, factor=factor), rest, None if same_for_all else call)
    if not right.dim():
        says = phrase("wrong_value", where, got=number_in_short(mine), right=number_in_short(right))
        return joined(likeness.likeness(pairs, "", where), says, rest, call)
    named = str(axes).split()
    alike = exchanged or likeness.likeness(pairs, str(axes), where)
    alike = alike or likeness.where_right(mine, right, named)
    differs = ~outcomes.close(mine, right)
    index = tuple(differs.nonzero()[0].tolist())
    names = [*named, *("axis " + str(n) for n in range(len(named), right.dim()))]
    place = ", ".join(f"{axis} {i}" for axis, i in zip(names, index, strict=False))
    words = {"place": place, "got": number_in_short(mine[index]), "right": number_in_short(right[index])}
    first = phrase("first_difference", where, count=differs.sum(), all=differs.numel(), **words)
    return joined(alike, first, rest)


def pairs_at(where: str, got: list[Outcome], trial: Trial, wrong: list[int]) -> list[tuple[Any, Any]]:
    """(got, right) of one part of the output where they differ; [] if an output has another structure."""
    pairs = []
    for mine, right in ((got[place], trial.expected[place]) for place in wrong):
        if mine.error or right.error or structure_problem(mine.value, right.value, ""):
            return []
        parts = outcomes.parts(mine.value, right.value, "")
        pairs += [(a, b) for a, b, _, there in parts if there == where and not equal(a, b)]
    return pairs


def swapped_outputs(got: list[Outcome], trial: Trial, wrong: list[int]) -> Text | None:
    """Whether a pair of outputs comes in the other order."""
    pairs = [(got[place].value, trial.expected[place].value) for place in wrong]
    if all(
        isinstance(right, tuple) and len(right) == 2 and equal(mine[::-1], right) for mine, right in pairs
    ):
        return phrase("outputs_swapped")
    return None


def reordered(got: list[Outcome], trial: Trial, wrong: list[int]) -> Text | None:
    """Whether a list in the output holds the right texts, numbers or tuples in another order."""
    mine, right = got[wrong[0]].value, trial.expected[wrong[0]].value
    for _, listed, _, where in outcomes.parts(mine, right, ""):
        plain = isinstance(listed, list) and all(
            isinstance(item, str | int | float | tuple) for item in listed
        )
        pairs = pairs_at(where, got, trial, wrong) if plain else []
        if pairs and (found := likeness.likeness(pairs, "", where)):
            return found
    return None


def right_outputs(got: Any, right: Any) -> Text | None:
    """Which of several outputs are right."""
    if not isinstance(right, tuple | dict):
        return None
    keys = list(right) if isinstance(right, dict) else getattr(right, "_fields", range(len(right)))
    values = right.values() if isinstance(right, dict) else right
    mine = [got[key] for key in right] if isinstance(right, dict) else got
    good = [f"output[{key!r}]" for key, a, b in zip(keys, mine, values, strict=True) if equal(a, b)]
    return phrase("right_outputs", names=", ".join(good)) if good else None


def broken_promise(answer: Callable, trial: Trial) -> Text | None:
    for promise in trial.exercise.unaffected:
        with contextlib.suppress(Exception):  # the promise is made for outputs of the right shape
            if breaks(promise, answer, trial):
                return in_both(promise.says)
    return None


def breaks(promise: Unaffected, answer: Callable, trial: Trial) -> bool:
    for case in trial.cases:
        changed = promise.change(copy.deepcopy(case))
        if changed is None:
            continue
        before, after = run(answer, trial.names, case), run(answer, trial.names, changed)
        if before.error or after.error or not equal(promise.keep(before.value), promise.keep(after.value)):
            return True
    return False


def other_keys_first(answer: Callable, trial: Trial) -> tuple[Text] | None:
    """Whether the keys of a dict stand in another order, where the exercise asks for one."""
    for case, right in zip(trial.cases, trial.expected, strict=True) if trial.exercise.ordered else ():
        got = run(answer, trial.names, case).value
        for mine, theirs, _, where in outcomes.parts(got, right.value, ""):
            if isinstance(theirs, dict) and list(mine) != list(theirs):
                orders = {"got": in_short(list(mine)), "right": in_short(list(theirs))}
                return (phrase("other_keys_first", where, **orders),)
    return None


def unsteady(answer: Callable, trial: Trial) -> tuple[Text] | None:
    """Whether a second call with the same arguments gives something else."""
    again = same(run(answer, trial.names, trial.cases[0]), trial.expected[0])
    return None if again else (phrase("unsteady"),)


def leaves_the_work(answer: Callable, trial: Trial) -> tuple[Text] | None:
    """Whether an answer calls what the exercise is to build."""
    with outcomes.Operations() as operations:
        run(answer, trial.names, trial.cases[0])
    if found := operations.seen.intersection(trial.exercise.without):
        return (phrase("leaves_the_work", name=found.pop().removeprefix("aten::")),)
    return None


def keeps_graph(answer: Callable, trial: Trial) -> tuple[Text] | None:
    """Whether the output holds the graph that it was made with, where nothing will follow it."""
    value = run(answer, trial.names, trial.cases[0]).value if trial.exercise.no_graph else None
    held = any(tensor.requires_grad for tensor in outcomes.floats_of(value))
    return (phrase("keeps_graph"),) if held else None


def gradient_problem(answer: Callable, trial: Trial) -> tuple[Text, Line | None] | None:
    """Whether the gradient reaches every argument it must reach, with the reference's value."""
    for place, case in enumerate(trial.cases if trial.exercise.gradient else []):
        right = trial.gradients(trial.reference, case)
        try:
            got = trial.gradients(answer, case)
        except Exception as error:
            says, line = error_sentence(error, describe(trial, place))
            return joined(phrase("needs_gradient"), says), line
        for name, slopes in right.items():
            if slopes is not None and got.get(name) is None:
                return phrase("no_gradient", name=name), None
            if slopes is not None and not equal(got[name], slopes):
                return phrase("wrong_gradient", name=name), None
    return None


def fixed_dtype(answer: Callable, trial: Trial) -> tuple[Text, Line | None] | None:
    """An answer must follow the dtype of its input; bfloat16 is coarse, so there only the dtypes count."""
    for case in trial.cases:
        for dtype, alike in ((torch.float64, same), (torch.bfloat16, outcomes.same_dtypes)):
            given = outcomes.convert(case, lambda t, to=dtype: t.to(to) if t.is_floating_point() else t)
            right, got = (run(function, trial.names, given) for function in (trial.reference, answer))
            if right.error is None and not alike(got, right):
                return dtype_problem(got, right, trial.exercise.axes["return"], str(dtype)[len("torch.") :])
    return None


def dtype_problem(got: Outcome, right: Outcome, axes: str | tuple, dtype: str) -> tuple[Text, Line | None]:
    says = phrase("fixed_dtype", dtype=dtype)
    if got.error is not None:
        error, line = error_sentence(got.error, f"the same in {dtype}")
        return joined(says, error), line
    return joined(says, structure_problem(got.value, right.value, axes)), None


def fixed_device(answer: Callable, trial: Trial) -> tuple[Text, Line | None] | None:
    """An answer must make its tensors where its input is, and leave its output there."""
    for case in trial.cases:
        try:
            if placed(answer, case) not in (placed(trial.reference, case), []):
                return phrase("fixed_device"), None
        except DeviceError as error:
            made = [(file, line) for file, line in error.made if not file.startswith(LIBRARIES)]
            says = phrase("numpy_elsewhere" if isinstance(error, NumpyError) else "fixed_device")
            return says, made[0] if made else error_sentence(error, "")[1]
    return None


def pictures(exercise: Exercise, mine: Outcome, right: Outcome) -> dict[str, list]:
    """The right output and the learner's as small pictures, if both can be drawn and look different."""
    drawn = {}
    for name, outcome in {"expected": right, "got": mine}.items() if exercise.picture else ():
        try:
            array = torch.as_tensor(exercise.picture(outcome.value)).detach().float()
        except Exception:  # an output of the wrong shape cannot be drawn; the sentence says so
            return {}
        if not array.numel() or array.dim() not in (2, 3) or (array.dim() == 3 and array.shape[-1] != 3):
            return {}
        drawn[name] = array[:64, :128]
    if not drawn or drawn["expected"].equal(drawn["got"]) or not drawn["got"].isfinite().all():
        return {}
    return {name: array.tolist() for name, array in drawn.items()}
