"""Read every page of a site in headless Chromium, from its folder, as a person with a browser would.

    python tools/read_book.py site                      all pages, on a desktop and on a phone, light and dark
    python tools/read_book.py site --shots FOLDER       and keep a picture of each

A page is wrong if its scripts complain, if it asks for anything outside the folder, if it is wider than the
window, if a widget does not come up, or if axe-core finds a serious or critical barrier for people who use a
keyboard or a screen reader, or need contrast.
"""

import argparse
import re
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
GRAVE = ("serious", "critical")
# Which rules of axe-core are tried where: contrast does not hang on the width, nor anything else on the theme
CONTRAST = {"runOnly": ["color-contrast"]}
REST = {"rules": {"color-contrast": {"enabled": False}}}
TRIED = {
    ("desktop", "light"): {},
    ("desktop", "dark"): CONTRAST,
    ("phone", "light"): REST,
    ("phone", "dark"): None,
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
READY = "() => document.documentElement.dataset.ready === 'true'"
WIDER = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
EMPTY = "[...document.querySelectorAll('[data-widget]')].filter(place => !place.querySelector('.vlm')).length"
ALL_OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true })"
AXE = """async ([where, grave, rules]) =>
    (await axe.run(where, {resultTypes: ['violations'], preload: false, ...rules})).violations
    .filter(({impact}) => grave.includes(impact))
    .map(({id, impact, nodes: [first, ...more]}) => ({id, impact, count: 1 + more.length,
        where: first.target.join(' '), html: first.html.slice(0, 160),
        why: first.failureSummary.slice(0, 300)}))"""


def barriers(page, where: str = "html", rules: dict | None = None) -> list[str]:
    """What axe-core finds in the elements `where` that is serious or critical, one line for each rule.

    Args:
        rules: options of axe.run that choose its rules; all of them by default.
    """
    if not page.evaluate("typeof window.axe !== 'undefined'"):
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(AXE, [where, list(GRAVE), rules or {}])
    return [
        f"{one['impact']}: {one['id']}, {one['count']} ×, first {one['where']} ({one['html']}): {one['why']}"
        for one in found
    ]


def faults(page, address: str, complaints: list[str], rules: dict | None = None) -> Iterator[str]:
    """What is wrong with a page, one line each; it stays open, with all that was folded in view.

    Args:
        rules: those of axe-core that are tried, see TRIED; None for none.
    """
    from playwright.sync_api import Error

    complaints.clear()
    try:
        page.goto(address)
        page.wait_for_function(READY, timeout=20_000)
        page.evaluate("bookShowAll()")
    except Error as problem:  # of them, or of the page
        yield f"its scripts did not come to their end: {problem.message.splitlines()[0]}"
    page.evaluate(ALL_OPEN)
    yield from complaints
    if wider := page.evaluate(WIDER):
        yield f"{wider} pixels wider than the window"
    if empty := page.evaluate(EMPTY):
        yield f"{empty} widgets did not come up"
    if rules is not None:
        yield from barriers(page, rules=rules)


def listening(page) -> list[str]:
    """A list in which the page's complaints gather, and what it asks for outside its folder."""
    complaints: list[str] = []
    page.on(
        "console", lambda said: complaints.append(f"console: {said.text}") if said.type == "error" else None
    )
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    outside = re.compile(r"(?!file:|data:|blob:)")
    page.on("request", lambda r: complaints.append(f"asks for {r.url}") if outside.match(r.url) else None)
    return complaints


def read(site: Path, shots: Path | None = None, names: list[str] | None = None, tell=print) -> list[str]:
    """Everything that is wrong with a site, one line each, beginning with page, size and theme."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    paths = [path for path in sorted(site.resolve().rglob("*.html")) if not names or path.stem in names]
    if unread := set(names or []) - {path.stem for path in paths}:
        return [f"{site} has no page {', '.join(sorted(unread))}"]
    if not paths:
        return [f"{site} has no pages; `python tools/build_book.py` makes them"]
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for size, (width, height) in SIZES.items():
            for theme in THEMES:
                view = {"width": width, "height": height}
                page = browser.new_context(viewport=view, color_scheme=theme).new_page()
                complaints, rules = listening(page), TRIED[size, theme]
                for path in paths:
                    name = f"{path.relative_to(site.resolve())}, {size}, {theme}"
                    problems += [
                        f"{name}: {fault}" for fault in faults(page, path.as_uri(), complaints, rules)
                    ]
                    place = path.relative_to(site.resolve()).with_suffix("")  # ja/02_vit is not 02_vit
                    if shots:
                        shots.mkdir(parents=True, exist_ok=True)
                        page.screenshot(
                            path=shots / f"{'-'.join(place.parts)}-{size}-{theme}.png",
                            full_page=True,
                            timeout=180_000,
                        )
                tell(f"read {len(paths)} pages, {size}, {theme}")
        browser.close()
    return problems


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code is 0 when all is well and 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", type=Path, help="the folder that tools/build_book.py made")
    parser.add_argument("page", nargs="*", help="names of pages, such as 02_vit; default: all")
    parser.add_argument("--shots", type=Path, help="where pictures of the pages go")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    problems = read(options.site, options.shots, options.page)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} problems, {time.monotonic() - start:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
