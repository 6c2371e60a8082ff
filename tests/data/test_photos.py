import numpy as np
import pytest

from vlmcourse.data.photos import PHOTOS, photo


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_square_colour_pictures(name):
    picture = photo(name, 48)
    assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8 and picture.std() > 20


def test_four_photos_need_no_network():
    assert list(PHOTOS) == ["astronaut", "chelsea", "coffee", "rocket"]


def test_the_middle_is_cut_out_and_not_squeezed():
    from skimage.data import chelsea

    whole = chelsea()
    middle = whole[:, (whole.shape[1] - whole.shape[0]) // 2 :][:, : whole.shape[0]]
    assert np.array_equal(photo("chelsea", whole.shape[0]), middle)


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="no photo is called 'dog'; there are astronaut, chelsea"):
        photo("dog")
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        photo("coffee", 0)
