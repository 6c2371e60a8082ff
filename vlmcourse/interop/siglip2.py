"""The vision encoder of transformers' SigLIP 2 (NaFlex) <-> our NativeViT (notebook 19).

    from_transformers   a Siglip2VisionModel -> our NativeViT
    naflex_inputs       pictures of different sizes as it takes them: padded, with a mask
    naflex_outputs      what it says of their patches, as ours does

Its positions are stretched for each picture and its padding is masked, so it reads pictures of any size; each
picture still has a row of its own.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vlmcourse.interop.clip import LAYER
from vlmcourse.interop.keys import nested, represent, require_family, take_weights
from vlmcourse.interop.vit import ENCODER_WORDS
from vlmcourse.models.native import PatchRow, SomePictures, cut_pictures
from vlmcourse.models.native_vit import NativeViT, NativeViTConfig

SIGLIP2_ROWS = {
    "embed_patch.*": "embeddings.patch_embedding.*",  # a linear layer over the numbers of a patch, as ours
    "positions": "embeddings.position_embedding.weight",
    "norm.*": "post_layernorm.*",
    **nested(LAYER, "blocks.#.", "encoder.layers.#."),
}
SIGLIP2_WORDS = ENCODER_WORDS | {"patch_size": "patch_size", "channels": "num_channels"}


def from_transformers(theirs: nn.Module) -> NativeViT:
    """Our NativeViT with the weights of a transformers ``Siglip2VisionModel``, in evaluation mode.

    Its head, which makes one vector of a whole picture, is left out.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    require_family(theirs, "siglip2_vision_model")
    config = theirs.config
    fields = represent(config, SIGLIP2_WORDS, "num_patches", "vision_use_head")
    side = math.isqrt(config.num_patches) * config.patch_size
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("head.")}
    model = NativeViT(NativeViTConfig(image_size=side, **fields))
    return take_weights(model, state, SIGLIP2_ROWS, "this Siglip2VisionModel")


def naflex_inputs(pictures: SomePictures, size: int) -> dict[str, Tensor]:
    """Pictures as a Siglip2VisionModel takes them: patches filled up to the most that one has, and a mask."""
    row = cut_pictures(pictures, size)
    counts = torch.tensor(row.counts)
    patches = pad_sequence(row.split(), batch_first=True)
    real = torch.arange(patches.shape[1]) < counts[:, None]
    grids = torch.tensor(row.grids)
    return dict(pixel_values=patches, pixel_attention_mask=real.long(), spatial_shapes=grids)


def naflex_outputs(hidden: Float[Tensor, "image patch width"], inputs: dict[str, Tensor]) -> PatchRow:
    """Its last hidden states without those of the padding."""
    grids = tuple((rows, columns) for rows, columns in inputs["spatial_shapes"].tolist())
    return PatchRow(hidden[inputs["pixel_attention_mask"].bool()], grids)
