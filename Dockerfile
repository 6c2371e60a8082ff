# The course on CPU, in a container; `docker compose up` builds and opens it (README, "Docker").
FROM python:3.12-slim AS built
COPY . /source
# A lock file written by `make lock` is kept to, if there is one
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist /source && \
    touch /source/lock.txt && cp /source/lock.txt /dist/

FROM python:3.12-slim
# The folder of the work belongs to the learner, and so does a volume that is put there
RUN useradd --create-home learner && install -d -o learner -g learner /home/learner/vlm-workbook
COPY --from=built /dist /dist
# torch of this index brings no GPU libraries: 2 GB instead of 6
RUN pip install --no-cache-dir --no-compile --extra-index-url https://download.pytorch.org/whl/cpu \
    --constraint /dist/lock.txt /dist/*.whl
# Ends the build if something is missing; and what is imported here is compiled, since the learner may not write there
RUN vlmcourse doctor && \
    python -c "import datasets, ipykernel.kernelapp, jupyterlab.labapp, matplotlib.pyplot, peft, sklearn.linear_model"

USER learner
WORKDIR /home/learner
VOLUME /home/learner/vlm-workbook
EXPOSE 8888
HEALTHCHECK --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8888/api', timeout=5)"]
CMD ["vlmcourse", "lab", "--no-browser", "--host", "0.0.0.0"]
