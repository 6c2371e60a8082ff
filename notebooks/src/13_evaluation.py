# %% [markdown] id="title" lang="en"
# # 13 · Evaluation: numbers that mean what they say
#
# **120 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# A model says "red". Is that right? A caption shares nine words in ten with what a person wrote. Is it true? Two models differ by two points. Is one better? Each of these questions has a well-known number for an answer, and each number has a way to mislead. You write the numbers, then you make them fail.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# No part of the model is lit below, since this chapter changes none of them.
#
# ## After this you can
#
# - **write** VQA accuracy, BLEU's clipped counts, CIDEr's weights, POPE's scores, pointing and the bootstrap,
# - **name** for each of them a case in which a worse answer gets the better number,
# - **compare** two models question by question, with an interval and a test,
# - **find** what a score owes to duplicates, to habits and to the way answers are read,
# - **read** a report card, and ask it the next question.

# %% id="setup"
import numpy as np, torch
from vlmcourse.workbook import *
from vlmcourse.evaluation import boxes, captioning, hallucination, intervals, vqa
from vlmcourse.families.making import load_speaker
from vlmcourse.world import captions, questions, render, scenes
begin("13_evaluation", lang="en")

# %% id="map"
course_map()

# %% [markdown] id="q-two" lang="en"
# ## 1 · Two models. Which is better?
#
# And does either of them look? Take three models that the course ships. All are asked the same questions: up to eight kinds about each of 100 scenes that none of them has seen.

# %% id="exam"
from vlmcourse.evaluation.answers import agrees, asked_of

names = ["nano-vlm", "nano-minigpt4", "nano-blip"]
models = {name: load_speaker(name)[0] for name in names}
test = scenes.sample("test", 100)
parts = [asked_of(test, kind) for kind in questions.KINDS]
asked = [question for _, some in parts for question in some]
scene_of = np.concatenate([some.key for some, _ in parts]).tolist()
images = np.concatenate([render.render(some) for some, _ in parts])

# %% id="ask-all"
texts = [question.text for question in asked]
print(len(asked), "questions about", len(set(scene_of)), "scenes; the first:", texts[0])
said = {name: model.answer(images, texts) for name, model in models.items()}
right = {name: torch.tensor([float(agrees(*pair)) for pair in zip(replies, asked)])
         for name, replies in said.items()}
tabulate({name: right[name].mean().item() for name in names[:2]}, "model", right=".1%")
assert 0.93 < right["nano-minigpt4"].mean() < right["nano-vlm"].mean()

# %% [markdown] id="two-lesson" lang="en"
# In our run 98.8 % against 97.1 %. Begin with the smallest word in the table: *right*.
#
# ### What is a right answer?
#
# Here the world knows. About photographs only people know, and people disagree. The VQA benchmark asked ten of them. **By hand:** an answer is worth min(1, number of people who gave it / 3). And each person is left out once, so that people can be scored by the same rule; the mean of the ten scores counts.
#
# | of ten people, said it | each time one who did *not* say it is left out | each time one who did is left out | mean |
# |---|---|---|---|
# | 1 | 9 × 1/3 | 1 × 0 | 0.3 |
# | 2 | 8 × 2/3 | 2 × 1/3 | 0.6 |
# | 3 | 7 × 1 | 3 × 2/3 | 0.9 |
# | 4 | 6 × 1 | 4 × 1 | 1.0 |

# %% [markdown] id="ex-vqa" lang="en"
# ### Your turn: `vqa_accuracy` · difficulty 3/5 · 12 min
#
# | | |
# |---|---|
# | `answer` | what the model said |
# | `people` | what (usually ten) people said, a list of texts |
# | out | a number from 0 to 1 |
#
# 1. Take spaces off the ends of the answer and of everybody's, `.strip()`.
# 2. If people gave more than one answer, normalise all with `vqa.normalise_answer`: punctuation off, lower case, no articles, digits for number words. If all gave *one* answer, compare as it stands. This is odd, and it is the official rule, since 2021; older scores normalise otherwise.
# 3. Leave out each person in turn: min(1, others who said it / 3). The mean is the score.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="vqa_accuracy"
@exercise(vqa.vqa_accuracy)
def vqa_accuracy(answer, people):
    """ "red", ten answers -> 0 … 1"""
    # 1. strip   2. normalise, if people disagree   3. leave out each person once, take the mean
    raise NotImplementedError

# %% id="vqa-proved"
ten = ["red"] * 3 + ["dark red"] * 7
table = {("red", "3 of 10 say it"): vqa_accuracy("red", ten),
         ("dark red", "7 of 10 say it"): vqa_accuracy("dark red", ten),
         ("The dark red.", "the same, normalised"): vqa_accuracy("The dark red.", ten),
         ("Yes", "all ten say yes"): vqa_accuracy("Yes", ["yes"] * 10)}
tabulate(table, "answer", VQA_accuracy=".2f")
assert [round(score, 2) for score in table.values()] == [0.9, 1, 1, 0]

# %% [markdown] id="people-intro" lang="en"
# The last line is no mistake of yours. Where all people agree, nothing is normalised, so a capital letter costs everything.
#
# Now ten people about our scenes. At least six of them tell the truth, so the truth gets all; the others mistake a colour for a neighbouring one. **Predict** two means: of one person against the other nine, and of the *wrong* answer that gets most.

