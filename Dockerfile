# One image for the web part and every worker: APP_FILE chooses, see app_srvc/container.py.
#
#   podman build -t app-srvc .
#   podman build -t app-srvc --build-arg BASE_IMAGE=docker.io/library/python:3.13-slim .
#
# The base needs Python 3.11 or newer with its venv module, and nothing else: no compiler is used.
ARG BASE_IMAGE=registry.access.redhat.com/ubi9/python-312

FROM ${BASE_IMAGE} AS build
USER 0
WORKDIR /build
COPY requirements-build.txt requirements.txt ./
# pip and setuptools stay in this stage; the environment that is copied below has neither.
RUN python3 -m venv tools \
 && tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --only-binary :all: --require-hashes -r requirements-build.txt \
 && python3 -m venv --without-pip /opt/app-srvc \
 && tools/bin/python -m pip --python /opt/app-srvc/bin/python install --no-cache-dir \
      --disable-pip-version-check --only-binary :all: --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY app_srvc app_srvc
RUN tools/bin/python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-index \
      --no-build-isolation --wheel-dir dist . \
 && tools/bin/python -m pip --python /opt/app-srvc/bin/python install --no-cache-dir \
      --disable-pip-version-check --no-deps --no-index dist/*.whl

FROM ${BASE_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="app-srvc" \
      org.opencontainers.image.description="Asynchronous processing without a message bus: web part and workers" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      name="app-srvc" \
      summary="Asynchronous processing without a message bus: web part and workers" \
      io.k8s.display-name="app-srvc" \
      io.k8s.description="Accepts work over HTTP, does it in the background, and loses nothing" \
      io.openshift.expose-services="8080:http" \
      io.openshift.tags="python,flask,rq,redis"
USER 0
COPY --from=build /opt/app-srvc /opt/app-srvc
# Nothing here belongs to the user that runs it: any user id of group 0 reads it and writes to /tmp.
COPY usrregworker.py dbworker.py todoworker.py taskworker.py /opt/app-root/src/
ENV PATH=/opt/app-srvc/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8080 \
    HEALTH_PORT=8081 \
    APP_MODULE=app_srvc.webapp
WORKDIR /opt/app-root/src
EXPOSE 8080 8081
USER 1001
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["/opt/app-srvc/bin/python", "-m", "app_srvc.container", "--health"]
# Replaces the base's entry point, which is a shell script.
ENTRYPOINT ["/opt/app-srvc/bin/python", "-m", "app_srvc.container"]
CMD []
