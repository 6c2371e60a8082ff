"""Photos: a few that scikit-image brings along (notebook 02), and a person's own, read without surprises."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

# Only pictures that lie in the wheel; scikit-image would fetch others from the network.
PHOTOS = dict(
    astronaut="a woman in an orange space suit",
    chelsea="the face of a cat",
    coffee="a cup of coffee",
    rocket="a rocket on its launch pad",
)
MOST_PIXELS = 50_000_000  # a phone's photo has 12 to 50 million


class PictureError(ValueError):
    """A file that is no picture, or not one that can be read here; says which file and what to do."""


def photo(name: str, side: int = 224) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The middle square of one of PHOTOS, scaled to side × side pixels, RGB.

    Raises:
        ValueError: if there is no photo of this name, or the side is not positive.
    """
    if name not in PHOTOS:
        raise ValueError(f"no photo is called {name!r}; there are {', '.join(PHOTOS)}")
    if side < 1:
        raise ValueError(f"side must be at least 1 pixel, got {side}")
    from skimage import data, transform

    picture = getattr(data, name)()
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = picture[top : top + edge, left : left + edge]
    return (transform.resize(square, (side, side), anti_aliasing=True) * 255).round().astype(np.uint8)


def load_picture(path: str | Path, side: int = 64) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The middle square of a picture file, scaled to side × side pixels, RGB; the course's models read 64.

    A picture that has this size already comes back unchanged. What is transparent becomes white; a photo's
    stored rotation is applied.

    Raises:
        FileNotFoundError: if there is no such file.
        PictureError: if it is damaged, cut off, no picture, or has more than 50 million pixels.
    """
    from PIL import Image, ImageOps

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with Image.open(path) as file:
            size = f"{file.width}×{file.height} pixels"
            if file.width * file.height > MOST_PIXELS:
                raise PictureError(f"{path} has {size}, more than {MOST_PIXELS:,}; scale it down first")
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{path} is no picture that can be read; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path} unpacks to too many pixels; scale it down first") from error
    except (OSError, SyntaxError) as error:
        raise PictureError(f"{path} is damaged or cut off ({error}); copy or save it again") from error
    paper = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(paper, picture).convert("RGB")
    if picture.size != (side, side):
        filter = Image.Resampling.BOX if min(picture.size) > side else Image.Resampling.BICUBIC
        picture = ImageOps.fit(picture, (side, side), filter)
    return np.array(picture)
