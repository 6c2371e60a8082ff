"""Photos that scikit-image brings along, so that real pictures need no network (notebook 02)."""

import numpy as np
from jaxtyping import UInt8

# Only pictures that lie in the wheel; scikit-image would fetch others from the network.
PHOTOS = dict(
    astronaut="a woman in an orange space suit",
    chelsea="the face of a cat",
    coffee="a cup of coffee",
    rocket="a rocket on its launch pad",
)


def photo(name: str, side: int = 224) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The middle square of a photo, scaled to side × side pixels, RGB.

    Args:
        name: one of PHOTOS (which also says what each shows).
        side: pixels, at least 1.

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
