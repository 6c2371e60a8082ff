# %% [markdown] id="title" lang="en"
# # 04 · CLIP: two towers, one space
#
# **100 minutes.** Everything runs on two CPU cores; a GPU makes the training cells faster.
#
# Your ViT learned from labels that somebody wrote by hand. The web has no such labels, but it has hundreds of millions of pictures with a sentence beside them. In this chapter you write the loss that learns from those sentences, train it on real drawings, and find out what it learns and what it never notices.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# We stay with the vision encoder, and give it a companion that reads text. The encoders of LLaVA, BLIP-2 and MiniGPT-4 were trained this way before any language model saw them.
#
# ## After this you can
#
# - **write** the contrastive losses of CLIP and SigLIP, and say where their numbers start and why,
# - **train** two towers on pairs of pictures and names, and measure them with Recall@K,
# - **build** a classifier from nothing but the names of its classes,
# - **measure** the gap between pictures and texts, and close it,
# - **show** that CLIP reads a sentence as a bag of words, and try a remedy.

# %% id="setup"
import math, numpy as np, torch
from vlmcourse.workbook import *
from vlmcourse.families import clips; from vlmcourse.models import clip
from vlmcourse.data import openmoji
from vlmcourse.world import captions, render, scenes
begin("04_clip", lang="en")

# %% id="map"
course_map("vision")

# %% [markdown] id="q-labels" lang="en"
# ## 1 · What can a sentence teach a picture?
#
# **Question.** A label says "class 281". A sentence says "a small red circle at the top left". Nobody gave the sentence a number. What could we ask a network to predict from it?
#
# You could ask for the sentence itself, word by word, as a language model does. Radford et al. (2021, arXiv:2103.00020, section 2.3) tried that first and found it slow to learn. They asked something easier: **which of these sentences belongs to this picture?**
#
# Take a batch of pairs. Every picture meets every sentence. One of them is its partner, a *positive*. All the others are *negatives*, and they cost nothing: they are the partners of the other pictures. This is **contrastive learning**.

# %% id="pairs-look"
import matplotlib.pyplot as plt

drawings = openmoji.load("train")
chosen = [drawings.captions.index(name)
          for name in ("red apple", "hot beverage", "elephant", "rocket", "snowman")]
fig, axes = plt.subplots(1, 5, figsize=(6.8, 1.5), layout="constrained")
for ax, n in zip(axes, chosen):
    ax.imshow(drawings.images[n]); ax.set_title(drawings.captions[n], fontsize=9); ax.axis("off")
figure(fig, alt="Five OpenMoji drawings: apple, hot beverage, elephant, rocket and snowman")
print(f"{len(drawings):,} drawings with names. {openmoji.ATTRIBUTION}")
assert len(drawings) > 3000

# %% [markdown] id="drawings" lang="en"
# These are real pictures that people drew and named: the emoji of OpenMoji, an open set. Many are **combinations**: a role, a gender, a skin tone. We keep 400 combinations out of training. Each of their parts is known, the whole is new. That is the test at the end.
#
# And this is what you train on them. Lit is what you write: it makes vectors comparable, finds the one vector of a text, and says how well pairs match. The towers are a ViT and a transformer as you know them.

# %% id="drawing"
drawing("clip")

# %% [markdown] id="by-hand" lang="en"
# ## 2 · Three pictures, three texts, by hand
#
# Each tower turns its input into one vector. Here are three pairs in two dimensions. How alike are a picture and a text? Take the dot product.

# %% id="hand-numbers"
pictures = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
texts = torch.tensor([[1.0, 0.2], [0.0, 2.0], [5.0, 4.0]])
print(pictures @ texts.T)
assert (pictures @ texts.T).argmax(1).tolist() == [2, 2, 2]

# %% [markdown] id="length-problem" lang="en"
# All three pictures choose the third text. It is not the most alike, it is the **longest**. A vector could win every comparison by growing. So CLIP throws the length away and compares directions only.
#
# ### Your turn: `normalise` · difficulty 1/5 · 3 min
#
# Divide each vector by its Euclidean length, along the last axis: `(…, width)` → `(…, width)`.
#
# Every check also tries [other dtypes, devices, sizes and gradients](00_start_here.ipynb).

