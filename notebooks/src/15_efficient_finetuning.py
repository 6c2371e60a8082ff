# %% [markdown] id="title" lang="en"
# # 15 · Efficient fine-tuning: what fits, and what it costs
#
# **115 minutes.** Everything runs on two CPU cores; a GPU trains faster.
#
# "CUDA out of memory" ends more first projects than any wrong formula. Which of your tensors filled the card? Today you count them before they exist, and then you take them away one kind at a time: frozen parts, LoRA, four bits, recomputed activations, half precision. Each saving has a price, and you measure that too.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# The map below lights no part: encoder, projector and language model each get a line in the bill. You have tuned a projector (chapter 07) and a whole model (chapter 08); LoRA and 8 or 4 bits you may know from language models.
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
# **Question.** LLaVA-1.5 has 7.06 billion parameters. In fp32 they are 28 GB. Why does tuning all of them not fit on an 80 GB card?
#
# **By hand**, for one parameter that learns with AdamW: 4 bytes for itself, 4 for its gradient, 8 for two running averages. 16 bytes. A frozen one needs its own bits and nothing else. So 7.06 billion × 16 = 113 GB, before a single image is shown.
#
# A GB is 10⁹ bytes. Allocators count in MiB and GiB, 2²⁰ and 2³⁰ bytes; so do we from section 2 on.

# %% [markdown] id="ex-states" lang="en"
# ### Your turn: `state_bytes` · difficulty 1/5 · 6 min
#
# | | |
# |---|---|
# | `parameters`, `learned` | how many parameters a part has, and how many of them learn |
# | `bits` | of each parameter that does *not* learn |
# | `weight`, `gradient`, `optimizer` | bytes for each one that learns |
# | out | `(weights, gradients, optimizer)`, each in bytes |
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
        "1 % more beside it, which learns": state_bytes(1.01 * billion, 0.01 * billion, 32),
        "so, and the rest in 4.5 bits": state_bytes(1.01 * billion, 0.01 * billion, 4.5)}
tabulate({name: [size / 1e9 for size in sizes] for name, sizes in bill.items()}, "GB",
         weights=".1f", gradients=".1f", optimizer=".1f")
assert sum(bill["everything learns"]) == 16 * billion
assert sum(bill["so, and the rest in 4.5 bits"]) < 0.06 * sum(bill["everything learns"])

# %% [markdown] id="q-activations" lang="en"
# ## 2 · And what grows with the batch?
#
# The last two lines are LoRA and QLoRA; sections 6 and 7 build them. By these sums both would fit almost anywhere. Yet people who use them run out of memory. What is missing?
#
# A gradient needs what its operation read. So every block keeps tensors on the way forward, and frees them on the way back: **activations**. No file lists them, but they can be counted. Per token:
#
# | kept by | numbers | when |
# |---|---|---|
# | the two norms: what they read | 2 · width | always |
# | query, key, value | width · (1 + 2 · share) | always |
# | what attention makes of them | width | always |
# | query and key before RoPE turned them | width · (1 + share) | gated block |
# | what the activation reads | hidden | ViT's block |
# | gate, activated gate, up | 3 · hidden | gated block |
# | what the matrices read | 2 · width + hidden | something learns |
#
# A ViT's block is not gated, a LLaMA's is (SwiGLU). `share` is how many key heads there are for each query head: 1, or less with grouped queries. The first row is counted apart: norms read the residual stream, which stays in fp32 where the rest is in half precision.
#
# **By hand:** a ViT's block of width 4, hidden 8, share 1. The stream keeps 2 · 4 = 8. Inside stand 4 · 3 + 4 + 8 = 24, and 2 · 4 + 8 = 16 more if it learns: 40. "Always" means: if a gradient passes through. Where nothing learns in a block nor before it, none passes, and nothing is kept.

# %% [markdown] id="ex-block" lang="en"
# ### Your turn: `block_numbers` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `width`, `hidden`, `share` | as in the table |
# | `gated` | a LLaMA's block, else a ViT's |
# | `learns` | whether any matrix of the block learns |
# | out | `(stream, inside)`: the first row of the table above, and the sum of the others |

# %% id="block_numbers"
@exercise(memory.block_numbers)
def block_numbers(width, hidden, share, gated, learns):
    """sizes of a block -> (numbers in the stream, numbers inside), per token"""
    # 1. attention   2. the MLP   3. what matrices read, if they learn
    raise NotImplementedError

