"""Grapheme-to-phoneme conversion (G2P): the pronunciation of an English word from its spelling.

A small transformer gives each letter two output slots, and CTC (`pretrain.objectives.ctc`) aligns them with the phones.
It is trained on a pronouncing dictionary (`pretrain.labels.tokenizers.PhonemeTokenizer`), which it then replaces: words
it pronounces differently are stored with it as exceptions.
"""

import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, log_softmax
from torch.nn.utils.rnn import pad_sequence

from pretrain.encoder.weights import build, require_finite
from pretrain.labels.tokenizers import PHONES
from ssl_vc.files import replacing, require_file
from ssl_vc.tts.int8 import dequantize, quantize

FORMAT = "ssl-vc letters 3"
LETTERS = "'abcdefghijklmnopqrstuvwxyz"
SLOTS = 2  # output slots per letter
PEAK_LEARNING_RATE = 1e-3
INFERENCE_BATCH = 1000  # words
MAX_LETTERS = 40  # of a word; longer ones are split
# what a bad file raises; RecursionError is a RuntimeError
BROKEN = OSError, zlib.error, SafetensorError, KeyError, TypeError, ValueError, RuntimeError
LETTER_IDS = {letter: number for number, letter in enumerate(LETTERS, 1)}
Pronunciations = Mapping[str, Sequence[str]]  # words and their phones


