"""A vision-language model for several pictures and clips (notebook 16).

    VideoLlava   a Llava that also reads rows of frames, each with fewer tokens

One picture keeps all its tokens: it is cheap, and what it shows may be small. Frames come in numbers, so each
is pooled, and the cost of a clip grows with frames × tokens of a frame. In which order frames stand is told
by their places in the row alone, and by what is written before each; there is no other temporal position.

Shapes as in models/vlm.py; frame counts the pictures of a row.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vlmcourse.models.frames import pool_frame
from vlmcourse.models.llava import Llava, LlavaConfig, Pictures
from vlmcourse.models.vlm import ImageTokens

Frames = Float[Tensor, "row frame channel rows columns"]


@dataclass(frozen=True)
class VideoConfig(LlavaConfig):
    """What a VideoLlava looks like.

    Raises:
        ValueError: if squares of ``side`` patches do not tile a picture.
    """

    side: int = 2  # of the squares of patches that a frame is pooled by

    def __post_init__(self):
        super().__post_init__()
        if any(edge % (self.side * self.shuffle) for edge in self.vision.grid):
            raise ValueError(f"squares of {self.side} patches do not tile a grid of {self.vision.grid}")


class VideoLlava(Llava):
    """A Llava that reads single pictures, (image, ...), as Llava does, and rows of frames, (row, frame, ...).

    Source: the projected patches of each frame pooled, their tokens one after the other, as in Zhang et al.
        2024 (LLaVA-NeXT-Video) and Li et al. 2024 (LLaVA-OneVision), arXiv:2408.03326, section 3.2.
    """

    config: VideoConfig

    def __init__(self, config: VideoConfig):
        super().__init__(config)
        self.side = config.side

    @property
    def tokens_per_frame(self) -> int:
        """Placeholders of each picture in a row of several."""
        return self.tokens_per_image // self.side**2

    def image_features(self, images: Pictures | Frames) -> Float[Tensor, "*image patch features"]:
        """See Llava.image_features; frames keep their two axes."""
        found = super().image_features(images.flatten(0, -4))
        return found.unflatten(0, images.shape[:-3])

    def connect(self, features: Float[Tensor, "*image patch features"]) -> ImageTokens:
        """Image tokens of single pictures; or fewer of each frame, row by row, frames on the first axis."""
        if features.ndim == 3:
            return super().connect(features)
        return pool_frame(super().connect(features.flatten(0, 1)), self.side, self.grid)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's tokens before frames are pooled."""
        rows, columns = self.config.vision.grid
        return rows // self.config.shuffle, columns // self.config.shuffle

    def image_tokens(self, images: Pictures | Frames) -> ImageTokens:
        """See connect; the frames of rows have the size that the model was made for."""
        if images.ndim == 4:
            return super().image_tokens(images)
        return self.connect(self.image_features(images))
