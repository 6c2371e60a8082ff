# %% [markdown] id="title" lang="en"
# # 05 · Language models, the part that answers
#
# **135 minutes.** Everything runs on two CPU cores; no GPU is needed.
#
# You know language models, so this is a brisk rebuild: ten functions, and from them LLaMA, GPT, BERT and T5. At every step we say what changes inside a vision-language model.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# The vision encoder made vectors, and CLIP showed that vectors can match words. Now comes the part that reads the question and writes the answer.
#
# ## After this you can
#
# - **write** the ten functions that LLaMA, GPT, BERT and T5 are made of,
# - **say** which of these families a VLM uses, and where the image enters,
# - **compute** the lowest loss any caption model can reach without seeing, and reach it,
# - **spot** a leak: a loss that is too good to be true,
# - **explain** why a cache works, what an image costs in it, and how to break it.

# %% id="setup"
import math, torch
from torch.nn import functional as F
from vlmcourse.workbook import *
from vlmcourse.models import attention, bert, bpe, generation, language, t5
from vlmcourse.diagnostics import attention as maps
begin("05_language_models", lang="en")

# %% id="map"
course_map("language")

# %% [markdown] id="q-input" lang="en"
# ## 1 · What does a language model read?
#
# **Question.** A language model was trained on words. How can it read an image at all?
#
# It never saw a word. The first thing it does is to replace each token id by a row of a table. From there on it only knows **vectors**. So we may hand it vectors that no word produced:
#
# **input = [image features] + [question tokens]**
#
# Below, random vectors stand where chapter 07 will put image features.

# %% id="input"
from vlmcourse.data.text import load_tokenizer, BOS, EOS, MASK
from vlmcourse.models.language import Llama, LlamaConfig

tokenizer = load_tokenizer()
reader = Llama(LlamaConfig(len(tokenizer), width=128, depth=4))
question = tokenizer.encode(["what colour is the small circle?"])[0][:, :-1]  # it goes on: no <eos>
image_features = torch.randn(1, 64, 128)  # 64 patches, already as wide as the model
together = torch.cat([image_features, reader.embed(question)], dim=1)
logits = reader(embeddings=together)
print(f"{together.shape[1]} vectors in, {logits.shape[1]} × {logits.shape[2]} scores out")
print(f"the last row, behind {tokenizer.tokens(question[0])[-1]!r}, is for the next word")
assert logits.shape == (1, 64 + question.shape[1], 1024)

# %% [markdown] id="families" lang="en"
# Four families serve as the language part. You build all four from the one attention of chapter 02 and see each of them at work.
#
# | family | reads | writes | used by | the image enters |
# |---|---|---|---|---|
# | **BERT**, encoder | in both directions | fills gaps | BLIP, which also adds a causal mask to make it write | by cross-attention |
# | **T5**, encoder and decoder | in both directions | word by word | BLIP-2 with Flan-T5 | as vectors before the text, in the encoder |
# | **GPT**, decoder | left to right | word by word | BLIP-2 with OPT, a GPT-like model | as vectors before the text |
# | **LLaMA**, decoder | left to right | word by word | LLaVA and MiniGPT-4, through Vicuna | as vectors in the input |
#
# Answers must be *written*, so every generating VLM has a decoder.
#
# ## 2 · Where do tokens come from?
#
# **Byte-pair encoding** starts from characters. It counts neighbours, glues the most frequent pair into a new token, and repeats. The first step by hand, on three words with their counts:

# %% id="bpe-by-hand"
from collections import Counter
from itertools import pairwise

words = {"star": 3, "square": 4, "red": 2}
pairs = Counter()
for word, count in words.items():
    pairs.update({pair: count for pair in pairwise(word)})
print(pairs.most_common(4))
assert pairs.most_common(1) == [(("a", "r"), 7)]  # 3 times in star, 4 times in square

# %% [markdown] id="ex-merge" lang="en"
# ### Your turn: `merge_pair` · difficulty 2/5 · 8 min
#
# In: the tokens of a word, as a list of strings, and the pair to glue. Out: a new list. Go left to right; no token is used twice. So `a a a` with the pair `a a` becomes `aa a`.

# %% id="merge_pair"
@exercise(bpe.merge_pair)
def merge_pair(tokens, pair):
    """["s", "t", "a", "r"] and ("a", "r") -> ["s", "t", "ar"]; tokens may have several letters"""
    # walk through the list: where the pair stands, append the glued token and step over both
    raise NotImplementedError

# %% id="bpe-train"
from vlmcourse.world import captions, scenes

# "a red circle left of a blue square", ...
told = captions.captions(scenes.sample("train", 20_000))
merges = bpe.train_bpe(Counter(" ".join(told[:2000]).split()), merges=60)
print("first merges:", ["".join(pair) for pair in merges[:8]])
cut = {word: bpe.apply_bpe(word, merges) for word in ("square", "squares", "scare", "zebra")}
tabulate({word: " · ".join(parts) for word, parts in cut.items()}, "word", tokens="")
assert cut["square"] == ["square"] and "".join(cut["zebra"]) == "zebra"

# %% [markdown] id="bpe-proved" lang="en"
# **What you just proved.** Frequent words become one token, rare ones stay in pieces, and nothing is unknown. The course's tokenizer is made the same way, on bytes, with 1,024 tokens.
#
# **New in a VLM:** one token stands for no text at all. `<image>` keeps the place where image vectors will be put. Chapter 06 fills it.

