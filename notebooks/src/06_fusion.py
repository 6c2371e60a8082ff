# %% [markdown] id="title" lang="en"
# # 06 · Fusion: where do image and words meet?
#
# **90 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# You have an eye, the vision encoder of chapter 04, and a mouth, the language model of chapter 05. Nothing connects them yet. This chapter builds the five usual connections, trains all of them on the same questions, and lets you read the bill: accuracy, seconds, memory, and room in the context.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Between the vision encoder and the language model. *Where* the two meet, and *how*, is the decision that tells today's VLMs apart.
#
# ## After this you can
#
# - **write** late fusion, cross-attention, gated cross-attention, token injection and the prefix mask,
# - **say** which published models use which, and what each one costs,
# - **compare** five families fairly: equal data, equal parameters, equal steps,
# - **see** where the same question looks in each of them,
# - **catch** the most common bug of a VLM before it costs you a training.

# %% id="setup"
import math, torch
from torch.nn import functional as F
from vlmcourse.workbook import *
from vlmcourse.models import fusion, language
from vlmcourse.world import questions, render, scenes, twins
begin("06_fusion", lang="en")

# %% id="map"
course_map("connector")

# %% [markdown] id="q-where" lang="en"
# ## 1 · Three places to meet
#
# **Question.** A picture is 16 vectors here. A question is eight. Where in the network should the first word meet the first patch?
#
# | | they meet | used by |
# |---|---|---|
# | **late** | when both are read to the end, as two vectors | CLIP; the first VQA models |
# | **in the middle** | between the blocks of the language model: words look at the image | BLIP, Flamingo, Llama 3.2 Vision |
# | **at the input** | features become pseudo-tokens among the words: **token injection** | LLaVA, BLIP-2, PaliGemma, Qwen-VL |
#
# Textbooks call these late, mid and early fusion. **Early** in the strict sense is rare: one transformer that is trained on images and words together from the start, such as Chameleon (2024). Token injection is the form of early fusion that works with parts you already have.
#
# **Before you go on:** which of the three would you trust with "is the star **left of** the circle?" Write your guess down; section 7 measures it, with a surprise.

# %% [markdown] id="data-intro" lang="en"
# ## 2 · One eye and one set of questions for all
#
# To compare connections, everything else must be equal. So all families get the features of **one frozen eye**, computed once. It is a small ViT that was trained to say of each patch what it shows; chapter 08 tells how. Four neighbouring patches are put side by side, so an image is **16 image tokens** of 4 · 96 numbers; chapter 07 lets you write that step. Each scene has two objects, and is asked up to four questions with one-word answers.

# %% id="eye"
from vlmcourse.families import nano
from vlmcourse.data.text import load_tokenizer
from vlmcourse.models.projector import pixel_shuffle

tokenizer = load_tokenizer()
eye, card = nano.load_vlm("nano-words")
KINDS = ("colour", "shape", "relation", "existence")

def examples(world, asked):
    """Scenes and (scene number, question) pairs as tensors: features, and one row per question."""
    ids, mask = tokenizer.encode([q.text for _, q in asked])
    answers = tokenizer.encode([q.answer for _, q in asked])[0][:, 0]
    seen = pixel_shuffle(nano.features(eye, render.render(world)).float(), 2)
    return seen, (torch.tensor([n for n, _ in asked]), ids, mask, answers)

# %% id="data"
sizes = budget(cpu=dict(scenes=2000, steps=230), gpu=dict(scenes=2000, steps=230))

def ask_all(world):
    return [(n, q) for kind in KINDS for n, q in enumerate(questions.ask(world, kind)) if q]

train_world = scenes.sample("train", sizes.scenes, objects=(2, 2))
test_world = scenes.sample("test", 300, objects=(2, 2))
train_asked, test_asked = ask_all(train_world), ask_all(test_world)

# %% id="features"
train_seen, train_rows = examples(train_world, train_asked)
test_seen, test_rows = examples(test_world, test_asked)
print(f"{len(train_asked)} questions to learn from, {len(test_asked)} new ones; of a picture: "
      f"{tuple(train_seen.shape[1:])}")
assert train_seen.shape[1:] == (16, 384)

# %% id="data-figure"
import textwrap, matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 4, figsize=(7, 2.9), layout="constrained")
for scene, (ax, kind) in enumerate(zip(axes, KINDS)):
    number, question = next((n, q) for n, q in test_asked if q.kind == kind and n >= scene)
    ax.imshow(render.render(test_world[number])[0]); ax.axis("off")
    asked = textwrap.fill(question.text, 22)
    ax.set_title(f"{kind}\n{asked}\n“{question.answer}”", fontsize=9)
