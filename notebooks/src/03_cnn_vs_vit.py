# %% [markdown] id="title" lang="en"
# # 03 · CNN or ViT?
#
# **125 minutes.** Everything runs on two CPU cores; a GPU makes the training cells faster.
#
# For ten years, seeing meant convolution. Today nearly every vision-language model uses a Vision Transformer. Was the old network wrong? You build its best parts, let both networks race, twice, and find out why each race ends as it does.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Still at the vision encoder: you have built one, now build its rival.
#
# ## After this you can
#
# - **write** convolution as a matrix product, and build ResNet and EfficientNet blocks on it,
# - **compute** how far a CNN can see, and **measure** how far a ViT does look,
# - **name** what a CNN knows before it has seen a single picture, and what that costs,
# - **predict** which of the two learns a task from less data, and test it fairly,
# - **explain** why vision-language models chose the ViT.

# %% id="setup"
import math, torch, matplotlib.pyplot as plt
from torch import nn; from torch.nn import functional as F
from vlmcourse.workbook import *
from vlmcourse.models import cnn, efficientnet
from vlmcourse.diagnostics import attention as maps, reach
begin("03_cnn_vs_vit", lang="en")

# %% id="map"
course_map("vision")

# %% [markdown] id="q-prior" lang="en"
# ## 1 · What do we know about pictures before we see one?
#
# **Question.** A layer should turn a small picture of 32 × 32 × 3 numbers into a map of 32 × 32 × 16. How many weights does it need?
#
# If every output may depend on every input, it needs one weight per pair. But we know two things about pictures:
#
# - **Locality.** What a pixel means is decided by its neighbours.
# - **Sharing.** An edge is an edge, wherever it is.
#
# The first lets us keep only a 3 × 3 window per output. The second lets all places use the *same* weights. **Predict** the three numbers, at least their number of digits.

# %% id="prior-count"
inputs, outputs = 32 * 32 * 3, 32 * 32 * 16
everything, local, shared = inputs * outputs, 3 * 3 * 3 * outputs, 3 * 3 * 3 * 16
tabulate({"every pair": everything, "only neighbours": local, "the same everywhere": shared},
         weights=",")
assert shared == 432 and everything // shared > 100_000

# %% [markdown] id="conv-by-hand" lang="en"
# Two beliefs, and 50 million weights became 432. Such a belief is called an **inductive bias**. If it is true, you save data. If it is false, no data can repair it.
#
# Now by hand, in one dimension. The filter (−1, 0, 1) asks: is it brighter on my right than on my left? Slide it along and write down each answer.

# %% id="conv-line"
line, edge = torch.tensor([0.0, 0, 0, 5, 5, 5, 0]), torch.tensor([-1.0, 0, 1])
windows = torch.stack([line[k : k + 3] for k in range(5)], dim=1)       # one window per column
print(windows.int(), (edge @ windows).int().tolist(), sep="\n")
assert (edge @ windows).tolist() == [0, 5, 5, 0, -5]

# %% [markdown] id="ex-conv" lang="en"
# The windows stand side by side as columns, and the sliding became **one matrix product**. This made CNNs fast (Chellapilla et al. 2006).
#
# ### Your turn: `conv2d` · difficulty 4/5 · 20 min
#
# The same in two dimensions, with many channels and many filters. `F.unfold(images, (row, column), ...)` cuts out all windows: `(batch, channel·row·column, place)`. Do not call `F.conv2d`; that is what you are building.
#
# | | shape |
# |---|---|
# | `images` | `(batch, channel, height, width)` |
# | `weight` | `(filter, part, row, column)`, where part = channel / groups |
# | `stride` | pixels from one window to the next |
# | `padding` | zeros on each of the four sides |
# | `groups` | channels and filters are cut into this many runs; a run of filters sees only its own run of channels |
# | out | `(batch, filter, newheight, newwidth)`, newheight = (height + 2 · padding − row) // stride + 1 |
#
# Write it for `groups = 1` first. Groups are one more axis; section 3 needs them.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="conv2d"
@exercise(cnn.conv2d)
def conv2d(images, weight, stride=1, padding=0, groups=1):
    """Slide every filter over the images. Do not call any convolution of torch's."""
    # 1. unfold into windows (name the arguments!)   2. give windows and filters a group axis
    # 3. one matrix product   4. reshape to a map
    raise NotImplementedError

# %% id="conv-picture"
from vlmcourse.data import photos

cat = torch.from_numpy(photos.photo("chelsea", 128)).permute(2, 0, 1)[None] / 255
right = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
filters = {"brighter to the right": right, "brighter below": right.T,
           "blurred": torch.ones(5, 5) / 25}