# %% id="people"
some, colour_questions = asked_of(scenes.sample("test", 200), "colour")
pairs = list(zip(colour_questions, map(list, questions.annotators(some, colour_questions))))
truth = [vqa_accuracy(question.answer, people) for question, people in pairs]
person = [min(1, people[1:].count(people[0]) / 3) for _, people in pairs]
wrong = [max([vqa_accuracy(one, people) for one in people if one != question.answer], default=0)
         for question, people in pairs]
tabulate({"the truth": np.mean(truth), "one person, against nine": np.mean(person),
          "the wrong answer that gets most": np.mean(wrong)}, "answer", VQA_accuracy=".0%")
full_marks = np.mean(np.array(wrong) > 0.85)
print(f"questions where a wrong answer gets 0.9 or more: {full_marks:.0%}")
assert np.mean(truth) == 1 and np.mean(person) < 0.97 and 0.03 < full_marks < 0.3

# %% [markdown] id="people-lesson" lang="en"
# The majority's answer is the truth here and gets full marks, so a model can stand above people by agreeing with most of them. And where three or four people share a mistake, that mistake earns 0.9 or 1. **Agreement is not truth**; it is what can be had without knowing the truth.

# %% [markdown] id="q-captions" lang="en"
# ## 2 · What is a right caption?
#
# Nobody writes the same caption twice. BLEU asks how many of its n-grams, runs of n words, stand in a reference. **By hand**, with the reference *a red circle*: the caption *red red red* has three words, and each of them stands there. Is it perfect? BLEU **clips**: the reference has one *red*, so one counts. 1 of 3.

# %% [markdown] id="ex-clipped" lang="en"
# ### Your turn: `clipped_matches` · difficulty 2/5 · 10 min
#
# | | |
# |---|---|
# | `candidate` | the caption, a list of words |
# | `references` | what people wrote: a list of lists of words |
# | `n` | how many words an n-gram has |
# | out | `(matched, all)`: n-grams of the caption that stand in a reference, and n-grams it has |
#
# An n-gram counts at most as often as in the reference that has it **most often**. `count_ngrams(words, n)` gives a `Counter`.

# %% id="clipped_matches"
from collections import Counter
from vlmcourse.evaluation.captioning import count_ngrams

@exercise(captioning.clipped_matches)
def clipped_matches(candidate, references, n):
    """words, lists of words, n -> (matched, all)"""
    # 1. count the caption's n-grams   2. the most of any reference, n-gram by n-gram
    # 3. the smaller of the two
    raise NotImplementedError

# %% id="bleu-hand"
reference = "a large red circle at the top left".split()
candidates = {"a wrong colour": "a large blue circle at the top left",
              "another order": "at the top left a large red circle",
              "other words": "a big red disc in the upper left corner"}
matched = {}
for name, text in candidates.items():
    counts = [clipped_matches(text.split(), [reference], n) for n in (1, 2, 3, 4)]
    matched[name] = [f"{hit} of {total}" for hit, total in counts]
tabulate(matched, "caption", words="", pairs="", threes="", fours="")
assert matched["a wrong colour"][0] == "7 of 8" and matched["other words"][3] == "0 of 6"

# %% [markdown] id="bleu-intro" lang="en"
# BLEU-4 is the geometric mean of the four shares, times a penalty for captions that are too short. Now 100 scenes; the references are their full captions. Captioners: the truth in **another order**; **one wrong colour** in each caption; **all colours wrong**; **short** and true; **another picture**. In the short sentence above, order won. These are longer: a colour breaks the runs at one place, a new order at every joint. **Predict** who gets more BLEU-4: the truth in another order, or one wrong colour?

# %% id="bleu"
from vlmcourse.evaluation.statements import true_share

told = captions.captions(test, "full")
references = [[text] for text in told]
turned = [" and ".join(reversed(text.replace(", ", " and ").split(" and "))) for text in told]
other = dict(zip(scenes.COLOURS, scenes.COLOURS[1:] + scenes.COLOURS[:1]))
painted = [" ".join(other.get(word, word) for word in text.split(" ")) for text in told]
captioners = {"the reference": told, "another order": turned,
              "one wrong colour": captions.captions(test, "full", wrong=1.0, seed=1),
              "all colours wrong": painted,
              "short": captions.captions(test, "short"),
              "another picture": captions.captions(test, "full", swapped=1.0)}
bleus = {name: captioning.bleu(texts, references)[3] for name, texts in captioners.items()}
true = {name: true_share(texts, test) for name, texts in captioners.items()}
tabulate({name: (bleus[name], true[name]) for name in captioners}, "captioner",
         BLEU_4=".2f", true_statements=".0%")
assert abs(bleus["one wrong colour"] - bleus["another order"]) < 0.03
assert true["one wrong colour"] < 0.95 and bleus["all colours wrong"] < 0.8
assert true["another order"] == true["short"] == 1 and bleus["short"] < 0.05

# %% [markdown] id="bleu-lesson" lang="en"
# **BLEU puts one lie level with the truth in another order**: 0.87 against 0.86 in our run. It sees *how many* words differ, not which: with all colours wrong it falls to 0.68. The short captions are true throughout and get 0.00. BLEU was made for translations.
#
# CIDEr weighs words. What is said of *every* picture tells nothing: *at the*. What is said of few, *red circle*, tells much. 