figure(fig, alt="Four scenes of two objects, each with a question of another kind and its "
                "one-word answer")

# %% id="drawing"
drawing("fusion")

# %% [markdown] id="late-intro" lang="en"
# ## 3 · Late: two vectors
#
# Each row of the drawing is one family; you write the lit box of each. The first row: the image becomes one vector, the mean of its patches. The text has one vector per token. What can a layer do with both? A linear layer can only **add** them: what the image says, plus what the text asks. But an answer depends on both *at once*.
#
# By hand. The image says +1 (red) or −1 (blue). The text asks for +1 (red?) or −1 (blue?). The answer is yes if both agree:

# %% id="late-hand"
cases = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])        # image, text
agree = torch.tensor([1.0, -1.0, -1.0, 1.0])
best_sum = torch.linalg.lstsq(cases, agree[:, None]).solution
rows = zip((cases @ best_sum).flatten().abs().tolist(), cases.prod(1).tolist())
tabulate({(f"image {a:+.0f}", f"text {b:+.0f}"): row for (a, b), row in zip(cases.tolist(), rows)},
         best_sum=".0f", product="+.0f")
assert (cases @ best_sum).abs().max() < 1e-6 and torch.equal(cases.prod(1), agree)

# %% [markdown] id="ex-late" lang="en"
# The best weighted sum answers 0 to everything. The product is the answer. So late fusion hands over three things: the text, the image, and their product, number by number. CLIP's dot product is this product, summed up.
#
# ### Your turn: `late_fusion` · difficulty 2/5 · 7 min
#
# | | shape |
# |---|---|
# | `image` | `(batch, width)`, one vector per picture |
# | `text` | `(batch, token, width)` |
# | `mix` | layers from 3 · width to out, to be called |
# | out | `(batch, token, out)`: `mix` of [text, image, text · image] |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="late_fusion"
@exercise(fusion.late_fusion)
def late_fusion(image, text, mix):
    """mix([text, image, text · image]) for every token"""
    # 1. give the image a token axis   2. three parts side by side   3. mix
    raise NotImplementedError

# %% [markdown] id="cross-intro" lang="en"
# ## 4 · In the middle: words look at the image
#
# One vector for a whole picture is little. With **cross-attention** every word asks its own question of all 16 patches. You know attention. One thing changes: queries come from the words, keys and values from the image. The image asks nothing and is never changed.
#
# ### Your turn: `cross_attend` · difficulty 1/5 · 5 min
#
# One step of the residual stream, as in your `pre_norm_block`. Call `norm(tokens)` and `attend(queries, context)`, which are given.

# %% id="cross_attend"
@exercise(fusion.cross_attend)
def cross_attend(tokens, context, norm, attend):
    """tokens (batch, token, width), context (batch, patch, width) -> tokens that have looked"""
    raise NotImplementedError

# %% [markdown] id="gate-intro" lang="en"
# A new layer between trained ones is dangerous: it writes noise into a stream that a language model has learned to read. Flamingo (Alayrac et al. 2022, section 2.2) puts a **gate** in front: a learned number g, and tanh(g) multiplies what was seen. It begins at 0.
#
# A closed gate still learns. The derivative of tanh at 0 is 1, so g moves at once. The attention behind it has to wait until g has moved.
#
# ### Your turn: `gated_cross_attend` · difficulty 1/5 · 4 min

# %% id="gated_cross_attend"
@exercise(fusion.gated_cross_attend)
def gated_cross_attend(tokens, context, norm, attend, gate):
    """as cross_attend, but what was seen comes through tanh(gate)

    Call norm and attend; `gate` is a tensor () that learns, also at 0.
    """
    raise NotImplementedError

# %% [markdown] id="gate-test-intro" lang="en"
# What does the gate save? Take a caption writer like that of chapter 05, which the course ships, put four fresh layers into it, with and without gates, and measure its perplexity on new captions **before the first step**. **Predict** both numbers; without any image layers it is about 3.

# %% id="gate-test"
from vlmcourse.world import captions
from vlmcourse.data.assets import shipped
from vlmcourse.models.language import LlamaConfig
from vlmcourse.training.checkpoints import load_weights

told = tokenizer.encode(captions.captions(test_world[:200]), bos=True)
writer_size = LlamaConfig(len(tokenizer), 128, 4, 4, 2, tied=True)
caption_writer = language.Llama(writer_size)
load_weights(caption_writer, shipped("lm-captions.safetensors"))

