# %% [markdown] id="title" lang="en"
# # 15 · Efficient fine-tuning: what fits, and what it costs
#
# **100 minutes.** Everything runs on two CPU cores; a GPU trains faster.
#
# "CUDA out of memory" ends more first projects than any wrong formula. Which of your tensors filled the card? Today you count them before they exist, and then you take them away one kind at a time: frozen parts, LoRA, four bits, recomputed activations, half precision. Each saving has a price, and you measure that too.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# No single part is lit below: encoder, projector and language model each get a line in the bill.
#
# ## After this you can
#
# - **count** weights, gradients, optimizer and activations of a model that you have not loaded,
# - **write** gradient checkpointing, loss scaling, NF4 and DoRA,
# - **choose** between full tuning, LoRA, QLoRA and projector only, with numbers,
# - **tune** a real language model in four bits, and hand the adapter to `peft`.

# %% id="setup"
import json, tempfile, time, numpy as np, torch
from vlmcourse.workbook import *
from vlmcourse.models import lora, quantise, recompute
from vlmcourse.training import memory, scaling
begin("15_efficient_finetuning", lang="en")

# %% id="map"
course_map()

# %% [markdown] id="q-states" lang="en"
# ## 1 · Which tensors fill the card?
#
# **Question.** LLaVA-1.5 has 7.06 billion numbers. In fp32 they are 28 GB. Why does tuning all of them not fit on an 80 GB card?
#
# **By hand**, for one number that learns with AdamW: 4 bytes for itself, 4 for its gradient, 8 for two running averages. 16 bytes. A number that is frozen needs its own bits and nothing else. So 7.06 billion × 16 = 113 GB, before a single picture is shown.

# %% [markdown] id="ex-states" lang="en"
# ### Your turn: `state_bytes` · difficulty 1/5 · 6 min
#
# | | |
# |---|---|
# | `parameters`, `learned` | numbers of a part, and how many of them learn |
# | `bits` | of each number that does *not* learn |
# | `weight`, `gradient`, `optimizer` | bytes for each number that learns |
# | out | `(weights, gradients, optimizer)`, three numbers of bytes |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="state_bytes"
@exercise(memory.state_bytes)
def state_bytes(parameters, learned, bits, weight=4, gradient=4, optimizer=8):
    """sizes -> (bytes of weights, of gradients, of the optimizer)"""
    raise NotImplementedError

# %% id="states-proved"
billion = 7.06e9
bill = {"everything learns": state_bytes(billion, billion, 32),
        "nothing learns": state_bytes(billion, 0, 32),
        "a hundredth learns": state_bytes(1.01 * billion, 0.01 * billion, 32),
        "the same, frozen in 4.5 bits": state_bytes(1.01 * billion, 0.01 * billion, 4.5)}
tabulate({name: [size / 1e9 for size in sizes] for name, sizes in bill.items()}, "GB",
         weights=".1f", gradients=".1f", optimizer=".1f")
assert sum(bill["everything learns"]) == 16 * billion
assert sum(bill["the same, frozen in 4.5 bits"]) < 0.06 * sum(bill["everything learns"])

# %% [markdown] id="q-activations" lang="en"
# ## 2 · And what grows with the batch?
#
# A gradient needs what its operation read. So every block keeps tensors on the way forward, and gives them back on the way back: **activations**. Nobody writes them down, but they can be counted. Per token:
#
# | kept by | numbers | when |
# |---|---|---|
# | the two norms: what they read | 2 · width | always |
# | query, key, value | width · (1 + 2 · share) | always |
# | what attention makes of them | width | always |
# | query and key before they were turned | width · (1 + share) | gated block (RoPE) |
# | what the activation reads | hidden | ViT's block |
# | gate, activated gate, other half | 3 · hidden | gated block |
# | what the matrices read | 2 · width + hidden | something learns |
#
# `share` is how many keys there are for each query: 1, or less with grouped queries. The norms stay in the precision of the residual stream, so they are counted apart.

# %% [markdown] id="ex-block" lang="en"
# ### Your turn: `block_numbers` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `width`, `hidden`, `share` | as in the table |
# | `gated` | a LLaMA's block, else a ViT's |
# | `learns` | whether any matrix of the block learns |
# | out | `(stream, inside)`: the first row, and the sum of the others |

