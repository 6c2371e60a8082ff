# %% [markdown] id="title" lang="en"
# # 07 · Projection and alignment
#
# **95 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# An eye that sees and a language model that writes do not make a model that describes what it sees. Between them stands a small layer, often less than a hundredth of the whole. In this chapter you write it, train it and nothing else, and look at what it has learned to say.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Chapter 06 decided *where* image and words meet: among the tokens. Now we decide *how* a patch becomes a token. This is stage 1 of LLaVA.
#
# ## After this you can
#
# - **write** the projectors of LLaVA and Idefics3, and say what each costs,
# - **freeze** what must not learn, and show that gradients still pass through it,
# - **train** a projector on captions, with a loss on the captions alone,
# - **tell** a projector that is too weak from one that is too strong, and from one that was never loaded,
# - **read** image tokens with the words of the language model.

# %% id="setup"
import copy, math, numpy as np, torch
from torch.nn import functional as F
from vlmcourse.workbook import *
from vlmcourse.models import projector
from vlmcourse.training import stages
begin("07_projection_and_alignment", lang="en")

# %% id="map"
course_map("connector")

# %% [markdown] id="q-dialects" lang="en"
# ## 1 · Why not hand the patches over as they are?
#
# Here is a vision-language model in three parts. The eye was trained to say what every patch of a scene shows. The language model was trained on captions, without a single picture. The projector between them is new: its weights are random.
#
# **Question.** The eye's vectors and the language model's vectors are both just numbers. What differs?

# %% id="load"
from vlmcourse.families import nano
from vlmcourse.speak import Speaker
from vlmcourse.world import captions, render, scenes

vlm, card = nano.load_vlm("nano-words")
sizes = {part: sum(p.numel() for p in getattr(vlm, part).parameters())
         for part in ("vision", "projector", "language")}
train_scenes = scenes.sample("train", 3000, objects=(1, 2))
new_scenes = scenes.sample("validation", 300, objects=(1, 2))
told, new_told = (captions.captions(batch, "full") for batch in (train_scenes, new_scenes))
seen, new_seen = (nano.features(vlm, render.render(batch)) for batch in (train_scenes, new_scenes))
tabulate(sizes, "part", parameters=",")
print(f"seen {tuple(seen.shape)}; the first caption: {told[0]}")
assert sizes["projector"] < 0.1 * sum(sizes.values()) and seen.shape[1:] == (64, 96)

# %% [markdown] id="features-once" lang="en"
# The eye is frozen, so it says the same about a picture every time. We asked it once, for all pictures, and keep its answers: 64 patches of 96 numbers each. LLaVA's training could do the same, at the price of disk space.
#
# Compare the two clouds of vectors with your statistics of chapter 01.

# %% id="clouds"
from vlmcourse.data.text import load_tokenizer
from vlmcourse.diagnostics import gap

tokenizer = load_tokenizer()
# words of captions, no padding
used = sorted(set(tokenizer.encode(told)[0].flatten().tolist()) - {0, 3})
words = vlm.language.embedding.weight.detach()[used]
some = seen[:100].flatten(0, 1).float()
tabulate(gap.report({"patches, from the eye": some, "words of captions": words}), **gap.COLUMNS)

# %% [markdown] id="clouds-lesson" lang="en"
# They differ in everything: width (96 and 128), length, direction. A matrix can change all three. The question is which matrix.
#
# The drawing has the whole chapter. Lit is what you write: the way from patches to image tokens, and the loss of stage 1. Below *learns* and *frozen* say who may change in which stage.

# %% id="drawing"
drawing("projector")

# %% [markdown] id="hand-intro" lang="en"
# ## 2 · A projector by hand
#
# Suppose an eye answers with three numbers and a language model uses two. The eye shows three objects, and we know their words. Then the projector is a small system of equations.

# %% id="hand"
# a red, a blue, a purple thing
eye = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [2.0, 3.0, 1.0]])
word = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # "red", "blue", "purple"
matrix = torch.linalg.lstsq(eye, word).solution
print(matrix, eye @ matrix, sep="\n")
assert torch.allclose(eye @ matrix, word, atol=1e-5)

