# syntax=docker/dockerfile:1
# Linted (tests/unit/test_packaging.py), never built: no container runtime was at hand where it was written.
#
#   docker build -t genome-annotator:0.1.0 .                                     # CUDA
#   docker build -t genome-annotator:0.1.0-cpu --build-arg FLAVOUR=cpu \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .             # CPU only, several GB smaller
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" genome-annotator:0.1.0 \
#     annotate assembly.fa.gz -o results/
ARG FLAVOUR=cuda

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash gcc libc6-dev procps python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# gcc and the Python headers: Triton compiles each kernel's launcher on its first use.

FROM python:3.12-slim AS cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash procps \
    && rm -rf /var/lib/apt/lists/*

FROM ${FLAVOUR} AS final
ARG TORCH_INDEX=https://pypi.org/simple
ENV PATH=/opt/annotator/bin:$PATH
RUN python3 -m venv /opt/annotator \
    && python -m pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch>=2.11,<2.14"
COPY pyproject.toml README.md LICENSE /src/
COPY annotator /src/annotator
COPY kernels /src/kernels
RUN python -m pip install --no-cache-dir "/src[plot,learn,bigwig,bigbed]" && rm -rf /src

# The home folder may be unwritable and the user any number (Apptainer, --user): caches go where everyone may write.
ENV HF_HUB_OFFLINE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    RAY_TMPDIR=/tmp/ray \
    TRITON_CACHE_DIR=/tmp/triton
RUN useradd --create-home --uid 10001 annotator
USER annotator
WORKDIR /data
ENTRYPOINT ["annotator"]
CMD ["--help"]