# %% id="normalise"
@exercise(clip.normalise)
def normalise(features):
    """every vector along the last axis gets length 1"""
    raise NotImplementedError

# %% id="normalised-numbers"
cosines = clip.normalise(pictures) @ clip.normalise(texts).T
print(cosines)
assert cosines.argmax(1).tolist() == [0, 1, 2]

# %% [markdown] id="normalised-lesson" lang="en"
# Now every picture finds its partner. A dot product of unit vectors is the **cosine** of the angle between them, from −1 to 1.
#
# That range is a problem of its own. A softmax over numbers between −1 and 1 is almost flat: even a perfect batch of 100 would give its partner only a small share. So the cosines are multiplied by a **scale** before the softmax. Its inverse is called the temperature. CLIP starts at 1/0.07 ≈ 14 and lets training choose.

# %% id="scale-numbers"
perfect = 2 * torch.eye(100) - 1                      # partners at cosine 1, all others at −1
shares = {scale: (scale * perfect).softmax(1)[0, 0].item() for scale in (1, 1 / 0.07)}
tabulate({f"{scale:.2f}": share for scale, share in shares.items()}, "scale", partner_gets=".1%")
assert shares[1] < 0.1 < 0.99 < shares[1 / 0.07]

# %% [markdown] id="ex-info-nce" lang="en"
# ## 3 · The loss
#
# Read a row of the matrix: a picture chooses among texts. That is a classification, and you know its loss: cross-entropy. The right class of row *i* is *i*. Read a column: a text chooses among pictures. CLIP takes the mean of both. The loss is known as **InfoNCE** (van den Oord et al. 2018).
#
# ### Your turn: `info_nce` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `image`, `text` | `(batch, width)`, already normalised (not again here), row *i* of both from one pair |
# | `scale` | one number, multiplied with the cosines |
# | out | one number |

# %% id="info_nce"
@exercise(clip.info_nce)
def info_nce(image, text, scale):
    """mean of two cross-entropies: over the rows and over the columns

    `scale` learns, a tensor (); logits may be in the hundreds.
    """
    # 1. logits (image, text)   2. the right answer of row i is i   3. both directions
    raise NotImplementedError

# %% [markdown] id="predict-start" lang="en"
# **Predict** before you run the next cell. Features that know nothing are random directions. The batch has 128 pairs. What is the loss of a model that can only guess?

# %% id="loss-start"
blank = clip.normalise(torch.ones(128, 64))           # all vectors alike: no way to tell them apart
start = clip.info_nce(blank, blank, 14.0).item()
print(f"loss {start:.4f}, ln 128 = {math.log(128):.4f}")
assert abs(start - math.log(128)) < 1e-3

# %% [markdown] id="loss-start-lesson" lang="en"
# Guessing among B equal choices costs ln B. Remember the number: a CLIP whose loss **stays** at ln B has learned nothing, and this is a common failure. We will cause it on purpose in section 10.

# %% [markdown] id="text-tower" lang="en"
# ## 4 · A tower that reads
#
# The text tower is what you know: token embeddings, positions, transformer blocks with a causal mask. It predicts no next token. We want **one vector per sentence**. Which token should give it?
#
# In a causal transformer only the last token has read everything. So CLIP ends each text with a special token, EOS, and takes the vector there. Texts differ in length, and behind the EOS there is only padding.
#
# ### Your turn: `pool_at_eos` · difficulty 2/5 · 6 min
#
# | | shape |
# |---|---|
# | `hidden` | `(batch, token, width)` |
# | `ids` | `(batch, token)`, every row holds at least one `eos` |
# | out | `(batch, width)`: the vector at the **first** EOS of each row |

# %% id="pool_at_eos"
@exercise(clip.pool_at_eos)
def pool_at_eos(hidden, ids, eos):
    """the vector at the first end-of-sequence token of each text; ids may be above `eos`"""
    raise NotImplementedError

# %% id="tokens-look"
from vlmcourse.data.text import load_tokenizer

