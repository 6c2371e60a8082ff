# %% [markdown] id="title" lang="en"
# # 12 · Data: which set would you buy?
#
# **110 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# Eleven chapters changed the model. This one changes nothing but the data: the same model, the same steps, six training sets. Five have one fault each, as sets from the web have. You find, mend and count.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# This chapter is about what is fed to both ends of the model, **pictures and words**.
#
# ## After this you can
#
# - **read** a row of published data sets into one kind of record,
# - **measure** whether a row needs its picture, and whether people agree on its answer,
# - **filter** pairs that do not belong together and statements no box supports; **balance** habits,
# - **find** copies, and test pictures that leaked into training,
# - **check** a folder of your own pictures, and **train** on it.

# %% id="setup"
import json, tempfile, numpy as np, torch, matplotlib.pyplot as plt
from dataclasses import replace; from pathlib import Path
from vlmcourse.workbook import *
from vlmcourse.data import quality; from vlmcourse.families import spoiling
from vlmcourse.world import exporting, render, scenes
begin("12_data", lang="en")

# %% id="map"
course_map()

# %% [markdown] id="q-buy" lang="en"
# ## 1 · Which one would you buy?
#
# **Question.** Six sets of 2,000 pictures each are on offer. Each picture has a caption, and up to three questions about colour, shape and size. Here is the first picture of each, with its first row.

# %% id="shop"
offers = {"clean": spoiling.clean(60)}
offers |= {name: make(60) for name, (make, _) in spoiling.MENDED.items()}
fig, axes = plt.subplots(2, 3, figsize=(7, 5), layout="constrained")
for ax, letter, offer in zip(axes.flat, "ABCDEF", offers.values()):
    row = offer.rows[0]
    ax.imshow(offer.images[row.picture]); ax.axis("off")
    ax.set_title(f"{letter}: {row.question}\n{row.answer}", fontsize=9)
figure(fig, alt="Six scenes, A to F, each with a question and the answer that its set gives")
assert len(offers) == 6

# %% [markdown] id="shop-lesson" lang="en"
# Some faults you see at once: B has no triangle, C's row says nothing, D has the answer printed on it. E and F look as good as A. A fault of a *row* can be seen in a row, **a fault of a set cannot**. The sets are, in this order:
#
# | | set | what is done to it |
# |---|---|---|
# | A | **clean** | nothing |
# | B | **mismatched** | 60 % of the pictures trade places; texts stay |
# | C | **shallow** | 90 % of the rows fit every picture: *What is this? picture* |
# | D | **typographic** | every picture bears the answer to its question of colour, printed at its top |
# | E | **biased** | 95 % of the things have the colour that belongs to their shape |
# | F | **duplicated** | three of four pictures are copies of 20, in another light |
#
# One student learns from each: a frozen eye, and a small text model that looks at the image behind gates (chapter 06), 400,000 parameters. **Predict:** which fault costs most? Section 7 has the table.

# %% [markdown] id="q-record" lang="en"
# ## 2 · What is in a row?
#
# Before anything can be measured, the file must be read. Every published set has a form of its own. Scenes can be written in all of them, so we look at real forms with known content. **COCO** first: two lists, joined by a number.

# %% id="coco-by-hand"
folder = Path(tempfile.mkdtemp())
world = scenes.sample("train", 10, objects=(2, 3))
written = exporting.export_coco(world, folder / "coco")
whole = json.loads((folder / "coco/annotations/captions_train2017.json").read_text())
image = whole["images"][0]
own = [entry for entry in whole["annotations"] if entry["image_id"] == image["id"]]
print("images[0]:", image)
tabulate({entry["id"]: repr(entry["caption"]) for entry in own}, "annotation", caption="")
assert len(own) == 3 and any(entry["caption"].endswith("\n") for entry in own)

# %% [markdown] id="coco-lesson" lang="en"
# Several captions belong to one picture, they stand anywhere in their list, and some end with a line end, as in the real file. Whoever takes the first caption and stops has thrown away most of COCO.
#
# All forms become one `Record`: the picture's name, turns of a conversation, captions, the answers of several people, boxes. It opens the picture only when asked, and never one outside its folder.

# %% id="record"
from vlmcourse.data.formats.coco import read_coco
from vlmcourse.data.formats.genome import read_visual_genome

read = [*read_coco(folder / "coco/annotations/captions_train2017.json", folder / "coco/train2017")]
first = read[0]
tabulate({"image": first.image, "captions": " / ".join(first.captions), "key": first.key,
          "where": first.where}, "record", content="")
graphs = exporting.export_genome(world, folder / "genome")        # Visual Genome, likewise
assert read == written and first.load().shape == (64, 64, 3)
assert [*read_visual_genome(folder / "genome", folder / "genome")] == graphs

# %% [markdown] id="sets" lang="en"
# | set | its rows | good for | look out for |
# |---|---|---|---|
# | **COCO Captions** (Chen et al. 2015) | five captions a picture, written by people for it | captioning, retrieval | everyday scenes only |
# | **VQA v2** (Goyal et al. 2017) | ten people's answers; each question about two like pictures | answering in a word | questions file and answers file, joined by a number |
# | **Visual Genome** (Krishna et al. 2016) | regions, objects, attributes, relationships with boxes | grounding, relations | names as people wrote them, merged objects |
# | **LAION** (Schuhmann et al. 2021, 2022) | a link, the text beside it on the web, a CLIP score | pretraining by contrast | dead links, texts about something else |
# | **LLaVA-Instruct** (Liu et al. 2023) | conversations written by a language model from COCO's captions and boxes | instruction tuning | `<image>` before or behind; in LLaVA-1.5's mixture, rows without picture |
# | **your own** | `{image, instruction, output}`, a line each | your task | section 9 |
#
# LLaVA's rows have two traps. Two rows in its form:

