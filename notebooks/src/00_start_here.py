# %% [markdown] id="title" lang="en"
# # 00 · Start here
#
# **45 minutes.** Runs on any CPU in under a minute; a GPU makes no difference in this chapter.
#
# You know how language models work. By the end of this course you will have built a model that looks at a picture and talks about it: every part written by you, trained by you, looked into by you. This first chapter shows what you are going to build, how the workbook checks your code, and where everything is.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# At the very beginning, with the end in view. The picture below opens every chapter, with the part you are building lit up.
#
# ## After this you can
#
# - **question** a small VLM, change its picture, and tell whether it looks,
# - **name** the three parts of a vision-language model and say what flows between them,
# - **write** a function, have it checked, and get help when it is wrong,
# - **explain** why a good score in our laboratory world can mean that nobody looked at the picture,
# - **choose** your route through the course.

# %% id="setup"
import torch
from vlmcourse.workbook import *
from vlmcourse.data import pixels
from vlmcourse.world import captions, questions, render, scenes, twins
begin("00_start_here", lang="en")

# %% id="map"
course_map()

# %% [markdown] id="meet" lang="en"
# ## Meet the model
#
# This is what you will have built by chapter 08: a vision-language model with 1.4 million parameters, trained from nothing in 90 minutes on one CPU core. It sees a scene and answers questions about it.
#
# **Change something.** Click an object, drag it, give it another colour, delete it. The answer, the caption and the map of where the model looked follow at once. Ask your own question, too.
#
# The twelve scenes were picked: the model makes no mistake about any of them, neither in its caption nor in an answer to any of eight kinds of questions. The cell prints how rare that is. Edit one, and you may catch it.
#
# Then use the two switches that this course will teach you to distrust every model with. **Swap** gives the model another scene than the one you see. **Blind** gives it an empty sheet. **Predict** before you flip: will it still answer?

# %% id="playground"
from vlmcourse.families.making import load_speaker
from vlmcourse.diagnostics.alternatives import answers_for
from vlmcourse.evaluation.answers import faultless
from vlmcourse.widgets.playground import ScenePlayground

vlm, card = load_speaker("nano-vlm")
some = scenes.sample("test", 30, start=100)
good = faultless(vlm, some)
playground = ScenePlayground(*answers_for(vlm), some[good.nonzero()[0][:12]])
print(f"no mistake about {good.sum()} of {len(some)} new scenes; here are twelve of those")
assert good.sum() >= 12 and playground.answer["right"]
playground

# %% [markdown] id="meet-blind" lang="en"
# It answers either way, and in the same confident voice. So let us ask 400 questions about scenes it never saw, once with its eyes open and once with an empty sheet.

# %% id="meet-measure"
from vlmcourse.speak import blinded

exam = scenes.sample("test", 400)
asked = questions.ask(exam)
texts, right = [question.text for question in asked], [question.answer for question in asked]
seeing = sum(a == b for a, b in zip(vlm.answer(render.render(exam), texts), right)) / 400
empty = blinded(render.render(exam))
guessing = sum(a == b for a, b in zip(vlm.answer(empty, texts), right)) / 400
shares = {"with the picture": seeing, "with an empty sheet": guessing}
tabulate(shares, "400 questions", right=".1%")
by_kind = {kind: card["metrics"][f"answers: {kind}"] for kind in questions.KINDS}
whole = card["metrics"]["captions, all true and complete"]
tabulate(by_kind | {"captions without a mistake": whole}, "its card", right=".0%")
assert seeing > 0.85 and guessing < 0.5
assert sorted(by_kind, key=by_kind.get)[0] in ("comparison", "count")

# %% [markdown] id="meet-proved" lang="en"
# It is no oracle. The second table comes from its card, the file that records what it reached. Colours, shapes and sizes are nearly always right. Comparing and counting are weaker: they need everything in the picture at once. So do captions. Now and then one names a thing twice, and leaves another out.
#
# The difference between the two numbers is what it *sees*. The second number is what it *guesses*, and it is not small. Section 5 comes back to that.

# %% [markdown] id="what" lang="en"
# ## 1 · What is a vision-language model?
#
# **Question.** A language model reads tokens. How could it read a picture?
#
# You already know most of the answer, because a VLM changes surprisingly little:
#
# | | language model | vision-language model |
# |---|---|---|
# | reads | text | text and images |
# | its input vectors | rows of an embedding table, one per **discrete** token | those, and **continuous** image features |
# | learns | to continue text | to connect what is seen with what is said |
# | fails by | inventing | inventing, and **not looking** |
#
# Three parts do the work, from left to right in the picture.
#
# 1. A **vision encoder**, the model's *eye*, turns an image into vectors, usually one per patch of the image. Today this is nearly always a Vision Transformer, often the one from CLIP.
# 2. A **connector** carries those vectors into the space of the language model. It can be one matrix, a small MLP, cross-attention, or a *Q-Former* that asks the image a fixed number of questions.
# 3. A **language model** reads the image vectors as if they were words, then the question, and writes the answer.

