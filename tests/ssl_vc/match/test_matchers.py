import errno
import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_vc.features.time_stretch import stretch
from ssl_vc.match import linear, replay, smooth
from ssl_vc.match.choice import MATCHERS, MixedMatcher, choose
from ssl_vc.match.knn import KNN
from ssl_vc.match.linear import Linear
from ssl_vc.match.protocol import Jump, Pool, blend, jump
from ssl_vc.match.replay import CHUNK, FrameBuffer
from ssl_vc.match.smooth import CONTEXT, CORE, Smooth, join_costs, path_costs
from ssl_vc.match.transport import Transport, gaussian_map

MIXED = MixedMatcher(Transport(), KNN(), 0.4)
EVERY = {**MATCHERS, "transport+knn": MIXED, "rank 5": Linear(rank=5), "weighted": KNN(weighted=True)}
every = pytest.mark.parametrize("matcher", EVERY.values(), ids=EVERY.keys())
same = partial(torch.testing.assert_close, atol=0, rtol=0, equal_nan=True)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def content(frames, dim=32, seed=0):
    """Sounds that last some frames and glide into one another; the sounds are always the same 40."""
    order = torch.randint(40, (frames // 6 + 3,), generator=torch.Generator().manual_seed(seed))
    steps = noise(40, dim, seed=99)[order].repeat_interleave(6, 0).T[:, None]
    return torch.nn.functional.avg_pool1d(steps, 5, 1)[:, 0].T[:frames] + 0.1 * noise(frames, dim, seed=seed)


def spoken(sounds, seed=7):
    """The sounds in somebody's voice: an affine map, and noise."""
    dim = sounds.shape[1]
    turn = torch.eye(dim) + 0.4 / dim**0.5 * noise(dim, dim, seed=seed)
    return sounds @ turn + noise(dim, seed=seed) + 0.2 * noise(*sounds.shape, seed=seed + 1)


@pytest.fixture(scope="module")
def talk():
    """What is said, how it should come out, and a pool of a minute."""
    said = content(1300)
    return spoken(said, 3), spoken(said), Pool(spoken(content(3000, seed=1)), clips=[1000, 1500, 500])


def whole(matcher, frames, pool, size=500):
    return torch.cat([match.frames for match in matcher(frames.split(size), pool)])


def distances(matcher, frames, pool, size=500):
    return torch.cat([match.distance for match in matcher(frames.split(size), pool)])


def error(given, truth):
    return float((given - truth).norm() / (truth - truth.mean(0)).norm())


# every matcher


@every
def test_there_are_as_many_frames_as_came(matcher, talk):
    source, _, pool = talk
    matches = list(matcher(source.split(333), pool))
    assert sum(len(match.frames) for match in matches) == sum(len(match.distance) for match in matches) == len(source)
    for frames, distance in matches:
        assert frames.dtype == distance.dtype == torch.float32
        assert frames.shape == (len(distance), 32)
        assert frames.isfinite().all()


@pytest.mark.parametrize("matcher", [*MATCHERS.values(), MIXED], ids=str)
def test_no_gradient_is_kept(matcher, talk):
    for match in matcher([talk[0][:50].clone().requires_grad_(True)], talk[2]):
        assert not match.frames.requires_grad


@every
def test_how_a_clip_was_cut_makes_no_difference(matcher, talk):
    source, _, pool = talk
    tolerance = {"atol": 1e-5, "rtol": 0} if isinstance(matcher, KNN) else {}  # it searches what comes as it comes
    for size in (1300, 77):
        equal = partial(torch.testing.assert_close, **tolerance) if tolerance else same
        equal(whole(matcher, source, pool, size), whole(matcher, source, pool))


@every
def test_bounded_delay_or_the_whole_clip(matcher, talk):
    source, _, pool = talk
    taken = []
    pieces = (taken.append(piece) or piece for piece in source.repeat(3, 1).split(100))
    next(iter(matcher(pieces, pool)))
    heard = sum(map(len, taken))
    assert heard <= 2 * CORE if isinstance(matcher, KNN | Smooth) else heard == 3 * len(source)


@every
def test_short_clips_and_small_pools(matcher):
    pool = Pool(noise(40, 32))
    assert not list(matcher([], pool))
    assert sum(len(match.frames) for match in matcher([noise(0, 32)], pool)) == 0
    for frames, rows in ((1, 40), (3, 40), (50, 1), (50, 3)):
        given = whole(matcher, noise(frames, 32, seed=1), Pool(noise(rows, 32)))
        assert given.shape == (frames, 32)
        assert given.isfinite().all()


@every
def test_half_precision_pools_do(matcher, talk):
    source, _, pool = talk
    given = whole(matcher, source, Pool(pool.frames.half(), clips=[1000, 1500, 500]))
    assert given.dtype == torch.float32
    assert error(given, whole(matcher, source, pool)) < 0.02


@every
def test_the_voice_becomes_the_targets(matcher, talk):
    source, truth, pool = talk
    given = whole(matcher, source, pool)
    assert error(given, truth) < 0.5 * error(source, truth)
    assert (given.mean(0) - truth.mean(0)).norm() < 0.1 * (source.mean(0) - truth.mean(0)).norm()


STILL = KNN(1), KNN(4, weighted=True), Smooth(1), Linear(), Linear(ridge=0), Linear(orthogonal=True), Transport(32)


@pytest.mark.parametrize("matcher", STILL, ids=str)
def test_who_is_the_target_already_stays_so(matcher):
    voice = spoken(content(300))
    torch.testing.assert_close(whole(matcher, voice, Pool(voice)), voice, atol=2e-3, rtol=0)


# pool, blend, jump


def test_a_pool_knows_where_its_clips_end():
    frames = noise(6, 4)
    assert Pool(frames, clips=[0, 2, 0, 3, 1, 0]).has_successor.tolist() == [True, False, True, True, False, False]
    assert Pool(frames).has_successor.tolist() == [True] * 5 + [False]
    assert Pool(frames).seconds == 0.12
    assert Pool(frames).same_space
    assert not Pool(frames, frames.clone()).same_space


def test_a_pool_whose_parts_disagree_is_refused():
    with pytest.raises(ValueError, match="pool of 6 frames has 5 for synthesis, and its clips 6"):
        Pool(noise(6, 4), noise(5, 4))
    with pytest.raises(ValueError, match="pool of 6 frames has 6 for synthesis, and its clips 7"):
        Pool(noise(6, 4), clips=[3, 4])


def test_blend_gives_either_bit_for_bit_and_goes_beyond():
    source, selected = noise(9, 4), 1e4 * noise(9, 4, seed=1)
    same(blend(selected, source, 0), source)
    same(blend(selected, source, 1), selected)
    same(blend(selected, None, 1), selected)
    torch.testing.assert_close(blend(selected, source, 0.25), 0.25 * selected + 0.75 * source)
    torch.testing.assert_close(blend(selected, source, 1.5), 1.5 * selected - 0.5 * source)


def test_jump_is_0_of_what_stays_and_1_of_noise():
    assert jump(torch.ones(50, 8)) == jump(noise(2, 8)) == jump(noise(0, 8)) == 0
    assert jump(noise(5000, 8)) == pytest.approx(1, abs=0.02)
    assert jump(noise(5000, 8).cumsum(0)) < 0.05
    assert jump(noise(5000, 8) * 1e-3 + 100) == pytest.approx(1, abs=0.02)


def test_jump_is_the_same_in_pieces():
    frames, measure = noise(500, 8).cumsum(0), Jump()
    for piece in (*frames.split(33), frames[:0]):
        measure.add(piece)
    assert measure.value == pytest.approx(jump(frames), rel=1e-9)


# knn


def test_knn_is_the_mean_of_the_nearest():
    pool = Pool(torch.tensor([[1.0, 0], [2, 1], [0, 1], [-3, 0]]), torch.tensor([[1.0], [3], [100], [1000]]))
    query = torch.tensor([[5.0, 0.1]])
    assert whole(KNN(2), query, pool).item() == 2
    assert whole(KNN(99), query, pool).item() == 276
    far, near = distances(KNN(2), query, pool), 1 - torch.cosine_similarity(query, pool.frames[:2])
    torch.testing.assert_close(far, near[:1], atol=1e-6, rtol=0)
    weight = 1 / near
    expected = float((weight * torch.tensor([1.0, 3])).sum() / weight.sum())
    assert whole(KNN(2, weighted=True), query, pool).item() == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("synth", [False, True])
@pytest.mark.parametrize("k", [1, 4, 8])
def test_knn_is_the_published_one(k, synth, golden):
    case = golden("knnvc_matcher")
    pool = Pool(case.input["pool"], case.input["synth"] if synth else None)
    given = whole(KNN(k), case.input["query"], pool, 10)
    expected = case.output[f"match_synth_k{k}" if synth else f"match_k{k}"]
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)
    nearest = distances(KNN(k), case.input["query"], pool)
    torch.testing.assert_close(nearest, case.output["dist"].amin(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", ["0.9", "0.5"])
def test_knn_in_another_time_is_the_published_one(seconds, golden):
    case = golden("knnvc_matcher")
    query, expected = case.input["query"], case.output[f"duration{seconds}"]
    slower = torch.cat(list(stretch([query], len(query), len(expected))))
    torch.testing.assert_close(whole(KNN(), slower, Pool(case.input["pool"])), expected, atol=1e-5, rtol=1e-4)


# linear


def test_plain_least_squares_are_the_published_ones(golden):
    case = golden("linearvc_projection")
    source, target = (torch.cat([case.input[f"{side}_{i}"] for i in range(3)]) for side in ("src", "tgt"))
    given = whole(Linear(ridge=0), source, Pool(target), 100)
    torch.testing.assert_close(given, source @ case.output["W_nonparallel"], atol=1e-3, rtol=1e-3)
    matrix = torch.linalg.lstsq(source, given).solution
    torch.testing.assert_close(matrix, case.output["W_nonparallel"], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(case.input["query"] @ matrix, case.output["converted"], atol=1e-3, rtol=1e-3)
    plain = 1 - torch.nn.functional.cosine_similarity(source, case.output["linear_target"])
    torch.testing.assert_close(distances(Linear(), source, Pool(target)), plain, atol=1e-5, rtol=0)


def test_linear_leads_to_what_the_vocoder_reads(talk):
    source, _, _ = talk
    read = source @ noise(32, 9) + 50
    given = whole(Linear(ridge=0), source, Pool(source, read))
    torch.testing.assert_close(given, read, atol=1e-3, rtol=0)
    assert error(whole(Linear(), source, Pool(source, read)), read) < 0.1


def test_with_few_frames_linear_is_better_than_its_nearest_ones(talk):
    """In 32 dimensions, 25 frames: plain least squares give each its nearest frame back."""
    source, truth, pool = (talk[0][:25], talk[1][:25], talk[2])
    nearest = whole(KNN(1), source, pool)
    torch.testing.assert_close(whole(Linear(ridge=0), source, pool), nearest, atol=1e-3, rtol=0)
    assert error(whole(Linear(), source, pool), truth) < 0.75 * error(nearest, truth)


def test_orthogonal_keeps_lengths_and_angles(talk):
    source, _, pool = talk
    given = whole(Linear(orthogonal=True), source, pool)
    torch.testing.assert_close(given @ given.T, source @ source.T, atol=1e-3, rtol=1e-4)


def test_a_low_rank_keeps_the_main_directions(talk):
    source, _, pool = talk
    full = whole(Linear(ridge=0), source, pool)
    left, size, right = torch.linalg.svd(full, full_matrices=False)
    given = whole(Linear(rank=6, ridge=0), source, pool)
    torch.testing.assert_close(given, left[:, :6] * size[:6] @ right[:6], atol=2e-3, rtol=0)
    for rank in (32, 33):  # all there are, and more
        all_of_it = whole(Linear(rank=rank), source, pool)
        torch.testing.assert_close(all_of_it, whole(Linear(), source, pool), atol=1e-3, rtol=0)


def test_of_a_long_clip_some_frames_are_fitted(talk, monkeypatch):
    source, truth, pool = talk
    monkeypatch.setattr(linear, "FITTED", 300)
    known = ~distances(Linear(), source, pool).isnan()
    assert known.sum() == 300
    assert [int(part.sum()) for part in known.split(130)] == [30] * 10
    assert error(whole(Linear(), source, pool), truth) < 0.55


@pytest.mark.parametrize(
    ("matcher", "sentence"),
    [
        (Linear(rank=-1), "rank is -1; give 1 or more, or 0 for full rank"),
        (Linear(ridge=-1), "ridge is -1; give 0"),
        (Linear(rank=3, orthogonal=True), "give one of the two"),
        (Transport(block=0), "block is 0; give at least 1"),
        (Smooth(k=0), "k is 0; give at least 1"),
        (Smooth(weight=-1), "weight is -1; give 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_heard(matcher, sentence, talk):
    with pytest.raises(ValueError, match=sentence):
        matcher((pytest.fail("was heard") for _ in range(1)), talk[2])


@pytest.mark.parametrize("matcher", [Linear(orthogonal=True), Transport()])
def test_who_moves_frames_needs_a_vocoder_that_reads_them(matcher):
    with pytest.raises(ValueError, match=r"this voice's vocoder reads (others|another); choose linear or knn"):
        matcher([noise(5, 4)], Pool(noise(5, 4), noise(5, 4)))


# transport


def test_the_gaussian_map_is_the_closed_form(golden):
    case = golden("mkl_gaussian_transport")
    source, target = case.output["cov_s"].double(), case.output["cov_t"].double()
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
    close(gaussian_map(source, target).float(), case.output["T"])
    pairs = [torch.stack([cov[i : i + 2, i : i + 2] for i in range(0, 8, 2)]) for cov in (source, target)]
    close(torch.block_diag(*gaussian_map(*pairs)).float(), case.output["T_dim2_blocks"])
    frames, pool = case.input["source"], Pool(case.input["target"])
    close(whole(Transport(8), frames, pool, 40), case.output["converted"])
    assert error(whole(Transport(2), frames, pool), case.output["converted"]) > 0.01


def test_transport_gives_the_targets_mean_and_covariance(talk):
    source, _, pool = talk
    given = whole(Transport(32), source, pool)
    torch.testing.assert_close(given.mean(0), pool.frames.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(given.T.cov(), pool.frames.T.cov(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("block", [1, 5, 32])
def test_the_order_of_the_dimensions_makes_no_difference(block, talk):
    """Blocks are made by variance, so they are the same ones wherever the dimensions stand."""
    source, _, pool = talk
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    given = whole(Transport(block), source[:, order], Pool(pool.frames[:, order]))
    torch.testing.assert_close(given, whole(Transport(block), source, pool)[:, order], atol=1e-4, rtol=0)


@pytest.mark.parametrize("block", [1, 4, 16])
def test_what_does_not_vary_is_not_blown_up(block, talk):
    source, _, pool = talk
    source = 10 * source.clone()
    source[:, :9] = 1234.5 + 1e-4 * noise(1300, 9)  # as constant as float32 can say
    source[:, 9] = source[:, 10]
    given = whole(Transport(block), source, pool)
    assert (given - pool.frames.mean(0)).abs().max() < 3 * (pool.frames - pool.frames.mean(0)).abs().max()
    torch.testing.assert_close(given[:, :9], pool.frames.mean(0)[:9].expand(len(given), -1), atol=1e-3, rtol=0)


def test_a_block_is_no_larger_than_its_frames_support(talk):
    source, _, pool = talk
    few = Pool(pool.frames[:7])
    same(whole(Transport(16), source, few), whole(Transport(3), source, few))
    same(whole(Transport(16), source[:7], pool), whole(Transport(3), source[:7], pool))


# smooth


def paths(target, steps):
    frames, many = target.shape
    for path in itertools.product(range(many), repeat=frames):
        cost = sum(target[t, i] for t, i in enumerate(path))
        yield path, float(cost + sum(steps[t, i, j] for t, (i, j) in enumerate(itertools.pairwise(path))))


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_cheapest_path_through_each_candidate_is_found(frames, many, seed):
    target, steps = noise(frames, many, seed=seed).abs(), noise(frames - 1, many, many, seed=seed + 1).abs()
    cheapest = torch.full((frames, many), torch.inf)
    for path, cost in paths(target, steps):
        for t, i in enumerate(path):
            cheapest[t, i] = min(cheapest[t, i], cost)
    torch.testing.assert_close(path_costs(target, steps).float(), cheapest, atol=1e-4, rtol=0)


def test_the_best_alone_are_the_cheapest_path(talk):
    source, _, pool = (talk[0][:6], None, talk[2])
    distance, index = pool.nearest(source, 4)
    path, _ = min(paths(distance, 0.3 * join_costs(index, pool)), key=lambda pair: pair[1])
    assert path != (0,) * 6  # else it would be kNN's
    same(whole(Smooth(1, 4), source, pool), pool.frames[index[torch.arange(6), list(path)]])


def test_what_follows_costs_nothing_within_a_clip():
    pool = Pool(noise(6, 8), clips=[3, 3])
    every = torch.arange(6).expand(2, -1)
    cost = join_costs(every, pool)[0]
    follower = [1, 2, 2, 4, 5, 5]
    expected = 1 - torch.cosine_similarity(pool.frames[follower][:, None], pool.frames[None], dim=-1)
    torch.testing.assert_close(cost, expected, atol=1e-6, rtol=0)
    assert [cost[i, j].item() for i, j in ((0, 1), (1, 2), (3, 4), (4, 5))] == [0] * 4
    assert cost[2, 3] > 0.01


def test_without_weight_smooth_is_knn(talk):
    source, _, pool = talk
    torch.testing.assert_close(whole(Smooth(weight=0), source, pool), whole(KNN(), source, pool), atol=1e-5, rtol=0)


def test_smooth_jumps_less_and_is_nearly_as_near(talk):
    source, pool = talk[0] + 0.5 * noise(1300, 32, seed=5), talk[2]
    for k in (1, 4):
        rough, gentle = whole(KNN(k), source, pool), whole(Smooth(k), source, pool)
        assert jump(gentle) < 0.93 * jump(rough)
        far, near = ((1 - torch.cosine_similarity(given, source)).mean() for given in (gentle, rough))
        assert far < 1.01 * near
    torch.testing.assert_close(distances(Smooth(), source, pool), distances(KNN(), source, pool), atol=1e-6, rtol=0)


def test_a_recording_in_the_pool_is_found_in_one_piece():
    """Each of its frames is in there thrice, nearly; only one copy goes on."""
    voice = content(200)
    copies = torch.cat([voice + 0.02 * noise(200, 32, seed=1), voice + 0.02 * noise(200, 32, seed=2)])
    pool = Pool(torch.cat([voice, copies[torch.randperm(400, generator=torch.Generator().manual_seed(0))]]))
    source = voice + 0.1 * noise(200, 32, seed=3)
    found, nearest = (whole(matcher, source, pool) for matcher in (Smooth(1), KNN(1)))
    assert (nearest == voice).all(1).float().mean() < 0.8
    assert (found == voice).all(1).float().mean() > 0.97


def test_windows_choose_what_the_whole_clip_would(talk, monkeypatch):
    source, _, pool = talk
    windowed = whole(Smooth(), source, pool)
    monkeypatch.setattr(smooth, "CORE", 10_000)
    at_once = whole(Smooth(), source, pool)
    equal = (windowed == at_once).all(1)
    assert equal.float().mean() > 0.999
    monkeypatch.setattr(smooth, "CORE", CORE)
    monkeypatch.setattr(smooth, "CONTEXT", 0)
    bare = (whole(Smooth(), source, pool) == at_once).all(1)
    assert bare.sum() < len(source)  # so the context is what makes them equal
    assert CONTEXT > 0


# replay


def test_kept_frames_come_back_bit_for_bit(monkeypatch):
    frames = noise(1234, 5)
    frames[3, 2], frames[4, 1] = torch.nan, -0.0
    bits = frames.view(torch.int32)
    for limit in (2**30, 100):
        monkeypatch.setattr(replay, "IN_MEMORY", limit)
        with replay.replay(iter([*frames.T.contiguous().T.split(77), frames[:0]])) as kept:
            assert len(kept) == 1234
            for one, other in zip(kept, kept, strict=True):  # two at a time do not disturb each other
                same(one, other)
            pieces = list(kept)
            assert [len(piece) for piece in pieces] == [CHUNK, CHUNK, 1234 - 2 * CHUNK]
            assert (torch.cat(pieces).view(torch.int32) == bits).all()
            assert kept.file._rolled == (limit == 100)  # a file, above the limit
            with replay.replay(kept) as again:
                assert again is kept
        assert kept.file.closed


def test_no_room_for_the_source_is_said(monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"cannot be buffered: No space left on device; free space .* TMPDIR"):
        FrameBuffer(Full(), [noise(3, 4)])


# choice


@pytest.mark.parametrize("name", MATCHERS)
def test_a_matcher_is_chosen_by_name(name, talk):
    choice = choose(name, talk[2])
    assert (choice.name, choice.matcher, choice.reason) == (name, MATCHERS[name], f"{name} was requested.")


def test_k_goes_to_who_averages(talk):
    pool = talk[2]
    assert choose("knn", pool, 7).matcher == KNN(7)
    assert choose("smooth", pool, 7).matcher == Smooth(7)
    assert choose(KNN(3, weighted=True), pool, 7).matcher == KNN(7, weighted=True)
    for name in ("linear", "orthogonal", "transport", MIXED):
        with pytest.raises(ValueError, match=r"k is 7, but .* averages no neighbours; leave k out, or choose knn or"):
            choose(name, pool, 7)
    for name in ("knn", "auto", "linear"):
        with pytest.raises(ValueError, match="k is 0; give a whole number from 1 to 1000"):
            choose(name, pool, 0)


def test_an_unknown_matcher_is_refused(talk):
    with pytest.raises(ValueError, match="no matcher 'kn'; possible are auto, knn, smooth, linear, orthogonal, low-r"):
        choose("kn", talk[2])


def test_a_ready_made_matcher_is_taken(talk):
    choice = choose(Linear(rank=3), talk[2])
    assert choice == ("linear", Linear(rank=3), "linear was requested.")


def of(seconds, other=False):
    frames = torch.ones(round(50 * seconds), 1)
    return Pool(frames, frames.clone() if other else None)


def test_auto_minds_how_much_there_is():
    for seconds, k in ((30, 4), (599.98, 4), (600, 8), (3600, 8)):
        assert choose("auto", of(seconds))[:2] == ("knn", KNN(k))
        assert choose("auto", of(seconds), 5)[:2] == ("knn", KNN(5))
    little = choose("auto", of(12))
    assert little[:2] == ("transport+knn", MixedMatcher(Transport(), KNN(), 0.4))
    assert little.reason.startswith("12 s of reference is little for knn alone, so knn has a weight of 40%")
    assert choose("auto", of(12), 2).matcher == MixedMatcher(Transport(), KNN(2), 0.4)
    assert choose("auto", of(12, other=True))[:2] == ("linear+knn", MixedMatcher(Linear(), KNN(), 0.4))
    assert choose("auto", of(29.98)).matcher.share == pytest.approx(1, abs=1e-3)
    assert "10 min of reference is plenty" in choose("auto", of(600)).reason


def test_both_are_mixed(talk):
    source, _, pool = talk
    one, other = (whole(matcher, source, pool) for matcher in (Transport(), KNN()))
    same(whole(MixedMatcher(Transport(), KNN(), 0), source, pool), one)
    torch.testing.assert_close(whole(MixedMatcher(Transport(), KNN(), 1), source, pool), other, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole(MIXED, source, pool), 0.6 * one + 0.4 * other, atol=1e-5, rtol=0)
    far = distances(KNN(), source, pool)
    for mixed in (MIXED, MixedMatcher(KNN(), Transport(), 0.4), MixedMatcher(Smooth(), KNN(), 0.4)):
        torch.testing.assert_close(distances(mixed, source, pool), far, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seconds", [3, 5, 15])
def test_with_little_reference_auto_beats_knn(seconds, talk):
    source, truth, pool = talk
    little = Pool(pool.frames[: 50 * seconds])
    errors = [error(whole(choose(name, little).matcher, source, little), truth) for name in ("auto", "knn")]
    assert errors[0] < 0.85 * errors[1]
