"""The course's tokenizer: byte-pair encoding on texts about scenes and on the names of drawings.

It comes before the models, which are trained with it; with the same versions of its data the file is the
same, byte for byte.
"""

from vlmcourse.data.text import VOCABULARY
from vlmcourse.recipes.recipe import Recipe, Stage

_DATA = dict(scenes=4_000, splits=("train", "novel"), drawings="train")

TOKENIZER = Recipe(
    name="tokenizer",
    family="tokenizing",
    model=dict(size=VOCABULARY),
    stages=(Stage("merges", steps=0, size=0, rates={}, data=_DATA, ships="tokenizer"),),
)
