import math
from itertools import pairwise

import pytest

from ssl_vc.evaluate.language_model import write_bigrams

SENTENCES = ["the cat sat", "the dog sat on the cat", "", "a dog", "the cat sat"]


def read(path):
    """The model as an ARPA reader sees it: a function that gives the probability of a word after another."""
    lines = path.read_text(encoding="utf-8").splitlines()
    single, weights, pairs, order, counts = {}, {}, {}, 0, {}
    for line in lines:
        if line.startswith("ngram "):
            counts[int(line[6])] = int(line[8:])
        elif line.endswith("-grams:"):
            order = int(line[1])
        elif order and line and line != "\\end\\":
            logarithm, words, *weight = line.split("\t")
            if order == 1:
                single[words], weights[words] = float(logarithm), float(*weight) if weight else 0.0
            else:
                pairs[tuple(words.split(" "))] = float(logarithm)
    assert counts == {1: len(single), 2: len(pairs)} and lines[0] == "\\data\\" and lines[-1] == "\\end\\"

    def probability(first, second):
        found = pairs.get((first, second))
        return 10 ** (found if found is not None else weights[first] + single[second])

    return single, pairs, probability


@pytest.mark.parametrize("discount", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("sentences", [SENTENCES, ["one"], ["a a", "a a a"], ["ёлка größe 5", "5 o'clock"]])
def test_probabilities_after_every_word_sum_to_one(tmp_path, sentences, discount):
    write_bigrams(sentences, tmp_path / "m.arpa", discount=discount)
    single, _, probability = read(tmp_path / "m.arpa")
    assert set(single) == {"<s>", "</s>", *" ".join(sentences).split()}
    for first in set(single) - {"</s>"}:
        assert math.fsum(probability(first, second) for second in set(single) - {"<s>"}) == pytest.approx(1, abs=1e-5)
    assert sum(10**logarithm for word, logarithm in single.items() if word != "<s>") == pytest.approx(1, abs=1e-5)


def test_words_are_as_likely_as_they_were_said_less_the_discount(tmp_path):
    write_bigrams(SENTENCES, tmp_path / "m.arpa")
    single, pairs, probability = read(tmp_path / "m.arpa")
    seen = {pair for sentence in SENTENCES if sentence for pair in pairwise(["<s>", *sentence.split(), "</s>"])}
    assert set(pairs) == seen
    assert 10 ** single["cat"] == pytest.approx(3 / 18, rel=1e-5)  # of 14 words and 4 ends
    assert probability("<s>", "the") == pytest.approx(2.5 / 4, rel=1e-5)
    assert probability("the", "cat") == pytest.approx(2.5 / 4, rel=1e-5)
    # after "a" nothing but "dog" (2 of 18) was heard: all others share the discount as they are likely at all
    assert probability("a", "dog") == pytest.approx(0.5, rel=1e-5)
    assert probability("a", "cat") == pytest.approx(0.5 * 3 / 16, rel=1e-5)


def test_the_same_sentences_give_the_same_file(tmp_path):
    write_bigrams(SENTENCES, tmp_path / "a.arpa")
    write_bigrams(iter(reversed(SENTENCES)), tmp_path / "b.arpa")
    assert (tmp_path / "a.arpa").read_bytes() == (tmp_path / "b.arpa").read_bytes()


@pytest.mark.parametrize("sentences", [[], ["", " "]])
def test_without_words_there_is_no_model(tmp_path, sentences):
    with pytest.raises(ValueError, match="needs at least one sentence with words"):
        write_bigrams(sentences, tmp_path / "m.arpa")
    assert not list(tmp_path.iterdir())


def test_pocketsphinx_reads_the_same_probabilities(tmp_path):
    pocketsphinx = pytest.importorskip("pocketsphinx")
    write_bigrams(SENTENCES, tmp_path / "m.arpa")
    single, _, probability = read(tmp_path / "m.arpa")
    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    model = pocketsphinx.NGramModel(decoder.config, decoder.logmath, str(tmp_path / "m.arpa"))
    base = math.log(1.0001)
    for first in ("the", "a", "cat"):
        for second in set(single) - {"<s>"}:
            found = math.exp(model.prob([second, first]) * base)
            assert found == pytest.approx(probability(first, second), rel=0.01), (first, second)