# %% id="tokenizer"
for_sight = tokenizer.encode(["<image> what colour is the circle?", "an astronaut"])[0]
print(*[tokenizer.tokens(row[row != 0]) for row in for_sight], sep="\n")
assert tokenizer.tokens(for_sight[0])[0] == "<image>"

# %% [markdown] id="q-mask" lang="en"
# ## 3 · How does one pass train every position?
#
# Each position predicts the *next* token. With a **causal mask** no position sees its own answer, so one pass over a text of 40 tokens is 39 exercises at once. Chapter 02 had no such mask, because pictures have no "after".
#
# While writing, only new tokens pass through the model; the older ones are kept. Then there are fewer queries than keys, and **the queries are the last ones**.
#
# ### Your turn: `causal_mask` · difficulty 2/5 · 5 min
#
# In: how many queries, how many keys. Out: `(query, key)`, True where a query may look: at itself and before.

# %% id="causal_mask"
@exercise(language.causal_mask)
def causal_mask(queries, keys):
    """bool, True where key <= query; the queries are the last `queries` of the `keys` tokens."""
    raise NotImplementedError

# %% id="mask-picture"
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 3, figsize=(6.6, 2.5), layout="constrained")
titles = {(8, 8): "training: 8 read 8", (3, 8): "3 new, 5 kept", (1, 8): "writing: 1 new, 7 kept"}
for ax, (size, title) in zip(axes, titles.items()):
    draw_mask(ax, causal_mask(*size)); ax.set_anchor("S")
    ax.set(title=title, xlabel="key")
axes[0].set_ylabel("query")
figure(fig,
       alt="Three causal masks that end in one corner: a triangle, three rows of it, one full row")
assert causal_mask(1, 8).all() and causal_mask(8, 8).sum() == 36

# %% [markdown] id="q-norm" lang="en"
# ## 4 · What is in a LLaMA block?
#
# Its skeleton is your `pre_norm_block` from chapter 02. Three parts are newer than in a ViT. The first is **RMSNorm**: divide each vector by the root of the mean of its squares. Nothing is subtracted, so layer norm's mean and bias are gone.
#
# By hand: (3, 4) has the mean square 12.5 and the root 3.54, so it becomes (0.85, 1.13).
#
# ### Your turn: `rms_norm` · difficulty 2/5 · 7 min
#
# | | shape |
# |---|---|
# | `tokens` | `(..., width)`, possibly in half precision |
# | `scale` | `(width,)`, learned |
# | `epsilon` | added to the mean of the squares, inside the root |
# | out | like `tokens`; compute in float32, return the dtype that came in |
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="rms_norm"
@exercise(language.rms_norm)
def rms_norm(tokens, scale, epsilon):
    """tokens / root of (mean square + epsilon) · scale; scale may be float32 beside half tokens"""
    # 1. to float32: 512² does not fit into half precision   2. mean of the squares over the width
    # 3. divide, scale
    raise NotImplementedError

# %% [markdown] id="q-rope" lang="en"
# The second part is **RoPE**. A ViT adds a vector for the place to each token. RoPE *turns* queries and keys instead: each pair of numbers is the hand of a clock, and the token at position p turns it by p · speed. The first pair turns fast, the last one hardly moves.
#
# If a query is turned by 13 steps and a key by 10, their product depends on the difference alone: 3.
#
# ### Your turn: `rope` · difficulty 3/5 · 10 min
#
# | | shape |
# |---|---|
# | `parts` | `(batch, head, token, part)`: queries or keys |
# | `angles` | `(batch, token, part/2)`, in radians, the same for every head |
# | out | like `parts` |
#
# Pair number i consists of numbers i and i + part/2, and (a, b) becomes (a cos − b sin, a sin + b cos).

# %% id="rope"
@exercise(language.rope)
def rope(parts, angles):
    """Turn each pair (i, i + part/2) by its token's angle.

    The dtype of `parts` stays, though angles may be float32; their batch may be 1, for all texts.
    """
    # 1. cosine and sine, with an axis for the heads   2. split parts into its two halves
    # 3. turn, join
    raise NotImplementedError

# %% id="rope-picture"
places = torch.arange(48)[None]
angles = language.rope_angles(places, part=32, base=10_000.0)
turned = rope(torch.ones(1, 1, 48, 32), angles)[0, 0]  # the same vector, at 48 places
products = turned @ turned.T / 32
print(f"3 apart: {products[3, 0]:.4f} at places 3 and 0, {products[43, 40]:.4f} at 43 and 40")
fig, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.4), layout="constrained",
                                  width_ratios=[1, 1.6])
left.imshow(products)
left.set(xlabel="place of the key", ylabel="place of the query", title="query · key")
right.plot(products[:, 0])
right.set(xlabel="distance in tokens", title="one column: it depends on distance")
figure(fig,
       alt="Products of a vector with itself at 48 places: equal along diagonals, then falling")
assert torch.allclose(products[3, 0], products[43, 40], atol=1e-4)
assert products[0, 0] > products[24, 0]

# %% [markdown] id="rope-proved" lang="en"
# **What you just proved.** RoPE tells a model how far apart two tokens stand, not where they are. **New in a VLM:** image tokens take places too. In LLaVA, the first word after an image of 576 tokens stands at place 576 or later. Chapter 16 gives rows and columns angles of their own.
#
# The third part is **SwiGLU**, an MLP with a gate. One layer proposes (`up`), another decides how much passes (`gate`), and `down` leads back to the width. The gate uses silu(x) = x · sigmoid(x).
#
# ### Your turn: `swiglu` · difficulty 1/5 · 3 min

