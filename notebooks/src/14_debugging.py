# %% [markdown] id="title" lang="en"
# # 14 · Debugging: it never looked
#
# **105 minutes.** More if you open all exhibits. Everything runs on two CPU cores; no GPU is needed.
#
# The loss falls, the answers are fluent, and it never looked at an image. No error says so. How do you find out, in which order, in ten minutes?

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# You can build and train a VLM. This chapter is about the day when one does not work: which question to ask first, what each tool can prove, and what it cannot.
#
# ## After this you can
#
# - **ask** a run whether its answers depend on the image,
# - **audit** what it learned from, before you look inside,
# - **measure** whether attention reaches the image, and where it looked,
# - **repair** broken runs, and tell a repair from what hides a symptom.

# %% id="setup"
import numpy as np, torch
from vlmcourse.workbook import *
from vlmcourse.diagnostics import audit, relevance, share, swaps
from vlmcourse.families.museum import repaired
from vlmcourse.families.museum_exhibits import CAUSES, EXHIBITS, TWO_PATIENTS, diagnosed
begin("14_debugging", lang="en")

# %% id="map"
course_map()

# %% [markdown] id="q-fluent" lang="en"
# ## 1 · Two runs, one symptom
#
# The workbook has a **museum of broken runs**. Each is a small training with one mistake that somebody really made. Here are two of them. Nothing of what follows is staged: they train now.

# %% id="two-runs"
names = dict(zip(("run A", "run B"), TWO_PATIENTS))                # section 5 says who they are
runs = {run: EXHIBITS[name].broken.carry_out() for run, name in names.items()}
tabulate({run: (f.losses[0], float(np.mean(f.losses[-10:]))) for run, f in runs.items()},
         "", loss_at_first=".1f", at_last=".2f")
assert all(np.mean(f.losses[-10:]) < f.losses[0] / 10 for f in runs.values())

# %% id="two-said"
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6, 2.3), layout="constrained")
for (run, f), colour, line in zip(runs.items(), (roles.first, roles.second), ("-", "--")):
    ax.plot(f.losses, line, color=colour, label=run)
ax.set(xlabel="step", ylabel="loss", yscale="log"); ax.legend()
figure(fig, alt="The losses of two runs fall side by side to about 0.75")
said = {run: f.said[:5] for run, f in runs.items()}
tabulate({f"{run}, {place}": (asked, answer) for run, lines in said.items()
          for place, (asked, answer, _) in enumerate(lines)}, "about image", asked="", answer="")
assert all(answer for lines in said.values() for _, answer, _ in lines)

# %% [markdown] id="fluent-lesson" lang="en"
# The losses fell thirtyfold. Fluent answers, a colour where a colour is asked for. Is 0.75 good? Without a floor nobody knows: who only guesses among seven colours pays about ln 7 / 2 = 0.97 for a word and its end. Both runs look alike.
#
# ### The question no falling loss answers
#
# **Does the answer change when the image does?** Show the right image, then blank paper, then another image, and ask the same question. By hand, for four questions:
#
# | | q1 | q2 | q3 | q4 |
# |---|---|---|---|---|
# | right answer | red | blue | star | red |
# | said, right image | red | blue | cube | red |
# | said, another image | red | red | star | red |
#
# Accuracy is 3/4 with the right image and 3/4 with another. Yet two answers of four changed, q2 and q3. **Accuracy and change are two numbers**, and you need both.

# %% [markdown] id="ex-swap" lang="en"
# ### Your turn: `swap_rates` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `given` | `(condition, question)`: numbers of the model's answers; condition 0 shows the right image |
# | `answers` | `(question,)`: numbers of the right answers |
# | out | accuracy `(condition,)`, and the share of answers that are other ones than under condition 0 `(condition,)` |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="swap_rates"
@exercise(swaps.swap_rates)
def swap_rates(given, answers):
    """(condition, question), (question,) -> accuracy (condition,), changed (condition,)"""
    raise NotImplementedError

# %% id="swap-hand"
right = torch.tensor([0, 1, 2, 0])                               # red, blue, star, red
accuracy, changed = swap_rates(torch.tensor([[0, 1, 3, 0], [0, 0, 2, 0]]), right)
print("accuracy", accuracy.tolist(), "changed", changed.tolist())
assert accuracy.tolist() == [0.75, 0.75] and changed.tolist() == [0, 0.5]

# %% [markdown] id="deranged-intro" lang="en"
# Whose is "another image"? A random permutation is a trap: on average **one** question keeps its own image, whatever their number. `deranged` puts all in a ring, and each takes its neighbour's.