# %% id="block_numbers"
@exercise(memory.block_numbers)
def block_numbers(width, hidden, share, gated, learns):
    """sizes of a block -> (numbers in the stream, numbers inside), per token"""
    # 1. attention   2. the MLP   3. what matrices read, if they learn
    raise NotImplementedError

# %% [markdown] id="predict-block" lang="en"
# Autograd can be asked what it keeps: a hook sees every tensor that is saved. **Predict:** how far is your count from it, for nano-vlm and 16 pictures?

# %% id="count-nano"
from vlmcourse.families import efficient

MB = 2**20
counted = {name: [size / MB for size in efficient.measured_by(name)] for name in memory.METHODS}
tabulate(counted, "activations, MB", counted=".1f", measured=".1f")
assert all(abs(mine / measured - 1) < 0.1 for mine, measured in counted.values())

# %% [markdown] id="proved-block" lang="en"
# **What you just proved.** Your sums agree with autograd within a tenth, in our run within two hundredths. And a surprise stands in the table: freezing the encoder saves its activations, but LoRA saves almost none. The gradient still passes through every block.
#
# ## 3 · The ledger
#
# `memory.ledger` calls your two functions for encoder, projector and language model. One more thing decides: **when** is the peak? Activations go while gradients come, so they never stand there whole at the same time.
#
# For the proof we let a fresh process train a small LLaVA and read how much it grew.

# %% id="peak"
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.peak import measure_peak

config = LlavaConfig(ViTConfig(64, 8, width=192, depth=6, heads=4),
                     LlamaConfig(8000, 384, 8, 6, 2, 1024, tied=True), 3, -1)
parts, setting = memory.parts_of(config, tokens=128, predicted=40), memory.Setting(batch=8)
peaks = {}
for name in ("full", "LoRA"):
    measured = measure_peak(config, memory.METHODS[name], setting, 128, 40)["peak"]
    peaks[name] = memory.ledger(parts, memory.METHODS[name], setting).peak / MB, measured / MB
tabulate(peaks, "peak, MB", counted=".0f", measured=".0f")
assert all(abs(mine / measured - 1) < 0.1 for mine, measured in peaks.values())

# %% [markdown] id="llava-intro" lang="en"
# The same function for LLaVA-1.5-7B, batch 16, in bf16. **Predict:** which method is the first that fits on one 80 GB card?

# %% id="llava-bill"
published = memory.PUBLISHED["LLaVA-1.5-7B"]

def bill_of(name, recompute=False, batch=16):
    setting = memory.Setting(batch, "bf16 weights", recompute=recompute)
    return memory.ledger(published, memory.METHODS[name], setting)

kinds = ("weights", "gradients", "optimizer", "activations")
bars = {name: [memory.in_gib(bill_of(name).total(kind)) for kind in kinds]
        for name in memory.METHODS}
for name in ("full", "LoRA", "QLoRA"):
    bars[f"{name}, recomputed"] = [memory.in_gib(bill_of(name, True).total(kind)) for kind in kinds]
tabulate(bars, "GiB", **dict.fromkeys(kinds, ".1f"))
assert sum(bars["QLoRA, recomputed"]) < 24 < sum(bars["LoRA, recomputed"]) < 80 < sum(bars["LoRA"])

# %% id="bill-figure"
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.8, 3.2), layout="constrained")
colours, hatches = (roles.learned, roles.second, roles.first, roles.image), ("", "//", "..", "")
left = np.zeros(len(bars))
for kind, colour, hatch, sizes in zip(kinds, colours, hatches, np.array(list(bars.values())).T):
    ax.barh(list(bars), sizes, left=left, label=kind, color=colour, hatch=hatch)
    left += sizes
ax.axvline(80, linestyle="--", color=roles.text)
ax.set(xlabel="GiB on one GPU, batch 16; the dashed line is an 80 GB card")
ax.invert_yaxis(); ax.legend()
figure(fig, alt="Stacked bars of memory for eight ways to tune LLaVA-1.5-7B; activations are the "
                "longest part unless they are recomputed, and only then LoRA and QLoRA fit")

