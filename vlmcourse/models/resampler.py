"""Flamingo's resampler: any number of patches becomes a few vectors (notebook 09).

    resample      one step: a few latents look at all patches, and at each other
    Resampler     learned latents, and as many steps as wanted
    LatentReader  Kosmos-2's: a linear layer, and one step without norms and without the stream

In shapes, latent counts the vectors that a picture is resampled to.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vlmcourse.models.attention import Attention, Layer, run_blocks
from vlmcourse.models.fusion import Attend
from vlmcourse.slots import slot

Latents = Float[Tensor, "picture latent features"]  # of all pictures of all texts, in their order


@slot(name="flamingo.resample")
def resample(
    latents: Float[Tensor, "picture latent features"],
    patches: Float[Tensor, "picture patch features"],
    norm_latents: Layer,
    norm_patches: Layer,
    attend: Attend,
) -> Float[Tensor, "picture latent features"]:
    """latents + attend(norm(latents), [norm(patches), norm(latents)]): they ask the patches and each other.

    Source: Alayrac et al. 2022 (Flamingo), arXiv:2204.14198, section 2.1 and figure 5.
    """
    asking = norm_latents(latents)
    return latents + attend(asking, torch.cat([norm_patches(patches), asking], dim=1))


class ResamplerBlock(nn.Module):
    """One step of resample, then an MLP with ReLU; no biases but the norms'."""

    def __init__(self, width: int, heads: int, part: int):
        super().__init__()
        self.norm_latents, self.norm_patches = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, part=part, bias=False, context_width=width)
        self.norm_before_mlp = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)

    def forward(self, latents: Latents, patches: Float[Tensor, "picture patch features"]) -> Latents:
        def attend(asking: Tensor, context: Tensor) -> Tensor:
            return self.attention(asking, context=context)

        latents = resample(latents, patches, self.norm_latents, self.norm_patches, attend)
        return latents + self.contract(F.relu(self.expand(self.norm_before_mlp(latents))))


class Resampler(nn.Module):
    """Any number of patches in, always as many latents out.

    Args:
        width: of patches and latents.
        heads, part: heads of its attention, and the width of one.

    Source: Alayrac et al. 2022, arXiv:2204.14198, section 2.1. Equal to transformers'
    IdeficsPerceiverResampler, see tests/parity.
    """

    def __init__(self, width: int, latents: int, depth: int, heads: int, part: int):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.blocks = nn.ModuleList(ResamplerBlock(width, heads, part) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Float[Tensor, "picture patch features"]) -> Latents:
        latents = self.latents.expand(len(patches), -1, -1)
        return self.norm(run_blocks(self.blocks, latents, patches=patches))


class LatentReader(nn.Module):
    """Kosmos-2's connector: learned latents look once at the projected patches and at each other.

    Args:
        width: of the patches.
        out: of the language model, and so of the latents.

    Source: Peng et al. 2023 (Kosmos-2), arXiv:2306.14824, section 3.2. Equal to transformers'
        Kosmos2ImageToTextProjection, see tests/parity.
    """

    def __init__(self, width: int, out: int, latents: int, heads: int):
        super().__init__()
        self.project = nn.Linear(width, out)
        self.latents = nn.Parameter(torch.randn(latents, out))
        self.attention = Attention(out, heads, context_width=out)

    def forward(
        self, patches: Float[Tensor, "picture patch features"]
    ) -> Float[Tensor, "picture latent out"]:
        latents = self.latents.expand(len(patches), -1, -1)
        return self.attention(latents, context=torch.cat([self.project(patches), latents], dim=1))