# %% [markdown] id="hand-lesson" lang="en"
# In a real model nobody knows which word belongs to which patch. "A small red circle at the top left" belongs to the whole picture. So we let captions decide: the right projector is the one with which the language model **says the caption**.
#
# ## 3 · How many tokens may a picture cost?
#
# 64 patches would be 64 tokens, more than the caption has. Idefics3 folds squares of neighbours into one token first. Nothing is lost: the tokens become fewer and wider. Here is a grid of 4 × 4 patches with one number each, folded by hand.

# %% id="fold-hand"
grid = torch.arange(16.0).reshape(4, 4)
corner = grid[:2, :2].flatten()
print(grid, "the first token holds", corner.tolist())
assert corner.tolist() == [0, 1, 4, 5]

# %% [markdown] id="ex-shuffle" lang="en"
# ### Your turn: `pixel_shuffle` · difficulty 3/5 · 12 min
#
# | | shape |
# |---|---|
# | `features` | `(image, patch, width)`, patches row by row |
# | `factor` | side of a square, in patches |
# | `grid` | `(rows, columns)` of patches; `None` means a square grid |
# | out | `(image, patch / factor², width · factor²)` |
#
# Tokens stand row by row. Inside a token comes the square's upper row first, left to right, each patch with all its numbers.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="pixel_shuffle"
@exercise(projector.pixel_shuffle)
def pixel_shuffle(features, factor, grid=None):
    """(image, patch, width) -> (image, patch / factor², width · factor²)"""
    # 1. rows and columns: grid, or the root of patch
    # 2. an axis each for squares and for places inside them
    # 3. bring the two inner axes together   4. merge
    raise NotImplementedError

# %% id="fold-picture"
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

picture = render.render(new_scenes[:1])[0]
fig, axes = plt.subplots(1, 3, figsize=(6.6, 2.5), layout="constrained")
for ax, factor in zip(axes, (1, 2, 4)):
    folded = projector.pixel_shuffle(seen[:1], factor) if factor > 1 else seen[:1]
    ax.imshow(picture); ax.axis("off")
    ax.set_title(f"{folded.shape[1]} tokens of {folded.shape[2]} numbers", fontsize=9)
    side = 8 * factor
    for place in range(folded.shape[1]):
        left, top = place % (8 // factor) * side, place // (8 // factor) * side
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, ec=roles.image))
figure(fig, alt="One scene under three grids: 64 small squares, 16 larger ones, 4 large ones; "
                "each square becomes one token")
assert folded.shape == (1, 4, 1536) and folded.numel() == seen[:1].numel()

# %% [markdown] id="fold-proved" lang="en"
# **What you just proved.** Folding is free of loss: 64 · 96 numbers stay 64 · 96 numbers. It is not free of consequences. Each token must now tell of four patches in one vector of 128 numbers. Section 14 measures what that costs.
#
# ## 4 · One layer or two?
#
# The first LLaVA used one matrix. LLaVA-1.5 uses two, with a GELU between them. Is the GELU needed? **Predict:** can two matrices without it do more than one?

# %% id="collapse"
first, second = torch.nn.Linear(96, 128), torch.nn.Linear(128, 128)
merged = second.weight @ first.weight, second.weight @ first.bias + second.bias
some = torch.randn(5, 96)
gap_to_one = (second(first(some)) - F.linear(some, *merged)).abs().max().item()
print(f"two layers and the one they make differ by {gap_to_one:.0e}")
assert gap_to_one < 1e-5

# %% [markdown] id="ex-project" lang="en"
# Two matrices without a curve between them *are* one matrix. The curve lets a token say things like "red, if something is there at all".
#
# ### Your turn: `project` · difficulty 1/5 · 4 min
#
# `expand` and `contract` are linear layers, to be called; between them stands the exact GELU. `(…, width)` → `(…, out)`.

# %% id="project"
@exercise(projector.project)
def project(features, expand, contract):
    """linear, GELU, linear: the projector of LLaVA-1.5"""
    raise NotImplementedError

# %% [markdown] id="connectors" lang="en"
# What published models put here:
#
# | model | from the eye to the words | image tokens |
# |---|---|---|
# | LLaVA | one linear layer | one per patch |
# | LLaVA-1.5 | your `project` | one per patch: 576 |
# | MiniGPT-4 | a frozen Q-Former, then one linear layer | one per query: 32 |
# | Idefics3 | your `pixel_shuffle`, then one linear layer | a quarter of the patches |
#
# **Adapters** are a relative: small trained layers *inside* a frozen language model. LoRA is the best known, and comes in chapter 15. A projector stands in front and changes no layer.