# %% [markdown] id="bill-lesson" lang="en"
# Nothing fits until activations are dealt with. The ledger's numbers for this model are counted, not measured: no such card was at hand.
#
# ## 4 · Forget, and compute again
#
# **Gradient checkpointing** keeps only what each block *reads*. On the way back the block runs once more, now with a memory; its gradients are taken and the memory is dropped. **By hand:** 32 blocks that keep 100 numbers each are 3,200. With 4 numbers each for the inputs, and one block at a time with its 100: 228.

# %% [markdown] id="ex-again" lang="en"
# ### Your turn: `gradients_again` · difficulty 4/5 · 12 min
#
# | | |
# |---|---|
# | `block` | a module; call it with the inputs |
# | `inputs`, `needs` | tensors, and which of them need a gradient |
# | `gradient` | of the loss, with respect to the block's output |
# | out | a list: one gradient per input (`None` if it needs none), then one for each parameter of the block that requires one |
#
# `torch.autograd.grad(output, wanted, gradient, allow_unused=True)` gives a gradient for each of `wanted`. Nothing may be left in `.grad`.

# %% id="gradients_again"
@exercise(recompute.gradients_again)
def gradients_again(block, inputs, needs, gradient):
    """block, [tensor], [bool], tensor -> [gradients of inputs] + [gradients of what learns]"""
    # 1. copies without a past: detach, requires_grad_   2. run them, with torch.enable_grad()
    # 3. ask for the gradients   4. put None where no gradient is needed
    raise NotImplementedError

# %% id="again-proved"
from torch.utils.checkpoint import checkpoint
from vlmcourse.models.language import Llama

torch.manual_seed(0)
block = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Dropout(0.5), torch.nn.Linear(64, 32))
tokens, gradients = torch.randn(4, 7, 32, requires_grad=True), {}
ways = {"plain": block, "yours": recompute.recomputed(block),
        "torch's": lambda tokens: checkpoint(block, tokens, use_reentrant=False)}
for name, way in ways.items():
    torch.manual_seed(1)                                           # the same dropout for all
    gradients[name] = torch.autograd.grad(way(tokens).square().sum(), [tokens, *block.parameters()])
gaps = {name: max((one - other).abs().max().item() for one, other in zip(some, gradients["plain"]))
        for name, some in gradients.items()}
tabulate(gaps, "checkpointing", largest_difference="")
assert max(gaps.values()) < 1e-6

# %% [markdown] id="chance-intro" lang="en"
# Your block drew random numbers for dropout, and on the second run it drew the *same* ones. The course stores the state of the random generator before the block, and restores it behind your back. **Predict:** what happens without?

# %% id="chance-break"
torch.manual_seed(1)
output = block(tokens)
(right,) = torch.autograd.grad(output.sum(), tokens)
careless = recompute.gradients_again(block, [tokens.detach()], [True], torch.ones_like(output))[0]
error = ((careless - right).norm() / right.norm()).item()
print(f"without the random state, the gradient is off by {error:.0%} of its size")
assert error > 0.3

# %% [markdown] id="price-intro" lang="en"
# No error is raised, and the loss may even fall. Now the price, on a language model of eight blocks: memory against time.

# %% id="again-price"
torch.manual_seed(0)
words, ids = Llama(LlamaConfig(500, 128, 8, 4, 2)), torch.randint(500, (8, 96))
price = {}
for name, on in (("kept", False), ("recomputed", True)):
    recompute.recompute_blocks(words, on)
    kept = memory.saved_bytes(lambda: words(ids).logsumexp(-1).mean(), words)
    start = time.process_time()
    for _ in range(4):
        words(ids).logsumexp(-1).mean().backward()
    price[name] = kept / MB, (time.process_time() - start) / 4
tabulate(price, "activations", MB=".1f", seconds_a_step=".2f")
assert price["recomputed"][0] < 0.35 * price["kept"][0]
assert price["recomputed"][1] > 1.05 * price["kept"][1]