# %% [markdown] id="predict-block" lang="en"
# Five ways to tune a VLM, for the rest of the chapter. In all of them the projector learns:
#
# | | vision encoder | language model |
# |---|---|---|
# | full | learns | learns |
# | frozen encoder | frozen | learns |
# | projector only | frozen | frozen |
# | LoRA | frozen | frozen; thin matrices beside it learn |
# | QLoRA | frozen | the same, and what is frozen has 4.5 bits |
#
# Autograd can be asked what it keeps: a hook sees every tensor that is saved. Here for `nano-vlm` and 16 images. **Predict** the order of the five. And how much does LoRA save against "frozen encoder", though it learns nine times fewer parameters?

# %% id="count-nano"
from vlmcourse.families import efficient

MiB = 2**20
counted = {name: [size / MiB for size in efficient.measured_by(name)] for name in memory.METHODS}
tabulate(counted, "activations, MiB", counted=".1f", measured=".1f")
assert all(abs(mine / measured - 1) < 0.1 for mine, measured in counted.values())
assert 0.8 < counted["LoRA"][1] / counted["frozen encoder"][1] < 1

# %% [markdown] id="proved-block" lang="en"
# **What you just proved.** Your sums agree with autograd within a tenth, in our run within two hundredths. And a surprise stands in the table: freezing the encoder saves all its activations, but LoRA saves only a tenth more. The gradient still passes through every block of the language model.
#
# ## 3 · The ledger
#
# `memory.ledger` calls your two functions for encoder, projector and language model. One more thing decides: **when** is the peak? Backward walks from the language model to the encoder. Activations go while gradients come, so they never stand there whole at the same time.
#
# **By hand:** the language model has activations of 10 and gradients of 8, the encoder 6 and 2. Backward starts with 16. When it has passed the language model, 6 and 8 are there, 14; at the end 10. Beside weights and optimizer the peak is 16, not 26.
#
# For the proof a fresh process trains a small LLaVA, and we read how much it grew. It takes half a minute.

# %% id="peak"
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.peak import measure_peak

config = LlavaConfig(ViTConfig(width=192, depth=6, heads=4),
                     LlamaConfig(8000, width=384, depth=8, heads=6, hidden=1024, tied=True),
                     image_token=3, layer=-1)
setting, of_a_text = memory.Setting(batch=8), dict(tokens=128, predicted=40)   # 40 are answers
parts, peaks = memory.parts_of(config, **of_a_text), {}
for name in ("full", "LoRA"):
    measured = measure_peak(config, memory.METHODS[name], setting, **of_a_text)["peak"]
    peaks[name] = memory.ledger(parts, memory.METHODS[name], setting).peak / MiB, measured / MiB
tabulate(peaks, "peak, MiB", counted=".0f", measured=".0f")
assert all(abs(mine / measured - 1) < 0.1 for mine, measured in peaks.values())

# %% [markdown] id="llava-intro" lang="en"
# The same function for LLaVA-1.5-7B: 16 images, rows of 2,048 tokens, and everything in bf16, 2 bytes for a weight and for its gradient. The optimizer then keeps its averages and a second weight in fp32, 12 bytes together. **Predict:** which of the five fit on one 80 GB card?

# %% id="llava-bill"
published = memory.PUBLISHED["LLaVA-1.5-7B"]

def bill_of(name, recompute=False, batch=16):
    setting = memory.Setting(batch, "bf16 weights", recompute=recompute)
    return memory.ledger(published, memory.METHODS[name], setting)   # "recomputed": section 4

kinds = ("weights", "gradients", "optimizer", "activations")
bars = {name: [memory.in_gib(bill_of(name).total(kind)) for kind in kinds]
        for name in memory.METHODS}
for name in ("full", "LoRA", "QLoRA"):
    bars[f"{name}, recomputed"] = [memory.in_gib(bill_of(name, True).total(kind)) for kind in kinds]
tabulate(bars, "GiB", **dict.fromkeys(kinds, ".1f"))
assert sum(bars["QLoRA, recomputed"]) < 24 < sum(bars["LoRA, recomputed"]) < 80
assert min(sum(bars[name]) for name in memory.METHODS) > 80

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
# None of the five fits until activations are dealt with. Then LoRA has room, QLoRA even fits a card of 24 GB, and full tuning still asks for more than one card: its optimizer alone is 79 GiB. These numbers are counted, not measured.
#
# ## 4 · Forget, and compute again
#
# **Gradient checkpointing** (Chen et al. 2016) keeps only what each block *reads*. On the way back the block runs once more, and this time autograd records it; the gradients are taken and the record is dropped. **By hand:** 32 blocks that keep 100 numbers each are 3,200. With 4 numbers for what each reads, and one block at a time with its 100: 228.

