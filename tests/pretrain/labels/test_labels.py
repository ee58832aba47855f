"""MFCC, k-means, label quality and folders of labels."""

import json
import pickle

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.manifest import read_manifest
from pretrain.encoder.config import CONTEXT
from pretrain.labels.features import LayerFeatures, MfccFeatures
from pretrain.labels.kmeans import BLOCK, KMeans
from pretrain.labels.kmeans_labels import KMeansLabels, label_clips
from pretrain.labels.mfcc import deltas, frame_mfcc, mfcc
from pretrain.labels.phone_metrics import cluster_usage, phone_metrics

pytest.importorskip("faiss", reason="faiss is not installed (extra train)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speech):
    """Four usable clips, one too short, one that is no sound."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(4):
        name = folder / f"speaker{n % 2}" / f"{n}.wav"
        name.parent.mkdir(exist_ok=True)
        soundfile.write(name, speech(1.5 + 0.37 * n, pitch=100 + 50 * n, text=n).numpy(), 16_000)
    soundfile.write(folder / "short.wav", np.zeros(399), 16_000)
    return folder


@pytest.fixture
def clips(folder):
    return read_manifest(folder, shortest=0)


# MFCC


def test_sound_of_another_loudness_differs_in_the_first_coefficient_alone(speech):
    wav = speech(1.0)[None] + 1e-2 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    quiet, loud = mfcc(wav), mfcc(4 * wav)
    change = loud - quiet
    expected = torch.zeros(39)
    expected[0] = 23**0.5 * np.log(16)  # of an orthonormal transform of 23 equal numbers
    torch.testing.assert_close(change, expected.expand_as(change), atol=2e-3, rtol=0)


def test_a_constant_offset_has_no_effect(speech):
    wav = speech(0.5)[None] + 1e-2 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mfcc(wav + 0.3), mfcc(wav), atol=1e-2, rtol=0)


def test_a_sound_that_goes_on_has_no_slope():
    period = torch.randn(1, 160, generator=torch.Generator().manual_seed(0))
    assert mfcc(period.repeat(1, 50))[..., 13:].abs().max() < 1e-4


def test_silence_is_finite():
    assert mfcc(torch.zeros(2, 1000)).isfinite().all()


@pytest.mark.parametrize("samples", [400, 559, 560, 719, 720, 1039, 1040, 16_000, 16_239, 16_240])
def test_a_frame_of_the_encoder_is_every_other_step(samples):
    wav = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    steps, frames = mfcc(wav), frame_mfcc(wav)
    assert steps.shape == (2, (samples - 400) // 160 + 1, 39)
    assert frames.shape == (2, (samples - 400) // 320 + 1, 39)
    for t in range(frames.shape[1]):
        assert torch.equal(frames[:, t], steps[:, 2 * t])


def test_coefficients_depend_on_their_25_ms_only():
    wav = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    changed = wav.clone()
    changed[:, 3200:3600] = 0.5 * torch.randn(400)
    differs = (mfcc(wav) != mfcc(changed))[0, :, :13].any(1).nonzero()[:, 0].tolist()
    assert differs == [18, 19, 20, 21, 22]  # step 18 ends with sample 3279, step 22 begins with 3520


def test_coefficients_are_kaldis(speech):
    """Step by step as Kaldi's documentation has it, in float64."""
    wav = (speech(0.4) + 1e-3).double().numpy()
    edges = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(8000 / 700), 25))
    cepstra_here = mfcc(torch.from_numpy(wav)[None])[0, :, :13]
    for t in (0, 9, 20, 37):
        x = wav[160 * t : 160 * t + 400] - wav[160 * t : 160 * t + 400].mean()
        x = (x - 0.97 * np.r_[x[0], x[:-1]]) * scipy.signal.windows.hann(400) ** 0.85
        power = np.abs(np.fft.fft(x, 512)) ** 2
        energy = np.zeros(23)
        for band in range(23):
            left, top, right = 1127 * np.log1p(edges[band : band + 3] / 700)
            for k in range(257):
                mel = 1127 * np.log1p(16_000 / 512 * k / 700)
                energy[band] += power[k] * max(0, min((mel - left) / (top - left), (right - mel) / (right - top)))
        cepstra = scipy.fft.dct(np.log(np.maximum(energy, np.finfo(np.float32).eps)), norm="ortho")[:13]
        cepstra *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
        np.testing.assert_allclose(cepstra_here[t].numpy(), cepstra, atol=2e-3)