fig, axes = plt.subplots(1, 4, figsize=(6.8, 2), layout="constrained")
axes[0].imshow(cat[0].permute(1, 2, 0)); axes[0].set_title("128 × 128 pixels")
for ax, (name, kernel) in zip(axes[1:], filters.items()):
    found = conv2d(cat.mean(1, keepdim=True), kernel[None, None], padding=len(kernel) // 2)[0, 0]
    ax.imshow(found, cmap="gray"); ax.set_title(name)
for ax in axes: ax.axis("off")
figure(fig, alt="A cat's face, its vertical edges, its horizontal edges, and a blurred version")

# %% [markdown] id="conv-check" lang="en"
# Compare with torch's own, values and gradients. And check the second belief: when the picture moves, the map should move with it. That is called **equivariance**.

# %% id="conv-equal"
torch.manual_seed(0)
pixels = torch.randn(2, 6, 9, 12, requires_grad=True)
weight = torch.randn(9, 2, 3, 5, requires_grad=True)
mine, theirs = conv2d(pixels, weight, 2, 1, 3), F.conv2d(pixels, weight, None, 2, 1, groups=3)
gradients = [torch.autograd.grad(out.square().sum(), (pixels, weight)) for out in (mine, theirs)]
gap = max((a - b).abs().max().item() for a, b in zip(gradients[0], gradients[1]))
summed = torch.ones(1, 3, 3, 3)
moved = conv2d(cat.roll(3, dims=-1), summed) - conv2d(cat, summed).roll(3, dims=-1)
shifted = moved[..., 5:].abs().max()
print(f"largest difference: values {(mine - theirs).abs().max():.1e}, gradients {gap:.1e}")
print(f"when the picture moves, the map moves with it: difference {shifted:.1e}")
assert torch.allclose(mine, theirs, atol=1e-5) and gap < 1e-3 and shifted < 1e-4

# %% [markdown] id="conv-proved" lang="en"
# **What you just proved.** A convolution is a matrix product on overlapping windows. You know a special case: with stride = size the windows do not overlap, and it is the patch embedding of chapter 02. So a ViT begins with one coarse convolution and then gives both beliefs up: its attention has no neighbours, only positions to be learned.
#
# | | CNN | ViT |
# |---|---|---|
# | who may talk to whom | neighbours, from layer to layer farther | everybody, from the first layer |
# | weights of the mixing | fixed after training, the same everywhere | computed from the content |
# | position | built in | learned |
# | believes before data | locality, sharing | almost nothing |

# %% [markdown] id="q-residual" lang="en"
# ## 2 · Why does a deeper network learn worse?
#
# **Question.** Twenty layers can do all that ten can: the extra ten need only copy. So a deeper network should never be worse on its *training* data. In 2015 it was (He et al., figure 1).
#
# Copying is hard to learn for a layer that starts at random. The cure: let the layers learn **what to add** to their input. To copy, they add zero. This is where the residual stream of a transformer was born.
#
# ### Your turn: `residual_block` · difficulty 1/5 · 5 min
#
# `body` and `shortcut` are callables that read the same images. The shortcut is the identity, or a 1 × 1 convolution where the body changes the shape. Add both; a ReLU comes last.

# %% id="residual_block"
@exercise(cnn.residual_block)
def residual_block(images, body, shortcut):
    """(batch, channel, height, width) -> (batch, newchannel, newheight, newwidth)"""
    raise NotImplementedError

# %% [markdown] id="resnet" lang="en"
# The package's `ResNet` stacks these blocks; lit in the drawing is what you write, in the lower row in section 3. After each stage the map has half the side and more channels. The last map is averaged over all places: one vector per image.

# %% id="resnet-count"
drawing("cnn")

from vlmcourse.models.cnn import ResNet, ResNetConfig

def parameters(model):
    return sum(p.numel() for p in model.parameters())

with torch.device("meta"):                                             # shapes without memory
    resnet50 = ResNet(ResNetConfig((256, 512, 1024, 2048), (3, 4, 6, 3), bottleneck=True))
print(f"ResNet-50 without its classifier: {parameters(resnet50) / 1e6:.1f} million parameters")
assert round(parameters(resnet50) / 1e6, 1) == 23.5                    # 25.6 with its 1,000 classes

# %% [markdown] id="scenes-intro" lang="en"
# ### Break it on purpose: take the shortcuts away
#
# The first task of this chapter: one object in a picture of 32 × 32 pixels; which of five shapes is it? Chance is 20 %. We train a ResNet with 8 blocks, 16 convolutions, twice: as it is, and with the shortcuts cut.

# %% id="shape-data"
from vlmcourse.world import render, scenes

def pictures_of(world):
    """Scenes drawn with half the side: (scene, 3, 32, 32), numbers from −1 to 1."""
    return F.avg_pool2d(render.to_tensor(render.render(world)), 2)

def one_shape(split, count):
    world = scenes.sample(split, count, objects=(1, 1))
    return pictures_of(world), torch.as_tensor(world.shape[:, 0])

shape_train, shape_test = one_shape("train", 4000), one_shape("test", 1000)

# %% id="models"
from vlmcourse.data.batches import Batches
from vlmcourse.training.loop import train

class Convolver(nn.Module):
    """A ResNet for small pictures, the mean over all places, and a head."""

    def __init__(self, classes, widths=(36, 72), depths=(1, 1), stem=24, head=None,
                 bottleneck=False):
        super().__init__()
        self.body = ResNet(ResNetConfig(widths, depths, stem, stem_kernel=3, bottleneck=bottleneck))
        self.head = head or nn.Linear(widths[-1], classes)

    def forward(self, images):
        return self.head(self.body.pooled(images))

def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])

@torch.no_grad()
def right_answers(model, data):
    """For each picture, whether the model names it: bool (picture,)."""
    model = model.cpu().eval()
    return torch.cat([model(part).argmax(-1) for part in data[0].split(500)]) == data[1]

# %% [markdown] id="shortcut-predict" lang="en"
# **Predict** two things. Which share of new shapes will the network without shortcuts name? And before any training: is the gradient in its *first* block smaller or larger than in its last?

# %% id="shortcut-train"
sizes = budget(cpu=dict(deep=60, race=150, reach=240), gpu=dict(deep=60, race=150, reach=240))

def deep_network(steps, name):
    """A network of 8 blocks, trained, and each block's gradient before training."""
    torch.manual_seed(0)
    model = Convolver(5, widths=(16,), depths=(8,), stem=16)
    loss(model, [part[:64] for part in shape_train]).backward()
    gradient = [block.body[0].weight.grad.norm().item() for block in model.body.blocks]
    model.zero_grad()
    return model, gradient, train(model, Batches(shape_train, 64), loss, steps=steps, lr=3e-3,
                                  name=name)

mine = residual_block.active                                           # yours, or the reference
with_shortcuts = deep_network(sizes.deep, "with shortcuts")
residual_block.install(lambda images, body, shortcut: body(images).relu())
without_shortcuts = deep_network(sizes.deep, "without shortcuts")
plain_accuracy = right_answers(without_shortcuts[0], shape_test).float().mean().item()
residual_block.install(mine)
deep_accuracy = right_answers(with_shortcuts[0], shape_test).float().mean().item()