# %% [markdown] id="again-lesson" lang="en"
# Memory falls to a fraction; each step is slower by about one forward pass, a third of it at most in theory. `recompute_blocks(model)` switches it on for encoder and language model alike.
#
# ## 5 · Half precision, and what falls through it
#
# bf16 has the range of fp32. **fp16** has not: nothing between 0 and 6·10⁻⁸, nothing above 65,504. On a T4 there is only fp16. **Predict:** what share of these gradients is left?

# %% id="fp16-loss"
torch.manual_seed(0)
small = torch.randn(10_000) * 10 ** torch.linspace(-10, -5, 10_000)
left = {f"loss × {scale:,}": (small * scale).half().ne(0).float().mean().item()
        for scale in (1, 256, 65_536)}
tabulate(left, "fp16", gradients_that_are_not_0=".1%")
assert left["loss × 1"] < 0.7 < 0.95 < left["loss × 65,536"]

# %% [markdown] id="scale-intro" lang="en"
# Multiply the loss, and every gradient grows by the same factor. Divide before the step, in fp32. But which factor? Too small loses, too large overflows. **Dynamic** scaling finds out: when a gradient is infinite, leave the step out and halve the scale; after 2,000 good steps, double it.

# %% [markdown] id="ex-scale" lang="en"
# ### Your turn: `next_scale` · difficulty 2/5 · 6 min
#
# | | |
# |---|---|
# | `scale`, `quiet` | of this step, and how many good steps in a row came before it |
# | `overflow` | whether this step's gradients overflowed |
# | `growth`, `backoff`, `interval` | factors, and good steps until it grows |
# | out | `(scale, quiet)` for the next step |

# %% id="next_scale"
@exercise(scaling.next_scale)
def next_scale(scale, quiet, overflow, growth=2.0, backoff=0.5, interval=2000):
    """-> (scale of the next step, good steps in a row)"""
    raise NotImplementedError

# %% id="scale-proved"
theirs = torch.amp.GradScaler("cpu", 2.0**10, growth_interval=3)
mine, weight = scaling.LossScaler(2.0**10, interval=3), torch.nn.Parameter(torch.ones(3))
stepper, scales = torch.optim.SGD([weight], 1e-4), []
for size in (1, 1, 1, torch.inf, 1, 1, torch.nan, 1, 1, 1, 1):
    for scaler in (mine, theirs):
        weight.grad = None
        scaler.scale((weight * size).sum()).backward()
        scaler.step(stepper)
    theirs.update()
    scales.append((mine.factor, theirs.get_scale()))
print([int(factor) for factor, _ in scales], "steps left out:", mine.skipped)
assert all(one == other for one, other in scales) and mine.skipped == 2 and weight.isfinite().all()

# %% [markdown] id="overflow-intro" lang="en"
# **Break it on purpose.** The same model in real fp16 gradients, once with a fixed scale that is too large and no look before the step, once with your rule. **Predict** the weights after ten steps.

# %% id="overflow"
def learn_in_half(watchful):
    torch.manual_seed(0)
    weight, scaler = torch.nn.Parameter(torch.randn(8)), scaling.LossScaler(2.0**24, interval=50)
    stepper, losses = torch.optim.SGD([weight], 0.05), []
    for _ in range(40):
        loss = (weight - 1).square().sum()
        (gradient,) = torch.autograd.grad(scaler.scale(loss), weight)
        weight.grad = gradient.half().float()                      # what fp16 can hold of it
        if watchful:
            scaler.step(stepper)
        else:
            weight.grad /= scaler.factor
            stepper.step()
        losses.append(loss.item())
    return losses, scaler

careless, _ = learn_in_half(watchful=False)
careful, scaler = learn_in_half(watchful=True)
tabulate({"fixed scale": (careless[0], careless[-1]), "your rule": (careful[0], careful[-1])},
         "loss", first=".2f", last=".4f")
print(f"{scaler.skipped} steps were left out; the scale fell to {scaler.factor:,.0f}")
assert not np.isfinite(careless[-1]) and careful[-1] < 0.1 * careful[0] and scaler.skipped > 5

# %% [markdown] id="q-nf4" lang="en"
# ## 6 · Frozen numbers need fewer bits
#
# A number that never learns needs no room for small steps. **NF4** keeps it in four bits: one of 16 levels, chosen so that each stands for as many normally distributed weights. Blocks of 64 share a scale, their largest absolute value.