# %% id="llava-by-hand"
exporting.export_llava(world, folder / "llava")
rows = json.loads((folder / "llava/llava_instruct_scenes.json").read_text())
tabulate({(n, turn, said["from"]): repr(said["value"]) for n in (0, 1)
          for turn, said in enumerate(rows[n]["conversations"])}, "row, turn, from", value="")
forms = [row["conversations"][0]["value"] for row in rows[:2]]
assert forms[0].startswith("<image>\n") and forms[1].endswith("\n<image>")

# %% [markdown] id="ex-llava" lang="en"
# ### Your turn: `llava_record` · difficulty 2/5 · 9 min
#
# | | |
# |---|---|
# | `row` | a dict with `"id"`, `"conversations"` (a list of `{"from", "value"}`), and mostly `"image"` |
# | out | `Record(image=, turns=, key=)`: the picture's name or None; a **tuple** of `(role, text)`; the id as a text |
#
# - `human` is `user`, `gpt` is `assistant`, `system` stays (`SPEAKERS` in the module says so).
# - In a user's turn `<image>` stands in front, without a line end, and spaces around the text go: `image_first(text)` does both. Other turns stay as they are.
# - An assistant's turn before the first turn of a user is dropped, as LLaVA's own code does.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="llava_record"
from vlmcourse.data.formats import llava
from vlmcourse.data.formats.llava import SPEAKERS
from vlmcourse.data.records import Record, image_first

@exercise(llava.llava_record)
def llava_record(row):
    """{"id": "7", "image": "7.png", "conversations": [...]} -> Record"""
    # 1. go through the turns   2. skip what nobody asked for   3. put them into a Record
    raise NotImplementedError

# %% id="llava-proved"
records = [*llava.read_llava(folder / "llava/llava_instruct_scenes.json", folder / "llava")]
tabulate({r.key: (r.image or "none", repr(r.turns[0][1])) for r in records[:5]}, "record",
         image="", first_turn="")
assert all(r.turns[0][1].startswith("<image>") == (r.image is not None) for r in records)
assert sum(record.image is None for record in records) == 2

# %% [markdown] id="llava-lesson" lang="en"
# Your function read ten rows in two forms, two of them without picture. In LLaVA-1.5's mixture 40,688 of 665,298 rows are text alone. A loader that expects a picture in each stops there, or worse, gives them a black one.
#
# Whatever cannot be used is a **skip**: counted by reason, with file and row. More than one in a hundred stops the run (`records.Skips`).

# %% [markdown] id="q-needed" lang="en"
# ## 3 · Does a row need its picture?
#
# A question whose answer is known without the picture teaches nothing about seeing. So ask a model three times: with the row's picture, without one, and with another row's. What does the right picture save?
#
# By hand, losses of one answer: with its picture 0.2, without 2.0, with a wrong one 4.0. The better control is 2.0, so the picture saves **1.8**. Another row: 3.0, 0.5 and 1.0. Here it is **−2.5**: the picture makes the answer *less* likely.
#
# ### Your turn: `image_dependence` · difficulty 1/5 · 5 min
#
# | | |
# |---|---|
# | `seen`, `unseen`, `wrong` | `(row,)`: loss of each answer with its picture, without, and with another one |
# | out | `(row,)`: what the picture saves, beside the better of the two controls |

# %% id="image_dependence"
@exercise(quality.image_dependence)
def image_dependence(seen, unseen, wrong):
    """(row,) three times -> (row,)"""
    raise NotImplementedError

# %% [markdown] id="judge-intro" lang="en"
# Who asks? A student that learned from 1,200 pictures, of whose rows 30 % were shallow. It judges new rows of three kinds: true ones, true rows beside *another* picture, and shallow ones. **Predict** the sign of each kind's score.

# %% id="judge"
sizes = budget(cpu=dict(steps=180), gpu=dict(steps=230))
judge, _ = spoiling.learn_from(spoiling.shallow(1200, share=0.3), sizes.steps, name="the judge")

@torch.no_grad()
def answer_losses(found):
    """Loss of the answer of every row."""
    seen, rows = spoiling.as_tensors(found)
    scores = spoiling.answer_scores(judge, seen, rows)
    return torch.nn.functional.cross_entropy(scores, rows.answer, reduction="none")

# %% id="dependence"
from vlmcourse.speak import blinded

def dependence(found):
    """Image dependence of each row, and its three losses."""
    views = found.images, blinded(found.images), np.roll(found.images, 7, axis=0)
    losses = [answer_losses(replace(found, images=view)) for view in views]
    return image_dependence(*losses), losses

true = spoiling.clean(200, seed=9)
strange = replace(true, images=np.roll(true.images, 1, axis=0))
empty = replace(true, rows=[spoiling.AskedRow(n, *spoiling.EMPTY, "") for n in range(200)])
kinds = {"true": true, "another's picture": strange, "shallow": empty}
scores = {name: dependence(found) for name, found in kinds.items()}

# %% id="dependence-table"
means = {name: [loss.mean().item() for loss in losses] + [score.mean().item(),
         (score > 0.1).float().mean().item()] for name, (score, losses) in scores.items()}
