"""Build the executed course as a folder of pages, which open without a server.

    notebooks/02_vit.ipynb     ->  site/02_vit.html          English edition
    notebooks/ja/02_vit.ipynb  ->  site/ja/02_vit.html       Japanese edition, once it is translated
    notebooks/INDEX.md         ->  site/terms.html

    python tools/build_book.py                          all chapters, into site/
    python tools/build_book.py 00_start_here 02_vit     these
    python tools/build_book.py --repository URL         with buttons that open a chapter on Colab, Kaggle, ...
    python tools/build_book.py --reuse                  take copies that were executed with another package

Notebooks are executed once, two at a time, and kept in build/book until they or the package change.
Exercises stay open: their hints and the course's version stand below them, behind a click.  Widgets that
need no kernel work in the page.  Every link of the site is checked; tools/read_book.py reads the
pages in a browser.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from book.links import check_links
from book.running import ROOT, Notebook, RunError, executed
from book.site import Site
from publishing import address_given, address_in

LANGUAGES = ("en", "ja")
MOST_BYTES = 60_000_000
MARK = "static/book.js"  # every site has it


def notebooks_in(root: Path, names: list[str]) -> dict[str, list[Notebook]]:
    """The notebooks of each edition that is here.

    Raises:
        ValueError: if a name is no chapter's.
    """
    found = {}
    for lang, folder in zip(LANGUAGES, (root, root / "ja"), strict=True):
        paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
        chosen = [path for path in paths if not names or path.stem in names]
        if chosen:
            found[lang] = [Notebook(path.stem, lang, path) for path in chosen]
    unknown = set(names) - {notebook.name for edition in found.values() for notebook in edition}
    if unknown or not found:
        raise ValueError(f"{root} has no notebook {', '.join(sorted(unknown)) or 'at all'}")
    return found


def build(root: Path, out: Path, cache: Path, options: argparse.Namespace, tell=print) -> None:
    """Execute what is not yet, and write the site.

    An earlier site stays as it is until the new one is whole.

    Raises:
        RunError, ValueError, LookupError: with what is wrong with a notebook, or cannot be shown.
    """
    address = address_given(options.repository, options.branch) or address_in(root)
    editions = notebooks_in(root, options.chapter)
    every = [notebook for edition in editions.values() for notebook in edition]
    refuse_what_is_no_site(out, [root, cache, ROOT])
    copies = executed(every, cache, options.processes, options.reuse, tell)
    out = out.resolve()
    draft = out.with_name(f"{out.name}.writing")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for lang, notebooks in editions.items():
            Site(draft, lang, list(editions), address).fill(notebooks, copies)
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def refuse_what_is_no_site(out: Path, sources: list[Path]) -> None:
    """Refuse to replace anything but an earlier site, or an empty folder.

    Raises:
        ValueError: says what is there.
    """
    place = out.resolve()
    if any(source.resolve().is_relative_to(place) for source in sources):
        raise ValueError(f"{out} holds what the site is made from; name another folder")
    if place.exists() and not place.is_dir():
        raise ValueError(f"{out} is a file; name a folder")
    if place.is_dir() and any(place.iterdir()) and not (place / MARK).is_file():
        raise ValueError(f"{out} holds files that are no site; name another folder, or empty it yourself")


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code is 0 when all is well and 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chapter", nargs="*", help="name of a chapter, such as 02_vit; default: all")
    parser.add_argument("--root", type=Path, default=ROOT / "notebooks", help="the notebooks folder")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="where the pages go; replaced")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "book", help="executed notebooks")
    parser.add_argument("--repository", metavar="URL", help="https://github.com/OWNER/NAME of the course")
    parser.add_argument("--branch", help="of that repository; default: main")
    parser.add_argument("--processes", type=int, default=2, help="notebooks that run at once")
    parser.add_argument("--reuse", action="store_true", help="take copies executed with another package")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        build(options.root, options.out, options.cache, options)
    except (RunError, ValueError, LookupError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    checked = check_links(options.out)
    for problem in checked.problems:
        print(problem, file=sys.stderr)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(
        f"{checked.pages} pages, {size / 1e6:.1f} MB, {checked.links} links, {time.monotonic() - start:.0f} s"
    )
    if size > MOST_BYTES:
        print(f"the site is larger than {MOST_BYTES / 1e6:.0f} MB", file=sys.stderr)
    print(f"Open {options.out / 'index.html'}")
    return 1 if checked.problems or size > MOST_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