# %% id="swiglu"
@exercise(language.swiglu)
def swiglu(tokens, gate, up, down):
    """gate, up: (..., width) -> (..., hidden);  down: back to (..., width); all are called"""
    raise NotImplementedError

# %% [markdown] id="q-groups" lang="en"
# ## 5 · What does an image cost while the model writes?
#
# To write the next token, attention needs the keys and values of all earlier tokens. They do not change any more, so they are kept: the **KV cache**. LLaVA-1.5-7B keeps 32 layers × 32 heads × 128 numbers, twice, at two bytes each.
#
# **Predict:** how many MiB (2²⁰ bytes) do its 576 image tokens occupy, for one picture?
#
# Lit in the drawing below is what you write; the cache is in its third row.

# %% id="cache-size"
drawing("llama")

def cache_mib(tokens, layers, key_heads, part):
    return 2 * 2 * layers * key_heads * part * tokens / 2**20  # key and value, two bytes each

all_heads, few_heads, words = (cache_mib(*row, 128)
                               for row in ((576, 32, 32), (576, 32, 8), (40, 32, 32)))
print(f"576 image tokens: {all_heads:.0f} MiB; with 8 key heads {few_heads:.0f} MiB")
print(f"a question of 40 tokens: {words:.0f} MiB")
assert all_heads == 288 and words == 20

# %% [markdown] id="ex-share" lang="en"
# A question of 40 tokens needs 20 MiB; the picture needs 288. So VLM builders fight for fewer image tokens and fewer key heads. **Grouped-query attention** lets several query heads share one key head: 32 query heads with 8 key heads keep a quarter.
#
# ### Your turn: `share_heads` · difficulty 1/5 · 5 min
#
# In: `(batch, group, token, part)` and the number of query heads. Out: `(batch, head, token, part)`. Neighbours share: with 2 groups and 6 heads, 0 0 0 1 1 1.

# %% id="share_heads"
@exercise(attention.share_heads)
def share_heads(parts, heads):
    """(batch, group, token, part) -> (batch, head, token, part)"""
    raise NotImplementedError

# %% [markdown] id="ex-cache" lang="en"
# ### Your turn: `extend_cache` · difficulty 1/5 · 5 min
#
# `old` is `(keys, values)` of the past, each `(batch, group, past, part)`, or None at the first call. Return the pair with the new tokens behind the old ones.

# %% id="extend_cache"
@exercise(attention.extend_cache)
def extend_cache(old, key, value):
    """-> the tuple (keys, values), each (batch, group, past + token, part)"""
    raise NotImplementedError

# %% [markdown] id="assemble" lang="en"
# ## 6 · How good can a blind caption model be?
#
# That is all of LLaMA: `Llama` holds the parameters and calls your functions. Let it learn captions of our scenes, **without the pictures**. The captions come from a small grammar:
#
# - with probability 1/4 one thing: "a red circle"; else two: "a red circle left of a blue square";
# - a thing is one of 25 combinations of shape and colour, all equally likely;
# - one of 4 relations, all equally likely.
#
# Nobody can predict a fair die, so there is a lowest loss: the **entropy** of the grammar.

# %% id="entropy"
one_or_two = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
by_hand = one_or_two + 0.25 * math.log(25) + 0.75 * (2 * math.log(25) + math.log(4))
new = captions.captions(scenes.sample("validation", 2_000))  # captions of scenes never trained on
own = captions.surprise(new).mean()  # what they cost whoever knows the grammar
tokens_each = tokenizer.encode(new, bos=True)[1][:, 1:].sum().item() / len(new)  # <bos> is given
line = own / tokens_each
print(f"expected {by_hand:.3f} nats per caption; these {len(new):,} cost {own:.3f} each")
print(f"/ {tokens_each:.2f} tokens = {line:.3f} nats per token, perplexity {math.exp(line):.2f}")
assert abs(by_hand - captions.entropy()) < 1e-9 and abs(by_hand - 7.235) < 0.001
assert abs(own / by_hand - 1) < 0.03

# %% [markdown] id="entropy-meaning" lang="en"
# Nats per *caption* do not depend on the tokenizer; nats per *token*, and so perplexity, do. Compare perplexities only when tokens are the same.
#
# The entropy is what a caption costs **on average**. A batch of them costs a little more or less. So the fair line for a measurement is the grammar's own surprise at the *same* captions.
#
# And what is compared with what? The scores at a position with the token **after** it. `next_token_loss` moves the labels by that one place.

# %% id="shift"
ids, mask = tokenizer.encode(["a red circle"], bos=True)
steps = zip(tokenizer.tokens(ids[0, :-1]), tokenizer.tokens(ids[0, 1:]))
tabulate(dict(steps), "has read", shall_say="")
scores = torch.randn(1, ids.shape[1], len(tokenizer))
by_hand = F.cross_entropy(scores[0, :-1], ids[0, 1:])  # the last row of scores has no answer
assert torch.allclose(language.next_token_loss(scores, ids, mask), by_hand)

# %% [markdown] id="train-predict" lang="en"
# **Predict two numbers:** the loss before the first step (the vocabulary has 1,024 tokens), and after 400 steps.

# %% id="train"
from vlmcourse.data.batches import Batches
from vlmcourse.training.loop import train
from vlmcourse.widgets.plot import LivePlot

