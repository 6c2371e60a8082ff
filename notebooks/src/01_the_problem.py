# %% [markdown] id="title" lang="en"
# # 01 · The problem
#
# **85 minutes.** Everything runs on two CPU cores; the models here are so small that a GPU hardly helps.
#
# A language model reads vectors. An image can be written as vectors. So put one in front of the other, train, done? In this chapter you try exactly that. You will see it fail in two ways, one loud and one silent. The silent one is worse: the loss falls, the score rises, and nobody looks at the picture.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Before the parts, the gap between them. The lit part of the picture, the connector, exists because of what you measure in this chapter.
#
# ## After this you can
#
# - **explain** what in an image corresponds to what in a sentence, and what has no partner,
# - **measure** how differently image features and word embeddings are distributed,
# - **show** why joining them without a bridge fails, and why matching their statistics does not mend it,
# - **expose** a model that answers without looking, with a blind baseline and with twins,
# - **design** questions that cannot be answered without eyes.

# %% id="setup"
import copy, math, torch, torch.nn.functional as F, matplotlib.pyplot as plt
from vlmcourse.workbook import *
from vlmcourse.data import photos, text
from vlmcourse.world import captions, questions, render, scenes, twins
from vlmcourse.diagnostics import controls, gap; from vlmcourse.models import naive
begin("01_the_problem", lang="en")

# %% id="map"
course_map("connector")

# %% [markdown] id="q-correspond" lang="en"
# ## 1 · What corresponds to what?
#
# **Question.** A picture and a sentence tell the same story. Which piece of one belongs to which piece of the other?
#
# Take one sentence word by word:
#
# | word | what it points at in the picture |
# |---|---|
# | *circle*, *square* | one region each |
# | *red*, *blue* | no region of its own: a property **of** a region |
# | *left of* | no region at all: something **between** two regions |
# | *a* | nothing |
# | (no word) | the background (bare paper), the light, the exact places and sizes |
#
# So this is not a translation, word by word. It is many-to-many, with holes on both sides.

# %% id="correspond-figure"
pair = scenes.sample("train", 1, start=47, objects=(2, 2))
sentence, marks = captions.captions(pair)[0], [roles.first, roles.second]
fig, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.2), layout="constrained",
                                  width_ratios=(1, 2))
left.imshow(render.render(pair)[0]); left.axis("off"); right.axis("off")
for (x0, y0, x1, y1), mark, style in zip(pair.boxes()[0], marks, ("-", "--")):
    left.add_patch(plt.Rectangle((x0 - 1, y0 - 1), x1 - x0 + 1, y1 - y0 + 1, fill=False, ec=mark,
                                 ls=style, lw=2))
words = sentence.split()
for place, word in enumerate(words):
    mark = marks[0] if place in (1, 2) else marks[1] if place >= len(words) - 2 else roles.control
    start = len(" ".join(["", *words[:place]])) / len(sentence)
    right.text(start, 0.5, word, color=mark, family="monospace",
               weight="normal" if mark == roles.control else "bold")
figure(fig, alt=f"A scene, two boxed objects, beside '{sentence}'; boxes and words share colours")

# %% [markdown] id="predict-correspond" lang="en"
# **Predict** two numbers. Of the 64 patches of such a picture, how many does an object cover at all? And among 5,000 pictures with two objects, how many different short captions are there?

# %% id="correspond-count"
many = scenes.sample("train", 5000, objects=(2, 2))
covered = (many.cover(8) >= 0).mean() * 64
told, drawn = set(captions.captions(many)), {picture.tobytes() for picture in render.render(many)}
print(f"patches with an object: {covered:.0f} of 64")
print(f"different pictures: {len(drawn):,}; different captions: {len(told):,}")
assert 8 < covered < 20 and len(drawn) == 5000 and len(told) < 2500

# %% [markdown] id="correspond-proved" lang="en"
# **What you just proved.** Most of a picture has no word, and one caption fits many pictures. A picture says too much; a sentence says what matters to somebody. A vision-language model must learn which is which, and nobody hands it the table above. It only ever sees whole pictures beside whole sentences.

# %% [markdown] id="table" lang="en"
# ### From language model to vision-language model
#
# | | language model | vision-language model |
# |---|---|---|
# | input | text | images **and** text |
# | representation | discrete tokens: rows of a table | discrete tokens **and continuous features** |
# | order | one line, left to right | a grid for the image, a line for the text |
# | task | understand and continue text | make what is seen correspond to what is said |
# | **same** | transformer, next-token loss, sampling | transformer, next-token loss, sampling |
# | new decision | – | where and how image features join the text |
# | typical failure | invents | invents, **and ignores the image** |
# | an honest test | held-out text | held-out pictures **beside a blind control** |
#
# The row *same* is why your knowledge carries over. The rows around it are this course.

