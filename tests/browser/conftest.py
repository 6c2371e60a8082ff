"""A real JupyterLab and a real Chromium, started once; every test opens its own notebook in them.

A page that has loaded JupyterLab is used again for the next notebook when its last one is closed, because
loading takes as long as a kernel's start.  With pytest-xdist every worker has a server and a browser, and
`--dist loadfile` keeps the tests of a notebook together.

VLM_LAB_PYTHON names another Python, whose JupyterLab and kernel are then tested, and VLM_LAB_PACKAGES
a folder of packages that it has besides (see tools/colab_check.sh).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
LAB_PYTHON = os.environ.get("VLM_LAB_PYTHON", sys.executable)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}
# What is said when a notebook is closed whose kernel was starting, and by whom: JupyterLab itself, and the
# manager of widgets, which was restoring them. It may come a notebook later.
CLOSED_EARLY = {"Error: Disposed": "jlab_core", "Error: No current kernel": "jupyterlab-manager"}
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
READY = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
DONE = """() => { const panel = window.jupyterapp.shell.currentWidget;
    const prompts = [...panel.node.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
    const idle = panel.sessionContext.session.kernel.status === 'idle';
    return idle && prompts.every(prompt => /\\d/.test(prompt.textContent)) }"""
OPEN = "async path => { await window.jupyterapp.commands.execute('docmanager:open', {path}) }"
CLOSE = """async () => { const panel = window.jupyterapp.shell.currentWidget;
    const id = panel.sessionContext.session?.id;
    panel.context.model.dirty = false; // or JupyterLab would ask whether to save
    panel.close();
    if (id) await window.jupyterapp.serviceManager.sessions.shutdown(id) }"""
CLOSED = "!document.querySelector('.jp-NotebookPanel, .jp-Dialog')"


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium on PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def closed_early(stack: str) -> bool:
    """Whether an error says only that a notebook was closed before it was all there, see CLOSED_EARLY."""
    return any(stack.startswith(said) and who in stack for said, who in CLOSED_EARLY.items())


class Lab:
    """A JupyterLab on loopback whose folder is `folder`."""

    def __init__(self, folder: Path):
        self.browser, self.folder = None, folder
        self.free = []  # pages with JupyterLab but without a notebook
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        settings = folder / "settings"
        settings.mkdir()
        (settings / "overrides.json").write_text(json.dumps(SETTINGS))
        self.server = subprocess.Popen(
            [
                LAB_PYTHON,
                "-m",
                "jupyter",
                "lab",
                "--no-browser",
                f"--port={self.url.rsplit(':')[-1]}",
                "--allow-root",
                "--ServerApp.ip=127.0.0.1",
                "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={folder}",
                "--ServerApp.token=test",
                f"--LabApp.app_settings_dir={settings}",
                "--LabApp.expose_app_in_browser=True",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # People look here: widgets are live.  HOME is empty, so nobody's own settings count.
            env={
                **os.environ,
                "CI": "",
                "HOME": str(folder),
                "JUPYTER_PREFER_ENV_PATH": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("VLM_LAB_PACKAGES")])),
                "PATH": f"{Path(LAB_PYTHON).parent}:{os.environ['PATH']}",
            },
        )

    def wait(self) -> None:
        """Until the server answers."""
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{self.url}/api?token=test", timeout=1)
                return
            except OSError:
                time.sleep(0.25)
        raise RuntimeError(f"JupyterLab did not answer at {self.url} within a minute")

    def open(self, *cells: str, name: str, theme: str = "Light", run: bool = True, path: Path | None = None):
        """A page with a notebook of these code cells, or the one at `path`, run from top to bottom."""
        file = self.folder / f"{name}.ipynb"
        if path is None:
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            notebook.metadata.kernelspec = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            nbformat.write(notebook, file)
        else:
            shutil.copy(path, file)
        if self.free:
            page = self.free.pop()
            page.complaints.clear()
            page.mouse.move(0, 0)
            page.evaluate(OPEN, file.name)
        else:
            page = self._new_page()
            page.goto(f"{self.url}/lab/workspaces/{name}/tree/{file.name}?token=test&reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        page.evaluate("window.jupyterapp.shell.collapseLeft()")
        # JupyterLab remembers the theme for its next pages, so it is always set.
        page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
            f"JupyterLab {theme}",
        )
        page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === String(light)", arg=theme == "Light"
        )
        if run:
            page.wait_for_function(READY, timeout=60_000)
            page.evaluate(RUN_ALL)
            page.wait_for_function(DONE, timeout=120_000, polling=200)
        return page

    def close(self, page) -> None:
        """Close the page's notebook and end its kernel; the page waits for the next notebook."""
        page.evaluate(CLOSE)
        page.wait_for_function(CLOSED, timeout=30_000)
        self.free.append(page)

    def _new_page(self):
        size = {"width": 1200, "height": 1300}
        page = self.browser.new_context(viewport=size, accept_downloads=True).new_page()
        page.complaints, page.outside = [], []  # of the present notebook; of all that the page has shown
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.on(
            "pageerror",
            lambda error: closed_early(stack := str(error.stack)) or page.complaints.append(stack),
        )
        page.on(
            "request",
            lambda r: (
                None
                if re.match(r"(data|blob):|\w+://127\.0\.0\.1[:/]", r.url)
                else page.outside.append(r.url)
            ),
        )
        return page

    def ask(self, page, expression: str) -> str:
        """The repr of a Python expression, evaluated in the notebook's kernel."""
        reply = page.evaluate(
            """async expression => {
            const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
            const future = kernel.requestExecute({code: '', user_expressions: {it: expression}});
            return (await future.done).content.user_expressions }""",
            expression,
        )
        return reply["it"]["data"]["text/plain"]

    def save(self, page, name: str) -> Path:
        """The notebook file as the browser saved it, outputs included."""
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        file = self.folder / f"{name}.ipynb"
        for _ in range(100):
            if any(cell.get("outputs") for cell in nbformat.read(file, 4).cells):
                return file
            time.sleep(0.1)
        raise RuntimeError(f"{file.name} was saved without outputs")


@pytest.fixture(scope="session")
def lab(request, tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.browser = request.getfixturevalue("chromium")  # starts while the server does
    lab.wait()
    yield lab
    lab.server.terminate()
    lab.server.wait(20)
