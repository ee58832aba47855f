"""What units are made of, heard in a sound, and the frames that a vocoder gets of units.

A frame has one of two forms: `shares`, for any harmonic vocoder, and `numbers`, for `vocoder.unit_hifigan`:

    | log F0 | voicing | 1 in the place of the unit, else 0 | timbre |          | unit | F0, 0 if unvoiced | timbre |

Soft units (van Niekerk et al., 2022, "A comparison of discrete and soft speech units for improved voice conversion",
arXiv 2111.02392, have them learned) are the shares of the nearest centres in place of the 1.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad

from ssl_vc.audio import SAMPLE_RATE
from ssl_vc.features.disentangled import MEL, Speech, content_of, through_unvoiced
from ssl_vc.features.extractor import Extractor
from ssl_vc.units.book import Book
from ssl_vc.units.file import HOP
from vocoder.pitch import track_pitch

KIND = "units"
Form = Literal["shares", "numbers"]
SOFT = 0.05  # how fast a centre's share falls with its squared distance


class Heard(NamedTuple):
    """What units are made of.

    Attributes:
        content: what is said (frames, dim), each of length 1.
        pitch: F0 in Hz, 0 where unvoiced (frames,).
        timbre: the mean envelope (bands,).
    """

    content: Tensor
    pitch: Tensor
    timbre: Tensor


@torch.no_grad()
def hear(speech: Speech, wav: Tensor) -> Heard:
    """Hear in a wav (samples,) at 16 kHz what units are made of."""
    whole = pad(wav, (0, -len(wav) % HOP))
    frames = speech.extractor.stream(wav, every_hop=True)
    content = normalize(torch.cat(list(content_of(speech.extractor, frames))), dim=1)
    return Heard(content, track_pitch(whole.cpu(), SAMPLE_RATE, HOP), speech.spectra(whole)[2])


class UnitSpeech:
    """Hears what units are made of, and makes frames of units.

    Args:
        extractor: whose content was clustered.
        book: the centres.
        form: of the frames.
    """

    def __init__(self, extractor: Extractor, book: Book, form: Form = "shares") -> None:
        told = {"encoder": extractor.spec.encoder, "layer": extractor.spec.layer}
        if told != {name: book.facts.get(name) for name in told}:
            raise ValueError(f"these units are of the encoder {book.facts.get('encoder')}, not of this one.")
        self.speech, self.extractor, self.book, self.form = Speech(extractor), extractor, book, form

    @property
    def made_by(self) -> dict[str, Any]:
        """What vocoders call these frames."""
        bands = self.speech.mel.dim
        dim = 2 + (self.book.clusters if self.form == "shares" else 0) + bands
        own = {"kind": KIND, "codec": self.book.fingerprint, "form": self.form, "bands": bands, "dim": dim}
        return self.extractor.spec.facts | own

    def hear(self, wav: Tensor) -> Heard:
        """Hear a wav (samples,) at 16 kHz."""
        return hear(self.speech, wav)

    def frames(self, units: Tensor, pitch: Tensor, timbre: Tensor) -> Tensor:
        """Make frames (frames, dim) of ids (frames,), or of shares (frames, clusters), of F0 (frames,) and a timbre."""
        if self.form == "numbers":
            told = torch.stack([(units if units.ndim == 1 else units.argmax(1)).float(), pitch], 1)
            return torch.cat([told, timbre.expand(len(told), -1)], 1)
        shares = units if units.ndim == 2 else one_hot(units, self.book.clusters).float()
        told = torch.stack([through_unvoiced(pitch), (pitch > 0).float()], 1)
        return torch.cat([told, shares, timbre.expand(len(shares), -1)], 1)

    def shares(self, content: Tensor) -> Tensor:
        """Give soft units (frames, clusters): shares of the nearest centres."""
        return torch.softmax(-torch.cdist(content, self.book.content.centres).square() / SOFT, 1)

    def __call__(self, wav: Tensor) -> Iterator[Tensor]:
        """Give what a vocoder reads of a wav itself, in one piece."""
        heard = self.hear(wav)
        yield self.frames(self.book.content(heard.content), heard.pitch, heard.timbre)


def told_by(frames: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Give the units and F0 (frames,) of frames (frames, dim) of either form."""
    if frames.shape[1] == 2 + MEL.bands:
        return frames[:, 0].long(), frames[:, 1]
    return frames[:, 2 : 2 + clusters].argmax(1), frames[:, 0].exp() * frames[:, 1]
