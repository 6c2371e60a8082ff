"""Picture files are read as they are, and bad ones are named."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from vlmcourse.data.photos import PictureError, load_picture
from vlmcourse.world import render, scenes


def test_a_scene_comes_back_pixel_by_pixel(tmp_path):
    image = render.render(scenes.sample("test", 1))[0]
    Image.fromarray(image).save(tmp_path / "scene.png")
    assert (load_picture(tmp_path / "scene.png") == image).all()


def test_the_middle_square_is_scaled(tmp_path):
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert load_picture(tmp_path / "wide.png", side=20).shape == (20, 20, 3)
    assert (load_picture(tmp_path / "wide.png", side=20) == 200).all()


@pytest.mark.parametrize(("rows", "columns", "filter"), [(20, 200, "BICUBIC"), (40, 25, "BOX")])
def test_shrinking_averages_and_enlarging_is_smooth(tmp_path, rows, columns, filter):
    noise = np.random.default_rng(0).integers(0, 255, (rows, columns, 3), np.uint8)
    picture = Image.fromarray(noise)
    picture.save(tmp_path / "noise.png")
    side = 24
    expected = ImageOps.fit(picture, (side, side), Image.Resampling[filter])
    assert np.array_equal(load_picture(tmp_path / "noise.png", side), np.array(expected))


def test_transparency_becomes_white_and_rotation_is_applied(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_picture(tmp_path / "clear.png", 8) == 255).all()
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # stored upside down
    Image.fromarray(half).save(tmp_path / "turned.png", exif=turned)
    assert (load_picture(tmp_path / "turned.png") == half[::-1]).all()


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nothing\.png"):
        load_picture(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match="save it as PNG or JPEG"):
        load_picture(tmp_path / "text.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "cut.jpg"
    )
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError, match="damaged or cut off"):
        load_picture(tmp_path / "cut.jpg")
    Image.new("1", (14_000, 14_000)).save(tmp_path / "bomb.png")
    with pytest.raises(PictureError, match="unpacks to too many pixels; scale it down first"):
        load_picture(tmp_path / "bomb.png")
    Image.new("1", (8_000, 8_000)).save(tmp_path / "large.png")
    with pytest.raises(PictureError, match="8000×8000 pixels, more than 50,000,000; scale it down first"):
        load_picture(tmp_path / "large.png")
