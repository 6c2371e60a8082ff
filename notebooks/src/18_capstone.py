# %% [markdown] id="title" lang="en"
# # 18 · Your own vision-language model
#
# **75 minutes.** Everything runs on two CPU cores; a GPU gets six times the steps.
#
# You wrote the parts. Now you decide how they go together, and answer for what comes out: a plan, a training, a report card, a conversation, a folder that others can open, and a card that claims no more than was measured.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# You have built every part of the map below, so none of them is lit. This chapter puts them together, and asks of each piece: **whose code runs here?**
#
# ## After this you can
#
# - **plan** a model in one file: encoder, connector, language model, stages,
# - **say** whose code runs in it, and prove it,
# - **compute** what an architecture costs before you train it,
# - **compare** two models with an interval, and refuse to when it holds 0,
# - **hand over** a model with a card that its report bears out.

# %% id="setup"
import torch
from vlmcourse.workbook import *
from vlmcourse.diagnostics import cost
from vlmcourse.evaluation import claims, comparing
from vlmcourse.training import stages
begin("18_capstone", lang="en")

# %% id="map"
course_map()

# %% [markdown] id="q-plan" lang="en"
# ## 1 · What is a plan?
#
# LLaVA, Flamingo and BLIP-2 are not three programs. They are three answers to one question: *what stands between the eye and the words?* In this course they are three files, and the files differ in one table and in learning rates.

# %% id="plan"
from vlmcourse.recipes.plan import EXAMPLES, PlanError, example, plan_of, read_plan, recipe_of

plans = {name: read_plan(example(name)) for name in EXAMPLES}
print(example("llava").read_text().partition("\n[[stages]]                # then")[0])
assert len({plan.vision for plan in plans.values()}) == 1
assert len({plan.kind for plan in plans.values()}) == 3

# %% [markdown] id="plan-lesson" lang="en"
# Two more stages follow, in the same form. Copy one of the files to `my_vlm/vlm.toml` and change what you like; `vlmcourse train my_vlm` carries it out. The vision encoder, the eye, is always frozen here: its features are computed once for a whole training. A stage may also learn from your own pictures: `data = "own"`, `folder = "holiday"`.
#
# A plan is read strictly. **Predict** what happens to a misspelt key, before you run the cell.

# %% id="plan-wrong"
from pathlib import Path
from tempfile import mkdtemp

wrong = Path(mkdtemp()) / "vlm.toml"
wrong.write_text(example("llava").read_text().replace("shuffle = 1", "shufle = 2"))
try:
    read_plan(wrong)
except PlanError as error:
    said = str(error)
print(said.partition(", ")[2])
assert "line 10" in said and "did you mean 'shuffle'" in said

# %% [markdown] id="ex-parts" lang="en"
# A key that was silently ignored would be the worst of all mistakes: the training runs, the model is another one, and nobody knows.
#
# ## 2 · Who learns?
#
# A stage names parts: `trains = ["connector", "language"]`. A model has parameters with names such as `gated.1.look_gate`. Chapter 07 knew one kind of connector; now there are several.
#
# ### Your turn: `trained_parts` · difficulty 1/5 · 6 min
#
# | | |
# |---|---|
# | `names` | parameters, such as `"vision.positions"`, `"resampler.latents"` |
# | `trains` | some of `"vision"`, `"connector"`, `"language"` |
# | out | list of the names that learn, in the order given |
#
# The first word of a name, up to its dot, says its part. Whatever is neither `vision` nor `language` is connector.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="trained_parts"
@exercise(stages.trained_parts)
def trained_parts(names, trains):
    """["vision.a", "gated.b", "language.c"], ["connector"] -> ["gated.b"]"""
    # 1. the first word of each name   2. its part   3. keep those whose part learns
    raise NotImplementedError

# %% id="parts-proved"
from vlmcourse.families import assembled, mine

models = {name: assembled.new_assembled(recipe_of(plan)) for name, plan in plans.items()}
counts = {}
for name, model in models.items():
    sizes = {key: weight.numel() for key, weight in model.named_parameters()}
    kinds = [["vision"], ["connector"], ["language"]]
    counts[name] = [sum(sizes[key] for key in trained_parts(list(sizes), k)) / 1e3 for k in kinds]