# %% [markdown] id="q-loss" lang="en"
# ## 5 · Which words count?
#
# Stage 1 shows the language model a picture and asks for its caption. What it reads is one row:
#
# `<user>` · 16 image tokens · "Describe the image." · `<assistant>` · the caption · `<end>`
#
# The image is no word, so nobody can predict it. The prompt is given. **Only the caption and its end are learned.** As always, a token is predicted from the place *before* it.

# %% id="loss-hand"
row = ["<user>", "image", "image", "describe", "<assistant>", "a", "red", "star", "<end>", "<pad>"]
given, real = 5, 9  # tokens before the caption; tokens that are no padding
asked = [(row[place - 1], row[place]) for place in range(given, real)]
tabulate(dict(asked), "behind", comes="")
assert asked[0] == ("<assistant>", "a") and asked[-1] == ("star", "<end>") and len(asked) == 4

# %% [markdown] id="ex-loss" lang="en"
# ### Your turn: `alignment_loss` · difficulty 3/5 · 12 min
#
# | | shape |
# |---|---|
# | `logits` | `(batch, token, vocabulary)`: scores for the *next* token at each place |
# | `ids` | `(batch, token)`: what was read |
# | `given` | `(batch,)`: how many tokens stand before the caption |
# | `mask` | `(batch, token)`: False at padding |
# | out | one number: mean surprise over all caption tokens of the batch |

# %% id="alignment_loss"
@exercise(stages.alignment_loss)
def alignment_loss(logits, ids, given, mask):
    """mean cross-entropy of the caption tokens, in nats; 0 is a token, padding any number"""
    # 1. mark the caption: not padding, and at place `given` or later
    # 2. scores one place before each marked token
    # 3. one mean over all of them
    raise NotImplementedError

# %% [markdown] id="q-untrained" lang="en"
# ## 6 · What does the model say before anything is learned?
#
# Put a new projector in. `calibrate` brings its outputs to the length of words, so at least the volume is right. **Predict:** will the model write nonsense, wrong captions, or right ones?

# %% id="untrained"
def with_projector(hidden=128, shuffle=2, seed=0):
    """The same eye and language model around a new projector."""
    torch.manual_seed(seed)
    model = copy.deepcopy(vlm)
    model.projector = projector.Projector(96, 128, hidden, shuffle)
    model.projector.calibrate(seen[:200], words.square().mean().sqrt())
    return model.eval()

def say(model, batch):
    return Speaker(model).answer(render.render(batch), ["Describe the image."] * len(batch))

untrained = with_projector()
before = say(untrained, new_scenes)
print(*[f"{true}\n   → {said}" for true, said in zip(new_told[:3], before)], sep="\n")

# %% [markdown] id="measure-intro" lang="en"
# Nearly fluent, with here and there a broken word, and not about the picture. Two numbers tell that apart from seeing:
#
# - **the loss** on the true caption, in nats per token, beside that of the language model without any image;
# - **true statements**: of all sizes, colours, shapes and places that a caption states, the share that is true of its scene.
#
# And a control for both: the same captions with the pictures exchanged.

# %% id="measure"
from vlmcourse.evaluation.statements import stated, true_share

@torch.no_grad()
def caption_loss(model, seen=new_seen, told=new_told):
    """Nats per caption token."""
    ids, given, mask = stages.encode_captions(told, model.tokens_per_image)
    return stages.alignment_loss(model(ids, features=model.projector(seen.float()), mask=mask), ids,
                                 given, mask).item()

with torch.no_grad():
    ids, given, mask = stages.encode_captions(new_told, 0)             # no image at all
    blind = stages.alignment_loss(vlm.language(ids, mask=mask), ids, given, mask).item()
start, luck = caption_loss(untrained), true_share(before, new_scenes)
print(f"no image {blind:.3f} nats, untrained projector {start:.3f}; statements true by luck "
      f"{luck:.0%}")
assert start > blind - 0.01 and 0.03 < luck < 0.45

# %% [markdown] id="match-intro" lang="en"
# ## 7 · Are equal statistics enough?
#
# "The projector connects two distributions." So let us connect them, without training: choose the matrix that gives image tokens **exactly** the mean and the covariance of the words. That is possible in closed form: whiten the features, then colour them. **Predict:** what will the loss be?

