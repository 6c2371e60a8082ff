"""nano-grpo: nano-vlm practises comparing and counting, rewarded by what is true (notebook 20).

nano-vlm says "no" to "Do the circle and the star have the same colour?" without comparing, and is right four
times of five. So each question is asked about a scene and about its twin, where the answer is another; a
habit earns nothing there. Asked are those that the model answers sometimes right and sometimes wrong, and
beside them some of every other kind: there the divergence from nano-vlm keeps what nobody practises.

The eye stays as it is; projector and language model learn. Eight answers are drawn to each question.
"""

from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage

PRACTICE_ROUNDS = 12
_KEPT = ("colour", "shape", "size", "position", "existence", "relation")
# begin: where in the world of scenes the first round begins; draw: which round; keep: share of questions of
# the kinds that are only to be kept
_DATA = dict(
    scenes=1500, begin=500_000, kinds=("comparison", "count"), kept=_KEPT, keep=0.35, samples=8, beta=0.1
)
_RATES = dict(muon=1e-3, adamw=2e-4)


def _round(number: int) -> Stage:
    data = _DATA | dict(draw=number)
    return Stage(f"round {number + 1}", steps=200, size=64, rates=_RATES, data=data, flat=0.6)


_rounds = [_round(number) for number in range(PRACTICE_ROUNDS)]

NANO_GRPO = Recipe(
    name="nano-grpo",
    family="rewarded",
    needs=("nano-vlm",),
    model=NANO_VLM.model,
    start=dict(begins="nano-vlm"),
    stages=tuple(_rounds),
)
