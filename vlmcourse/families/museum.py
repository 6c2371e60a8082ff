"""A museum of broken training runs (notebook 14): see the symptom, find the cause, repair the run.

    Setup       the configuration of one small run, as plain data and small functions
    Findings    what was measured of it: what the log shows, and the model, rows and features for tools
    Exhibit     a broken setup, its symptom, and what tells a repair from a change that only hides it
    repaired    run an exhibit again with changes: green only if its cause is gone
    beside      its measures, beside those of a run that works

Its six modules:

    museum.py           Setup, Findings, Exhibit, repaired, beside
    museum_tuning.py    Tuning: a small LLaVA learns to answer
    museum_flamingo.py  LookingBack, Interleaving: several pictures in one text
    museum_runs.py      Loading, Asking, Describing, Comparing
    museum_mistakes.py  functions as people wrote them, each with a mistake
    museum_exhibits.py  EXHIBITS, CAUSES, diagnosed

Every run is made of the course's own parts; what is broken in it stands in its setup, and nowhere else. Each
takes seconds of one CPU core.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from torch import Tensor, nn


@dataclass
class Findings:
    """What is known of a run when it has ended."""

    seen: dict[str, float] = field(default_factory=dict)  # the table beside the exhibit
    losses: list[float] = field(default_factory=list)  # of each step
    gradient_norms: list[float] = field(default_factory=list)
    said: list[tuple[str, str, str]] = field(default_factory=list)  # what was asked, answered, and right
    stopped: str = ""  # the error that ended it
    # for tools: gradient_report, LabelInspector, swaps and so on
    model: nn.Module | None = field(default=None, repr=False)
    rows: Any = field(default=None, repr=False)
    features: Tensor | None = field(default=None, repr=False)
    # what repaired() looks at, measured on the parts of the run and not on its outcome
    probes: dict[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Setup:
    """Configuration of one run; a subclass says of what, and carries it out."""

    def carry_out(self) -> Findings:
        """Run it. The same setup gives the same findings on one machine."""
        raise NotImplementedError


class Decoy(NamedTuple):
    """A change that does not repair, and what to say to whoever tries it."""

    changes: Mapping[str, Any]
    says: str
    hides: bool = False  # whether the symptom goes

    def tried(self, broken: Setup, setup: Setup) -> bool:
        """Whether a setup was changed in this way: numbers in the same direction, all else to the same."""
        return all(
            _alike(getattr(broken, name), to, getattr(setup, name)) for name, to in self.changes.items()
        )


def _alike(before: Any, decoy: Any, now: Any) -> bool:
    if any(type(value) not in (int, float) for value in (before, decoy, now)):
        return now == decoy
    return (now - before) * (decoy - before) > 0


Complaint = Callable[[Findings], str]  # a sentence, or "" if there is nothing to complain about


@dataclass(frozen=True)
class Exhibit:
    """A broken run. What gives the answer away is not in its repr."""

    name: str
    symptom: str  # as a person would report it
    broken: Setup
    cause: str = field(repr=False)  # one of CAUSES, see museum_exhibits.py
    ill: Complaint = field(repr=False)  # whether the symptom is there
    left: Complaint = field(repr=False)  # what of the cause is left, whatever the symptom
    repair: Mapping[str, Any] = field(repr=False)  # one of the changes that are right
    decoys: tuple[Decoy, ...] = field(repr=False)
    clue: str = field(repr=False)  # what is to be found
    tool: str = field(repr=False)  # and with what
    source: str = field(repr=False)  # where it happened to somebody

    def changed(self, **changes: Any) -> Setup:
        """The broken setup with changes.

        Raises:
            ValueError: if the setup has no such field; names those that there are.
        """
        there = [part.name for part in fields(self.broken)]
        if unknown := [name for name in changes if name not in there]:
            raise ValueError(f"this run has no {unknown[0]!r}; what can be changed is {', '.join(there)}")
        return replace(self.broken, **changes)

    def code(self) -> str:
        """The broken setup: functions that are not those of a run that works, and all plain settings."""
        usual = type(self.broken)()
        own = [getattr(self.broken, part.name) for part in fields(usual)]
        written = [
            f"{part.name} = {mine.__name__}\n\n{inspect.getsource(mine)}"
            for part, mine in zip(fields(usual), own, strict=True)
            if callable(mine) and mine is not getattr(usual, part.name)
        ]
        plain = [
            f"{part.name} = {mine!r}"
            for part, mine in zip(fields(usual), own, strict=True)
            if mine is None or isinstance(mine, int | float | str)
        ]
        return "\n\n".join([*written, ", ".join(plain)])


class Ruling(NamedTuple):
    """Whether a repair, or a diagnosis, is right; and why."""

    right: bool
    says: str
    findings: Findings | None = None  # of the run with the changes

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.says}"


def repaired(exhibit: Exhibit, **changes: Any) -> Ruling:
    """Run an exhibit with changes, and say whether that repaired it; see weigh.

    Args:
        changes: fields of the exhibit's setup, and their new values.

    Raises:
        ValueError: if the setup has no such field, or a value is one that no run can have.
    """
    setup = exhibit.changed(**changes)
    return weigh(exhibit, setup, setup.carry_out())


def weigh(exhibit: Exhibit, setup: Setup, findings: Findings) -> Ruling:
    """Whether a changed setup, of which these are the findings, is repaired.

    Right is only what removes the cause. It is looked for in the parts of the run, such as its labels, its
    mask or its weights, and not in the outcome: whoever made the symptom go and left the cause is told so.
    """
    ill, left = exhibit.ill(findings), exhibit.left(findings)
    known = " ".join(decoy.says for decoy in exhibit.decoys if decoy.tried(exhibit.broken, setup))
    if ill and left:
        says = f"Still broken. {ill} {known}"
    elif left:
        says = f"The symptom is gone, the cause is not. {known} {left}"
    elif ill:
        says = f"The cause is gone; what is wrong now is something else. {ill} {known}"
    else:
        says = f"Repaired. What it was: {exhibit.clue}"
    return Ruling(not ill and not left, f"{exhibit.name}: {' '.join(says.split())}", findings)


def beside(exhibit: Exhibit) -> dict[str, tuple[float, float]]:
    """The exhibit's measures, each with that of the same run without the mistake."""
    broken, right = (setup.carry_out().seen for setup in (exhibit.broken, exhibit.changed(**exhibit.repair)))
    return {name: (broken.get(name, math.nan), value) for name, value in right.items()}