@torch.no_grad()
def perplexity_before_training(name):
    torch.manual_seed(0)
    model = fusion.FAMILIES[name](fusion.FusionConfig(384, writer_size)).eval()
    model.language.load_state_dict(caption_writer.state_dict())
    model.projector.calibrate(test_seen)                               # image tokens of size 1
    scores = [model(told[0], test_seen[:200], mask=told[1]), model.language(told[0], mask=told[1])]
    return [language.next_token_loss(each, *told).exp().item() for each in scores]

# %% id="gate-result"
plain, alone = perplexity_before_training("cross-attention")
gated, _ = perplexity_before_training("gated cross-attention")
print(f"language model alone {alone:.3f}; with fresh cross-attention {plain:.3f}; behind closed "
      f"gates {gated:.3f}")
assert abs(gated - alone) < 1e-4 and plain > 1.15 * alone

# %% [markdown] id="gate-proved" lang="en"
# **What you just proved.** Behind closed gates the model *is* the language model, to the last digit. Fresh layers without gates damage it before anything was learned. Keep this in mind for the table: a gate protects what was trained before. If nothing was, there is nothing to protect.

# %% [markdown] id="inject-intro" lang="en"
# ## 5 · At the input: image tokens among the words
#
# Chapter 05 showed that a language model reads vectors. So project each patch to the width of a word, and put it *among the words*. The text keeps the place: it holds one `<image>` placeholder for each image token. No new layer is needed. Everything a language model can do with words, it can now do with patches.
#
# By hand, with two image tokens of width 3 and a text that has two placeholders (id 4):

# %% id="inject-hand"
ids = torch.tensor([[7, 4, 4, 11]])                                    # <user> <image> <image> word
words = torch.zeros(1, 4, 3)  # what the embedding table would say
patches = torch.tensor([[[1.0, 1, 1], [2, 2, 2]]])
placed = fusion.inject.reference(words, patches, ids == 4)
tokens = ("<user>", "<image> 1", "<image> 2", "word")
tabulate(dict(zip(tokens, placed[0].tolist())), **{f"number {k}": ".0f" for k in (1, 2, 3)})
assert placed[0, 1].tolist() == [1, 1, 1] and placed[0, 3].tolist() == [0, 0, 0]

# %% [markdown] id="ex-inject" lang="en"
# ### Your turn: `inject` · difficulty 3/5 · 10 min
#
# | | shape |
# |---|---|
# | `embeddings` | `(batch, token, width)` |
# | `features` | `(image, patch, width)`: the images of all texts, in order; perhaps of another dtype |
# | `places` | `(batch, token)`, True at placeholders; as many as there are features |
# | out | like `embeddings`, dtype included; the first placeholder of the first text gets the first patch of the first image |
#
# A text may hold two images, or none.

# %% id="inject"
@exercise(fusion.inject)
def inject(embeddings, features, places):
    """The features take the places; everything else stays, and the input is not changed."""
    raise NotImplementedError

# %% [markdown] id="prefix-intro" lang="en"
# ### Who may look ahead?
#
# A decoder reads left to right. For words that is natural. For patches it is odd: the first patch sees no other, the last one sees all. And no patch ever learns what the question is, because the question comes later.
#
# A **prefix-LM** lifts the causal rule for everything that is *given*: image and question all see each other. Only the answer, which must be predicted, reads left to right. T5's authors described it (Raffel et al. 2019); PaliGemma uses it.
#
# ### Your turn: `prefix_mask` · difficulty 2/5 · 6 min
#
# In: `prefix (batch, token)`, True for given tokens. Out: `(batch, token, key)`, True where a token may look. `language.causal_mask(n, n)` is yours from chapter 05.

# %% id="prefix_mask"
@exercise(language.prefix_mask)
def prefix_mask(prefix):
    """bool (batch, token) -> bool (batch, token, key), on the device of `prefix`

    causal_mask makes its mask on the CPU.
    """
    raise NotImplementedError

# %% id="prefix-picture"
from matplotlib.patches import Patch

given = torch.tensor([[True] * 7 + [False] * 3])  # 4 image tokens, 3 of a question, 3 of an answer
pictures = {"decoder (LLaVA)": language.causal_mask(10, 10),
            "prefix-LM (PaliGemma)": prefix_mask(given)[0]}
fig, axes = plt.subplots(1, 2, figsize=(6.8, 3.4), layout="constrained")
parts = dict(ticks=[2, 5.5, 8.5], labels=["image", "question", "answer"])
for ax, (title, seen) in zip(axes, pictures.items()):
    draw_mask(ax, seen, [roles.image] * 4 + [roles.text] * 6)
    ax.set(title=title, xlabel="key"); ax.set_xticks(**parts); ax.set_yticks(**parts)