tabulate(means, "rows", with_it=".2f", without=".2f", with_another=".2f", dependence="+.2f",
         need_it=".0%")
assert means["true"][3] > 0.5 > 0.05 > abs(means["shallow"][3])
assert means["another's picture"][3] < -0.5 and means["true"][4] > 0.55

# %% [markdown] id="dependence-lesson" lang="en"
# Three kinds, three signs. Shallow rows score 0: to so vague an instruction the answer is known, whatever is shown. Rows beside another's picture are below 0 on average. In our run 71 % of the true rows need their picture, by more than 0.1.
#
# The benchmark MMStar began like this: language models answered without pictures, what most got right was dropped, and people checked the rest (Chen et al. 2024).
#
# ### Ask ten people
#
# VQA v2 has ten answers to each question. Where people disagree, a single right answer is an accident.
#
# By hand: five say *red*, five say *pink*. Shares ½ and ½; entropy −½·log₂ ½ − ½·log₂ ½ = **1 bit**. All ten alike: **0 bits**. Ten different answers: log₂ 10 = **3.32 bits**.
#
# ### Your turn: `answer_entropy` · difficulty 2/5 · 6 min
#
# In: a list of texts, one for each person. Out: a float, the sum over *different* answers of −share · log₂ share.

# %% id="answer_entropy"
import math
from collections import Counter

@exercise(quality.answer_entropy)
def answer_entropy(answers):
    """["red", "red", "pink", "rose"] -> 1.5"""
    raise NotImplementedError

# %% id="entropy-seen"
from vlmcourse.data.formats.vqa import read_vqa

exporting.export_vqa(scenes.sample("train", 300), folder / "vqa")
files = [folder / f"vqa/v2_{name}.json" for name in
         ("OpenEnded_mscoco_train2014_questions", "mscoco_train2014_annotations")]
asked = sorted(read_vqa(*files, folder / "vqa"), key=lambda one: answer_entropy(one.answers))
picked = {one.turns[0][1].removeprefix("<image>"): (answer_entropy(one.answers) + 0,
          ", ".join(f"{n} {said}" for said, n in Counter(one.answers).most_common()))
          for one in (*asked[:2], *asked[-2:])}
tabulate(picked, "question", bits=".2f", answers="")
doubtful = quality.ambiguous(asked, most=1.2)
assert answer_entropy(asked[0].answers) == 0 and 0 < len(doubtful) < 100

# %% [markdown] id="entropy-lesson" lang="en"
# The ten people are simulated: some mistake a colour or a size for its neighbour. Real people disagree since the picture is poor, the question vague, or both answers true (Bhattacharya et al. 2019). For the first two, leave the row out; for the last, keep all answers and grade as VQA does (chapter 13).
#
# ## 4 · Do picture and text belong together?
#
# On the web they often do not. A CLIP model says how alike picture and caption are, and LAION-400M kept what scored above 0.3 (Schuhmann et al. 2021). DataComp compared filters, and the *best 30 %* by CLIP's score was among the strongest (Gadre et al. 2023).
#
# By hand: similarities 0.2, 0.3, 0.3, 0.1, 0.3 and a share of 0.4. 5 · 0.4 = 2 rows stay: the *first* two with 0.3.
#
# ### Your turn: `clip_filter` · difficulty 2/5 · 8 min
#
# | | |
# |---|---|
# | `similarity` | `(row,)`; NaN where it is unknown, the picture could not be fetched, say |
# | `share` | of all n rows, NaN among them, the n · share best stay, rounded down |
# | out | `(row,)` bool: True for rows that stay. Of equal ones the earlier stays; NaN never does |

# %% id="clip_filter"
@exercise(quality.clip_filter)
def clip_filter(similarity, share):
    """bool, as long as similarity"""
    # 1. how many?   2. the best of them, NaN last   3. mark their places
    raise NotImplementedError

# %% [markdown] id="browser-intro" lang="en"
# Set B: 60 % of its pictures traded places. `clip-scenes` of chapter 04 judges, and we keep 40 %.

# %% id="similarity"
from vlmcourse.families import clips
from vlmcourse.world.captions import captions

sold = spoiling.mismatched(1500)
clip, _ = clips.load_clip("clip-scenes")
with torch.no_grad():
    alike = (clips.image_features(clip, sold.images) * clips.text_features(clip, sold.told)).sum(1)
kept = clip_filter(alike, 0.4)
belong = torch.tensor([a == b for a, b in zip(sold.told, captions(sold.true, "short"))])
counts = {"kept": [int((kept & belong).sum()), int((kept & ~belong).sum())],
          "dropped": [int((~kept & belong).sum()), int((~kept & ~belong).sum())]}
tabulate(counts, "the filter", caption_true="d", caption_false="d")
assert counts["kept"][0] > 4 * counts["kept"][1]

# %% [markdown] id="browser-try" lang="en"
# Below are false captions, those that fooled CLIP first. **Try:** sort by image dependence, from the judge of section 3: did the same rows fool it?

# %% id="browser"
from vlmcourse.widgets.browsing import browse_set

few = spoiling.keep_pictures(sold, range(600))
needed, _ = dependence(few)
tags = {"caption": ["true" if fits else "false" for fits in belong[:600]],
        "filter": ["kept" if stays else "dropped" for stays in kept[:600]]}
browser = browse_set(few, {"CLIP": alike[:600]}, {"image dependence": needed}, tags,
                     sign="caption", start={"caption": "false"}, title="600 pictures of set B")