# %% [markdown] id="flow" lang="en"
# ## 2 · Follow one picture through
#
# Tiny numbers make this concrete. Take one picture of 64 × 64 pixels and cut it into 8 × 8 patches. The "encoder" and the "connector" below are single random matrices, so nothing is understood yet. Only the **shapes** are real, and they are the same idea as in LLaVA.

# %% id="flow-shapes"
from vlmcourse.models.vit import patchify

picture = render.render(scenes.sample("train", 1, start=7))            # uint8 (1, 64, 64, 3)
patches = patchify(pixels.normalise(torch.from_numpy(picture)), 8)     # 64 patches of 8·8·3 numbers
encoder, connector = torch.randn(192, 128), torch.randn(128, 256)
image_tokens = patches @ encoder @ connector  # as wide as the language model
question = torch.randn(1, 6, 256)                                      # six embedded text tokens
sequence = torch.cat([image_tokens, question], dim=1)
print("patches", tuple(patches.shape), "→ image tokens", tuple(image_tokens.shape),
      "→ read by the LM", tuple(sequence.shape))
assert sequence.shape == (1, 64 + 6, 256)

# %% id="flow-figure"
import matplotlib.pyplot as plt

fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 1.7), layout="constrained",
                                  width_ratios=(1, 3.4))
left.imshow(picture[0]); left.set_title("one picture"); left.axis("off")
right.bar(range(64), 1, color=roles.image, label="64 image tokens")
right.bar(range(64, 70), 1, color=roles.text, hatch="//", label="6 text tokens")
right.set_title("what the language model reads"); right.axis("off")
right.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2)
figure(fig, alt="A scene, and a row of 70 bars: 64 orange image tokens, then 6 blue text tokens")

# %% [markdown] id="flow-real" lang="en"
# In LLaVA-1.5 the same line reads: 336 × 336 pixels in patches of 14 make 24 × 24 = 576 patches. CLIP's ViT gives each 1,024 numbers, and a two-layer MLP makes them 4,096 wide. The six words of a question are lost among 576 image tokens. **Looking is expensive.** That is why chapters 07, 09 and 11 spend so much thought on using fewer tokens.

