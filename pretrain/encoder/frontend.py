"""The two front ends: waveform -> one feature vector every 20 ms, see `pretrain.encoder.framing`.

(The convolutions of the log-mel front end widen a frame's context by 20 ms on both sides.)
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD, num_frames

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
CHUNK = 100  # frames convolved at a time on a CPU: the activations then stay in its cache


class Moments(NamedTuple):
    """Mean (batch, 10) and covariance (batch, 10, 10) of each utterance's patches of the first convolution, in float64.

    Where the spectrum has no energy, a filter's variance is a small difference of large numbers: float32 loses it.
    """

    mean: Tensor
    covariance: Tensor


class Statistics(NamedTuple):
    """Statistics of whole utterances that an encoder needs to process windows of them; one row per utterance."""

    shift: Tensor  # (batch, 1)
    scale: Tensor  # (batch, 1)
    moments: Moments | None

    @classmethod
    def stack(cls, rows: "Sequence[Statistics]", device: torch.device) -> "Statistics":
        """Concatenate statistics to match a batch of windows."""
        shifts, scales, moments = zip(*rows, strict=True)
        known = [moment for moment in moments if moment is not None]
        joined = Moments(*(torch.cat(part).to(device) for part in zip(*known, strict=True))) if known else None
        return cls(torch.cat(shifts).to(device), torch.cat(scales).to(device), joined)


def strided_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve as one matrix product over overlapping views: no transposes, and 2-4x faster than `conv1d` on a CPU.

    Args:
        x: (batch, time, in), contiguous.
        weight: (out, in, kernel).
        bias: (out,) or None.
        stride: steps from one output to the next.

    Returns:
        (batch, (time - kernel) // stride + 1, out)
    """
    flat = weight.permute(0, 2, 1).flatten(1)
    if not x.requires_grad:
        return F.linear(_patches(x, flat.shape[1], stride), flat, bias)
    if torch.is_autocast_enabled(x.device.type):  # autocast does not apply inside an autograd.Function
        dtype = torch.get_autocast_dtype(x.device.type)
        x, flat = x.to(dtype), flat.to(dtype)
    y: Tensor = _StridedConv.apply(x, flat, stride)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias.to(y.dtype)