tabulate(counts, "thousands", vision=",.0f", connector=",.0f", language=",.0f")
assert counts["llava"][1] < counts["blip2"][1] and counts["llava"][1] < counts["flamingo"][1]

# %% [markdown] id="parts-lesson" lang="en"
# The same eye, the same words. Between them a LLaVA needs two small matrices; the others bring layers of their own, thirty times as much and more. That is the first line of every comparison. It says what a step has to move, not what comes of it.

# %% [markdown] id="q-whose" lang="en"
# ## 3 · Whose code is this?
#
# Every function you passed runs in place of the course's. But which functions does *this model* call? Nobody has to know by heart: we carry the plan out once, as small as can be, and write down every slot that is called, from the pixels to the answer. **Predict:** how many are there?

# %% id="whose"
called = {name: mine.slots_of(plan) for name, plan in plans.items()}
rows = mine.whose_code(called["llava"])
whose = {row.slot: (row.part, row.chapter[:2], "you" if row.mine else "the course")
         for row in rows}
tabulate(whose, "slot", part="", chapter="", whose_code="")
print(f"yours: {sum(row.mine for row in rows)} of {len(rows)}")
assert all(len(slots) >= 20 for slots in called.values())
assert all(row.chapter for row in rows)                      # each of them is an exercise

# %% [markdown] id="whose-lesson" lang="en"
# **Every one of them is an exercise of this course.** A part that is still the course's is a chapter you have left to solve; come back and the row changes.

# %% id="whose-figure"
from textwrap import wrap
import matplotlib.pyplot as plt

parts = {}
for row in rows:
    parts.setdefault(row.part, []).append(row)
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for place, (part, some) in enumerate(parts.items()):
    ax.text(place, 0.4, part.replace(" ", "\n"), ha="center", va="bottom", weight="bold")
    for line, row in enumerate(some):
        look = dict(facecolor=roles.learned) if row.mine else dict(facecolor="none", hatch="//")
        look |= dict(edgecolor=roles.masked)
        ax.add_patch(plt.Rectangle((place - 0.44, -line - 0.86), 0.88, 0.8, **look))
        words = "\n".join(wrap(row.slot.split(".")[1].replace("_", " "), 13))
        ax.text(place, -line - 0.46, words, ha="center", va="center", fontsize=9,
                bbox=dict(facecolor="white", alpha=0.85, edgecolor="none", pad=0.6))
ax.set(xlim=(-0.6, len(parts) - 0.4), ylim=(-max(map(len, parts.values())) - 0.1, 1.3))
ax.axis("off")
figure(fig, alt="The slots of a LLaVA by part, from picture to training; filled where your code "
                "runs, hatched where the course's does")

# %% [markdown] id="alone-intro" lang="en"
# Can it be proved? Take the references away: inside the next block, a reference that is called raises an error. If every slot is yours, the model trains and answers as before. If one is not, the error names it.

# %% id="alone"
left = mine.left_to_solve(mine.whose_code(called["llava"]))
try:
    with mine.without_references(called["llava"]):
        answers = mine.try_plan(plans["llava"])
    print("PROVED: it trained and answered on your code alone:", answers)
    assert not left and answers == mine.try_plan(plans["llava"])
except mine.ReferenceRan as error:
    print("NOT PROVED YET.", mine.said_of_code(mine.whose_code(called["llava"])))
    print("Without the course's it stopped at the first:", error)
    assert error.slot in sum(left.values(), [])

# %% [markdown] id="gather-intro" lang="en"
# Your functions lie in `my_vlm/`, one file each. `mine.gather_code()` writes them down once more, as **one** file in the order of the data: `my_vlm/my_vlm.py`, plain Python to read, to keep and to import. `from my_vlm.my_vlm import install` puts them to work in any program.
#
# Honesty needs a second sentence. What is *not* in that file is the package's: the classes that hold parameters, the loop that trains, the optimizer, the data; and the weights that a plan starts from.

