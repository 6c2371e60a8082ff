"""nano-grpo: nano-vlm practises comparing and counting, rewarded by what is true (notebook 20).

The eye stays as it is; projector and language model learn. Before each stage many new questions are looked
through, and those are asked that the model answers sometimes right and sometimes wrong. Eight answers are
drawn to each, and the divergence from nano-vlm itself is held down.

The course ships no model of it, and what all rounds together reach has not been measured.
"""

from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage

PRACTICE_ROUNDS = 16
# begin: where in the world of scenes the first round begins; draw: which round
_DATA = dict(scenes=2500, begin=500_000, kinds=("comparison", "count"), samples=8, beta=0.3)
_RATES = dict(muon=1e-3, adamw=2e-4)


def _round(number: int) -> Stage:
    data = _DATA | dict(draw=number)
    return Stage(f"round {number + 1}", steps=100, size=48, rates=_RATES, data=data, flat=0.6)


NANO_GRPO = Recipe(
    name="nano-grpo",
    family="rewarded",
    needs=("nano-vlm",),
    model=NANO_VLM.model,
    start=dict(begins="nano-vlm"),
    stages=tuple(_round(number) for number in range(PRACTICE_ROUNDS)),
)