# %% [markdown] id="ex-tf-idf" lang="en"
# ### Your turn: `tf_idf` · difficulty 2/5 · 6 min
#
# | | |
# |---|---|
# | `counts` | n-gram → how often the caption says it |
# | `frequency` | n-gram → at how many images a reference says it |
# | `images` | how many images there are |
# | out | dict: n-gram → count × log(images / frequency), the natural logarithm |
#
# An n-gram that no reference has counts as if one image had it.

# %% id="tf_idf"
import math

@exercise(captioning.tf_idf)
def tf_idf(counts, frequency, images):
    """counts of n-grams -> their weights"""
    raise NotImplementedError

# %% id="weights"
words = [[captioning.plain_words(text) for text in several] for several in references]
frequency = captioning.document_frequency(words, 1)
one = count_ngrams("a large red circle at the top left".split(), 1)
weights = {gram[0]: (frequency[gram], value)
           for gram, value in tf_idf(one, frequency, len(words)).items()}
tabulate(weights, "word", images_that_say_it="", weight=".2f")
assert weights["the"][1] == weights["at"][1] == 0 < weights["large"][1] < weights["circle"][1]

# %% [markdown] id="cider-intro" lang="en"
# CIDEr is the cosine between two captions as vectors of such weights, for n = 1 to 4, times 10. CIDEr-D, which everybody reports under the name CIDEr, also clips, and punishes another length. **Predict two things:** does CIDEr-D now prefer the truth in another order? And what does a *perfect* caption get, if there is only **one** image?

# %% id="cider"
ciders = {name: np.mean(captioning.cider_d(each, references)) for name, each in captioners.items()}
tabulate({name: (bleus[name], ciders[name]) for name in captioners}, "captioner",
         BLEU_4=".2f", CIDEr_D=".1f")
alone = captioning.cider_d(told[:1], references[:1])
print("a perfect caption, the only one:", alone)
assert alone == [0.0] and abs(ciders["the reference"] - 10) < 1e-6
assert ciders["another order"] > ciders["one wrong colour"] + 1

# %% [markdown] id="cider-lesson" lang="en"
# CIDEr-D puts truth before lie. And alone, perfection gets **0**: every n-gram stands at 1 of 1 images, log(1/1) = 0, all weights vanish. So a caption's CIDEr depends on its company. Never compute it batch by batch and take the mean; never compare it across test sets.

# %% id="company"
sizes = (1, 2, 5, 20, 100)
first = {size: captioning.cider_d(captioners["one wrong colour"][:size], references[:size])[0]
         for size in sizes}
tabulate(first, "images in the test set", CIDEr_D_of_the_same_caption=".2f")
assert first[1] == 0 and len({round(value, 3) for value in first.values()}) == len(sizes)

# %% [markdown] id="q-invent" lang="en"
# ## 3 · Is it invented?
#
# A model that sees what is not there **hallucinates**. POPE asks "Is there a red circle?", as often about what is there as about what is not. **By hand:** who always says yes is right in half of the cases, and finds all that is there.

# %% [markdown] id="ex-pope" lang="en"
# ### Your turn: `pope_scores` · difficulty 2/5 · 10 min
#
# | | |
# |---|---|
# | `yes` | list: did the model say yes? |
# | `right` | list: is yes right? |
# | out | dict of five numbers from 0 to 1: `accuracy`, `precision`, `recall`, `f1`, `yes` |
#
# `precision` is the share of yes that is right, `recall` the share of what is there that got a yes, `f1` their harmonic mean 2pr / (p + r), `yes` the share of yes that was said. Whatever is 0 / 0 is 0.

# %% id="pope_scores"
@exercise(hallucination.pope_scores)
def pope_scores(yes, right):
    """said yes, yes is right -> dict(accuracy=, precision=, recall=, f1=, yes=)"""
    # hits: said yes and right; false alarms: said yes and wrong; misses: said no and wrong
    raise NotImplementedError

# %% [markdown] id="pope-intro" lang="en"
# Now the models. For each question about a thing that is there comes one about a thing that is not: the one that stands with it most often in other pictures, POPE's *adversarial* choice. In our scenes things hardly keep company; in photographs, knife and fork do. Beside them stand two that look at nothing. **Predict** the F1 of the one that always says yes.

# %% id="pope"
from vlmcourse.evaluation.hallucination import OF_A_SCENE, poll, said_yes

present = dict(enumerate(hallucination.scene_objects(test)))
polls = poll(present, "adversarial", per_image=1, template=OF_A_SCENE)
there = [one.answer == "yes" for one in polls]
shown = render.render(test)[[one.image for one in polls]]
scores = {"always yes": pope_scores([True] * len(polls), there),
          "always no": pope_scores([False] * len(polls), there)}
for name in ("nano-vlm", "nano-blip"):
    replies = models[name].answer(shown, [one.question for one in polls])
    scores[name] = pope_scores([said_yes(reply) for reply in replies], there)
keys = ["accuracy", "precision", "recall", "f1", "yes"]
tabulate({name: [*map(each.get, keys)] for name, each in scores.items()}, "model",
         accuracy=".0%", precision=".0%", recall=".0%", F1=".2f", yes=".0%")
assert abs(scores["always yes"]["f1"] - 2 / 3) < 1e-9 and scores["always no"]["f1"] == 0
assert min(scores["nano-vlm"]["accuracy"], scores["nano-blip"]["accuracy"]) > 0.93

