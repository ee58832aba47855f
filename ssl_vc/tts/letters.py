"""Letters to phones: how an English word is said, guessed from how it is written.

A small transformer gives each letter two places for phones, and CTC (`pretrain.objectives.ctc`) leaves open which of
them are used. What it learns from is a pronouncing dictionary (`pretrain.labels.pronounce.Phonemes`), which it then
replaces: the words of it that it reads otherwise are kept beside it.
"""

import json
import logging
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import ctc_loss, log_softmax
from torch.nn.utils.rnn import pad_sequence

from pretrain.labels.pronounce import PHONES
from ssl_vc.files import replacing
from ssl_vc.tts.packed import pack, unpack

log = logging.getLogger(__name__)

FORMAT = "ssl-vc letters 3"
LETTERS = "'abcdefghijklmnopqrstuvwxyz"
PLACES = 2  # for phones, of each letter
HIGHEST = 1e-3  # learning rate
GUESSED = 1000  # words at a time
LONGEST = 40  # letters of a word; what is longer is said in parts
BROKEN = OSError, zlib.error, SafetensorError, KeyError, TypeError, ValueError, RuntimeError  # what a bad file raises
NUMBER = {letter: number for number, letter in enumerate(LETTERS, 1)}


class Letters(nn.Module):
    """Says words.

    Args:
        dim: width.
        depth: layers.
    """

    def __init__(self, dim: int = 192, depth: int = 4) -> None:
        super().__init__()
        self.shape = {"dim": dim, "depth": depth}
        self.embed = nn.Embedding(len(LETTERS) + 1, dim, padding_idx=0)
        self.place = nn.Parameter(0.02 * torch.randn(LONGEST, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 3 * dim, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.out = nn.Linear(dim, PLACES * (len(PHONES) + 1))
        self.exceptions: dict[str, list[str]] = {}  # words that are not read by rule

    def forward(self, words: Tensor) -> Tensor:
        """Map letters (batch, letters), 0 behind a word's end, to log-probabilities (batch, 2 letters, phones + 1)."""
        x = self.layers(self.embed(words) + self.place[: words.shape[1]], src_key_padding_mask=words == 0)
        return log_softmax(self.out(x).view(len(words), -1, len(PHONES) + 1), dim=-1)

    def loss(self, words: Tensor, said: Sequence[Tensor]) -> Tensor:
        """Compare what it says of words (batch, letters) with their phones, from 1 on."""
        scores, counts = self(words).transpose(0, 1), PLACES * (words > 0).sum(1)
        lengths = torch.tensor([len(each) for each in said])
        return ctc_loss(scores, torch.cat(list(said)), counts, lengths, zero_infinity=True)

    def read(self, words: Sequence[str]) -> list[list[str]]:
        """Give the phones of words of letters and apostrophes."""
        guessed = iter(self.guess([word for word in words if word not in self.exceptions]))
        return [self.exceptions[word] if word in self.exceptions else next(guessed) for word in words]

    def remember(self, dictionary: Mapping[str, Sequence[str]]) -> None:
        """Keep the words that are guessed otherwise than a dictionary has them."""
        words, said = list(dictionary), self.guess(list(dictionary))
        self.exceptions = {
            word: list(dictionary[word]) for word, ours in zip(words, said, strict=True) if ours != [*dictionary[word]]
        }

    def guess(self, words: Sequence[str]) -> list[list[str]]:
        """Give the phones of words by how they are written alone."""
        return [said for at in range(0, len(words), GUESSED) for said in self._guess(words[at : at + GUESSED])]

    @torch.no_grad()
    def _guess(self, words: Sequence[str]) -> list[list[str]]:
        parts = [[word[at : at + LONGEST] for at in range(0, len(word), LONGEST)] for word in words]
        rows = [torch.tensor([NUMBER[letter] for letter in part]) for several in parts for part in several]
        best = self(pad_sequence(rows, batch_first=True)).argmax(-1) if rows else []
        said = iter([_joined(row[: PLACES * len(letters)]) for row, letters in zip(best, rows, strict=True)])
        return [[phone for _ in several for phone in next(said)] for several in parts]

    def save(self, path: str | Path) -> None:
        """Write the weights, packed, to a .safetensors file."""
        with replacing(Path(path)) as part:
            lines = "\n".join(f"{word} {' '.join(said)}" for word, said in self.exceptions.items())
            kept = torch.frombuffer(bytearray(zlib.compress(lines.encode(), 9)), dtype=torch.uint8)
            facts = {"format": FORMAT, "shape": json.dumps(self.shape)}
            save_file(pack(self.state_dict()) | {"exceptions": kept}, part, facts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}")
                letters = cls(**json.loads(metadata["shape"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                lines = zlib.decompress(tensors.pop("exceptions").numpy().tobytes()).decode().splitlines()
                letters.exceptions = {word: said for word, *said in map(str.split, lines)}
                letters.load_state_dict(unpack(tensors))
        except BROKEN as error:
            raise ValueError(f"{path} does not say how letters are read ({str(error).splitlines()[0]}).") from None
        return letters.eval().requires_grad_(False)


def _joined(row: Tensor) -> list[str]:
    """Join repeats and drop blanks."""
    numbers = torch.unique_consecutive(row).tolist()
    return [PHONES[number - 1] for number in numbers if number]


class Report(NamedTuple):
    """How well words are said that were not learned.

    Attributes:
        words: share of the words with an error.
        phones: errors for each phone of the truth.
    """

    words: float
    phones: float


def learn(
    dictionary: Mapping[str, Sequence[str]],
    *,
    steps: int = 4000,
    batch: int = 256,
    held_out: float = 0.02,
    seed: int = 0,
    **shape: int,
) -> Iterator[tuple[Letters, float]]:
    """Learn from a dictionary of words and phones; gives the network, as it is by then, and the loss of each step."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    learned, _ = parted(dictionary, held_out, seed)
    rows = [
        (torch.tensor([NUMBER[letter] for letter in word]), torch.tensor([PHONES.index(phone) + 1 for phone in said]))
        for word, said in learned.items()
        if len(said) <= PLACES * len(word)
    ]
    letters = Letters(**shape)
    optimizer = torch.optim.AdamW(letters.parameters(), HIGHEST, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, HIGHEST, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        words, said = zip(*chance.choices(rows, k=batch), strict=True)
        loss = letters.train().loss(pad_sequence(list(words), batch_first=True), said)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(letters.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield letters, float(loss.detach())


def parted(
    dictionary: Mapping[str, Sequence[str]], held_out: float, seed: int = 0
) -> tuple[dict[str, Sequence[str]], dict[str, Sequence[str]]]:
    """Part the words that can be written with our letters into those to learn, and some to judge by."""
    words = sorted(
        word for word in dictionary if word.strip("'") and set(word) <= set(LETTERS) and len(word) <= LONGEST
    )
    random.Random(seed).shuffle(words)
    count = round(held_out * len(words))
    return {word: dictionary[word] for word in words[count:]}, {word: dictionary[word] for word in words[:count]}


def judge(letters: Letters, dictionary: Mapping[str, Sequence[str]]) -> Report:
    """Judge what is guessed of words by their phones."""
    words = list(dictionary)
    said = letters.eval().guess(words)
    errors = [_distance(tuple(ours), tuple(dictionary[word])) for word, ours in zip(words, said, strict=True)]
    total = sum(len(dictionary[word]) for word in words)
    return Report(sum(error > 0 for error in errors) / max(len(words), 1), sum(errors) / max(total, 1))


@lru_cache(maxsize=4096)
def _distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Count the phones to be changed, left out or put in."""
    row = list(range(len(other) + 1))
    for number, phone in enumerate(one, 1):
        before, row[0] = row[0], number
        for at, theirs in enumerate(other, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (phone != theirs))
    return row[-1]
