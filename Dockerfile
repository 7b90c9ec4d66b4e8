# A training in a container:
#   docker build -t backprop .
#   docker run -v runs:/runs -v "$PWD":/work --stop-timeout 40 backprop run train.py
# `docker stop` sends SIGTERM: the run saves and ends within --grace (30 s), so the container needs a little more than that.
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# Another framework: --build-arg EXTRAS=keras,jax
ARG EXTRAS=torch
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[${EXTRAS}]" && rm -r /wheels \
    && useradd --create-home --uid 1000 trainer && mkdir /runs /work && chown trainer /runs /work
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 1000
ENV BACKPROP_HOME=/runs
VOLUME /runs
WORKDIR /work
# The command is PID 1: it gets the signals itself, and ends orphans that the script leaves.
ENTRYPOINT ["backprop"]
CMD ["--help"]