# %% [markdown] id="pope-lesson" lang="en"
# F1 0.67 for looking at nothing, beside a recall of 100 %. So read accuracy and the share of yes first. Our models pass. Then they do not invent? Ask otherwise: let them **speak**. CHAIR reads captions, and counts what they name that is not there: as a share of all names, CHAIR_i, and of captions, CHAIR_s. Beside them stands one that names only the first thing. **Predict:** will the two models that passed POPE have the same CHAIR_s?

# %% id="chair"
from vlmcourse.world.instructions import FULL

kinds = {f"{colour} {shape}": () for colour in scenes.COLOURS for shape in scenes.SHAPES}
spoken = {name: models[name].answer(render.render(test), [FULL] * len(test))
          for name in ("nano-vlm", "nano-blip")}
in_scenes = [*present.values()]
spoken["the first thing only"] = [f"a {things[0]}" for things in in_scenes]
chairs = {}
for name, lines in spoken.items():
    mentions = [hallucination.mentioned(line, kinds) for line in lines]
    found = sum((Counter(some) & Counter(own)).total() for some, own in zip(mentions, in_scenes))
    chairs[name] = (*hallucination.chair(mentions, in_scenes), found / sum(map(len, in_scenes)))
tabulate(chairs, "captioner", CHAIR_i=".1%", CHAIR_s=".0%", named_of_what_is_there=".0%")
assert chairs["the first thing only"][:2] == (0, 0) and chairs["the first thing only"][2] < 0.6
assert chairs["nano-blip"][1] > chairs["nano-vlm"][1] + 0.05

# %% [markdown] id="chair-lesson" lang="en"
# `nano-blip` answers POPE nearly as well as the other, and yet one of its captions in five names something that is not there (21 % in our run). **Asking about single objects does not show what a model invents when it speaks.** And CHAIR has a winner that tells least: silence invents nothing. Put recall beside it, always.

# %% [markdown] id="q-where" lang="en"
# ## 4 · Where did it look?
#
# An answer may be right for a wrong reason. Scenes know the **evidence box** of each question: what one must see. So cover the picture patch by patch, and note by how much the right answer's probability falls: an occlusion map (chapter 14 returns to it). The brightest cell is where the model *points*. Is that point in the box?

# %% [markdown] id="ex-points" lang="en"
# ### Your turn: `points_inside` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `points` | `(question, 2)`: x from the left, y from the top |
# | `boxes` | `(question, box, 4)`: left, top, right, bottom; right and bottom are exclusive. Where a question has fewer boxes, zeros fill up |
# | out | `(question,)`, bool: does the point lie in one of its question's boxes? |

# %% id="points_inside"
@exercise(boxes.points_inside)
def points_inside(points, boxes):
    """(question, xy), (question, box, side) -> (question,)"""
    # 1. x and y as (question, 1)   2. four comparisons   3. any of the boxes
    raise NotImplementedError

# %% id="occlusion"
from vlmcourse.diagnostics.occlusion import occlusion_map

few, about = asked_of(scenes.sample("test", 20), "colour")
pictures, evidence = render.render(few), boxes.evidence_boxes(about)
maps = torch.stack([occlusion_map(models["nano-vlm"], picture, question.text, question.answer)
                    for picture, question in zip(pictures, about)])
points = boxes.brightest_points(maps)
middle = torch.full_like(points, 32.0)
places = {"the brightest cell": points, "the middle of the picture": middle}
pointing = {name: points_inside(place, evidence).float().mean().item()
            for name, place in places.items()}
tabulate(pointing, "point", in_the_box=".0%")
assert pointing["the brightest cell"] > 0.6 > 0.4 > pointing["the middle of the picture"]

# %% id="pointing-figure"
import matplotlib.pyplot as plt

fig, axes = plt.subplots(2, 4, figsize=(7, 4), layout="constrained")
for column, (ax, below) in enumerate(axes.T):
    left, top, end, bottom = evidence[column, 0].tolist()
    ax.imshow(pictures[column]); below.imshow(maps[column], extent=(0, 64, 64, 0))
    for each in (ax, below):
        each.add_patch(plt.Rectangle((left, top), end - left, bottom - top, fill=False,
                                     edgecolor=roles.accent, lw=2))
        each.axis("off")
    below.plot(*points[column], "x", color=roles.accent, ms=9, mew=2)
    ax.set_title(about[column].answer)
    below.set_title(f"largest fall {maps[column].max():.1g}", fontsize=9)
figure(fig, alt="Four scenes with the box of the thing asked about, and below each its "
                "occlusion map with the brightest cell marked")

# %% [markdown] id="where-lesson" lang="en"
# The model points into the box in 85 % of the cases in our run; the middle of the picture lies there in 20 %. On photographs a point that never looks can score high, for photographers put things in the middle. And pointing tells the direction only. Look at the size, above the maps: covering any one cell often costs less than a thousandth, since the model reads the rest of the thing.

# %% [markdown] id="q-sure" lang="en"
# ## 5 · How sure are you?
#
# Back to 98.8 against 97.1 %. With 100 other scenes, how would these numbers move? The **bootstrap** draws from the old ones, with repetition, again and again, and watches the mean.
#
# **By hand:** scene 0 has one question, answered right; scene 1 has three, one of them right. All: 2 of 4. Draw the scenes (1, 1): 2 of 6. Draw (0, 0): 2 of 2. Questions about one scene share its luck, so they are drawn **together**.