fits = belong[[row.picture for row in few.rows]]
assert needed[fits].mean() > 0.5 > 0 > needed[~fits].mean()
browser

# %% [markdown] id="filter-intro" lang="en"
# Does it help a student? Three learn, 180 steps each: from set B as it is sold, from what the filter left of it (600 pictures of 1,500), and from a clean set of 1,500. **Predict** what share of the lost right answers comes back.

# %% id="filter-live"
test = spoiling.as_set(scenes.sample("test", 300, objects=(2, 2)))

def student(found, name):
    """Share of right answers about clean test pictures, after learning from a set."""
    model, _ = spoiling.learn_from(found, sizes.steps, name=name)
    return spoiling.graded(model, test).float().mean().item()

filtered = spoiling.keep_pictures(sold, kept.nonzero()[:, 0].tolist())
arms = {"mismatched": sold, "filtered": filtered, "clean": spoiling.clean(1500)}
right = {name: student(found, name) for name, found in arms.items()}
back = (right["filtered"] - right["mismatched"]) / (right["clean"] - right["mismatched"])
tabulate({name: (len(arms[name].images), share) for name, share in right.items()}, "learned from",
         pictures=",", right=".0%")
print(f"the filter brings back {back:.0%} of what was lost")
assert right["clean"] > 0.88 and right["mismatched"] < 0.75 and back > 0.7

# %% [markdown] id="filter-lesson" lang="en"
# In our run 61 %, 96 % and 97 %. Less than half of the set is the better set: a false row pulls against the true ones. But a few false captions were kept, and as many true ones dropped. Here CLIP knows this world; on the web it does not. **A filter passes what its own model knows**.

# %% [markdown] id="q-habit" lang="en"
# ## 5 · What does a habit know?
#
# Set E is true, every row of it. Only: its circles are nearly all red. Whoever reads *circle* can say *red*, and never look. In VQA v1, whoever answered *yes* to every "Do you see a …?" was right in 87 % of cases (Goyal et al. 2017, section 1).
#
# How much does a habit know? Give each question the answer it most often had in training.

# %% id="habit"
from vlmcourse.diagnostics.controls import Blind

def by_habit(found, asked):
    """Share of right answers about colours if each question gets its most frequent answer."""
    learned, rows = ([row for row in each.rows if row.kind == "colour"] for each in (found, asked))
    habit = Blind([row.question for row in learned], [row.answer for row in learned])
    said = habit([row.question for row in rows])
    return np.mean([a == row.answer for a, row in zip(said, rows)])

biased = spoiling.biased(400)
sets = {"clean": spoiling.clean(400), "biased": biased}
habits = {name: (by_habit(found, found), by_habit(found, test)) for name, found in sets.items()}
tabulate(habits, "questions of colour, by habit", in_the_set_itself=".0%", in_the_clean_test=".0%")
assert habits["biased"][0] > 0.8 > 0.5 > habits["clean"][0] and habits["biased"][1] < 0.45

# %% [markdown] id="ex-balance" lang="en"
# In the biased set, a habit that never looks is right about nine colours of ten. In the clean test it is worth nothing. The simplest cure is to cut: no question keeps an answer that outweighs all its others.
#
# By hand: *What colour is the sky?* has *blue* five times, *grey* once, *red* once. Others: 2. So 2 of the 5 blue rows stay, the first two, and both others. A question with 3, 3 and 1 stays as it is.
#
# ### Your turn: `balanced_rows` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `asked`, `answers` | lists of texts, one for each row |
# | out | list of row numbers that stay, rising, from 0 |
#
# If a question's most frequent answer is given in more than half of its rows, only as many of those as there are rows with another answer stay: the first ones. All else stays.

# %% id="balanced_rows"
@exercise(quality.balanced_rows)
def balanced_rows(asked, answers):
    """["sky?", "sky?", "sky?"], ["blue", "blue", "grey"] -> [0, 2]"""
    # 1. a Counter for each question   2. room for its habit   3. go through the rows
    raise NotImplementedError

# %% id="balanced"
stay = balanced_rows([row.question for row in biased.rows], [row.answer for row in biased.rows])
cut = replace(biased, rows=[biased.rows[n] for n in stay])
mended = spoiling.balanced(biased)
sets |= {"biased, cut": cut, "biased, with twins": mended}
habits = {name: (len(found.rows), by_habit(found, found)) for name, found in sets.items()}
tabulate(habits, "set", rows=",", habit_knows_of_its_colours=".0%")
assert habits["biased, cut"][1] < 0.6 and habits["biased, with twins"][1] < 0.6
assert habits["biased, cut"][0] < 0.5 * habits["biased"][0] < habits["biased, with twins"][0]

# %% [markdown] id="twins-lesson" lang="en"
# Cutting alone works, and leaves a third: in a biased set there is little to be balanced *with*. So Goyal et al. went and **made** the missing rows. People were shown a picture, a question, and its 24 nearest neighbours, and picked one with another answer. `spoiling.balanced` does it by editing scenes: each row gets a **twin**, the same question about a picture in which the answer differs.

# %% id="twins-figure"
row = biased.rows[0]
twin = next(new for new in mended.rows if new.question == row.question and new.answer != row.answer
            and new.picture >= len(biased.images))
fig, axes = plt.subplots(1, 2, figsize=(4.6, 2.3), layout="constrained")
for ax, each in zip(axes, (row, twin)):
    ax.imshow(mended.images[each.picture]); ax.axis("off")
    ax.set_title(f"{each.question}\n{each.answer}", fontsize=9)