# %% id="deranged"
kept = [(torch.randperm(8) == torch.arange(8)).sum().item() for _ in range(2000)]
own = [(swaps.deranged(8, seed) == torch.arange(8)).sum().item() for seed in range(200)]
tabulate({"random permutation": float(np.mean(kept)), "deranged": float(np.mean(own))},
         "8 images", keep_their_own=".2f")
assert 0.8 < np.mean(kept) < 1.2 and max(own) == 0

# %% [markdown] id="predict-swap" lang="en"
# Beside the two runs stands `nano-vlm`, which the course ships. **Predict** its three accuracies: right image, blank, another. And those of runs A and B.

# %% id="swap-runs"
from vlmcourse.diagnostics.checkup import Exam, scene_exam
from vlmcourse.families.making import load_speaker
from vlmcourse.families.museum_tuning import lessons_about
from vlmcourse.speak import Speaker

nano, _ = load_speaker("nano-vlm")
exam, lessons = scene_exam(64), lessons_about("test", 120)
first = [row[0] for row in lessons.talks[:64]]
small = Exam(lessons.images[:64], *map(list, zip(*first)))       # nearly all about colour
swapped = {"nano-vlm": swaps.swap_test(nano, *small[:3])}
swapped |= {run: swaps.swap_test(Speaker(f.model), *small[:3]) for run, f in runs.items()}
tabulate({name: (s.right, s.blind, s.shuffled, s.changed) for name, s in swapped.items()}, "",
         right_image=".0%", blank=".0%", another_image=".0%", changed_by_another=".0%")
assert swapped["nano-vlm"].right > 0.9 > 0.4 > swapped["nano-vlm"].shuffled
assert all(abs(swapped[run].right - swapped[run].shuffled) < 0.15 for run in runs)

# %% [markdown] id="swap-lesson" lang="en"
# There it is. With another image, `nano-vlm` falls to about a sixth in our run; runs A and B do not fall. The image does not help them. **But the symptom is not the cause**, and the two runs are broken in different places. So ask in order, cheapest and broadest first:
#
# | question to the run | tool | what it can prove |
# |---|---|---|
# | does the answer change with the image? | `swap_test` | that the image does not help; if nothing changes, that it is not used |
# | what did it learn from? | `audit_rows`, your eyes | labels, cut rows, wrong pairs |
# | does attention reach the image? | `attention_share` | that a layer does not read it, where every token's share is 0 |
# | does learning reach it? | `gradient_share` | a closed gate, a detach |
# | were the weights read? | `kurtosis` of the projector | weights as drawn at random |
# | where did it look? | relevance, occlusion, Grad-CAM | which patches counted |

# %% [markdown] id="q-audit" lang="en"
# ## 2 · What did it learn from?
#
# Look at the data the model *gets*, not at the file it came from: the rows behind template, mask, packing and cutting. Each place has an id and a label; the label is −100 where nothing is to be learned.
#
# A label stands **at its own id**. The loss compares the score at place *t* with the label at *t + 1*: it does the shifting. Whoever shifts as well shifts twice. By hand:

# %% id="label-hand"
ids = torch.tensor([[7, 5, 6, 2]])                               # colour? red star <end>
own_place = torch.tensor([[-100, 5, 6, 2]])
moved = torch.tensor([[5, 6, 2, -100]])
tabulate({name: tuple(labels[0].tolist()) for name, labels in
          (("ids", ids), ("labels, right", own_place), ("labels, moved twice", moved))}, "",
         t_0="d", t_1="d", t_2="d", t_3="d")
assert (own_place == ids).sum() == 3 and (moved[:, :-1] == ids[:, 1:]).sum() == 3

# %% [markdown] id="ex-offset" lang="en"
# ### Your turn: `label_offset` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `ids`, `labels` | `(row, token)`; labels are −100 where nothing is learned |
# | out | an `int` from −2 to 2: how many places *behind* its id a label stands, for most labels of all rows. 0 is right, −1 one place too early |
#
# Try 0, −1, 1, −2, 2 in this order: where two fit equally well, the earlier counts. What lies over the edge is no label.

# %% id="label_offset"
@exercise(audit.label_offset)
def label_offset(ids, labels):
    """(row, token), (row, token) -> the offset, an int"""
    # 1. for each offset of 0, -1, 1, -2, 2: which label stands that many places behind each id?
    # 2. how many of them equal their id?
    # 3. the offset with most; the earlier one if two have most
    raise NotImplementedError

# %% [markdown] id="ex-trained" lang="en"
# ### Your turn: `trained_images` · difficulty 1/5 · 5 min
#
# Image placeholders are not words: no answer contains one. So no label may **be** the placeholder, and none may **stand at** one. Count the places that break either rule: once each. `ids` and `labels` are `(row, token)`, `image` is the placeholder's id; out comes a count.