# %% id="shortcut-figure"
fig, (left, middle) = plt.subplots(1, 2, figsize=(6.8, 2.3), layout="constrained")
looks = ((with_shortcuts, "with shortcuts", roles.learned, "-"),
         (without_shortcuts, "without", roles.accent, "--"))
for (_, gradient, history), name, colour, dash in looks:
    smooth = torch.tensor(history.losses).unfold(0, 10, 1).mean(1)
    left.plot(smooth, color=colour, linestyle=dash, label=name)
    middle.plot(range(1, 9), gradient, color=colour, linestyle=dash, marker="o")
left.set(xlabel="step", ylabel="loss, mean of ten"); left.legend()
middle.set(xlabel="block", ylabel="gradient before training", ylim=(0, None))
figure(fig, alt="Loss falls faster with shortcuts; without, the first block's gradient is largest")
print(f"new shapes named: {deep_accuracy:.0%} with shortcuts, {plain_accuracy:.0%} without")
assert deep_accuracy > plain_accuracy + 0.08
assert without_shortcuts[1][0] > 4 * without_shortcuts[1][-1]
assert with_shortcuts[1][0] < 4 * with_shortcuts[1][-1]

# %% [markdown] id="shortcut-proved" lang="en"
# **What you just proved.** Same parameters, data and steps: the shortcuts are worth many points. And a surprise, if you expected the gradient to *vanish*: without shortcuts it **grows** towards the front. Batch norm, which brings each channel of a batch to mean 0 and deviation 1, keeps the values at size one, and the gradients pay for it (Yang et al. 2019).

# %% [markdown] id="q-cheap" lang="en"
# ## 3 · Where do all the multiplications go?
#
# **Question.** A 3 × 3 convolution mixes neighbours *and* channels in one step. What if we did one after the other?
#
# Take a map of 16 × 16 places and 64 channels in and out. **Predict** how many times cheaper the two steps are: first one 3 × 3 filter per channel (*depthwise*), then a 1 × 1 convolution across channels (*pointwise*).

# %% id="cheap-count"
places, channels = 16 * 16, 64
full, depthwise, pointwise = places * 9 * channels**2, places * 9 * channels, places * channels**2
cheaper = full / (depthwise + pointwise)
print(f"together {full:,}; in turn {depthwise:,} + {pointwise:,}: {cheaper:.1f} times cheaper")
features = torch.randn(2, channels, 16, 16)
# your groups at work
neighbours = conv2d(features, torch.randn(channels, 1, 3, 3), padding=1, groups=channels)
assert neighbours.shape == features.shape and 7.8 < cheaper < 8

# %% [markdown] id="cheap-same" lang="en"
# A transformer makes the same cut: attention mixes places, the MLP mixes channels. EfficientNet uses the saved work to *widen* the map first, filter there, and narrow it again. That is the MBConv block. Inside it sits a small global look:
#
# ### Your turn: `squeeze_excite` · difficulty 2/5 · 10 min
#
# **Squeeze** the whole map to one mean per channel. **Excite:** `sigmoid(expand(SiLU(reduce(means))))` is a gate per channel, between 0 and 1. Multiply every channel by its gate. `reduce` and `expand` map `(batch, channel)` to `(batch, fewer)` and back.

# %% id="squeeze_excite"
@exercise(efficientnet.squeeze_excite)
def squeeze_excite(features, reduce, expand):
    """(batch, channel, height, width) -> the same shape; reduce and expand are called"""
    raise NotImplementedError

# %% [markdown] id="ex-mbconv" lang="en"
# ### Your turn: `mbconv` · difficulty 2/5 · 5 min
#
# Four callables in this order: `expand`, `depthwise`, `excite`, `project`. If `skip` is true, add the input. **No** activation at the end: the narrow map stays linear, since a ReLU there would throw away what few channels hold.

# %% id="mbconv"
@exercise(efficientnet.mbconv)
def mbconv(features, expand, depthwise, excite, project, skip):
    """Widen, filter each channel alone, weigh the channels, narrow again."""
    raise NotImplementedError

# %% id="mbconv-count"
from vlmcourse.models.efficientnet import EfficientNet, EfficientNetConfig

with torch.device("meta"):
    b0 = EfficientNet(EfficientNetConfig())
millions = [parameters(net) / 1e6 for net in (b0, resnet50)]
print("EfficientNet-B0: {:.1f} million parameters, ResNet-50: {:.1f}".format(*millions))
assert parameters(b0) < parameters(resnet50) / 5

# %% [markdown] id="mbconv-proved" lang="en"
# **What you just proved.** A sixth of the parameters, and by its authors' account slightly *better* on ImageNet, 1.3 million photographs of 1,000 kinds (Tan and Le 2019). A gate weighs **by content** of the whole image, one weight per channel. Attention weighs by content, too, but one weight per pair of places.

# %% [markdown] id="q-field" lang="en"
# ## 4 · How far can it see?
#
# **Question.** One number in the last map of a CNN: which pixels can change it?
#
# By hand: a 3 × 3 layer sees 3 pixels across. A second one sees three overlapping neighbours: 5 pixels, not 9. Each layer adds (kernel − 1) *steps*. After a stride of 2, one step is two pixels: now each layer adds 4.
#
# ### Your turn: `receptive_field` · difficulty 2/5 · 10 min
#
# `kernels` and `strides` are `(layer,)`. Return the side of the square that one output of **each** layer can see, in pixels: `(layer,)`. A layer's own stride matters only to the layers after it.

# %% id="receptive_field"
@exercise(reach.receptive_field)
def receptive_field(kernels, strides):
    """(layer,), (layer,) -> (layer,); integers"""
    # two numbers to carry along: pixels per step, and the field so far
    raise NotImplementedError

# %% id="field-numbers"
def fields(net):
    """Receptive field after each layer of a ResNet."""
    return receptive_field(*torch.tensor(net.windows()).T)

