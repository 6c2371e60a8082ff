"""Pictures from files: a learner's own uploads, read without surprises (first used by ``vlmcourse ask``)."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

MOST_PIXELS = 50_000_000  # a phone's photo has 12 to 50 million


class PictureError(ValueError):
    """A file that is no picture, or not one that can be read here; says which file and what to do."""


def load_picture(path: str | Path, side: int = 64) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The middle square of a picture file, scaled to side × side pixels, RGB; the course's models read 64.

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
                    raise PictureError(
                        f"{path} has {file.width}×{file.height} pixels, more than {MOST_PIXELS:,}; "
                        "scale it down first"
                    )
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
        shrinks = min(picture.size) > side
        filter = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        picture = ImageOps.fit(picture, (side, side), filter)
    return np.array(picture)
