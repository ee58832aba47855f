"""What cosines say of speakers, on vectors whose answers are known."""

import math
from itertools import pairwise

import pytest
import torch
from sklearn.metrics import roc_curve

from ssl_vc.evaluate.similarity import centroid, conversion_eer, equal_error_rate, natural_similarity


def scores(*values):
    return torch.tensor(values, dtype=torch.float32)


def random(count, seed, shift=0.0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift


def around(place, count, spread=0.3, seed=0):
    """Unit vectors (count, dim) near a place (dim,)."""
    noise = torch.randn(count, len(place), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(place + spread * noise, dim=1)


@pytest.fixture
def people():
    """Five clips each of three speakers, far apart."""
    return {name: around(torch.eye(16)[place], 5, 0.05, place) for place, name in enumerate("abc")}


def test_what_a_threshold_separates_has_no_errors():
    assert equal_error_rate(scores(0.8, 0.9, 0.7), scores(0.1, 0.69, -0.5)) == 0
    assert equal_error_rate(scores(0.1, 0.69), scores(0.8, 0.7)) == 100  # the wrong way round


@pytest.mark.parametrize(
    ("same", "other", "rate"),
    [
        ([1], [1], 50),  # a tie: whichever way it is told, one of the two is wrong half of the time
        ([1, 1], [1, 0], 100 / 3),  # the line from (missed 0, taken 1/2) to (1, 0) crosses missed = taken at 1/3
        ([1, 3], [0, 2], 50),  # thresholds in (1, 2]: one of two is missed, one of two taken
        ([2, 3, 4, 5], [0, 1, 3.5, 4.5], 50),
        ([2, 3, 4, 5], [0, 1, 2.5, 3.5], 25),
        ([2, 3, 4, 5], [0, 1, 1.5, 2.5], 25),
        ([1, 2, 3, 4, 5], [0, 0, 1.5], 20),  # one of five is missed, while one of three, then none, is taken
        ([1, 4, 5], [0, 2], 100 / 3),  # one of three is missed, while one of two, then none, is taken
        ([0, 1], [0], 100 / 3),  # tie of a true and the only false: from (0, 1) to (1/2, 0)
    ],
)
def test_small_sets_by_hand(same, other, rate):
    assert equal_error_rate(scores(*same), scores(*other)) == pytest.approx(rate, abs=1e-9)


def test_what_cannot_be_told_apart_errs_half_of_the_time():
    values = random(500, 0)
    assert equal_error_rate(values, values) == pytest.approx(50, abs=1e-9)  # the same numbers: exactly
    assert equal_error_rate(random(4000, 1), random(3000, 2)) == pytest.approx(50, abs=2)
    assert equal_error_rate(torch.zeros(7), torch.zeros(3)) == pytest.approx(50, abs=1e-9)


def test_two_bells_err_as_their_formula_says():
    """Two normal distributions d apart: the threshold in the middle errs in Phi(-d / 2)."""
    for apart in (0.5, 1.0, 2.0):
        expected = 50 * math.erfc(apart / 2 / math.sqrt(2))
        assert equal_error_rate(random(40_000, 3, apart), random(30_000, 4)) == pytest.approx(expected, abs=0.5)


def test_better_scores_never_err_more():
    same, other = random(60, 5), random(45, 6)
    rates = [equal_error_rate(same + lift, other) for lift in torch.linspace(-3, 5, 33)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(rates))
    assert rates[0] > 80
    assert rates[-1] < 10
    for one in range(len(same)):
        lifted = same.clone()
        lifted[one] += 1
        assert equal_error_rate(lifted, other) <= equal_error_rate(same, other) + 1e-9


def test_only_the_order_of_scores_counts():
    same, other = random(50, 7, 1.0).mul(4).round(), random(80, 8).mul(4).round()  # with ties
    rate = equal_error_rate(same, other)
    for change in (torch.exp, torch.atan, lambda x: 3 * x - 100, lambda x: x**3):
        assert equal_error_rate(change(same.double()), change(other.double())) == pytest.approx(rate, abs=1e-9)
    assert equal_error_rate(same.flip(0), other.flip(0)) == rate
    assert equal_error_rate(-other, -same) == pytest.approx(rate, abs=1e-9)  # true and false change their parts
    assert equal_error_rate(same.repeat(3), other.repeat(7)) == pytest.approx(rate, abs=1e-9)


def test_against_the_curve_of_scikit_learn():
    same, other = random(90, 9, 1.0).mul(5).round(), random(70, 10).mul(5).round()
    labels = torch.cat([torch.ones(90), torch.zeros(70)])
    taken, right, _ = roc_curve(labels, torch.cat([same, other]), drop_intermediate=False)
    missed = 1 - right
    at = next(i for i, (m, t) in enumerate(zip(missed, taken, strict=True)) if m <= t)
    share = (missed[at - 1] - taken[at - 1]) / (missed[at - 1] - taken[at - 1] - missed[at] + taken[at])
    expected = 100 * (missed[at - 1] + share * (missed[at] - missed[at - 1]))
    assert equal_error_rate(same, other) == pytest.approx(expected, abs=1e-9)


def test_an_error_rate_needs_pairs_of_both_kinds():
    with pytest.raises(ValueError, match="there are 0 true and 2 false pairs; at least one of each is needed"):
        equal_error_rate(torch.zeros(0), torch.zeros(2))
    with pytest.raises(ValueError, match="2 true and 0 false"):
        equal_error_rate(torch.zeros(2), torch.zeros(0))


def test_the_centre_is_a_unit_vector_between_all():
    assert torch.allclose(centroid(torch.eye(4)[:2]), torch.tensor([0.5, 0.5, 0, 0]).sqrt())
    vectors = around(torch.eye(8)[0], 20)
    assert centroid(vectors).norm() == pytest.approx(1)
    assert torch.allclose(centroid(vectors[:1]), vectors[0])
    assert centroid(vectors) @ torch.eye(8)[0] > 0.95


def test_speakers_who_are_far_apart_are_told_apart(people):
    found = natural_similarity(people)
    assert found.same > 0.95
    assert abs(found.other) < 0.2
    assert found.eer == 0


def test_one_speaker_under_two_names_cannot_be_told_apart():
    clips = around(torch.eye(16)[0], 80, 0.3)
    found = natural_similarity({"a": clips[:40], "b": clips[40:]})
    assert found.eer == pytest.approx(50, abs=3)
    assert found.same == pytest.approx(found.other, abs=0.02)


def test_a_clip_does_not_count_for_its_own_centre():
    """At right angles to each other: with itself in the centre, each would seem to be near it."""
    found = natural_similarity({"a": torch.eye(6)[:3], "b": torch.eye(6)[3:]})
    assert found == (0, 0, 50)


def test_similarities_by_hand():
    c, s = math.cos(math.pi / 3), math.sin(math.pi / 3)
    found = natural_similarity({"a": torch.tensor([[1.0, 0], [c, s]]), "b": torch.tensor([[0.0, 1]])})
    assert found.same == pytest.approx(c)  # of both clips of a to the other; b has none
    middle = math.cos(math.pi / 3)  # from b to the centre of a, which is at 30 degrees
    assert found.other == pytest.approx((0 + s + middle) / 3)
    assert found.eer == pytest.approx(50)  # true: .5; false: 0 and .87


def test_what_clips_cannot_tell_is_none(people):
    assert natural_similarity({}) == (None, None, None)
    one = natural_similarity({"a": people["a"]})
    assert one.same is not None
    assert one[1:] == (None, None)
    single = natural_similarity({"a": people["a"][:1], "b": people["b"][:1], "nobody": torch.zeros(0, 16)})
    assert single.other is not None
    assert (single.same, single.eer) == (None, None)


def test_a_perfect_conversion_cannot_be_told_from_real_speech():
    real = around(torch.eye(16)[0], 60, 0.3)
    assert conversion_eer({"a": real[30:]}, {"a": real[:30]}) == pytest.approx(50, abs=3)


def test_a_conversion_that_stays_with_its_source_is_found_out(people):
    assert conversion_eer({"a": people["b"], "c": people["b"]}, people) == 0
    nearer = torch.nn.functional.normalize(people["a"].mean(0, keepdim=True), dim=1)  # more like a than a's own clips
    assert conversion_eer({"a": nearer}, people) > 50


def test_the_targets_of_a_conversion_are_judged_alone_then_averaged(people):
    converted = {"a": people["b"], "b": people["b"].clone()}
    alone = [conversion_eer({name: converted[name]}, people) for name in "ab"]
    assert alone[0] == 0
    assert conversion_eer(converted, people) == pytest.approx(sum(alone) / 2)


def test_a_conversion_is_not_judged_where_a_pair_lacks(people):
    assert conversion_eer({}, people) is None
    assert conversion_eer({"a": people["a"]}, {}) is None
    assert conversion_eer({"a": people["a"]}, {"a": people["a"][:1]}) is None
    assert conversion_eer({"a": torch.zeros(0, 16)}, people) is None
    left_out = {"a": people["b"], "c": people["c"]}
    assert conversion_eer(left_out, people | {"c": people["c"][:1]}) == conversion_eer({"a": people["b"]}, people) == 0
