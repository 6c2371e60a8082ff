"""The workbook: what a notebook imports.

    begin(chapter)            set up the chapter; re-installs what you passed before
    exercise(slot)            above your function: check it, install it when right
    hint(slot), solution(slot)
    course_map(lit)           the picture of a VLM, with this chapter's part lit
    drawing(name)             the chapter's architecture, with your exercises lit
    figure(fig, alt)          show a matplotlib figure with a description
    budget(cpu=..., gpu=...)  sizes of a training run, by device
    quiz(name)                multiple choice with an explanation for each choice
    progress()                one row per chapter
    doctor()                  versions, device, memory, and how to mend what is missing

Heavy modules load when a function needs them.
"""

from vlmcourse.workbook.doctor import doctor
from vlmcourse.workbook.engine import exercise, hint, solution
from vlmcourse.workbook.lesson import begin, budget, course_map, drawing, figure, progress, quiz

__all__ = ["doctor", "exercise", "hint", "solution"]
__all__ += ["begin", "budget", "course_map", "drawing", "figure", "progress", "quiz"]