# %% [markdown] id="ex-again" lang="en"
# ### Your turn: `gradients_again` · difficulty 4/5 · 12 min
#
# | | |
# |---|---|
# | `block` | a module; call it with the inputs |
# | `inputs`, `needs` | tensors, and which of them need a gradient |
# | `gradient` | of the loss, with respect to the block's output |
# | out | a list: one gradient per input (`None` if it needs none), then one for each parameter that requires one, in the order of `block.parameters()` |
#
# `torch.autograd.grad(output, wanted, gradient, allow_unused=True)` gives a gradient for each of `wanted`, None where the output does not depend on it. Nothing may be left in `.grad`.

# %% id="gradients_again"
@exercise(recompute.gradients_again)
def gradients_again(block, inputs, needs, gradient):
    """block, [tensor], [bool], tensor -> [gradients of inputs] + [gradients of what learns]"""
    # 1. copies that share no graph: detach, requires_grad_   2. run them, with torch.enable_grad()
    # 3. ask for the gradients   4. put None where no gradient is needed
    raise NotImplementedError

# %% id="again-proved"
from torch.utils.checkpoint import checkpoint
from vlmcourse.models.language import Llama

torch.manual_seed(0)
block = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Dropout(0.5), torch.nn.Linear(64, 32))
tokens, gradients = torch.randn(4, 7, 32, requires_grad=True), {}
ways = {"plain": block, "yours": recompute.recomputed(block),         # its backward calls yours
        "torch's": lambda tokens: checkpoint(block, tokens, use_reentrant=False)}
for name, way in ways.items():
    torch.manual_seed(1)                                           # the same dropout for all
    gradients[name] = torch.autograd.grad(way(tokens).square().sum(), [tokens, *block.parameters()])
gaps = {name: max((one - other).abs().max().item() for one, other in zip(some, gradients["plain"]))
        for name, some in gradients.items()}
tabulate(gaps, "checkpointing", largest_difference="")
assert max(gaps.values()) < 1e-6

# %% [markdown] id="chance-intro" lang="en"
# The block drew random numbers for dropout, and on the second run it drew the *same* ones. `recomputed` stores the state of the random generator before the block, and restores it before it calls you. **Predict:** what happens without?

# %% id="chance-break"
torch.manual_seed(1)
output = block(tokens)
(right,) = torch.autograd.grad(output.sum(), tokens)
careless = recompute.gradients_again(block, [tokens.detach()], [True], torch.ones_like(output))[0]
error = ((careless - right).norm() / right.norm()).item()
print(f"without the random state, the gradient is off by {error:.0%} of its size")
assert error > 0.3

# %% [markdown] id="price-intro" lang="en"
# No error is raised. Only a comparison like this one finds it. Now the price, on a language model of eight blocks: memory against time. **Predict** both: a step is one pass forward and one back, and the way back costs about two forward.

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
    price[name] = kept / MiB, (time.process_time() - start) / 4
tabulate(price, "activations", MiB=".1f", seconds_a_step=".2f")
assert price["recomputed"][0] < 0.35 * price["kept"][0]
assert price["recomputed"][1] > 1.05 * price["kept"][1]

# %% [markdown] id="again-lesson" lang="en"
# Memory falls to a twelfth in our run. A step runs forward twice instead of once, four parts of work instead of three: a third more time in theory, and about that in our run. `recompute_blocks(model)` switches it on for encoder and language model alike.
#
# ## 5 · Half precision, and what falls through it
#
# bf16 has the range of fp32. **fp16** has not: nothing between 0 and 6·10⁻⁸, nothing above 65,504. A T4, as on free Colab, computes in fp16 but has no bf16. Take gradients between 10⁻¹⁰ and 10⁻⁵, as many in each power of ten. **Predict:** what share of them is not 0 in fp16? And after the loss was multiplied by 256?

# %% id="fp16-loss"
torch.manual_seed(0)
small = torch.randn(10_000) * 10 ** torch.linspace(-10, -5, 10_000)
left = {f"loss × {scale:,}": (small * scale).half().ne(0).float().mean().item()
        for scale in (1, 256, 65_536)}
tabulate(left, "fp16", gradients_that_are_not_0=".1%")
assert left["loss × 1"] < 0.7 < 0.95 < left["loss × 65,536"]