# %% [markdown] id="q-continuous" lang="en"
# ## 2 · Why is there no table of image tokens?
#
# **Question.** Text becomes ids, and an id picks a row of an embedding table. Could patches have ids?
#
# A table works because its entries come again. **Predict:** in 784 words of captions, how many are new to you after the first hundred? And in 784 patches of four photographs?

# %% id="continuous-count"
from vlmcourse.models.vit import patchify

four = torch.stack([torch.from_numpy(photos.photo(name, 224)) for name in photos.PHOTOS])
patches = patchify(four.permute(0, 3, 1, 2), 16).flatten(0, 1)  # 4 · 196 patches of 768 bytes
spoken = " ".join(captions.captions(many)).split()[: len(patches)]
words_seen = [len(set(spoken[:n])) for n in range(1, len(spoken) + 1)]
patches_seen = [len(torch.unique(patches[:n], dim=0)) for n in range(1, len(patches) + 1, 20)]
different = len(torch.unique(patches, dim=0))
print(f"{len(spoken)} words, {words_seen[-1]} different; {len(patches)} patches, {different}")
assert words_seen[-1] < 30 and different > 0.95 * len(patches)

# %% id="continuous-figure"
fig, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
ax.plot(range(1, len(patches) + 1, 20), patches_seen, color=roles.image, linestyle="--",
        label="patches of photographs")
ax.plot(range(1, len(spoken) + 1), words_seen, color=roles.text, label="words of captions")
ax.set(xlabel="read so far", ylabel="different ones so far"); ax.legend()
figure(fig, alt="Different patches grow with patches read; different words stop at about twenty")

# %% [markdown] id="continuous-proved" lang="en"
# **What you just proved.** Words come again, patches do not: make a photo one shade lighter, and every patch is new. Ids say *equal or not equal*. Continuous features say *near or far*. So an image enters by a function, not by a table, and the function has to be learned.
#
# (There is a third way: round features to the nearest of a few thousand codes, as VQ-VAE does. Then the rounding is the learned function.)

# %% [markdown] id="q-gap" lang="en"
# ## 3 · Where do words live, and where do patches?
#
# **Question.** If both are vectors of the same width, are they the same *kind* of vector?
#
# To compare, we need a language model that knows something. We train a tiny one, **on text alone**. Half of its texts tell it what is in a picture and then ask: *a red circle. what colour is the circle?* The other half only ask. It answers with one token.

# %% id="speak"
tokenizer = text.load_tokenizer()

def ask_about(split, count):
    """Scenes with one object, and questions about colour and shape.

    Returns:
        scenes, the scene of each question, questions.
    """
    world = scenes.sample(split, count, objects=(1, 1))
    both = [(n, q) for kind in ("colour", "shape")
            for n, q in enumerate(questions.ask(world, kind))]
    return world, torch.tensor([n for n, _ in both]), [q for _, q in both]

def answer_ids(asked):
    """The one token of each answer."""
    return tokenizer.encode([q.answer for q in asked], length=2)[0][:, 0]

train_world, train_scene, train_asked = ask_about("train", 4000)
test_world, test_scene, test_asked = ask_about("test", 500)
train_answers, test_answers = answer_ids(train_asked), answer_ids(test_asked)

# %% id="encode"
def in_words(world, scene, asked):
    """Questions with the caption in front, and questions alone."""
    said = captions.captions(world)
    told = [f"{said[n]}. {q.text}" for n, q in zip(scene.tolist(), asked)]
    return tokenizer.encode(told, length=16), tokenizer.encode([q.text for q in asked], length=16)

(told_ids, told_mask), (asked_ids, asked_mask) = in_words(train_world, train_scene, train_asked)
test_told, test_alone = in_words(test_world, test_scene, test_asked)
print(tokenizer.decode(told_ids[:1])[0], "→", train_asked[0].answer)
print(tokenizer.decode(asked_ids[:1])[0], "→", train_asked[0].answer)

# %% [markdown] id="language-predict" lang="en"
# The model is a LLaMA with two blocks and a width of 48. Chapter 05 takes it apart; here it is a tool. **Predict** its accuracy on new questions, with and without the sentence in front. A colour is one of five equally frequent ones for each shape.

# %% id="language-train"
from vlmcourse.data.batches import Batches
from vlmcourse.models.language import Llama, LlamaConfig
from vlmcourse.training.loop import train