# %% id="levels"
levels = quantise.normal_levels()
print([round(level, 2) for level in levels.tolist()])
assert levels[0] == -1 and levels[7] == 0 and levels[15] == 1

# %% [markdown] id="ex-quantise" lang="en"
# **By hand**, with the levels −1, 0, 1 and the block (2, −0.4, −1.8): the scale is 2; divided, (1, −0.2, −0.9); nearest levels 1, 0, −1, so numbers 2, 1, 0. Back: (2, 0, −2).
#
# ### Your turn: `quantise_blocks` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `weights` | `(block, weight)` |
# | `levels` | `(level,)`, rising |
# | out | numbers of levels, `uint8 (block, weight)`, and scales `(block,)` |
#
# A block of zeros has scale 0; do not divide by it.

# %% id="quantise_blocks"
@exercise(quantise.quantise_blocks)
def quantise_blocks(weights, levels):
    """(block, weight), (level,) -> uint8 (block, weight), (block,)"""
    # 1. scales   2. divide   3. which level is nearest?
    raise NotImplementedError

# %% [markdown] id="ex-dequantise" lang="en"
# ### Your turn: `dequantise_blocks` · difficulty 1/5 · 4 min
#
# And back: look up, multiply.

# %% id="dequantise_blocks"
@exercise(quantise.dequantise_blocks)
def dequantise_blocks(numbers, scales, levels):
    """uint8 (block, weight), (block,), (level,) -> (block, weight)"""
    raise NotImplementedError

# %% id="nf4-proved"
torch.manual_seed(0)
blocks = torch.randn(200, 64)
even = torch.linspace(-1, 1, 16)

def error_of(blocks, levels):
    back = dequantise_blocks(*quantise_blocks(blocks, levels), levels)
    return ((back - blocks).norm() / blocks.norm()).item()

spoilt = blocks.clone(); spoilt[:, 0] = 40.0                       # one weight that is far out
back = dequantise_blocks(*quantise_blocks(spoilt, levels), levels)
away = {"NF4": error_of(blocks, levels), "16 even levels": error_of(blocks, even),
        "one block for all": error_of(blocks.reshape(1, -1), levels),
        "NF4, one far out in each block": ((back - blocks)[:, 1:].norm()
                                           / blocks[:, 1:].norm()).item()}
tabulate(away, "levels", error=".1%")
assert away["NF4"] < away["16 even levels"] < away["NF4, one far out in each block"]

# %% [markdown] id="nf4-lesson" lang="en"
# Levels at normal quantiles beat even ones, small blocks beat a large one, and one weight that is far out spoils its 63 neighbours. That is why blocks are small.
#
# Four bits and a 32-bit scale for 64 make **4.5 bits** a weight. One trap cost us all of it: `linear(tokens, dequantised)` lets autograd keep the *dequantised* weight until backward. Our layer makes it again for the gradient.

# %% id="nf4-trap"
layer = quantise.QuantisedLinear(torch.nn.Linear(512, 512, bias=False))
tokens = torch.randn(8, 512, requires_grad=True)
naive = memory.saved_bytes(lambda: torch.nn.functional.linear(tokens, layer.weight), layer)
kept = memory.saved_bytes(lambda: layer(tokens), layer)
start = time.process_time(); [layer(tokens) for _ in range(30)]; four = time.process_time() - start
plain = torch.nn.Linear(512, 512, bias=False)
start = time.process_time(); [plain(tokens) for _ in range(30)]; whole = time.process_time() - start
print(f"kept for backward: {naive / MB:.2f} MB the naive way, {kept / MB:.2f} MB ours; "
      f"a product of 8 tokens takes {four / whole:.1f} times as long on this CPU")
assert naive == 512 * 512 * 4 and kept == 0

# %% [markdown] id="q-lora" lang="en"
# ## 7 · A detour, its scale and its direction
#
# LoRA leaves W alone and learns W + s · B A, with B and A thin. You will write it in chapter 17. Its scale s is α / rank. **Predict:** with α fixed, does rank 256 learn as fast as rank 4?

