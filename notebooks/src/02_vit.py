# %% [markdown] id="title" lang="en"
# # 02 · Build a Vision Transformer
#
# **125 minutes.** Everything runs on two CPU cores; a GPU makes the training cells faster.
#
# You know how a language model reads a sentence: tokens in, one vector per token out. In this chapter you teach the same machine to read a picture. You write every function of it, train it on real handwriting and on our laboratory world, and then look at what it looks at.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# A vision-language model has three parts. This chapter builds the first one: the part that turns an image into vectors. Its drawing stands below the map; what you write is lit there, the way in, the sums of a block, and the middle of attention. Nearly every VLM you have heard of uses the network you are about to write: BLIP, LLaVA and most versions of CLIP all start from a Vision Transformer, ViT for short (Dosovitskiy et al. 2020).
#
# ## After this you can
#
# - **cut** an image into patches and turn them into tokens,
# - **write** attention, heads, the transformer block and position interpolation,
# - **train** a ViT from nothing and say what each part contributes, with numbers,
# - **read** attention maps and attention rollout, and know what they do not show,
# - **tell** what the class token knows and what only the patches know.

# %% id="setup"
import math, torch
from torch.nn import functional as F
from vlmcourse.workbook import *
from vlmcourse.models import attention, vit
from vlmcourse.diagnostics import attention as maps
begin("02_vit", lang="en")

# %% id="map"
course_map("vision")

# %% id="drawing"
drawing("vit")

# %% [markdown] id="q-patches" lang="en"
# ## 1 · What is a word of a picture?
#
# **Question.** A transformer reads a list of vectors. A picture is a grid of numbers. What should one "token" be?
#
# One token per pixel would be exact, but attention compares every token with every other. A small photo has 224 × 224 = 50,176 pixels, so one attention map would hold 2.5 billion numbers. One token per image would lose everything. The ViT paper took the middle: squares of 16 × 16 pixels, called *patches*. That makes 14 × 14 = 196 tokens, about the length of a long paragraph.
#
# Language tokens are discrete: an id picks a row of an embedding table. Patches are **continuous**: no two are ever quite the same, so there is no table. A patch's pixels are the vector, and one matrix maps them to the model's width.