sizes = budget(cpu=dict(language=500, bridge=300), gpu=dict(language=500, bridge=300))
torch.manual_seed(0)
small = LlamaConfig(len(tokenizer), width=48, depth=2, heads=4, groups=4, tied=True)
speaker = naive.Answerer(Llama(small))
texts = Batches((torch.cat([told_ids, asked_ids]), torch.cat([told_mask, asked_mask]),
                 train_answers.repeat(2)), 64)
train(speaker, texts, lambda model, batch: F.cross_entropy(model(*batch[:2]), batch[2]),
      steps=sizes.language, lr=4e-3, name="language model")

# %% id="language-test"
@torch.no_grad()
def measure(model, encoded, image=None):
    """Accuracy and loss on the test questions."""
    home = next(model.parameters()).device
    ids, mask, wanted = encoded[0].to(home), encoded[1].to(home), test_answers.to(home)
    scores = model.eval()(ids, mask, image if image is None else image.to(home))
    right = (scores.argmax(-1) == wanted).float().mean().item()
    return right, F.cross_entropy(scores, wanted).item()

results = {"told in words": measure(speaker, test_told), "not told": measure(speaker, test_alone)}
tabulate(results, right=".0%", loss=".2f")
assert results["told in words"][0] > 0.95 and 0.15 < results["not told"][0] < 0.4

# %% [markdown] id="language-proved" lang="en"
# It reads a description and answers from it. Without one it guesses. Here is the idea of this whole course in one line: **replace the description by the picture.**
#
# Our pictures, halved to 32 × 32 pixels and cut into patches of 4 × 4, give 64 patches of 4 · 4 · 3 = 48 numbers. The language model's width is 48 too. The shapes fit, so nothing will stop us. But look first.

# %% id="image-features"
def look(world):
    """Raw patches of scenes: (scene, 64, 48), numbers from −1 to 1."""
    return patchify(F.avg_pool2d(render.to_tensor(render.render(world)), 2), 4)

train_image, test_image = look(train_world), look(test_world)
speaker.to("cpu")
known = told_ids[told_mask].unique()  # every token that occurs in the texts
words = speaker.language.embedding.weight[known].detach()
print("patches", tuple(train_image.shape), "· words", tuple(words.shape))
assert train_image.shape[-1] == words.shape[-1] == 48

# %% [markdown] id="ex-statistics" lang="en"
# ### Your turn: `feature_statistics` · difficulty 2/5 · 10 min
#
# Describe a cloud of features by four numbers or vectors:
#
# | | shape | |
# |---|---|---|
# | in | `(feature, width)` | |
# | norm | `()` | mean **length** of the features |
# | mean | `(width,)` | where the middle is |
# | std | `(width,)` | how far they spread around it |
# | cone | `()` | mean cosine between two **different** features |
#
# A cone of 0 means: directions all around. A cone of 1: everything points the same way. By hand: for (1, 0), (0, 1) and (−1, 0) the three cosines are 0, −1 and 0, so the cone is −⅓.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="feature_statistics"
@exercise(gap.feature_statistics)
def feature_statistics(features):
    """(feature, width) -> (norm, mean, std, cone); std divides by n - 1, as torch's does"""
    # 1. norm, mean and std are one call each   2. scale every feature to length 1
    # 3. cosines of different pairs
    raise NotImplementedError