# %% id="scale-measure"
torch.manual_seed(0)
grown = {}
for rank in (4, 16, 64, 256):
    down, up = torch.randn(rank, 64) / 8, torch.randn(64, rank) * 0.01
    said = (torch.randn(500, 64) @ down.T @ up.T).std().item()
    grown[rank] = [said * lora.lora_scale(16, rank, stabilised) for stabilised in (False, True)]
tabulate(grown, "rank", alpha_by_rank=".3f", alpha_by_root=".3f")
assert grown[256][0] < 0.2 * grown[4][0] and 0.7 < grown[256][1] / grown[4][1] < 1.4

# %% [markdown] id="rslora" lang="en"
# Divided by the rank, a wide detour whispers. **rsLoRA** divides by the root of the rank, and its size stays. **Break it:** forget the division altogether, and a rank of 256 with α = 16 speaks 16 times as loud as rsLoRA and 256 times as loud as LoRA.

# %% id="scale-break"
def learn_with(scale, rank=64, steps=60):
    torch.manual_seed(0)
    frozen, goal = torch.nn.Linear(32, 32).requires_grad_(False), torch.randn(32, 32) / 6
    layer, x = lora.LoraLinear(frozen, rank, 16.0), torch.randn(256, 32)
    layer.scale, stepper = scale, torch.optim.Adam([layer.down, layer.up], 3e-3)
    for _ in range(steps):
        loss = (layer(x) - x @ goal.T).square().mean()
        stepper.zero_grad(); loss.backward(); stepper.step()
    return loss.item()

ends = {"α / rank": learn_with(16 / 64), "α / √rank": learn_with(16 / 8),
        "α, undivided": learn_with(16.0), "α · rank": learn_with(16.0 * 64)}
tabulate(ends, "scale", loss_after_60_steps=".3f")
assert ends["α · rank"] > 10 * ends["α / √rank"] and ends["α / √rank"] < ends["α / rank"]

# %% [markdown] id="ex-dora" lang="en"
# Too quiet is slow: α / rank is twenty times behind in our run. Too loud by 64 learns nothing. Undivided was as good as rsLoRA at this rate, since Adam forgives a factor of eight; do not count on it.
#
# **DoRA** takes the changed weight apart: the *direction* of each row comes from W + s · B A, its *length* is a number of its own that learns, the `magnitude`.
#
# ### Your turn: `dora_forward` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `tokens`, `frozen`, `down`, `up`, `scale` | as in LoRA; `frozen` is a layer: call it, or read its `.weight` and `.bias`, which may be None |
# | `magnitude` | `(out,)` |
# | out | what a layer says whose rows are divided by their length and multiplied by `magnitude`; the bias is not stretched |
#
# `lora.lora_merge(weight, down, up, scale)` gives W + s · B A, `lora.lora_forward(tokens, frozen, down, up, scale)` what it says. The lengths are constants to the gradient: give `lora_merge` detached matrices.

# %% id="dora_forward"
@exercise(lora.dora_forward)
def dora_forward(tokens, frozen, down, up, scale, magnitude):
    """(..., width) -> (..., out)"""
    # 1. lengths of the rows of the merged weight   2. what LoRA says, without the bias   3. stretch
    raise NotImplementedError

# %% id="dora-proved"
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
plain = torch.nn.Sequential(torch.nn.Linear(12, 9))
options = dict(r=3, lora_alpha=5, target_modules=["0"], init_lora_weights=False, use_dora=True)
theirs = get_peft_model(plain, LoraConfig(**options)).base_model.model[0]
down, up = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
magnitude = theirs.lora_magnitude_vector["default"].weight
torch.nn.init.uniform_(magnitude, 0.5, 2)                          # away from where it starts
x = torch.randn(5, 12)
mine = dora_forward(x, theirs.base_layer, down, up, 5 / 3, magnitude)
gap = (theirs(x) - mine).abs().max().item()
print(f"yours and peft's DoRA differ by {gap:.1e}")
assert gap < 1e-5

# %% [markdown] id="q-arms" lang="en"
# ## 8 · Five ways to learn something new
#
# nano-vlm has only seen clear pictures. Fog takes seven tenths of the contrast away. All arms get the same 800 foggy pictures, 50 steps, two seeds; nobody shows them a clear picture again. **Predict:** which learns fog best, and which forgets least?