axes[0].set_ylabel("query")
legend = {"image token": dict(color=roles.image), "word": dict(color=roles.text),
          "may not look": dict(facecolor="none", edgecolor=roles.masked, hatch="/////")}
fig.legend(handles=[Patch(label=label, **how) for label, how in legend.items()],
           loc="outside lower center", ncols=3)
figure(fig, alt="Two masks of ten tokens. Decoder: a triangle. Prefix-LM: the first seven tokens "
                "all see each other, three do not look ahead")
assert prefix_mask(given)[0, :7, :7].all() and not prefix_mask(given)[0, :, 8:][:8].any()

# %% [markdown] id="prefix-proved" lang="en"
# Orange keys are image tokens, blue ones words, hatched ones forbidden. The answer rows are the same on both sides: nobody sees a word that is still to be predicted.

# %% [markdown] id="interface" lang="en"
# ## 6 · Five families behind one interface
#
# `fusion.FAMILIES` holds five models built from your functions. All have a projector and a small LLaMA, and all are called alike: features, words, mask → a score for the next word at every position.
#
# Equal width would be unfair: cross-attention would bring extra layers for free. So each family gets the **same number of parameters**. Whoever has extra layers has narrower MLPs.

# %% id="families"
config = fusion.FusionConfig(384, LlamaConfig(len(tokenizer), width=96, depth=2, heads=4, groups=2,
                                              tied=True))

def new_model(name):
    torch.manual_seed(0)
    model = fusion.sized(fusion.FAMILIES[name], config, parameters=400_000)
    # words that attention can tell apart at once
    torch.nn.init.normal_(model.language.embedding.weight, std=0.3)
    model.projector.calibrate(train_seen[:100])
    return model

counts = {name: sum(p.numel() for p in new_model(name).parameters()) for name in fusion.FAMILIES}
tabulate(counts, parameters=",")
assert max(counts.values()) < 1.01 * min(counts.values())

# %% [markdown] id="predict-cost" lang="en"
# **Predict the bill** for a question of ten words and a picture of 16 features, before anything is trained:
#
# 1. How many places of the context does the image take in each family?
# 2. How many pairs (query, key) does attention compare, per head and block, in injection and in cross-attention?
# 3. Which family keeps most in memory for the way back? The next cells let one training step tell.

# %% id="step"
def answer_scores(model, seen, rows):
    """Scores (row, vocabulary) for the word behind each question (scene number, ids, mask, ..)."""
    number, ids, mask = rows[:3]
    scores = model(ids, seen[number.cpu()].to(ids.device), mask=mask, prompt=mask)
    return scores[torch.arange(len(ids)), mask.sum(1) - 1]

def answer_loss(model, rows, seen=train_seen):
    return F.cross_entropy(answer_scores(model, seen, rows), rows[3])

def megabytes_kept(model, rows):
    """What one training step keeps for the way back, without the weights."""
    kept = {}
    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = answer_loss(model, rows)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for place, size in kept.items() if place not in weights) / 2**20

# %% id="bill"
some = tuple(part[:64] for part in train_rows)
words_each = some[2].sum(1).float().mean().item()
bill = {name: (new_model(name).image_tokens_in_context(16), megabytes_kept(new_model(name), some))
        for name in counts}
tabulate(bill, f"beside {words_each:.0f} words", image_tokens="", MB_kept=".0f")
# words to words, and words to image
pairs = {"injection": 26 * 26, "cross-attention": 10 * 10 + 10 * 16}
tabulate(pairs, "ten words", pairs="")
assert bill["injection"][1] > bill["cross-attention"][1] > bill["late"][1]
assert bill["injection"][0] == 16

# %% [markdown] id="bill-said" lang="en"
# Injection is the simplest and the most expensive: the language model carries every image token through every block. The others keep the image outside. And 16 image tokens are few: LLaVA-1.5 has 576.
#
# ## 7 · The comparison
#
# Six trainings: the five families, and a **blind twin**, late fusion that is shown an empty picture. Same questions in the same order, same steps, same parameters, same optimizer. (It is Muon for the matrices; chapter 04 says why.) **Predict** the order, and the place of the blind one.

# %% id="train"
from vlmcourse.data.batches import Batches
from vlmcourse.training.loop import train
from vlmcourse.training.optimizers import MuonAdamW, warmup_linear