# %% id="statistics-by-hand"
norm, mean, std, cone = feature_statistics(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
print(f"norm {norm:.2f}, mean {mean.tolist()[0]:.2f} and {mean.tolist()[1]:.2f}, cone {cone:.2f}")
assert abs(cone + 1 / 3) < 1e-6

# %% [markdown] id="statistics-predict" lang="en"
# **Predict:** which cloud has longer vectors, patches or words? Which fills the narrower cone? Remember what most patches show.

# %% id="statistics"
some = train_image[:200].flatten(0, 1)                                 # 12,800 patches
tabulate(gap.report({"words (learned)": words, "patches (raw)": some}), **gap.COLUMNS)
patch_norm, _, _, patch_cone = feature_statistics(some)
word_norm, _, _, word_cone = feature_statistics(words)
assert patch_norm > 4 * word_norm and patch_cone > 0.7 and word_cone < 0.2

# %% [markdown] id="statistics-proved" lang="en"
# **What you just proved.** The patches are several times longer than the words, and nearly all point the same way: towards paper. Their mean is almost as long as they are. The words spread in all directions: they started at random, and training keeps apart what must be told apart. This is the **distribution gap**.
#
# Raw patches are the extreme case. But a trained encoder does not close the gap by itself: even CLIP, trained to bring both together, keeps images and texts in two separate cones (Liang et al. 2022). You will measure that in chapter 04.

# %% [markdown] id="clouds-intro" lang="en"
# ### Look
#
# Both clouds in one plane, the two directions in which they vary most. Point at a mark to see its word or its patch. Then drag the slider: it moves the words until the two *means* coincide. **Ask yourself:** when the means coincide, is the word *red* near a red patch?

# %% id="clouds"
from vlmcourse.widgets.clouds import FeatureClouds

chosen = torch.randperm(len(some), generator=torch.Generator().manual_seed(1))[:150]
thumbnails = ((some[chosen].reshape(-1, 4, 4, 3) + 1) * 127.5).round().to(torch.uint8)
FeatureClouds(some[chosen], words,
              labels=([f"patch {n}" for n in chosen.tolist()], tokenizer.tokens(known)),
              thumbnails=thumbnails, paired=False)

# %% [markdown] id="ex-join" lang="en"
# ## 4 · Join them anyway
#
# **Question.** What does a language model do with vectors it has never met?
#
# ### Your turn: `join` · difficulty 1/5 · 5 min
#
# | | shape |
# |---|---|
# | `image` | `(batch, patch, width)` |
# | `text` | `(batch, token, width)`, embedded words |
# | `mask` | `(batch, token)`, True for words, False for padding |
# | out | the sequence `(batch, patch + token, width)` **and** its mask |
#
# The image goes in front. Text is read from left to right, so only what stands before a word can inform it.

# %% id="join"
@exercise(naive.join)
def join(image, text, mask):
    """-> (sequence, mask), image in front; the mask is bool"""
    # 1. join the vectors along the token axis   2. all image features are real
    # 3. join the masks in the same order
    raise NotImplementedError

# %% [markdown] id="naive-predict" lang="en"
# Now ask the language model about the *picture*. Nothing is trained. We try three joins:
#
# - **raw**: the patches as they are;
# - **matched**: shifted and scaled, number by number, until mean and spread equal those of the words;
# - **noise**: random vectors with the words' mean and spread. A control: they contain no image at all.
#
# **Predict:** which of these beats *not told*, the model that gets no picture?

# %% id="naive-joins"
flat = train_image.flatten(0, 1)
middle, spread = words.mean(0), words.std(0)

def matched(image):
    """Shift and scale each of the 48 numbers so that patches have the mean and spread of words."""
    return (image - flat.mean(0)) / flat.std(0) * spread + middle

torch.manual_seed(0)
joins = {"raw": test_image, "matched": matched(test_image),
         "noise": torch.randn_like(test_image) * spread + middle}
results |= {name: measure(speaker, test_alone, image[test_scene]) for name, image in joins.items()}
tabulate(gap.report({"words": words, "matched patches": matched(some)}), **gap.COLUMNS)

# %% id="naive-table"
tabulate(results, right=".0%", loss=".2f")
blind_right, blind_loss = results["not told"]
assert all(results[name][0] < blind_right + 0.05 and results[name][1] > blind_loss + 0.2
           for name in joins)
assert results["matched"][1] > results["raw"][1]

# %% [markdown] id="naive-proved" lang="en"
# **What you just proved.** Every join is no better at answering than *not told*, and its loss is far higher. The model does not skip what it cannot read. It takes 64 strange vectors for words, and answers with more confidence and less truth. Look at *matched*: its mean and spread are those of words, and its loss is even higher than that of the raw patches. Lying where words lie is not the same as meaning something.

# %% [markdown] id="attention-intro" lang="en"
# How can 64 foreign vectors drown a question? Look at the attention of the last token, the one that answers. An even gaze over 64 patches and the question would give the patches about nine tenths. That is already the problem: **an image outnumbers the question.**

# %% id="attention"
from vlmcourse.models.attention import record_attention

with torch.no_grad(), record_attention(speaker) as record:
    speaker(test_alone[0][:200], test_alone[1][:200], test_image[test_scene][:200])
ends = 64 + test_alone[1][:200].sum(1) - 1
on_image = [layer[torch.arange(200), :, ends, :64].sum(-1).mean().item() for layer in record]
even = (64 / (ends + 1).float().mean()).item()
tabulate({"an even gaze": even, "layer 1": on_image[0], "layer 2": on_image[1]}, on_patches=".0%")
assert max(on_image) > 0.5

# %% [markdown] id="bridge-intro" lang="en"
# ### What a bridge does
#
# Keep the language model frozen: its words stay where they are. Put **one matrix**, 48 × 48, between patch and language model, and train only that, on pictures with questions. Beside it, the impatient way: no bridge, and train the whole language model on raw patches.
#
# **Predict** for both: accuracy on pictures, and accuracy when it is told in words afterwards.

# %% id="bridge-train"
pictures = Batches((asked_ids, asked_mask, train_answers, train_scene), 32)

def picture_loss(model, batch):
    ids, mask, wanted, scene = batch
    return F.cross_entropy(model(ids, mask, train_image[scene.cpu()].to(ids.device)), wanted)

bridged, retrained = copy.deepcopy(speaker), copy.deepcopy(speaker)
bridged.requires_grad_(False)
bridged.bridge = torch.nn.Linear(48, 48)
runs = {"one matrix": (bridged, 5e-3), "all retrained": (retrained, 2e-3)}
for name, (model, rate) in runs.items():
    train(model, pictures, picture_loss, steps=sizes.bridge, lr=rate, name=name)

# %% id="bridge-table"
seeing = {name: (measure(model, test_alone, test_image[test_scene])[0],
                 measure(model, test_told)[0])
          for name, (model, _) in runs.items()}
tabulate(seeing, right_from_pictures=".0%", when_told_in_words=".0%")
assert seeing["one matrix"][0] > blind_right + 0.1
assert seeing["one matrix"][1] == results["told in words"][0]
assert seeing["all retrained"][1] < results["told in words"][0] - 0.1
assert seeing["all retrained"][0] > seeing["one matrix"][0]

# %% id="bridge-figure"
bars = {"told in words": results["told in words"][0], "not told": blind_right,
        **{n: results[n][0] for n in joins},
        **{name: sees for name, (sees, _) in seeing.items()}}
colours = [roles.text] * 2 + [roles.image] * 3 + [roles.learned] * 2
fig, ax = plt.subplots(figsize=(5.6, 2.6), layout="constrained")
drawn_bars = ax.barh(list(bars)[::-1], list(bars.values())[::-1], color=colours[::-1])
ax.bar_label(drawn_bars, [f"{value:.0%}" for value in list(bars.values())[::-1]], padding=3,
             bbox=dict(facecolor="white", edgecolor="none", pad=1))
ax.axvline(blind_right, color=roles.control, linestyle=":")
ax.set(xlim=(0, 1.12), xlabel="right answers")
figure(fig, alt="Right answers: told in words all, not told a quarter, three naive joins no better")

# %% [markdown] id="bridge-proved" lang="en"
# **What you just proved.** One learned matrix did what no statistics could: it gave patches a *meaning* the language model can read, and no word was moved. Training everything got further on pictures, and paid with the ability to read. You will meet both again: the matrix is LLaVA's projector (chapter 07), the price is why training goes in stages (chapter 08).
#
# A single matrix on raw patches is still a poor eye. The real recipe puts a trained encoder in front of it.

# %% [markdown] id="q-ignore" lang="en"
# ## 5 · Why would a model ignore the image?
#
# That was the loud failure. Now the silent one.
#
# **Question.** Give a model a picture and a question. What if the question is enough?
#
# In real life, bananas are yellow. The field calls such a habit **language bias**, or a language prior. So let us make a world with habits: with `language_bias=0.8`, four fifths of the objects have *the* colour of their shape, and the others any of its five colours. **Predict** by hand: how often is the habit right?

# %% id="biased-data"
def colour_questions(split, count, bias):
    """Scenes of a world with habits and one question about a colour for each."""
    world = scenes.sample(split, count, objects=(1, 2), language_bias=bias)
    asked = questions.ask(world, "colour")
    kept = [n for n, question in enumerate(asked) if question]
    return world[kept], [asked[n] for n in kept]

habit_world, habit_asked = colour_questions("train", 4000, 0.8)
new_world, new_asked = colour_questions("test", 600, 0.8)
print(len(habit_asked), "to learn from,", len(new_asked), "new ones;", new_asked[0].text, "→",
      new_asked[0].answer)

# %% [markdown] id="ex-prior" lang="en"
# ### Your turn: `answer_prior` · difficulty 2/5 · 10 min
#
# The simplest blind model counts. For each kind of question, what was answered most often?
#
# | | shape |
# |---|---|
# | `asked` | `(question,)`, the number of its kind |
# | `answers` | `(question,)`, the number of its answer |
# | `kinds` | how many kinds there are |
# | out | `(kind,)`, the number of the answer to give, on the device of `answers` |
#
# A kind that was never asked gets the answer most frequent over **all** questions. Of equally frequent answers the smaller number wins.

# %% id="answer_prior"
@exercise(controls.answer_prior)
def answer_prior(asked, answers, kinds):
    """(question,), (question,) -> (kind,)"""
    # 1. count: one row per kind, one column per answer   2. best column of each row
    # 3. rows of zeros: best of all
    raise NotImplementedError

# %% id="prior-score"
def blind_by_text(asked):
    """A blind model that goes by the text of a question; it runs your answer_prior."""
    return controls.Blind([q.text for q in asked], [q.answer for q in asked])

def share_right(guesses, asked):
    return sum(guess == q.answer for guess, q in zip(guesses, asked)) / len(asked)

habit = blind_by_text(habit_asked)
guesses = habit([q.text for q in new_asked])
tabulate({q.text: guess for q, guess in zip(new_asked[:4], guesses)}, "question", answer="")
print(f"right without looking: {share_right(guesses, new_asked):.0%}; chance is 20%")
assert 0.78 < share_right(guesses, new_asked) < 0.9

# %% [markdown] id="blind-train-intro" lang="en"
# ### A loss that falls without eyes
#
# The habit is right in 0.8 + 0.2 · ⅕ = 0.84 of the cases. Now a real model: the same small LLaMA, new, trained by gradient descent on the questions alone. There is no picture in its input. It can learn that one colour has 84 % and each of the four others 4 %, and nothing else. **Predict:** where does its loss end?

# %% id="blind-train"
floor = -(0.84 * math.log(0.84) + 4 * 0.04 * math.log(0.04))
torch.manual_seed(0)
reader = naive.Answerer(Llama(small))
habit_ids, habit_mask = tokenizer.encode([q.text for q in habit_asked], length=10)
blind_run = train(reader, Batches((habit_ids, habit_mask, answer_ids(habit_asked)), 64),
                  lambda model, batch: F.cross_entropy(model(*batch[:2]), batch[2]), steps=250,
                  lr=3e-3, name="without eyes")
last = sum(blind_run.losses[-50:]) / 50
print(f"loss {blind_run.losses[0]:.2f} → {last:.2f}; a perfect habit pays {floor:.2f}")
assert blind_run.losses[0] > 6 and abs(last - floor) < 0.12

# %% id="blind-figure"
fig, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
ax.plot(blind_run.losses, color=roles.text, label="loss of a model without eyes")
ax.axhline(floor, color=roles.ink, linestyle="--", label=f"entropy of the habit, {floor:.2f}")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None)); ax.legend()
figure(fig, alt="The text-only loss falls from seven to the entropy of the habit and stays there")