# %% id="fog-figure"
from vlmcourse.world import scenes
from vlmcourse.world.render import render

clear = render(scenes.sample("test", 3))
fig, axes = plt.subplots(1, 6, figsize=(6.8, 1.4), layout="constrained")
for ax, picture in zip(axes, [*clear, *efficient.in_fog(clear)]):
    ax.imshow(picture); ax.axis("off")
figure(fig, alt="Three scenes, and the same three scenes in fog, pale before a light grey")

# %% id="arms"
from vlmcourse.data.assets import shipped

card = json.loads(shipped("efficient-trials.json").read_text())
before, arms = card["before"], card["arms"]
mean = {name: [np.mean(arm[what]) for what in ("new", "old", "words", "seconds")]
        + [arm["learned"] / 1e3, arm["peak, counted"] / MB] for name, arm in arms.items()}
tabulate({"before": [*before.values(), 0, 0, 0], **mean}, "arm", fog=".1%", clear=".1%",
         perplexity=".2f", CPU_seconds=".0f", thousand_numbers=",.0f", peak_MB=".0f")
print(card["command"], "·", card["hardware"])
assert all(row[0] > before["new"] and row[1] < before["old"] for row in mean.values())
assert mean["full"][0] == max(row[0] for row in mean.values())
assert mean["frozen encoder"][1] == max(row[1] for row in mean.values())

# %% [markdown] id="arms-lesson" lang="en"
# Every arm got better in fog, and every arm forgot something of clear pictures. Tuning all of it sees best, 97 % in our run, for a reason: fog is a problem of the **eye**, and only that arm may change the eye. It also forgets most. The projector alone comes within three points, with a fiftieth of the numbers: a paler picture is nearly a linear change of features, and a projector can undo that.
#
# **Not as often told:** LoRA did not forget less than tuning the whole language model did, 93.6 % against 96.4 % of clear pictures. Its rate was three times as high, and one rate for both would favour one of them. The language itself stayed: the perplexity of captions moved little in all arms. And LoRA saves less memory here than its share of numbers suggests, since activations are most of it.
#
# ## 9 · QLoRA on a real language model
#
# SmolLM2 has 135 million numbers, of which 106 million stand in its blocks. You will meet it in chapter 17; here it comes with the course's eye and a projector that maps patches near words, and without any LoRA. Its blocks go into four bits, by your functions.

# %% id="real"
from vlmcourse.families import real
from vlmcourse.interop import adapters, distillation

tuned, tokenizer, _ = real.load_real()
model = adapters.without_lora(tuned); del tuned                    # before it learned to answer
speaker = real.speaker(model, tokenizer)
text = {"32 bits": distillation.perplexity(model.language, tokenizer)}
blocks = model.language.blocks
size = {"32 bits": sum(w.numel() * w.element_size() for w in blocks.parameters()) / MB}
quantise.quantise_layers(blocks)
text["4.5 bits"] = distillation.perplexity(model.language, tokenizer)
stored = [*blocks.parameters(), *blocks.buffers()]
size["4.5 bits"] = sum(w.numel() * w.element_size() for w in stored) / MB
tabulate({bits: (size[bits], text[bits]) for bits in text}, "blocks", MB=".0f", perplexity=".1f")
assert size["4.5 bits"] < 0.15 * size["32 bits"] and text["4.5 bits"] < 1.5 * text["32 bits"]

# %% [markdown] id="real-intro" lang="en"
# A seventh of the memory, and plain sentences surprise it a little more. Now it learns to answer, as in chapter 17: LoRA in the upper half, ten steps of four pictures. The four-bit weights stay as they are.

# %% id="real-train"
from vlmcourse.evaluation.answers import grade_sentences
from vlmcourse.widgets.plot import LivePlot