# %% id="patch-numbers"
rows = {f"{side} px, patches of {size}": ((side // size) ** 2, 3 * size**2)
        for side, size in ((224, 16), (224, 32), (64, 8))}
tabulate(rows, "picture", tokens=",", numbers_in_each=",")
assert (224 // 16) ** 2 == 196

# %% [markdown] id="patch-by-hand" lang="en"
# Take a picture small enough to do by hand: one channel, 4 × 4 pixels, patches of 2 × 2. Cut it out square by square with a loop, the slow and obvious way.

# %% id="patch-loop"
tiny = torch.arange(16.0).reshape(1, 1, 4, 4)
squares = [tiny[0, 0, r : r + 2, c : c + 2].flatten() for r in (0, 2) for c in (0, 2)]
print(tiny[0, 0].int(), torch.stack(squares).int(), sep="\n\n")
assert squares[1].tolist() == [2, 3, 6, 7]

# %% [markdown] id="ex-patchify" lang="en"
# ### Your turn: `patchify` · difficulty 2/5 · 10 min
#
# Do it without a loop, for a whole batch, with colour. Nothing is computed: you only move axes.
#
# | | shape |
# |---|---|
# | in | `(batch, channel, height, width)`, and the side `size` of a patch |
# | out | `(batch, patch, pixel)` |
#
# Patches go row by row, left to right. Inside a patch the order is (row, column, channel).
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="patchify"
@exercise(vit.patchify)
def patchify(images, size):
    """(batch, channel, height, width) -> (batch, patch, size*size*channel)"""
    # 1. split height into (rows, size) and width into (columns, size)
    # 2. bring the two grid axes together, and put the channel last   3. merge
    raise NotImplementedError

# %% [markdown] id="stuck" lang="en"
# Stuck? `hint(patchify)` goes from vague to concrete, and `solution(patchify)` shows ours. An empty exercise never stops you: the course's reference stands in, and the notebook goes on.

# %% id="patch-picture"
import matplotlib.pyplot as plt
from vlmcourse.data import photos

cat = photos.photo("chelsea", 224)
pixels = torch.from_numpy(cat).permute(2, 0, 1)[None] / 255
tokens = patchify(pixels, 16)[0]
fig = plt.figure(figsize=(6.8, 3), layout="constrained")
left, right = fig.subfigures(1, 2)
left.subplots().imshow(cat); left.axes[0].axis("off"); left.axes[0].set_title("224 × 224 pixels")
for ax, token in zip(right.subplots(14, 14).flat, tokens):
    ax.imshow(token.reshape(16, 16, 3)); ax.axis("off")
right.suptitle("196 tokens, in reading order", fontsize=10)
figure(fig, alt="A cat's face, and the same photo cut into 14 by 14 patches with gaps between them")
assert tokens.shape == (196, 768)

# %% [markdown] id="conv" lang="en"
# Implementations rarely cut patches. They use a convolution whose stride equals its size, then flatten. Is that another operation?

# %% id="conv-equal"
weight = torch.randn(128, 3, 16, 16)                                   # 128 filters of 16×16
by_convolution = F.conv2d(pixels, weight, stride=16).flatten(2).transpose(1, 2)
by_matrix = patchify(pixels, 16) @ weight.permute(0, 2, 3, 1).flatten(1).T
difference = (by_convolution - by_matrix).abs().max().item()
print(f"largest difference {difference:.1e}")
assert difference < 1e-2 * by_matrix.abs().mean()

# %% [markdown] id="proved-patches" lang="en"
# **What you just proved.** "Patch embedding" is one matrix product on your patches. The paper's 16 × 16 × 3 = 768 pixels per patch meet a model of width 768. That is a coincidence, not a law.

# %% [markdown] id="q-positions" lang="en"
# ## 2 · Who says where a patch was?
#
# **Question.** Attention treats its input as a set. If we shuffle the patches of the cat, can the model notice?
#
# You will measure it in section 4. To be safe, each token gets a learned vector for its place, added on top. The ViT also puts one extra token in front, with no pixels behind it: the **class token**. It starts as a learned vector, attends to all patches, and its output serves as one summary of the whole image.
#
# So a ViT gives two kinds of output: the class token, **1 × D**, and the patches, **N × D**. Keep an eye on the difference. CLIP uses the first for retrieval; LLaVA feeds the second to its language model.
#
# ### Your turn: `add_class_and_positions` · difficulty 1/5 · 5 min
#
# | | shape |
# |---|---|
# | `patches` | `(batch, patch, width)` |
# | `class_token` | `(width,)`, the same for every image |
# | `positions` | `(1 + patch, width)`; row 0 belongs to the class token |
# | out | `(batch, 1 + patch, width)` |

# %% id="add_class_and_positions"
@exercise(vit.add_class_and_positions)
def add_class_and_positions(patches, class_token, positions):
    """Class token in front, then one position per token."""
    # 1. give the class token a batch axis   2. join along the token axis   3. add
    raise NotImplementedError

# %% [markdown] id="q-attention" lang="en"
# ## 3 · How do patches talk to each other?
#
# This is the attention you know from language models, with one thing removed: there is **no causal mask**. A patch may look at patches after it, because pictures have no "after".
#
# Every token asks a *query*, offers a *key* and holds a *value*. Try three tokens of width 2. The query of token 0 is (1, 0), so it should care for keys that point to the right.

# %% id="attention-by-hand"
keys = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])             # right, up, left
query = torch.tensor([1.0, 0.0])
scores = keys @ query / math.sqrt(2)
weights = scores.softmax(0)
rows = zip(("right", "up", "left"), zip(scores.tolist(), weights.tolist()))
tabulate(dict(rows), "key", score="+.2f", weight=".2f")
assert weights.argmax() == 0 and abs(weights.sum() - 1) < 1e-6

# %% [markdown] id="why-scale" lang="en"
# Why divide by √width? If query and key hold d independent numbers of variance 1, their product sums d terms and has variance d. Wide heads then give huge scores, the softmax picks one key and ignores the rest, and its gradient dies. **Predict:** with d = 64 and 65 tokens, how much weight does the largest key get with and without the scale?

# %% id="why-scale-figure"
torch.manual_seed(0)
widths, largest = [1, 4, 16, 64, 256], {"divided by √d": [], "not divided": []}
for d in widths:
    products = (torch.randn(2000, 65, d) * torch.randn(2000, 1, d)).sum(-1)
    largest["divided by √d"].append((products / math.sqrt(d)).softmax(-1).amax(-1).mean().item())
    largest["not divided"].append(products.softmax(-1).amax(-1).mean().item())
fig, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
for (name, values), marker, colour in zip(largest.items(), "os", (roles.learned, roles.accent)):
    ax.plot(widths, values, marker=marker, color=colour, label=name)
ax.set(xscale="log", xlabel="width d of a head", ylabel="weight of the largest key", xticks=widths,
       xticklabels=widths)
ax.legend()
figure(fig, alt="Weight of the largest of 65 keys: about 0.1 when divided, rising to 0.9 when not")
assert largest["not divided"][3] > 0.7 and largest["divided by √d"][3] < 0.2

# %% [markdown] id="ex-attention" lang="en"
# ### Your turn: `scaled_dot_product` · difficulty 3/5 · 15 min
#
# Several attentions run side by side, the *heads*; you will cut them apart in the next exercise. `part` is the width of one head, the d from above.
#
# | | shape |
# |---|---|
# | `query` | `(batch, head, query, part)` |
# | `key`, `value` | `(batch, head, key, part)` |
# | `mask` | True where a query **may** look, broadcastable to `(batch, head, query, key)`, or None |
# | `bias` | numbers to add to the scaled scores, broadcastable likewise, or None; chapter 05 needs it for T5 |
# | out | the mixed values `(batch, head, query, part)` **and** the weights `(batch, head, query, key)` |

# %% id="scaled_dot_product"
@exercise(attention.scaled_dot_product)
def scaled_dot_product(query, key, value, mask=None, bias=None):
    """-> (output, weights); every row of weights sums to 1

    Mask and bias may come together; scores may be in the hundreds.
    """
    # 1. scores, divided by √part, plus the bias   2. hide what the mask forbids
    # 3. softmax over keys   4. mix
    raise NotImplementedError

# %% [markdown] id="ex-heads" lang="en"
# ### Your turn: `split_heads` and `merge_heads` · difficulty 2/5 · 10 min
#
# One attention map can only say one thing per token. So the width is cut into parts, and every *head* attends with its own part: with width 128 and 4 heads, each head sees `part` = 32 numbers per token.
#
# `split_heads`: `(batch, token, width)` → `(batch, head, token, part)`, consecutive parts. `merge_heads` goes back.

# %% id="split_heads"
@exercise(attention.split_heads)
def split_heads(tokens, heads):
    """(batch, token, width) -> (batch, head, token, width // heads)"""
    raise NotImplementedError

# %% id="merge_heads"
@exercise(attention.merge_heads)
def merge_heads(parts):
    """(batch, head, token, part) -> (batch, token, head * part)"""
    raise NotImplementedError

# %% [markdown] id="q-block" lang="en"
# ## 4 · What is a block?
#
# Attention moves information **between** tokens. A small two-layer network, the MLP, then works on each token **alone**. Around both runs the *residual stream*: each step reads a normalised copy and **adds** what it found. The stream itself is never overwritten, so the gradient has a straight way down.
#
# ### Your turn: `pre_norm_block` · difficulty 2/5 · 5 min
#
# You get four callables; each maps `(batch, token, width)` to the same shape.

# %% id="pre_norm_block"
@exercise(attention.pre_norm_block)
def pre_norm_block(tokens, norm_before_attention, attend, norm_before_mlp, mlp):
    """Attention, then MLP; each reads a normalised copy and adds to the stream."""
    raise NotImplementedError

# %% [markdown] id="assemble" lang="en"
# That is all of it, except the MLP, which is two matrices with a GELU between them. The package's `ViT` holds the parameters and calls **your** functions:
#
# `patchify` → one matrix → `add_class_and_positions` → blocks (`split_heads`, `scaled_dot_product`, `merge_heads` inside `pre_norm_block`) → a last norm. Go back to the drawing at the top: every lit box is now yours.

# %% id="count"
from vlmcourse.models.vit import ViT, ViTConfig, Classifier

def parameters(model):
    return sum(p.numel() for p in model.parameters())

with torch.device("meta"):                                             # shapes without memory
    base = ViT(ViTConfig(image_size=224, patch_size=16, width=768, depth=12, heads=12))
print(f"the paper's ViT-B/16: {parameters(base) / 1e6:.1f} million parameters")
assert round(parameters(base) / 1e6) == 86  # Table 1 of the paper says 86M

# %% [markdown] id="set" lang="en"
# Now the promised measurement. Shuffle the patches, with and without positions. **Predict** which of the two numbers below is zero.

# %% id="set-test"
torch.manual_seed(0)
model = ViT(ViTConfig(image_size=8, patch_size=2, channels=1, width=64, depth=3, heads=4)).eval()
images = torch.randn(5, 1, 8, 8)

@torch.no_grad()
def class_token_change():
    """How far the class token moves when the image's 2×2 patches are dealt out anew."""
    squares = images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(5, 16, 2, 2)[:, torch.randperm(16)]
    shuffled = squares.reshape(5, 4, 4, 2, 2).permute(0, 1, 3, 2, 4).reshape(5, 1, 8, 8)
    return (model(images)[:, 0] - model(shuffled)[:, 0]).abs().max().item()

with_positions = class_token_change()
model.positions.data.zero_()
without = class_token_change()
print(f"class token moves by {with_positions:.3f} with positions, by {without:.6f} without")
assert with_positions > 0.001 and without < 1e-5

# %% [markdown] id="digits-intro" lang="en"
# ## 5 · Does it learn? Real handwriting
#
# Real data, no network: 1,797 handwritten digits of 8 × 8 pixels, written by 13 people. The last fifth of each digit is kept for testing. With patches of 2 × 2, a digit is 16 tokens and a class token. A linear layer on the class token names the digit.
#
# **Predict before you run:** 1,442 pictures, 150,000 parameters, no tricks. What share of the unseen digits will it name? And what share if nobody tells it where the patches are?

# %% id="digits-data"
from vlmcourse.data.digits import digits
from vlmcourse.data.batches import Batches

(train_images, train_labels), (test_images, test_labels) = digits("train"), digits("test")
train_images, test_images = 2 * train_images - 1, 2 * test_images - 1
fig, axes = plt.subplots(1, 8, figsize=(6.6, 1.1), layout="constrained")
for ax, picture, label in zip(axes, test_images, test_labels):
    ax.imshow(picture[0], cmap="gray_r"); ax.set_title(str(label.item()))
    ax.axis("off")
figure(fig, alt="Eight handwritten digits of 8 by 8 pixels with their labels")
print(len(train_images), "to learn from,", len(test_images), "to be tested on")
assert len(train_images) + len(test_images) == 1797

# %% id="digits-train"
from vlmcourse.training.loop import train
from vlmcourse.widgets.plot import LivePlot

sizes = budget(cpu=dict(steps=450), gpu=dict(steps=450))

def digit_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])