# %% [markdown] id="ex-resampled" lang="en"
# ### Your turn: `resampled_means` · difficulty 3/5 · 12 min
#
# | | shape |
# |---|---|
# | `scores` | `(question,)`, float32 or float64; the result has this dtype |
# | `groups` | `(question,)`: the image of each question, numbers from 0 |
# | `draws` | `(resample, draw)`: numbers of images, with repetition |
# | out | `(resample,)`: the mean score of all questions about the images drawn, each as often as drawn |

# %% id="resampled_means"
@exercise(intervals.resampled_means)
def resampled_means(scores, groups, draws):
    """(question,), (question,), (resample, draw) -> (resample,)"""
    # 1. for each image: sum of its scores, number of its questions   2. gather what was drawn
    # 3. sum over sum
    raise NotImplementedError

# %% [markdown] id="repeat-intro" lang="en"
# The middle 95 % of such means is the interval. First see why whole scenes are drawn. Ask every question **four times**: the model says the same each time. **Predict:** how much narrower is the interval, if each question counts by itself?

# %% id="repeated"
from vlmcourse.evaluation.intervals import bootstrap_interval

scores_once, four = right["nano-blip"], right["nano-blip"].repeat(4)
widths = {}
for name, interval in (("asked once, by scene", bootstrap_interval(scores_once, scene_of)),
                       ("asked four times, by scene", bootstrap_interval(four, scene_of * 4)),
                       ("asked four times, by question", bootstrap_interval(four))):
    widths[name] = interval.mean, interval.high - interval.low
tabulate(widths, "nano-blip", right=".1%", width_of_the_interval=".1%")
once, by_scene, by_question = (width for _, width in widths.values())
assert 0.8 < by_scene / once < 1.25 and by_question < 0.7 * once

# %% [markdown] id="paired-intro" lang="en"
# Nothing was learned, and the interval by question is half as wide. **By question, you can buy certainty by copying.** By scene, you cannot.
#
# Now the two models. Their intervals first; then the interval of the **difference, question by question**. **Predict:** if the first two overlap, can the third leave out 0?

# %% id="paired"
from vlmcourse.evaluation.intervals import discordant, mcnemar_exact
from vlmcourse.evaluation.intervals import paired_interval, sign_flip_test

ours, theirs = right["nano-vlm"], right["nano-minigpt4"]
lines = {name: bootstrap_interval(right[name], scene_of) for name in names[:2]}
lines["the difference"] = paired_interval(ours, theirs, scene_of)
tabulate(lines, "", mean=".1%", low=".1%", high=".1%")
only_ours, only_theirs = discordant(ours.bool().tolist(), theirs.bool().tolist())
p = sign_flip_test(ours, theirs, scene_of)
print(f"only nano-vlm right: {only_ours}, only nano-minigpt4: {only_theirs}; "
      f"p by flipped signs {p:.4f}, by McNemar {mcnemar_exact(only_ours, only_theirs):.4f}")
assert lines["nano-vlm"].low < lines["nano-minigpt4"].high             # they overlap
assert lines["the difference"].low > 0 and p < 0.05

# %% id="paired-figure"
fig, axes = plt.subplots(1, 2, figsize=(7, 1.7), layout="constrained", width_ratios=(3, 2))
rows = [(axes[0], 1, "nano-vlm", roles.first), (axes[0], 0, "nano-minigpt4", roles.second),
        (axes[1], 0.5, "the difference", roles.learned)]
for ax, height, name, colour in rows:
    mean, low, high = (100 * number for number in lines[name])
    ax.plot([low, high], [height, height], color=colour, lw=4, solid_capstyle="butt")
    ax.plot(mean, height, "o", color=roles.ink); ax.text(low, height + 0.18, name)
    ax.set(ylim=(-0.4, 1.6), yticks=[], xlabel="right (%)")
axes[1].axvline(0, color=roles.control, ls="--"); axes[1].set_xlabel("points")
figure(fig, alt="Intervals of two models overlap; that of their difference lies to the right of 0")

# %% [markdown] id="paired-lesson" lang="en"
# It can, and does. A hard scene pulls *both* models down; that falls out of the difference. Overlap of two intervals is no test. What decides are the few questions that exactly one model got right: 13 and 1 in our run.
#
# So `nano-vlm` is the better of the two **on this exam**. **Try:** choose one kind; the test is made anew for what stays. But a p that was found by trying kinds until one was small is worth nothing.

# %% id="compare"
from vlmcourse.widgets.browsing import browse_two

both = browse_two(images, asked, {name: said[name] for name in names[:2]}, right, groups=scene_of)
assert len(both.found) == only_ours  # those that only nano-vlm got right come first
both

# %% [markdown] id="q-game" lang="en"
# ## 6 · An exam that cannot be gamed
#
# First: **what is known without looking?** MMStar's two numbers. *Gain*: the score with images minus the score without. *Leakage*: the score without images, minus that of the language model it was made from, but at least 0. Ours is `nano-words`: it had read captions, and seen no image. Our models need a picture, so blind means an empty one.

# %% id="gain"
from vlmcourse.evaluation.choices import gain_and_leakage
from vlmcourse.speak import blinded

models["nano-words"] = load_speaker("nano-words")[0]

def score(name, look, some=slice(None, None, 4)):
    """The share of right answers to every fourth question, with pictures as `look` shows them."""
    replies = models[name].answer(look(images[some]), texts[some])
    return np.mean([agrees(*pair) for pair in zip(replies, asked[some])])