# %% id="match"
wide = projector.pixel_shuffle(seen[:1000].float(), 2).flatten(0, 1)
center = wide.mean(0)
_, spread, axes_ = torch.linalg.svd(wide - center, full_matrices=False)
spread, axes_ = spread[:128] / (len(wide) - 1) ** 0.5, axes_[:128]
values, vectors = torch.linalg.eigh(words.T.cov())
colour = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T  # a root of the words' covariance
matched = with_projector(hidden=None)
with torch.no_grad():
    matched.projector.expand.weight.copy_(colour @ (axes_ / spread[:, None]))
    matched.projector.expand.bias.copy_(words.mean(0) - matched.projector.expand.weight @ center)
    tokens = matched.projector(seen[:1000].float()).flatten(0, 1)
tabulate(gap.report({"image tokens, matched": tokens, "words of captions": words}), **gap.COLUMNS)
print(f"loss {caption_loss(matched):.3f}, without an image {blind:.3f}")
assert torch.allclose(tokens.T.cov(), words.T.cov(), atol=0.02)
assert caption_loss(matched) > blind - 0.01

# %% [markdown] id="match-lesson" lang="en"
# **What you just proved.** Both clouds now lie on top of each other, and the model sees nothing. Equal statistics say that image tokens *could* be words. They do not say **which**. That takes pairs of pictures and captions, and it is called **alignment**.

# %% [markdown] id="q-freeze" lang="en"
# ## 8 · Who may learn?
#
# A projector that knows nothing sends noise into the language model. If both learned now, the language model would learn to live with noise, and forget how to write. So LLaVA has two stages:
#
# | | eye | projector | language model | data | learning rate |
# |---|---|---|---|---|---|
# | stage 1, alignment | frozen | **learns** | frozen | 595,000 captions, once | 2e-3 |
# | stage 2, instruction tuning | frozen | **learns** | **learns** | 158,000 instructions, three times | 2e-5 |
#
# (Liu et al. 2023, arXiv:2304.08485, section 4.2 and 5.)
#
# ### Your turn: `trained_names` · difficulty 2/5 · 6 min
#
# In: all parameter names of a model, such as `"projector.expand.weight"`, and the stage, 1 or 2. Out: the list of those that learn, in the same order. A parameter belongs to the part with which its name *begins*: `vision.`, `projector.` or `language.`.

# %% id="trained_names"
@exercise(stages.trained_names)
def trained_names(names, stage):
    """names of all parameters -> names of those that learn"""
    raise NotImplementedError

# %% id="freeze"
stages.set_stage(untrained, 1)                         # asks your function, and sets requires_grad
counts = {part: sum(p.numel() for p in getattr(untrained, part).parameters() if p.requires_grad)
          for part in sizes}
tabulate(counts, "stage 1", parameters_that_learn=",")
assert counts["projector"] > 0 and counts["vision"] == counts["language"] == 0

# %% [markdown] id="q-gradient" lang="en"
# ## 9 · Can a frozen model teach?
#
# The loss is computed from words, at the far end of the language model. The projector stands before it. **Predict:** with every weight of the language model frozen, does any gradient come through?

# %% id="gradient"
def one_batch(model):
    ids, given, mask = stages.encode_captions(told[:16], model.tokens_per_image)
    return stages.alignment_loss(model(ids, features=model.projector(seen[:16].float()), mask=mask),
                                 ids, given, mask)

one_batch(untrained).backward()
reached = untrained.projector.expand.weight.grad.norm().item()
print(f"gradient of the projector's first matrix {reached:.3f}; of the language model: none")
assert reached > 1e-4 and all(p.grad is None for p in untrained.language.parameters())

# %% [markdown] id="gradient-lesson" lang="en"
# Frozen means: the weight gets no gradient *of its own*. The gradient with respect to what flows *through* is computed all the way. Hatched parts below are frozen; the line is the gradient that passes. Hover for numbers. The eye did not even run, since we kept its answers.

# %% id="gradient-look"
from vlmcourse.diagnostics.gradients import gradient_report, llava_parts
from vlmcourse.widgets.gradients import GradientFlow

untrained.zero_grad()
GradientFlow(gradient_report(untrained, one_batch, llava_parts(untrained)))