def small_vit():
    torch.manual_seed(0)
    return Classifier(ViTConfig(image_size=8, patch_size=2, channels=1, width=64, depth=3, heads=4),
                      classes=10)

reader = small_vit()
with LivePlot("Your ViT reads digits") as plot:
    history = train(reader, Batches((train_images, train_labels), 32), digit_loss,
                    steps=sizes.steps, lr=3e-3, watch=plot, name="ViT on digits")

# %% id="digits-accuracy"
@torch.no_grad()
def accuracy(model):
    model = model.cpu().eval()
    return (model(test_images).argmax(-1) == test_labels).float().mean().item()

reader_accuracy = accuracy(reader)
print(f"unseen digits named correctly: {reader_accuracy:.1%}, after {history.seconds:.0f} s")
assert reader_accuracy > 0.90

# %% [markdown] id="break-positions" lang="en"
# ### Break it on purpose
#
# Two classic mistakes, planted one at a time. **First**, forget the positions: set them to zero and keep them there. **Second**, forget the 1/√d: install an attention without it. That is one line, because your functions are what the model runs.

# %% id="break-train"
blind_to_place = small_vit()
blind_to_place.vit.positions.requires_grad_(False).zero_()
train(blind_to_place, Batches((train_images, train_labels), 32), digit_loss, steps=sizes.steps,
      lr=3e-3, name="no positions, run 1 of 2")