seeing, blind = score("nano-vlm", np.asarray), score("nano-vlm", blinded)
text_only = score("nano-words", blinded)
gain, leakage = gain_and_leakage(seeing, blind, text_only)
tabulate({"seeing": seeing, "blind": blind, "text only": text_only, "gain": gain,
          "leakage": leakage}, "nano-vlm", share=".0%")
assert gain > 2 / 3 * seeing and 0.05 < leakage < 0.4

# %% [markdown] id="gain-lesson" lang="en"
# **It looks**: more than two thirds of its score come from the picture. The leakage has a likely, harmless part: the text model has never met a question, nor answers such as *yes* and *no*. Leakage does not say which it was, form or content.
#
# ### Multiple choice
#
# Four options, and the model writes. Somebody must read a letter out of what it wrote: strictly (nothing but the letter), at the beginning, or the first one anywhere. Here are eight replies such as models give; the right option is B, *blue*. **Predict:** how far apart are the three scores?

# %% id="parsing"
from vlmcourse.evaluation.choices import any_option, leading_option, strict_option

replies = ["B", "(B)", "B. blue", "I think it is B", "A blue circle, so B", "Not A but B",
           "It is blue.", "C"]
readings = dict(strict=strict_option, leading=leading_option, anywhere=any_option)
letter = {None: "–", 0: "A", 1: "B", 2: "C", 3: "D"}
table = {reply: [letter[read(reply, 4)] for read in readings.values()] for reply in replies}
marks = {name: np.mean([read(reply, 4) == 1 for reply in replies])
         for name, read in readings.items()}
table["right"] = [f"{mark:.0%}" for mark in marks.values()]
tabulate(table, "reply", strict="", leading="", anywhere="")
assert marks == dict(strict=0.25, leading=0.375, anywhere=0.5)

# %% [markdown] id="circular-intro" lang="en"
# The same replies: 25, 38 or 50 %, and in *A blue circle* an article was read as an option. A human reader would say 7 of 8. A paper that does not say how answers were read has no score.
#
# **Circular** evaluation asks each question once for every rotation of its options, and counts it only if all are right. Three models that answer colour questions: one always says A; one guesses; one knows the colour in two thirds of the cases and else says A. The exam's author put the right option first in half of the questions.

# %% id="circular"
import random
from vlmcourse.evaluation.choices import circular_accuracy, rotations

dice, passed = random.Random(0), {"always A": [], "guesses": [], "knows 2 of 3, else A": []}
for number, question in enumerate(colour_questions):
    others = [colour for colour in scenes.COLOURS if colour != question.answer]
    options = dice.sample(others, 3)
    place = 0 if number % 2 else dice.randrange(4)
    options.insert(place, question.answer)
    knows, turned = number % 3 > 0, [at for _, at in rotations(options, place)]
    passed["always A"].append([at == 0 for at in turned])
    passed["guesses"].append([at == dice.randrange(4) for at in turned])
    passed["knows 2 of 3, else A"].append([knows or at == 0 for at in turned])
plain = {name: np.mean([each[0] for each in tries]) for name, tries in passed.items()}
tabulate({name: (plain[name], circular_accuracy(tries)) for name, tries in passed.items()}, "model",
         as_given=".0%", circular=".0%")
assert plain["always A"] > 0.5 and circular_accuracy(passed["always A"]) == 0
assert circular_accuracy(passed["guesses"]) < 0.05
assert abs(circular_accuracy(passed["knows 2 of 3, else A"]) - 2 / 3) < 0.01

# %% [markdown] id="q-break" lang="en"
# Always A: above half as given, 0 in circles. The third keeps exactly what it knows.
#
# ## 7 · Break it on purpose
#
# ### Read the answer anywhere
#
# "Let us be generous: right if the right word occurs in the reply." **Predict** the score of a reply that is the same for every question, and looks at nothing.

# %% id="anywhere"
everything = "yes or no, " + ", ".join([*scenes.COLOURS, *scenes.SHAPES, *scenes.SIZES,
                                        *scenes.PLACES, *"01234"])
generous = np.mean([question.answer in everything for question in asked])
careful = np.mean([agrees(everything, question) for question in asked])
print("the reply:", everything[:60], "…")
tabulate({"the right word occurs": generous, "it says this and no other": careful},
         "reading", right=".0%")
assert generous == 1 and careful < 0.35

# %% [markdown] id="anywhere-lesson" lang="en"
# 100 % for saying everything. The careful reading of the course, `agrees`, wants the right word *and no other of its kind*. It has a hole, too: of yes-or-no replies it reads the first word. **Run a stupid model through every evaluation you trust.**
#
# ### Plant duplicates
#
# Now a model that cannot see. It compares a picture's hash, 64 bits (chapter 12), with those of its training pictures. If one differs in at most two bits, it gives that one's answer; else the most frequent answer. Then 30 % of the test pictures leak into its training set, slightly darker.

# %% id="duplicates"
from vlmcourse.data.quality import hamming, leaked_pictures, picture_hashes

known, known_questions = asked_of(scenes.sample("train", 600), "colour")
train_images, test_images = render.render(known), render.render(some)
planted = int(0.3 * len(test_images))
darker = (0.95 * test_images[:planted]).astype(np.uint8)
test_hashes = picture_hashes(test_images)
truths = [question.answer for question in colour_questions]