batches = Batches(train_rows, 40)
models, runs = {}, {}
for run, name in enumerate((*fusion.FAMILIES, "blind"), 1):
    model = new_model(name if name != "blind" else "late")
    seen = train_seen if name != "blind" else torch.zeros_like(train_seen)
    runs[name] = train(model, batches, lambda model, rows: answer_loss(model, rows, seen),
                       steps=sizes.steps, name=f"{name}, run {run} of 6",
                       optimizer=MuonAdamW(model), schedule=warmup_linear(sizes.steps))
    models[name] = model.cpu().eval()

# %% id="measure"
@torch.no_grad()
def right(name, seen=test_seen, rows=test_rows):
    """Which questions a model answers rightly, bool (question,)."""
    seen = torch.zeros_like(seen) if name == "blind" else seen
    parts = zip(*[part.split(400) for part in rows])
    return torch.cat([answer_scores(models[name], seen, part).argmax(-1) == part[3]
                      for part in parts])

of_kind = {kind: torch.tensor([q.kind == kind for _, q in test_asked]) for kind in KINDS}
correct = {name: right(name) for name in models}
table = {name: [answers[of].float().mean().item() for of in (slice(None), *of_kind.values())]
         for name, answers in correct.items()}

# %% id="table"
taken = {name: bill.get(name, (0, bill["late"][1])) for name in models}
rows = {name: (*row, runs[name].seconds, taken[name][1], taken[name][0])
        for name, row in table.items()}
tabulate(rows, "right", all=".0%", **dict.fromkeys(KINDS, ".0%"), seconds=".0f", MB_kept=".0f",
         image_tokens="")

# %% id="table-check"
assert table["blind"][0] < 0.45
assert min(table[name][0] for name in fusion.FAMILIES) > table["blind"][0] + 0.12
assert min(table["injection"][1:3]) > 0.65 and max(row[3] for row in table.values()) < 0.65
looking = [table[name][1] for name in fusion.FAMILIES if name != "late"]  # colours
assert min(looking) > table["late"][1] + 0.04
assert table["late"][4] > table["cross-attention"][4] + 0.08
assert table["gated cross-attention"][0] > table["cross-attention"][0] - 0.05

# %% id="table-figure"
fig, ax = plt.subplots(figsize=(6.2, 2.6), layout="constrained")
for name, row in table.items():
    early = "injection" in name
    ax.barh(name, row[0], color=roles.control if name == "blind" else roles.learned,
            hatch="//" if early else "", label="image tokens in the text" if early else "")
    ax.text(row[0] + 0.01, name, f"{row[0]:.0%} after {runs[name].seconds:.0f} s", va="center")
ax.set(xlabel="right answers", xlim=(0, 1)); ax.invert_yaxis()
ax.legend(*[part[:1] for part in ax.get_legend_handles_labels()], loc="lower right",
          bbox_to_anchor=(1, 1))
figure(fig, alt="Right answers of the five families and the blind twin, with the seconds that "
                "each of them trained")

# %% [markdown] id="table-proved" lang="en"
# **What you just proved.** Every family sees. In our run they had 66 to 74 % right, the blind twin 38 %. Gated cross-attention led (74 %), injection had 70 % with the prefix mask and without, plain cross-attention 66 %. But the order is not a law: take 250 steps, 48 questions a step, or another number of threads, and it changes. A few points between families mean nothing here. What should stay the same stands in the columns:
#
# - **Colour and shape** need one lookup: find the circle, read its colour. Families that *look* reached 84 to 91 % for colours in our run; late fusion, with one mean vector for two objects, about 75 %.
# - **Existence** asks about the whole picture. There a mean is no handicap: late fusion reached about 70 % in our run, plain cross-attention 50 %. Softmax weights sum to 1, so a word that looks always finds *something*; it must learn to notice that it does not fit.
# - **Relation** stayed near 50 % for everybody, which is guessing. Nobody learned "left of" in 230 steps, whatever the architecture. If you guessed in section 1 that one of the three could: all three lack data and time before they lack the right connection. Chapter 08 trains one of them for longer, on more.
# - **The gate** did no harm, although nothing trained stood behind it.
#
# And the bill: injection keeps twice the memory of late fusion for 16 image tokens, and it is the only one that fills the context.

# %% [markdown] id="twins-intro" lang="en"
# ### Do they look?
#
# Chapter 01 taught you to distrust a score. So ask each question about a **twin** as well, the smallest edit of the scene that changes the answer, and count pairs with both right. A blind model gets none, by proof. And hand each model **another picture**, that of the next scene.

# %% id="twins"
pairs = test_asked[::5]
pair_world = test_world[[n for n, _ in pairs]]
twin_world, twin_asked = twins.twins(pair_world, [q for _, q in pairs])
old_seen, old_rows = examples(pair_world, list(enumerate(q for _, q in pairs)))
twin_seen, twin_rows = examples(twin_world, list(enumerate(twin_asked)))