right = scaled_dot_product.active                                      # yours, or the reference
scaled_dot_product.install(lambda q, k, v, *rest: right(q * math.sqrt(q.shape[-1]), k, v, *rest))
unscaled = small_vit()
train(unscaled, Batches((train_images, train_labels), 32), digit_loss, steps=sizes.steps, lr=3e-3,
      name="no 1/√d, run 2 of 2")
unscaled_accuracy = accuracy(unscaled)
scaled_dot_product.install(right)

# %% id="break-figure"
results = {"as it should be": reader_accuracy, "no positions": accuracy(blind_to_place),
           "no 1/√d": unscaled_accuracy}
fig, ax = plt.subplots(figsize=(5, 1.7), layout="constrained")
bars = ax.barh(list(results), list(results.values()),
               color=[roles.learned, roles.accent, roles.accent])
ax.bar_label(bars, [f"{value:.1%}" for value in results.values()], padding=3)
ax.set(xlim=(0, 1.1), xlabel="unseen digits named correctly"); ax.invert_yaxis()
figure(fig, alt="Accuracy with everything, without positions and without the scale; positions "
                "matter most")
assert results["no positions"] < reader_accuracy - 0.1

# %% [markdown] id="scenes-intro" lang="en"
# Without places, a digit is a bag of 16 little tiles: still enough for about two thirds of the digits, which is a warning. **A model can look respectable while missing something essential.** You will meet that again when a VLM answers without looking.
#
# Forgetting 1/√d does little harm here, since the heads are only 16 wide. It is the kind of mistake that a small experiment forgives and a large one does not. That is why the checker tested it for you.
#
# ## 6 · What is where? The laboratory
#
# Digits have one answer per image. A VLM must know *what* is *where*, and how things stand to each other. For such questions the course has **Scenes**: small pictures whose truth is known exactly.
#
# Each picture below holds two objects, one of them a circle. Your ViT gets two jobs at once:
#
# - every **patch** says which shape and which colour covers it (or none), from its own vector;
# - the **class token** says where the circle is, seen from the other object: left, right, above or below.

# %% id="scenes-data"
import numpy as np
from vlmcourse.world import render, scenes

def circle_scenes(split, count):
    """Pictures, shape and colour per patch (5 and 7: none), and the circle's relation."""
    two = scenes.sample(split, 4 * count, objects=(2, 2))
    circle = two.shape[:, :2] == 0
    two = two[circle.sum(1) == 1][:count]
    first = two.shape[:, 0] == 0
    where = np.where(first, scenes.relation(two, 0, 1), scenes.relation(two, 1, 0))
    cover = two.cover(grid=8).reshape(count, -1)
    what = [np.where(cover < 0, none, np.take_along_axis(kind, cover.clip(0), 1))
            for kind, none in ((two.shape, 5), (two.colour, 7))]
    return render.to_tensor(render.render(two)), *map(torch.as_tensor, (*what, where))

train_scenes, test_scenes = circle_scenes("train", 8000), circle_scenes("test", 1000)

# %% id="scenes-look"
from vlmcourse.data.pixels import to_bytes

pictures, answers = to_bytes(test_scenes[0]).numpy(), test_scenes[3]
fig, axes = plt.subplots(1, 6, figsize=(6.8, 1.8), layout="constrained")
for ax, picture, answer in zip(axes, pictures, answers):
    ax.imshow(picture); ax.axis("off")
    ax.set_title(f"circle is\n{scenes.RELATIONS[answer]}\nthe other", fontsize=9)
figure(fig, alt="Six scenes with a circle and another object, each with its relation as title")
chance = answers.bincount().max().item() / len(answers)
print(f"always giving the most frequent answer: {chance:.1%}")
assert chance < 0.3

# %% [markdown] id="position-size" lang="en"
# One detail helps. Positions usually start as small random numbers, around 0.02. Then the model must first *discover* that places matter, and that takes longer than our minute. Positions of unit size are visible from the first step, so we set them so. Delete the `normal_` line below and train again, if you want to see the difference.
#
# While it trains, we keep the attention maps of a few pictures at five moments, to play them back later.

# %% id="observer"
class Observer(torch.nn.Module):
    """A ViT; a head on its patches (6 shapes, 8 colours, none included), one on its class token."""

    def __init__(self):
        super().__init__()
        self.vit = ViT(ViTConfig(image_size=64, patch_size=8, width=64, depth=4, heads=4))
        torch.nn.init.normal_(self.vit.positions)
        self.what, self.where = torch.nn.Linear(64, 6 + 8), torch.nn.Linear(64, 4)

    def forward(self, images):
        tokens = self.vit(images)
        return self.what(tokens[:, 1:]), self.where(tokens[:, 0])