# %% [markdown] id="scale-intro" lang="en"
# Multiply the loss, and every gradient grows by the same factor. Divide before the step, in fp32. But which factor? Too small loses, too large overflows. **Dynamic** scaling finds out: when a gradient is infinite or NaN, leave the step out and halve the scale; after 2,000 good steps in a row, double it. Either way, count from 0 again.

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
print("scale after each step:", *[int(factor) for factor, _ in scales])
print("torch's GradScaler says the same; steps left out:", mine.skipped)
assert all(one == other for one, other in scales) and mine.skipped == 2 and weight.isfinite().all()

# %% [markdown] id="overflow-intro" lang="en"
# **Break it on purpose.** Eight weights are to become 1. Their gradients pass through fp16, and the loss is multiplied by 2²⁴. Once every step is taken, whatever came; once your rule looks first. **Predict** both losses after 40 steps, and how many of them your rule leaves out.

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
# ## 6 · Frozen weights need fewer bits
#
# A weight that never learns needs no room for small steps. **NF4** (Dettmers et al. 2023) keeps it in four bits: one of 16 levels. They are quantiles of the normal distribution, so that each level stands for about as many weights; 0 is one of them, so seven lie below and eight above. Blocks of 64 weights share a scale, their largest absolute value.

# %% id="levels"
levels = quantise.normal_levels()
print([round(level, 2) for level in levels.tolist()])
assert levels[0] == -1 and levels[7] == 0 and levels[15] == 1

# %% [markdown] id="ex-quantise" lang="en"
# **By hand**, with the levels −1, 0, 1 and the block (2, −0.4, −1.8): the scale is 2; divided, (1, −0.2, −0.9); nearest levels 1, 0, −1, with the indices 2, 1, 0. Back: (2, 0, −2).
#
# ### Your turn: `quantise_blocks` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `weights` | `(block, weight)` |
# | `levels` | `(level,)`, rising |
# | out | for each weight the index of its nearest level, `uint8 (block, weight)`; and the scales `(block,)` |
#
# A block of zeros has scale 0; do not divide by it. Its weights get the level nearest to 0.

# %% id="quantise_blocks"
@exercise(quantise.quantise_blocks)
def quantise_blocks(weights, levels):
    """(block, weight), (level,) -> uint8 (block, weight), (block,)"""
    # 1. scales   2. divide   3. which level is nearest?
    raise NotImplementedError

# %% [markdown] id="ex-dequantise" lang="en"
# ### Your turn: `dequantise_blocks` · difficulty 1/5 · 4 min
#
# And back: each number is an index into `levels`. Look it up, and multiply by the scale of its block.

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
# Levels at normal quantiles beat even ones, small blocks beat a large one, and one weight that is far out spoils its 63 neighbours. That is why blocks are small: it spoils no others.
#
# Four bits and a 32-bit scale for 64 make **4.5 bits** a weight. One trap undoes all of it: `linear(tokens, dequantised)` lets autograd keep the *dequantised* weight until backward. Our layer makes it again for the gradient.

# %% id="nf4-trap"
layer = quantise.QuantisedLinear(torch.nn.Linear(512, 512, bias=False))
tokens = torch.randn(8, 512, requires_grad=True)
naive = memory.saved_bytes(lambda: torch.nn.functional.linear(tokens, layer.weight), layer)
kept = memory.saved_bytes(lambda: layer(tokens), layer)
start = time.process_time(); [layer(tokens) for _ in range(30)]; four = time.process_time() - start
plain = torch.nn.Linear(512, 512, bias=False)
start = time.process_time(); [plain(tokens) for _ in range(30)]; whole = time.process_time() - start
print(f"kept for backward: {naive / MiB:.2f} MiB the naive way, {kept / MiB:.2f} MiB ours; "
      f"a product of 8 tokens takes {four / whole:.1f} times as long on this CPU")
assert naive == 512 * 512 * 4 and kept == 0

# %% [markdown] id="q-lora" lang="en"
# ## 7 · A detour, its scale and its direction
#
# LoRA leaves W alone and learns W + s · B A (Hu et al. 2021). B and A are thin: a detour beside W through `rank` numbers. You will write it in chapter 17; here the question is its scale, s = α / rank with a fixed α. B A sums over the rank, and sums of random terms grow with the root of their count. **Predict:** how large is s · B A x at rank 256, compared with rank 4?

