"""CLIP: one tower reads images, one reads texts; what belongs together ends up close together (notebook 04).

    CLIP                   ViT and TextTower, a projection for each into a shared space, and the learned scale
    info_nce               CLIP's loss: find your partner among the whole batch, in both directions
    siglip_loss            SigLIP's loss: for every pair alone, do these two belong together?
    zero_shot_classifier   names of classes in, a classifier out; no labelled image needed

Texts are token ids that end in EOS; whatever stands behind the EOS is padding. It changes nothing, because a
causal block never looks ahead. Nothing here loads weights; interop/clip.py does.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Block, Tokens, run_blocks
from vlmcourse.models.language import Ids
from vlmcourse.models.look import Mask, causal
from vlmcourse.models.vit import Pixels, ViT, ViTConfig
from vlmcourse.slots import slot

LARGEST_SCALE = math.log(100)  # Radford et al. 2021, section 2.5: a larger one made training unstable


@slot
def pool_at_eos(
    hidden: Float[Tensor, "batch token width"], ids: Int[Tensor, "batch token"], eos: int
) -> Float[Tensor, "batch width"]:
    """The vector at the first end-of-sequence token of each text: the first one that has read all of it.

    Args:
        ids: every row holds at least one ``eos``. Several may follow, when texts are padded with it.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4.
    """
    first = (ids == eos).int().argmax(dim=1)  # the place of the first 1
    return hidden[torch.arange(len(ids), device=ids.device), first]


@slot
def normalise(features: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
    """Divide every vector by its Euclidean length, so that a dot product of two is their cosine.

    Source: ``l2_normalize`` in Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    return features / features.norm(dim=-1, keepdim=True)


