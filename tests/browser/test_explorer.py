"""The Attention Explorer in a real JupyterLab: what is clicked is what NumPy says."""

import io

import numpy as np
import pytest

pytestmark = pytest.mark.browser

WORLD = """
import numpy as np
from vlmcourse.widgets.attention import AttentionExplorer
random = np.random.default_rng(7)
images = random.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
attention = random.dirichlet(np.full(65, 0.3), (3, 2, 4, 3, 65))  # step image layer head query
attention = attention.astype(np.float32)
rollout = attention.mean((2, 3))
labels = ["a digit", "<script>alert('run')</script><b>bold</b>, as long as a caption"]
"""
SHOW = """
more = {"rollout": rollout, "steps": [0, 50, 400], "labels": labels}
explorer = AttentionExplorer(images, attention, grid=(8, 8), **more)
explorer
"""
SPARE = """select => { // pixels of a choice that its longest option and the arrow leave free
    const [pen, style] = [document.createElement('canvas').getContext('2d'), getComputedStyle(select)];
    pen.font = `${style.fontSize} ${style.fontFamily}`;
    const longest = Math.max(...[...select.options].map(option => pen.measureText(option.text).width));
    return select.clientWidth - parseFloat(style.paddingLeft) - 16 - longest }"""
READ = """selector => { const canvas = document.querySelector(selector), {height, width} = canvas;
    return [height, width, ...canvas.getContext('2d').getImageData(0, 0, width, height).data] }"""
world: dict = {}
exec(WORLD, world)


@pytest.fixture(scope="module")
def page(lab):
    page = lab.open(WORLD, SHOW, name="explorer")
    page.wait_for_selector(".vlm-attention")
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


@pytest.fixture(autouse=True)
def at_the_start(request):
    """Every test begins at the last step, image 0."""
    if "page" in request.fixturenames:
        page = request.getfixturevalue("page")
        pick(page, "Image", "0")
        slide(page, "Training step", 2)


def pixels(page, selector=".vlm-picture canvas") -> np.ndarray:
    height, width, *rgba = page.evaluate(READ, selector)
    return np.array(rgba, np.uint8).reshape(height, width, 4)[..., :3]


def pick(page, label, value):
    page.locator(f".vlm-label:has(span:text-is('{label}')) select").select_option(value)


def slide(page, label, value):
    page.locator(f".vlm-label:has(span:text-is('{label}')) input").fill(str(value))


