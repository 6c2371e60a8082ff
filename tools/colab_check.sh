#!/bin/sh
# The widgets on Colab's stack: ipywidgets 7.7.1 and IPython 7.34, in an environment of their own.
# Colab's own page cannot be had here; JupyterLab 3.6 with jupyterlab-widgets 1 is the last that shows ipywidgets 7.
set -eu
cd "$(dirname "$0")/.."
colab=.venv-colab/bin/python
if [ ! -x "$colab" ]; then
    python3 -m venv .venv-colab
fi
"$colab" -m pip install --quiet "ipywidgets==7.7.1" "ipython==7.34.0" "ipykernel==6.17.1" "anywidget==0.9.21" \
    "jupyterlab>=3.6,<4" "jupyterlab-widgets>=1.1,<2" "numpy>=2.0" "pillow>=11.0" "matplotlib>=3.9" "pytest>=8.3" "pytest-timeout>=2.3"
echo "Python side, on Colab's versions"
"$colab" -m pytest --noconftest -p no:cacheprovider tests/widgets
echo "In the browser, with a lab and kernel on Colab's versions"
VLM_LAB_PYTHON="$PWD/$colab" .venv/bin/python -m pytest tests/browser