# %% id="gather"
try:
    print(mine.gather_code(called["llava"]).read_text().partition("from __future__")[0])
except ValueError as error:
    print(error)

# %% [markdown] id="q-cost" lang="en"
# ## 4 · What does an architecture cost?
#
# The published systems side by side. You have built each connector of this table.
#
# | model | vision encoder | connector | language model | made for |
# |---|---|---|---|---|
# | CLIP | ViT or ResNet | linear projection | text encoder | search, classification |
# | BLIP | ViT | cross-attention | BERT-like | captions |
# | BLIP-2 | ViT | Q-Former | OPT or Flan-T5 | questions, descriptions |
# | LLaVA | CLIP-ViT | linear, later an MLP | Vicuna | dialogue about images |
# | MiniGPT-4 | that of BLIP-2 | its Q-Former and a linear layer | Vicuna | dialogue about images |
# | Flamingo | NFNet | resampler, gated cross-attention | Chinchilla | few-shot, many images |
#
# Words. Now numbers: what does the language model do when it reads a prompt? By hand first: a matrix of 3 × 4 takes each token 12 multiplications and 12 additions.
#
# ### Your turn: `prompt_flops` · difficulty 3/5 · 10 min
#
# Count multiplications and additions of matrices when a LLaMA reads `tokens` tokens. A block has two matrices width × width (queries, output), two width × `keys` (keys and values), three width × `hidden`. In attention every token meets every token twice, for a score and for a value; a meeting takes `width` multiplications, over all heads, and what the mask hides is computed too. The head scores the vocabulary at every token. There are `depth` blocks and one head.

# %% id="prompt_flops"
@exercise(cost.prompt_flops)
def prompt_flops(tokens, width, depth, hidden, keys, vocabulary):
    """six whole numbers -> operations, a whole number"""
    # 1. weights of a block   2. meetings of tokens   3. the head   4. two operations each
    raise NotImplementedError

# %% id="flops-proved"
from torch.utils.flop_counter import FlopCounterMode