def scene_loss(model, batch):
    images, shape, colour, relation = batch
    what, where = model(images)
    losses = [F.cross_entropy(what[..., :6].flatten(0, 1), shape.flatten()),
              F.cross_entropy(what[..., 6:].flatten(0, 1), colour.flatten()),
              F.cross_entropy(where, relation)]
    return sum(losses), {"where": losses[2]}

# %% id="observer-train"
sizes = budget(cpu=dict(steps=900, batch=32), gpu=dict(steps=900, batch=32))
torch.manual_seed(0)
observer, moments, film = Observer(), [1, 100, 300, 600, 900], []

def keep_attention(step, **_):
    if step in moments:
        images = test_scenes[0][:6].to(observer.what.weight.device)
        film.append(maps.attention_maps(observer.vit, images))

with LivePlot("Your ViT learns what is where", series=("loss", "where")) as plot:
    batches = Batches(train_scenes, sizes.batch)
    history = train(observer, batches, scene_loss, steps=sizes.steps, lr=2e-3,
                    watch=[plot, keep_attention], name="ViT on scenes")

# %% id="observer-results"
with torch.no_grad():
    observer = observer.cpu().eval()
    what, where = observer(test_scenes[0])
covered = test_scenes[1] < 5
colour_right = (what[..., 6:].argmax(-1) == test_scenes[2])[covered].float().mean().item()
relation_right = (where.argmax(-1) == test_scenes[3]).float().mean().item()
print(f"colour of covered patches {colour_right:.1%}, relation {relation_right:.1%} (chance "
      f"{chance:.1%}), "
      f"{history.seconds:.0f} s")
assert colour_right > 0.8 and relation_right > 0.75

# %% [markdown] id="probe-intro" lang="en"
# ### Which layer knows what?
#
# A *linear probe* asks what a vector makes easy to read: fit one linear map from the vectors of a layer to the answer, and test it on new pictures. Nothing in the ViT changes. We fit by least squares with a small penalty (ridge regression). **Predict:** which is readable first, the colour of a patch or the relation of two objects?

# %% id="probe"
def probe(vectors, answers, new_vectors, new_answers):
    """Accuracy of a ridge regression from vectors to one-hot answers, on new vectors."""
    def ready(x):
        return F.pad(F.layer_norm(x, x.shape[-1:]), (0, 1), value=1.0)
    x, targets = ready(vectors), F.one_hot(answers).float()
    fit = torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1]), x.T @ targets)
    return ((ready(new_vectors) @ fit).argmax(-1) == new_answers).float().mean().item()

with torch.no_grad():
    before, after = observer.vit.layers(train_scenes[0][:2000]), observer.vit.layers(test_scenes[0])
seen, new = train_scenes[1][:2000] < 5, test_scenes[1] < 5
colour_chance = (test_scenes[2][new].bincount().max() / new.sum()).item()
colour, relation = [], []
for old, fresh in zip(before, after):
    colour.append(probe(old[:, 1:][seen], train_scenes[2][:2000][seen], fresh[:, 1:][new],
                        test_scenes[2][new]))
    relation.append(probe(old[:, 0], train_scenes[3][:2000], fresh[:, 0], test_scenes[3]))

# %% id="probe-figure"
fig, ax = plt.subplots(figsize=(6.6, 2.4), layout="constrained")
ax.plot(colour, color=roles.first, marker="o", label="colour, from its patch")
ax.plot(relation, color=roles.second, marker="s", ls="--", label="relation, from the class token")
ax.axhline(chance, color=roles.control, linestyle=":", label="chance, relation")
ax.set(xlabel="layer (0 = embedding)", ylabel="probe accuracy", xticks=range(5), ylim=(0, 1.05))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure(fig, alt="Colour can be read from the embedding on; the relation rises from chance to high "
                "over the layers")
tabulate(dict(enumerate(zip(colour, relation))) | {"always the usual": (colour_chance, chance)},
         "layer", colour=".0%", relation=".0%")
assert colour[0] > 0.6 and relation[0] < 0.35 and relation[2] < relation[4] - 0.05
assert relation[4] > 0.7

# %% [markdown] id="probe-proved" lang="en"
# **What you just proved.** Abstraction grows with depth. Colour lies in the pixels of one patch, so it is readable from the embedding, before any attention. The relation needs two places at once. It starts at chance, because at layer 0 the class token is the same for every image, and appears only after several rounds of looking.
#
# This is why VLM builders argue about *which layer* to hand over. LLaVA takes the second-to-last one.

# %% [markdown] id="cls-intro" lang="en"
# ### Can the class token stand for the whole image?
#
# Ask both kinds of output the same question: which of the 64 patches are covered by an object? The class token must answer for all 64 at once; each patch answers for itself. We compare the predicted map with the truth by *intersection over union*: 1 is perfect.

# %% id="cls-where"
def linear_map(vectors, targets, new_vectors):
    x, y = F.pad(vectors, (0, 1), value=1.0), F.pad(new_vectors, (0, 1), value=1.0)
    return y @ torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1]), x.T @ targets) > 0.5

