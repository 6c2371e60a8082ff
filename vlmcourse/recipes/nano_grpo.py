"""nano-grpo: nano-vlm practises comparing, rewarded by what is true (notebook 20).

nano-vlm says "no" to "Do the circle and the star have the same colour?" without comparing, and is right four
times of five. So each question is asked about a scene and about its twin, where the answer is another; a
habit earns nothing there. Asked are those that the model answers sometimes right and sometimes wrong, and
beside them some of every other kind: there the divergence from nano-vlm keeps what nobody practises.

The eye stays as it is; projector and language model learn. Eight answers are drawn to each question. Three
rounds compare and count, and go over their questions four times; in the end they knew those, and of others
not much more. So the next three ask about four times as many scenes, and compare alone.
"""

from dataclasses import replace
from typing import Any

from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage

_KEPT = ("colour", "shape", "size", "position", "existence", "relation")
# begin: where in the world of scenes the first round begins; draw: which round; keep: share of questions of
# the kinds that are only to be kept
_FIRST = dict(
    scenes=1500, begin=500_000, kinds=("comparison", "count"), kept=_KEPT, keep=0.35, samples=8, beta=0.1
)
_WIDER = _FIRST | dict(scenes=6000, kinds=("comparison",), kept=(*_KEPT, "count"), keep=0.3, beta=0.2)
_ROUNDS = ((200, _FIRST),) * 3 + ((160, _WIDER),) * 3  # steps, and what is asked
_RATES = dict(muon=1e-3, adamw=2e-4)


def _round(number: int, steps: int, data: dict[str, Any]) -> Stage:
    data = data | dict(draw=number)
    return Stage(f"round {number + 1}", steps=steps, size=64, rates=_RATES, data=data, flat=0.6)


_rounds = [_round(number, *asked) for number, asked in enumerate(_ROUNDS)]

NANO_GRPO = Recipe(
    name="nano-grpo",
    family="rewarded",
    needs=("nano-vlm",),
    model=NANO_VLM.model,
    start=dict(begins="nano-vlm"),
    stages=(*_rounds[:-1], replace(_rounds[-1], ships="nano-grpo")),
)
