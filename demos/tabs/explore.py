"""The tab that plots frames: two speakers' frames as points, and which target frames match a phrase."""

from collections.abc import Iterator
from functools import partial
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gradio as gr
import plotly.graph_objects as go
import torch
from torch import Tensor

import ssl_vc
from demos.panel import VoicePanel
from demos.sessions import Session
from demos.studio import Studio
from demos.uploads import sounds, uploaded
from demos.widgets import ALONE, recording, report_errors

MAX_POINTS = 1500  # of each speaker
MAX_PHRASE = 10.0  # seconds
SPEAKER, UNIT, TIME = "speaker", "unit", "time"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
PCA, UMAP = "PCA", "UMAP"
PROJECTIONS = [PCA, *([UMAP] if find_spec("umap") else [])]  # UMAP where umap-learn is installed
LAYER_SECONDS = 20  # of each recording, to compare layers


def explore_tab(studio: Studio, panel: VoicePanel) -> None:
    """Build the tab."""
    gr.Markdown(
        "## Frames\nEvery point is 20 ms of speech, projected to three dimensions. Lines connect the frames of a "
        "phrase with their nearest neighbours in the target voice, which replace them in a conversion."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            source = recording("Recording", "frames-source")
        with gr.Column(min_width=300):
            start = gr.Slider(0, 60, 0, step=0.1, label="Start of the phrase (s)")
            length = gr.Slider(0.2, MAX_PHRASE, 1, step=0.1, label="Length of the phrase (s)")
            projection = gr.Radio(PROJECTIONS, value=PCA, label="Projection", visible=len(PROJECTIONS) > 1)
            colour = gr.Radio([SPEAKER, UNIT, TIME], value=SPEAKER, label="Colour by")
    with gr.Row():
        draw = gr.Button("Draw", variant="primary", elem_id="draw")
        layers = gr.Button("Compare layers", elem_id="layers")
    status = gr.Markdown(elem_id="frames-status")
    plot = gr.Plot(label="Frames", elem_id="frames-plot")
    curve = gr.Plot(label="Layers", elem_id="layers-plot")
    event: dict[str, Any] = {"api_visibility": "private", **ALONE}
    draw.click(partial(_draw, studio), [source, start, length, projection, colour, *panel], [plot, status], **event)
    layers.click(partial(_compare_layers, studio), [source, panel.files], [curve, status], **event)


@report_errors
def _draw(
    studio: Studio,
    source: str | None,
    start: float,
    length: float,
    projection: str,
    colour: str,
    session: Session,
    *parts: Any,
) -> Iterator[tuple[Any, str]]:
    (path,) = uploaded(source, "a recording")
    (wav,) = sounds([path], 1)
    voice = studio.required_voice(session, *parts)
    queries = torch.cat(list(studio.converter.encode(wav).query_frames())).cpu().float()
    first = min(int(50 * start), max(len(queries) - 10, 0))
    last = min(first + int(50 * length), len(queries))
    units = studio.codec.encode(wav, layout="frames").ids if colour == UNIT else None
    phrase = queries[first:last].to(studio.converter.extractor.device)
    nearest = studio.converter.pool(voice).nearest(phrase, 1)
    yield (
        frames_figure(
            queries,
            voice.frames.float(),
            first,
            nearest.index[:, 0].cpu(),
            colour=colour,
            units=units,
            names=(path.stem, voice.name),
            projection=projection,
        ),
        f"{last - first} frames from {first / 50:.1f} to {last / 50:.1f} s; mean cosine distance to the nearest of "
        f"{len(voice.frames)} frames: {float(nearest.distance.mean()):.2f} (0 to 2).",
    )


@report_errors
def _compare_layers(studio: Studio, source: str | None, files: list[str] | None) -> Iterator[tuple[Any, str]]:
    (path,), target = uploaded(source, "a recording"), uploaded(files, "recordings of a target voice")[0]
    wavs = [wav[: LAYER_SECONDS * 16_000] for wav in sounds([path, target], 5)]
    matched = studio.converter.extractor
    depth, distances = matched.encoder.config.depth, []
    for layer in range(1, depth + 1):
        extractor = ssl_vc.Extractor(matched.encoder, layer, device=studio.device)
        query, pool = (torch.nn.functional.normalize(extractor(wav).float().cpu(), dim=1) for wav in wavs)
        distances.append(float((1 - query @ pool.T).amin(1).mean()))
        yield gr.skip(), f"layer {layer} of {depth} …"
    best = min(range(depth), key=distances.__getitem__) + 1
    yield (
        layers_figure(distances, matched.spec.layer),
        f"The two speakers are closest at layer {best}; this model matches layer {matched.spec.layer}.",
    )


def frames_figure(
    queries: Tensor,
    pool: Tensor,
    first: int,
    nearest: Tensor,
    *,
    colour: str,
    units: Tensor | None,
    names: tuple[str, str],
    projection: str = PCA,
) -> go.Figure:
    """Plot frames (frames, dim) of two speakers, and lines from those of a phrase to their nearest neighbours.

    Args:
        queries: frames of the source.
        pool: frames of the voice.
        first: first frame of the phrase.
        nearest: index into the pool for each frame of the phrase.
        colour: speaker, unit or time.
        units: of the source's frames, to colour by.
        names: of the source and the voice.
        projection: PCA or UMAP.
    """
    points, others = project(torch.cat([queries, pool]), projection).split([len(queries), len(pool)])
    some = torch.arange(0, len(others), -(-len(others) // MAX_POINTS))
    shown = torch.arange(0, len(points), -(-len(points) // MAX_POINTS))
    marker: dict[str, Any] = {"size": 3, "color": BLUE}
    if colour == UNIT and units is not None:
        marker = {"size": 3, "color": units[shown].tolist(), "colorscale": "Turbo"}
    elif colour == TIME:
        marker = {"size": 3, "color": (shown / 50).tolist(), "colorscale": "Viridis", "colorbar": {"title": "s"}}
    lines = [
        value
        for offset, index in enumerate(nearest.tolist())
        for value in (points[first + offset].tolist(), others[index].tolist(), [None] * 3)
    ]
    x, y, z = zip(*lines, strict=True) if lines else ((), (), ())
    figure = go.Figure(
        [
            _cloud(points[shown], names[0], marker, [f"{int(frame) / 50:.2f} s" for frame in shown]),
            _cloud(others[some], names[1], {"size": 2, "color": ORANGE, "opacity": 0.5}, None),
            go.Scatter3d(x=x, y=y, z=z, mode="lines", line={"width": 3, "color": GREEN}, name="nearest"),
        ]
    )
    figure.update_layout(height=560, margin={"l": 0, "r": 0, "t": 0, "b": 0}, legend={"orientation": "h"})
    return figure


def project(frames: Tensor, projection: str = PCA) -> Tensor:
    """Returns frames (frames, dim) in three dimensions, by their principal components or by UMAP."""
    if projection == UMAP:
        umap = import_module("umap").UMAP(n_components=3, random_state=0)
        return torch.as_tensor(umap.fit_transform(frames.numpy()))
    centred = frames - frames.mean(0)
    _, _, axes = torch.pca_lowrank(centred, q=3, niter=4)
    return centred @ axes


def _cloud(points: Tensor, name: str, marker: dict[str, Any], text: list[str] | None) -> go.Scatter3d:
    x, y, z = points.T.tolist()
    # plotly takes tags in names
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=marker, name=escape(name), text=text)


def layers_figure(distances: list[float], matched: int) -> go.Figure:
    """Plot the distance between two speakers' nearest frames by layer, and highlight the layer that is matched."""
    layers = list(range(1, len(distances) + 1))
    colours = [ORANGE if layer == matched else BLUE for layer in layers]
    figure = go.Figure(go.Bar(x=layers, y=distances, marker={"color": colours}))
    figure.update_layout(
        height=320,
        margin={"t": 10},
        xaxis={"title": "layer", "dtick": 1},
        yaxis={"title": "cosine distance to the nearest frame"},
    )
    return figure