def test_deltas_are_the_slope_of_a_line():
    ramp = torch.arange(9.0)[None, :, None]
    assert deltas(ramp)[0, 2:-2, 0].tolist() == pytest.approx([1.0] * 5)
    assert deltas(ramp)[0, :2, 0].tolist() == pytest.approx([0.5, 0.8])  # 0 0 (0) 1 2, then 0 0 (1) 2 3
    noise = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
    expected = scipy.signal.savgol_filter(noise.numpy(), 5, 1, deriv=1, axis=1, mode="nearest")
    np.testing.assert_allclose(deltas(noise).numpy(), expected, atol=1e-6)


def test_a_long_clip_is_computed_in_blocks(monkeypatch):
    wav = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    whole = mfcc(wav)
    monkeypatch.setattr("pretrain.labels.mfcc.BLOCK", 7)
    torch.testing.assert_close(mfcc(wav), whole, atol=1e-4, rtol=0)


def test_too_little_sound_is_refused():
    with pytest.raises(ValueError, match="at least 400"):
        mfcc(torch.zeros(1, 399))


# k-means


def blobs(count=4, each=200, dim=5, seed=0):
    """Frames around some far points, and these points."""
    generator = torch.Generator().manual_seed(seed)
    points = 100 * torch.randn(count, dim, generator=generator)
    return points.repeat(each, 1) + torch.randn(count * each, dim, generator=generator), points


def test_clusters_are_found():
    frames, points = blobs(9)
    centres = KMeans.fit(frames, 9, seed=0).centres
    distances = torch.cdist(points, centres).min(1)
    assert distances.values.max() < 0.5
    assert distances.indices.unique().numel() == 9


def test_the_nearest_centre_is_given():
    generator = torch.Generator().manual_seed(0)
    centres = 1000 + torch.randn(50, 39, generator=generator)  # far away from zero
    frames = 1000 + torch.randn(BLOCK + 10, 39, generator=generator)
    expected = (frames.double()[:, None] - centres.double()).square().sum(2).argmin(1)
    units = KMeans(centres)(frames)
    assert units.dtype == torch.int64
    assert (units != expected).float().mean() < 1e-3
    assert torch.equal(KMeans(centres)(centres), torch.arange(50))


