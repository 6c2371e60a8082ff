# %% [markdown] id="title" lang="en"
# # 06 · Fusion: where do image and words meet?
#
# **75 minutes.** Everything runs on two CPU cores; a GPU makes the training cells faster.
#
# You have an eye (chapter 04) and a mouth (chapter 05). Nothing connects them yet. This chapter builds every common connection, trains all of them on the same questions, and lets you read the bill: accuracy, seconds, memory, and room in the context.

# %% [markdown] id="where" lang="en"
# ## Where we are
#
# Between the vision encoder and the language model. How the two are joined is the one decision that tells today's VLMs apart.
#
# ## After this you can
#
# - **write** late fusion, cross-attention, gated cross-attention and token injection,
# - **say** which models use which, and what each costs,
# - **train** all of them with equal parameters and compare them honestly,
# - **mask** a prompt so that it is read in both directions,
# - **catch** the most common bug of a VLM before it costs a training.

# %% id="setup"
import math, time, torch
from vlmcourse import recipes
from vlmcourse.workbook import *
from vlmcourse.models import fusion, language
from vlmcourse.data import questions, render, scenes
begin("06_fusion", lang="en")

# %% id="map"
course_map("connector")

# %% [markdown] id="q-where" lang="en"
# ## 1 · Three places to meet
#
# **Question.** A picture is 64 vectors. A question is eight. Where in the network should the first word meet the first patch?
#
# | | they meet | example |
# |---|---|---|
# | **late** | when both are read to the end, as two vectors | CLIP; the first VQA models |
# | **in the middle** | between the blocks of the language model: words look at the image | BLIP, Flamingo, Llama 3.2 Vision |
# | **early** | at the input: image tokens stand among the words | LLaVA, BLIP-2, PaliGemma, Qwen-VL |
#
# In your own words, before you go on: which of the three can find "the shape **left of** the red one"?

# %% [markdown] id="late-intro" lang="en"
# ## 2 · Late: two vectors
#
# The image becomes one vector, the mean of its patches. The text has one vector per token. What can a layer do with both? A linear layer can only **add** them: what the image says, plus what the text asks. But an answer depends on both *at once*.
#
# By hand. The image says (colour: red = 1, blue = −1), the text asks (shall I see red = 1, blue = −1). The answer is yes if both agree:

# %% id="late-hand"
cases = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])        # image, text
agree = torch.tensor([1.0, -1.0, -1.0, 1.0])
best_sum = torch.linalg.lstsq(cases, agree[:, None]).solution
print("best sum:", (cases @ best_sum).flatten().tolist(), " product:", cases.prod(1).tolist())
assert (cases @ best_sum).abs().max() < 1e-6 and torch.equal(cases.prod(1), agree)

# %% [markdown] id="ex-late" lang="en"
# The best weighted sum answers 0 to everything. The product is the answer. So late fusion hands over three things: the text, the image, and their product, number by number.
#
# ### Your turn: `late_fusion` · difficulty 2/5 · 7 min
#
# | | shape |
# |---|---|
# | `image` | `(batch, width)`, one vector per picture |
# | `text` | `(batch, token, width)` |
# | `mix` | layers from 3 · width to out |
# | out | `(batch, token, out)`: `mix` of [text, image, text · image] |

# %% id="late_fusion"
@exercise(fusion.late_fusion)
def late_fusion(image, text, mix):
    """mix([text, image, text · image]) for every token"""
    # 1. give the image a token axis   2. three parts side by side   3. mix
    raise NotImplementedError

# %% [markdown] id="cross-intro" lang="en"
# ## 3 · In the middle: words look at the image
#
# One vector for a whole picture is little. With **cross-attention** every word asks its own question of all 64 patches. You know attention. One thing changes: queries come from the words, keys and values from the image.
#
# ### Your turn: `cross_attend` · difficulty 1/5 · 5 min
#
# One step of the residual stream, as in your `pre_norm_block`. `attend(queries, context)` is given.

# %% id="cross_attend"
@exercise(fusion.cross_attend)
def cross_attend(tokens, context, norm, attend):
    """tokens (batch, token, width), context (batch, patch, width) -> tokens that have looked"""
    raise NotImplementedError

# %% [markdown] id="gate-intro" lang="en"
# A new layer between trained ones is dangerous. At first it writes noise into a stream that a language model has learned to read. Flamingo (Alayrac et al. 2022, arXiv:2204.14198) puts a **gate** before it: a learned number g, and tanh(g) multiplies what was seen. It begins at 0.
#
# **Predict:** what does the model answer before the first step, with an image and without?
#
# ### Your turn: `gated_cross_attend` · difficulty 1/5 · 4 min

# %% id="gated_cross_attend"
@exercise(fusion.gated_cross_attend)
def gated_cross_attend(tokens, context, norm, attend, gate):
    """as cross_attend, but what was seen comes through tanh(gate)"""
    raise NotImplementedError