sizes = budget(cpu=dict(steps=400, batch=64), gpu=dict(steps=400, batch=64))

def caption_batch(texts):
    """Ids, mask, and the grammar's own surprise at each text."""
    return *tokenizer.encode(texts, bos=True), torch.tensor(captions.surprise(texts)).float()

def caption_loss(model, batch):
    ids, mask, surprise = batch
    loss = language.next_token_loss(model(ids, mask=mask), ids, mask)
    return loss, {"grammar": surprise.sum() / mask[:, 1:].sum()}

def new_writer():
    torch.manual_seed(0)
    return Llama(LlamaConfig(len(tokenizer), width=128, depth=4, heads=4, groups=2, tied=True))

writer, batches = new_writer(), Batches(caption_batch(told), sizes.batch)
with LivePlot("Your LLaMA learns captions, blind", series=("loss", "grammar")) as plot:
    history = train(writer, batches, caption_loss, steps=sizes.steps, lr=2e-3, watch=plot,
                    name="LLaMA")

# %% id="train-result"
@torch.no_grad()
def excess(model):
    """Perplexity on new captions, divided by that of the grammar itself on the same captions."""
    loss, parts = caption_loss(model.cpu().eval(), caption_batch(new))
    return math.exp(loss - parts["grammar"])

print(f"first loss {history.losses[0]:.2f}, ln 1024 = {math.log(1024):.2f}; "
      f"perplexity in the end {excess(writer):.3f} × the grammar's, after {history.seconds:.0f} s")
assert abs(history.losses[0] / math.log(1024) - 1) < 0.05 and excess(writer) < 1.05

# %% id="train-figure"
fig, ax = plt.subplots(figsize=(6.2, 2.4), layout="constrained")
ax.plot(history.losses, color=roles.learned, label="your LLaMA")
ax.plot(history.metrics["grammar"], color=roles.ink, linestyle="--", linewidth=1,
        label="the grammar itself, on the same captions")
ax.set(xlabel="step", ylabel="nats per token", ylim=(0.7, 2.5)); ax.legend()
figure(fig, alt="The loss falls steeply and then runs along the dashed line of the grammar itself")

# %% [markdown] id="per-token" lang="en"
# Where does the surprise sit? The grammar tells exactly, word by word. After "a", three of the 25 things are red, so "red" costs ln(25/3) = 2.12 nats. "of" costs nothing.

# %% id="per-token-figure"
caption = "a red circle left of a blue square"
choices = [1, 25 / 3, 3, 4 / 3 * 4, 1, 1, 25 / 4, 4, 1]  # per word, as if equally likely
exact = [math.log(count) for count in choices]
ids, _ = tokenizer.encode([caption], bos=True)
with torch.no_grad():
    scores = writer(ids)[0, :-1].log_softmax(-1)
felt = -scores.gather(1, ids[0, 1:, None])[:, 0]
fig, ax = plt.subplots(figsize=(6.2, 2.2), layout="constrained")
ax.bar(range(9), felt, color=roles.learned, label="your LLaMA")
ax.scatter(range(9), exact, color=roles.ink, marker="_", s=500, label="the grammar", zorder=3)
ax.set(xticks=range(9), xticklabels=tokenizer.tokens(ids[0, 1:]), ylabel="surprise, nats")
ax.legend()
figure(fig,
       alt="Surprise per word: high at colours, shapes, the relation; zero at a, of and the end")
assert abs(sum(exact) - captions.surprise([caption])[0]) < 1e-9
assert (felt - torch.tensor(exact)).abs().max() < 0.5

# %% [markdown] id="train-proved" lang="en"
# **What you just proved.** Your LLaMA knows the grammar and nothing else. Remember the line: 7.2 nats per caption is, on average, the best a model can do **without looking**. A model that sees the picture knows colour, shape and relation, and could go towards 0. So a captioning VLM below the line is looking. One that stays on it is blind, however fluent.
#
# **GPT** differs in small print: learned places are added, the norms are layer norms, the MLP has no gate. Attention, mask and cache stay yours.

# %% id="gpt-train"
from vlmcourse.models.gpt import GPT, GPTConfig

torch.manual_seed(0)
small_gpt = GPT(GPTConfig(len(tokenizer), width=64, depth=2))
train(small_gpt, batches, caption_loss, steps=200, lr=3e-3, name="GPT")
print(f"GPT, a tenth of the size, half the steps: {excess(small_gpt):.3f} × the grammar's "
      f"perplexity")
assert excess(small_gpt) < 1.1

# %% [markdown] id="q-sampling" lang="en"
# ## 7 · How do scores become a sentence?
#
# Take the best word each time (*greedy*), and the model says one sentence for ever. Draw at random, and now and then it draws nonsense from the long tail. **Temperature** divides the scores: below 1 sharper, above 1 flatter. **Top-p** cuts the tail: keep the best tokens until their probabilities reach p.
#
# With probabilities 0.5, 0.3, 0.15, 0.05 and p = 0.7, the first two stay: 0.5 alone is not enough, and the one that crosses belongs to them. They become 0.625 and 0.375.
#
# ### Your turn: `top_p` · difficulty 3/5 · 12 min
#
# In: `(batch, vocabulary)` scores. Out: probabilities, same shape, rows that sum to 1. Temperature 0 means greedy: all on the best token.

