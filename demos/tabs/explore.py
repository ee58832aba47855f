"""The tab that shows frames: two speakers' speech as points, and which frame takes the place of which."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gradio as gr
import plotly.graph_objects as go
import torch
from torch import Tensor

import ssl_vc
from demos.panel import Panel
from demos.studio import WORK, Held, Studio, told
from demos.uploads import SAMPLES, check_sounds, given

MOST = 1500  # points of each speaker
PHRASE = 10.0  # seconds at most
SPEAKERS, UNITS, TIME = "speaker", "unit", "time"
BLUE, ORANGE = "#0072b2", "#d55e00"
PCA, UMAP = "main components", "UMAP"
WAYS = [PCA, *([UMAP] if find_spec("umap") else [])]  # UMAP where umap-learn is installed
LAYERS_HEARD = 20  # seconds


def explore(studio: Studio, panel: Panel) -> None:
    """Make the tab."""
    gr.Markdown(
        "## Frames\nEvery point is 20 ms of speech, drawn in three dimensions. Lines lead from the frames of "
        "a phrase to the nearest frames of the voice from above, which take their place in a conversion."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            source = gr.Audio(
                label="Recording",
                sources=["upload", "microphone"],
                type="filepath",
                buttons=[],
                elem_id="frames-source",
            )
            gr.Examples([[str(SAMPLES / "source.flac")]], [source], label="Example", api_visibility="private")
        with gr.Column(min_width=300):
            start = gr.Slider(0, 60, 0, step=0.1, label="The phrase begins at (s)")
            length = gr.Slider(0.2, PHRASE, 1, step=0.1, label="and lasts (s)")
            way = gr.Radio(WAYS, value=PCA, label="Placed by", visible=len(WAYS) > 1)
            colour = gr.Radio([SPEAKERS, UNITS, TIME], value=SPEAKERS, label="Colour by")
    with gr.Row():
        draw = gr.Button("Draw", variant="primary", elem_id="draw")
        layers = gr.Button("Compare layers", elem_id="layers")
    status = gr.Markdown(elem_id="frames-status")
    plot = gr.Plot(label="Frames", elem_id="frames-plot")
    curve = gr.Plot(label="Layers", elem_id="layers-plot")

    @told
    def run(
        source: str | None, start: float, length: float, way: str, colour: str, held: Held, *parts: Any
    ) -> Iterator[tuple[Any, str]]:
        (path,) = given(source, "a recording")
        check_sounds([path], 1)
        voice = studio.voice(held, *parts)
        if voice is None:
            raise ValueError("Give a voice above first.")
        wav = ssl_vc.read(path)
        own = torch.cat(list(studio.converter.encode(wav).matched())).cpu().float()
        first = min(int(50 * start), max(len(own) - 10, 0))
        last = min(first + int(50 * length), len(own))
        theirs = voice.frames.float()
        units = studio.codec.encode(wav, layout="frames").ids if colour == UNITS else None
        found = studio.converter.pool(voice).nearest(own[first:last].to(studio.converter.extractor.device), 1)
        yield (
            frames_figure(own, theirs, first, found.index[:, 0].cpu(), colour, units, (path.stem, voice.name), way),
            f"{last - first} frames of {first / 50:.1f} to {last / 50:.1f} s; the nearest of {len(theirs)} frames are "
            f"{float(found.distance.mean()):.2f} away (1 - cosine, from 0 to 2).",
        )

    @told
    def compare(source: str | None, files: list[str] | None) -> Iterator[tuple[Any, str]]:
        (path,), target = given(source, "a recording"), given(files, "recordings of a voice above")[0]
        check_sounds([path, target], 5)
        wavs = [ssl_vc.read(each)[: LAYERS_HEARD * 16_000] for each in (path, target)]
        known = studio.converter.extractor
        depth, distances = known.encoder.config.depth, []
        for layer in range(1, depth + 1):
            extractor = ssl_vc.Extractor(known.encoder, layer, device=studio.device)
            one, other = (torch.nn.functional.normalize(extractor(wav).float().cpu(), dim=1) for wav in wavs)
            distances.append(float((1 - one @ other.T).amin(1).mean()))
            yield gr.skip(), f"layer {layer} of {depth} …"
        best = min(range(depth), key=distances.__getitem__) + 1
        yield (
            layers_figure(distances, known.spec.layer),
            f"The two speakers' frames are nearest at layer {best}; this model matches layer {known.spec.layer}.",
        )

    one: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": WORK, "api_visibility": "private"}
    draw.click(run, [source, start, length, way, colour, *panel], [plot, status], **one)
    layers.click(compare, [source, panel.files], [curve, status], **one)


def frames_figure(
    own: Tensor,
    theirs: Tensor,
    first: int,
    nearest: Tensor,
    colour: str,
    units: Tensor | None,
    names: tuple[str, str],
    way: str = PCA,
) -> go.Figure:
    """Draw frames (frames, dim) of two speakers in three dimensions, and lines from those of a phrase to the nearest.

    Args:
        own: of the source.
        theirs: of the voice.
        first: frame of the phrase.
        nearest: of the voice's frames, for each of the phrase's.
        colour: speaker, unit or time.
        units: of the source's frames, to colour by.
        names: of the source and the voice.
        way: how they are placed.
    """
    points, others = placed(torch.cat([own, theirs]), way).split([len(own), len(theirs)])
    some = torch.arange(0, len(others), -(-len(others) // MOST))
    shown = torch.arange(0, len(points), -(-len(points) // MOST))
    paint: dict[str, Any] = {"size": 3, "color": BLUE}
    if colour == UNITS and units is not None:
        paint = {"size": 3, "color": units[shown].tolist(), "colorscale": "Turbo"}
    elif colour == TIME:
        paint = {"size": 3, "color": (shown / 50).tolist(), "colorscale": "Viridis", "colorbar": {"title": "s"}}
    lines = [
        value
        for at, to in enumerate(nearest.tolist())
        for value in (points[first + at].tolist(), others[to].tolist(), [None] * 3)
    ]
    x, y, z = zip(*lines, strict=True) if lines else ((), (), ())
    figure = go.Figure(
        [
            _cloud(points[shown], names[0], paint, [f"{int(at) / 50:.2f} s" for at in shown]),
            _cloud(others[some], names[1], {"size": 2, "color": ORANGE, "opacity": 0.5}, None),
            go.Scatter3d(x=x, y=y, z=z, mode="lines", line={"width": 3, "color": "#009e73"}, name="nearest"),
        ]
    )
    figure.update_layout(height=560, margin={"l": 0, "r": 0, "t": 0, "b": 0}, legend={"orientation": "h"})
    return figure


def placed(frames: Tensor, way: str = PCA) -> Tensor:
    """Place frames (frames, dim) in three dimensions, by their main components or by their neighbours (UMAP)."""
    if way == UMAP:
        placer = import_module("umap").UMAP(n_components=3, random_state=0)
        return torch.as_tensor(placer.fit_transform(frames.numpy()))
    centred = frames - frames.mean(0)
    _, _, axes = torch.pca_lowrank(centred, q=3, niter=4)
    return centred @ axes


def _cloud(points: Tensor, name: str, paint: dict[str, Any], told: list[str] | None) -> go.Scatter3d:
    x, y, z = points.T.tolist()
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=paint, name=name, text=told)


def layers_figure(distances: list[float], matched: int) -> go.Figure:
    """Draw how far the nearest frames of two speakers are in each layer; the one that is matched is marked."""
    layers = list(range(1, len(distances) + 1))
    colours = [ORANGE if layer == matched else BLUE for layer in layers]
    figure = go.Figure(go.Bar(x=layers, y=distances, marker={"color": colours}))
    figure.update_layout(
        height=320, margin={"t": 10}, xaxis={"title": "layer", "dtick": 1}, yaxis={"title": "distance to the nearest"}
    )
    return figure
