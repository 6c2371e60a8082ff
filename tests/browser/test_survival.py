"""What is left of a widget when nobody answers: its picture."""

import nbformat
import pytest

from tests.browser.test_explorer import SHOW, WORLD, answer, pick, pixels, query, weights_of, world

pytestmark = pytest.mark.browser
STILL = "img[src^='data:image/png']"


@pytest.fixture(scope="module")
def saved(lab):
    """A notebook that was run, saved, and whose kernel is gone; the page is still open."""
    page = lab.open(WORLD, SHOW, name="survivor")
    page.wait_for_selector(".vlm-attention")
    file = lab.save(page, "survivor")
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.wait_for_timeout(500)
    yield page, file
    page.context.close()


def seen(page, selector=f".jp-OutputArea {STILL}"):
    """Width in pixels of a picture that is shown."""
    page.wait_for_selector(selector, timeout=20_000)
    assert page.locator(selector).count() == 1
    return page.locator(selector).evaluate("e => e.naturalWidth")


def test_the_live_view_goes_on_without_its_kernel(saved):
    page, _ = saved
    pick(page, "Layer", "1")
    pick(page, "Head", "2")
    query(page, 20)
    assert (pixels(page) == answer(world["images"][0], weights_of(1, 2, 20))).all()


def test_the_picture_survives_in_a_web_page(saved, chromium, tmp_path):
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(saved[1]))
    (tmp_path / "page.html").write_text(html, "utf-8")
    page = chromium.new_context().new_page()
    page.route("http*://**", lambda route: route.abort())
    page.goto(f"file://{tmp_path}/page.html", wait_until="domcontentloaded")
    assert seen(page, STILL) == 1344
    page.context.close()


def test_the_picture_survives_after_the_kernel_is_gone(saved, lab):
    page = lab.open(name="reopened", run=False, path=saved[1])
    assert seen(page) == 1344 and page.locator(".vlm").count() == 0
    lab.close(page)


def test_the_picture_survives_in_an_untrusted_notebook(saved, lab, tmp_path):
    notebook = nbformat.read(saved[1], 4)
    notebook.cells[-1].source += "  # changed elsewhere, so the signature no longer fits"
    nbformat.write(notebook, tmp_path / "untrusted.ipynb")
    page = lab.open(name="untrusted", run=False, path=tmp_path / "untrusted.ipynb")
    assert seen(page) == 1344
    trusted = page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.widgets.every(cell => cell.model.trusted)"
    )
    assert not trusted
    assert "AttentionExplorer(2 images, 8×8 patches" in page.locator(".jp-OutputArea").last.inner_text()
    lab.close(page)