language = models["llava"].language
sizes = language.config
shape = (sizes.width, sizes.depth, 8 * sizes.width // 3, sizes.width // sizes.heads * sizes.groups)
prompt = torch.zeros(1, 70, dtype=torch.long)
counted = cost.flops(lambda: language(prompt))
with FlopCounterMode(display=False) as torch_alone:
    language(prompt)
print(f"computed {prompt_flops(70, *shape, sizes.vocabulary):,}, counted {counted:,}; "
      f"torch alone counts {torch_alone.get_total_flops():,}")
assert counted == prompt_flops(70, *shape, sizes.vocabulary)

# %% [markdown] id="flops-lesson" lang="en"
# Equal to the last operation. Torch alone counts less on a CPU: its counter overlooks *fused* attention there, and `cost.flops` adds it. Computing a number yourself is a good way to find out what a tool leaves out.

# %% id="cost-table"
from vlmcourse.data.text import load_tokenizer

words = len(load_tokenizer().encode(["What colour is the circle?"])[0][0]) + 4   # marks of the chat
bill = {}
for name, model in models.items():
    context = model.tokens_per_image + words
    read = prompt_flops(context, *shape, sizes.vocabulary) / 1e6
    features = model.image_features(torch.zeros(1, 3, 64, 64))
    connect = cost.flops(lambda model=model, features=features: model.connect(features)) / 1e6
    bill[name] = (counts[name][1], model.tokens_per_image, context, connect, read)
tabulate(bill, "", connector_thousands=",.0f", tokens_of_an_image="", tokens_in_context="",
         connecting_MFLOPs=",.1f", reading_MFLOPs=",.1f")
assert bill["flamingo"][2] < bill["blip2"][2] < bill["llava"][2]
assert bill["llava"][3] < bill["blip2"][3] and bill["flamingo"][4] < bill["llava"][4]

# %% [markdown] id="cost-lesson" lang="en"
# The same bill, paid in different places. LLaVA connects for almost nothing and then reads 64 tokens for each image. BLIP-2 spends on its Q-Former and reads half as many. Flamingo reads one, and pays in gated blocks at every word, which this table leaves out; chapter 09 counted them.

# %% [markdown] id="q-train" lang="en"
# ## 5 · Three models, one budget
#
# The same eye, words, questions, steps and images; one run each. **Predict** the order after a hundred steps of four images. And the order after thousands of steps?

# %% id="budget"
sizes_of = budget(cpu=dict(steps=100, images=4, exam=24), gpu=dict(steps=600, images=8, exam=100))

def brief(plan, name):
    """The plan with one stage, its second, for so many steps."""
    table = plan.table() | dict(name=name, budget=dict(cpu=1.0, gpu=1.0))
    answer = table["stages"][1]
    table["stages"] = [answer | dict(steps=sizes_of.steps, size=sizes_of.images, scenes=800)]
    return plan_of(table)

# %% id="train"
runs = {}
for name, plan in plans.items():
    recipe = recipe_of(brief(plan, f"brief-{name}"))
    *_, made = assembled.run(recipe, lambda stage, model, name=name: dict(name=name))
    runs[name] = made.measure.args[0], made.history

# %% id="losses"
import numpy as np

fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
looks = {"llava": (roles.learned, "-"), "flamingo": (roles.second, "--"),
         "blip2": (roles.first, ":")}
for name, (_, history) in runs.items():
    ax.plot(history.losses, looks[name][1], color=looks[name][0], label=name)
ax.set(xlabel="step", ylabel="loss (nats)", yscale="log"); ax.legend()
figure(fig, alt="The loss of the three models over the steps; all fall")
assert all(np.mean(run.losses[-5:]) < np.mean(run.losses[:5]) for _, run in runs.values())

# %% id="exam"
from vlmcourse.families.report_card import Examiner
from vlmcourse.evaluation.intervals import bootstrap_interval, paired_interval
from vlmcourse.speak import Speaker, blinded

exams = {name: Examiner(Speaker(model), sizes_of.exam).of_all_kinds("test")
         for name, (model, _) in runs.items()}
blind = Examiner(Speaker(runs["llava"][0]), sizes_of.exam).of_all_kinds("test", blinded)
right = {name: [graded[1] for graded in exam]
         for name, exam in (exams | {"llava, blind": blind}).items()}
scene = [graded[2] for graded in blind]
means = {name: tuple(bootstrap_interval(marks, scene)) for name, marks in right.items()}
tabulate(means, "right", mean=".0%", low=".0%", high=".0%")
assert means["llava"][1] > means["llava, blind"][2]          # it looks

# %% [markdown] id="exam-lesson" lang="en"
# One thing is certain: with its eyes shut LLaVA's answers fall back to habit, so what it has beyond that it sees. In our run it had 83 % with the image and 36 % without, after a hundred steps. BLIP-2 and Flamingo stood between 33 and 43 % in several runs, hardly above a LLaVA that is blind: the gates of Flamingo start closed and need more steps to open than this (chapter 09), and BLIP-2's queries have yet to learn what to ask. The order among the three is an order *at this budget*, behind a language model that read image tokens before; the longer runs below show where it ends.

# %% [markdown] id="ex-difference" lang="en"
# ## 6 · Is A better than B?
#
# A report card has a mean and an interval. Two cards have two. People look whether the intervals overlap, and that is the wrong question: the *difference* has an interval of its own.
#
# ### Your turn: `square_and_add` · difficulty 3/5 · 8 min
#
# | | |
# |---|---|
# | `first`, `second` | `(mean, low, high)` |
# | out | `(difference, low, high)` of first − second |
#
# The difference is lowest where the first is at its low end **and** the second at its high end. Both at once is rare, so do not add the two distances: add their squares, and take the root (Newcombe 1998). **By hand:** the first's low end is 3 points below its mean, the second's high end 4 above: together 5 points below the difference. The upper end likewise, with the other two ends.

# %% id="square_and_add"
@exercise(comparing.square_and_add)
def square_and_add(first, second):
    """two of (mean, low, high) -> (difference, low, high)"""
    # 1. below: first's way down, second's way up   2. above: the other two   3. math.hypot
    raise NotImplementedError

# %% id="overlap"
old, new = (0.960, 0.945, 0.975), (0.985, 0.974, 0.996)
difference = square_and_add(new, old)
print(f"intervals overlap: {old[2] > new[1]}; difference {difference[0]:.3f}, "
      f"from {difference[1]:.3f} to {difference[2]:.3f}")
assert old[2] > new[1] and difference[1] > 0

# %% [markdown] id="overlap-lesson" lang="en"
# They overlap, **and yet the second is better**. The other way round is safe: intervals that do not touch always differ.
#
# With the answers themselves one can compare question by question, as in chapter 13. That is sharper if what is hard for one model is hard for the other. **Predict** the widths.

# %% id="pairs"
versus = {}
for other in ("flamingo", "blip2"):
    apart = square_and_add(means["llava"], means[other])
    paired = paired_interval(right["llava"], right[other], scene)
    versus[other] = (apart[0], apart[2] - apart[1], paired[2] - paired[1])
tabulate(versus, "LLaVA minus", difference="+.1%", width_from_cards=".1%",
         width_question_by_question=".1%")
assert all(0.7 < one / other < 1.5 for _, other, one in versus.values())

# %% [markdown] id="q-bands" lang="en"
# About as wide here: a model near guessing errs where it happens to, not where LLaVA does. In chapter 13 two good models failed at the same scenes, and there pairing decided.
#
# ### Against the course
#
# The course's own three models were trained for 1,800 to 5,200 steps, and their cards are shipped. Where do your hundred steps stand? `told_apart` says better, worse, or not told apart, by your interval.

# %% id="bands"
lines = {"nano-vlm": "llava", "nano-flamingo": "flamingo", "nano-blip2": "blip2"}
course = {name: comparing.bands(name)["all kinds"] for name in lines}
stands = {name: (course[name][0], means[own][0],
                 comparing.told_apart("all kinds", means[own], course[name]))
          for name, own in lines.items()}
tabulate(stands, "all kinds", the_course=".1%", yours=".0%", yours_is="")
ends = sorted(value for value, _, _ in course.values())
assert ends[0] > 0.98 and ends[-1] - ends[0] < 0.01

# %% id="bands-figure"
fig, ax = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
for place, (name, own) in enumerate(lines.items()):
    both = (0.12, course[name], roles.control), (-0.12, means[own], roles.learned)
    for shift, (value, low, high), colour in both:
        ax.errorbar(value, place + shift, xerr=[[value - low], [high - value]], fmt="o",
                    color=colour, capsize=3)
ax.set(yticks=range(3), yticklabels=lines.values(), xlim=(0, 1.02),
       xlabel="right, all kinds: yours below, the course above")
figure(fig, alt="For each architecture the course's result and yours, with intervals, from 0 to 1")

# %% [markdown] id="bands-lesson" lang="en"
# After long runs the three lie within one point of each other. **At this size the connector decides how fast and how dear, hardly how good.** What is left to decide is what all three share: the eye, and the words.
#
# ## 7 · Train it to the end
#
# A run is resumable: checkpoints hold weights, optimizer, schedule, random numbers and the place in the data. Here is a run that is broken off in the middle, and one that is not. **Predict:** how far apart are their weights?

# %% id="resume"
from vlmcourse.families.carrying import carry_out

tiny = brief(plans["llava"], "tiny").table()
tiny["stages"][0] |= dict(steps=6, size=2, scenes=16)
recipe, places = recipe_of(plan_of(tiny)), [Path(mkdtemp()) for _ in range(2)]

def stop(step, **numbers):
    if step == 4: raise KeyboardInterrupt

from dataclasses import asdict
origin = dict(recipe=recipe.name, **asdict(recipe.stages[0]))
broken = dict(checkpoint=places[0] / "tiny", resume=True, origin=origin, save_every=2, watch=stop)
try:
    list(assembled.run(recipe, lambda stage, model: broken))
except KeyboardInterrupt:
    print("stopped in step 4")
card = assembled.recipe_card(plan_of(tiny))
files = [carry_out(recipe, place, False, card) for place in places]
assert files[0].read_bytes() == files[1].read_bytes()

# %% [markdown] id="resume-lesson" lang="en"
# Equal, byte for byte. So a long training may be stopped whenever you need the machine:
#
# ```
# vlmcourse train my_vlm                               # again, and it goes on
# vlmcourse evaluate my_vlm --json report.json
# vlmcourse export my_export --model my_vlm --report report.json
# ```
#
# ## 8 · Talk to it
#
# Scenes, or **a picture of your own**: choose a file, and look at what the model gets, 64 × 64 pixels of its middle. Ask about a photograph. It answers as calmly as ever, and a line below the picture says that it never learned from anything like it.

# %% id="chat"
from vlmcourse.diagnostics.alternatives import answers_for
from vlmcourse.families.making import load_speaker
from vlmcourse.widgets.chat import PictureChat
from vlmcourse.world import scenes
from vlmcourse.world.render import render

speaker = Speaker(runs["llava"][0], familiar=load_speaker("nano-vlm")[0].familiar)   # the same eye
pictures = render(scenes.sample("test", 6, objects=(2, 3)))
chat = PictureChat(answers_for(speaker)[0], pictures, foreign=speaker.foreign, name="my-llava",
                   questions=["How many things are there?", "Describe the image."])
chat

# %% id="foreign"
from vlmcourse.data.photos import photo

cat = photo("chelsea", side=64)
print("about a cat:", speaker.answer(cat, "Describe the image."))
assert speaker.foreign(cat[None]).item() and not speaker.foreign(pictures).any()

# %% [markdown] id="ex-claims" lang="en"
# ## 9 · What may the card claim?
#
# A model card is a promise to strangers. Three kinds of sentence stand on it: "is 97.5 %" tells what was measured; "at least 95 %" speaks of every other sample, too; "at most 2 % inventions" likewise. **By hand:** measured are 0.95, from 0.93 to 0.97. "At least 0.93" holds, "at least 0.95" does not, and "is 0.95" does.
#
# ### Your turn: `unproved` · difficulty 2/5 · 8 min
#
# | | |
# |---|---|
# | `claims` | list of `(name, relation, number)`; the relation is `"is"`, `"at least"` or `"at most"` |
# | `lines` | the report: name → `(value, low, high)`; low and high are None where there is no interval |
# | out | list of the claims that the report does *not* bear out, in their order |
#
# "is": the value is at most 0.0005 away. "at least": the low end reaches the number. "at most": the high end does not pass it. Without an interval the value stands for both. What was never measured is not borne out.

# %% id="unproved"
@exercise(claims.unproved)
def unproved(claims, lines):
    """[("all kinds", "at least", 0.9)], {"all kinds": (0.95, 0.93, 0.97)} -> []"""
    # 1. is there a line?   2. its ends, or its value   3. which of the three relations holds?
    raise NotImplementedError

# %% id="claims-try"
report = {"all kinds": means["llava"], "an empty image": means["llava, blind"]}
wishes = [("all kinds", "at least", round(means["llava"][1] - 0.01, 3)),
          ("all kinds", "at least", round(means["llava"][0] + 0.001, 3)),
          ("reads print", "is", 1.0)]
refused = unproved(wishes, report)
print("refused:", "; ".join(map(claims.said_of, refused)))
assert refused == wishes[1:]

# %% [markdown] id="claims-lesson" lang="en"
# The mean itself may not be promised: half of all other samples fall below it.
#
# ## 10 · Hand it over
#
# A LLaVA of ours is a LLaVA of transformers. The folder holds weights, processor, chat template and a README that the hub reads. **Predict** the difference of the scores.

# %% id="export"
from vlmcourse.evaluation.report import Report, ReportLine
from vlmcourse.interop.llava import save_folder
from vlmcourse.interop.modelcard import model_card

kept = tuple(ReportLine("answers", name, *line) for name, line in report.items())
measured = Report("my-llava", f"{sizes_of.exam} test scenes for each kind of question", kept)
history = runs["llava"][1]
own = [row.slot for row in rows if row.mine]
card = dict(recipe=assembled.recipe_card(brief(plans["llava"], "my-llava")),
            seconds=round(history.seconds), code=own)
folder = Path(mkdtemp()) / "my-llava"
save_folder(runs["llava"][0], folder, readme=model_card("my-llava", card, measured, wishes[:1]))
print((folder / "README.md").read_text().partition("\n# ")[2])

# %% id="export-equal"
from transformers import AutoProcessor, LlavaForConditionalGeneration
from PIL import Image

theirs = LlavaForConditionalGeneration.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
question = {"type": "text", "text": "How many things are there?"}
asked = [{"role": "user", "content": [{"type": "image"}, question]}]
text = processor.apply_chat_template(asked, add_generation_prompt=True)
given = processor(images=Image.fromarray(pictures[0]), text=text, return_tensors="pt")
with torch.no_grad():
    ids, mask = speaker.words.prompts(["How many things are there?"], 64)
    ours = runs["llava"][0](ids, given["pixel_values"], mask=mask)
    gap = (theirs(**given).logits[0, -1] - ours[0, -1]).abs().max().item()
print(f"largest difference of scores: {gap:.1e}")
assert gap < 1e-3

# %% [markdown] id="export-lesson" lang="en"
# And the other two? transformers' Idefics, the open Flamingo, has no grouped queries, which this language model uses; its BLIP-2 has no norm before the blocks of the eye. Published models of both open in *our* classes (chapters 09 and 11), not the other way round. `vlmcourse export` says so and writes nothing.

# %% id="refuse"
try:
    save_folder(runs["flamingo"][0], folder.with_name("flamingo"))
except ValueError as error:
    print(error)
assert not folder.with_name("flamingo").exists()

# %% [markdown] id="q-roadmap" lang="en"
# ## 11 · The road you came
#
# One table for the way from theory to practice. Each line is something you can *show*, with the cell that showed it; cells that can fail, and did not. The column "yours" says how many exercises of its chapter run your code. The whole list of terms, systems, data sets and warnings stands in the [index](INDEX.md).
#
# And on from here: copy a plan, give it `vision = "clip-scenes"` or more steps, and train it to the end; put the encoder before SmolLM2 (chapter 17); or write the next chapter, as `CONTRIBUTING.md` says.

# %% id="roadmap"
left = roadmap()
runs_here = mine.left_to_solve(mine.whose_code(called["llava"]))
assert all(set(slots) <= set(left[chapter]) for chapter, slots in runs_here.items())

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A plan is data: LLaVA, Flamingo and BLIP-2 differ in one table. What is misspelt is refused with its line.
# 2. Some twenty functions carry a whole VLM from pixels to answer; each was an exercise, and a block without references proves whose they are.
# 3. Costs can be computed before a step is trained, and computing them shows what a counter overlooks.
# 4. A difference has its own interval; overlap decides nothing.
# 5. A card claims what the report bears out, and says what is not known.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("18_capstone/1")

# %% id="quiz-2"
quiz("18_capstone/2")

# %% id="quiz-3"
quiz("18_capstone/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Liu et al. 2023, *Visual Instruction Tuning*, [arXiv:2304.08485](https://arxiv.org/abs/2304.08485), section 4: LLaVA. Alayrac et al. 2022, *Flamingo*, [arXiv:2204.14198](https://arxiv.org/abs/2204.14198), section 2. Li et al. 2023, *BLIP-2*, [arXiv:2301.12597](https://arxiv.org/abs/2301.12597), section 3.
# - Kaplan et al. 2020, *Scaling Laws for Neural Language Models*, [arXiv:2001.08361](https://arxiv.org/abs/2001.08361), section 2.1: operations of a transformer.
# - Newcombe 1998, "Interval estimation for the difference between independent proportions", *Statistics in Medicine* 17, method 10.
# - Mitchell et al. 2019, *Model Cards for Model Reporting*, [arXiv:1810.03993](https://arxiv.org/abs/1810.03993), section 4.
#
# **Next:** [19 · Resolution and coordinates](19_resolution_and_coordinates.ipynb)