# %% id="top_p"
@exercise(generation.top_p)
def top_p(logits, temperature, top_p):
    """Scores -> probabilities of the next token, without the tail.

    Each row has a nucleus of its own; top_p = 1 cuts nothing.
    """
    # 1. temperature 0   2. softmax(logits / temperature), sorted
    # 3. drop those with top_p or more before them
    # 4. make rows sum to 1 again, and put every token back in its own place
    raise NotImplementedError

# %% id="sample"
import numpy as np
from vlmcourse.models.generation import generate

def write(model, temperature=1.0, p=1.0, count=400):
    start = torch.full((count, 1), BOS)
    return tokenizer.decode(generate(model, start, steps=14, temperature=temperature, top_p=p,
                                     eos=EOS, seed=0))

def grammatical(texts):
    """Share of texts that the grammar can produce."""
    return np.isfinite(captions.surprise(texts)).mean()

print(*write(writer, count=4), sep="\n")

# %% [markdown] id="sample-predict" lang="en"
# Is a sampled caption grammatical? The grammar decides, word for word; even a colour that its shape never has counts as wrong. **Predict:** which row has the most different captions, and which the most correct ones?

# %% id="sample-table"
settings = [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (1.0, 0.9), (1.5, 1.0), (1.5, 0.9)]
texts = {setting: write(writer, *setting) for setting in settings}
rows = {setting: (grammatical(said), len(set(said))) for setting, said in texts.items()}
tabulate(rows, "temperature, top-p", grammatical=".0%", different="")
share = {setting: grammatical(said) for setting, said in texts.items()}
assert share[1.0, 1.0] > 0.85 and len(set(texts[0.0, 1.0])) == 1
assert share[1.0, 1.0] <= share[1.0, 0.9] and share[1.5, 1.0] < share[1.5, 0.9]

# %% [markdown] id="sample-proved" lang="en"
# **What you just proved.** Greedy is correct and says one thing; heat brings variety and nonsense; top-p removes much of the nonsense. A VLM that answers questions mostly decodes greedily. One that *describes* samples, and each extra nonsense word is a hallucination.
#
# ## 8 · Does the cache change anything?
#
# It must not. Check it token by token, greedily and with dice. Then take the time for 64 tokens, for one text and for sixteen at once. **Predict:** which of the two gains more? A step of this small model costs some time however little it computes.

# %% id="cache-same"
prompt = tokenizer.encode(["a red circle left"], bos=True)[0][:, :-1]  # without <eos>: it goes on
options = [dict(temperature=0.0), dict(temperature=1.0, seed=3)]
same = [torch.equal(*(generate(writer, prompt, steps=64, cached=kept, **how)
                      for kept in (True, False)))
        for how in options]
print("same tokens, greedy and sampled:", same)
assert all(same)

# %% id="cache-speed"
import time
from vlmcourse.models.replay import Replay

WAYS = {"without cache": dict(cached=False), "with cache": dict(),
        "replayed": dict(replay=Replay(writer))}

def seconds(texts, rounds=4):
    """The best time of each way to write 64 tokens; they take turns, so that all fare alike."""
    times = []
    for _ in range(rounds):
        for way in WAYS.values():
            start = time.perf_counter()
            generate(writer, prompt.expand(texts, -1), steps=64, **way)
            times.append(time.perf_counter() - start)
    return np.reshape(times, (rounds, len(WAYS))).min(0)

assert torch.equal(generate(writer, prompt, steps=64),
                   generate(writer, prompt, steps=64, **WAYS["replayed"]))
times = {texts: seconds(texts) for texts in (1, 16)}
rows = {(texts, name): (texts * 64 / took, best[0] / took)
        for texts, best in times.items() for name, took in zip(WAYS, best)}
tabulate(rows, "texts at once", tokens_per_second=",.0f", times_as_fast=".1f")
assert times[1][0] > 1.2 * times[1][1] and times[16][0] > 3 * times[16][1]
assert times[1][2] < 0.8 * times[1][1]

# %% [markdown] id="replay-lesson" lang="en"
# One text gains little from the cache, because a step here is hardly arithmetic: it is Python, calling small operations by the hundred. They are the same at every step. So `Replay` records them once and plays the **recording** back: your functions, the same numbers, no Python in between. (On a GPU the same trick is called a CUDA graph.)
#
# ## 9 · Look inside
#
# Click a word, or press *play* to watch the caption being written: the map shows what each word reads. Hatched words did not exist yet.
#
# **Try this:** choose the last "square", and go through the heads of the later layers. Which one finds the relation?

# %% id="look"
from vlmcourse.widgets.text_attention import TextAttention

seen = maps.attention_maps(writer, ids)[0]                             # (layer, head, query, key)
TextAttention(tokenizer.tokens(ids[0]), seen, view=dict(query=8))

# %% [markdown] id="look-measure-intro" lang="en"
# Why should the last shape care about the relation? Compare "a blue square" with "a red circle left of a blue square". The last three words are the same. **Predict** for both: how probable is it that the caption ends here?

# %% id="look-measure"
@torch.no_grad()
def end_probability(text):
    ids = tokenizer.encode([text], bos=True)[0][:, :-1]
    return writer(ids)[0, -1].softmax(-1)[EOS].item()

alone, second = end_probability("a blue square"), end_probability(caption)
gaze = seen[:, :, 8, 4:6].sum(-1)  # what "square" reads of "left of"
print(f"it ends with probability {alone:.2f} after one thing, {second:.2f} after two")
print(f"'square' gives 'left of' up to {gaze.max():.2f} of its gaze; an even gaze {2 / 9:.2f}")
assert abs(alone - 0.25) < 0.1 and second > 0.95 and gaze.max() > 2 / 9

