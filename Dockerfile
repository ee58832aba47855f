# ssl-vc on CPUs, converting offline with the bundled model. CPU_INDEX is PyTorch's CPU index, see its "Get started" page;
# without it pip installs its default build of torch, which on Linux comes with gigabytes of CUDA.
#
#   docker build --build-arg CPU_INDEX=ADDRESS -t ssl-vc .
#   docker run --rm --network none --user "$(id -u)" -v "$PWD:/data" \
#     ssl-vc convert clip.wav --target target.wav -o converted.wav --force

ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# ffmpeg reads m4a, mp4 and webm
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*

ARG CPU_INDEX=""
RUN pip install --no-cache-dir ${CPU_INDEX:+--index-url "$CPU_INDEX"} "torch>=2.10,<2.14"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY pretrain pretrain
COPY vocoder vocoder
COPY ssl_vc ssl_vc
COPY demos demos
RUN pip install --no-cache-dir .

# threads that wait sleep; the home of whichever user runs it
ENV OMP_WAIT_POLICY=PASSIVE HOME=/tmp

# the image is only built if it converts without a network
RUN --network=none ssl-vc convert demos/samples/source.flac --target demos/samples/emma.opus -o converted.wav --force

WORKDIR /data
ENTRYPOINT ["ssl-vc"]
CMD ["--help"]
