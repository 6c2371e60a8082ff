"""Quiz: one question, several choices, and for each choice why it is right or wrong.

The browser judges by itself, so an answer is explained at once, with or without a kernel.
"""

import traitlets

from vlmcourse.widgets.base import Widget, script


class Quiz(Widget):
    """A multiple-choice question; any number of choices may be right, one is picked at a time.

    `chosen` is the index last checked (None before), `correct` whether it was right; both can be observed:
    `quiz.observe(lambda change: record(quiz.correct), "chosen")`.

    Args:
        question: plain text.
        choices: (text, is_right, explanation) for each choice, at least two, at least one of them right.

    Raises:
        ValueError: if a choice has another form, lacks its explanation, or none is right.
    """

    _esm = script("quiz.js")
    question = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List().tag(sync=True)
    chosen = traitlets.Int(None, allow_none=True).tag(sync=True)
    correct = traitlets.Bool(None, allow_none=True)

    def __init__(self, question: str, choices: list[tuple[str, bool, str]]):
        for number, choice in enumerate(choices):
            if len(choice) != 3 or not isinstance(choice[1], bool) or not choice[0] or not choice[2]:
                raise ValueError(
                    f"choice {number} must be (text, True or False, explanation), got {choice!r}"
                )
        right, count = sum(choice[1] for choice in choices), len(choices)
        if count < 2 or right < 1:
            raise ValueError(
                f"a quiz needs at least two choices, one of them right; got {count}, {right} right"
            )
        self.allowed = {"chosen": (range(count), None)}
        super().__init__(question=question, choices=[list(choice) for choice in choices])

    @traitlets.observe("chosen")
    def _judge(self, change):
        self.correct = None if change["new"] is None else self.choices[change["new"]][1]

    def __repr__(self) -> str:
        lines = [f"  {chr(ord('a') + i)}) {text}" for i, (text, _, _) in enumerate(self.choices)]
        return "\n".join([self.question, *lines])