tokenizer = load_tokenizer()
ids, mask = tokenizer.encode(["red apple", "woman astronaut: dark skin tone"])
print(*[tokenizer.tokens(row) for row in ids], sep="\n")
assert (ids == 3).sum(1).tolist() == [1, 1]           # 3 is EOS

# %% [markdown] id="train-intro" lang="en"
# ## 5 · Train it on drawings
#
# Both towers, each followed by one matrix into the shared space, your loss on top. The drawings fill the picture and sit in the middle, so patches of 16 pixels are enough. That leaves 17 tokens per picture and makes training quick.
#
# Two details decide a lot at this size. The matrices are trained by **Muon** (Jordan 2024, kellerjordan.github.io/posts/muon). AdamW scales each number of a step by itself, and the step of a whole matrix still goes mostly along a few directions. Muon makes all directions of the step equally long, so rare ones are learned sooner. Leave `muon=0.02` out of the cell below, and AdamW trains all of them: compare the last losses.
#
# The other is the start. On a white background every patch starts with nearly the same large vector. `new_clip` rescales the patch embedding once, so that its outputs have mean 0 and deviation 1 on a few hundred pictures (Krähenbühl et al. 2015, arXiv:1511.06856). In the cell, `positions=0.5` is the size of the positions at the start, and `shift=2` moves each batch by up to two pixels.

# %% id="train"
from vlmcourse.data import pixels
from vlmcourse.widgets.plot import LivePlot

sizes = budget(cpu=dict(steps=228, batch=128), gpu=dict(steps=228, batch=128))
pairs = clips.emoji_pairs("train")
model = clips.new_clip(patch=16, width=128, images=pixels.normalise(pairs[0][:512, 0]),
                       positions=0.5)
with LivePlot("Your CLIP learns names") as plot:
    history = clips.train_clip(model, pairs, lr=2e-3, muon=0.02, weight_decay=0.1, shift=2,
                               watch=plot, name="CLIP on drawings", **vars(sizes))
print(history)

# %% id="train-check"
first, chance_loss = history.losses[0], math.log(sizes.batch)
print(f"first loss {first:.3f}, ln {sizes.batch} = {chance_loss:.3f}")
assert abs(first / chance_loss - 1) < 0.05
assert np.mean(history.losses[-20:]) < 0.5

# %% [markdown] id="ex-recall" lang="en"
# ## 6 · Did it learn? Recall@K
#
# Give the model a picture and 400 candidate names. Sort them by cosine. **Recall@K** asks: is a right one among the first K? Chance for K = 1 is 1 in 400.
#
# One query can have several right candidates, as when two pictures share a caption. That is why `right` is a matrix and not the diagonal. One hit is enough.
#
# ### Your turn: `recall_at_k` · difficulty 2/5 · 8 min
#
# | | shape |
# |---|---|
# | `similarity` | `(query, candidate)` |
# | `right` | `(query, candidate)`, True where the candidate is right |
# | out | share of queries with at least one right candidate among their k most similar |

# %% id="recall_at_k"
from vlmcourse.evaluation import retrieval

@exercise(retrieval.recall_at_k)
def recall_at_k(similarity, right, k):
    """share of queries with a hit among the first k, a Python float

    A query without any right candidate is a miss.
    """
    raise NotImplementedError

# %% [markdown] id="heldout-intro" lang="en"
# Now the 400 combinations that training never saw. "Woman firefighter: dark skin tone" is new, though women, firefighters and dark skin are not.

# %% id="heldout"
heldout = openmoji.load("heldout")
image_features = clips.image_features(model, heldout.images)
text_features = clips.text_features(model, heldout.captions)
recall = retrieval.retrieval(image_features, text_features, torch.eye(400).bool())
tabulate(recall, "400 new combinations", share=".1%")
assert min(recall[f"{way} R@1"] for way in ("image→text", "text→image")) >= 0.60
assert min(recall[f"{way} R@5"] for way in ("image→text", "text→image")) >= 0.95

# %% [markdown] id="heldout-lesson" lang="en"
# At least six in ten come first, and nearly all are among the first five, where chance is 1 in 80. The model learned parts that it can combine. Look at where it errs. A cross marks a pair that is not first; move the temperature and watch the loss.

