"""lm-captions: a small LLaMA that writes short and full captions of scenes (notebooks 05 and later)."""

from vlmcourse.models.language import LlamaConfig
from vlmcourse.recipes.recipe import Recipe, Stage

_DATA = dict(scenes=30_000, captions=("short", "full"))

LM_CAPTIONS = Recipe(
    name="lm-captions",
    family="captioner",
    needs=("tokenizer",),
    model=LlamaConfig(1024, width=128, depth=4, heads=4, groups=2, tied=True),
    stages=(Stage("captions", 900, 48, dict(adamw=2e-3), _DATA, weight_decay=0.05, ships="lm-captions"),),
)
