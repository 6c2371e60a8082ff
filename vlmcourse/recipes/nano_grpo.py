"""nano-grpo: nano-vlm practises comparing, rewarded by what is true (notebook 20).

nano-vlm says "no" to "Do the circle and the star have the same colour?" without comparing, and is right four
times of five. Rewards for questions as they come pay that habit. Asked about a scene and its twin, where the
answer is another, a model that practised found a second one: how many colours are in the picture. So two
questions are asked about *one* picture as well, one whose answer is "yes" and one whose answer is "no".

What a model never does, no reward can praise. So it is told first: such questions with their answers, alone,
which teaches comparing and spoils much else; then the same among all other lessons, which mends that, and at
last mostly captions, as in the last stage of nano-vlm.

Then two rounds of practice ask what it is unsure about, eight answers drawn to each question, and beside
that some of every other kind, and captions: there the divergence from the model as it was before the first
reward keeps what nobody practises. Three longer rounds at twice the rate, held a third as firmly and
without captions, raised their perplexity by a fifth. The eye stays as it is; projector and language model
learn.
"""

from dataclasses import replace
from typing import Any

from vlmcourse.recipes.nano_vlm import NANO_VLM
from vlmcourse.recipes.recipe import Recipe, Stage

# scenes, begin: how many, and where in the world of scenes they begin; kept: share of usual lessons
_TOLD = dict(scenes=5000, begin=600_000, draw=0, forms=("same colour",), kept=0.0)
_REHEARSED = dict(scenes=6000, begin=620_000, draw=1, forms=("same colour", "more"), kept=0.7)
_DESCRIBED = dict(scenes=7000, grey=0.1, described=0.6, draw=7)
_KEPT = ("colour", "shape", "size", "position", "existence", "relation")
# draw: which round; keep: share of questions of the kinds that are only to be kept
_ROUND = dict(
    scenes=1200, begin=500_000, kinds=("comparison", "count"), kept=_KEPT, keep=0.5, samples=8, beta=0.3
)
_RATES = dict(muon=6e-3, adamw=1.2e-3)
_LOW = dict(muon=5e-4, adamw=1e-4)


def _round(number: int, steps: int, data: dict[str, Any]) -> Stage:
    data = data | dict(draw=number)
    return Stage(f"round {number + 1}", steps=steps, size=64, rates=_LOW, data=data, flat=0.6)


_rounds = [_round(number, 80, _ROUND) for number in range(2)]

NANO_GRPO = Recipe(
    name="nano-grpo",
    family="rewarded",
    needs=("nano-vlm",),
    model=NANO_VLM.model,
    start=dict(begins="nano-vlm"),
    stages=(
        Stage("told", steps=700, size=32, rates=_RATES, data=_TOLD, flat=0.6),
        Stage("rehearsed", steps=1000, size=40, rates=_RATES, data=_REHEARSED, flat=0.2),
        replace(NANO_VLM.stage("whole"), name="described", steps=320, data=_DESCRIBED, flat=0.0, ships=None),
        *_rounds[:-1],
        replace(_rounds[-1], ships="nano-grpo"),
    ),
)