# %% id="matrix"
from vlmcourse.widgets.similarity import SimilarityMatrix

cosine = (image_features @ text_features.T).numpy()
SimilarityMatrix(cosine[:24, :24], heldout.images[:24], heldout.captions[:24], temperature=0.07)

# %% [markdown] id="matrix-lesson" lang="en"
# Bright blocks off the diagonal are near-twins: same role and tone, another gender. The model puts them close together, and that is right. It only has to keep them apart by a little.
#
# A shared space is also a search engine. The drawings are encoded once; what you type is encoded as you type. Try words that are no emoji name. And does *red apple* find the apple, or whatever is red?

# %% id="search"
from vlmcourse.widgets.search import TextToImageSearch

everything = clips.image_features(model, drawings.images)
TextToImageSearch(lambda text: (everything @ clips.text_features(model, [text])[0]).numpy(),
                  drawings.images, drawings.captions, attribution=openmoji.ATTRIBUTION,
                  suggestions=["woman astronaut: dark skin tone", "snowman", "cat", "red apple"])

# %% [markdown] id="scenes-intro" lang="en"
# ## 7 · A classifier from names: zero-shot
#
# Now our laboratory, where truth is known exactly. The course ships `clip-scenes`, trained by the same code on scenes with one or two objects. Whatever you have passed runs in it too: your `normalise`, your pooling.
#
# **Question.** Can it name the colour of an object, though it was never trained to classify?
#
# Write a sentence for each class and choose the nearest one. Better: write **many** sentences per class and average their vectors, so that what they do not share cancels out.
#
# ### Your turn: `zero_shot_classifier` · difficulty 2/5 · 6 min
#
# | | shape |
# |---|---|
# | `prompts` | `(class, prompt, width)`, as the text tower gives them, not normalised |
# | out | `(class, width)`: normalise each prompt, average, normalise again |

# %% id="zero_shot_classifier"
@exercise(clip.zero_shot_classifier)
def zero_shot_classifier(prompts):
    """one unit vector per class"""
    raise NotImplementedError

# %% id="zero-shot"
laboratory, card = clips.load_clip("clip-scenes")
print("one class:", *clips.scene_prompts("colour")[2], sep=" · ")
found = {(split, what): clips.zero_shot(laboratory, split, what, 500)
         for split in ("test", "novel") for what in ("colour", "shape")}
tabulate(found, "split", right=".1%")
assert min(found["test", "colour"], found["test", "shape"]) >= 0.95
assert found["novel", "colour"] >= 0.95 and 0.80 <= found["novel", "shape"] < found["test", "shape"]

# %% [markdown] id="zero-shot-lesson" lang="en"
# The split `novel` holds colour-shape combinations that no training picture showed, such as a blue star. Their colours are named as surely as any others. Their shapes are named in almost nine of ten, far above chance (1 in 5) and below the combinations it knows. So the model composes, but not for free.
#
# It needed help, and the help is a lesson about data. Trained on coloured scenes only, the same recipe named just two new shapes in three. "Blue" and "star" never met, so the model could lean on "blue things are never stars". In `clip-scenes` half of the scenes are therefore shown in **grey**, and their captions name no colour. A shape must then be known without its colour. What you leave out of a caption teaches too.
#
# This is why CLIP became the eye of so many models: its features carry words, and a new classifier costs a sentence. Training on pairs, before any task is known, is its **pretraining**. Encoders before it were pretrained on ImageNet, 1.3 million photographs labelled with one of 1,000 classes. LLaVA, BLIP-2, Flamingo and Kosmos begin with an encoder that had it.

# %% id="scene-retrieval"
batch, lines = clips.unique_scenes(500)
scene_images = clips.image_features(laboratory, render.render(batch))
scene_texts = clips.text_features(laboratory, lines)
found = retrieval.retrieval(scene_images, scene_texts, retrieval.right_pairs(lines, lines))
print(lines[0])
tabulate(found, "500 scenes", share=".1%")
assert min(found["image→text R@1"], found["text→image R@1"]) >= 0.60