# %% id="trained_images"
@exercise(audit.trained_images)
def trained_images(ids, labels, image):
    """(row, token), (row, token), id -> how many places, a tensor of one number"""
    raise NotImplementedError

# %% [markdown] id="predict-audit" lang="en"
# A third run joins: its loss falls, and every answer is empty. **Predict:** which of the three will the audit of rows catch?

# %% id="audit-runs"
from vlmcourse.diagnostics.checkup import diagnose

runs["run C"] = EXHIBITS["says nothing"].broken.carry_out()
found = {run: diagnose(Speaker(f.model), small, rows=f.rows, losses=f.losses)
         for run, f in runs.items()}
bad = {run: [line.name for line in lines if not line.ok] for run, lines in found.items()}
tabulate({run: "; ".join(n for n in names if n[:6] in ("labels", "tokens")) or "nothing"
          for run, names in bad.items()}, "rows", suspicious="")
assert "labels: places off" in bad["run C"] and "tokens: rows with cut images" in bad["run B"]
assert not any(name.startswith(("labels", "tokens")) for name in bad["run A"])

# %% [markdown] id="audit-lesson" lang="en"
# Run C's labels are moved twice. Run B's long rows were cut in front, where the image stands. Run A passes: its rows are in order. What else does the whole checkup say of the three?

# %% id="model-checks"
inside = [[line for line in lines if line.name.startswith(("image", "projector"))]
          for lines in found.values()]
tabulate({a.name: (a.number, b.number, c.number) for a, b, c in zip(*inside)},
         "check of the model", run_A=".2f", run_B=".2f", run_C=".2f")
assert all(line.ok for line in inside[2])

# %% [markdown] id="model-checks-lesson" lang="en"
# Run C passes **every check of its image path**: attention reaches the image, gradients reach it, the projector has learned. It answers nothing at all, and its path is whole. Only the audit of its rows names the cause. So: *look at the data the model gets before you look at the model*.
#
# And run A? Its rows are whole, and in our run only the answers are suspicious. A program cannot know what a picture shows. You can. Look at three rows, each **with the picture that it was trained on**.

# %% id="look"
taught = lessons_about("train", 500)
pictures = EXHIBITS["does not look"].broken.pair(len(taught.images))   # which picture each row got
fig, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for row, ax in enumerate(axes):
    asked, answer = taught.talks[row][0]
    ax.imshow(taught.images[pictures[row]]); ax.axis("off")
    ax.set_title(f"{asked}\n{answer}", fontsize=9)
figure(fig, alt="Three training rows of run A: questions and answers above pictures that "
                "do not show what is asked about")
assert (pictures != torch.arange(len(pictures))).all()

# %% [markdown] id="look-lesson" lang="en"
# The questions ask about things that are not there. Every row has **its neighbour's picture**: one list was shuffled or filtered, and the other was not. Ten seconds of looking, and no audit of rows would have told you.

# %% [markdown] id="q-share" lang="en"
# ## 3 · Does attention reach the image?
#
# Now inside. At each layer, how much of its attention does a token give to image tokens? Weights sum to 1 over the keys, so this is a sum over the image's keys, and a mean over the heads. By hand: a head that gives (.5, .3, .2) to two image tokens and a word has a share of .8. Another gives (.1, .1, .8): .2. Their mean is .5.
#
# ### Your turn: `image_share` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `weights` | `(layer, batch, head, query, key)` |
# | `places` | `(batch, key)`, True at image tokens |
# | out | `(layer, batch, query)`, from 0 to 1 |

# %% id="image_share"
@exercise(share.image_share)
def image_share(weights, places):
    """(layer, batch, head, query, key), (batch, key) -> (layer, batch, query)"""
    raise NotImplementedError

# %% id="share-hand"
two_heads = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).reshape(1, 1, 2, 1, 3)
by_hand = image_share(two_heads, torch.tensor([[True, True, False]]))
print("share", by_hand.item())
assert abs(by_hand.item() - 0.5) < 1e-6

# %% [markdown] id="predict-share" lang="en"
# Image tokens are most of a prompt of `nano-vlm`. **Predict:** in which layer does the last token, where the answer begins, look most at the image?

# %% id="share-map"
from vlmcourse.widgets.shares import ShareMap

shares = share.attention_share(nano, exam.images[:32], exam.instructions[:32])
tabulate(dict(enumerate(shares.at_answer().tolist())), "layer", share_at_the_answer=".2f")
assert shares.at_answer()[0] < 0.3 < 0.5 < shares.at_answer()[1:].min()
first = exam.images[:8], exam.instructions[:8]
looks = [share.prompt_looks(nano, *pair) for pair in zip(*first)]
ShareMap.of(first[0], looks, first[1], view={"layer": 1})