@slot
def info_nce(
    image: Float[Tensor, "batch width"], text: Float[Tensor, "batch width"], scale: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """Mean of two cross-entropies: every image picks its text from the batch, and every text its image.

    Args:
        image, text: normalised features, row i of both from one pair; this function does not normalise again.
        scale: what cosines are multiplied with, one over the temperature.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; name: van den Oord et al. 2018, arXiv:1807.03748.
    """
    logits = scale * image @ text.T
    partner = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


@slot
def siglip_loss(
    image: Float[Tensor, "batch width"],
    text: Float[Tensor, "batch width"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Every image meets every text, and each meeting is one yes-or-no question: −Σ log σ(±logit) / batch.

    Args:
        image, text: normalised features, row i of both from one pair; this function does not normalise again.
        scale: what cosines are multiplied with.
        bias: added to all logits; begins at −10, since almost every meeting is a "no".

    Source: Zhai et al. 2023, arXiv:2303.15343, section 3.2 and algorithm 1.
    """
    logits = scale * image @ text.T + bias
    # +1 for partners, −1 for others
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)


@slot
def zero_shot_classifier(prompts: Float[Tensor, "class prompt width"]) -> Float[Tensor, "class width"]:
    """One unit vector per class: the direction between all prompts that name it.

    Args:
        prompts: features as ``encode_text`` gives them, of every class in every template ("a photo of a …").

    Returns:
        weights; ``normalise(image) @ weights.T`` holds an image's cosine with every class.

    Source: Radford et al. 2021, arXiv:2103.00020, sections 3.1.2 and 3.1.4.
    """
    return normalise(normalise(prompts).mean(dim=1))


@dataclass(frozen=True)
class TextConfig:
    """What a text tower looks like; that of the smallest published CLIP is
    ``TextConfig(49408, eos=49407, length=77, width=512, depth=12, heads=8, activation="quick_gelu")``."""

    vocabulary: int
    eos: int  # id of the end-of-sequence token
    length: int = 24  # of the longest text, in tokens
    width: int = 128
    depth: int = 4
    heads: int = 4
    hidden: int | None = None  # width inside the MLP; 4 · width when not given
    activation: str = "gelu"
    epsilon: float = 1e-5


@dataclass(frozen=True)
class CLIPConfig:
    """Two towers and the space they share.

    For SigLIP's loss, ``scale=10, bias=-10`` (Zhai et al. 2023, arXiv:2303.15343, section 3.2).
    """

    vision: ViTConfig
    text: TextConfig
    width: int = 128  # of the shared space
    scale: float = 1 / 0.07  # where the learned scale begins; Radford et al. 2021, section 2.5
    bias: float | None = None  # where SigLIP's learned bias begins; CLIP has none


class TextTower(nn.Module):
    """A GPT-2-like reader of texts; see TextConfig."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.embed_token = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(0.01 * torch.randn(config.length, config.width))
        nn.init.normal_(self.embed_token.weight, std=0.02)
        sizes = config.width, config.heads, config.hidden, config.activation, config.epsilon
        self.blocks = nn.ModuleList(Block(*sizes) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)

    def forward(self, ids: Ids) -> Tokens:
        """One vector per token, each having read only itself and the tokens before it.

        Raises:
            ValueError: if the texts are longer than config.length.
        """
        tokens, mask = self.read(ids)
        return self.norm(self.blocks[-1](tokens, mask))

    def read(self, ids: Ids) -> tuple[Tokens, Mask | None]:
        """What the last block reads, and its mask."""
        count, longest = ids.shape[1], self.config.length
        if count > longest:
            raise ValueError(f"{count} tokens are more than this tower's {longest}; shorten texts, EOS last")
        mask = causal(count, device=ids.device).mask
        return run_blocks(self.blocks[:-1], self.embed_token(ids) + self.positions[:count], mask=mask), mask

    def text_vector(self, ids: Ids) -> Float[Tensor, "batch width"]:
        """The vector at each text's EOS, without the last block's work on tokens that nobody will read.

        Raises:
            ValueError: if a text has none, as after cutting it off.
        """
        if not torch.compiler.is_compiling():
            ids = self.without_common_padding(ids)
        last, eos = self.blocks[-1], self.config.eos
        if last.attention.record is not None:  # whoever records attention wants to see every query
            return pool_at_eos(self(ids), ids, eos)
        tokens, _ = self.read(ids)
        ends = (ids == eos).int()
        read = (ends.cumsum(1) - ends == 0)[:, None, None]  # no EOS before this token
        return self.norm(last.one_token(pool_at_eos(tokens, ids, eos)[:, None], tokens, read))[:, 0]

    def without_common_padding(self, ids: Ids) -> Int[Tensor, "batch shorter"]:
        """The texts up to the EOS of the longest: the rest is read by nobody, so it need not be computed."""
        ends = ids == self.config.eos
        lacking = (~ends.any(dim=1)).nonzero().flatten().tolist()
        if lacking:
            raise ValueError(f"text {lacking[0]} has no end-of-sequence token {self.config.eos}; "
                             "when a text is cut off, its last token must become EOS")  # fmt: skip
        return ids[:, : 1 + int(ends.int().argmax(dim=1).max())]


class CLIP(nn.Module):
    """Two towers that meet in a shared space.

    Source: Radford et al. 2021, arXiv:2103.00020. Equal to transformers' and open_clip's, see tests/parity.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.vision, self.text = ViT(config.vision), TextTower(config.text)
        self.project_image = nn.Linear(config.vision.width, config.width, bias=False)
        self.project_text = nn.Linear(config.text.width, config.width, bias=False)
        for projection in (self.project_image, self.project_text):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.logit_bias = None if config.bias is None else nn.Parameter(torch.tensor(float(config.bias)))

    def encode_image(self, images: Pixels) -> Float[Tensor, "batch width"]:
        """Images as vectors of the shared space, not yet normalised."""
        return self.project_image(self.vision.class_vector(images))

    def encode_text(self, ids: Ids) -> Float[Tensor, "batch width"]:
        """Texts as vectors of the shared space, not yet normalised."""
        return self.project_text(self.text.text_vector(ids))

    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied with: learned as its logarithm, at most 100 while training."""
        if self.training:
            with torch.no_grad():  # inside the graph, a clamp has no gradient above the limit: stuck there
                self.logit_scale.clamp_(max=LARGEST_SCALE)
        return self.logit_scale.exp()

    def forward(
        self, images: Float[Tensor, "image channel rows columns"], ids: Int[Tensor, "text token"]
    ) -> tuple[Float[Tensor, "image width"], Float[Tensor, "text width"], *tuple[Tensor, ...]]:
        """What the losses take: normalised features of images and texts, scale, and bias if there is one."""
        bias = () if self.logit_bias is None else (self.logit_bias,)
        return normalise(self.encode_image(images)), normalise(self.encode_text(ids)), self.scale(), *bias

    def loss(self, images: Pixels, ids: Ids) -> Float[Tensor, ""]:
        """info_nce of a batch of pairs, or siglip_loss if the model has a bias.

        With several processes, where the model stands in a wrapper, write ``info_nce(*model(images, ids))``.
        """
        return (info_nce if self.logit_bias is None else siglip_loss)(*self(images, ids))