# %% [markdown] id="blind-proved" lang="en"
# **What you just proved.** A beautiful curve, and no picture was ever opened. The fall from 6.9 to about 0.7 is all *language*: which words are answers, which answers are colours, which colour is usual. Vision could only earn what is left. Gradient descent takes the large, easy gain first. That is why a model with eyes may close them.

# %% [markdown] id="ex-twins" lang="en"
# ## 6 · How do you catch it?
#
# With **twins**: two pictures that differ as little as possible, so that the same question has two different answers.
#
# Think first. A model that does not look gives *the same* answer to both twins. Since the right answers differ, at most one can be right. So its accuracy on twins is **at most 50 %**, whatever it has learned, and it never gets a whole pair. This needs no experiment: it is a proof.
#
# ### Your turn: `twin_accuracy` · difficulty 1/5 · 5 min
#
# `guesses` and `answers` are `(pair, two)`, numbers of answers. Return the share of right answers, and the share of pairs with **both** right.

# %% id="twin_accuracy"
@exercise(controls.twin_accuracy)
def twin_accuracy(guesses, answers):
    """(pair, two), (pair, two) -> (accuracy, both), two float32 tensors ()"""
    raise NotImplementedError

# %% id="twins-make"
def read_answers(model, asked, image=None):
    """The word a model answers to each question."""
    home = next(model.parameters()).device
    ids, mask = (part.to(home) for part in tokenizer.encode([q.text for q in asked], length=10))
    with torch.no_grad():
        scores = model.eval()(ids, mask, image if image is None else image.to(home))
    return tokenizer.tokens(scores.argmax(-1).cpu())