def test_a_seed_decides_everything():
    frames = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    first, again, other = (KMeans.fit(frames, 20, seed).centres for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_fit_ends_where_each_centre_is_the_middle_of_its_frames():
    frames = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    kmeans = KMeans.fit(frames, 6, iterations=300)
    units = kmeans(frames)
    for unit, centre in enumerate(kmeans.centres):
        torch.testing.assert_close(frames[units == unit].mean(0), centre, atol=1e-4, rtol=0)


def test_fewer_points_than_clusters_are_no_accident():
    _, points = blobs(3)
    same = points.repeat(30, 1)
    kmeans = KMeans.fit(same, 8)
    assert kmeans.centres.shape == (8, 5)
    assert kmeans.centres.isfinite().all()
    assert (same - kmeans.centres[kmeans(same)]).abs().max() < 1


@pytest.mark.parametrize("frames", [torch.zeros(3, 2), torch.zeros(9), torch.full((9, 2), torch.nan)])
def test_what_cannot_be_clustered_is_refused(frames):
    with pytest.raises(ValueError, match=r"clusters; give|not finite|clusters; give|not finite"):
        KMeans.fit(frames, 4)


def test_centres_are_kept_in_a_file(tmp_path):
    kmeans = KMeans(torch.randn(4, 3), {"kind": "mfcc", "dim": 3})
    kmeans.save(tmp_path / "kmeans.safetensors")
    again = KMeans.load(tmp_path / "kmeans.safetensors")
    assert torch.equal(again.centres, kmeans.centres)
    assert again.facts == kmeans.facts
    with pytest.raises(ValueError, match="need \\(n, 3\\)"):
        again(torch.zeros(5, 4))
    with (tmp_path / "kmeans.safetensors").open("r+b") as file:  # loaded centres do not depend on it
        file.write(b"\xff" * 400)
    assert torch.equal(again.centres, kmeans.centres)
    (tmp_path / "broken").write_bytes(b"nothing")
    for name in ("broken", "nowhere"):
        with pytest.raises(ValueError, match="no k-means"):
            KMeans.load(tmp_path / name)


# quality


def measured(table):
    """The quality of labels that occur together with phones as a table (phones, labels) says."""
    phones, units = np.repeat(np.argwhere(np.ones_like(table)), table.ravel(), axis=0).T
    half = len(units) // 2
    parts = [(units[:half], phones[:half]), (units[half:], phones[half:])]
    return phone_metrics(parts, table.shape[1], table.shape[0])


def test_quality_of_a_table_by_hand():
    found = measured(np.array([[3, 1, 0], [1, 1, 2]]))
    assert found["phone_frames"] == 8
    assert found["phone_purity"] == pytest.approx((3 + 1 + 2) / 8)
    assert found["cluster_purity"] == pytest.approx((3 + 2) / 8)
    shared = 3 / 8 * np.log2(3 / 8 / (1 / 2 * 1 / 2)) + 1 / 8 * np.log2(1 / 8 / (1 / 2 * 1 / 4))
    shared += 1 / 8 * np.log2(1 / 8 / (1 / 2 * 1 / 2)) + 1 / 8 * np.log2(1 / 8 / (1 / 2 * 1 / 4))
    shared += 2 / 8 * np.log2(2 / 8 / (1 / 2 * 1 / 4))
    assert found["pnmi"] == pytest.approx(shared)  # the phone has an entropy of one bit


def test_labels_that_are_the_phones_and_labels_that_tell_nothing():
    same = measured(np.diag([5, 3, 2]))
    assert (same["phone_purity"], same["cluster_purity"], same["pnmi"]) == pytest.approx((1, 1, 1))
    nothing = measured(np.outer([6, 2], [1, 2, 1]))
    assert (nothing["phone_purity"], nothing["cluster_purity"]) == pytest.approx((0.75, 0.5))
    assert nothing["pnmi"] == pytest.approx(0, abs=1e-12)
    assert measured(np.array([[4, 3]]))["pnmi"] == 0  # there is nothing to tell of one phone
    fine = measured(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]))
    assert (fine["phone_purity"], fine["cluster_purity"], fine["pnmi"]) == pytest.approx((1, 0.5, 1))


def test_quality_stays_within_its_bounds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        table = rng.integers(0, 9, (5, 12))
        found = measured(table)
        assert table.sum(1).max() / table.sum() - 1e-9 <= found["phone_purity"] <= 1
        assert table.sum(0).max() / table.sum() - 1e-9 <= found["cluster_purity"] <= 1
        assert 0 <= found["pnmi"] <= 1


def test_labels_and_phones_of_other_sounds_are_refused():
    with pytest.raises(ValueError, match="different audio"):
        phone_metrics([(np.zeros(5, int), np.zeros(4, int))], 2, 2)
    with pytest.raises(ValueError, match="no frame"):
        phone_metrics([], 2, 2)


