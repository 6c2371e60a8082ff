"""The workbook: what a notebook imports.

    begin(chapter)            set up the chapter; re-installs what you passed before
    exercise(slot)            above your function: check it, install it when right
    hint(slot), solution(slot)
    course_map(lit)           the picture of a VLM, with this chapter's part lit
    drawing(name)             the chapter's architecture, with your exercises lit
    figure(fig, alt)          show a matplotlib figure with a description
    roles                     the course's colours, by what they mean
    draw_mask(ax, seen)       who may see whom, as cells of a figure
    tabulate(rows, ...)       results as a table
    keep_on_drive(folder)     copies of your work that outlast a session on Colab
    keep_weights, reuse_weights   what one chapter trained, for a later one
    budget(cpu=..., gpu=...)  sizes of a training run, by device
    quiz(name)                multiple choice with an explanation for each choice
    progress()                one row per chapter
    roadmap()                 the course as a checklist, each point with the cell that proved it
    doctor()                  versions, device, memory, and how to mend what is missing

Heavy modules load when a function needs them.
"""

from vlmcourse.workbook.card import tabulate
from vlmcourse.workbook.doctor import doctor
from vlmcourse.workbook.drive import keep_on_drive
from vlmcourse.workbook.engine import exercise, hint, solution
from vlmcourse.workbook.figures import course_map, draw_mask, drawing, figure, roles
from vlmcourse.workbook.lesson import begin, budget, progress, quiz
from vlmcourse.workbook.roadmap import roadmap
from vlmcourse.workbook.trained import keep_weights, reuse_weights

__all__ = ["doctor", "exercise", "hint", "solution", "tabulate"]
__all__ += ["course_map", "draw_mask", "drawing", "figure", "roles"]
__all__ += [
    "begin",
    "budget",
    "keep_on_drive",
    "keep_weights",
    "progress",
    "quiz",
    "reuse_weights",
    "roadmap",
]