def memorise(train_pictures, answers):
    """Which test questions a memory answers rightly, and which pictures it has met."""
    hashes = picture_hashes(train_pictures)
    distance, nearest = hamming(test_hashes, hashes).min(dim=1)
    habit = Counter(answers).most_common(1)[0][0]
    replies = [answers[row] if far <= 2 else habit for far, row in zip(distance, nearest)]
    marks = torch.tensor([float(reply == truth) for reply, truth in zip(replies, truths)])
    return marks, leaked_pictures(hashes, test_hashes)

# %% id="planted"
own = [question.answer for question in known_questions]
clean, _ = memorise(train_images, own)
spoilt, met = memorise(np.concatenate([train_images, darker]), own + truths[:planted])
tabulate({"clean": clean.mean().item(), "30 % planted": spoilt.mean().item(),
          "planted, without what was met": spoilt[~met].mean().item()}, "training set",
         right=".0%")
print(f"found of what was planted: {met[:planted].float().mean():.0%}, "
      f"accused beside it: {met[planted:].float().mean():.0%}")
assert spoilt.mean() > clean.mean() + 0.15 and met[:planted].float().mean() > 0.85
assert abs(spoilt[~met].mean() - clean.mean()) < 0.1

# %% [markdown] id="planted-lesson" lang="en"
# A model without eyes more than doubles its score, and no metric above would notice. The hash finds nearly all that was planted; without it the score is back at habit. **Report both.**
#
# ## 8 · The report card
#
# `vlmcourse evaluate nano-vlm` measures all this for any model with `answer(images, instructions)`. Of `nano-native` (chapter 19) it adds reading, resolution and pointing. Two cards on few scenes: `nano-vlm`, and a model trained with one augmentation too many. **Read the lines down: where does it lose, and what might have been done to it?**

# %% id="cards"
from vlmcourse.evaluation.answers import Stranger
from vlmcourse.families.report_card import report_on_scenes

models["stranger"] = Stranger(models["nano-vlm"])
first, second = (report_on_scenes(models[name], name, count=10)
                 for name in ("nano-vlm", "stranger"))
shown_lines = [*questions.KINDS, "all kinds", "by habit alone", "an empty image",
               "twins, both right", "captions, true and complete"]
cards = [{line.name: line for line in card.lines} for card in (first, second)]
tabulate({name: [f"{card[name].shown(card[name].value)}  {card[name].interval}" for card in cards]
          for name in shown_lines}, "10 scenes", nano_vlm="", stranger="")
assert first["all kinds"] > 0.9 and first["an empty image"] < 0.5

# %% [markdown] id="cards-lesson" lang="en"
# Captions are lost since they name places. Ten right of ten give the bootstrap no width; the card then says that up to 3/n may still go wrong. With 10 scenes, hardly a line is certain. You have a better exam, all questions of section 1. **Which kinds are lost?** Dashed: the most frequent answer *among these very questions*; no habit can do better.

# %% id="kinds"
from vlmcourse.evaluation.intervals import by_rule_of_three

texts_said = models["stranger"].answer(images, texts)
right["stranger"] = torch.tensor([float(agrees(*pair)) for pair in zip(texts_said, asked)])
of_kind = {kind: [place for place, question in enumerate(asked) if question.kind == kind]
           for kind in questions.KINDS}
habit = {kind: max(Counter(asked[place].answer for place in places).values()) / len(places)
         for kind, places in of_kind.items()}
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for shift, name, colour in ((-0.2, "nano-vlm", roles.first), (0.2, "stranger", roles.second)):
    for row, places in enumerate(of_kind.values()):
        score = bootstrap_interval(right[name][places])
        mean, low, high = by_rule_of_three(score, len(places))
        ax.plot([row + shift] * 2, [low, high], color=colour, lw=3)
        ax.plot(row + shift, mean, "o" if shift < 0 else "s", color=colour,
                label="" if row else name)
ends = np.arange(8) - 0.4, np.arange(8) + 0.4
ax.hlines(list(habit.values()), *ends, color=roles.control, ls="--", label="habit")
ax.set(xticks=range(8), ylim=(-0.08, 1.05), ylabel="right")
ax.set_xticklabels(of_kind, rotation=20)
ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
figure(fig, alt="Right answers by kind of question with intervals: the stranger's positions lie "
                "far below habit, its relations near it, all else is as the first model's")

# %% id="sides"
relation, place = of_kind["relation"], of_kind["position"]
sideways = [n for n in relation if "left of" in texts[n] or "right of" in texts[n]]
upright = [n for n in relation if n not in sideways]
groups = {"position": place, "left of, right of": sideways, "above, below": upright}
tabulate({name: right["stranger"][some].mean().item() for name, some in groups.items()},
         "the stranger", right=".0%")
assert right["stranger"][place].mean() < 0.2 and right["stranger"][sideways].mean() < 0.3
assert right["stranger"][upright].mean() > 0.9 and right["stranger"].mean() > 0.75

# %% [markdown] id="kinds-lesson" lang="en"
# **Left and right are exchanged.** The stranger is `nano-vlm`, shown every picture in a mirror. That happens when random flips, good for telling cats from dogs, are copied into the training of a model that is asked for places. Over all kinds it still has more than 75 %: in one mean, such a fault looks like a somewhat weaker model. And a score far *below* habit is no lack of skill: who knows nothing is not wrong so reliably.
#
# ### Look: what does it get wrong?
#
# Numbers say how often; only pictures say what. Here are the mistakes of `nano-blip`; an opened one frames what one must see. **Try:** of which mistakes is it sure? Choose a kind: what do these scenes share?