by_hand = receptive_field(torch.tensor([3, 3, 3]), torch.tensor([1, 2, 1]))
print("three layers, the second with stride 2:", by_hand.tolist())
after = ("stem", "pool", "stage 1", "stage 2", "stage 3", "stage 4")
seen = fields(resnet50)[[0, 1, 10, 22, 40, -1]].tolist()
tabulate(dict(zip(after, seen)), "ResNet-50", pixels="")
assert by_hand.tolist() == [3, 5, 9] and fields(resnet50)[-1] == 427

# %% [markdown] id="field-real" lang="en"
# So the last map of ResNet-50 can see more than the 224 pixels of its images, but only after all 50 layers. A ViT's first layer can see everything.
#
# That is what it *can* see. Measure what it *does* see: take the gradient of the middle of the last map with respect to every pixel. **Predict:** is the square filled evenly?

# %% id="field-figure"
torch.manual_seed(0)
noise = torch.randn(32, 3, 64, 64)
fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.5), layout="constrained")
for ax, blocks in zip(axes, (1, 2, 4)):
    net = ResNet(ResNetConfig((64,), (blocks,), stem=32, stem_kernel=3, bottleneck=True)).eval()
    strength, side = reach.effective_field(net, noise), fields(net)[-1].item()
    shown = ax.imshow(strength, vmin=0, vmax=1); ax.set_xticks([]); ax.set_yticks([])
    corner = [(strength.sum(k) > 0).int().argmax().item() - 0.5 for k in (0, 1)]
    ax.add_patch(plt.Rectangle(corner, side, side, fill=False, edgecolor=roles.accent, linewidth=2))
    inner = tuple(slice(int(c + side / 4 + 1), int(c + 3 * side / 4 + 1)) for c in corner[::-1])
    half = strength[inner].sum() / strength.sum()
    title = f"{blocks} block{'s' * (blocks > 1)}: field {side} px\n{half:.0%} in the inner quarter"
    ax.set_title(title, fontsize=9)
fig.colorbar(shown, ax=axes, label="gradient", shrink=0.8)
figure(fig, alt="Gradients of the middle output: bright in the centre, fading towards the rim")
assert (strength > 0).any(0).sum() == side and half > 0.45

# %% [markdown] id="ex-distance" lang="en"
# **What you just proved.** The boxes fit to the pixel: outside, the gradient is exactly zero. Inside, the middle counts most, since more paths lead there (Luo et al. 2017).
#
# ### And a ViT?
#
# There is no square. Each head decides for each picture where to look. So measure how far it looks on average.
#
# ### Your turn: `attention_distance` · difficulty 3/5 · 15 min
#
# | | shape |
# |---|---|
# | `weights` | `(layer, head, query, key)`, with token 0 the class token; more axes may stand in front |
# | `grid`, `patch_size` | (rows, columns) of patches; pixels per patch side |
# | out | `(layer, head)`, in pixels |
#
# The class token stands nowhere. Leave it out as query and as key, and scale what is left of each row to sum to 1 again. Then: distance between patch centres, weighted by attention, averaged over query patches.

# %% id="attention_distance"
@exercise(reach.attention_distance)
def attention_distance(weights, grid, patch_size):
    """(..., layer, head, query, key) -> (..., layer, head)"""
    # 1. (row, column) of every patch   2. all distances, (patch, patch)
    # 3. weights without token 0, rows scaled to 1   4. sum over keys, mean over queries
    raise NotImplementedError

# %% id="distance-by-hand"
even = attention_distance(torch.full((1, 1, 65, 65), 1 / 65), (8, 8), 4).item()
itself = attention_distance(torch.eye(65)[None, None], (8, 8), 4).item()
print(f"a head that looks everywhere alike: {even:.1f} px; only at itself: {itself:.0f} px")
assert abs(even - 16.6) < 0.1 and itself == 0

# %% [markdown] id="race-intro" lang="en"
# ## 5 · The first race: what shape is it?
#
# Now both networks, made equal: the same number of parameters (within 5 %), the same optimizer, the same 150 steps of 64 pictures. Only the number of **different** pictures changes: 250, then 4,000. The ViT gets what small ViTs need: patches calibrated to size one, positions of visible size.

# %% id="race-models"
from vlmcourse.models.vit import Classifier, ViTConfig

def new_vit(classes, images):
    model = Classifier(ViTConfig(image_size=32, patch_size=4, width=48, depth=3, heads=3), classes)
    model.vit.calibrate(images[:256])
    nn.init.normal_(model.vit.positions, std=0.3)
    return model

rivals = {"CNN": lambda classes, images: Convolver(classes), "ViT": new_vit}
count = {name: parameters(make(5, shape_train[0])) for name, make in rivals.items()}
tabulate(count, parameters=",")
assert abs(count["CNN"] / count["ViT"] - 1) < 0.05

# %% id="race-function"
data_sizes = (250, 4000)

def race(runners, classes, train_data, test_data, amounts=data_sizes):
    """Train every runner on every amount of data: {(name, amount): (accuracy, model)}."""
    results = {}
    for name, make in runners.items():
        for amount in amounts:
            torch.manual_seed(0)
            model = make(classes, train_data[0])
            part = tuple(column[:amount] for column in train_data)
            train(model, Batches(part, 64), loss, steps=sizes.race, lr=3e-3,
                  name=f"{name}, {amount:,} pictures")
            results[name, amount] = right_answers(model, test_data).float().mean().item(), model
    return results