# %% id="llava-tokens"
assert (336 // 14) ** 2 == 576
print(f"{576 / (576 + 6):.1%} of what LLaVA-1.5 reads here is image")

# %% [markdown] id="family" lang="en"
# ### The family you will meet
#
# | model | vision encoder | connector | language model | used for | chapter |
# |---|---|---|---|---|---|
# | CLIP | ViT or ResNet | linear projection | text encoder | search, zero-shot classes | 04 |
# | Flamingo | NFNet | resampler, gated cross-attention | Chinchilla | few-shot, many images | 09 |
# | BLIP | ViT | cross-attention | BERT-like | captions, matching | 10 |
# | BLIP-2 | ViT | Q-Former | OPT or Flan-T5 | questions, descriptions | 11 |
# | MiniGPT-4 | BLIP-2's | Q-Former and one linear layer | Vicuna | conversation | 11 |
# | LLaVA | CLIP's ViT | linear, later MLP | Vicuna | conversation | 07, 08 |
#
# Chinchilla, OPT and Vicuna are language models; Vicuna is a LLaMA tuned on conversations. NFNet is a CNN.
#
# They learn in four ways: **contrast** (matching pairs close, others apart: CLIP), **matching** (do these two belong together?: BLIP), **captioning** (write what you see), and **instruction tuning** (follow a request about a picture: LLaVA). You will implement all four.

# %% [markdown] id="exercise-intro" lang="en"
# ## 3 · How this workbook checks you
#
# You write the core of every part yourself. Above your function stands `@exercise(...)`. When the cell runs, your code is tried on cases you cannot see, in a separate process, for at most ten seconds.
#
# - **✓ passed** (green): your function is *installed*. From here on the whole course runs your code, and it is saved in `my_vlm/`.
# - **✗ not right yet** (orange): a card says what is wrong, and the course's own version stands in.
# - **○ not written yet** (grey): nothing happens. You can always go on and come back.
#
# Endless loops, crashes and huge allocations are caught too. You cannot break the notebook.
#
# Right values are not all that a model needs. In every chapter, unless a brief says otherwise:
#
# - any batch and any sizes work, also sides of different length;
# - the **dtype** stays: float64 or half precision comes out as it went in;
# - the **device** stays: new tensors are made where the input is, as with `device=ids.device`;
# - **gradients** pass through to all that learns;
# - what your function was given is not changed;
# - arguments such as `norm` or `mlp` are functions, to be called.
#
# ### Your turn: `normalise` · difficulty 1/5 · 5 min
#
# A picture arrives as bytes from 0 to 255, with the colour channel last. A network wants numbers around zero, with the channel right after the batch.
#
# | | shape | values |
# |---|---|---|
# | in | `(batch, height, width, channel)` | uint8, 0 … 255 |
# | out | `(batch, channel, height, width)` | float32, −1 … 1 |
#
# So 0 becomes −1, and 255 becomes 1. Try a wrong answer first, to see what the card says: return `images.float()`.

# %% id="normalise"
@exercise(pixels.normalise)
def normalise(images):
    """uint8 (batch, height, width, channel) -> float32 (batch, channel, height, width) in -1..1"""
    # 1. move the channel axis   2. make floats   3. map 0 to -1 and 255 to 1
    raise NotImplementedError

# %% [markdown] id="help" lang="en"
# Stuck? Remove the `#` in front of one of these. Hints go from vague to concrete. The solution shows how the course writes it.

# %% id="help-cells"
# hint(normalise)
# solution(normalise)

# %% id="normalise-check"
numbers = normalise(torch.from_numpy(picture))
print(tuple(numbers.shape), numbers.dtype, f"from {numbers.min():.2f} to {numbers.max():.2f}")
assert numbers.shape == (1, 3, 64, 64) and -1 <= numbers.min() and numbers.max() <= 1

# %% [markdown] id="slot" lang="en"
# Look at what `normalise` is now. The name stands for a *slot*: a place in the course where your function runs once it has passed. `normalise.mine` is your latest attempt, passed or not.

# %% id="slot-look"
normalise

# %% [markdown] id="scenes" lang="en"
# ## 4 · The laboratory
#
# Real photographs are a bad place to *start*: nobody knows exactly what is in them, so nobody knows whether the model was right, lucky, or guessing. Most chapters therefore begin in **Scenes**, a world of small pictures with one to four objects. Every truth about a scene is known: shapes, colours, sizes, places, and so every caption, every question, every answer, and the *evidence*: the part of the picture the answer rests on. Real photographs, drawings and published data sets follow as soon as a method stands.
#
# Browse a little. Click a scene; point at a question, and its evidence is outlined.

# %% id="browse"
from vlmcourse.widgets.scenes import SceneBrowser

world = scenes.sample("train", 24)
asked = [questions.ask(world, seed=s) for s in range(3)]
records = [[{"question": q.text, "answer": q.answer, "boxes": q.boxes} for q in about]
           for about in zip(*asked)]
SceneBrowser(render.render(world), captions.captions(world, "full"), records)

# %% [markdown] id="captions" lang="en"
# A caption can say much or little about the same picture. "Shallow" captions are common on the web, and chapter 12 measures what they cost. The colours also differ in lightness, so that the world works for colour-blind readers.

# %% id="caption-styles"
one = world[:1]
for_one = {style: captions.captions(one, style)[0] for style in ("short", "full", "shallow")}
tabulate(for_one, "style", caption="")
assert len(for_one["full"]) > len(for_one["short"])

# %% [markdown] id="blind" lang="en"
# ## 5 · The question behind the whole course
#
# **Can you score well without looking?** Give the most frequent answer to each kind of question, and never open a picture. **Predict:** how many of 2,000 questions will be right?

# %% id="blind-score"
from collections import Counter

asked = questions.ask(scenes.sample("test", 2000))
answers = {kind: [q.answer for q in asked if q.kind == kind] for kind in questions.KINDS}
best = {kind: Counter(given).most_common(1)[0] for kind, given in answers.items()}
blind = sum(count for _, count in best.values()) / len(asked)
print(f"right without looking: {blind:.1%}")
assert 0.3 < blind < 0.5

# %% id="blind-figure"
shares = {kind: best[kind][1] / len(answers[kind])
          for kind in sorted(best, key=lambda k: best[k][1] / len(answers[k]))}
fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
bars = ax.barh([f"{kind}: “{best[kind][0]}”" for kind in shares], list(shares.values()),
               color=roles.control)
ax.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=3)
ax.set(xlim=(0, 1), xlabel="right when always giving this answer")
figure(fig, alt="For each kind of question, how often its most frequent answer is right")

