"""Picture files are read as they are, and bad ones are named."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

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
    inside = load_picture(tmp_path / "wide.png", side=20)[:, 1:-1]  # the pixels at the cut see beyond it
    assert (inside == 200).all()


@pytest.mark.parametrize(("rows", "columns"), [(20, 200), (40, 25), (301, 77), (1, 90)])
def test_the_shorter_edge_is_scaled_and_the_middle_kept(tmp_path, rows, columns):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (rows, columns, 3), np.uint8))
    picture.save(tmp_path / "noise.png")
    side, short = 24, min(rows, columns)
    whole = picture.resize((side * columns // short, side * rows // short), Image.Resampling.BILINEAR)
    left, top = ((edge - side) // 2 for edge in whole.size)
    expected = np.array(whole.crop((left, top, left + side, top + side))).astype(int)
    assert abs(load_picture(tmp_path / "noise.png", side) - expected).max() <= 1


def test_a_line_of_pixels_takes_no_memory_of_its_own(tmp_path):
    Image.new("L", (1_000_000, 1), 9).save(tmp_path / "line.png")  # scaled whole, it had 12 GB
    assert (load_picture(tmp_path / "line.png") == 9).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_and_32_refused(tmp_path, suffix):
    path, grey = tmp_path / f"deep.{suffix}", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(grey).save(path)
    assert np.array_equal(load_picture(path)[..., 1], grey >> 8)
    for numbers in (grey / 65535, grey.astype(np.int32)):
        Image.fromarray(numbers.astype(np.float32) if numbers.dtype == float else numbers).save(
            tmp_path / "deep.tif"
        )
        with pytest.raises(PictureError, match="32-bit numbers for colours; save it with 8 bits"):
            load_picture(tmp_path / "deep.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_what_is_meant_is_read_and_however_damaged_it_ends_in_one_error(tmp_path, kind):
    """60 changes of each: bytes overwritten, runs dropped, the end cut off."""
    chance, path = np.random.default_rng(0), tmp_path / "picture"
    Image.fromarray(render.render(scenes.sample("test", 1))[0]).resize((40, 50)).save(path, kind)
    assert load_picture(path).shape == (64, 64, 3)
    whole, seen = np.frombuffer(path.read_bytes(), np.uint8), 0
    for change in range(60):
        broken, end = whole.copy(), len(whole) if change % 3 else 200
        at = chance.integers(0, end, 1 + change % 5)
        broken[at] = chance.integers(0, 256, len(at))
        path.write_bytes(np.delete(broken, np.arange(*sorted(chance.integers(0, end, 2)))).tobytes()
                         if change % 4 == 0 else broken.tobytes())  # fmt: skip
        try:
            load_picture(path)
        except PictureError as error:
            seen += str(path) in str(error)
    assert seen > 10


@pytest.mark.parametrize(
    "raised", [KeyError("a"), struct.error(), MemoryError(), zlib.error(), RecursionError()]
)
def test_whatever_pillow_raises_names_the_picture(tmp_path, monkeypatch, raised):
    Image.new("RGB", (9, 9)).save(tmp_path / "odd.png")

    def fail(self, *given):
        raise raised

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(PictureError, match=r"odd\.png is damaged or cut off"):
        load_picture(tmp_path / "odd.png")


def test_other_formats_and_folders_are_refused(tmp_path):
    (tmp_path / "drawn.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(PictureError, match="no picture that can be read"):
        load_picture(tmp_path / "drawn.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "other.ppm")
    with pytest.raises(PictureError, match="no picture that can be read"):
        load_picture(tmp_path / "other.ppm")
    with pytest.raises(PictureError, match="is a folder; name one picture in it"):
        load_picture(tmp_path)


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