# %% [markdown] id="share-lesson" lang="en"
# Where the answer begins, at `<assistant>`, little in the first layer, more than half behind it. **Other tokens do otherwise**: some give most of their attention to the image in the first layer already.
#
# **Point at the cells:** the image shows where that token looks in that layer. Why does `<user>` give 0 in every layer? Does the last token look at what it was asked about? Then choose single heads.
#
# Two warnings. A share of 0 **at every token** proves that a layer does not read the image; one token's low share proves nothing, for another may have read it before. Nor does a high share prove its use: attention is not explanation (Jain and Wallace 2019, of recurrent text models). And in models that look through *cross*-attention, the weights always sum to 1 over the image. There the size of what is added tells more (Kobayashi et al. 2020), and `attention_share` measures that.

# %% [markdown] id="q-where" lang="en"
# ## 4 · Where did it look?
#
# Three ways to ask which patches made the model say this:
#
# - **Occlusion** covers each patch and watches the answer's probability. Honest, and dear: one run per patch (Zeiler and Fergus 2013).
# - **Relevance** follows attention from the answer back to the patches, weighted by gradients (Chefer et al. 2021).
# - **Grad-CAM** weighs whole feature maps by their mean gradient (Selvaraju et al. 2017).
#
# ### Your turn: `weigh_by_gradient` · difficulty 2/5 · 6 min
#
# The heart of relevance: an attention weight counts where raising it would raise the score. Multiply, drop what is below 0, **then** average over heads: `(head, query, key)` twice in, `(query, key)` out.

# %% id="weigh_by_gradient"
@exercise(relevance.weigh_by_gradient)
def weigh_by_gradient(attention, gradient):
    """(head, query, key), (head, query, key) -> (query, key), none below 0"""
    raise NotImplementedError

# %% [markdown] id="rule-intro" lang="en"
# What happens over several layers? Each token keeps what it had and adds the relevance of those it looked at: `own + attention @ own`, beginning with the identity. By hand, two layers, three tokens: token 2 looks at 1, and 1 has looked at 0.

# %% id="rule-hand"
look_back, own = torch.zeros(2, 3, 3), torch.eye(3)
look_back[0, 1, 0] = look_back[1, 2, 1] = 0.5
for layer in look_back:
    own, _ = relevance.self_attention_rule(own, torch.zeros(3, 1), layer)
print("what counts for token 2:", own[2].tolist())
assert own[2].tolist() == [0.25, 0.5, 1.0]

# %% [markdown] id="ex-cam" lang="en"
# Token 2 never looked at token 0, and still 0 counts: ½ · ½. That is why one layer's attention map is no explanation.
#
# ### Your turn: `grad_cam` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `activations`, `gradients` | `(batch, channel, row, column)` |
# | out | `(batch, row, column)`: the maps added up, each times the **mean** of its gradient over all places; negatives become 0 |

# %% id="grad_cam"
@exercise(relevance.grad_cam)
def grad_cam(activations, gradients):
    """(batch, channel, row, column) twice -> (batch, row, column), none below 0"""
    raise NotImplementedError

# %% [markdown] id="predict-where" lang="en"
# The scenes know where the evidence is: every question has a box. So a map can be *graded*: evidence in the box, over evidence in boxes of this size anywhere. **1 is chance.** **Predict** which of the three finds the box.

# %% id="maps"
from vlmcourse.diagnostics.checkup import POINTED
from vlmcourse.diagnostics.occlusion import explain_all, occlusion_map

ways = {"relevance": relevance.relevance_map, "occlusion": occlusion_map,
        "Grad-CAM": relevance.cam_map}
chosen = [k for k, one in enumerate(exam.asked) if one.kind in POINTED]
asked = [exam.asked[k] for k in chosen]
grounded = {name: explain_all(way, nano, exam.images[chosen], asked)
            for name, way in ways.items()}
times = {name: inside / anywhere for name, (inside, anywhere) in grounded.items()}
tabulate(times, f"{len(asked)} questions", in_the_box_over_anywhere=".2f")
assert min(times["relevance"], times["occlusion"]) > 2 and times["Grad-CAM"] < 2

# %% id="maps-figure"
question, image = asked[1], exam.images[chosen[1]]
fig, axes = plt.subplots(1, 4, figsize=(7, 2.3), layout="constrained")
axes[0].imshow(image)
asked_of = question.text.replace(" the ", "\nthe ")                # two lines fit above the image
axes[0].set_title(f"{asked_of} {question.answer}", fontsize=9)
for ax, (name, way) in zip(axes[1:], ways.items()):
    seen = way(nano, image, question.text, question.answer).clamp(min=0)
    ax.imshow(seen, cmap="cividis", extent=(0, 64, 64, 0)); ax.set_title(f"{name}\n", fontsize=9)
