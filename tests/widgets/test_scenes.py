import numpy as np
import pytest

from vlmcourse.widgets.scenes import SceneBrowser

IMAGES = np.arange(30 * 4 * 6 * 3, dtype=np.int64).reshape(30, 4, 6, 3).astype(np.uint8)
CAPTIONS = [f"scene {i}" for i in range(30)]


def test_a_page_holds_its_scenes():
    assert SceneBrowser(IMAGES, CAPTIONS).blob("page/2") == IMAGES[24:].tobytes()


def test_many_scenes_open_with_at_most_two_megabytes():
    images = np.zeros((400, 64, 64, 3), np.uint8)
    browser = SceneBrowser(images, ["x"] * 400)
    assert "page/0" in browser.blobs and sum(map(len, browser.blobs.values())) < 1_950_000 < images.nbytes


def test_the_picture_shows_the_chosen_page():
    browser = SceneBrowser(IMAGES, CAPTIONS)
    browser.chosen = 29
    assert browser.static_figure().alt == "Scenes 24 to 29 of 30 with their captions"


def test_numbers_that_differ_and_boxes_outside_are_refused():
    with pytest.raises(ValueError, match="30 images, 29 captions and 29 records"):
        SceneBrowser(IMAGES, CAPTIONS[1:])
    record = {"question": "?", "answer": "!", "boxes": [(0, 0, 6, 5)]}
    with pytest.raises(ValueError, match=r"scene 3: box \(0, 0, 6, 5\) leaves the 6×4 picture"):
        SceneBrowser(IMAGES, CAPTIONS, [[record] if i == 3 else [] for i in range(30)])