def test_usage():
    assert cluster_usage(np.array([5, 5, 5, 5])) == {"used": 4, "dead": 0, "perplexity": pytest.approx(4)}
    assert cluster_usage(np.array([7, 0, 0])) == {"used": 1, "dead": 2, "perplexity": pytest.approx(1)}


# labels


def test_every_clip_is_labelled_frame_by_frame(clips, tmp_path, caplog):
    labels = label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=10)
    assert "1 clips left out: short.wav (too short: 399 samples)" in caplog.text
    assert "short.wav" not in labels
    assert labels.keys == [clip.key for clip in clips if clip.key != "short.wav"]
    for clip in clips[1:] if clips[0].key == "short.wav" else clips[:-1]:
        wav, _ = soundfile.read(clip.path, dtype="float32")
        units = labels[clip.key]
        assert units.dtype == np.int64
        assert len(units) == (len(wav) - 400) // 320 + 1
        expected = labels.kmeans(frame_mfcc(torch.from_numpy(wav)[None])[0]).numpy()
        assert np.array_equal(units, expected)
    assert labels.facts == {"kind": "mfcc", "dim": 39, "clusters": 10, "seed": 0, "fit_hours": 10.0}
    assert labels.frames == sum(len(labels[key]) for key in labels.keys)


def test_labels_are_repeated_exactly(clips, tmp_path):
    first, again, other = (
        label_clips(clips, tmp_path / name, MfccFeatures(), clusters=10, seed=seed, workers=workers)
        for name, seed, workers in (("a", 0, 1), ("b", 0, 3), ("c", 1, 4))
    )
    assert all(np.array_equal(first[key], again[key]) for key in first.keys)
    assert not all(np.array_equal(first[key], other[key]) for key in first.keys)


def test_labels_that_are_there_are_opened(clips, tmp_path):
    def never(clip):
        raise AssertionError

    label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=10)
    assert label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=10, read=never, keep=True).clusters == 10
    with pytest.raises(ValueError, match="other settings"):
        label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=11, keep=True)
    with pytest.raises(ValueError, match="other settings"):
        label_clips(clips[:3], tmp_path / "labels", MfccFeatures(), clusters=10, keep=True)
    assert label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=11).clusters == 11


def test_a_folder_of_something_else_is_left_alone(clips, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(ValueError, match="no labels"):
        label_clips(clips, tmp_path, MfccFeatures(), clusters=10)
    assert (tmp_path / "diary.txt").exists()


def test_what_fails_leaves_nothing_behind(clips, tmp_path):
    class Broken(MfccFeatures):
        def __call__(self, wav):
            return super().__call__(wav)[:-1]

    with pytest.raises(ValueError, match="but its features have"):
        label_clips(clips, tmp_path / "labels", Broken(), clusters=10)
    kmeans = KMeans(torch.randn(4, 39))
    with pytest.raises(ValueError, match="but its features have"):
        label_clips(clips, tmp_path / "labels", Broken(), model=kmeans)
    assert not list(tmp_path.iterdir())


def test_only_some_clips_are_fitted_on(clips, tmp_path):
    heard = []

    def read(clip):
        heard.append(clip.key)
        return soundfile.read(clip.path, dtype="float32")[0]

    usable = [clip for clip in clips if clip.key != "short.wav"]
    label_clips(usable, tmp_path / "a", MfccFeatures(), clusters=5, fit_on=usable[:1], read=read)
    assert sorted(heard) == sorted([usable[0].key, *(clip.key for clip in usable)])
    heard.clear()
    label_clips(usable, tmp_path / "b", MfccFeatures(), clusters=5, fit_hours=1e-6, read=read)
    assert len(heard) == 1 + len(usable)


def test_k_means_sees_a_bounded_number_of_frames(clips, tmp_path, monkeypatch):
    seen = []
    fit = KMeans.fit

    def watched(frames, *rest, **more):
        seen.append(len(frames))
        return fit(frames, *rest, **more)

    monkeypatch.setattr("pretrain.labels.kmeans_labels.FIT_VALUES", 39 * 100)
    monkeypatch.setattr(KMeans, "fit", watched)
    label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=5)
    assert 60 < seen[0] < 140