def curves(ax, results, title, chance):
    looks = {"CNN": (roles.first, "o", "-"), "ViT": (roles.second, "s", "--"),
             "short CNN, MLP": (roles.control, "^", ":")}
    for name in dict.fromkeys(name for name, _ in results):
        colour, marker, dash = looks[name]
        ran = [amount for runner, amount in results if runner == name]
        ax.plot(ran, [results[name, amount][0] for amount in ran], color=colour, marker=marker,
                ls=dash, label=name)
    ax.axhline(chance, color=roles.control, linestyle=":", linewidth=1)
    ax.set(xscale="log", xticks=data_sizes, xticklabels=data_sizes, ylim=(0, 1.04))
    ax.set(title=title, xlabel="training pictures"); ax.minorticks_off()
    ax.legend(loc="lower right", frameon=True, facecolor="white", edgecolor="none", framealpha=1)

# %% [markdown] id="race-predict" lang="en"
# **Predict** the winner at 250 pictures and at 4,000, and by how much.

# %% id="race-shape"
shape_results = race(rivals, 5, shape_train, shape_test)
tabulate({run: share for run, (share, _) in shape_results.items()}, "pictures", right=".1%")
fig, ax = plt.subplots(figsize=(4.2, 2.6), layout="constrained")
curves(ax, shape_results, "which shape?", 0.2); ax.set_ylabel("right on new pictures")
figure(fig, alt="Accuracy over training pictures: the CNN is above the ViT at both sizes")
assert all(shape_results["CNN", n][0] > shape_results["ViT", n][0] + (n > 250) * 0.1
           for n in data_sizes)
assert shape_results["CNN", 4000][0] > 0.85
assert all(shape_results["ViT", n][0] < 0.75 for n in data_sizes)

# %% [markdown] id="far-intro" lang="en"
# **What you just proved.** The CNN needs a fraction of the pictures. What a corner looks like, it learns once, for all places. The ViT cuts objects into patches, at a different offset in every picture, and must learn each case.
#
# And honestly: more pictures do not help the ViT here. What it lacks is time: chapter 02's does name shapes, after far more steps. Which belief is it missing? Section 7 tells.
#
# ## 6 · The second race: are the two alike?
#
# Two objects stand somewhere, in three colours: do they have **the same colour**? Half of the answers are yes. Colour is easy for both networks. What is new: the answer is at *neither* place; two places must be compared.

# %% id="far-data"
import numpy as np