left, top, right, bottom = question.boxes[0]
for ax in axes:
    ax.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, lw=2,
                               edgecolor=roles.accent))
    ax.axis("off")
figure(fig, alt="A scene with the box of the evidence, and three maps beside it: relevance, "
                "occlusion and Grad-CAM")

# %% [markdown] id="maps-lesson" lang="en"
# Relevance and occlusion find the box: about four times as much as elsewhere, in our run. **Grad-CAM, of the patch vectors that leave the encoder, is near chance.** That is no bug of yours. It gives a channel *one* weight for all places, which fits a CNN, where a channel means one thing everywhere. A likely reason, not tested here: behind a projector and layers of attention it no longer does. Do not show Grad-CAM of patch tokens as evidence.
#
# Relevance costs one pass and one gradient; occlusion 65 images here. Take relevance, and check it by occlusion once in a while. A map explains *one answer*, right or wrong; it does not tell whether the model is good.

# %% [markdown] id="cover-intro" lang="en"
# ### Cover it yourself
#
# Cover patches, and the answers move. **Which patch alone makes `nano-vlm` change its mind?** Try both questions, then tick *Occlusion map*. Then cover the evidence, and at last everything but the evidence. For one of the questions no single patch will do: whichever you cover, another one still shows the answer, so its map stays dark although the box holds all the evidence.

# %% id="cover"
from vlmcourse.diagnostics.occlusion import rivals_for
from vlmcourse.widgets.occlusion import LiveOcclusion

scene, boxes = exam.images[2], exam.asked[2].boxes                # the circle is green
pairs = {"What size is the green thing?": "medium", "What colour is the medium circle?": "green"}
size, colour = (occlusion_map(nano, scene, *pair) > 0.5 for pair in pairs.items())
assert size.any() and not colour.any()
LiveOcclusion(rivals_for(nano), scene, pairs, boxes=[boxes] * 2, right=[*pairs.values()])

# %% [markdown] id="q-museum" lang="en"
# ## 5 · The museum: repair them
#
# An exhibit has a symptom, a broken setup, and a verdict that looks at the **cause**. Make the symptom go and leave the cause, and you are told so. Read a new one:

# %% id="exhibit"
ill = EXHIBITS["never stops"]
print(ill.symptom, "\n\n" + ill.code())
endless = ill.broken.carry_out()
tabulate(dict(enumerate(endless.said[:3])), "image", asked="", said="", right="")
assert endless.seen["right, written"] < 0.1 and endless.seen["words of an answer"] > 4

# %% [markdown] id="predict-cause" lang="en"
# **Predict the cause** before you run the next cell. What is never learned? Somebody proposes a quick fix: let it write one token, `stop=1`. Does it repair?

# %% id="wrong-repair"
quick = repaired(ill, stop=1)
quick

# %% id="wrong-repair-check"
assert not quick.right and "symptom is gone" in quick.says

# %% [markdown] id="wrong-lesson" lang="en"
# The symptom is gone, the cause is not: the first two-word answer would be cut. Now name the cause and remove it. The function that makes right labels is `answer_labels`.

# %% id="right-repair"
from vlmcourse.families.museum_tuning import answer_labels

mended = repaired(ill, labels=answer_labels)
print(diagnosed(ill, "no end")); print(mended)
assert mended.right and mended.findings.seen["right, written"] > 0.5

# %% [markdown] id="b-intro" lang="en"
# Run B of section 1: its long rows were cut in front, and image tokens slipped into the next rows. Two proposals: cut at the other end, `keep="first"`; or do not cut, and let `place_images` refuse what does not fit. **Predict** both verdicts.

# %% id="repair-b"
from vlmcourse.families.museum_tuning import place_images

guessing = EXHIBITS["learned to guess"]
tries = {"cut behind": dict(keep="first"),
         "do not cut": dict(length=None, keep="first", place=place_images)}
verdicts = {name: repaired(guessing, **changes) for name, changes in tries.items()}
tabulate({name: str(verdict) for name, verdict in verdicts.items()}, "repair", verdict="")
assert not verdicts["cut behind"].right and verdicts["do not cut"].right

# %% [markdown] id="rest-intro" lang="en"
# Cut behind, and the images are whole, but answers are cut off instead. Runs A and C are yours: find the fields with `EXHIBITS["does not look"].code()` and repair them with `repaired`. So are the others; each takes seconds:

# %% id="all-exhibits"
tabulate({name: exhibit.symptom for name, exhibit in EXHIBITS.items()}, "exhibit", symptom="")
assert len(EXHIBITS) >= 12 and len(CAUSES) == len(EXHIBITS)

# %% [markdown] id="open-exhibits" lang="en"
# Open one with `EXHIBITS[name]`, run it with `.broken.carry_out()`, name a cause with `diagnosed(exhibit, cause)` (they stand in `CAUSES`), and repair it with `repaired(exhibit, field=value)`. `exhibit.tool` tells which tool finds it, and `exhibit.source` where it happened to somebody.

# %% [markdown] id="q-remedies" lang="en"
# ## 6 · What if nothing is broken, and it still does not look?
#
# Then the data may not *need* the image. A model learns the cheapest thing that lowers the loss, and habit is cheap. Before you blame the model, ask how far a guesser comes that never sees an image.

# %% id="blind"
from vlmcourse.diagnostics.controls import Blind
from vlmcourse.world import questions, scenes

lesson = questions.ask(scenes.sample("train", 2000), seed=1)
guesser = Blind([one.kind for one in lesson], [one.answer for one in lesson])
many = scene_exam(400).asked
guesses = guesser([one.kind for one in many])
hits = {}
for one, guess in zip(many, guesses):
    hits.setdefault(one.kind, []).append(guess == one.answer)
tabulate({kind: (float(np.mean(row)), len(row)) for kind, row in sorted(hits.items())},
         "kind of question", right_without_an_image=".0%", asked="d")
assert np.mean([guess == one.answer for guess, one in zip(guesses, many)]) < 0.5

# %% [markdown] id="remedies" lang="en"
# Where the guesser is often right, a lesson teaches little about looking. Five remedies that people use, one of them in two forms:
#
# | remedy | what it changes |
# |---|---|
# | twins | to every row a similar image with another answer (Goyal et al. 2017 searched for photographs; here the scene is edited) |
# | image-dependent rows only | rows that the question alone answers are left out |
# | image-dependent rows more often | or drawn rarely, by 1 − what a guesser gives the answer (Clark et al. 2019; close to Cadene et al. 2019) |
# | words dropped | words of the question are hidden while it learns (after Bowman et al. 2016, who hide words of what is written) |
# | swap loss | −log(1 − *p*) of the answer beside another image is added (as Zhu et al. 2020 do with *p*) |
# | contrastive decoding | what is likely without the image is subtracted when it answers (after Leng et al. 2024, who noise it) |
#
# The patient is the student of chapter 12, and its rows bear a habit: 95 % of the things have the colour that belongs to their shape. The test scenes bear none. So some test rows go **along** with the habit, and most go **against** it. A small patient learns now, and two remedies treat it. **Predict** what they do to the rows against habit, and to those along with it.

# %% id="remedies-live"
from vlmcourse.families import remedies, spoiling

sold = spoiling.biased(1000, seed=4)
test = spoiling.as_set(scenes.sample("validation", 300, objects=(2, 2)))
often, decoding = "image-dependent rows more often", "contrastive decoding"
pick = remedies.REMEDIES
patient, treated = [remedies.learn_with(pick[name], sold, steps=160, name=name)[0]
                    for name in ("nothing", often)]
live = {name: remedies.habit_scores(pick[name], student, test) for name, student in
        (("nothing", patient), (often, treated), (decoding, patient))}
tabulate({name: (n.right, n.blank, n.gap, n.against, n.along) for name, n in live.items()}, "",
         right=".0%", on_blank_paper=".0%", gap=".0%", against_habit=".0%", along=".0%")
assert live["nothing"].along > 0.9 and live["nothing"].against < 0.5
assert live[often].against > live["nothing"].against + 0.1
assert live[decoding].against > live["nothing"].against

# %% [markdown] id="remedies-contrast" lang="en"
# The patient answers by habit, and both remedies help where habit is wrong. Contrastive decoding is three lines, and trains nothing:
#
# ```python
# scores = (1 + alpha) * with_image - alpha * without
# plausible = with_image >= with_image.max(-1, keepdim=True).values + math.log(0.1)
# answer = scores.masked_fill(~plausible, -math.inf).argmax(-1)
# ```
#
# Now all remedies at **equal budget**: 2,000 images, 230 steps of 48 rows, 400 test scenes, three seeds. Numbers such as alpha were chosen with a fourth seed, on other scenes. The swap loss asks each row twice, so one arm more spends *its* seconds on more steps without a remedy. **Predict:** which one wins, and does one do harm? The card comes from `python tools/remedy_trials.py`.