# %% id="scale-measure"
torch.manual_seed(0)
grown = {}
for rank in (4, 16, 64, 256):
    down, up = torch.randn(rank, 64) / 8, torch.randn(64, rank) * 0.01
    said = (torch.randn(500, 64) @ down.T @ up.T).std().item()
    grown[rank] = [said * lora.lora_scale(16, rank, stabilised) for stabilised in (False, True)]
tabulate(grown, "size at rank", **{"α / rank": ".3f", "α / √rank": ".3f"})
assert grown[256][0] < 0.2 * grown[4][0] and 0.7 < grown[256][1] / grown[4][1] < 1.4

# %% [markdown] id="rslora" lang="en"
# √64 = 8 times larger, divided by 64: an eighth. A wide detour whispers. **rsLoRA** (Kalajdzievski 2023) divides by the root of the rank, and the size stays. **Break it:** at rank 64 with α = 16, LoRA's scale is 0.25 and rsLoRA's 2. Forget the division and it is 16; multiply instead, and it is 1,024. **Predict** which of the four learn a new matrix in 60 steps of Adam.

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

ends = {"before": learn_with(0.0, steps=1), "α / rank": learn_with(16 / 64),
        "α / √rank": learn_with(16 / 8),
        "α, undivided": learn_with(16.0), "α · rank": learn_with(16.0 * 64)}
tabulate(ends, "scale", loss_after_60_steps=".3f")
assert ends["α · rank"] > 0.4 * ends["before"] and ends["α / √rank"] < 0.2 * ends["α / rank"]

# %% [markdown] id="ex-dora" lang="en"
# Too quiet is slow: with α / rank the loss is twenty times rsLoRA's in our run. Multiplied, it hardly learns at all. Undivided was as good as rsLoRA at this rate: Adam forgave a factor of eight. Do not count on it.
#
# **DoRA** (Liu et al. 2024) takes the changed weight apart: the *direction* of each row comes from W + s · B A, its *length* is a number of its own that learns, the `magnitude`. **By hand:** the row (3, 4) has length 5; with magnitude 10 it becomes (6, 8). At first the magnitude is the length of W's row, so nothing changes.
#
# ### Your turn: `dora_forward` · difficulty 3/5 · 10 min
#
# | | |
# |---|---|
# | `tokens`, `frozen`, `down`, `up`, `scale` | as in LoRA; `frozen` is a layer: call it, or read its `.weight` and `.bias`, which may be None |
# | `magnitude` | `(out,)` |
# | out | `(..., out)`: what a layer says when each row of its merged weight is divided by the row's length and multiplied by its magnitude; the bias is not stretched |
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
# `nano-vlm` has only seen clear images. Fog takes seven tenths of the contrast away. All five ways get the same 800 images in fog, 50 steps of 16, two seeds; a clear image is never shown again. **Predict:** which learns fog best, and which forgets least?

# %% id="fog-figure"
from vlmcourse.world import scenes
from vlmcourse.world.render import render

three = render(scenes.sample("test", 3))
fig, axes = plt.subplots(1, 6, figsize=(6.8, 1.4), layout="constrained")
for ax, picture in zip(axes, [*three, *efficient.in_fog(three)]):
    ax.imshow(picture); ax.axis("off")
figure(fig, alt="Three scenes, and the same three scenes in fog, pale before a light grey")

# %% id="arms"
from vlmcourse.data.assets import shipped

card = json.loads(shipped("efficient-trials.json").read_text())
before, arms = card["before"], card["arms"]                        # an arm is one of the five ways
mean = {name: [np.mean(arm[what]) for what in ("new", "old", "words", "seconds")]
        + [arm["learned"] / 1e3, arm["peak, counted"] / MiB] for name, arm in arms.items()}
nothing = [float("nan")] * 3
tabulate({"before": [*before.values(), *nothing], **mean}, "right in", fog=".1%", clear=".1%",
         perplexity=".2f", CPU_seconds=".0f", thousands_that_learn=",.0f", peak_MiB=".0f")
print("made by:", card["command"], "·", card["hardware"])
assert all(row[0] > before["new"] and row[1] < before["old"] for row in mean.values())
assert mean["full"][0] == max(row[0] for row in mean.values())
assert mean["frozen encoder"][1] == max(row[1] for row in mean.values())

# %% [markdown] id="arms-lesson" lang="en"
# Every arm got better in fog, and every arm forgot something of clear images. Full tuning sees best, 97 % in our run. It also forgets most. Fog is a matter of the **encoder**, and only this arm may change it. Yet the projector alone ends three points behind, with a fiftieth of the parameters. How can it? It begins with a linear layer. Compare the encoder's features of the same scenes, clear and in fog. **Predict:** how much of what the fog changed can one linear map undo, on scenes it was not fitted to?

