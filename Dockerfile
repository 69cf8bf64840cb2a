# One file, three images: `node` (node, relay, command line; no TensorFlow), `worker` (the same and
# the network, on a CPU) and `worker-gpu` (on CUDA). Packages come from the locked, hashed lists,
# and nothing is built, so no build tool has to be fetched.

FROM python:3.12-slim AS node-packages
COPY requirements/node.txt /tmp/node.txt
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement /tmp/node.txt \
 && printf '#!/bin/sh\nexec python -m worker "$@"\n' > /opt/venv/bin/cxr-worker \
 && chmod 755 /opt/venv/bin/cxr-worker

FROM node-packages AS worker-packages
COPY requirements/worker.txt /tmp/worker.txt
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement /tmp/worker.txt

FROM python:3.12-slim AS runtime
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/cxr-worker \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    CXR_HOME=/var/lib/cxr-worker
# The folders are made here so that a volume mounted on one belongs to the user as well.
RUN useradd --system --uid 10001 --no-create-home cxr \
 && install --directory --owner=cxr /var/lib/cxr-worker /var/lib/cxr-worker/archive \
    /var/lib/cxr-worker/audit /var/lib/cxr-worker/engines
COPY dicom_node /opt/cxr-worker/dicom_node
COPY worker /opt/cxr-worker/worker
COPY migrations /opt/cxr-worker/migrations
COPY model /opt/cxr-worker/model
USER cxr
WORKDIR /var/lib/cxr-worker
ENTRYPOINT ["cxr-worker"]

FROM runtime AS node
COPY --from=node-packages /opt/venv /opt/venv
EXPOSE 11112 8443
CMD ["node"]

FROM runtime AS worker
COPY --from=worker-packages /opt/venv /opt/venv
CMD ["worker"]

# The CUDA libraries come from the base image (TensorFlow 2.21 is built for CUDA 12.5, cuDNN 9); its
# Python is 3.12 as well, but elsewhere, so the virtual environment is made for it.
FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04 AS worker-gpu
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/worker.txt /tmp/worker.txt
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement /tmp/worker.txt \
 && printf '#!/bin/sh\nexec python -m worker "$@"\n' > /opt/venv/bin/cxr-worker \
 && chmod 755 /opt/venv/bin/cxr-worker
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/cxr-worker \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    CXR_HOME=/var/lib/cxr-worker
RUN useradd --system --uid 10001 --no-create-home cxr \
 && install --directory --owner=cxr /var/lib/cxr-worker /var/lib/cxr-worker/archive \
    /var/lib/cxr-worker/audit /var/lib/cxr-worker/engines
COPY dicom_node /opt/cxr-worker/dicom_node
COPY worker /opt/cxr-worker/worker
COPY migrations /opt/cxr-worker/migrations
COPY model /opt/cxr-worker/model
USER cxr
WORKDIR /var/lib/cxr-worker
ENTRYPOINT ["cxr-worker"]
CMD ["worker"]
