"""A quantiser's way: learnt, written beside its encoder, taken over by DiscreteBERT, and as labels."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForPreTraining

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.data.manifest import decode, read_manifest
from pretrain.encoder.quantiser_file import FILE, read_quantiser, write_quantiser
from pretrain.encoder.quantisers import GumbelQuantiser, KMeansQuantiser
from pretrain.initial import initial_encoder
from pretrain.labels.codes import CodeFeatures
from pretrain.labels.kmeans_labels import KMeansLabels
from pretrain.objectives.discrete_bert import DiscreteBert, DiscreteBertSettings
from pretrain.pipeline import Pretraining
from pretrain.recipe import Iteration, LabelConfig, PretrainConfig
from pretrain.training.config import TrainConfig

SHAPE = {"dim": 16, "conv_dim": 16, "depth": 1, "heads": 2, "ffn_dim": 32, "quantiser": "kmeans", "codes": 8}
BERT = {"context": "transformer", "causal": False, "position": "conv", "pos_kernel": 8, "pos_groups": 2}
VQ = EncoderConfig.wav2vec(**SHAPE)
STEPS = {"log_every": 1, "valid_every": 100, "save_every": 2, "workers": 0, "steps": 1, "precision": "float32"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, speech):
    folder = tmp_path_factory.mktemp("clips")
    for clip in range(4):
        ssl_vc.write(folder / f"{clip}.wav", speech(1.0, pitch=100 + 40 * clip, text=clip), 16_000)
    return folder


def test_codes_are_taken_over_and_are_labels(clips, tmp_path):
    train = TrainConfig(objective="vq_wav2vec", settings={"steps": 2}, seconds=4.0, shortest=0.5, **STEPS)
    iterations = [
        Iteration(),
        Iteration(start="previous:codes", shape=BERT, train={"objective": "discrete_bert"}),
        Iteration([LabelConfig("previous:codes")], shape=BERT, train={"objective": "hubert"}),
    ]
    config = PretrainConfig(encoder="wav2vec", shape=SHAPE, clips=str(clips), train=train, iterations=iterations)
    assert [config.train_config(number).settings for number in (1, 2)] == [{"steps": 2}, {}]
    out = Pretraining(config, tmp_path).run()
    first, second = (SpeechEncoder.from_pretrained(tmp_path / str(n) / "model") for n in (1, 2))
    assert first.config.causal and not second.config.causal
    frozen = ("frontend.", "feature_norm.", "quantiser.")
    before, after = first.state_dict(), second.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith(frozen))
    assert not (out / FILE).exists()  # HuBERT has none
    labels = KMeansLabels.open(tmp_path / "3" / "labels-0")
    features = CodeFeatures(second, read_quantiser(tmp_path / "2" / "model"))
    combinations = {}
    for clip in read_manifest(clips):
        codes = features.codes(torch.from_numpy(decode(clip.path)))
        assert len(labels[clip.key]) == len(codes) == 49
        for row, label in zip(codes.tolist(), labels[clip.key].tolist(), strict=True):
            assert combinations.setdefault(tuple(row), label) == label
    assert labels.clusters == len(combinations) == len(set(combinations.values())) > 1
    Pretraining(config, tmp_path).run(lambda *_: pytest.fail("trained again"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": TrainConfig(objective="cpc")}, "the encoder has causal false, and this objective needs true"),
        ({"iterations": [Iteration(start="previous:codes")]}, "the first iteration has no previous one"),
        ({"iterations": [Iteration([LabelConfig("previous:codes")])]}, "the first iteration has no previous one"),
        ({"iterations": [Iteration([LabelConfig()], shape={"dimm": 1})]}, "shape has 'dimm'"),
        ({"encoder": "cpc", "centred": True, "matching_layer": 1}, "centred needs a context of transformer or conf"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        PretrainConfig(**{"encoder": "tiny", "clips": "x", "iterations": [Iteration()], **changes})


@pytest.mark.parametrize(
    "quantiser", [GumbelQuantiser(12, codes=5, groups=2, out=8, depth=2), KMeansQuantiser(12, codes=5)]
)
def test_a_quantiser_is_read_as_it_was_written(quantiser, tmp_path):
    weights = {f"quantiser.{name}": value for name, value in quantiser.state_dict().items()}
    write_quantiser(weights | {"project.weight": torch.ones(2)}, tmp_path)
    frames = torch.randn(2, 7, 12)
    again = read_quantiser(tmp_path)
    assert torch.equal(again.codes(frames), quantiser.codes(frames)) and again.codes(frames).shape == (2, 7, 2)
    assert torch.equal(again.vectors(again.codes(frames)), quantiser.vectors(quantiser.codes(frames)))
    assert not any(module.training for module in again.modules())


def test_transformers_reads_a_wav2vec2_of_ours(clips, tmp_path):
    settings = {"negatives": 5, "target_dim": 8, "codes": 4}
    shape = {"dim": 16, "conv_dim": 16, "depth": 1, "heads": 2, "ffn_dim": 32, "pos_kernel": 8, "pos_groups": 2}
    train = TrainConfig(objective="wav2vec2", settings=settings, seconds=4.0, shortest=0.5, **STEPS)
    recipe = PretrainConfig(
        encoder="wav2vec2_base", shape=shape, clips=str(clips), train=train, iterations=[Iteration()]
    )
    out = Pretraining(recipe, tmp_path).run()
    model, loading = Wav2Vec2ForPreTraining.from_pretrained(tmp_path / "transformers", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    quantiser = read_quantiser(out)
    assert torch.equal(model.quantizer.codevectors.view_as(quantiser.codebooks), quantiser.codebooks)
    again = SpeechEncoder.from_foreign(tmp_path / "transformers")
    assert again.fingerprint(1) == SpeechEncoder.from_pretrained(out).fingerprint(1)


def test_what_is_no_quantiser_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no quantiser\.safetensors in .*; wav2vec 2\.0 and vq"):
        read_quantiser(tmp_path)
    (tmp_path / FILE).write_bytes(b"no")
    with pytest.raises(ValueError, match="holds no quantiser"):
        read_quantiser(tmp_path)
    weights = {f"quantiser.{name}": value for name, value in KMeansQuantiser(8, codes=5).state_dict().items()}
    write_quantiser(weights, tmp_path)
    stored = load_file(tmp_path / FILE)
    for wrong in ({"quantiser.codebooks": torch.ones(2)}, {"quantiser.gain": torch.full((2, 4), torch.nan)}):
        save_file(stored | wrong, tmp_path / FILE)
        with pytest.raises(ValueError, match="holds no quantiser"):
            read_quantiser(tmp_path)


def test_a_collapsed_quantiser_makes_no_labels():
    encoder = SpeechEncoder(VQ)
    with torch.no_grad():
        encoder.quantiser.codebooks.copy_(encoder.quantiser.codebooks[:, :1].expand(2, 8, 8))
    with pytest.raises(ValueError, match="the quantiser has collapsed"):
        CodeFeatures(encoder, encoder.quantiser).clusters([torch.randn(4_000)])


def test_codes_of_another_shape_are_not_taken_over(tmp_path):
    SpeechEncoder(VQ).save_pretrained(tmp_path / "one")
    SpeechEncoder(replace(VQ, quantiser="none")).save_pretrained(tmp_path / "two")
    for start, shape in (("one", replace(VQ, codes=9)), ("two", VQ), ("one", replace(VQ, quantiser="none"))):
        with pytest.raises(ValueError, match=r":codes needs a front end and a quantiser of the same shape"):
            initial_encoder(f"{tmp_path / start}:codes", shape)
    taken = initial_encoder(f"{tmp_path / 'one'}:codes", replace(VQ, depth=3))
    assert taken.config.depth == 3


def test_masked_codes_are_predicted_and_nothing_below_them_learns():
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig(**SHAPE, **BERT, conv_norm="layer", dropout=0.0))
    objective = DiscreteBert(DiscreteBertSettings(), encoder)
    mask = torch.zeros(1, 24, dtype=torch.bool)
    mask[:, 4:14] = True
    nothing = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    lengths, wav = torch.tensor([8_000]), torch.randn(1, 8_000)
    batch = Batch(wav, lengths, torch.tensor([24]), mask, torch.zeros(0, 1, 24, dtype=torch.long), *nothing)
    found = objective(encoder, batch)
    codes = encoder.quantiser.codes(encoder.feature_norm(encoder.features(wav)))
    logits = objective.predict(found.layers[-1]).unflatten(2, (2, 8))
    wanted = -logits.log_softmax(-1).gather(3, codes[..., None])[..., 0].mean(-1)[mask].sum()
    torch.testing.assert_close(found.losses["masked"], wanted)
    found.losses["masked"].backward()
    learn = {name.partition(".")[0] for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert learn == {"project", "mask_embedding", "transformer"}
    # a masked frame's own samples do not reach its prediction
    changed = wav.clone()
    changed[:, 320 * 5 + 400 : 320 * 13] += 0.5
    other = objective(encoder.eval(), replace(batch, wav=changed))
    torch.testing.assert_close(other.layers[-1], objective(encoder, batch).layers[-1])
