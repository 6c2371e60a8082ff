import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from tests.world.eyes import close, look
from vlmcourse.world.render import LETTERS, PAINT, PAPER, render, to_tensor
from vlmcourse.world.scenes import COLOURS, SHAPES, SIZES, SPLITS, WORD_STRIP, sample

# Machado et al. 2009, severity 1.0, for linear RGB.
EYES = dict(
    normal=np.eye(3),
    deuteranopia=[
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    protanopia=[
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    tritanopia=[
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
)


@pytest.mark.parametrize("split", SPLITS)
def test_pixels_show_exactly_what_the_truth_says(split):
    batch = sample(split, 1000, start=77)
    for image, scene in zip(render(batch), range(1000), strict=True):
        told = sorted(
            (
                tuple(batch.boxes()[scene, n].tolist()),
                SHAPES[batch.shape[scene, n]],
                COLOURS[batch.colour[scene, n]],
                SIZES[batch.size[scene, n]],
            )
            for n in range(batch.count[scene])
        )
        seen = look(image)
        assert len(seen) == len(told)
        for box, *names in told:
            (match,) = [s for s in seen if close(s.box, box)]
            assert names == [match.shape, match.colour, match.size]


def test_no_test_picture_is_in_train():
    def fingerprints(split, count, **knobs):
        return {image.tobytes() for image in render(sample(split, count, **knobs))}

    train = fingerprints("train", 8000, objects=(1, 1)) | fingerprints("train", 4000)
    for split, seed in (("test", 0), ("test", 1), ("validation", 0), ("novel", 0)):
        assert not train & fingerprints(split, 3000, objects=(1, 1), seed=seed)
    assert train & fingerprints("train", 8000, objects=(1, 1), seed=1)  # the same test would notice a leak


@pytest.mark.parametrize("eyes", EYES)
def test_colours_differ_for_every_kind_of_colour_vision(eyes):
    rgb = np.concatenate([PAINT, PAPER[[0, -1]]]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.transpose(EYES[eyes])).clip(0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    apart = deltaE_ciede2000(lab[:, None], lab[None])
    pairs = [(a, b) for a in range(7) for b in (*range(a), 7, 8)]
    assert min(apart[pair] for pair in pairs) > 10  # 1 is just noticeable side by side, 10 at a glance


def test_colours_differ_in_lightness_alone():
    lightness = np.sort(rgb2lab(PAINT[None] / 255)[0, :, 0])
    assert (np.diff(lightness) > 7).all(), lightness


def test_words_are_printed_above_the_objects_and_change_nothing_else():
    batch = sample("train", 300, printed_words=1.0)
    from dataclasses import replace

    plain, worded = render(replace(batch, word=np.full(300, -1))), render(batch)
    assert np.array_equal(plain[:, WORD_STRIP:], worded[:, WORD_STRIP:])
    inked = (plain != worded).any(-1).sum((1, 2))
    letters = np.array(
        [sum(int(row, 32).bit_count() for c in COLOURS[w] for row in LETTERS[c]) for w in batch.word]
    )
    assert np.array_equal(inked, letters)
    assert len({worded[batch.word == n, :WORD_STRIP].min(0).tobytes() for n in range(7)}) == 7


def test_to_tensor_maps_bytes_to_minus_one_and_one():
    images = np.zeros((2, 3, 5, 3), np.uint8)
    images[1, 2, 4] = (255, 0, 51)
    pixels = to_tensor(images)
    assert pixels.shape == (2, 3, 3, 5) and pixels.dtype == torch.float32
    assert pixels[1, :, 2, 4].tolist() == pytest.approx([1, -1, -0.6]) and (pixels[0] == -1).all()
    for bad in (images / 255, images[0], images[..., :1]):
        with pytest.raises(ValueError, match="expected uint8"):
            to_tensor(bad)


def test_an_empty_batch_gives_no_pictures():
    assert render(sample("train", 0)).shape == (0, 64, 64, 3)