# %% [markdown] id="look-measured" lang="en"
# After one thing a caption may end, with 1/4; after two it must. Only the words further back tell which case this is.
#
# ## 10 · Break it on purpose
#
# **A mask that is off by one.** One wrong index, and every position sees the next token: its own answer. **Predict** where the curve goes, and what such a model writes.

# %% id="break-mask"
right = causal_mask.active                                             # yours, or the reference
causal_mask.install(lambda queries, keys: torch.ones(queries, keys).tril(keys - queries + 1).bool())
cheat = new_writer()
leak = train(cheat, batches, caption_loss, steps=200, lr=2e-3, name="mask off by one")
with torch.no_grad():
    cheat_loss = caption_loss(cheat.cpu().eval(), caption_batch(new))[0].item()
causal_mask.install(right)
spoken = write(cheat)
print(f"loss on new captions {cheat_loss:.3f}, the grammar's own {line:.3f}; "
      f"grammatical when it writes: {grammatical(spoken):.0%}")
assert cheat_loss < 0.5 * line and grammatical(spoken) < 0.5

# %% id="break-figure"
fig, ax = plt.subplots(figsize=(6.2, 2.3), layout="constrained")
ax.plot(history.losses, color=roles.learned, label="right mask")
ax.plot(leak.losses, color=roles.accent, label="off by one")
ax.plot(history.metrics["grammar"], color=roles.ink, linestyle="--", linewidth=1,
        label="the grammar itself, on the same captions")
ax.set(xlabel="step", ylabel="nats per token", ylim=(0, 3)); ax.legend()
figure(fig,
       alt="With the wrong mask the loss falls far below the grammar's own; with the right one not")

# %% [markdown] id="break-lesson" lang="en"
# Nobody is on average less surprised than the grammar itself. A loss far below it is **impossible**, so something leaks. Without that line you might have celebrated. When it writes, there is no next word to peek at, and it babbles. In a VLM the same slip hides in the shift of section 6, once image tokens stand before the labels; chapter 08 returns to it.
#
# **Positions that start again.** With a cache, each step hands the model one token. Whoever numbers it from 0 tells the model that every new word is the first one.

# %% id="break-positions"
from unittest.mock import patch
from vlmcourse.models.look import Look, causal

def from_zero(count, past, mask, device):
    right = causal(count, past, mask, device)
    # forgets that `past` tokens came before
    return Look(right.mask, torch.arange(count, device=device)[None])

good = write(writer)
with patch.object(language, "causal", from_zero):
    lost = write(writer)
print(f"grammatical: {grammatical(good):.0%} with true positions, {grammatical(lost):.0%} "
      f"restarted")
print("for instance:", lost[0])
assert lost != good and grammatical(lost) < grammatical(good) - 0.2

# %% [markdown] id="break-positions-lesson" lang="en"
# Training does not notice, because training has no cache. Only the comparison of section 8, same tokens with and without, catches it. Write that test for every decoder.
#
# ## 11 · Reading in both directions: BERT
#
# BERT has no causal mask, so it cannot be asked for the next word: it would see it. Instead some words are hidden, and it must name them. Of 15 % chosen tokens, 80 % become `<mask>`, 10 % a random token, and 10 % stay, so that it cannot trust any word it sees.
#
# ### Your turn: `mask_tokens` · difficulty 2/5 · 8 min
#
# All chance comes in as tensors `(batch, token)`: `chosen` and `dice` are uniform in [0, 1).
#
# | | |
# |---|---|
# | asked for | `chosen < 0.15`, and never where `special` is True |
# | of these | `dice < 0.8` hidden, `0.8 ≤ dice < 0.9` replaced by `random_ids`, else kept |
# | out | `(inputs, labels)`; labels hold the true id where asked for, −100 elsewhere |

# %% id="mask_tokens"
@exercise(bert.mask_tokens)
def mask_tokens(ids, chosen, dice, random_ids, mask_id, special):
    """-> (inputs, labels), both (batch, token)

    Chances may be float64 and lie exactly on a border: 0.15, 0.8 or 0.9.
    """
    raise NotImplementedError

# %% id="bert-train"
def gap_loss(model, batch):
    ids, mask, _ = batch
    chosen, dice = torch.rand(2, *ids.shape, device=ids.device)
    inputs, labels = mask_tokens(ids, chosen, dice, torch.randint_like(ids, 10, 1024), MASK,
                                 ids < 10)
    return F.cross_entropy(model(inputs, mask=mask).flatten(0, 1), labels.flatten())  # not at -100

torch.manual_seed(0)
filler = bert.BertForMaskedLM(bert.BertConfig(len(tokenizer), width=64, depth=2, heads=4))
with LivePlot("A small BERT fills gaps") as plot:
    bert_history = train(filler, batches, gap_loss, steps=400, lr=3e-3, watch=plot, name="BERT")

# %% [markdown] id="bert-compare" lang="en"
# Hide the relation: "a red circle ▢ of a blue square". In the data all four relations are equally frequent. **Predict** the four probabilities: BERT's, and LLaMA's after "a red circle".