def alike(split, count):
    """Pictures, 1 for the same colour or 0, and the gap between the two objects in pixels."""
    world = scenes.sample(split, 16 * count, objects=(2, 2))
    world = world[(world.colour[:, :2] < 3).all(1)]
    same = world.colour[:, 0] == world.colour[:, 1]
    kept = np.sort(np.concatenate([np.nonzero(same)[0][: count // 2],
                                   np.nonzero(~same)[0][: count // 2]]))
    world, radii = world[kept], scenes.RADII[world.size[kept, :2]].sum(1)
    apart = np.maximum(abs(world.x[:, 0] - world.x[:, 1]),
                       abs(world.y[:, 0] - world.y[:, 1])) - radii
    order = np.random.default_rng(0).permutation(count)                # yes and no in mixed order
    answers, apart = torch.as_tensor(same[kept][order]).long(), torch.as_tensor(apart[order] / 2)
    return world[order], pictures_of(world[order]), answers, apart

_, *far_train = alike("train", 4000)
far_world, *far_test = alike("test", 2000)
far_train, (test_pictures, test_answers, gaps) = tuple(far_train[:2]), far_test
print(f"gap between the objects: {gaps.min():.1f} to {gaps.max():.1f} px; yes in "
      f"{test_answers.float().mean():.0%}")

# %% id="far-look"
from vlmcourse.data.pixels import to_bytes

shown = torch.cat([gaps.argsort()[:3], gaps.argsort()[-3:]])
fig, axes = plt.subplots(1, 6, figsize=(6.8, 1.5), layout="constrained")
for ax, k in zip(axes, shown):
    ax.imshow(to_bytes(test_pictures[k : k + 1])[0]); ax.axis("off")
    ax.set_title(f"{'same' if test_answers[k] else 'different'}\ngap {gaps[k]:.0f} px", fontsize=9)
figure(fig, alt="Six scenes of two objects, same or different, three with a small gap, three large")

# %% [markdown] id="far-predict" lang="en"
# **Predict:** who wins now, at 250 pictures? As a control there is a third runner: a CNN with an eighth of the parameters that sees only 15 pixels, but has *two* layers after the mean instead of one. Where will it end?

# %% id="far-race"
def short_cnn(classes, images):
    """One block that sees 15 pixels; two layers after the mean."""
    head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes))
    return Convolver(classes, (64,), (1,), 32, head, bottleneck=True)

far_test = test_pictures, test_answers
far_results = race(rivals, 2, far_train, far_test)
far_results |= race({"short CNN, MLP": short_cnn}, 2, far_train, far_test, (250,))
fig, axes = plt.subplots(1, 2, figsize=(6.8, 2.7), layout="constrained", sharey=True)
curves(axes[0], shape_results, "which shape?", 0.2)
curves(axes[1], far_results, "same colour?", 0.5)
axes[0].set_ylabel("right on new pictures")
figure(fig, alt="For shapes the CNN leads at both sizes; for comparing, the ViT at few pictures")
tabulate({run: share for run, (share, _) in far_results.items()}, "pictures", right=".1%")
assert far_results["ViT", 250][0] > far_results["CNN", 250][0] + 0.15
assert far_results["ViT", 4000][0] > 0.95 and far_results["CNN", 4000][0] > 0.9
assert far_results["short CNN, MLP", 250][0] > far_results["CNN", 250][0] + 0.15

# %% [markdown] id="far-proved" lang="en"
# **What you just proved.** The same two networks, and the opposite winner. With 250 pictures the CNN has learned them by heart and guesses on new ones; the ViT already compares. With 4,000 both can do it. Comparing whatever is *equal*, wherever it stands, is what a product of queries and keys is made for.
#
# And the control keeps us honest. The tiny CNN with two layers after the mean comes close to the ViT. So "ViT beats CNN" would be the wrong lesson: *the mean over all places is global too.*

# %% [markdown] id="sum-intro" lang="en"
# ### When can a CNN not do it at all?
#
# Think of a CNN with a short reach, then the mean, then **one** linear layer. If no place sees both objects, the score is a sum: something for the first, something for the second. Say an object counts alike wherever it stands: a for red, b for purple, c for black. It must exceed a threshold t for (red, red), (purple, purple) and (black, black), and only for them.
#
# But (red, purple) lies exactly halfway between the first two. If both pass, so does it. **Predict:** of the six pairs, how many can the best choice of a, b, c, t get right?

# %% id="sum-proof"
values = torch.linspace(-1, 1, 21)
a, b, c, t = torch.meshgrid(values, values, values, 2 * values + 0.01, indexing="ij")
same, unlike = (a + a, b + b, c + c), (a + b, a + c, b + c)
right = sum((pair > t).int() for pair in same) + sum((pair <= t).int() for pair in unlike)
print(f"{right.numel():,} tries; best: {right.max()} of 6 pairs")
assert right.max() == 4

# %% [markdown] id="reach-intro" lang="en"
# Four of six: 67 %. Data cannot change that, as long as no place sees both objects, and an object counts alike everywhere. So give the CNN more reach, block by block, keep the single linear layer, and watch.

# %% id="reach-train"
by_reach = {}
for blocks in (1, 2, 4):
    torch.manual_seed(0)
    model = Convolver(2, (64,), (blocks,), 16, bottleneck=True)
    train(model, Batches(far_train, 64), loss, steps=sizes.reach, lr=3e-3,
          name=f"CNN of {blocks} blocks")
    by_reach[f"CNN, field {fields(model.body)[-1]} px"] = right_answers(model, far_test)
by_reach["ViT, field everything"] = right_answers(far_results["ViT", 4000][1], far_test)

# %% id="reach-figure"
edges = [0, 3, 6, 9, 12, 18]
by_gap = {name: [right[(gaps >= low) & (gaps < high)].float().mean().item()
                 for low, high in zip(edges, edges[1:])]
          for name, right in by_reach.items()}
fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
middles = [(low + high) / 2 for low, high in zip(edges, edges[1:])]
for (name, line), marker, dash in zip(by_gap.items(), "v^os", (":", "-.", "-", "--")):
    colour = roles.second if "ViT" in name else roles.first
    ax.plot(middles, line, marker=marker, ls=dash, color=colour, label=name)
ax.axhline(4 / 6, color=roles.ink, linewidth=0.8, label="most such a sum can get")
ax.set(xlabel="gap between the two objects, px", ylabel="right on new pictures", ylim=(0.2, 1.04))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure(fig, alt="Accuracy falls with the gap for fields of 15 and 23 px, not for 39 and the ViT")
columns = {f"{low} to {high} px": ".0%" for low, high in zip(edges, edges[1:])}
tabulate(by_gap, "gap", **columns)
short, medium, long, vit_line = by_gap.values()
# 15 px: wrong almost everywhere, guessing far apart
assert short[-1] < 0.7 and short[0] > short[-1] + 0.1
# 23 px: worst where the gap is widest
assert medium[-1] < min(medium[:-1]) and long[-1] > medium[-1] + 0.15
assert min(long) > 0.85 and min(vit_line) > 0.9

# %% [markdown] id="reach-proved" lang="en"
# **What you just proved.** What counts is whether two places **meet before the summary**. A field of 15 pixels fails at once, one of 23 fails as the gap grows, one of 39 does not fail. In an image of 224 pixels that takes many layers. A ViT has it in layer one.
#
# A summary that keeps enough, followed by layers that can compare, will also do. For "same colour?" a bag of colours is enough. For "is the red one *left of* the blue one?" a mean has already lost the answer. A VLM cannot know which question comes. So it keeps all places, and lets them meet.
#
# ## 7 · Look inside
#
# How far do the heads of the two trained ViTs look? Beside them, how far the CNN of the race *could* look. **Predict:** which ViT looks farther?

# %% id="distance-figure"
far_vit, shape_vit = far_results["ViT", 4000][1], shape_results["ViT", 4000][1]
far_maps = maps.attention_maps(far_vit.vit, test_pictures[:200])
shape_maps = maps.attention_maps(shape_vit.vit, shape_test[0][:200])
looked = {"ViT, same colour?": attention_distance(far_maps, (8, 8), 4).mean(0),
          "ViT, which shape?": attention_distance(shape_maps, (8, 8), 4).mean(0)}
fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.5), layout="constrained", sharey=True)
half_field = [(side - 1) / 2 for side in fields(Convolver(2).body).tolist()]
axes[0].step(range(1, 7), half_field, where="mid", color=roles.first, marker="o")
for ax, (name, found) in zip(axes[1:], looked.items()):
    for head, marker in zip(found.T, "osv^"):
        ax.plot(range(1, 4), head, marker, color=roles.second, markeredgecolor=roles.ink)
    ax.axhline(even, color=roles.control, linestyle=":")
    ax.set(title=name, xlabel="layer", xticks=(1, 2, 3))
axes[0].set(title="CNN: could see at most", xlabel="layer", ylabel="distance, px",
            xticks=range(1, 7))
axes[1].text(1, even + 0.6, "even gaze", fontsize=9)
figure(fig, alt="The CNN's reach grows layer by layer; the heads of two ViTs lie near an even gaze")
heads = {name: [f"{layer.min():.1f} to {layer.max():.1f} px" for layer in found]
         for name, found in looked.items()}
tabulate(heads, "nearest to farthest head", layer_1="", layer_2="", layer_3="")
assert looked["ViT, same colour?"][0].max() > half_field[0] + 5
assert max((found - even).abs().max() for found in looked.values()) < 4

# %% [markdown] id="explore-intro" lang="en"
# Dots are heads, and they all lie near the dotted line, in both ViTs. Not one has learned to look near. Raghu et al. (2021) found the same in large ViTs with little data; with much data, some heads of the lower layers become local.
#
# But an average hides the aim. "16 pixels away" may mean everywhere, or exactly at the other object. The framed patch lies on one object. Does some head answer with the *other* one? Then count: over 200 pictures, from the patches of object 0, what share of the gaze falls on object 1, compared with an even gaze?

# %% id="explore"
from vlmcourse.widgets.attention import AttentionExplorer

picked = (gaps > 9).nonzero().flatten()[:6]
on_object = int((torch.as_tensor(far_world.cover(8))[picked[0]].flatten() == 0).nonzero().median())
far_images = to_bytes(test_pictures[picked].repeat_interleave(4, 2).repeat_interleave(4, 3))
AttentionExplorer(far_images, maps.attention_maps(far_vit.vit, test_pictures[picked]), grid=(8, 8),
                  labels=["same" if answer else "different" for answer in test_answers[picked]],
                  view=dict(query=1 + on_object))

# %% id="explore-count"
cover = torch.as_tensor(far_world[:200].cover(8)).flatten(1)
mine, other = (cover == 0).float(), (cover == 1).float()
gaze = far_maps[..., 1:, 1:] / far_maps[..., 1:, 1:].sum(-1, keepdim=True)
crossing = torch.einsum("iq,ilhqk,ik->lh", mine, gaze, other)
by_chance = torch.einsum("iq,ik->", mine, other) / 64
times = crossing / by_chance
tabulate({f"layer {k}": row for k, row in enumerate(times.tolist(), 1)}, "times an even gaze",
         **{f"head {k}": ".1f" for k in (1, 2, 3)})
assert times.max() > 1.5

# %% [markdown] id="deal-intro" lang="en"
# ### Break it on purpose: deal the patches out anew
#
# Cut every test picture into its 64 patches and shuffle them. **Predict** the four accuracies: CNN and ViT, on shapes and on same colour. Then take the ViT's positions away: who notices the shuffle?

# %% id="deal"
def dealt_out(images):
    """The 4×4 patches of each image in random order."""
    squares = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)  # (image, channel, patch, 4, 4)
    order = torch.rand(len(images), 64, generator=torch.Generator().manual_seed(0)).argsort(1)
    squares = squares.gather(2, order[:, None, :, None, None].expand_as(squares))
    return squares.unflatten(2, (8, 8)).permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)