def spot(page, patch, side=8):
    """Middle of a patch on the screen."""
    canvas = page.locator(".vlm-picture canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    row, column = divmod(patch, side)
    return box["x"] + (column + 0.5) * box["width"] / side, box["y"] + (row + 0.5) * box["height"] / side


def query(page, token):
    if token == 0:
        page.get_by_role("button", name="class token").click()
    else:
        page.mouse.click(*spot(page, token - 1))
    page.mouse.move(0, 0)


def colours(weights) -> np.ndarray:
    from vlmcourse.widgets.stills import cividis

    return cividis()[np.rint(weights / weights.max() * 255).astype(int)]


def answer(image, weights, strength=0.8, side=8) -> np.ndarray:
    """Grey the picture and blend in the map of the patches, as the widget promises."""
    picture = image.astype(float)
    grey = 0.299 * picture[..., 0] + 0.587 * picture[..., 1] + 0.114 * picture[..., 2]
    under = picture + (grey[..., None] - picture) * strength
    cell = len(image) // side
    over = colours(weights[1:]).reshape(side, side, 3).repeat(cell, 0).repeat(cell, 1)
    return np.floor(under + (over - under) * strength * 0.55 + 0.5)


def weights_of(layer, head, token, step=2, image=0):
    if layer == "rollout":
        return world["rollout"][step, image, token]
    rows = world["attention"][step, image, int(layer), :, token]
    return rows.mean(axis=0) if head == "mean" else rows[int(head)]


def test_thirty_random_places_show_the_pixels_numpy_says(page):
    random = np.random.default_rng(1)
    places = [
        (
            str(random.integers(4)),
            str(random.choice(["0", "1", "2", "mean"])),
            int(random.integers(65)),
            i % 2,
        )
        for i in range(27)
    ] + [("rollout", "mean", 0, 0), ("rollout", "mean", 30, 1), ("2", "1", 0, 1)]
    for layer, head, token, image in places:
        pick(page, "Image", str(image))
        pick(page, "Layer", layer)
        if layer != "rollout":
            pick(page, "Head", head)
        query(page, token)
        want = answer(world["images"][image], weights_of(layer, head, token, image=image))
        assert np.array_equal(pixels(page), want), (layer, head, token, image)


def test_the_overlay_goes_from_the_picture_to_a_map_under_which_it_can_be_read(page):
    query(page, 12)
    slide(page, "Overlay", 0)
    assert np.array_equal(pixels(page), world["images"][0])
    slide(page, "Overlay", 100)
    shown, grey = pixels(page).astype(float), world["images"][0] @ [0.299, 0.587, 0.114]
    for row in range(8):  # within a patch, whatever its weight, the picture keeps 45 % of its contrast
        for column in range(8):
            patch = np.s_[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert np.abs(np.ptp(shown[patch], (0, 1)) - 0.45 * np.ptp(grey[patch])).max() <= 1
    slide(page, "Overlay", 80)


def test_arrow_keys_move_the_query_and_c_asks_from_the_class_token(page):
    query(page, 1 + 9)
    cells = page.locator(".jp-Cell").count()
    page.locator(".vlm-picture").focus()
    words = page.locator(".vlm-words")
    for key, place in [
        ("ArrowRight", "row 1, column 2"),
        ("ArrowDown", "row 2, column 2"),
        ("ArrowLeft", "row 2, column 1"),
        ("ArrowUp", "row 1, column 1"),
        ("ArrowUp", "row 0, column 1"),
        ("ArrowUp", "row 0, column 1"),
        ("c", "class token"),
    ]:
        page.keyboard.press(key)
        assert words.inner_text().endswith(f"Query: {place}.")
    assert page.locator(".jp-Cell").count() == cells  # JupyterLab's own C and arrows stay out of it
    assert page.locator(".vlm-picture").evaluate("e => e === document.activeElement")


def test_every_control_is_reached_by_tab_and_has_a_name(page):
    page.locator(".vlm-picture").focus()
    names = []
    for _ in range(10):
        names.append(
            page.evaluate("""() => { const it = document.activeElement;
            return it.ariaLabel || (it.closest('label') ?? it).textContent }""")
        )
        page.keyboard.press("Tab")
    for start in [
        "Picture",
        "Image",
        "Layer",
        "Head",
        "Class token",
        "layer",
        "Play",
        "Training step",
        "Overlay",
        "Save",
    ]:
        assert any(name.startswith(start) for name in names), (start, names)


def test_the_overview_shows_every_head_and_selects_the_one_clicked(page):
    query(page, 22)
    page.get_by_role("button", name="layer 1, head 2").click()
    assert page.locator(".vlm-words").inner_text().startswith("Layer 1, head 2.")
    assert np.array_equal(pixels(page), answer(world["images"][0], weights_of(1, 2, 22)))
    for layer, head in [(0, 0), (3, 2), (2, "mean"), ("rollout", "")]:
        heads = "mean of heads" if head == "mean" else f"head {head}"
        name = "rollout" if layer == "rollout" else f"layer {layer}, {heads}"
        want = colours(weights_of(layer, head, 22)[1:]).reshape(8, 8, 3)
        assert np.array_equal(pixels(page, f".vlm-thumb[aria-label='{name}'] canvas"), want)
    page.keyboard.press("ArrowDown")
    assert page.locator(".vlm-words").inner_text().startswith("Layer 2, head 2.")
    assert page.evaluate("document.activeElement.ariaLabel") == "layer 2, head 2"


# Click Play; return what is shown of every step until it stops: its label and the pixels of the picture.
PLAYED = """root => new Promise(done => {
  const frames = new Map(), canvas = root.querySelector(".vlm-picture canvas");
  const button = name => [...root.querySelectorAll("button")].find(it => it.textContent === name);
  const look = new MutationObserver(() => {
    const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    frames.set(root.querySelector("output").textContent, [...rgba]);
    if (frames.size > 1 && button("Play")) { look.disconnect(); done([...frames]); }
  });
  look.observe(root, { subtree: true, childList: true, characterData: true, attributes: true });
  button("Play").click();
})"""


def test_playback_walks_through_the_training_steps(page):
    pick(page, "Layer", "0")
    pick(page, "Head", "1")
    query(page, 40)
    frames = page.locator(".vlm-attention").evaluate(PLAYED)
    assert [label for label, _ in frames] == ["0", "50", "400"]
    for step, (_, rgba) in enumerate(frames):
        shown = np.reshape(rgba, (64, 64, 4))[..., :3]
        assert np.array_equal(shown, answer(world["images"][0], weights_of(0, 1, 40, step)))
    slide(page, "Training step", 1)
    assert np.array_equal(pixels(page), answer(world["images"][0], weights_of(0, 1, 40, step=1)))


def test_numbers_under_the_pointer_are_the_weights(page):
    pick(page, "Layer", "2")
    pick(page, "Head", "0")
    query(page, 5)
    weights = weights_of(2, 0, 5)
    for patch in (0, 17, 63, int(weights[1:].argmax())):
        page.mouse.move(*spot(page, patch))
        where, numbers = page.locator(".vlm-reading").inner_text().split(": ")
        assert where == f"Row {patch // 8}, column {patch % 8}"
        assert abs(float(numbers.split(",")[0]) - weights[1 + patch]) <= weights[1:].max() / 500
    page.get_by_role("button", name="class token").hover()
    assert (
        page.locator(".vlm-reading")
        .inner_text()
        .startswith(f"Class token: {float(f'{weights[0]:.3g}'):.2}"[:16])
    )


def test_the_saved_picture_holds_the_map(page):
    from PIL import Image

    query(page, 0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename.endswith("query_0.png")
    saved = np.asarray(Image.open(io.BytesIO(download.value.path().read_bytes())).convert("RGB"))
    assert saved.shape == (832 + 120, 832, 3)
    middle = np.arange(64) * 13 + 6
    assert np.array_equal(saved[:832][np.ix_(middle, middle)], pixels(page))


def test_labels_stay_text(page):
    assert page.locator("option", has_text="<script>alert('run')</script><b>bold</b>").count() == 1
    assert page.locator(".vlm b, .vlm script").count() == 0


def test_a_long_name_in_a_choice_is_not_cut_and_keeps_to_its_column(page):
    choices = page.locator(".vlm-attention select")
    assert choices.count() == 3
    for i in range(3):
        assert choices.nth(i).evaluate(SPARE) >= 0, choices.nth(i).inner_text()
    page.set_viewport_size({"width": 640, "height": 1300})  # here it must give way, and not push others out
    inside = "e => e.getBoundingClientRect().right <= e.closest('.vlm-side').getBoundingClientRect().right"
    assert all(choices.nth(i).evaluate(inside) for i in range(3))
    page.set_viewport_size({"width": 1200, "height": 1300})


def test_python_knows_the_view_and_can_set_it(page, lab):
    pick(page, "Layer", "3")
    query(page, 33)
    page.wait_for_timeout(300)
    view = eval(lab.ask(page, "explorer.view"))
    assert (view["layer"], view["query"]) == (3, 33)
    lab.ask(page, "setattr(explorer, 'view', {**explorer.view, 'layer': 1, 'head': 0, 'query': 2})")
    page.wait_for_selector(".vlm-words:text-is('Layer 1, head 0. Query: row 0, column 1.')")
    assert np.array_equal(pixels(page), answer(world["images"][0], weights_of(1, 0, 2)))


PHOTO = """
import numpy as np
from vlmcourse.widgets.attention import AttentionExplorer
random = np.random.default_rng(3)
photo = random.integers(0, 256, (224, 224, 3), dtype=np.uint8)
attention = random.dirichlet(np.full(197, 0.3), ({layers}, {heads}, 197)).astype(np.float32)
explorer = AttentionExplorer(photo, attention, grid=(14, 14))
explorer
"""
STOPWATCH = """() => { window.samples = [];
    const canvas = document.querySelector('.vlm-picture canvas');
    const pixels = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = () => pixels().reduce((hash, byte) => (hash * 31 + byte) | 0, 0);
    let before = colours();
    document.addEventListener('click', event => requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = () => {
            const [time, now] = [performance.now() - event.timeStamp, colours()];
            window.samples.push([time, now !== before]);
            before = now };
        channel.port2.postMessage(0) })) }"""


def test_from_click_to_pixels_in_fifty_milliseconds(lab, capsys):
    """From the click's time stamp to the end of the frame that shows the new map; a photo of 196 patches."""
    page = lab.open(PHOTO.format(layers=4, heads=4), name="latency")
    page.wait_for_selector(".vlm-attention")
    page.evaluate(STOPWATCH)
    late, idle = [], page.locator(".vlm-words")
    for turn in range(3):  # a busy machine may spoil one turn, not the best of three
        for _ in range(20):
            idle.click()
            page.wait_for_timeout(30)
        still = np.array(page.evaluate("window.samples.splice(0)"))
        for patch in np.random.default_rng(turn).permutation(196)[:60]:
            page.mouse.click(*spot(page, patch, side=14))
            page.wait_for_timeout(30)
        times, changed = np.array(page.evaluate("window.samples.splice(0)")).T
        assert len(times) == 60 and changed.all() and not still[:, 1].any()
        nothing, something = np.percentile(still[:, 0], 95), np.percentile(times, 95)
        late.append(something / max(50, 3 * nothing))
        with capsys.disabled():
            print(f"\nclick to pixels: p95 {something:.0f} ms; to nothing new: {nothing:.0f} ms")
        if late[-1] <= 1:
            break
    lab.close(page)
    assert min(late) <= 1  # 50 ms, or thrice a click that changes nothing where the machine is slow


def test_rows_beyond_two_megabytes_come_from_the_kernel_and_are_kept(lab):
    big: dict = {}
    exec(PHOTO.format(layers=12, heads=12), big)
    page = lab.open(PHOTO.format(layers=12, heads=12), name="large")
    page.wait_for_selector(".vlm-attention")
    mean = big["attention"].mean(axis=1)[11]
    truth = {patch: answer(big["photo"], mean[1 + patch], side=14) for patch in (0, 100, 195)}
    for patch, want in truth.items():
        page.mouse.click(*spot(page, patch, side=14))
        page.wait_for_selector(".vlm-picture[aria-busy=false]")
        assert np.array_equal(pixels(page), want)
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.wait_for_timeout(500)
    page.mouse.click(*spot(page, 100, side=14))
    assert np.array_equal(pixels(page), truth[100])  # seen before: still there without the kernel
    page.mouse.click(*spot(page, 50, side=14))
    assert "Asking the kernel" in page.locator(".vlm-words").inner_text()
    page.context.close()
