import numpy as np
import pytest
from PIL import Image

from vlmcourse.data.photos import PHOTOS, SQUARE_PIXELS, PictureError, load_whole, photo
from vlmcourse.families.sights import SQUARE


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


def test_a_whole_picture_keeps_all_of_it_in_multiples_of_sixteen(tmp_path):
    exact = np.random.default_rng(0).integers(0, 256, (64, 192, 3), dtype=np.uint8)
    Image.fromarray(exact).save(tmp_path / "exact.png")
    assert np.array_equal(load_whole(tmp_path / "exact.png"), exact)
    half = np.zeros((90, 200, 3), np.uint8)
    half[:, 100:] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    found = load_whole(tmp_path / "half.png")
    assert found.shape == (96, 192, 3) and found[:, :92].max() == 0 and found[:, 100:].min() == 255
    for size, wanted in (((2000, 3000), (288, 432)), ((20, 30), (64, 80))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "other.png")
        assert load_whole(tmp_path / "other.png").shape[:2] == wanted


def test_the_smallest_and_the_largest_whole_picture_come_back_as_they_are(tmp_path):
    """64 × 64 and 131,072 pixels; both edges are whole tokens of nano-native."""
    for size in ((64, 64), (256, 512)):
        exact = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(exact).save(tmp_path / "exact.png")
        assert np.array_equal(load_whole(tmp_path / "exact.png"), exact)
    for size, wanted in (((256, 528), (240, 512)), ((64, 48), (80, 64)), ((70, 90), (64, 96))):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "other.png")
        assert load_whole(tmp_path / "other.png").shape[:2] == wanted
    assert SQUARE_PIXELS == SQUARE


def test_a_whole_picture_has_the_errors_of_any_other_and_one_for_a_thread(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_whole(tmp_path / "none.png")
    with pytest.raises(PictureError, match="is a folder; name one picture"):
        load_whole(tmp_path)
    Image.fromarray(np.zeros((1, 300, 3), np.uint8)).save(tmp_path / "thread.png")
    with pytest.raises(PictureError, match=r"thread\.png: .*300"):
        load_whole(tmp_path / "thread.png")