figure(fig, alt="The same question about two scenes, with two different answers")
assert row.question == twin.question and row.answer != twin.answer

# %% [markdown] id="q-copies" lang="en"
# ## 6 · Who has seen this picture before?
#
# Copies on the web have another size, another light, JPEG once more. Their bytes differ; a checksum finds none. A **difference hash** asks 64 questions that survive: shrink the picture to 8 rows of 9 grey pixels; is each one brighter than the one to its left?
#
# By hand, a row of four: 3, 5, 1, 1. Brighter than its left neighbour? 5 yes, 1 no, 1 no (equal is not brighter): bits **1, 0, 0**. Make all pixels twice as bright: the same bits.
#
# ### Your turn: `difference_hash` · difficulty 2/5 · 6 min
#
# | | |
# |---|---|
# | `grey` | `(image, row, column)` |
# | out | `(image, bit)` bool, row by row; column − 1 bits for each row |

# %% id="difference_hash"
@exercise(quality.difference_hash)
def difference_hash(grey):
    """is each pixel brighter than the one to its left?"""
    raise NotImplementedError

# %% id="hash-seen"
some = test.true[np.arange(200)]
copies = render.render(replace(some, light=(some.light + 3) % 8))
first, second = (difference_hash(quality.in_small_grey(images))
                 for images in (test.images[:200], copies))
distance = quality.hamming(first, second)
same = torch.eye(200, dtype=torch.bool)
fig, axes = plt.subplots(1, 4, figsize=(7, 1.9), layout="constrained")
panels = [test.images[0], first[0].view(8, 8), copies[0], second[0].view(8, 8)]
titles = ["picture", "its 64 bits", "other light", f"{distance[0, 0]} bits differ"]
for ax, panel, title in zip(axes, panels, titles):
    ax.imshow(panel); ax.set_title(title, fontsize=9); ax.axis("off")
figure(fig, alt="A scene and its 8 by 8 bits; the same scene in another light, and its bits")

found = {most: [(distance[same] <= most).float().mean().item(),
                (distance[~same] <= most).float().mean().item()] for most in (0, 2, 4, 6, 12, 16)}
tabulate(found, "bits that may differ", copies_found=".0%", others_taken_for_copies=".2%")
assert found[0][0] < 0.6 and found[6][0] > 0.95 and found[6][1] < 0.001 < found[16][1]

# %% [markdown] id="hash-lesson" lang="en"
# Copies differ in few bits, and hardly any other pair in so few: the threshold belongs in between. Where that is depends on the pictures. Mirrored or cropped pictures escape this hash; features of a trained model find them (Abbas et al. 2023, SemDeDup).
#
# ### Break it on purpose: leak the test
#
# A small clean set of 100 pictures, and the same set with a *leak*: copies of the first 150 test pictures, in another light, with their rows. **Predict** the scores on the 150 that leaked and on the 150 that did not.

# %% id="leak"
def join(one, more):
    """Both sets as one."""
    rows = one.rows + [row._replace(picture=row.picture + len(one.images)) for row in more.rows]
    both = scenes.concatenate([one.true, replace(more.true, split=one.true.split)])
    images = np.concatenate([one.images, more.images])
    return spoiling.TrainingSet(images, rows, one.told + more.told, both)

half = test.true[np.arange(150)]
small = spoiling.clean(100)
leaky = join(small, spoiling.as_set(replace(half, light=(half.light + 3) % 8)))
is_leaked = torch.tensor([row.picture < 150 for row in test.rows])

# %% id="leak-live"
def halves(found, name):
    """Right on the half of the test that may have leaked, and on the other half."""
    model, _ = spoiling.learn_from(found, sizes.steps, name=name)
    marks = spoiling.graded(model, test).float()
    return [marks[is_leaked].mean().item(), marks[~is_leaked].mean().item()]

leaks = {"100 clean pictures": halves(small, "honest"), "and the leak": halves(leaky, "leaky")}
hashes = [quality.picture_hashes(images) for images in (leaky.images, test.images)]
caught = quality.leaked(*hashes, 6)
tabulate(leaks, "learned from", the_150_that_leaked=".0%", the_other_150=".0%")
print(int(caught[:150].sum()), "of 150 leaked pictures caught;", int(caught[150:].sum()), "others")
assert leaks["and the leak"][0] - leaks["and the leak"][1] > 0.05 and caught[:150].sum() > 140
assert abs(leaks["100 clean pictures"][0] - leaks["100 clean pictures"][1]) < 0.1

# %% [markdown] id="leak-lesson" lang="en"
# The honest student does as well on both halves. The leaky one is better on both, having 150 pictures more, and looks nearly perfect on what it had seen; in our run 100 % against 85 %. Only the second number says what it can do. `leaked` catches the copies before anything is trained.

# %% [markdown] id="q-table" lang="en"
# ## 7 · The bill
#
# Now all six sets, with 2,000 pictures, 230 steps, and three seeds. Each fault has a cure. Two had help that you would not have: twins edit scenes, where people look for other pictures, and 40 % is the share that we left true.
#
# | fault | cure |
# |---|---|
# | mismatched | the 40 % that CLIP finds most alike |
# | shallow | `nano-vlm` describes each picture; questions are made from its words |
# | typographic | print is found, and painted over |
# | biased | twins, then `balanced_rows` |
# | duplicated | one of each group that is alike in 16 × 16 pixels |
#
# The runs take eight minutes of one quiet core, so they stand on a card: `python tools/data_trials.py`.