# %% [markdown] id="blind-lesson" lang="en"
# About four in ten, with no eyes at all. And this world is fair: the answers were balanced on purpose. Real data sets are not. In the first VQA data set, "tennis" was right for about 40 % of the questions that begin with "What sport is". So was "2" for those that begin with "How many" (Goyal et al. 2017).
#
# A language model is *very* good at finding such habits. So its loss falls, the score looks fine, and the image is ignored. The remedy is a **twin**: the smallest change of the picture that changes the answer. Whoever guesses is wrong on one of the two.

# %% id="twins"
first = scenes.sample("test", 60)
posed = questions.ask(first, "colour")
usable = [i for i, question in enumerate(posed) if question is not None][:4]
pair, posed = first[usable], [posed[i] for i in usable]
changed, answered = twins.twins(pair, posed)
assert all(a.answer != b.answer and a.text == b.text for a, b in zip(posed, answered))

# %% id="twins-figure"
fig, axes = plt.subplots(2, 4, figsize=(6.8, 3.9), layout="constrained")
for line, pictures, facts in zip(axes, (render.render(pair), render.render(changed)),
                                 (posed, answered)):
    for ax, picture, fact in zip(line, pictures, facts):
        ax.imshow(picture); ax.axis("off")
        ax.set_title(fact.text.replace(" is ", " is\n") + f"\n→ {fact.answer}", fontsize=9)
figure(fig, alt="Four scenes, their twins below: same question, one colour changed, another answer")

# %% [markdown] id="blind-rule" lang="en"
# Keep this rule for the rest of the course: **a number counts only beside its blind twin**, the same number from a model that does not see. Every chapter that claims a model sees something also shows what it scores when it cannot.

# %% [markdown] id="doctor-intro" lang="en"
# ## 6 · Is this machine ready?
#
# `doctor()` looks at versions, device and memory. If something is missing, it prints the exact command that mends it.

# %% id="doctor"
doctor()

# %% [markdown] id="routes" lang="en"
# ## 7 · Your route
#
# | route | chapters | for whom |
# |---|---|---|
# | the shortest path | 02 → 04 → 07 → 08 | you want your own small LLaVA soon |
# | the full course | 00 → 20 | you want to be able to choose, and to defend the choice |
# | the debugging route | 01 → 08 → 13 → 14 | your VLM trains, but something is off |
#
# Why start with the LLaVA family? Its structure is the simplest, everything you know about language models carries over, and mistakes are easy to find. Flamingo and BLIP follow once you can build and debug the simple one.
#
# The table below shows every chapter, and what you have passed of it. Each chapter stands alone: if you skip one, the course's own functions stand in for yours.
#
# Looking for one term, system or warning? The [index](INDEX.md) links each to the cell that teaches it and to the cell that proves it.

# %% id="progress"
progress()

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A VLM is a vision encoder, a connector and a language model. Image vectors are read as if they were words.
# 2. Image features are continuous. Where and how they join the text is the heart of the matter.
# 3. You write the core functions. What passes is installed, saved, and used from then on.
# 4. Scenes is a laboratory whose truth is known exactly.
# 5. A model can score without looking. Twins and blind controls expose it.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz
#
# Choose with the mouse, or with Tab, the arrow keys and Space. Every choice is explained, the wrong ones too.

# %% id="quiz-1"
quiz("00_start_here/1")

# %% id="quiz-2"
quiz("00_start_here/2")

# %% id="quiz-3"
quiz("00_start_here/3")

# %% [markdown] id="references" lang="en"
# ## References
#
# - Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision* (CLIP), [arXiv:2103.00020](https://arxiv.org/abs/2103.00020): figure 1.
# - Alayrac et al. 2022, *Flamingo*, [arXiv:2204.14198](https://arxiv.org/abs/2204.14198): figure 3.
# - Li et al. 2022, *BLIP*, [arXiv:2201.12086](https://arxiv.org/abs/2201.12086): figure 2. Li et al. 2023, *BLIP-2*, [arXiv:2301.12597](https://arxiv.org/abs/2301.12597): figures 2 and 3.
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 4. Liu et al. 2023, LLaVA-1.5, [arXiv:2310.03744](https://arxiv.org/abs/2310.03744): section 3.
# - Zhu et al. 2023, *MiniGPT-4*, [arXiv:2304.10592](https://arxiv.org/abs/2304.10592): figure 1.
# - Goyal et al. 2017, *Making the V in VQA Matter*, [arXiv:1612.00837](https://arxiv.org/abs/1612.00837): the habits, and balanced pairs.
#
# **Next:** [01 · The problem](01_the_problem.ipynb)