# %% [markdown] id="no-grad-intro" lang="en"
# A tempting mistake: "the language model is frozen, so I run it under `torch.no_grad()` and save memory."

# %% id="no-grad"
ids, given, mask = stages.encode_captions(told[:16], 16)
tokens = untrained.projector(seen[:16].float())
with torch.no_grad():
    logits = untrained(ids, features=tokens, mask=mask)
print("can this loss teach anybody?", stages.alignment_loss(logits, ids, given, mask).requires_grad)
assert tokens.requires_grad and not logits.requires_grad

# %% [markdown] id="train-intro" lang="en"
# `no_grad` cuts the road; `requires_grad_(False)` only closes the shops along it. For the **eye** `no_grad` is right: nothing before it learns.
#
# ## 10 · Stage 1
#
# 3,000 captions, your projector, your loss, your freeze. `align` is a few lines around them. It steps with Muon at a rate of 0.01 for matrices, and AdamW at 0.002 for the rest (`MuonAdamW`; chapter 04 says why). LLaVA used AdamW at 0.002. **Predict** three numbers for new scenes: the loss, the share of true statements, and the same with exchanged pictures.

# %% id="train"
from vlmcourse.widgets.plot import LivePlot

effort = budget(cpu=dict(steps=150, size=32), gpu=dict(steps=150, size=32))
aligned = with_projector()
with LivePlot("Stage 1: only the projector learns") as plot:
    history = stages.align(aligned, seen, told, watch=plot, name="projector", **vars(effort))
print(history)

# %% id="train-result"
after = say(aligned, new_scenes)
exchanged = after[-1:] + after[:-1]                     # what it said of another picture
rows = {
    "no image": (blind, math.nan),
    "untrained projector": (start, luck),
    "aligned": (caption_loss(aligned), true_share(after, new_scenes)),
    "aligned, another picture": (caption_loss(aligned, new_seen.roll(1, 0)),
                                 true_share(exchanged, new_scenes)),
}
tabulate(rows, loss=".3f", statements_true=".0%")
assert rows["aligned"][0] < 0.8 * blind and rows["aligned"][1] > luck + 0.2
assert rows["aligned, another picture"][0] > blind
assert rows["aligned, another picture"][1] < rows["aligned"][1] - 0.2

# %% [markdown] id="look-intro" lang="en"
# ## 11 · What do image tokens say?
#
# An image token is a vector of 128 numbers, like a word. Which words stand nearest to it? Left: the untrained projector. Right: yours. Click a cell, or walk with the arrow keys. **Try this:** find the cells of an object, and one of the background.

# %% id="look"
from vlmcourse.diagnostics.lens import nearest_words
from vlmcourse.widgets.lens import TokenLens

names = tokenizer.tokens(used)

@torch.no_grad()
def image_tokens(model, seen=new_seen):
    return model.projector(seen.float())

near = [nearest_words(image_tokens(model)[0], words, names)
        for model in (with_projector(), aligned)]
TokenLens(picture, [n.words for n in near], [n.scores for n in near],
          moments=["untrained", "aligned"])

# %% [markdown] id="moved-intro" lang="en"
# Did the cloud of image tokens move toward the words? Four numbers over all new pictures, before and after: length, length of the mean, the cone, and the cosine to the nearest word.

# %% id="moved"
def clouds_of(model):
    tokens = image_tokens(model).flatten(0, 1)
    nearest = nearest_words(tokens, words, names, k=1).scores.mean().item()
    return tokens, nearest

tokens_before, near_before = clouds_of(with_projector())
tokens_after, near_after = clouds_of(aligned)
clouds = {"image tokens, untrained": tokens_before, "image tokens, aligned": tokens_after,
          "words of captions": words}
tabulate(gap.report(clouds), **gap.COLUMNS)
print(f"mean cosine to the nearest word: {near_before:.2f} before, {near_after:.2f} after")
times = tokens_after.norm(dim=1).mean() / words.norm(dim=1).mean()
print(f"as long as a word: {times:.0f} times after")
assert near_after > near_before + 0.03
assert tokens_after.norm(dim=1).mean() > 3 * words.norm(dim=1).mean()

# %% [markdown] id="shrink-intro" lang="en"
# They grew far longer than words. Does the length matter? The first thing every block does is your `rms_norm`, which divides it away. **Predict:** shrink all image tokens to the length of words. Does the loss change?