twin_world, twin_asked = twins.twins(new_world, new_asked)
first, second = read_answers(reader, new_asked), read_answers(reader, twin_asked)
accuracy, both = controls.twin_score(first, [q.answer for q in new_asked], second,
                                     [q.answer for q in twin_asked])
print(f"biased test {share_right(first, new_asked):.0%}; twins {accuracy:.0%}, pairs {both:.0%}")
assert share_right(first, new_asked) > 0.78 and accuracy <= 0.5 and both == 0

# %% id="twins-figure"
fig, axes = plt.subplots(2, 4, figsize=(6.6, 4), layout="constrained")
shown = [(render.render(new_world[:4]), new_asked, first),
         (render.render(twin_world[:4]), twin_asked, second)]
for row, (drawn_row, facts, said) in zip(axes, shown):
    for ax, picture, fact, word in zip(row, drawn_row, facts, said):
        ax.imshow(picture); ax.set_xticks([]); ax.set_yticks([])
        asked, mark = fact.text.replace(" is ", " is\n"), "✓" if word == fact.answer else "✗"
        ax.set_title(f"{asked}\n{mark} “{word}”", fontsize=9)
axes[0, 0].set_ylabel("test"); axes[1, 0].set_ylabel("twin")
figure(fig, alt="Four scenes, their twins, and blind answers: each given twice, right at most once")