old, fresh, truth = before[-1], after[-1], test_scenes[1] < 5
from_class = linear_map(old[:, 0], seen.float(), fresh[:, 0])
from_patches = linear_map(old[:, 1:].flatten(0, 1), seen.float().reshape(-1, 1),
                          fresh[:, 1:].flatten(0, 1)).reshape(-1, 64)
overlap = {name: ((m & truth).sum() / (m | truth).sum()).item()
           for name, m in (("class token", from_class), ("patches", from_patches))}
tabulate(overlap, "read from", intersection_over_union=".2f")
assert overlap["patches"] > overlap["class token"] + 0.2

# %% id="cls-figure"
fig, axes = plt.subplots(3, 4, figsize=(5.6, 3.5), layout="constrained")
rows = [("picture", pictures), ("read from the\nclass token", from_class.reshape(-1, 8, 8)),
        ("read from\nthe patches", from_patches.reshape(-1, 8, 8))]
for line, (title, shown) in zip(axes, rows):
    for ax, picture in zip(line, shown[:4]):
        ax.imshow(picture); ax.set_xticks([]); ax.set_yticks([])
    line[0].set_ylabel(title, rotation=0, ha="right", va="center")
figure(fig, alt="Four scenes; the map read from the class token is blurred and partial, the "
                "patches' map fits the objects")

# %% [markdown] id="cls-proved" lang="en"
# **What you just proved.** The class token kept what its job needed, the relation, and dropped most of the rest. In fairness, we had trained the patches to say "none" where nothing is, and never asked the class token. That is the point: a summary keeps what it was trained for. For retrieval that is fine. A model that must answer *any* question needs the patches. Keep this picture for chapter 07, where the patches become the words a language model reads.

# %% [markdown] id="rollout-intro" lang="en"
# ## 7 · Look inside
#
# A single attention map shows one layer. But after layer 1, a "patch" already holds a mixture of others. **Attention rollout** follows the mixture through all layers: average the heads, let half of each token pass straight on (the residual stream), and multiply the layers.
#
# ### Your turn: `rollout` · difficulty 3/5 · 10 min
#
# In: `(layer, head, query, key)` for one image. Out: `(query, key)`, rows that sum to 1. Per layer: ½ · (mean over heads) + ½ · identity. The first layer acts first, so it stands rightmost in the product.

# %% id="rollout"
@exercise(maps.rollout)
def rollout(weights):
    """(layer, head, query, key) -> (query, key)"""
    # 1. one matrix per layer; make the identity with the dtype and device of `weights`
    # 2. multiply them, each new layer from the left
    raise NotImplementedError

# %% [markdown] id="explore-intro" lang="en"
# Now look. Click a patch, or move with the arrow keys: the map shows where that patch looks. Choose layer and head, open the overview of all heads, and play the training back.
#
# **Try this:** start at the class token in the last layer. Then click a patch on the circle and one on bare ground. Then play from step 1. When does it find the objects?

# %% id="explore"
from vlmcourse.widgets.attention import AttentionExplorer

film_attention = torch.stack(film)  # (step, image, layer, head, query, key)
film_rollout = torch.stack([torch.stack([rollout(image) for image in moment])
                            for moment in film_attention])
AttentionExplorer(pictures[:6], film_attention, grid=(8, 8), rollout=film_rollout, steps=moments,
                  labels=[f"circle {scenes.RELATIONS[a]} the other" for a in answers[:6]])

# %% [markdown] id="explore-measure" lang="en"
# A pretty map proves nothing until it is counted. What share of the class token's attention falls on patches that an object covers? Compare with the share of the picture that objects cover, which is what an even gaze would give.

# %% id="explore-share"
everything = maps.attention_maps(observer.vit, test_scenes[0][:200])
gaze = everything[:, :, :, 0, 1:].mean(2)  # (image, layer, patch), class token's view
gaze = gaze / gaze.sum(-1, keepdim=True)
share = (gaze * truth[:200, None]).sum(-1).mean(0)
even = truth[:200].float().mean().item()
tabulate({"an even gaze": even} | {f"layer {k}": s for k, s in enumerate(share.tolist(), 1)},
         "class token", on_objects=".0%")
assert share.max() > 1.5 * even

# %% [markdown] id="caution" lang="en"
# The class token looks at the objects far more than an even gaze would. Still, **attention is not an explanation**: it says where information *may* flow, not what was used. Jain and Wallace (2019) showed that quite different maps can give the same prediction. In chapter 14 you test a map the hard way, by covering what it points at.

# %% [markdown] id="ex-interpolate" lang="en"
# ## 8 · What if the picture is larger?
#
# A 96-pixel picture has 12 × 12 patches, but the model learned 8 × 8 positions. The paper's answer: the positions form a small picture; resize it.
#
# ### Your turn: `interpolate_positions` · difficulty 3/5 · 10 min
#
# `positions` is `(1 + rows · columns, width)`, a grid is `(rows, columns)`. The class token's row stays. Resize the rest bicubically, corners not aligned; `antialias` is for `F.interpolate`.

# %% id="interpolate_positions"
@exercise(vit.interpolate_positions)
def interpolate_positions(positions, old_grid, new_grid, antialias=False):
    """(1 + old patches, width) -> (1 + new patches, width)"""
    # 1. take the class row off   2. lay the rest out as a picture with `width` channels
    # 3. F.interpolate   4. back
    raise NotImplementedError