# %% [markdown] id="scene-search-intro" lang="en"
# Search here as well. Behind these 500 scenes we put 100 of the split `novel`; seven of them show a blue star. **Predict:** where will they stand? Then name two objects, and watch what "left of" is worth. Section 9 comes back to it.

# %% id="scene-search"
strange = scenes.sample("novel", 100, objects=(1, 1))
gallery = np.concatenate([render.render(batch), render.render(strange)])
told = lines + captions.captions(strange, "full")
gallery_features = torch.cat([scene_images,
                              clips.image_features(laboratory, render.render(strange))])

def score(text):
    return (gallery_features @ clips.text_features(laboratory, [text])[0]).numpy()

best = score("a blue star").argsort()[::-1][:5]
assert sum("blue star" in text for text in told) == 7 and all("blue star" in told[n] for n in best)
TextToImageSearch(score, gallery, told,
                  suggestions=["a blue star", "a green square left of a red circle", lines[0]])

# %% [markdown] id="ex-gap" lang="en"
# ## 8 · One cloud or two?
#
# **Predict.** Partners are pulled together, so pictures and texts should be mixed in the shared space. Are they?
#
# ### Your turn: `modality_gap` · difficulty 2/5 · 5 min
#
# `image` is `(image, width)`, `text` is `(text, width)`, not yet normalised. Return the vector from the mean text to the mean image, both taken after normalising, and its length.

# %% id="modality_gap"
from vlmcourse.diagnostics import gap

@exercise(gap.modality_gap)
def modality_gap(image, text):
    """-> (gap (width,), its length, a tensor ())"""
    raise NotImplementedError

# %% id="gap-numbers"
vector, length = gap.modality_gap(scene_images, scene_texts)
_, noise = gap.modality_gap(scene_images[::2], scene_images[1::2])  # two halves of the same cloud
print(f"from texts to images {length:.3f}; between two halves of the images {noise:.3f}")
closed = clip.normalise(scene_texts + vector)  # the texts, moved over to the images
closed_recall = retrieval.retrieval(scene_images, closed,
                                    retrieval.right_pairs(lines, lines))["image→text R@1"]
print(f"R@1 with the gap {found['image→text R@1']:.1%}, with the gap closed {closed_recall:.1%}")
assert length > 1.5 * noise and abs(closed_recall - found["image→text R@1"]) < 0.15

# %% id="clouds"
from vlmcourse.widgets.clouds import FeatureClouds

FeatureClouds(scene_images[:150], scene_texts[:150], labels=lines[:150],
              thumbnails=render.render(batch[:150]))

# %% [markdown] id="gap-predict" lang="en"
# A gap, though a small one in this little world. Pull the slider: the clouds meet, and Recall hardly moves. The loss compares a picture only with texts and a text only with pictures, so a shift between the clouds costs almost nothing.
#
# Where does it come from, and why is it small here? **Predict:** before training, is there a gap already? And if the scale is held fixed, will a large one (a low temperature) or a small one close it faster?

# %% id="gap-temperature"
def gap_of(tower):
    seen = clips.image_features(tower, heldout.images)
    return gap.modality_gap(seen, clips.text_features(tower, heldout.captions))[1]

gaps = {}
for run, scale in enumerate((3, 100), 1):
    torch.manual_seed(0)
    fresh = clips.new_clip(patch=16, width=128, images=pixels.normalise(pairs[0][:512, 0]),
                           positions=0.5)
    fresh.logit_scale.requires_grad_(False).fill_(math.log(scale))
    at_start = gap_of(fresh.eval())
    clips.train_clip(fresh, pairs, steps=40, lr=2e-3, muon=0.02, batch=40, weight_decay=0.1,
                     shift=2, name=f"scale {scale}, run {run} of 2")
    gaps[scale] = gap_of(fresh)
after_steps = {f"after 40 steps, scale {scale}": length for scale, length in gaps.items()}
tabulate({"random start": at_start} | after_steps, gap=".2f")
assert at_start > 1 and gaps[3] < 0.5 * gaps[100] < 0.5 * at_start