def test_clusters_of_other_frames_are_refused(clips, tmp_path):
    labels = label_clips(clips, tmp_path / "a", MfccFeatures(), clusters=5)
    again = label_clips(clips[:2], tmp_path / "b", MfccFeatures(), model=labels.kmeans)
    assert again.clusters == 5
    assert torch.equal(again.kmeans.centres, labels.kmeans.centres)
    key = again.keys[0]
    assert np.array_equal(again[key], labels[key])
    encoder = SpeechEncoder(EncoderConfig.tiny(conv_dim=16, dim=32, depth=2, heads=4, ffn_dim=64))
    with pytest.raises(ValueError, match="fit another"):
        label_clips(clips, tmp_path / "c", LayerFeatures(encoder, 1), model=labels.kmeans)


def test_workers_get_a_place_not_the_labels(clips, tmp_path):
    labels = label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=5)
    key = labels.keys[0]
    before = labels[key]
    sent = pickle.dumps(labels)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)[key], before)


def test_broken_labels_are_refused(clips, tmp_path):
    with pytest.raises(ValueError, match="no labels at"):
        KMeansLabels.open(tmp_path / "nowhere")
    labels = label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=5)
    (labels.folder / "labels.u16").write_bytes(b"12")
    with pytest.raises(ValueError, match="broken"):
        KMeansLabels.open(labels.folder)


def test_labels_are_evaluated_by_phones(clips, tmp_path):
    class Phones(dict):
        symbols = ("SIL", "A", "B", "C", "D")

    labels = label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=5)
    phones = Phones({key: labels[key] for key in labels.keys[:2]})
    assert json.loads((labels.folder / "quality.json").read_text())["clips"] == 4
    found = labels.evaluate(phones)
    assert found["pnmi"] == pytest.approx(1)
    assert found["phone_frames"] == sum(map(len, phones.values()))
    assert json.loads((labels.folder / "quality.json").read_text()) == found


@pytest.mark.parametrize("kind", ["tiny", "hubert_base"])
def test_a_long_clip_is_processed_in_windows(kind, monkeypatch):
    """Below the attention the pieces are as the whole; and a layer's frames are those of the encoder."""
    torch.manual_seed(0)
    config = getattr(EncoderConfig, kind)(conv_dim=16, dim=32, depth=2, heads=4, ffn_dim=64, normalized=True)
    encoder = SpeechEncoder(config).eval()
    wav = torch.randn(16_000 * 9 + 123)
    with torch.no_grad():
        whole = encoder.layers(wav[None])
    torch.testing.assert_close(LayerFeatures(encoder, 2)(wav), whole[2][0], atol=1e-5, rtol=0)
    monkeypatch.setattr("pretrain.labels.features.WINDOW", 130)
    assert encoder.num_frames(len(wav)) > 130 + 2 * CONTEXT
    torch.testing.assert_close(LayerFeatures(encoder, 0)(wav), whole[0][0], atol=1e-4, rtol=0)
    assert LayerFeatures(encoder, 2)(wav).shape == whole[2][0].shape


def test_an_encoder_is_left_as_it_is(clips, tmp_path):
    encoder = SpeechEncoder(EncoderConfig.tiny(conv_dim=16, dim=32, depth=2, heads=4, ffn_dim=64)).train()
    source = LayerFeatures(encoder, 1)
    labels = label_clips(clips, tmp_path / "labels", source, clusters=7)
    assert encoder.training
    assert all(weight.requires_grad for weight in encoder.parameters())
    assert labels.facts["encoder"] == encoder.fingerprint(1)
    assert labels.kmeans.centres.shape == (7, 32)