# %% id="errors"
from vlmcourse.evaluation.answers import answer_probabilities
from vlmcourse.widgets.browsing import browse_answers

name, marks = "nano-blip", right["nano-blip"].bool()
sure = answer_probabilities(models[name], images, texts, said[name])
errors = browse_answers(images, asked, said[name], marks, probability=sure, groups=scene_of,
                        name=name)
lost = Counter(asked[place].kind for place in errors.found)
assert lost["comparison"] + lost["relation"] + lost["count"] > 0.6 * lost.total()
assert sure[~marks].mean() < sure[marks].mean() - 0.05 and sure[~marks].max() > 0.9
errors

# %% [markdown] id="real-intro" lang="en"
# ## 9 · Is this the real thing?
#
# COCO's own code, `pycocoevalcap`, and the standard of machine translation, `sacrebleu`, on the captions of section 2. Both belong to the test extra; where they are missing, this cell says so.

# %% id="real"
texts_of = captioners["one wrong colour"]
split = [" ".join(captioning.plain_words(text)) for text in texts_of]
golden = {place: [" ".join(several[0])] for place, several in enumerate(words)}
mine = {"BLEU-4": captioning.bleu(texts_of, references)[3],
        "CIDEr-D": np.mean(captioning.cider_d(texts_of, references))}
try:
    import sacrebleu
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
except ImportError:
    print('not installed here: pip install "vlmcourse[test]" brings pycocoevalcap and sacrebleu')
else:
    guessed = {place: [text] for place, text in enumerate(split)}
    coco = {"BLEU-4": Bleu().compute_score(golden, guessed, verbose=0)[0][3],
            "CIDEr-D": Cider().compute_score(golden, guessed)[0]}
    sacre = sacrebleu.corpus_bleu(split, [[several[0] for several in golden.values()]],
                                  tokenize="none").score / 100
    both = {name: (mine[name], coco[name]) for name in mine}
    tabulate(both, "", yours=".6f", pycocoevalcap=".6f")
    print(f"sacrebleu: BLEU-4 {sacre:.6f}")
    assert all(abs(mine[name] - coco[name]) < 1e-6 for name in mine)
    assert abs(mine["BLEU-4"] - sacre) < 1e-6

# %% [markdown] id="real-differs" lang="en"
# | | yours | published |
# |---|---|---|
# | words | split at spaces, punctuation off | COCO scores: Penn Treebank tokens. Compare scores only under one tokenizer |
# | VQA accuracy | one question | also by type of answer: yes/no, number, other |
# | POPE | things of scenes | 500 COCO images with more than three objects, six questions each |
# | pointing | inside the box | within 15 pixels of the object (Zhang et al. 2016) |
#
# Not in this chapter: judges that are language models. They read meaning, and have habits of their own: they favour long answers, and the first of two (Zheng et al. 2023, section 3.3).

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. VQA accuracy is agreement with people: it can be had by sharing their mistakes.
# 2. BLEU counts runs of words, and put one wrong colour level with the truth in another order. CIDEr weighs words; a single image gets 0.
# 3. POPE asks, CHAIR listens: a model passed the first and invented in the second. Beside CHAIR stands recall, beside F1 the share of yes.
# 4. Intervals by image, differences question by question: intervals may overlap where the difference is clear.
# 5. Run what looks at nothing through every evaluation: always yes, always A, all words at once, a memory of duplicates.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("13_evaluation/1")

# %% id="quiz-2"
quiz("13_evaluation/2")

# %% id="quiz-3"
quiz("13_evaluation/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Antol et al. 2015, *VQA: Visual Question Answering*, [arXiv:1505.00468](https://arxiv.org/abs/1505.00468): section 3.
# - Papineni et al. 2002, *BLEU: a Method for Automatic Evaluation of Machine Translation*, ACL: section 2.
# - Vedantam et al. 2015, *CIDEr: Consensus-based Image Description Evaluation*, [arXiv:1411.5726](https://arxiv.org/abs/1411.5726).
# - Li et al. 2023, *Evaluating Object Hallucination in Large Vision-Language Models* (POPE), [arXiv:2305.10355](https://arxiv.org/abs/2305.10355): section 5.1.
# - Rohrbach et al. 2018, *Object Hallucination in Image Captioning* (CHAIR), [arXiv:1809.02156](https://arxiv.org/abs/1809.02156): section 2.1.
# - Zhang et al. 2016, *Top-down Neural Attention by Excitation Backprop* (the pointing game), [arXiv:1608.00507](https://arxiv.org/abs/1608.00507).
# - Liu et al. 2023, *MMBench*, [arXiv:2307.06281](https://arxiv.org/abs/2307.06281): circular evaluation.
# - Chen et al. 2024, *Are We on the Right Way for Evaluating Large Vision-Language Models?* (MMStar), [arXiv:2403.20330](https://arxiv.org/abs/2403.20330): gain and leakage.
# - Zheng et al. 2023, *Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena*, [arXiv:2306.05685](https://arxiv.org/abs/2306.05685): section 3.3.
#
# **Next:** [14 · Debugging: it never looked](14_debugging.ipynb)