# %% id="bert-figure"
gap, _ = tokenizer.encode(["a red circle <mask> of a blue square"], bos=True)
names = ["left", "right", "above", "below"]
relation_ids = tokenizer.encode(names)[0][:, 0]
with torch.no_grad():
    both = filler.cpu().eval()(gap)[0, 4].softmax(-1)[relation_ids]
    left_only = writer(gap[:, :4])[0, -1].softmax(-1)[relation_ids]    # it has read "a red circle"
fig, ax = plt.subplots(figsize=(6.2, 2.1), layout="constrained")
ax.bar(np.arange(4) - 0.2, both, 0.4, label="BERT, reads both sides", color=roles.first)
ax.bar(np.arange(4) + 0.2, left_only, 0.4, label="LLaMA, has read “a red circle”",
       color=roles.second, hatch="//")
ax.set(xticks=range(4), xticklabels=names, ylabel="probability"); ax.legend()
figure(fig,
       alt="BERT gives left and right a half each, above and below nothing; LLaMA all four alike")
assert both[:2].sum() > 0.9 and both[2:].sum() < 0.05 and left_only[2:].sum() > 0.2

# %% [markdown] id="bert-proved" lang="en"
# **What you just proved.** Only "left" and "right" go on with "of". BERT used that word, which comes later; LLaMA could not. That is good for *understanding* a text, as in BLIP's matching of image and text. It is bad for *writing*: with every new word all earlier vectors would change, so nothing could be kept.
#
# ## 12 · Both in one: T5
#
# T5 reads with an encoder and writes with a decoder that looks across at what was read. Its positions are a third kind: no vector is added and nothing is turned. Each head adds a learned number to the score, chosen by distance. That is the `bias` of your `scaled_dot_product`. Near distances have a *bucket* of their own; far ones share, on a logarithmic scale.
#
# ### Your turn: `relative_buckets` · difficulty 3/5 · 10 min
#
# `distance` is key − query. If `both_ways`, each side has half of the buckets: add that half for keys *after* the query, and go on with |distance|. If not, the future counts as 0. With b buckets left and e = ⌊b/2⌋, a distance n ≥ e gets e + ⌊log(n/e) / log(farthest/e) · (b − e)⌋, at most b − 1.

# %% id="relative_buckets"
@exercise(t5.relative_buckets)
def relative_buckets(distance, buckets, farthest, both_ways):
    """(query, key) distances -> (query, key) bucket numbers, integers"""
    # 1. both ways: half the buckets, |distance|; else the past only   2. near: n itself
    # 3. far: logarithmic, capped
    raise NotImplementedError

# %% id="t5-picture"
distance = torch.arange(64) - torch.arange(64)[:, None]
fig, axes = plt.subplots(1, 2, figsize=(6.2, 2.7), layout="constrained")
for ax, both_ways in zip(axes, (True, False)):
    bucket = relative_buckets(distance, buckets=32, farthest=128, both_ways=both_ways)
    shown = ax.imshow(bucket, vmin=0, vmax=31)
    ax.set(title="encoder: both ways" if both_ways else "decoder: the past", xlabel="key",
           ylabel="query")
fig.colorbar(shown, ax=axes, label="bucket")
figure(fig,
       alt="Buckets of 64 by 64 distances: bands along the diagonal, thin near it, wide far away")
assert bucket.max() < 32 and bucket[40, 41:].eq(0).all()

# %% [markdown] id="t5-work" lang="en"
# Now T5 at work. It reads "a red circle left of a blue square" and shall write the same fact the other way round: "a blue square right of a red circle". Whoever cannot read the first sentence pays 2 ln 25 + ln 4 = 7.8 nats for the second. **Predict:** what does T5 pay?

# %% id="t5-data"
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

def turned_round(text):
    words = text.split()
    (place,) = [k for k, word in enumerate(words) if word in OPPOSITE]
    return " ".join([*words[-3:], OPPOSITE[words[place]], *words[place + 1 : -3], *words[:place]])

def both_ways(texts):
    """Captions of two things, and the same turned round: ids and mask of both."""
    of_two = [text for text in texts if len(text.split()) > 3]
    return *tokenizer.encode(of_two), *tokenizer.encode([turned_round(text) for text in of_two])

# %% id="t5-train"
def answer_loss(model, batch):
    ids, mask, answer, real = batch
    labels = answer.masked_fill(~real, -100)
    return F.cross_entropy(model(ids, labels, mask=mask).flatten(0, 1), labels.flatten())

torch.manual_seed(0)
turner = t5.T5(t5.T5Config(len(tokenizer), width=64, part=16, hidden=256, start=BOS))
with LivePlot("A small T5 turns captions round") as plot:
    train(turner, Batches(both_ways(told), 64), answer_loss, steps=250, lr=4e-3, watch=plot,
          name="T5")

# %% id="t5-result"
read, real, wanted, counted = both_ways(new)
with torch.no_grad():
    paid = answer_loss(turner.cpu().eval(),
                       both_ways(new)).item() * counted.sum().item() / len(read)
answers = turner.generate(read, mask=real, steps=12, eos=EOS)
pairs = list(zip(*map(tokenizer.decode, (read, answers, wanted))))
turned = np.mean([answer == right for _, answer, right in pairs])
print(f"{pairs[0][0]} → {pairs[0][1]}\n{turned:.0%} turned without a mistake, {paid:.1f} nats each")
assert paid < 3 and turned > 0.6

# %% [markdown] id="t5-proved" lang="en"
# **What you just proved.** What is read through cross-attention lowers the loss far below the blind line. Put a picture in the place of the first sentence, and you have BLIP's way to see.
#
# ## 13 · Is this the real thing?
#
# Four library models with random weights, norms and biases included. We copy their weights into *yours*, key by key, and compare the scores.