# %% [markdown] id="gap-lesson" lang="en"
# The gap is there before the first step: two random networks send everything into two narrow cones. A small scale must pull the cones together to tell pairs apart. A large scale tells them apart by tiny angles, so it can leave the cones where they are. Liang et al. (2022, arXiv:2203.02053) found this in every such model they tried.
#
# For a VLM this matters: a picture's vector is not where a sentence's vector would be. Chapter 07 builds the bridge.

# %% [markdown] id="order-intro" lang="en"
# ## 9 · Does CLIP notice the order of words?
#
# "A red circle left of a blue square" and "a blue square left of a red circle" have the same words. One of them is false. **Predict:** how often does our CLIP prefer the true one? A coin gets 50 %.

# %% id="order"
before = clips.word_order(laboratory)
print(f"the true order wins {before:.1%} of the time")
assert abs(before - 0.5) < 0.05

# %% [markdown] id="order-why" lang="en"
# A coin. Why? In a random batch no other text has the same words in another order. A bag of words is enough to find the partner, so a bag of words is what is learned. Yuksekgonul et al. (2022, arXiv:2210.01936) measured the same in published models.
#
# Their remedy: put the exchanged sentence into the batch, as a **hard negative**. We can do even better. In our laboratory we can also draw the picture that the exchanged sentence describes. So every scene stands beside its opposite, and only order tells the two apart.