# %% id="shrink"
def shrunk(model, factor):
    """The same model, whose image tokens are shorter by this factor and point where they did."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.projector.contract.weight *= factor
        model.projector.contract.bias *= factor
    return model

factor = (words.norm(dim=1).mean() / tokens_after.norm(dim=1).mean()).item()
long, short = caption_loss(aligned), caption_loss(shrunk(aligned, factor))
print(f"loss {long:.3f} as they are, {short:.3f} at {factor:.2f} of their length; no image "
      f"{blind:.3f}")
assert short > long + 0.05

# %% [markdown] id="moved-lesson" lang="en"
# Half a yes. The cosine to the nearest word rises a little, from about 0.2 to 0.3. But image tokens do **not** become words: they grow more than three times as long, and the length counts. `rms_norm` divides it away only for what a block *reads*. The residual stream itself keeps it: a block adds its result to the stream, and beside a long vector that result is small. Our reading: a long image token reaches the later blocks nearly as it came, a short one does not.
#
# So read the lens with care. An image token is a message to the language model's attention, not a sentence. Some cells do name their object; many show a fragment that merely points the same way.

# %% [markdown] id="ex-spectrum" lang="en"
# ## 12 · What does a trained projector look like?
#
# A projector can fail in silence. Do its weights tell? A matrix turns and stretches: its **singular values** say how much it stretches along its own directions, largest first. How many directions count? The **effective rank** answers: make the values shares of their sum, take the entropy, and e to that power. Values (2, 2, 2, 0) give 3.
#
# ### Your turn: `spectrum` · difficulty 2/5 · 8 min
#
# In: a matrix `(out, width)`. Out: its singular values `(rank,)`, and the effective rank, one number. A value of 0 contributes 0.

# %% id="spectrum"
@exercise(projector.spectrum)
def spectrum(weight):
    """(out, width) -> (singular values, largest first; effective rank), two tensors

    `weight` may be a parameter; it must still learn afterwards.
    """
    # 1. torch.linalg.svdvals   2. shares of the sum   3. e to their entropy
    raise NotImplementedError

# %% id="spectrum-figure"
fig, ax = plt.subplots(figsize=(6.2, 2.5), layout="constrained")
ranks = {}
for name, model in {"untrained": with_projector(), "aligned": aligned}.items():
    values, ranks[name] = projector.spectrum(model.projector.expand.weight.detach())
    new = name == "untrained"
    ax.plot(values / values.sum(), label=f"{name}: effective rank {ranks[name]:.0f}",
            ls="--" if new else "-", color=roles.control if new else roles.learned)
ax.set(xlabel="direction", ylabel="share of the stretch"); ax.legend()
figure(fig, alt="Shares of the singular values of the first matrix, largest first, before and "
                "after training")
assert 1 < ranks["aligned"] <= 128.01 and 100 < ranks["untrained"] <= 128.01

# %% [markdown] id="spectrum-lesson" lang="en"
# They do not. When this was written it was 122 before and 117 after, and a projector that was never loaded (section 15) has 122 as well. What a spectrum does show is the **optimizer**: Muon makes all directions of a step equally long, so the matrix stays round. Trained with AdamW at 0.002, the same projector ended at 77 in our run. A spectrum finds a matrix that has collapsed; whether the right thing was learned, only data can tell.

# %% [markdown] id="strength-intro" lang="en"
# ## 13 · Too weak, too strong
#
# How wide must a projector be inside? With **one** number inside, all image tokens lie on one curve. Then one matrix, and your two layers. All learn from the same captions for the same number of steps.

# %% id="strength"
def trained(hidden=128, shuffle=2, count=3000, steps=100):
    model = with_projector(hidden, shuffle)
    inside = f"{hidden} inside" if hidden else "one matrix"
    name = f"{inside}, {model.tokens_per_image} tokens, {count:,} captions"
    log = stages.align(model, seen[:count], told[:count], steps=steps, size=16, name=name)
    return model, log

widths = {"1 inside": 1, "one matrix": None, "two layers, 128 inside": 128}
strength = {name: trained(hidden) for name, hidden in widths.items()}
losses = {name: caption_loss(model) for name, (model, _) in strength.items()}
tabulate(losses | {"no image": blind}, loss=".3f")
assert max(losses["one matrix"], losses["two layers, 128 inside"]) < losses["1 inside"] - 0.05
assert losses["one matrix"] < losses["two layers, 128 inside"] + 0.03

# %% [markdown] id="strong-intro" lang="en"
# And too strong? Take 100 captions only, and a projector with 1,024 numbers inside: half a million parameters, eight times yours. **Predict** its loss on the 100 captions, and on new ones.

# %% id="strong"
few = {name: trained(hidden, count=100)[0]
       for name, hidden in {"one matrix": None, "1,024 inside": 1024}.items()}
both = {name: (caption_loss(model, seen[:100], told[:100]), caption_loss(model))
        for name, model in few.items()}
tabulate(both, "loss", on_its_100_captions=".3f", on_new_ones=".3f")
gaps_of = {name: new - own for name, (own, new) in both.items()}
assert gaps_of["1,024 inside"] > gaps_of["one matrix"] > 0
assert both["1,024 inside"][0] < both["one matrix"][0]

# %% [markdown] id="strength-lesson" lang="en"
# **Too weak** is a matter of form: with one number inside, the tokens of all patches lie on one curve. Training can bend the curve, not widen it. **Too strong** learns its few captions better and new ones worse; the gap between the two is what it learned by heart.
#
# And linear or MLP? With these few steps one matrix is as good as two layers, or better. The eye already sorts shape, colour and place into directions of their own, so there is little to bend. LLaVA-1.5 gained from its second layer with CLIP's features and about 600,000 captions (Liu et al. 2023, arXiv:2310.03744, section 3.3). Report what you measure, not what the paper says.

# %% [markdown] id="cost-intro" lang="en"
# ## 14 · What does folding cost?
#
# 64, 16 or 4 tokens per picture, the same steps. Fewer tokens make every step cheaper, and give the model fewer places to look at.

# %% id="cost"
folded = {64: trained(shuffle=1), 16: strength["two layers, 128 inside"], 4: trained(shuffle=4)}
cost = {count: (caption_loss(model), log.seconds) for count, (model, log) in folded.items()}
tabulate(cost, "tokens", loss=".3f", seconds=".0f")
keep_weights(folded[64][0].projector, "projector")             # chapter 08 can go on from it
assert cost[64][0] < cost[4][0] - 0.02 < blind - 0.07 and cost[64][1] > 1.5 * cost[4][1]

# %% [markdown] id="cost-lesson" lang="en"
# Four tokens see least. 64 take two to three times as long, and end close to 16: the difference between these two is no larger than that between two seeds of one of them, so it decides nothing. Folding too far has a price, and not folding has one at every step. Try `trained(shuffle=1, steps=30)` and `trained(shuffle=4, steps=30)`: with so few steps, is there a difference yet? Published models fold by 4 or more because a picture of 1,000 tokens is dear. The small model of this course keeps all 64, so the first of the three was saved: chapter 08 can go on from *your* projector.

# %% [markdown] id="break-intro" lang="en"
# ## 15 · Break it on purpose: the projector that was never loaded
#
# A colleague saved your projector under other names: `linear_1` for `expand`. Loading complained, so they wrote `strict=False`. It runs. **Predict** what the model says.

# %% id="break"
foreign = {name.replace("projector.expand", "projector.linear_1"): tensor
           for name, tensor in aligned.state_dict().items()}
broken = with_projector(seed=1)
broken.load_state_dict(foreign, strict=False)          # no error, no word
said = say(broken, new_scenes)
symptom = caption_loss(broken), true_share(said, new_scenes)
print(said[0], said[1], f"loss {symptom[0]:.3f}, statements true {symptom[1]:.0%}", sep="\n")
assert symptom[0] > blind - 0.01 and symptom[1] < rows["aligned"][1] - 0.2

# %% [markdown] id="break-lesson" lang="en"
# Nearly fluent, sure of itself, and blind. No exception, no strange number in the log. This happens in public, to every part:
#
# - **Projector.** Someone's tuned projector was not loaded, and the answers disregarded the picture (LLaVA, issue 474).
# - **Language model.** Its keys matched nothing under `strict=False`; all of it stayed random, and the loss at 7.5 (minimind-v, issue 75).
# - **The tuned model.** Whatever was asked, the answer was the same short caption: the instruction-tuned weights had not been loaded (LLaVA, issue 1371).
#
# Load strictly, and the error names the key.

# %% id="break-strict"
from vlmcourse.training.checkpoints import CheckpointError, load_strict

try:
    load_strict(broken, foreign, "your colleague's file")
    complaint = ""
except CheckpointError as error:
    complaint = str(error)
print(complaint)
assert "missing: projector.expand.weight" in complaint
assert "unexpected: projector.linear_1.weight" in complaint

# %% [markdown] id="real-intro" lang="en"
# ## 16 · Is this the real thing?
#
# Two library modules with random weights: LLaVA's projector, and Idefics3's connector with its own pixel shuffle. Weights are copied into yours; outputs and gradients must agree.

# %% id="real"
import transformers
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

text = transformers.LlamaConfig(hidden_size=128, num_attention_heads=4)
eyes = dict(hidden_size=96, num_attention_heads=4)
theirs = {
    "LLaVA": LlavaMultiModalProjector(transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**eyes), text_config=text)),
    "Idefics3": Idefics3Connector(transformers.Idefics3Config(vision_config=eyes, text_config=text,
                                                              scale_factor=2)),
}
mine = {"LLaVA": projector.Projector(96, 128, hidden=128),
        "Idefics3": projector.Projector(96, 128, shuffle=2)}
for name, library in theirs.items():
    # in order: weight, bias, weight, bias
    ours = dict(zip(mine[name].state_dict(), library.state_dict().values()))
    zero = torch.zeros(128)  # Idefics3 has no bias
    mine[name].load_state_dict({"expand.bias": zero, **ours})

# %% id="real-equal"
def gaps(mine, theirs):
    """Largest differences of outputs and of the inputs' gradients."""
    features = [new_seen[:4].float().requires_grad_() for _ in range(2)]
    outputs = [module(each) for module, each in zip((mine, theirs), features)]
    slopes = [torch.autograd.grad(out.square().mean(), each)[0]
              for out, each in zip(outputs, features)]
    return [(a - b).abs().max().item() for a, b in (outputs, slopes)]

