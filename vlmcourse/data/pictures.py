"""Pictures from files: a learner's own uploads, read without surprises (first used by ``vlmcourse ask``)."""

import warnings
from pathlib import Path

import numpy as np

MOST_PIXELS = 50_000_000  # a phone's photo has 12 to 50 million


class PictureError(ValueError):
    """A file that is no picture, or not one that can be read here; says which file and what to do."""


SIDE = 64  # pixels; what the course's models read


def load_picture(path: str | Path, side: int = SIDE) -> np.ndarray:
    """The middle square of a picture file, scaled to side × side: uint8 (side, side, 3), RGB.

    A picture that has this size already comes back unchanged. What is transparent becomes white; a photo's
    stored rotation is applied.

    Raises:
        FileNotFoundError: if there is no such file.
        PictureError: if it is damaged, cut off, no picture, or has more than 50 million pixels.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise PictureError(f"{path} has {file.width}×{file.height} pixels, more than {MOST_PIXELS:,}; "
                                       "scale it down first")  # fmt: skip
                picture = ImageOps.exif_transpose(file).convert("RGBA")
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{path} is no picture that can be read; save it as PNG or JPEG") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"{path} unpacks to too many pixels; scale it down first") from error
    except (OSError, SyntaxError) as error:
        raise PictureError(f"{path} is damaged or cut off ({error}); copy or save it again") from error
    paper = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(paper, picture).convert("RGB")
    if picture.size != (side, side):
        picture = ImageOps.fit(picture, (side, side), Image.Resampling.BOX if min(picture.size) > side else
                               Image.Resampling.BICUBIC)  # fmt: skip
    return np.array(picture)