# %% id="card"
from vlmcourse.data.assets import shipped

card = json.loads(shipped("data-trials.json").read_text())
shares = {name: np.array(values) for name, values in card["right"].items()}
clean = shares["clean"].mean()

def line(name):
    """Faulty, mended, and the share of the loss that came back."""
    ill, well = shares[name].mean(), shares[f"{name}, mended"].mean()
    return ill, well, (well - ill) / (clean - ill)

bill = {name: line(name) for name in spoiling.MENDED}
tabulate({"clean": (clean, float("nan"), float("nan"))} | bill, "set", as_sold=".0%", mended=".0%",
         of_the_lost_is_back=".0%")
back = {name: share for name, (_, _, share) in bill.items()}
assert clean > 0.95 and min(bill, key=lambda name: bill[name][0]) == "shallow"
assert min(back.values()) > 0.9

# %% id="bill-figure"
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for place, name in enumerate(bill):
    for shift, key, colour, mark in ((-0.12, name, roles.accent, "v"),
                                     (0.12, f"{name}, mended", roles.learned, "o")):
        label = ("as sold" if mark == "v" else "mended") if place == 0 else None
        ax.plot(place + shift + np.array([-0.05, 0, 0.05]), 100 * shares[key], mark, color=colour,
                label=label)
ax.axhline(100 * clean, color=roles.ink, linestyle="--", linewidth=1, label="clean")
ax.set(xticks=range(len(bill)), ylabel="right (%)", ylim=(40, 100)); ax.set_xticklabels(bill)
ax.legend(loc="lower right")
figure(fig, alt="Right answers of a student by training set, three seeds each: every fault costs, "
                "and every mended set is above the faulty one")

# %% [markdown] id="bill-lesson" lang="en"
# Means of three seeds. Clean data gives 98 %. **Shallow** rows cost most, 43 points; then false pairs, 38, habits, 33, print, 25, and copies, 20.
#
# Every cure brings back more than nine tenths of what was lost. **Twins** are the dearest: 7,300 pictures for 2,000. D's student read the print; the test has none.
#
# One caution: `nano-vlm` and `clip-scenes` learned from clean scenes, and bring that into sets B and C. And of set F a quarter is left, 520 pictures, which taught more than 2,000 did: **count what is different.**

# %% [markdown] id="q-rows" lang="en"
# ## 8 · Who writes the rows?
#
# LLaVA's 158,000 rows were written by a language model that saw **no picture**. It read captions, and boxes as numbers (Liu et al. 2023, section 3). Here is a picture as it reads one.

# %% id="symbols"
from vlmcourse.data import generating, grounding

batch = scenes.sample("test", 100, objects=(2, 4))
records = exporting.scene_records(batch)
words = grounding.Lexicon.of(records)
grounds = [grounding.Grounds(record, words, (64, 64)) for record in records]
print(generating.prompt_for(records[0], (64, 64), generating.DESCRIBE))
assert words.names == set(scenes.SHAPES)

# %% [markdown] id="ruled-intro" lang="en"
# Rules can write from boxes, too. A row of each of LLaVA's three kinds, with the boxes of what it speaks of: that is **grounding**.

# %% id="ruled"
import textwrap
ruled = [generating.ruled_rows(record, words, (64, 64)) for record in records]
n = next(n for n, rows in enumerate(ruled) if rows[-1].kind == "reasoning")
rows = {row.kind: row for row in ruled[n]}
fig, axes = plt.subplots(1, 3, figsize=(7, 4.4), layout="constrained")
for ax, (kind, row) in zip(axes, rows.items()):
    ax.imshow(render.render(batch[n])[0]); ax.axis("off")
    for left, top, right, bottom in row.boxes:
        ax.add_patch(plt.Rectangle((left - 1, top - 1), right - left + 1, bottom - top + 1,
                                   fill=False, color=roles.ink, linewidth=2))
    parts = [textwrap.fill(text, 29) for text in (row.instruction, row.output)]
    ax.set_title(f"\n{kind}\n" + "\n\n".join(parts), fontsize=9, loc="left",
                 verticalalignment="bottom")
figure(fig, alt="A scene three times, a row of each kind above it; boxes show what each answer "
                "speaks of")
assert set(rows) == set(generating.ROW_KINDS) and rows["reasoning"].boxes

# %% [markdown] id="writers-intro" lang="en"
# A model without eyes invents. So boxes decide: a statement stays if what it names is there once, number and relation fit the boxes, and nothing is too close to tell.
#
# Three writers: rules; `nano-chat`, which cannot read boxes and gets the instruction alone; `nano-vlm`, which sees. **Predict** for each: what share is true?

# %% id="writers"
from vlmcourse.families import nano, preparing
from vlmcourse.world.grammar import SENTENCE

asked = [(n, row) for n, rows in enumerate(ruled) for row in rows if row.kind != "reasoning"]
texts = [row.instruction + SENTENCE * (row.kind == "conversation") for _, row in asked]
seen = render.render(batch)[[n for n, _ in asked]]
written = {"rules": [row.output for _, row in asked],
           "nano-chat": preparing.answer_unseen(preparing.load_prepared("nano-chat")[0], texts),
           "nano-vlm": nano.load_named("nano-vlm")[0].answer(seen, texts)}

# %% id="kept-true"
from vlmcourse.evaluation.statements import true_statement
from vlmcourse.world.truth import list_things

def true_of(row, n):
    """Whether all that a row states is true of scene n; boxes have no part in it."""
    said = grounding.statements(row.output)
    return bool(said) and all(true_statement(one, list_things(batch, n)) for one in said)