# %% id="remedies-card"
import json
from vlmcourse.data.assets import shipped

arms = json.loads(shipped("remedy-trials.json").read_text())["arms"]
arms = {name: {what: np.array(row) for what, row in arm.items()} for name, arm in arms.items()}
for arm in arms.values(): arm["gap"] = arm["right"] - arm["blank"]
columns = ("right", "blank", "gap", "against", "along", "seconds")
tabulate({name: [arm[what].mean() for what in columns] for name, arm in arms.items()},
         "means of three seeds", right=".0%", on_blank_paper=".0%", gap=".0%", against_habit=".0%",
         along=".0%", CPU_seconds=".0f")
order = sorted(arms, key=lambda name: arms[name]["against"].mean())
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
for place, name in enumerate(order):
    colour = roles.control if name.startswith("nothing") else roles.learned
    left.plot(100 * arms[name]["against"], [place] * 3, "o", color=colour)
    right.barh(place, arms[name]["seconds"].mean(), color=colour)
seconds = arms[decoding]["seconds"].mean()
right.text(seconds + 0.5, order.index(decoding), "2 passes", va="center")
left.set_yticks(range(len(order)), order); left.set_xlabel("right against habit (%), each seed")
right.set_xlabel("price (CPU seconds)")
figure(fig, alt="Eight arms, right answers against habit of each of three seeds, and CPU seconds: "
                "twins lead at twice the price, image-dependent rows more often come next at none")
for name, arm in arms.items():
    assert name == "twins" or (arm["right"] < arms["twins"]["right"]).all()
assert (arms[often]["right"] > arms["nothing, more steps"]["right"]).all()
assert (arms["swap loss"]["right"] < arms["nothing, more steps"]["right"]).all()
assert (arms[decoding]["right"] > arms["nothing"]["right"]).all()
assert (arms["words dropped"]["right"] < arms["nothing"]["right"]).all()
assert (arms["image-dependent rows only"]["along"] < 0.3).all()

# %% [markdown] id="remedies-lesson" lang="en"
# **Twins win**, with every seed. They cost twice the seconds, and somebody must make the images. **Image-dependent rows more often** come next, for the price of counting answers; ahead of many more plain steps, though by little with one seed. The swap loss helps, but its seconds help more when spent on plain steps. Contrastive decoding helps every student where habit is wrong. It trains nothing, but each answer takes two passes.
#
# Two remedies warn. **Image-dependent rows only** does not remove the habit, it *turns it round*: where habit is right, the student is now mostly wrong, since it hardly saw such rows. Overall accuracy hides that. **Words dropped** did harm with every seed. A hidden word may be the one that says which thing is meant; we have not tested whether that is why.
#
# The column of blank paper hardly moves: in scenes without the habit, guessing earns everybody the same. So look at rows *against* a habit, not at the gap alone. And this is one small student with one habit, which a count of answers finds. A habit that nobody can count calls for twins.

# %% [markdown] id="q-break" lang="en"
# ## 7 · One command, and break it on purpose
#
# `vlmcourse diagnose nano-vlm` runs all these tools on a model, on the folder of a run too. Here is the same as a function. Then we draw the projector anew, as if its weights had not been loaded. **Predict:** which lines turn suspicious? Attention on the image? The gradient?

# %% id="break"
import copy

broken = copy.deepcopy(nano)
torch.manual_seed(0)
for layer in broken.model.projector.modules():
    if isinstance(layer, torch.nn.Linear): layer.reset_parameters()
plain = exam._replace(asked=())                                  # without maps, which take longest
whole, random = diagnose(nano, plain), diagnose(broken, plain)
tabulate({a.name: (a.number, a.verdict, b.number, b.verdict) for a, b in zip(whole, random)
          if a.name[:6] in ("image:", "projec", "answer")}, "check",
         whole=".2f", says="", drawn_anew=".2f", it_says="")

# %% id="break-check"
suspects = {line.name: line for line in random if not line.ok}
assert all(line.ok for line in whole)
assert "projector: kurtosis of its weights" in suspects
assert "answers: right, more than with another image" in suspects
assert not any(name.startswith("image: highest share") for name in suspects)
print(suspects["projector: kurtosis of its weights"].remedy)

# %% [markdown] id="break-lesson" lang="en"
# Found: the answers fall, and the **kurtosis** names the projector. It says how heavy the tails of numbers are: 1.8 for weights drawn evenly, as PyTorch's `Linear` does, and 3 for normal ones. Training moved ours away from 1.8. **Where weights begin normal, this check is blind.**
#
# Look at what did *not* turn. Attention still gives over half to the image, and the gradient reaches it. The model looks hard at vectors that it cannot read. Swaps tell *that* something is wrong, and one check out of many tells *what*. Run them all, then read them together.

