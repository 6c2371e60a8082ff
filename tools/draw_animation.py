"""Draw the README's animation: an exercise of chapter 00 in a real JupyterLab: python tools/draw_animation.py

A wrong answer is typed and run, the card that the course answers with is waited for, the answer is mended
and run again. What is seen is what JupyterLab shows.  Needs the extra "test" and Chromium.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import FLAGS, READY, Lab  # noqa: E402

FILE = ROOT / "assets" / "screenshots" / "exercise.gif"
WIDTH, HEIGHT = 900, 350  # pixels of the page that are shown
COLOURS = 128
SETUP = """from vlmcourse.workbook import *
from vlmcourse.data import pixels
begin("00_start_here")"""
STUB = """@exercise(pixels.normalise)
def normalise(images):
    \"\"\"uint8 (batch, height, width, channel) -> float32 (batch, channel, height, width) in -1..1\"\"\"
    """
OPEN = "raise NotImplementedError"
WRONG = "return images.transpose(1, 3).float() / 127.5 - 1"
RIGHT = "return images.permute(0, 3, 1, 2).float() / 127.5 - 1"
TYPED = 9  # letters from one frame to the next
QUICK, SLOW = 110, 4000  # milliseconds that a frame of typing, and one to be read, is shown
WRITE = """text => { const cell = window.jupyterapp.shell.currentWidget.content.widgets[1];
    cell.model.sharedModel.setSource(text); }"""
RUN = """number => { const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = number;
    return window.jupyterapp.commands.execute('notebook:run-cell') }"""


class Film:
    """Frames of the second cell of a page, and how long each is shown."""

    def __init__(self, page):
        self.page, self.frames, self.durations = page, [], []

    def shoot(self, milliseconds: int) -> None:
        """Add what the page shows now."""
        box = self.page.locator(".jp-Cell").nth(1).bounding_box()
        clip = {"x": box["x"], "y": box["y"], "width": WIDTH, "height": HEIGHT}
        self.frames.append(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB"))
        self.durations.append(milliseconds)

    def type(self, before: str, text: str, kept: int = 0) -> None:
        """Write a text after `before`, some letters at a time, from the `kept`th on."""
        for end in [*range(kept, len(text), TYPED), len(text)]:
            self.page.evaluate(WRITE, before + text[:end])
            self.page.wait_for_timeout(60)
            self.shoot(QUICK)

    def run(self, awaited: str) -> None:
        """Run the cell until its output holds the text `awaited`."""
        self.page.evaluate(RUN, 1)
        self.page.wait_for_function(
            "text => document.querySelectorAll('.jp-Cell')[1].querySelector('.jp-OutputArea')"
            "?.textContent.includes(text)",
            arg=awaited, timeout=120_000,
        )  # fmt: skip
        self.page.wait_for_timeout(500)
        self.shoot(SLOW)

    def save(self, path: Path) -> None:
        """One palette for all frames, so that only what changes is stored."""
        together = Image.new("RGB", (WIDTH, HEIGHT * len(self.frames)))
        for number, frame in enumerate(self.frames):
            together.paste(frame, (0, HEIGHT * number))
        palette = together.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        few[0].save(
            path, save_all=True, append_images=few[1:], duration=self.durations, loop=0, optimize=False
        )


def draw(path: Path) -> None:
    """Film the exercise and write it as an animated GIF."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        lab = Lab(Path(name))
        try:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            lab.browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            lab.wait()
            page = lab.open(SETUP, STUB + OPEN, name="exercise", run=False)
            page.wait_for_function(READY, timeout=60_000)
            page.evaluate(RUN, 0)
            film = Film(page)
            film.shoot(1500)
            film.type(STUB, WRONG)
            film.run("height and width changed places")
            alike = len("return images.")
            film.type(STUB, RIGHT, kept=alike)
            film.run("passed")
            film.save(path)
            lab.browser.close()
        finally:
            lab.server.terminate()
            lab.server.wait(20)


if __name__ == "__main__":
    draw(FILE)
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size / 1000:.0f} kB")