# %% [markdown] id="break" lang="en"
# ## 7 · Break it on purpose: turn up the habit
#
# Now raise the knob and watch a blind model become "better". No training is needed: your `answer_prior` is the best blind model there is. **Predict** the two columns at 0 and at 1.

# %% id="knob"
table = {}
for bias in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0):
    known_asked = colour_questions("train", 3000, bias)[1]
    some_world, some_asked = colour_questions("test", 400, bias)
    other_world, other_asked = twins.twins(some_world, some_asked)
    pair_guesses = [blind_by_text(known_asked)([q.text for q in asked])
                    for asked in (some_asked, other_asked)]
    on_twins, _ = controls.twin_score(pair_guesses[0], [q.answer for q in some_asked],
                                   pair_guesses[1], [q.answer for q in other_asked])
    table[bias] = share_right(pair_guesses[0], some_asked), on_twins
tabulate(table, "bias", biased_test=".0%", twins=".0%")
assert table[0.0][0] < 0.35 and table[1.0][0] == 1 and max(w for _, w in table.values()) <= 0.55

# %% id="knob-figure"
fig, ax = plt.subplots(figsize=(5, 2.5), layout="constrained")
tests, pairs = zip(*table.values())
ax.plot(list(table), tests, color=roles.first, marker="o", label="biased test")
ax.plot(list(table), pairs, color=roles.second, marker="s", linestyle="--", label="twins")
ax.axhline(0.5, color=roles.control, linestyle=":")
ax.set(xlabel="language bias", ylabel="right without looking", ylim=(0, 1.05)); ax.legend()
figure(fig, alt="Blind, the biased test climbs from a fifth to one; twins stay at half")

# %% [markdown] id="knob-proved" lang="en"
# **What you just proved.** The test score measures the data set as much as the model. At bias 1 a perfect score needs no eyes. The twins stay at or below one half, all the way.

# %% [markdown] id="eyes-intro" lang="en"
# ### And a model that has eyes?
#
# So far our blind models *could not* look. Does a model that could, do so? Take the small LLaMA with a bridge, nothing frozen, and give it the same number of pictures and steps, twice: in a fair world, and in one with strong habits (0.95). **Predict** for each: its test score, and its share of twin pairs with both right.

# %% id="eyes-train"
def train_with_eyes(bias):
    world, asked = colour_questions("train", 4000, bias)
    image, (ids, mask) = look(world), tokenizer.encode([q.text for q in asked], length=10)
    torch.manual_seed(0)
    model = naive.Answerer(Llama(small), torch.nn.Linear(48, 48))
    train(model, Batches((ids, mask, image, answer_ids(asked)), 32),
          lambda model, batch: F.cross_entropy(model(*batch[:3]), batch[3]), steps=sizes.bridge,
          lr=3e-3, name=f"with eyes, bias {bias}")
    return model

with_eyes = {bias: train_with_eyes(bias) for bias in (0.0, 0.95)}

# %% id="eyes-test"
seen = {}
for bias, model in with_eyes.items():
    world, asked = colour_questions("test", 400, bias)
    other_world, other_asked = twins.twins(world, asked)
    said = read_answers(model, asked, look(world))
    said_of_twin = read_answers(model, other_asked, look(other_world))
    pairs = controls.twin_score(said, [q.answer for q in asked], said_of_twin,
                                [q.answer for q in other_asked])
    seen[bias] = share_right(said, asked), pairs[1]
tabulate(seen, "bias", right_in_the_test=".0%", both_of_a_pair=".0%")
assert seen[0.95][0] > seen[0.0][0] and seen[0.95][1] < seen[0.0][1] - 0.1

# %% [markdown] id="eyes-proved" lang="en"
# **What you just proved.** The model from the world of habits has the *higher* test score and the *worse* eyes. It saw as many pictures. It had less reason to look: most of its loss was gone before vision could help. This is the collapse to watch for whenever you train a VLM on top of a strong language model. A strong language model brings strong habits along.

# %% [markdown] id="design-intro" lang="en"
# ## 8 · Design questions that need the image
#
# **Question.** Which questions would survive? Scenes can ask eight kinds. For each, let the best blind model try, in the world with habits.