# %% [markdown] id="interpolate-predict" lang="en"
# The observer only ever saw 64 pixels. Show it the same scenes enlarged to 96, once with interpolated positions, and once with the learned list repeated until it is long enough. **Predict** both accuracies; chance is 25 %.

# %% id="interpolate-test"
@torch.no_grad()
def relation_accuracy(side):
    images = F.interpolate(test_scenes[0], size=(side, side), mode="bilinear", antialias=True)
    return (observer(images)[1].argmax(-1) == test_scenes[3]).float().mean().item()

def repeated(positions, old_grid, new_grid):
    again = torch.arange(new_grid[0] * new_grid[1]) % (len(positions) - 1)
    return torch.cat([positions[:1], positions[1:][again]])

at_96, mine = relation_accuracy(96), interpolate_positions.active
interpolate_positions.install(repeated)
at_96_repeated = relation_accuracy(96)
interpolate_positions.install(mine)
print(f"64 px {relation_right:.1%}; 96 px interpolated {at_96:.1%}, repeated {at_96_repeated:.1%}")
assert at_96 > relation_right - 0.1 and at_96_repeated < 0.4

# %% [markdown] id="photo-intro" lang="en"
# The same trick lets a published ViT look at a photograph. DINOv2 learned from 142 million of them, at 518 pixels (Oquab et al. 2023); a pip package carries its weights, trained further to find what is *salient*, what stands out. They fit into *your* `ViT`, and your `interpolate_positions` brings it to 224 pixels: 16 × 16 patches. Where the package is missing, the cell says what to run.
#
# We show the cat twice: as it is, and cut, enlarged and **mirrored**. For each patch of the second picture, which patch of the first is most alike? We know the true answer. **Predict** the share within a patch and a half of the truth: by raw pixels, and by each layer. Colours in the figure are the three directions in which patches differ most (PCA).
#
# Then no copy at all: we search the cat's eyes and nose in the photograph of a **woman**. Where will they land? Below, look where its heads look.

# %% id="photo-explore"
from vlmcourse.data.pixels import standardise
from vlmcourse.interop.summary import find_summary

mirrored = photos.photo("chelsea", 280)[28:252, 28:252][:, ::-1]
both = standardise(torch.from_numpy(np.stack([cat, mirrored])))
at = torch.cartesian_prod(torch.arange(16), torch.arange(16)) + 0.5    # middles of patches
true = 1.6 + 0.8 * torch.stack([at[:, 0], 16 - at[:, 1]], 1)           # where they were

def matched(patches):
    patches = F.normalize(patches - patches.mean((0, 1)), dim=-1)
    nearest = (patches[1] @ patches[0].T).argmax(1)
    return ((at[nearest] - true).norm(dim=1) < 1.5).float().mean().item()

if eyes := find_summary():
    with torch.no_grad():
        layers = [layer[:, 1:] for layer in eyes.vit.layers(both)]
    found = {"pixels": matched(patchify(both, 14))}
    found |= {f"layer {k}": matched(layers[k]) for k in (0, 4, 8, 10, 11, 12)}
    flat = layers[10].flatten(0, 1) - layers[10].mean((0, 1))
    colours = (flat @ torch.pca_lowrank(flat, 3, niter=9)[2]).unflatten(0, (2, 16, 16))
    colours = (colours / colours.abs().amax((0, 1, 2)) + 1) / 2
    fig, axes = plt.subplots(1, 4, figsize=(6.8, 1.9), layout="constrained")
    for ax, shown in zip(axes, (cat, colours[0], mirrored, colours[1])):
        ax.imshow(shown); ax.axis("off")
    figure(fig, alt="A cat and its mirrored part, each beside its patches in colours of layer 10: "
                    "eyes, nose and ears have the same colours in both")
    tabulate(found, "nearest by", within_1_5_patches=".0%")
    assert found["layer 10"] > max(found["pixels"], found["layer 12"]) + 0.15
    assert found["layer 11"] > found["layer 12"] + 0.1

# %% id="two-faces"
marks = {"eye": (6, 5), "other eye": (7, 12), "nose": (12, 10)}        # row, column of its patch
if eyes:
    woman = photos.photo("astronaut", 768)[112:336, 183:407]  # her eyes are elsewhere
    with torch.no_grad():
        faces = eyes.vit.layers(standardise(torch.from_numpy(np.stack([cat, woman]))))[10][:, 1:]
    faces = F.normalize(faces - faces.mean((0, 1)), dim=-1)
    wanted = faces[0][[16 * row + column for row, column in marks.values()]]
    landed = [divmod(place, 16) for place in (wanted @ faces[1].T).argmax(1).tolist()]
    fig, axes = plt.subplots(1, 2, figsize=(4.4, 2.2), layout="constrained")
    for ax, face, places in zip(axes, (cat, woman), (marks.values(), landed)):
        ax.imshow(face, extent=(0, 16, 16, 0)); ax.axis("off")
        for (row, column), mark in zip(places, "o^s"):
            ax.plot(column + 0.5, row + 0.5, mark, color=roles.accent,
                    markeredgecolor=roles.ink, ms=9)
    figure(fig, alt="Marks on a cat's eyes and nose, and on the patches of a woman's face that are "
                    "most alike: her eyes, and between nose and mouth")
    (row, left), (other_row, right), _ = landed
    assert 2 <= row <= 3 and 7 <= left <= 9 and 2 <= other_row <= 4 and 12 <= right <= 14

