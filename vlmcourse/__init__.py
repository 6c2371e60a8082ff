"""The VLM workbook: build a vision-language model yourself, part by part.

    slots         a function of the course that your own version can replace
    models        who may see whom (Look), attention, vision encoders, language models, connectors
    data          what every data set needs: pixels, text, conversations, packing, batches
    world         Scenes, the laboratory whose whole truth is known
    training      one visible loop, losses, stages, precision, checkpoints
    evaluation    retrieval, and whether what captions state is true
    diagnostics   where does it look, does it look at all
    interop       pretrained parts, and the same weights in other libraries
    speak         one interface to ask, grade and tune every vision-language model
    recipes       how each shipped model comes about, as data
    widgets       what you click: attention maps, scenes, quizzes, live plots
    exercises     cases, slips and hints of every exercise, chapter by chapter
    workbook      what a notebook imports: begin, exercise, hint, solution, quiz, progress
    families      what carries out the recipes, loads and measures shipped models

Importing this package loads nothing but the standard library.
"""

from vlmcourse.moved import keep_old_names

__version__ = "0.1.0"

keep_old_names()