# %% id="design-kinds"
blind_share = {}
for kind in questions.KINDS:
    posed = [[q for q in questions.ask(scenes.sample(split, 1500, language_bias=0.8), kind) if q]
             for split in ("train", "test")]
    blind_share[kind] = share_right(blind_by_text(posed[0])([q.text for q in posed[1]]), posed[1])
ranked = sorted(blind_share, key=blind_share.get)
tabulate({kind: blind_share[kind] for kind in ranked}, right_without_looking=".0%")
assert min(blind_share["colour"], blind_share["existence"]) > 0.75 and blind_share[ranked[0]] < 0.45

# %% [markdown] id="design-turn" lang="en"
# Did *existence* surprise you? Its answers are balanced, yes about as often as no. But "Is there a red circle?" names a colour and a shape, and in a world with habits that is enough: over 75 % without looking. Balancing the answers did not balance the **questions**.
#
# Choose the kinds you would put into a test, and look at their blind score. Try to get below 50 %. Which kinds must leave, and what do the survivors have in common?

# %% id="design"
my_kinds = ["position", "relation", "size"]                            # ← your choice
my_blind = sum(blind_share[kind] for kind in my_kinds) / len(my_kinds)
print(f"your test: {my_blind:.0%} right without looking")
assert my_blind < blind_share["colour"]

# %% [markdown] id="design-rules" lang="en"
# Four rules you can now defend with numbers:
#
# 1. **Ask what varies.** Position and size do not follow from the words of the question; a colour with habits does.
# 2. **Balance the answers for every wording**, not over all questions. Even then yes-or-no questions give 50 % for nothing.
# 3. **Pair every question with a twin**, and count whole pairs. Habit gets none.
# 4. **Report the blind score beside every score.** It costs one line.
#
# The same rules make training data. A question that needs the image is a gradient that needs the image.

# %% [markdown] id="real" lang="en"
# ## 9 · Is this real?
#
# These habits were found in the data sets that made the field. On the first VQA data set, always giving the usual answer to each type of question scored nearly 40 %. A language model that never saw the image reached about one half. The full model, with the image, was only some seven points better (Antol et al. 2015).
#
# Goyal et al. (2017) then collected, for every question, a second similar image with a different answer: VQA v2. Your twins do the same. Agrawal et al. (2018) made training and test habits *differ*, and models fell steeply.
#
# The bridge is real too. Tsimpoukelli et al. (2021) and Merullo et al. (2022) kept a large language model frozen and learned only how images enter it. For Merullo one linear map was enough for captions, and it worked best when the vision encoder had been trained with language. So the published models differ from yours in the eye, not in the idea.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Words and regions correspond many-to-many, and most of an image has no word.
# 2. Patches are continuous: no ids, no table. A learned function must carry them over.
# 3. Image features and words are distributed differently. Joined as they are, they mislead; with matched statistics, they still do; one learned matrix helps.
# 4. A loss can fall far without eyes: language takes the easy gain first.
# 5. Blind baseline beside every score, twins for every claim. On twins, habit gets at most half and never a pair.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("01_the_problem/1")

# %% id="quiz-2"
quiz("01_the_problem/2")

# %% id="quiz-3"
quiz("01_the_problem/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Antol et al. 2015, *VQA: Visual Question Answering*, [arXiv:1505.00468](https://arxiv.org/abs/1505.00468).
# - Goyal et al. 2017, *Making the V in VQA Matter*, [arXiv:1612.00837](https://arxiv.org/abs/1612.00837): section 3, balanced pairs.
# - Agrawal et al. 2018, *Don't Just Assume; Look and Answer*, [arXiv:1712.00377](https://arxiv.org/abs/1712.00377): the VQA-CP splits.
# - Liang et al. 2022, *Mind the Gap*, [arXiv:2203.02053](https://arxiv.org/abs/2203.02053): two cones in CLIP.
# - Ethayarajh 2019, *How Contextual are Contextualized Word Representations?*, [arXiv:1909.00512](https://arxiv.org/abs/1909.00512): cosine cones of words.
# - Tsimpoukelli et al. 2021, *Multimodal Few-Shot Learning with Frozen Language Models*, [arXiv:2106.13884](https://arxiv.org/abs/2106.13884).
# - Merullo et al. 2022, *Linearly Mapping from Image to Text Space*, [arXiv:2209.15162](https://arxiv.org/abs/2209.15162).
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 4.1, the projector.
# - van den Oord et al. 2017, *Neural Discrete Representation Learning* (VQ-VAE), [arXiv:1711.00937](https://arxiv.org/abs/1711.00937).
#
# **Next:** [02 · Build a Vision Transformer](02_vit.ipynb)