# %% id="order-pairs"
images, ids = clips.order_pairs(3)
fig, axes = plt.subplots(2, 3, figsize=(6, 4), layout="constrained")
for ax, picture, text in zip(axes.T.flat, images.flatten(0, 1),
                             tokenizer.decode(ids.flatten(0, 1))):
    half = text.index(" of ") + 4 if " of " in text else text.index(" ", len(text) // 2)
    ax.imshow(picture); ax.set_title(f"{text[:half]}\n{text[half:]}", fontsize=9); ax.axis("off")
figure(fig, alt="Three pairs of scenes: objects trade places, captions have the same words")
assert torch.equal(ids[:, 0].sort(1).values, ids[:, 1].sort(1).values)

# %% [markdown] id="remedy-predict" lang="en"
# The course ships `clip-order`: the same model, trained on with these pairs for 3,000 more steps. That takes minutes, so here we only measure it. **Predict** two things: the true order now wins how often? And what happens to the skills it had before?

# %% id="remedy"
ordered, order_card = clips.load_clip("clip-order")
after = clips.word_order(ordered)
found_after = retrieval.retrieval(clips.image_features(ordered, render.render(batch)),
                                  clips.text_features(ordered, lines),
                                  retrieval.right_pairs(lines, lines))
rows = {"word order": (before, after),
        "zero-shot shape": [clips.zero_shot(tower, "test", "shape", 500)
                            for tower in (laboratory, ordered)],
        "R@1 of full captions": (found["image→text R@1"], found_after["image→text R@1"])}
tabulate(rows, before=".1%", after=".1%")
assert before < 0.55 and after >= 0.90 and rows["zero-shot shape"][1] > 0.9
assert found_after["image→text R@1"] < found["image→text R@1"] - 0.1

# %% [markdown] id="remedy-lesson" lang="en"
# **A contrastive model learns what tells its batch apart, and no more.** Whoever chooses the negatives chooses what is learned. That is also why `clip-scenes` saw each scene beside a twin with one shape changed.
#
# The price is in the last row. The new training showed short captions only, and the model began to forget what full captions say: sizes and places. Remember this for the chapters on training in stages. What a stage does not show, it may take away.
#
# ## 10 · Break it on purpose: forget the normalisation
#
# A classic. Somebody forgets to normalise, and the loss still looks like a loss. **Predict** where it ends.

# %% id="break"
yours, first_steps = clip.normalise.active, {}
for name, rule in {"with normalisation": yours, "without": lambda features: features}.items():
    clip.normalise.install(rule)
    torch.manual_seed(0)
    fresh = clips.new_clip(patch=16, width=128, images=pixels.normalise(pairs[0][:512, 0]),
                           positions=0.5)
    first_steps[name] = clips.train_clip(fresh, pairs, steps=60, lr=2e-3, batch=64,
                                         weight_decay=0.1, name=name).losses
clip.normalise.install(yours)
fine, end = (np.mean(losses[-10:]) for losses in first_steps.values())
print(f"steps 51-60: {fine:.2f} with normalisation, {end:.2f} without; ln 64 = {math.log(64):.2f}")
assert end > math.log(64) * 0.9 > fine

# %% [markdown] id="break-lesson" lang="en"
# Long vectors times a scale of 14 make enormous logits. The quickest way down is to make all vectors alike, which costs ln B, and there it stays. If your own CLIP sits at ln B, look at the normalisation first. (Both runs used AdamW. Does Muon get stuck too? Add `muon=0.02` and see.)
#
# A second classic needs no bug. If two pictures in a batch share a caption, each is told that the other's caption is wrong: a **false negative**. Even perfect features then cannot reach zero.

# %% id="false-negatives"
unit = torch.eye(8)
same = unit.clone(); same[1] = same[0]                # pairs 0 and 1 are the same
floor = clip.info_nce(same, same, 100.0).item()
perfect = clip.info_nce(unit, unit, 100.0).item()
print(f"perfect features: {perfect:.4f}; with one duplicate {floor:.4f}")
assert abs(floor - 2 / 8 * math.log(2)) < 1e-3

# %% [markdown] id="ex-siglip" lang="en"
# ## 11 · One question per pair: SigLIP
#
# InfoNCE needs the whole row before it can judge one pair. On a thousand GPUs that row lies spread over all of them. SigLIP (Zhai et al. 2023, arXiv:2303.15343) asks about each pair alone: **do these two belong together, yes or no?** There are far more "no" than "yes", so a learned bias starts at −10.
#
# ### Your turn: `siglip_loss` · difficulty 3/5 · 10 min
#
# Logits are `scale · cosine + bias`. The sign is +1 for partners and −1 for all others. Return −Σ log σ(sign · logit), divided by the batch size.

# %% id="siglip_loss"
@exercise(clip.siglip_loss)
def siglip_loss(image, text, scale, bias):
    """-Σ log σ(±logit) / batch

    As in info_nce; `bias` learns, too, and logits may be in the hundreds.
    """
    raise NotImplementedError

# %% [markdown] id="real-intro" lang="en"
# ## 12 · Is this the real thing?
#
# Your functions sit inside the course's `CLIP`. Build a small CLIP of `transformers` and one of `open_clip`, random but with no norm or scale left at its start. Copy their weights. The same pictures and texts must give the same cosines, times the same scale.

# %% id="real-models"
import open_clip, transformers
from vlmcourse.interop.clip import from_open_clip, from_transformers

sizes = dict(num_hidden_layers=2, num_attention_heads=4, hidden_size=64, intermediate_size=128)
theirs = transformers.CLIPModel(transformers.CLIPConfig(
    text_config=dict(vocab_size=50, max_position_embeddings=9, bos_token_id=0, eos_token_id=30,
                     **sizes),
    vision_config=dict(image_size=32, patch_size=8, **sizes), projection_dim=40))
config = dict(embed_dim=40,
              vision_cfg=dict(layers=2, width=64, head_width=16, patch_size=8, image_size=32),
              text_cfg=dict(context_length=9, vocab_size=50, width=48, heads=4, layers=2))
other = open_clip.CLIP(**config)
torch.manual_seed(0)
for model_of_theirs in (theirs, other):
    for weight in model_of_theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3 if weight.dim() < 2 else 0.1)
    torch.nn.init.constant_(model_of_theirs.logit_scale, math.log(20))

# %% id="real"
from open_clip.loss import ClipLoss, SigLipLoss

photos, words = torch.randn(6, 3, 32, 32), torch.randint(3, 29, (6, 9))
words[:, 6] = 30  # the EOS of the first; open_clip takes the highest id
words_of_other = words.where(words != 30, 49)
with torch.no_grad():
    wanted = theirs.eval()(input_ids=words, pixel_values=photos).logits_per_image
    seen, read, scale = other.eval()(photos, words_of_other)
    mine = [scale * image @ text.T for image, text, scale in (
        from_transformers(theirs)(photos, words),
        from_open_clip(other.state_dict(), config)(photos, words_of_other))]
