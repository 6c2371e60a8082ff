"""Photos: a few that scikit-image brings along (notebook 02), and a person's own, read without surprises."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from jaxtyping import UInt8

from vlmcourse.models.tiles import smart_size

if TYPE_CHECKING:
    from PIL.Image import Image

# Only pictures that lie in the wheel; scikit-image would fetch others from the network.
PHOTOS = dict(
    astronaut="a woman in an orange space suit",
    chelsea="the face of a cat",
    coffee="a cup of coffee",
    rocket="a rocket on its launch pad",
)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # never those that start another program
MOST_PIXELS = 50_000_000  # a phone's photo has 12 to 50 million
# edges of whole pictures are multiples of; and how many pixels they have, at least and at most
SQUARE_PIXELS, WHOLE_PIXELS = 16, (64 * 64, 512 * 16 * 16)


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
    stored rotation is applied; of 16 bits the upper 8 are kept. Scaled as CLIP's image processor does with a
    shortest edge and a middle crop, so that an exported model sees the same.

    Raises:
        FileNotFoundError: if there is no such file.
        PictureError: if it is damaged, cut off, a folder, none of FORMATS, or has more than 50 million pixels
            or 32-bit numbers for colours.
    """
    return np.array(_middle_square(_opened(_there(path), path), side))


def load_whole(path: str | Path) -> UInt8[np.ndarray, "_ _ 3"]:
    """A whole picture file, RGB, for models that take pictures of any size.

    Its edges become multiples of 16 pixels with as little change as possible, see tiles.smart_size; a larger
    one than 131,072 pixels, 512 tokens of nano-native, is made smaller, one below 64 × 64 larger. Otherwise
    as load_picture, with the same errors.

    Raises:
        PictureError: also if one edge is more than 200 times the other.
    """
    from PIL import Image

    picture = _opened(_there(path), path)
    try:
        height, width = smart_size(picture.height, picture.width, SQUARE_PIXELS, *WHOLE_PIXELS)
    except ValueError as error:
        raise PictureError(f"{path}: {error}") from error
    if picture.size == (width, height):
        return np.array(picture)
    return np.array(picture.resize((width, height), Image.Resampling.BILINEAR))


def _there(path: str | Path) -> str | Path:
    """A path at which there is a file."""
    if Path(path).is_dir():
        raise PictureError(f"{path} is a folder; name one picture in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def _opened(source: str | Path | BinaryIO, name: str | Path) -> "Image":
    """The whole picture in a file, open or not; errors call it by ``name``."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong ends in an error, what is odd does not matter
        try:
            return _read(source, name)
        except PictureError:
            raise
        except Image.UnidentifiedImageError as error:
            raise PictureError(f"{name} is no picture that can be read; save it as PNG or JPEG") from error
        except Image.DecompressionBombError as error:
            raise PictureError(f"{name} unpacks to too many pixels; scale it down first") from error
        except PermissionError as error:
            raise PictureError(f"{name} may not be read; allow it to be read, or copy it") from error
        except Exception as error:  # Pillow raises nearly anything for a damaged file
            raise PictureError(f"{name} is damaged or cut off ({error}); copy or save it again") from error


def _read(source: str | Path | BinaryIO, name: str | Path) -> "Image":
    """The whole picture, RGB, turned and without transparency."""
    from PIL import Image, ImageOps

    with Image.open(source, formats=FORMATS) as file:
        size = f"{file.width}×{file.height} pixels"
        if file.width * file.height > MOST_PIXELS:
            raise PictureError(f"{name} has {size}, more than {MOST_PIXELS:,}; scale it down first")
        deep = file.mode.startswith("I;16") or (file.mode == "I" and file.format == "PNG")
        if file.mode in ("I", "F") and not deep:
            raise PictureError(f"{name} has 32-bit numbers for colours; save it with 8 bits for each")
        picture = ImageOps.exif_transpose(file)
    if deep:
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _middle_square(picture: "Image", side: int) -> "Image":
    """side × side pixels of the picture as scaled to a shorter edge of that length; only they are made."""
    from PIL import Image

    if picture.size == (side, side):
        return picture
    short = min(picture.size)
    scaled = [side * edge // short for edge in picture.size]
    ends = [((edge - side) // 2, (edge - side) // 2 + side) for edge in scaled]
    (left, right), (top, bottom) = (
        [end * edge / pixels for end in of]
        for of, edge, pixels in zip(ends, picture.size, scaled, strict=True)
    )
    return picture.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def load_upload(data: bytes, name: str, side: int = 64) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """load_picture of a file that a browser sent.

    Args:
        data: the bytes of the file.
        name: which its owner knows it by; it names the file in errors, and nothing else is done with it.

    Raises:
        PictureError: see load_picture.
    """
    return np.array(_middle_square(_opened(io.BytesIO(data), name), side))