# %% id="twins-measure"
both = {name: (right(name, old_seen, old_rows)
               & right(name, twin_seen, twin_rows)).float().mean().item() for name in models}
another_picture = {name: right(name, test_seen.roll(1, 0)).float().mean().item() for name in models}
tabulate({name: (both[name], another_picture[name]) for name in models},
         both_of_a_pair=".0%", right_with_another_picture=".0%")
assert both["blind"] == 0 and min(both[name] for name in fusion.FAMILIES) > 0.2
assert max(another_picture.values()) < table["blind"][0] + 0.1

# %% [markdown] id="twins-proved" lang="en"
# **What you just proved.** With another picture every family falls to about the level of the blind twin. So what they had above it came from the picture. Whole pairs are the stricter test, because half-knowledge earns nothing there: every family got a fifth of them or more, and lost many points against its score for single questions. A blind model gets none.

# %% [markdown] id="look-intro" lang="en"
# ## 8 · Look inside: the same question through each family
#
# One picture, one question, five models. The slider *Word*, or *Play*, walks through the words of the question. The tile *the word* asks from that word; its number is what the word gives to other words instead of the picture.
#
# **Try this:** let it play in "injection", then in "cross-attention". At which word does the gaze find the object? Then click a patch: in injection it looks around; in cross-attention it asks nobody but itself.

# %% id="look-maps"
from vlmcourse.models.attention import record_attention

@torch.no_grad()
def gaze(name, number, question):
    """Attention (word, layer, head, 1 + patch, 1 + patch): token 0 is the word, then patches."""
    ids, mask = tokenizer.encode([question])
    with record_attention(models[name]) as record:
        models[name](ids, test_seen[number][None], mask=mask, prompt=mask)
    words = torch.full((2, 4, ids.shape[1], 16), 1 / 16)
    patches = torch.eye(16).expand(2, 4, 16, 16)
    if "cross" in name:
        words = torch.cat(record[1::2])  # every second one looks at the image
    if "injection" in name:
        words, patches = torch.cat(record)[:, :, 16:, :16], torch.cat(record)[:, :, :16, :16]
    both = torch.cat([words[:, :, :, None],
                      patches[:, :, None].expand(-1, -1, ids.shape[1], -1, -1)], dim=3)
    rest = 1 - both.sum(-1, keepdim=True)
    return torch.cat([rest, both], dim=-1).clamp(min=0).permute(2, 0, 1, 3, 4)

# %% id="look"
import numpy as np
from vlmcourse.widgets.attention import AttentionExplorer

number, asked = next((n, q) for n, q in test_asked if q.kind == "colour")
picture = render.render(test_world[number])[0]
words = tokenizer.tokens(tokenizer.encode([asked.text])[0][0])
maps = torch.stack([gaze(name, number, asked.text) for name in fusion.FAMILIES], dim=1)
print(asked.text, "→", asked.answer)
AttentionExplorer(np.stack([picture] * 5), maps, grid=(4, 4), cls=True, steps=words,
                  labels=list(fusion.FAMILIES), view=dict(image=3, query=0),
                  names=dict(image="family", step="word", cls="the word"))

# %% [markdown] id="evidence-intro" lang="en"
# One picture is an anecdote. The scenes know which object each question is about, so count: over all colour questions, what share of its attention on the picture do the last words give to the *asked* object? An even gaze gives the share of image tokens that the object touches.

# %% id="evidence"
def on_evidence(name, asked):
    """Mean share (word, layer, head) of the gaze on the picture that falls on the asked object."""
    shares = []
    for number, question in asked:
        maps = gaze(name, number, question.text)[-3:, :, :, 0, 1:]     # noun, question mark, end
        shares.append((maps * evidence(number, question)).sum(-1) / maps.sum(-1))
    return torch.stack(shares).mean(0)

def evidence(number, question):
    """1 at the image tokens that touch the asked object."""
    left, top, right, bottom = question.boxes[0]
    edge = torch.arange(4) * 16
    inside = [(low < edge + 16) & (edge < high) for low, high in ((top, bottom), (left, right))]
    return (inside[0][:, None] & inside[1]).flatten().float()

colour_asked = [(n, q) for n, q in test_asked if q.kind == "colour"][:100]
area = torch.stack([evidence(n, q) for n, q in colour_asked]).mean().item()
best = {name: on_evidence(name, colour_asked).max().item() for name in fusion.FAMILIES}
tabulate({"an even gaze": area} | best, "best head of", gaze_on_the_asked_object=".0%")
assert best["cross-attention"] > 2 * area and best["injection"] > 1.5 * area
assert abs(best["late"] - area) < 0.01