differences = {"transformers": mine[0] - wanted, "open_clip": mine[1] - scale * seen @ read.T,
               "ClipLoss": clip.info_nce(seen, read, scale) - ClipLoss()(seen, read, scale),
               "SigLipLoss": clip.siglip_loss(seen, read, 10.0, -10.0)
               - SigLipLoss()(seen, read, torch.tensor(10.0), torch.tensor(-10.0))}
largest = {name: difference.abs().max().item() for name, difference in differences.items()}
tabulate(largest, "compared with", largest_difference=".1e")
assert max(largest.values()) < 1e-5
assert wanted.std() > 0.1

# %% [markdown] id="real-differs" lang="en"
# How the published model differs from ours:
#
# | | ours | CLIP, Radford et al. 2021 |
# |---|---|---|
# | pairs | 3,294 drawings | 400 million from the web (section 2.2) |
# | batch | 128 | 32,768 (section 2.5) |
# | image tower | ViT, 4 blocks, width 128 | up to ViT-L/14 at 336 pixels; ResNets too |
# | text tower | 2 blocks | 12 blocks of width 512 in the base model (section 2.4) |
#
# CLIP joins picture and text only at the very end, with one dot product. That is **late fusion**. It makes search fast, since every picture is encoded once. It is also why the model cannot answer a question about a picture: no word ever looks at a patch. For that we need a language model, which is next, and then fusion.
#
# ## Paper guide: Radford et al. 2021
#
# Read sections 2.3 to 2.5 and figure 3 beside this notebook.
#
# | in the paper | in your code |
# |---|---|
# | figure 3, `l2_normalize` | `normalise` |
# | figure 3, the last five lines | `info_nce` |
# | section 2.4, activations at [EOS] | `pool_at_eos` |
# | section 3.1.4, prompt ensembling | `zero_shot_classifier` |
# | section 2.5, clipping at 100 | `CLIP.scale` |
#
# Three questions to answer from the paper: Why was predicting the caption given up? What did a prompt with context gain over a bare class name? Which tasks of section 3.1.5 did CLIP fail at, and what do they have in common with your section 9?

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# 1. Pictures with sentences are enough: partners attract, the rest of the batch repels, and a guess costs ln B.
# 2. Normalise, or the loss stays at ln B. The scale decides how sharp the choice is.
# 3. Zero-shot: names become a classifier, also for combinations never seen.
# 4. Pictures and texts form two clouds with a gap between them.
# 5. The batch decides what is learned. Word order is not, until hard negatives ask for it.

# %% [markdown] id="quiz-intro" lang="en"
# ## Quiz

# %% id="quiz-1"
quiz("04_clip/1")

# %% id="quiz-2"
quiz("04_clip/2")

# %% id="quiz-3"
quiz("04_clip/3")

# %% id="progress"
progress()

# %% [markdown] id="references" lang="en"
# ## References
#
# - Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020): sections 2 and 3.1, figure 3.
# - van den Oord et al. 2018, *Representation Learning with Contrastive Predictive Coding*, [arXiv:1807.03748](https://arxiv.org/abs/1807.03748): InfoNCE.
# - Zhai et al. 2023, *Sigmoid Loss for Language Image Pre-Training*, [arXiv:2303.15343](https://arxiv.org/abs/2303.15343): section 3.2.
# - Liang et al. 2022, *Mind the Gap*, [arXiv:2203.02053](https://arxiv.org/abs/2203.02053).
# - Yuksekgonul et al. 2022, *When and Why Vision-Language Models Behave Like Bags-of-Words*, [arXiv:2210.01936](https://arxiv.org/abs/2210.01936).
# - Krähenbühl et al. 2015, *Data-dependent Initializations of Convolutional Neural Networks*, [arXiv:1511.06856](https://arxiv.org/abs/1511.06856).
# - OpenMoji, HfG Schwäbisch Gmünd, CC BY-SA 4.0, [openmoji.org](https://openmoji.org).
#
# **Next:** [05 · Language models, the part that answers](05_language_models.ipynb)