differences = {name: gaps(mine[name], theirs[name]) for name in theirs}
tabulate(differences, "largest difference", outputs=".0e", gradients=".0e")
assert max(map(max, differences.values())) < 1e-5

# %% [markdown] id="real-differs" lang="en"
# Yours are the same functions. Published models differ in size: LLaVA-1.5-7B goes from 1,024 to 4,096 numbers for each of 576 patches, and its projector has 21 million parameters, 0.3 % of the model. It also reads the eye's last layer but one.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A projector turns what an eye says of a patch into vectors that a language model can read.
# 2. Equal statistics are not alignment: only pairs of pictures and captions say what means what.
# 3. Stage 1 trains the projector alone. Gradients pass through frozen weights, but not through `no_grad`.
# 4. The loss counts caption tokens only, each from the place before it.
# 5. Too weak hides the picture, too strong learns few captions by heart; one that was never loaded talks on, blind.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("07_projection_and_alignment/1")

# %% id="quiz-2"
quiz("07_projection_and_alignment/2")

# %% id="quiz-3"
quiz("07_projection_and_alignment/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 4.2, the two stages; section 5, their sizes.
# - Liu et al. 2023, *Improved Baselines with Visual Instruction Tuning* (LLaVA-1.5), [arXiv:2310.03744](https://arxiv.org/abs/2310.03744): section 3.3, the MLP.
# - Laurençon et al. 2024, *Building and better understanding vision-language models* (Idefics3), [arXiv:2408.12637](https://arxiv.org/abs/2408.12637): section 5.2.1.
# - Shi et al. 2016, *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN*, [arXiv:1609.05158](https://arxiv.org/abs/1609.05158): the pixel shuffle, the other way round.
# - Zhu et al. 2023, *MiniGPT-4*, [arXiv:2304.10592](https://arxiv.org/abs/2304.10592).
# - Liang et al. 2022, *Mind the Gap*, [arXiv:2203.02053](https://arxiv.org/abs/2203.02053).
# - Roy and Vetterli 2007, *The effective rank: a measure of effective dimensionality*, EUSIPCO.
# - Belrose et al. 2023, *Eliciting Latent Predictions from Transformers with the Tuned Lens*, [arXiv:2303.08112](https://arxiv.org/abs/2303.08112): the logit lens, and a better one.
#
# **Next:** [08 · Instruction tuning: a model that answers](08_instruction_tuning.ipynb)
