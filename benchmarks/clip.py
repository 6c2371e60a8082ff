"""How fast is the course's CLIP? Train step and forward against transformers' CLIPModel, in one run.

    python benchmarks/clip.py [STEPS]

Same sizes (two towers of 4 layers × 128, MLP 512; 64 px, patch 8; 24 text tokens; batch 64), same optimiser,
same precision on both sides.  Steps alternate, and the ratio is the median over neighbouring steps, so noise
of the machine hits both alike.  Texts are as long as can be: no side may save work on padding.

Where the gain comes from: the image tower's last block computes only the class token (ViT.class_vector,
exactly equal). In bf16, explicit attention is also faster on the CPU than the fused one.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from transformers import CLIPConfig as LibraryConfig
from transformers import CLIPModel

from vlmcourse.models.clip import CLIP, CLIPConfig, TextConfig
from vlmcourse.models.vit import ViTConfig

BATCH, WIDTH, LENGTH, VOCABULARY = 64, 128, 24, 512
EOS = VOCABULARY - 1


def both() -> tuple[CLIP, CLIPModel]:
    """Ours and theirs; neither has dropout."""
    vision = ViTConfig(activation="quick_gelu", epsilon=1e-5, patch_bias=False, norm_before_blocks=True)
    ours = CLIP(CLIPConfig(vision, TextConfig(VOCABULARY, EOS, LENGTH, activation="quick_gelu"), WIDTH))
    tower = dict(hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4, num_attention_heads=4)
    eyes, reader = dict(image_size=64, patch_size=8, **tower), dict(max_position_embeddings=LENGTH, **tower)
    reader |= dict(vocab_size=VOCABULARY, bos_token_id=0, pad_token_id=EOS, eos_token_id=EOS)
    return ours, CLIPModel(
        LibraryConfig(vision_config=eyes, text_config=reader, projection_dim=WIDTH)
    ).train()


def timed(model: torch.nn.Module, loss_of: Callable, learns: bool) -> Callable[..., float]:
    """A function that makes one optimiser step, or only a forward pass, and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(images, ids, low: bool) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.set_grad_enabled(learns), torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = loss_of(images, ids)
        if learns:
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return step


def main(steps: int) -> None:
    torch.manual_seed(0)
    images, ids = torch.randn(BATCH, 3, 64, 64), torch.randint(EOS, (BATCH, LENGTH))
    ids[:, -1] = EOS
    ours, theirs = both()

    def their_loss(images, ids):
        return theirs(input_ids=ids, pixel_values=images, return_loss=True).loss

    for title, learns in (("train step", True), ("forward", False)):
        our_step, their_step = timed(ours, ours.loss, learns), timed(theirs, their_loss, learns)
        for precision in ("fp32", "bf16"):
            case = images, ids, precision == "bf16"
            pairs = [(our_step(*case), their_step(*case)) for _ in range(steps + 3)][3:]
            mine, library = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(library / mine for mine, library in pairs)
            print(
                f"CLIP {title}, {precision}: ours {mine:.0f} ms, "
                f"transformers {library:.0f} ms, ratio {ratio:.2f}×, "
                f"{1000 * BATCH / mine:,.0f} pairs/s"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
