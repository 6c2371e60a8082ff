"""Draw scenes (first used in notebook 00): every picture is pasted together from small ready-made sprites.

A sprite is one object on one background shade, drawn once at eight times the resolution and averaged, which
gives smooth edges.  Of 5 shapes × 3 sizes × 7 colours × 8 shades, a picture copies up to four.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vlmcourse.data.pixels import normalise
from vlmcourse.world.scenes import COLOURS, RADII, SHAPES, SIDE, Scenes

# Chosen so that any two differ in lightness or hue for every kind of colour vision (tests measure it).
_HEX = ("262626", "6b2482", "c4211e", "2a78d8", "33b06a", "f59ac8", "ffe02e")
PAINT = np.array([list(bytes.fromhex(paint)) for paint in _HEX])
PAPER = np.linspace((0xE6, 0xE9, 0xEE), (0xFB, 0xF9, 0xF4), 8).round().astype(int)  # shades, cool to warm
INK = (0x60, 0x60, 0x60)

# 5×7 letters: one base-32 digit per row, each digit five pixels, the leftmost is 16.
_FONT = (
    "ehhvhhh uhhuhhu ehggghe uhhhhhu vgguggv ehgnhhf e44444e hikokih "
    "ggggggv hhpljhh ehhhhhe uhhuggg uhhukih hhhhhhe hhhllla hha4444"
)
LETTERS = dict(zip("abcdegiklnopruwy", _FONT.split(), strict=True))


def render(scenes: Scenes) -> UInt8[np.ndarray, "scene 64 64 3"]:
    """Pictures of the scenes, RGB."""
    images = np.empty((len(scenes), SIDE, SIDE, 3), np.uint8)
    images[:] = PAPER[scenes.light, None, None]
    boxes = scenes.boxes()
    for size, radius in enumerate(RADII):
        side, sprites = 2 * radius + 1, draw_sprites(int(radius))
        windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2), writeable=True)
        scene, thing = np.nonzero(scenes.size == size)
        which = scenes.shape[scene, thing], scenes.colour[scene, thing], scenes.light[scene]
        left, top = boxes[scene, thing, :2].T
        windows[scene, top, left] = sprites[which]
    for scene in np.nonzero(scenes.word >= 0)[0]:
        mask = _word(COLOURS[scenes.word[scene]])
        left = (SIDE - mask.shape[1]) // 2
        images[scene, 2 : 2 + len(mask), left : left + mask.shape[1]][mask] = INK
    return images


def to_tensor(images: np.ndarray) -> Float[Tensor, "image 3 height width"]:
    """uint8 pictures (image, height, width, 3) as float32 in [-1, 1], by the slot `pixels.normalise`.

    Raises:
        ValueError: for another dtype or shape; one picture alone needs a batch axis, `image[None]`.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"expected uint8 (image, height, width, 3), got {images.dtype} {images.shape}")
    return normalise(torch.from_numpy(images)).contiguous()


def inside(shape: str, u: np.ndarray, v: np.ndarray, radius: int) -> np.ndarray:
    """Whether points lie in a shape that touches all four sides of the square [-1, 1]²; v points down."""
    if shape == "circle":
        return u**2 + v**2 <= 1
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 1
    if shape == "triangle":
        return abs(u) <= (v + 1) / 2
    if shape == "cross":
        arm = (int(0.385 * (radius + 0.5)) + 0.5) / (radius + 0.5)  # half its width; ends where a pixel ends
        return np.minimum(abs(u), abs(v)) <= arm
    tenth = np.pi / 5  # star: ten equal wedges, each cut off by a line from a tip (radius 1) to a notch
    u, v = u * np.sin(2 * tenth), (v + 1) * (1 + np.cos(tenth)) / 2 - 1
    angle = np.abs((np.arctan2(u, -v) + tenth) % (2 * tenth) - tenth)
    notch = 0.46
    x, y = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    return (1 - x) * notch * np.sin(tenth) >= y * (1 - notch * np.cos(tenth))


@cache
def draw_sprites(radius: int) -> np.ndarray:
    """uint8 (shape, colour, shade, 3, side, side), side = 2·radius + 1: every object on every shade."""
    side, fine = 2 * radius + 1, 8
    steps = (np.arange(side * fine) + 0.5) * 2 / (side * fine) - 1
    masks = np.stack([inside(shape, steps[None, :], steps[:, None], radius) for shape in SHAPES])
    alpha = masks.reshape(len(SHAPES), side, fine, side, fine).mean((2, 4))[:, None, None, None]
    paint, paper = PAINT[:, None, :, None, None], PAPER[:, :, None, None]
    return (paper + alpha * (paint - paper)).round().astype(np.uint8)


@cache
def _word(word: str) -> np.ndarray:
    """bool (7, 6·letters - 1): the word in small capitals."""
    digits = np.array([int(digit, 32) for letter in word for digit in LETTERS[letter]]).reshape(-1, 7, 1)
    letters = (digits >> np.arange(4, -2, -1).clip(0)) & (np.arange(6) < 5)  # (letter, row, column)
    return letters.transpose(1, 0, 2).reshape(7, -1)[:, :-1].astype(bool)
