# The commands with torch for CPUs; docs/install.md says how to build and use it.
FROM python:3.13-slim AS build

WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/zeroshot
# torch is the largest part, and is kept while the source changes. Its CPU build has no CUDA libraries; an index of its own has
# it, with few versions of what it needs, so that the rest comes from PyPI.
COPY constraints.txt .
RUN /opt/zeroshot/bin/pip install -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY prompts prompts
COPY src src
ARG EXTRAS=heic,parquet,xlsx
RUN /opt/zeroshot/bin/pip install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.13-slim

RUN useradd --uid 1000 --create-home zeroshot && install -d -m 700 -o zeroshot -g zeroshot /cache
COPY --from=build /opt/zeroshot /opt/zeroshot
ENV PATH=/opt/zeroshot/bin:$PATH XDG_CACHE_HOME=/cache XDG_CONFIG_HOME=/cache PYTHONDONTWRITEBYTECODE=1
USER 1000
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["zeroshot"]