# %% id="real-thing"
import transformers
from vlmcourse.interop.language import from_transformers

small = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
             vocab_size=90)
gpt = dict(n_embd=64, n_layer=2, n_head=4, vocab_size=90, bos_token_id=1, eos_token_id=1)
five = dict(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=90,
            decoder_start_token_id=0)
libraries = [
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**small, num_key_value_heads=2)),
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt)),
    transformers.BertForMaskedLM(transformers.BertConfig(**small)),
    transformers.T5ForConditionalGeneration(transformers.T5Config(**five)),
]
tokens, gaps = torch.randint(2, 90, (2, 3, 17)), {}
for library in libraries:
    for parameter in library.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    more = [tokens[1]] if library.config.is_encoder_decoder else []
    with torch.no_grad():
        theirs = library.eval()(tokens[0], **({"labels": tokens[1]} if more else {})).logits
        yours = from_transformers(library)(tokens[0], *more)
    gaps[type(library).__name__] = (yours - theirs).abs().max().item()
tabulate(gaps, "library class", largest_difference=".1e")
assert max(gaps.values()) < 1e-5

# %% [markdown] id="real-differs" lang="en"
# The same functions carry published models; chapter 17 loads SmolLM2 into them. What differs is mostly size and small print:
#
# | | positions | norm | MLP | biases | head |
# |---|---|---|---|---|---|
# | GPT-2 | learned, added | layer norm, before | GELU | yes | the embedding table |
# | LLaMA | RoPE | RMSNorm, before | SwiGLU | no | its own, or tied in small models |
# | BERT | learned, added | layer norm, **after** | GELU | yes | the embedding table |
# | T5 | bias by distance | RMSNorm, before | ReLU; gated GELU in Flan-T5 | no | the embedding table; its own in Flan-T5 |
#
# Later chapters need a caption writer at once, so the course ships one. It has the size of yours and learned for about two minutes, short and *full* captions: "a small red circle at the top left and …". The card beside the weights says how it was made and what it reaches.

# %% id="checkpoint"
from vlmcourse.data.assets import shipped
from vlmcourse.training.checkpoints import load_weights

shipped_writer = new_writer()
card = load_weights(shipped_writer, shipped("lm-captions.safetensors"))
metrics = card["metrics"]
start = tokenizer.encode(["a small"], bos=True)[0][:, :-1]
written = generate(shipped_writer, start, steps=40, temperature=1.0, eos=EOS, seed=1)
ratios = {style: metrics[f"{style}_perplexity"] / metrics[f"{style}_bound"]
          for style in ("short", "full")}
print(tokenizer.decode(written)[0])
tabulate(ratios, "captions", times_the_perplexity_of_the_grammar=".3f")
assert all(ratio < 1.05 for ratio in ratios.values())

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. A language model reads vectors; image features can stand among them. Every generating VLM has a decoder.
# 2. LLaMA is your ViT block with a causal mask, RMSNorm, RoPE and SwiGLU. One attention serves all four families.
# 3. The entropy of the captions is, on average, the lowest loss without looking: 7.2 nats per caption here. Far below it a model sees, or cheats.
# 4. The cache changes the speed and nothing else; test that. An image fills most of it, and shared key heads shrink it.
# 5. BERT reads both ways and cannot write cheaply; T5 joins both; temperature and top-p trade variety for truth.
#
# ## Quiz

# %% id="quiz-1"
quiz("05_language_models/1")

# %% id="quiz-2"
quiz("05_language_models/2")

# %% id="quiz-3"
quiz("05_language_models/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Sennrich et al. 2015, *Neural Machine Translation of Rare Words with Subword Units*, [arXiv:1508.07909](https://arxiv.org/abs/1508.07909): section 3.2.
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): section 3.2.3, the mask.
# - Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*, [arXiv:1910.07467](https://arxiv.org/abs/1910.07467).
# - Su et al. 2021, *RoFormer*, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864).
# - Shazeer 2020, *GLU Variants Improve Transformer*, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202): section 2.
# - Ainslie et al. 2023, *GQA*, [arXiv:2305.13245](https://arxiv.org/abs/2305.13245).
# - Holtzman et al. 2019, *The Curious Case of Neural Text Degeneration*, [arXiv:1904.09751](https://arxiv.org/abs/1904.09751): nucleus sampling.
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners* (GPT-2), OpenAI.
# - Devlin et al. 2018, *BERT*, [arXiv:1810.04805](https://arxiv.org/abs/1810.04805): section 3.1.
# - Raffel et al. 2019, *T5*, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683).
# - Touvron et al. 2023, *LLaMA*, [arXiv:2302.13971](https://arxiv.org/abs/2302.13971): section 2.2.
# - Li et al. 2022, *BLIP*, [arXiv:2201.12086](https://arxiv.org/abs/2201.12086): section 3.1. Li et al. 2023, *BLIP-2*, [arXiv:2301.12597](https://arxiv.org/abs/2301.12597). Liu et al. 2023, *LLaVA*, [arXiv:2304.08485](https://arxiv.org/abs/2304.08485): section 4.1. Zhu et al. 2023, *MiniGPT-4*, [arXiv:2304.10592](https://arxiv.org/abs/2304.10592).
#
# **Next:** [06 · Fusion: where do image and words meet?](06_fusion.ipynb)