# What an exhibit complains of is made of these


def ended(findings: Findings) -> str:
    """A complaint if the run ended with an error."""
    first, *_ = [*findings.stopped.splitlines(), ""]
    return f"It ended: {first.partition('. ')[0].rstrip(':')}." if first else ""


def below(name: str, least: float) -> Complaint:
    """A complaint if a measure is less than it should be, or if the run ended."""

    def complain(findings: Findings) -> str:
        value = findings.seen.get(name, math.nan)
        low = f"{name}: {value:.0%}; a run that works has more than {least:.0%}."
        return ended(findings) or ("" if value >= least else low)

    return complain


def far_enough(name: str, other: str, least: float) -> Complaint:
    """A complaint unless one measure is above another by so much, or if the run ended."""

    def complain(findings: Findings) -> str:
        if findings.stopped:
            return ended(findings)
        high, low = findings.seen[name], findings.seen[other]
        return "" if high - low >= least else f"{name}: {high:.2f}; {other}: {low:.2f}; hardly a difference."

    return complain


def alike(name: str, other: str, most: float) -> Complaint:
    """A complaint if one measure is above another by more; where one was not measured, there is none."""

    def complain(findings: Findings) -> str:
        high, low = findings.seen.get(name, math.nan), findings.seen.get(other, math.nan)
        return f"{name}: {high:.0%}; {other}: only {low:.0%}." if high - low > most else ""

    return complain


def incomplete(probe: str, says: str) -> Complaint:
    """A complaint if a probe is not 1; its value goes into the sentence."""
    return lambda findings: "" if findings.probes[probe] >= 0.999 else says.format(findings.probes[probe])


def present(probe: str, says: str) -> Complaint:
    """A complaint if a probe is above 0."""
    return lambda findings: "" if findings.probes[probe] <= 0.001 else says.format(findings.probes[probe])


def still(part: str, least: float) -> Complaint:
    """A complaint if the weights of a part moved by a smaller share of their size."""

    def complain(findings: Findings) -> str:
        moved = findings.probes[f"{part} moved"]
        return "" if moved > least else f"The weights of the {part} moved by {moved:.2%} of their size."

    return complain


def first_of(*complaints: Complaint) -> Complaint:
    """The first complaint that there is."""
    return lambda findings: next(filter(None, (complain(findings) for complain in complaints)), "")