class G2PModel(nn.Module):
    """Words to phones.

    Args:
        dim: width.
        depth: number of layers.
    """

    def __init__(self, dim: int = 192, depth: int = 4) -> None:
        super().__init__()
        self.shape = {"dim": dim, "depth": depth}
        self.embed = nn.Embedding(len(LETTERS) + 1, dim, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(MAX_LETTERS, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 3 * dim, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.out = nn.Linear(dim, SLOTS * (len(PHONES) + 1))
        self.exceptions: dict[str, list[str]] = {}

    def forward(self, words: Tensor) -> Tensor:
        """Map letter ids (batch, letters), zero-padded, to log-probabilities (batch, 2 letters, phones + 1)."""
        x = self.layers(self.embed(words) + self.position[: words.shape[1]], src_key_padding_mask=words == 0)
        return log_softmax(self.out(x).view(len(words), -1, len(PHONES) + 1), dim=-1)

    def loss(self, words: Tensor, phones: Sequence[Tensor]) -> Tensor:
        """Returns the CTC loss of words (batch, letters) against the phone ids of each, from 1 on."""
        scores, slots = self(words).transpose(0, 1), SLOTS * (words > 0).sum(1)
        lengths = torch.tensor([len(each) for each in phones])
        return ctc_loss(scores, torch.cat(list(phones)), slots, lengths, zero_infinity=True)

    def phonemize(self, words: Sequence[str]) -> list[list[str]]:
        """Returns the phones of each word (letters and apostrophes): its exception, or the network's prediction."""
        predicted = iter(self.predict([word for word in words if word not in self.exceptions]))
        return [self.exceptions[word] if word in self.exceptions else next(predicted) for word in words]

    def store_exceptions(self, dictionary: Pronunciations) -> None:
        """Store the dictionary's pronunciations that the network does not predict."""
        predicted = self.predict(list(dictionary))
        self.exceptions = {
            word: list(phones)
            for (word, phones), ours in zip(dictionary.items(), predicted, strict=True)
            if ours != [*phones]
        }

    def predict(self, words: Sequence[str]) -> list[list[str]]:
        """Returns the phones of each word by the network alone."""
        batches = range(0, len(words), INFERENCE_BATCH)
        return [phones for at in batches for phones in self._predict(words[at : at + INFERENCE_BATCH])]

    @torch.no_grad()
    def _predict(self, words: Sequence[str]) -> list[list[str]]:
        parts = [[word[at : at + MAX_LETTERS] for at in range(0, len(word), MAX_LETTERS)] for word in words]
        rows = [_letter_ids(part) for several in parts for part in several]
        best = self(pad_sequence(rows, batch_first=True)).argmax(-1) if rows else []
        decoded = iter([_ctc_decode(slots[: SLOTS * len(row)]) for slots, row in zip(best, rows, strict=True)])
        return [[phone for _ in several for phone in next(decoded)] for several in parts]

    def save(self, path: str | Path) -> None:
        """Write weights (int8) and exceptions to a .safetensors file."""
        lines = "\n".join(f"{word} {' '.join(phones)}" for word, phones in self.exceptions.items())
        exceptions = torch.frombuffer(bytearray(zlib.compress(lines.encode(), 9)), dtype=torch.uint8)
        metadata = {"format": FORMAT, "shape": json.dumps(self.shape)}
        with replacing(Path(path)) as part:
            part.write_bytes(save(quantize(self.state_dict()) | {"exceptions": exceptions}, metadata))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote."""
        try:
            with safe_open(require_file(path), "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                lines = zlib.decompress(tensors.pop("exceptions").numpy().tobytes()).decode().splitlines()
                weights = dequantize(tensors)
                if "place" in weights:  # its name in earlier versions
                    weights["position"] = weights.pop("place")
                require_finite(weights)
                model = build(lambda: cls(**json.loads(metadata["shape"])), weights)
                model.exceptions = {word: phones for word, *phones in map(str.split, lines)}
        except BROKEN as error:
            raise ValueError(f"{path} is not a G2P model of ssl-vc ({str(error).splitlines()[0]}).") from None
        return model.eval().requires_grad_(False)


def _letter_ids(word: str) -> Tensor:
    return torch.tensor([LETTER_IDS[letter] for letter in word])


def _ctc_decode(slots: Tensor) -> list[str]:
    """Merge repeats and drop blanks."""
    ids = torch.unique_consecutive(slots).tolist()
    return [PHONES[number - 1] for number in ids if number]


class G2PErrors(NamedTuple):
    """Error rates on held-out words.

    Attributes:
        words: share of words with an error.
        phones: phone error rate.
    """

    words: float
    phones: float


def train(
    dictionary: Pronunciations,
    *,
    steps: int = 4000,
    batch: int = 256,
    held_out: float = 0.02,
    seed: int = 0,
    **shape: int,
) -> Iterator[tuple[G2PModel, float]]:
    """Train on a pronouncing dictionary; yields the model, the same object each time, and the loss of each step."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    rows = [
        (
            torch.tensor([LETTER_IDS[letter] for letter in word]),
            torch.tensor([PHONES.index(phone) + 1 for phone in phones]),
        )
        for word, phones in split_dictionary(dictionary, held_out, seed)[0].items()
        if len(phones) <= SLOTS * len(word)
    ]
    model = G2PModel(**shape)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        words, phones = zip(*rng.choices(rows, k=batch), strict=True)
        loss = model.train().loss(pad_sequence(list(words), batch_first=True), phones)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield model, float(loss.detach())


def split_dictionary(
    dictionary: Pronunciations, held_out: float, seed: int = 0
) -> tuple[dict[str, Sequence[str]], dict[str, Sequence[str]]]:
    """Split the words spelled in our letters, at random, into a training set and a held-out one."""
    words = sorted(
        word for word in dictionary if word.strip("'") and set(word) <= set(LETTERS) and len(word) <= MAX_LETTERS
    )
    random.Random(seed).shuffle(words)
    count = round(held_out * len(words))
    return {word: dictionary[word] for word in words[count:]}, {word: dictionary[word] for word in words[:count]}


def evaluate(model: G2PModel, dictionary: Pronunciations) -> G2PErrors:
    """Returns the error rates of the network's predictions."""
    predicted = model.eval().predict(list(dictionary))
    pairs = zip(predicted, dictionary.values(), strict=True)
    errors = [_edit_distance(tuple(ours), tuple(reference)) for ours, reference in pairs]
    total = sum(map(len, dictionary.values()))
    return G2PErrors(sum(error > 0 for error in errors) / max(len(errors), 1), sum(errors) / max(total, 1))


@lru_cache(maxsize=4096)
def _edit_distance(hypothesis: tuple[str, ...], reference: tuple[str, ...]) -> int:
    """Returns the number of substitutions, deletions and insertions."""
    row = list(range(len(reference) + 1))
    for number, phone in enumerate(hypothesis, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(reference, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (phone != other))
    return row[-1]