# %% [markdown] id="evidence-proved" lang="en"
# **What you just proved.** Nobody told the models where the object is. Yet one head of cross-attention puts most of its gaze on it, in our run 90 %. One head of injection gives it more than an even gaze would, in our run twice as much. In injection the tokens also talk to each other: a word need not look itself if a patch has told it. Late fusion cannot look anywhere: its gaze *is* the even one.

# %% [markdown] id="break-intro" lang="en"
# ## 9 · Break it on purpose: the placeholder that got lost
#
# A text is too long for the context, so a careful collator cuts it. It keeps the end, because the question is there. So it cuts *placeholders*: 12 of 16 image tokens are gone. The features are all still there. **Predict:** an error, a few points of accuracy, or more?

# %% id="break"
@torch.no_grad()
def right_with(left, check):
    """Accuracy of the injection model when each text keeps only `left` of its 16 placeholders."""
    model, (number, ids, mask, answers) = models["injection"], (part[::6] for part in test_rows)
    features = model.projector(test_seen[number])
    ids, mask = F.pad(ids, (left, 0)), F.pad(mask, (left, 0), value=True)
    places = (torch.arange(ids.shape[1]) < left).expand_as(ids)
    if check:
        fusion.check_places(places, len(features), features.shape[1])
    together = fusion.inject.reference(model.language.embed(ids), features, places)
    scores = model.language(embeddings=together, mask=mask)
    guesses = scores[torch.arange(len(ids)), mask.sum(1) - 1].argmax(-1)
    return (guesses == answers).float().mean().item()

whole, cut = right_with(16, check=True), right_with(4, check=False)
print(f"right with all placeholders {whole:.0%}, with 4 of 16 {cut:.0%}; blind "
      f"{table['blind'][0]:.0%}")
assert cut < whole - 0.15

# %% [markdown] id="break-why" lang="en"
# Nothing complained. `masked_scatter` takes features in order until the places are full. So the first text got the top quarter of its picture, the second text the *next* quarter of the **first** picture, and so on. Most questions were answered about somebody else's image.
#
# In training the loss would still fall, by habit, as in chapter 01. The remedy is one comparison before the scatter: **as many placeholders as features, or stop.** `fusion.check_places` says what is wrong, and your `Llava` in chapter 08 calls it every time.

# %% id="check"
def complaint(left, images=3):
    """What check_places says of three texts with so many placeholders each."""
    try:
        fusion.check_places((torch.arange(24) < left).expand(3, 24), images, 16)
    except ValueError as error:
        return str(error)
    return "nothing: the numbers agree"

said = complaint(16), complaint(4), complaint(16, images=2)
print(*said, sep="\n")
assert "an image has 16 tokens" in said[1] and "3 images, but 2 images were given" in said[2]

# %% [markdown] id="break-proved" lang="en"
# Three texts with 16 placeholders each and three images pass. A cut text and a missing image are named. Errors of this kind are cheap at the first batch and very expensive after a week.
#
# ## 10 · Is this the real thing?
#
# Your `cross_attend` around torch's own attention, and your `prefix_mask` against the pattern that PaliGemma's class really attends by. Its `token_type_ids` are 0 in the prefix and 1 in the answer.

# %% id="real-cross"
torch.manual_seed(0)
theirs = torch.nn.MultiheadAttention(64, 4, bias=False, batch_first=True)
layer = fusion.CrossLayer(LlamaConfig(9, 64, 1, 4), gated=False)
torch.nn.init.normal_(layer.norm.scale, 1.0, 0.3)
query, key, value = theirs.in_proj_weight.detach().chunk(3)
layer.attention.project_in.weight.data = query
layer.attention.project_context.weight.data = torch.cat([key, value])
layer.attention.project_out.weight.data = theirs.out_proj.weight.detach()
tokens, image = torch.randn(3, 7, 64), torch.randn(3, 9, 64)
gap = (layer(tokens, image)
       - (tokens + theirs(layer.norm(tokens), image, image)[0])).abs().max().item()
print(f"largest difference to torch.nn.MultiheadAttention: {gap:.1e}")
assert gap < 1e-5

# %% id="real-prefix"
import transformers

small = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
text = transformers.GemmaConfig(**small, vocab_size=90, num_key_value_heads=2, head_dim=8)
vision = transformers.SiglipVisionConfig(**small, image_size=16, patch_size=8)
paligemma = transformers.PaliGemmaForConditionalGeneration(transformers.PaliGemmaConfig(
    vision_config=vision, text_config=text, image_token_index=89, projection_dim=32,
    hidden_size=32)).eval()