# %% id="fog-linear"
from vlmcourse.families.making import load_speaker

nano, _ = load_speaker("nano-vlm")
shown = [render(scenes.sample(split, 200)) for split in ("train", "test")]
clear, new_clear = (nano.features(images).flatten(0, 1) for images in shown)   # (patch, width)
foggy, new_foggy = (nano.features(efficient.in_fog(images)).flatten(0, 1) for images in shown)
linear = torch.linalg.lstsq(foggy - foggy.mean(0), clear - clear.mean(0)).solution
undone = (new_foggy - foggy.mean(0)) @ linear + clear.mean(0)
spread = (new_clear - new_clear.mean(0)).square().sum()
alike = {name: 1 - ((seen - new_clear).square().sum() / spread).item()
         for name, seen in (("as they are", new_foggy), ("through a linear map", undone))}
tabulate(alike, "features in fog", share_of_the_clear_ones_explained=".0%")
assert 1 - alike["through a linear map"] < 0.6 * (1 - alike["as they are"])

# %% [markdown] id="fog-linear-lesson" lang="en"
# Fog changes a sixth of what the features say, and a linear map takes more than half of it back. That is within a projector's reach; the rest needs the encoder.
#
# **Not as often told:** LoRA did not forget less than tuning the whole language model did, 93.6 % right about clear images against 96.4 %. Mind that its rate was three times as high; one rate for both would favour one of them. The language itself stayed: the perplexity of captions without images did not rise in any arm. And LoRA saves less memory here than its share of parameters suggests, since activations are most of it.
#
# ## 9 · QLoRA on a real language model
#
# SmolLM2 has 135 million parameters, of which 106 million stand in its blocks. You will meet it in chapter 17; here it comes with the course's vision encoder and a projector that maps patches near words, and without any LoRA. Its blocks go into four bits, by your functions. **Predict:** what happens to the perplexity of plain English sentences?

# %% id="real"
from vlmcourse.families import real
from vlmcourse.interop import adapters, distillation

tuned, tokenizer, _ = real.load_real()
model = adapters.without_lora(tuned); del tuned                    # before it learned to answer
speaker = real.speaker(model, tokenizer)
text = {"32 bits": distillation.perplexity(model.language, tokenizer)}
blocks = model.language.blocks
size = {"32 bits": sum(w.numel() * w.element_size() for w in blocks.parameters()) / MiB}
quantise.quantise_layers(blocks)
text["4.5 bits"] = distillation.perplexity(model.language, tokenizer)
stored = [*blocks.parameters(), *blocks.buffers()]
size["4.5 bits"] = sum(w.numel() * w.element_size() for w in stored) / MiB
tabulate({bits: (size[bits], text[bits]) for bits in text}, "blocks", MiB=".0f", perplexity=".1f")
assert size["4.5 bits"] < 0.15 * size["32 bits"] and text["4.5 bits"] < 1.5 * text["32 bits"]

# %% [markdown] id="real-intro" lang="en"
# A seventh of the memory, and plain sentences surprise it a little more: 80 against 73 in our run. Now it learns to answer questions about scenes: LoRA in the upper half of the blocks, ten steps of four images. The four-bit weights stay as they are.

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
# In our run it names half of the colours and shapes after ten steps, a sixth with another image: it learned to look, not to guess. And it kept its English.
#
# **Hand it over.** What was learned is a few MiB. `save_adapter` writes them in `peft`'s format, and `peft` opens them on an exported model.

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
written = sum(file.stat().st_size for file in folder.iterdir()) / MiB
gap = (mine - peft_says).abs().max().item()
print(f"{written:.1f} MiB; peft's scores differ from ours by {gap:.1e}")
assert gap < 1e-4 * mine.abs().max() and written < 12

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A parameter that learns costs 16 bytes with AdamW; a frozen one costs its bits. Activations grow with the batch, and a gradient that only passes through still needs most of them.
# 2. Gradient checkpointing keeps what a block reads and runs it again: memory falls to a fraction, a step takes about a third longer.
# 3. fp16 loses small gradients; the loss is scaled, and a step that overflowed is left out.
# 4. NF4 keeps frozen weights in 4.5 bits. LoRA learns beside them; its scale decides how loudly, DoRA gives each row a length.
# 5. Ask where the change lies before you choose what learns: fog was learned best with the encoder, and nearly as well by the projector alone.

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