fig, axes = plt.subplots(1, 4, figsize=(4.6, 1.3), layout="constrained")
two = shape_test[0][:2]
for ax, picture in zip(axes, torch.stack([two, dealt_out(two)], 1).flatten(0, 1)):
    ax.imshow(to_bytes(picture[None])[0]); ax.axis("off")
figure(fig, alt="Two scenes, each beside itself with its patches shuffled: objects in pieces")

# %% id="deal-measure"
tasks = {"which shape?": (shape_results, shape_test), "same colour?": (far_results, far_test)}
for task, (results, (images, answers)) in tasks.items():
    dealt = dealt_out(images), answers
    after = {name: right_answers(results[name, 4000][1], dealt).float().mean().item()
             for name in rivals}
    tasks[task] = {name: (results[name, 4000][0], after[name]) for name in rivals}
with torch.no_grad():
    far_vit.vit.positions.zero_()
    some, change = test_pictures[:100], {}
    for name, model in (("ViT without positions", far_vit), ("CNN", far_results["CNN", 4000][1])):
        change[name] = (model(some) - model(dealt_out(some))).abs().max().item()
both = {(task, name): each for task, row in tasks.items() for name, each in row.items()}
tabulate(both, "right", as_it_was=".0%", dealt_out=".0%")
tabulate(change, largest_change_of_a_score=".1e")
assert change["ViT without positions"] < 1e-3 and change["CNN"] > 0.1
drop = {run: old - new for run, (old, new) in both.items()}
assert drop["which shape?", "CNN"] > 0.3 and abs(drop["which shape?", "ViT"]) < 0.1
assert abs(drop["same colour?", "ViT"]) < 0.05

# %% [markdown] id="deal-proved" lang="en"
# **What you just proved.** On shapes, the shuffle ruins the CNN and leaves the ViT where it was. So *that* is the missing belief: in this budget our ViT never found out that patches have neighbours. It reads a bag of patches, enough to name half of the shapes.
#
# On *same colour?* both survive, because a bag of colours is all the task needs. And without positions, a ViT *cannot* notice: its scores change by rounding alone.
#
# ### And if the ViT has seen pictures before?
#
# Our networks started from nothing. DINOv2, the published ViT of chapter 02, saw 142 million photographs, and never a scene. Compare **features**, with no training any more. Each of your two CNNs gives its mean over all places; DINOv2, after block 6, the mean of its patches, their deviation, and the class token. A linear map, fitted to 249 new pictures, reads the answer for one left out, each in turn. **Predict:** what do the features of "which shape?" know about "same colour?", and what does DINOv2 know? Where its package is missing, the cell says what to run.

# %% id="eye-features"
from vlmcourse.diagnostics.probe import read_left_out
from vlmcourse.interop.summary import find_summary

def enlarged(images):
    return F.interpolate(images, size=112, mode="bilinear", antialias=True)

features = {"CNN of the shapes": shape_results["CNN", 4000][1].body.pooled,
            "CNN of the colours": far_results["CNN", 4000][1].body.pooled}
if eyes := find_summary(112):
    features["DINOv2"] = lambda images: eyes.patches(enlarged(images), 6)[:, 0]
reads = {name: [] for name in features}
for name, see in features.items():
    for images, answers in (shape_test, far_test):
        with torch.no_grad():
            seen = torch.cat([see(part) for part in images[:250].split(25)])
        reads[name].append(read_left_out(seen, answers[:250]).float().mean().item())
tabulate(reads, "features of", which_shape=".0%", same_colour=".0%")
(shape, not_shape), (not_colour, colour), *both = reads.values()
assert min(shape, colour) > 0.8 and not_shape < 0.65 and not_colour < 0.6
assert all(min(pair) > 0.93 for pair in both)

