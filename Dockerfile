# syntax=docker/dockerfile:1
#
# hwprune with TensorRT, PyCUDA, NVML and ONNX Runtime, for a machine with an NVIDIA GPU and the NVIDIA Container Toolkit.
#
#   docker build -t hwprune .
#   docker run --rm --gpus all -v "$PWD:/work" hwprune doctor
#   docker run --rm --gpus all -v "$PWD:/work" hwprune profile --device rtx3090 --runtime tensorrt --model resnet50
#
# Its tests, those that need the GPU included:
#   docker run --rm --gpus all --workdir /opt/hwprune --entrypoint pytest hwprune
#
# CUDA 13 needs an NVIDIA driver of branch 580 or later. Versions can be chosen together, as in
#   docker build --build-arg BASE_IMAGE=nvidia/cuda:13.1.1-devel-ubuntu24.04 --build-arg TENSORRT='tensorrt==11.4.*' .

# A "devel" image, because PyCUDA is compiled against the CUDA headers. Its Python is Ubuntu 24.04's own, 3.12.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
FROM ${BASE_IMAGE}

# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        build-essential python3.12 python3.12-dev python3.12-venv \
    && rm -rf /var/lib/apt/lists/*

ENV VIRTUAL_ENV=/opt/venv \
    CUDA_ROOT=/usr/local/cuda \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PATH=/opt/venv/bin:/usr/local/cuda/bin:${PATH}
RUN python3.12 -m venv /opt/venv

# The large packages have a layer of their own, so that a change of hwprune does not fetch them again.
# There is no driver while an image is built: PyCUDA links against the stub of libcuda.
ARG TORCH="torch>=2.11"
ARG TENSORRT="tensorrt>=10.0"
# hadolint ignore=DL3013
RUN pip install setuptools wheel \
    && pip install "${TORCH}" torchvision \
    && pip install "${TENSORRT}" \
    && LIBRARY_PATH=/usr/local/cuda/lib64/stubs pip install "pycuda>=2025.1.2"

COPY . /opt/hwprune
WORKDIR /opt/hwprune
RUN pip install ".[tensorrt,onnxruntime,nvml,test]" \
    && python -c "import hwprune, onnxruntime, torch" \
    && pip show tensorrt pycuda > /dev/null

WORKDIR /work
ENTRYPOINT ["hwprune"]
CMD ["--help"]