# %% id="dino-explore"
watched = eyes.vit if eyes else observer.vit
shown = both if eyes else F.interpolate(both, size=128)
photo_attention = maps.attention_maps(watched, shown)
AttentionExplorer(np.stack([cat, mirrored]), photo_attention, grid=(16, 16),
                  rollout=torch.stack([rollout(each) for each in photo_attention]),
                  labels=["a cat", "mirrored"])

# %% [markdown] id="real-intro" lang="en"
# **What you just proved.** Nobody told it what an eye is, yet a cat's eyes find a woman's, and neither colour nor place can tell them how. (Move her photograph: in our tries an eye always found an eye, if not always the right one.) The match rises to layer 10 and falls in the last, which was trained for something else. Chapter 17 gives this eye to a language model.
#
# ## 9 · Is this the real thing?
#
# Yes, and here is the proof. Take `ViTModel` from `transformers`, the class behind the published checkpoints. Copy its weights into *your* model, key by key, and compare outputs and attention maps. Every parameter is randomised first: norms at 1 and biases at 0 would hide mistakes.

# %% id="real-thing"
import transformers
from vlmcourse.interop.vit import from_transformers

config = transformers.ViTConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                num_attention_heads=4,
                                image_size=32, patch_size=8, attn_implementation="eager")
library = transformers.ViTModel(config, add_pooling_layer=False).eval()
for parameter in library.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
yours, images = from_transformers(library), torch.randn(4, 3, 32, 32)
with torch.no_grad():
    theirs = library(images, output_attentions=True)
    gap = (yours(images) - theirs.last_hidden_state).abs().max().item()
    their_maps = torch.stack(theirs.attentions, 1)
    map_gap = (maps.attention_maps(yours, images) - their_maps).abs().max().item()
print(f"largest difference: outputs {gap:.1e}, attention maps {map_gap:.1e}")
assert gap < 1e-5 and map_gap < 1e-5

# %% [markdown] id="real-differs" lang="en"
# How published ViTs differ from yours:
#
# - **Data.** The original learns from 1.3 to 300 million images, with dropout on the smaller sets. With little data a CNN usually wins; chapter 03 measures it.
# - **CLIP's ViT** normalises once more before the first block, has no bias in the patch matrix, and uses a cheaper activation, *quick GELU*.
# - **Small print.** The epsilon of the norms is 1e-12 in `transformers`, 1e-6 in timm and 1e-5 in CLIP. timm smooths when it shrinks positions (`antialias` in the course's version); `transformers` does not.
#
# ## Paper guide: Dosovitskiy et al. 2020, *An Image is Worth 16x16 Words*
#
# Dosovitskiy et al. 2020, *An Image is Worth 16×16 Words*, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929). Read sections 1, 3.1, 3.2, 4.3 and 4.5, and appendix D.3; skim the rest.
#
# | in the paper | in your notebook |
# |---|---|
# | equation 1 | `patchify`, the matrix, `add_class_and_positions` |
# | equations 2 and 3 | `pre_norm_block` |
# | equation 4 | the last norm, then token 0 |
# | appendix A | `split_heads`, `scaled_dot_product`, `merge_heads` |
# | section 3.2, "2D interpolation" | `interpolate_positions` |
# | table 1 | `ViTConfig`; you counted 86 million |
# | figure 6 | attention rollout |
#
# Three questions to answer from the paper: (1) In figure 4, with how many pre-training images does ViT overtake the ResNets? (2) What do the learned position embeddings in figure 7 look like, and who told the model about rows and columns? (3) Appendix D.3 compares the class token with averaging all patches. What had to change for averaging to work?

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Patches are the tokens of a picture: continuous, cut by moving axes, embedded by one matrix.
# 2. Without positions an image is a bag of tiles; accuracy fell, yet stayed respectable.
# 3. A ViT is a transformer without a causal mask: heads, scaled attention, blocks that add to a stream.
# 4. Early layers know colours, late layers know relations. The class token is a summary made for one job; the patches keep the rest.
# 5. Attention maps show where information may flow. Count before you believe.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("02_vit/1")

# %% id="quiz-2"
quiz("02_vit/2")

# %% id="quiz-3"
quiz("02_vit/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Dosovitskiy et al. 2020, *An Image is Worth 16×16 Words*, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929): sections 3 and 4, table 1, appendices A and D.
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): section 3.2.
# - Xiong et al. 2020, *On Layer Normalization in the Transformer Architecture*, [arXiv:2002.04745](https://arxiv.org/abs/2002.04745): section 3.
# - Abnar and Zuidema 2020, *Quantifying Attention Flow in Transformers*, [arXiv:2005.00928](https://arxiv.org/abs/2005.00928): section 3.
# - Jain and Wallace 2019, *Attention is not Explanation*, [arXiv:1902.10186](https://arxiv.org/abs/1902.10186): section 4.
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 4.1, which layer is handed over.
# - Oquab et al. 2023, *DINOv2*, [arXiv:2304.07193](https://arxiv.org/abs/2304.07193): section 7.5, PCA and matches of patches.
# - Alpaydin and Kaynak 1998, *Optical Recognition of Handwritten Digits*, UCI, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49).
#
# **Next:** [03 · CNN or ViT?](03_cnn_vs_vit.ipynb)