# %% id="eye-near"
if eyes:
    from vlmcourse.data.pixels import standardise
    four = torch.from_numpy(np.stack([photos.photo(name, 112) for name in photos.PHOTOS]))
    dino_maps = maps.attention_maps(eyes.vit, standardise(four))
    nearest = attention_distance(dino_maps, (8, 8), 1).mean(0).min(1).values
    print("DINOv2's nearest head, layer by layer, in patches:", *[f"{d:.1f}" for d in nearest])
    print(f"an even gaze: {even / 4:.1f}")
    assert nearest[1:4].max() < even / 12

# %% [markdown] id="real-intro" lang="en"
# **What you just proved.** A CNN's features know the task they were trained for and next to nothing of the other. DINOv2's know both, and nobody taught it either. Data gave it even the belief it was born without: on photographs, some heads of layers 2 to 4 look one patch far.
#
# ## 8 · Is this the real thing?
#
# Take small `ResNetModel` and `EfficientNetModel` from `transformers`, norms randomised too, since scales at 1 and means at 0 would hide mistakes. Copy the weights into the networks that run *your* functions.

# %% id="real-thing"
import transformers
from vlmcourse.interop.cnn import from_transformers

library = {
    "ResNet": transformers.ResNetModel(transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2])),
    "EfficientNet": transformers.EfficientNetModel(transformers.EfficientNetConfig(
        width_coefficient=0.25, kernel_sizes=[3, 5], in_channels=[32, 16], out_channels=[16, 24],
        strides=[1, 2],
        num_block_repeats=[1, 2], expand_ratios=[1, 6], hidden_dim=320, depthwise_padding=[]))}
torch.manual_seed(0)
for model in library.values():
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            small = value[0].numel() ** -0.5
            nn.init.normal_(value, std=small)
            if "running_var" in name:
                value.uniform_(0.5, 1.5)

# %% id="real-compare"
images, difference = torch.randn(4, 3, 64, 96), {}
for name, theirs in library.items():
    yours = from_transformers(theirs)
    with torch.no_grad():
        wanted = theirs.eval()(images).last_hidden_state
        difference[name] = ((yours(images) - wanted).abs().max() / wanted.abs().max()).item()
tabulate(difference, largest_relative_difference=".1e")
assert max(difference.values()) < 1e-5

# %% [markdown] id="why-vit" lang="en"
# ### So why do vision-language models use ViTs?
#
# Your races say: a CNN needs less data for what is local. The field found the same, and bought more data.
#
# - **Data stopped being scarce.** Pretrained on 1.3 million images, the ViT paper's large models lose to ResNets; on 300 million they win (Dosovitskiy et al. 2020, figures 3 and 4). With CLIP's 400 million pairs, ViTs needed clearly less computation than ResNets for the same score (Radford et al. 2021).
# - **Questions are global.** "Left of", "the same as", "how many": a VLM must relate any two places.
# - **Patches are tokens.** N × D vectors enter a language model as they are. One kind of block, one set of tools, for both.
#
# And the other side: ConvNeXt, a CNN with the recipe of its rivals, kept up with transformers of its size (Liu et al. 2022). When data are few and nothing is pretrained, a CNN is no mistake.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A convolution is a matrix product on overlapping windows: local, and the same everywhere. Two beliefs for 50 million weights.
# 2. Shortcuts let layers learn what to add; depthwise plus pointwise does the same work in two cheap steps.
# 3. A CNN's reach grows layer by layer and fades at its rim; a ViT's heads choose their own, from layer one.
# 4. Equal parameters, equal steps: the CNN won on shapes with few or many pictures, the ViT on comparing when data were few.
# 5. What counts is whether two places meet before the summary. VLMs ask about relations and have data: they use ViTs.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("03_cnn_vs_vit/1")

# %% id="quiz-2"
quiz("03_cnn_vs_vit/2")

# %% id="quiz-3"
quiz("03_cnn_vs_vit/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - He et al. 2015, *Deep Residual Learning for Image Recognition*, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385): sections 1 and 3, figures 1, 2 and 5, table 1.
# - Chellapilla et al. 2006, *High Performance Convolutional Neural Networks for Document Processing*: section 2, convolution as a matrix product.
# - Sandler et al. 2018, *MobileNetV2*, [arXiv:1801.04381](https://arxiv.org/abs/1801.04381): section 3. Hu et al. 2017, *Squeeze-and-Excitation Networks*, [arXiv:1709.01507](https://arxiv.org/abs/1709.01507): section 3.
# - Tan and Le 2019, *EfficientNet*, [arXiv:1905.11946](https://arxiv.org/abs/1905.11946).
# - Yang et al. 2019, *A Mean Field Theory of Batch Normalization*, [arXiv:1902.08129](https://arxiv.org/abs/1902.08129).
# - Luo et al. 2017, *Understanding the Effective Receptive Field*, [arXiv:1701.04128](https://arxiv.org/abs/1701.04128): section 3. Araujo et al. 2019, [doi:10.23915/distill.00021](https://doi.org/10.23915/distill.00021).
# - Dosovitskiy et al. 2020, *An Image is Worth 16×16 Words*, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929): sections 4.3 and 4.5, figures 3, 4 and 7.
# - Radford et al. 2021, *CLIP*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020).
# - Raghu et al. 2021, *Do Vision Transformers See Like Convolutional Neural Networks?*, [arXiv:2108.08810](https://arxiv.org/abs/2108.08810).
# - Liu et al. 2022, *A ConvNet for the 2020s* (ConvNeXt), [arXiv:2201.03545](https://arxiv.org/abs/2201.03545). Oquab et al. 2023, *DINOv2*, [arXiv:2304.07193](https://arxiv.org/abs/2304.07193).
#
# **Next:** [04 · CLIP: two towers, one space](04_clip.ipynb)