table, dropped = {}, {}
for name, outputs in written.items():
    drafts = [row._replace(output=output) for (_, row), output in zip(asked, outputs)]
    kept, dropped[name] = generating.keep_grounded(zip(drafts, [grounds[n] for n, _ in asked]))
    before = [true_of(row, n) for row, (n, _) in zip(drafts, asked)]
    after = [true_of(row, n) for row, (n, _) in zip(kept, asked) if row]
    table[name] = len(drafts), np.mean(before), len(after), np.mean(after)
tabulate(table, "written by", rows="d", true=".0%", kept="d", true_of_these=".0%")
reasons = [reason for reason, _ in sum(dropped.values(), Counter()).most_common() if reason]
chat, seer = dropped["nano-chat"], dropped["nano-vlm"]
tabulate({reason: (chat[reason], seer[reason]) for reason in reasons}, "statements dropped",
         of_nano_chat="d", of_nano_vlm="d")
assert table["rules"][1] == 1 and table["nano-chat"][1] < 0.5 < 0.8 < table["nano-vlm"][1]
assert min(line[3] for line in table.values()) > 0.98

# %% [markdown] id="rows-lesson" lang="en"
# In our run a third of what `nano-chat` wrote is true, 94 % of what `nano-vlm` wrote, and all that stays of either. The truth we grade with never looks at boxes.
#
# Our boxes are exact, and every thing has one. In Visual Genome "no dog" may mean that nobody drew it; `Grounds(complete=False)` then supports no number and no denial. Whether a true answer answers the question, no box knows.

# %% [markdown] id="q-own" lang="en"
# ## 9 · Your own pictures
#
# The form that most projects begin with: a folder, and one line of `{image, instruction, output}` for each row. We make one with 20 scenes, and spoil it as real ones are: a file cut off, one of 0 bytes, a text that calls itself a picture, a copy, and hostile rows.

# %% id="own-folder"
mine = folder / "mine"
exporting.export_own(scenes.sample("train", 20, seed=4), mine)
exporting.export_own(scenes.sample("test", 5, seed=4), mine, file="test.jsonl")
lines = (mine / "train.jsonl").read_text().splitlines()
pictures = [mine / json.loads(text)["image"] for text in lines]
for number, content in ((3, pictures[3].read_bytes()[:200]), (7, b""), (11, b"honestly, a picture"),
                        (15, pictures[14].read_bytes())):
    pictures[number].write_bytes(content)             # cut off; empty; no picture; a copy
hostile = [dict(image="../../etc/passwd", instruction="What is this?", output="A secret."),
           dict(image=pictures[0].name, instruction="What is this?"), "no row at all"]
lines += [json.dumps(row) for row in hostile] + ['{"image": "cut']
assert (mine / "train.jsonl").write_text("\n".join(lines) + "\n") > 1000

# %% id="own-check"
from vlmcourse.data.checking import check_folder

checkup = check_folder(mine)
tabulate({what: (found, state) for what, found, state in checkup.table()}, "looked at", found="",
         state="")
tabulate({reason: (count, place.replace(str(mine), "")) for reason, count, place in checkup.skips},
         "left out", rows="", the_first="")
assert checkup.stops and sum(int(count) for _, count, _ in checkup.skips) == 7

# %% [markdown] id="own-lesson" lang="en"
# Seven rows are left out, each with its reason, file and line. The row that points outside the folder is refused.

# %% id="own-next"
print(*checkup.next_steps(), sep="\n")
good = [text for n, text in enumerate(lines[:20]) if n not in (3, 7, 11, 15)]
(mine / "train.jsonl").write_text("\n".join(good) + "\n")
again = check_folder(mine)
print("\nwithout those rows and the copy:", "stops" if again.stops else "can be trained on")
assert not again.stops

# %% [markdown] id="own-command" lang="en"
# On your machine: `vlmcourse check FOLDER` prints the same report.
#
# ### Train on them
#
# A folder of photographs: four motifs that no model of the course ever saw, eight crops of each to learn from, others to ask about. `nano-vlm`, whose eye knows five shapes in seven colours, goes on learning; half of every step is old scenes. **Predict:** can it tell the photographs apart, and what do the scenes pay?

# %% id="own-photos"
from PIL import Image
from vlmcourse.data.photos import PHOTOS, photo

photos, dice = folder / "photos", np.random.default_rng(0)
photos.mkdir()
for file, count in (("train", 8), ("test", 6)):
    rows = []
    for name, says in PHOTOS.items():
        for number in range(count):
            side = dice.integers(150, 215)
            top, left = dice.integers(0, 224 - side, 2)
            crop = Image.fromarray(photo(name, 224)[top:top + side, left:left + side])
            crop.save(photos / f"{file}-{name}-{number}.png")
            rows.append(dict(image=f"{file}-{name}-{number}.png", output=says,
                             instruction="What is in this photo?"))
    (photos / f"{file}.jsonl").write_text("\n".join(map(json.dumps, rows)))
assert not check_folder(photos).stops

# %% id="own-train"
from vlmcourse.evaluation.answers import accuracy
from vlmcourse.families.making import load_speaker
from vlmcourse.families.own_pictures import train_own
from vlmcourse.families.report_card import report_on_pictures