new = scenes.sample("test", 16, objects=(1, 2))
questions = [row[:-1] for row in real.scene_questions(new, seed=1, kinds=("colour", "shape"))]
new_seen = speaker.features(render(new))
named = lambda seen: grade_sentences(speaker, seen, questions).named.nanmean().item()
score = {"before": named(new_seen)}
sizes = budget(cpu=dict(steps=10, size=4), gpu=dict(steps=100, size=16))
train = scenes.sample("train", sizes.steps * sizes.size, start=20_000, objects=(1, 2))
lessons = real.scene_questions(train, kinds=("colour", "shape"))
with LivePlot("SmolLM2 in four bits learns to answer") as plot:
    real.tune(model, tokenizer, speaker.features(render(train)), lessons, steps=sizes.steps,
              size=sizes.size, watch=plot, name="SmolLM2 with QLoRA")

# %% id="real-score"
score["after"], score["after, another image"] = named(new_seen), named(new_seen.roll(1, 0))
text["tuned"] = distillation.perplexity(model.language, tokenizer)
tabulate(score, "4.5 bits", colours_and_shapes_named=".0%")
print(f"perplexity of plain sentences: {text['4.5 bits']:.0f} before, {text['tuned']:.0f} after")
assert score["after"] > score["before"] + 0.15 and score["after"] > score["after, another image"]

# %% [markdown] id="adapter-intro" lang="en"
# **Hand it over.** What was learned is a few megabytes. `save_adapter` writes them in `peft`'s format, and `peft` opens them on an exported model.

# %% id="adapter"
from peft import PeftModel
from pathlib import Path
from vlmcourse.interop import llava

folder = Path(tempfile.mkdtemp()) / "adapter"
adapters.save_adapter(model, folder)
theirs = llava.to_transformers(adapters.without_lora(model))       # four bits as ordinary numbers
opened = PeftModel.from_pretrained(theirs, folder).eval()
ids = torch.cat([speaker.words.opening(), torch.full((64,), model.config.image_token),
                 torch.tensor(tokenizer("What is it?")["input_ids"])])[None]
from vlmcourse.world.render import to_tensor
pixels = to_tensor(render(new[:1]))
with torch.no_grad():
    mine, peft_says = model(ids, pixels), opened(input_ids=ids, pixel_values=pixels).logits
megabytes = sum(file.stat().st_size for file in folder.iterdir()) / MB
gap = (mine - peft_says).abs().max().item()
print(f"{megabytes:.1f} MB; peft's scores differ from ours by {gap:.1e}")
assert gap < 1e-4 * mine.abs().max() and megabytes < 12

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A number that learns costs 16 bytes with AdamW; a frozen one costs its bits. Activations grow with the batch, and a gradient that only passes through still needs most of them.
# 2. Gradient checkpointing keeps what a block reads and runs it again: memory falls to a fraction, a step takes about a third longer.
# 3. fp16 loses small gradients; the loss is scaled, and a step that overflowed is left out.
# 4. NF4 keeps frozen weights in 4.5 bits. LoRA learns beside them; its scale decides how loudly, DoRA gives each row a length.
# 5. Where the new lies decides what should learn: fog was learned best with the eye, and nearly as well by the projector alone.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("15_efficient_finetuning/1")

# %% id="quiz-2"
quiz("15_efficient_finetuning/2")

# %% id="quiz-3"
quiz("15_efficient_finetuning/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Hu et al. 2021, LoRA, [arXiv:2106.09685](https://arxiv.org/abs/2106.09685), section 4; Kalajdzievski 2023, rsLoRA, [arXiv:2312.03732](https://arxiv.org/abs/2312.03732); Liu et al. 2024, DoRA, [arXiv:2402.09353](https://arxiv.org/abs/2402.09353), section 4
# - Dettmers et al. 2023, QLoRA, [arXiv:2305.14314](https://arxiv.org/abs/2305.14314), sections 2 and 3
# - Chen et al. 2016, gradient checkpointing, [arXiv:1604.06174](https://arxiv.org/abs/1604.06174), section 4
# - Micikevicius et al. 2018, mixed precision, [arXiv:1710.03740](https://arxiv.org/abs/1710.03740), section 3
# - Rajbhandari et al. 2020, ZeRO, [arXiv:1910.02054](https://arxiv.org/abs/1910.02054), section 3; Korthikanti et al. 2022, activations, [arXiv:2205.05198](https://arxiv.org/abs/2205.05198), section 4
#
# **Next:** [16 · Many images and video](16_multi_image_video.ipynb)