paligemma.set_attn_implementation("eager")  # the kind that tells its weights
ids = torch.cat([torch.full((1, 4), 89), torch.randint(3, 80, (1, 6))], dim=1)
output = paligemma(input_ids=ids, pixel_values=torch.randn(1, 3, 16, 16),
                   attention_mask=torch.ones_like(ids),
                   token_type_ids=(~given).long(), output_attentions=True)
assert torch.equal(output.attentions[0][0].amax(0) > 0, fusion_mask := prefix_mask(given)[0])
print("PaliGemma attends exactly where your mask allows:", int(fusion_mask.sum()), "of 100 pairs")

# %% [markdown] id="real-differs" lang="en"
# The tests of the course go further: the gated layer equals Idefics' (the open Flamingo) with gates *open*, scores and gradients of a whole PaliGemma agree, and so do those of a whole LLaVA. What published models add:
#
# | | where | image tokens in context | new layers | what is special |
# |---|---|---|---|---|
# | CLIP | late | – | one matrix per tower | one dot product, so millions of images can be searched |
# | BLIP | middle, every block | 0 | cross-attention | one text model that matches and writes |
# | Flamingo | middle, every few blocks | 0 | gated cross-attention and MLP | a resampler cuts each image to 64 vectors first |
# | BLIP-2 | input | 32 | Q-Former | learned queries summarise the image |
# | LLaVA-1.5 | input | 576 | a two-layer MLP | nothing else |
# | PaliGemma (224 pixels) | input | 256 | one matrix | the prefix is read in both directions |

# %% [markdown] id="choose" lang="en"
# ## 11 · Which one, and why LLaVA's way first?
#
# Injection is the dearest in your table, and yet most VLMs are built like that. Three reasons:
#
# 1. **Structure.** No new layer inside the language model. A projector and a scatter are all there is, so any language model can be used as it was published.
# 2. **Knowledge.** What you know of LLMs applies: masks, caches, LoRA, packing, serving. An image is a long word.
# 3. **Debugging.** Every image token can be looked at, replaced, counted or removed. Chapters 07 and 14 do that.
#
# Choose cross-attention when many images must fit, or when the language model must stay exactly as it is. Choose late fusion when answers must be *searched*: its two vectors can be computed and stored apart. So the course goes on with injection (chapters 07 and 08), and returns to gates in chapter 09.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Image and words meet late, in the middle, or at the input. CLIP, Flamingo and LLaVA are the three examples to remember.
# 2. A sum cannot say whether two things agree; a product can, and attention is made of products.
# 3. A gate at 0 leaves the language model as it was. Fresh layers without it raised the perplexity of a trained one before the first step.
# 4. Token injection needs no new layer, and pays in context, seconds and memory. A prefix mask lets image and question see each other.
# 5. As many placeholders as features, or stop. Nothing else will tell you.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("06_fusion/1")

# %% id="quiz-2"
quiz("06_fusion/2")

# %% id="quiz-3"
quiz("06_fusion/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Antol et al. 2015, *VQA: Visual Question Answering*, [arXiv:1505.00468](https://arxiv.org/abs/1505.00468): “VQA baselines and methods”, late fusion by a product.
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): section 3.2.3, cross-attention.
# - Raffel et al. 2019, *T5*, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683): the prefix-LM.
# - Radford et al. 2021, *CLIP*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020): section 2.
# - Li et al. 2022, *BLIP*, [arXiv:2201.12086](https://arxiv.org/abs/2201.12086): section 3.1.
# - Alayrac et al. 2022, *Flamingo*, [arXiv:2204.14198](https://arxiv.org/abs/2204.14198): section 2.2 and figure 4.
# - Li et al. 2023, *BLIP-2*, [arXiv:2301.12597](https://arxiv.org/abs/2301.12597): section 3.
# - Liu et al. 2023, *Visual Instruction Tuning* (LLaVA), [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 4.1; and *Improved Baselines* (LLaVA-1.5), [arXiv:2310.03744](https://arxiv.org/abs/2310.03744).
# - Beyer et al. 2024, *PaliGemma*, [arXiv:2407.07726](https://arxiv.org/abs/2407.07726).
# - Chameleon Team 2024, *Chameleon: Mixed-Modal Early-Fusion Foundation Models*, [arXiv:2405.09818](https://arxiv.org/abs/2405.09818).
#
# **Next:** [07 · Projection and alignment](07_projection_and_alignment.ipynb)