def _patches(x: Tensor, width: int, stride: int) -> Tensor:
    """View (batch, time, in) as the input of each output (batch, count, width), without copying."""
    batch, time, channels = x.shape
    count = (time - width // channels) // stride + 1
    return x.as_strided((batch, count, width), (time * channels, stride * channels, 1))


class _StridedConv(torch.autograd.Function):
    """`F.linear` of the patches; torch's own gradient of overlapping views takes 2.5 times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.linear(_patches(x, weight.shape[1], stride), weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        width, step = weight.shape[1], ctx.stride * x.shape[2]
        by_patch = grad @ weight
        inputs = torch.zeros_like(x)
        # a patch is cut into strides: the first ones of all patches do not overlap, nor do the second ones, ...
        for start in range(0, width, step):
            part = by_patch[:, :, start : start + step]
            views = inputs.as_strided(part.shape, (x[0].numel(), step, 1), start)
            views += part
        return inputs, grad.flatten(0, 1).T @ _patches(x, width, ctx.stride).flatten(0, 1), None


def valid_frames(counts: Tensor, total: int) -> Tensor:
    """Turn frame counts (batch,) into a mask (batch, total), True where a frame is real."""
    return torch.arange(total, device=counts.device) < counts[:, None]


class ConvLayer(nn.Module):
    """One convolution of the front end, with its norm: over the channels, over time (`group`), or none."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, norm: str | None, bias: bool) -> None:
        super().__init__()
        self.stride = stride
        self.norm_kind = norm
        self.weight = nn.Parameter(torch.empty(out, channels, kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.norm = nn.LayerNorm(out) if norm else None  # holds the gain and bias of either kind
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor, moments: Moments | None) -> Tensor:
        """Map (batch, time, in) to (batch, time', out)."""
        if self.norm is None:
            return F.gelu(strided_conv(x, self.weight, self.bias, self.stride))
        if self.norm_kind == "layer":
            return F.gelu(self.norm(strided_conv(x, self.weight, self.bias, self.stride)))
        assert moments is not None
        return F.gelu(self._normalized_over_time(x, moments))

    def _normalized_over_time(self, x: Tensor, moments: Moments) -> Tensor:
        # GroupNorm with one channel a group: y = (w.x - E[w.x]) / sqrt(Var[w.x] + eps) * gain + bias. Mean and variance
        # of w.x follow from those of the patches x, so the norm folds into each utterance's own weights, and they
        # can come from a whole file while x is only a window of it, or from the unpadded part of a batch's row.
        assert self.norm is not None
        batch, time, _ = x.shape
        kernel = self.weight.shape[2]
        count = (time - kernel) // self.stride + 1
        patches = x.as_strided((batch, count, kernel), (time, self.stride, 1))
        weight = self.weight[:, 0].to(moments.mean.dtype)
        mean = moments.mean @ weight.T  # (batch, out)
        variance = torch.einsum("ok,bkl,ol->bo", weight, moments.covariance, weight).clamp(min=0)
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        folded = (weight * scale[:, :, None]).to(x.dtype)
        shift = (self.norm.bias - mean * scale).to(x.dtype)
        return torch.baddbmm(shift[:, None], patches, folded.transpose(1, 2))


class ConvFrontend(nn.Module):
    """Seven convolutions on the waveform (wav2vec 2.0, HuBERT, WavLM)."""

    def __init__(self, dim: int, norm: str, bias: bool) -> None:
        super().__init__()
        norms = ["group"] + [None] * 6 if norm == "group" else [norm] * 7
        self.layers = nn.ModuleList(
            ConvLayer(1 if i == 0 else dim, dim, KERNELS[i], STRIDES[i], norms[i], bias) for i in range(7)
        )
        self.needs_moments = norm == "group"

    def moments(self, wav: Tensor, lengths: Tensor) -> Moments | None:
        """Return GroupNorm's statistics of each whole utterance (batch, samples); None without GroupNorm."""
        if not self.needs_moments:
            return None
        dtype = torch.float32 if wav.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        means, covariances = [], []
        for row, length in zip(wav, lengths.tolist(), strict=True):
            patches = row[: int(length)].unfold(0, KERNELS[0], STRIDES[0])
            mean = patches.mean(0, dtype=dtype)
            # in slices, since an hour of patches in float64 would take a gigabyte
            covariance = sum(part.T @ part for part in (p.to(dtype) - mean for p in patches.split(1 << 17)))
            means.append(mean)
            covariances.append(covariance / len(patches))
        return Moments(torch.stack(means), torch.stack(covariances))

    def forward(self, wav: Tensor, lengths: Tensor, moments: Moments | None) -> Tensor:
        """Map (batch, samples) to (batch, frames, dim); frames beyond a row's length are unspecified.

        Nothing crosses from one frame to another here, so the rows' `lengths` do not matter.
        """
        total = num_frames(wav.shape[1])
        if torch.is_grad_enabled() or wav.device.type != "cpu":
            return self._convolve(wav, moments)
        starts = range(0, total, CHUNK)
        spans = [(HOP * start, HOP * (min(start + CHUNK, total) - 1) + RECEPTIVE_FIELD) for start in starts]
        return torch.cat([self._convolve(wav[:, start:stop], moments) for start, stop in spans], dim=1)

    def _convolve(self, wav: Tensor, moments: Moments | None) -> Tensor:
        x = wav[:, :, None].contiguous().to(next(self.parameters()).dtype)
        for layer in self.layers:
            x = layer(x, moments)
        return x


class LogMelFrontend(nn.Module):
    """Log-mel spectrum every 10 ms, then two convolutions that halve the rate: cheap, for small encoders."""

    WINDOW, STEP = 400, 160

    def __init__(self, dim: int, mel_bins: int) -> None:
        super().__init__()
        self.mel_bins = mel_bins
        self.smooth = nn.Conv1d(mel_bins, dim, 3, padding=1)
        self.halve = nn.Conv1d(dim, dim, 3, stride=2, padding=1)

    def moments(self, wav: Tensor, lengths: Tensor) -> Moments | None:
        """Return None: there is no GroupNorm."""
        return None

    def forward(self, wav: Tensor, lengths: Tensor, moments: Moments | None) -> Tensor:
        """Map (batch, samples) to (batch, frames, dim); rows are zero beyond their lengths."""
        return self.convolve(self.log_mel(wav), lengths)

    def convolve(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Map the spectra (batch, steps, mel_bins) of waveforms of these lengths to (batch, frames, dim)."""
        padding = ~valid_frames((lengths - self.WINDOW) // self.STEP + 1, mel.shape[1])[:, None]
        # the convolutions look one step beyond a row's end, which must equal their zero padding
        x = mel.transpose(1, 2).to(self.smooth.weight.dtype).masked_fill(padding, 0.0)
        x = F.gelu(self.smooth(x)).masked_fill(padding, 0.0)
        return F.gelu(self.halve(x)).transpose(1, 2)

    def log_mel(self, wav: Tensor) -> Tensor:
        """Map (batch, samples) to (batch, steps of 10 ms, mel_bins); see `log_mel_spectrogram`."""
        return log_mel_spectrogram(wav, self.mel_bins)


def log_mel_spectrogram(wav: Tensor, bands: int) -> Tensor:
    """Map (batch, samples) to (batch, steps of 10 ms, bands), of mean 0 and variance 1 on much speech."""
    # window and filters stay float32; as buffers they would be rounded in a bfloat16 encoder
    size = LogMelFrontend.WINDOW
    window = torch.hann_window(size, device=wav.device)
    spectrum = torch.stft(wav.float(), size, LogMelFrontend.STEP, window=window, center=False, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    mel = mel_filters(bands, size, wav.device) @ power
    return (mel.clamp(min=1e-6).log().transpose(1, 2) + 6.0) / 4.0


def mel_filters(bands: int, window: int, device: torch.device) -> Tensor:
    """Return triangular filters (bands, window // 2 + 1) equally spaced on the HTK mel scale, from 0 to 8 kHz."""
    mel = torch.linspace(0.0, 2595.0 * math.log10(1.0 + 8000.0 / 700.0), bands + 2, device=device)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    bins = torch.linspace(0.0, 8000.0, window // 2 + 1, device=device)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)