# %% [markdown] id="real-intro" lang="en"
# ## 8 · Is this the real thing?
#
# Does your function work on a real LLaVA's attention? The same number for one of `transformers`, with random weights: through its `output_attentions`, and through our tool after loading its weights.
#
# A trap first. With the default attention, `sdpa`, a fused kernel never makes the weights. Ask for `attn_implementation="eager"`.

# %% id="real-build"
import transformers
from vlmcourse.interop import llava as carry
from vlmcourse.models.attention import record_attention

torch.manual_seed(1)
eye = transformers.CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, image_size=16, patch_size=4, projection_dim=32)
language = transformers.LlamaConfig(vocab_size=96, hidden_size=48, intermediate_size=64,
    num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
both = transformers.LlavaConfig(vision_config=eye, text_config=language, image_token_id=95,
                                image_token_index=95, vision_feature_layer=-2)
theirs = transformers.LlavaForConditionalGeneration._from_config(both, attn_implementation="eager")
for parameter in theirs.parameters():                            # large enough to look somewhere
    if parameter.dim() > 1: torch.nn.init.normal_(parameter, std=0.3)
ours = carry.from_transformers(theirs.eval())

# %% id="real-equal"
ids = torch.cat([torch.full((2, 16), 95), torch.randint(0, 90, (2, 7))], dim=1)
pixels, places = torch.randn(2, 3, 16, 16), ids == 95
with torch.no_grad(), record_attention(ours.language) as layers:
    out = theirs(input_ids=ids, pixel_values=pixels, output_attentions=True)
    ours(ids, pixels)
mine = image_share(torch.stack(layers), places)
real = image_share(torch.stack(out.attentions), places)
tabulate({k: (a, b) for k, (a, b) in enumerate(zip(real[:, 0, -1].tolist(),
                                                   mine[:, 0, -1].tolist()))},
         "layer", transformers=".4f", yours=".4f")
assert torch.allclose(mine, real, atol=1e-3)
assert real[:, :, -1].std() > 0.02                               # not as if they looked evenly

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. The loss and fluent answers do not tell whether a model looks. Swap the image: accuracy and change are two numbers.
# 2. One symptom, many causes. Audit the rows before the model, then look at three of them with your eyes.
# 3. A share of 0 at every token proves that a layer does not read the image; a large one proves nothing about its use.
# 4. Relevance and occlusion found the evidence; Grad-CAM on this model's patch tokens was near chance.
# 5. A repair removes the cause; what only hides the symptom comes back elsewhere. Where rows let it guess, rows that need the image did most.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("14_debugging/1")

# %% id="quiz-2"
quiz("14_debugging/2")

# %% id="quiz-3"
quiz("14_debugging/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Goyal et al. 2017, *Making the V in VQA Matter*, [arXiv:1612.00837](https://arxiv.org/abs/1612.00837): sections 1 and 3.
# - Jain and Wallace 2019, *Attention is not Explanation*, [arXiv:1902.10186](https://arxiv.org/abs/1902.10186).
# - Kobayashi et al. 2020, *Attention is Not Only a Weight*, [arXiv:2004.10102](https://arxiv.org/abs/2004.10102): section 3.
# - Chefer, Gur and Wolf 2021, *Generic Attention-model Explainability*, [arXiv:2103.15679](https://arxiv.org/abs/2103.15679): section 3.
# - Selvaraju et al. 2017, *Grad-CAM*, [arXiv:1610.02391](https://arxiv.org/abs/1610.02391): section 3.
# - Zeiler and Fergus 2013, *Visualizing and Understanding Convolutional Networks*, [arXiv:1311.2901](https://arxiv.org/abs/1311.2901): section 4.2.
# - Clark et al. 2019, *Don't Take the Easy Way Out*, [arXiv:1909.03683](https://arxiv.org/abs/1909.03683): the reweighted baseline.
# - Cadene et al. 2019, *RUBi*, [arXiv:1906.10169](https://arxiv.org/abs/1906.10169).
# - Bowman et al. 2016, *Generating Sentences from a Continuous Space*, [arXiv:1511.06349](https://arxiv.org/abs/1511.06349): word dropout.
# - Zhu et al. 2020, *Overcoming Language Priors with Self-supervised Learning*, [arXiv:2012.11528](https://arxiv.org/abs/2012.11528).
# - Leng et al. 2024, *Visual Contrastive Decoding*, [arXiv:2311.16922](https://arxiv.org/abs/2311.16922).
#
# **Next:** [15 · Efficient fine-tuning](15_efficient_finetuning.ipynb)