own_steps = budget(cpu=dict(steps=100), gpu=dict(steps=200)).steps
own, _, _ = train_own(photos, "nano-vlm", steps=own_steps, name="own photographs")
card = report_on_pictures(own, "own", photos)
names = ["the same answer", "the same answer, an empty image", "the same answer, another image"]
shares = {name: card[name] for name in names}
exam, old = scenes.sample("test", 40), load_speaker("nano-vlm")[0]
for name, speaker in (("scenes, before", old), ("scenes, after", own)):
    shares[name] = np.mean([*accuracy(speaker, exam).values()])
tabulate(shares, "crops it never saw, and scenes", right=".0%")
assert shares[names[0]] > 0.8 and max(shares[names[1]], shares[names[2]]) < 0.3
assert shares["scenes, before"] > 0.95 and shares["scenes, after"] > 0.85

# %% [markdown] id="own-train-lesson" lang="en"
# In our run it can, and a blank picture or another's gets none right: it looks. But train and test are crops of the *same* photographs: by section 6 a leak. It knows four photographs, not four motifs; ask about ones it never met. Old scenes among the new (rehearsal, Robins 1995) keep the scenes within a few points. From a terminal: `vlmcourse train own --data FOLDER`, then `ask`, `evaluate`, `diagnose`, `export`.

# %% [markdown] id="real-intro" lang="en"
# ## 10 · Is this the real thing?
#
# LAION's pictures come as **shards**: a `.tar` in which `KEY.jpg`, `KEY.txt` and `KEY.json` belong together, as `img2dataset` writes it. We write one, with CLIP's scores, and read it twice: with the library that published code uses, Hugging Face's `datasets`, and with the course's reader.

# %% id="real"
import datasets
from vlmcourse.data.formats.laion import read_laion
from vlmcourse.data.records import Skips

web = scenes.sample("train", 12, objects=(1, 2))
with torch.no_grad():
    fits = (clips.image_features(clip, render.render(web))
            * clips.text_features(clip, captions(web, "full"))).sum(1)
exporting.export_laion(web, folder / "laion", similarity=fits.tolist())
shard = str(folder / "laion/00000.tar")
theirs = [*datasets.load_dataset("webdataset", data_files=dict(train=[shard]), split="train",
                                 streaming=True)]
skips = Skips()
ours = [*read_laion([shard], skips)]
tabulate({row["__key__"]: (row["txt"], row["json"]["similarity"]) for row in theirs[:4]},
         "key", text="", similarity=".2f")

# %% id="real-equal"
assert [row["txt"] for row in theirs] == [record.captions[0] for record in ours]
assert [row["__key__"] for row in theirs] == [record.key for record in ours]
gap = max(np.abs(np.asarray(row["jpg"]).astype(int) - record.load()).max()
          for row, record in zip(theirs, ours))
links = [*read_laion([folder / "laion/00000.parquet"], skips)]
print(f"{len(ours)} rows, largest difference of a pixel {gap}; "
      f"dead links in the table: {skips.absent.total()}")
assert gap == 0 and len(ours) == 10

# %% [markdown] id="real-differs" lang="en"
# Of twelve links two were dead, and stand only in the parquet table.
#
# | | yours | published |
# |---|---|---|
# | filter | CLIP of the course, best 40 % | LAION-5B: CLIP ViT-B/32, above 0.28 for English (Schuhmann et al. 2022) |
# | twins | scenes are edited | people pick neighbours (VQA v2) |
# | captions made anew | `nano-vlm` | a captioner: BLIP's CapFilt (chapter 10) |
# | copies | 64 bits | hashes and CLIP features |
#
# ## Recap
#
# 1. Some faults show in a row, others only in the whole set. Measure: picture against no picture, people against people, habit against answer.
# 2. One record for all forms; what cannot be used is counted and named, never lost.
# 3. A false row pulls against the true ones; a smaller set can be the better one.
# 4. A habit is made of true rows. Twins break it, since then only the picture tells.
# 5. A test that leaked measures memory. Look for copies before you train.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("12_data/1")

# %% id="quiz-2"
quiz("12_data/2")

# %% id="quiz-3"
quiz("12_data/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Chen et al. 2015, *Microsoft COCO Captions*, [arXiv:1504.00325](https://arxiv.org/abs/1504.00325).
# - Goyal et al. 2017, *Making the V in VQA Matter* (VQA v2), [arXiv:1612.00837](https://arxiv.org/abs/1612.00837): section 3, balanced pairs.
# - Krishna et al. 2016, *Visual Genome*, [arXiv:1602.07332](https://arxiv.org/abs/1602.07332): section 2.
# - Schuhmann et al. 2021, *LAION-400M*, [arXiv:2111.02114](https://arxiv.org/abs/2111.02114), and 2022, *LAION-5B*, [arXiv:2210.08402](https://arxiv.org/abs/2210.08402).
# - Gadre et al. 2023, *DataComp*, [arXiv:2304.14108](https://arxiv.org/abs/2304.14108): filtering by CLIP score.
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 3.
# - Bhattacharya et al. 2019, *Why Does a Visual Question Have Different Answers?*, [arXiv:1908.04342](https://arxiv.org/abs/1908.04342).
# - Chen et al. 2024, *Are We on the Right Way for Evaluating Large Vision-Language Models?* (MMStar), [arXiv:2403.20330](https://arxiv.org/abs/2403.20330).
# - Abbas et al. 2023, *SemDeDup*, [arXiv:2303.09540](https://arxiv.org/abs/2303.09540).
# - Krawetz 2013, *Kind of like that*: the difference hash.
#
# **Next:** [13 · Evaluation: numbers that mean what they say](13_evaluation.ipynb)
