"""Knockoffs, and the gates that are trained against them."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hwprune.errors import DataError, HwpruneError
from hwprune.graph.coupling import analyze
from hwprune.importance.criterion import cross_entropy
from hwprune.importance.knockoffs import GaussianKnockoffs, NewImages, SwappedPatches, largest
from hwprune.importance.scop import Scop

BLOCKS = [(1, 1, 1, 1, 1, 1), (2, 1, 3), (6,)]


def samples(count: int, seed: int = 0) -> np.ndarray:
    """Of six features that depend on each other."""
    random = np.random.default_rng(seed)
    return random.standard_normal((count, 6)) @ random.standard_normal((6, 6)) + np.arange(6.0)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_swapping_any_blocks_leaves_mean_and_covariance(blocks: tuple[int, ...]) -> None:
    knockoffs = GaussianKnockoffs.of(samples(500), blocks)
    edges = np.cumsum([0, *blocks])
    ranges = [np.arange(first, last) for first, last in pairwise(edges)]
    assert np.linalg.eigvalsh(knockoffs.joint).min() > -1e-9
    for chosen in (some for size in range(len(blocks) + 1) for some in combinations(ranges, size)):
        order = np.arange(12)
        for features in chosen:
            order[features], order[features + 6] = features + 6, features

        np.testing.assert_allclose(knockoffs.joint[np.ix_(order, order)], knockoffs.joint, atol=1e-12)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_what_is_drawn_has_that_covariance(blocks: tuple[int, ...]) -> None:
    knockoffs = GaussianKnockoffs.of(samples(500), blocks)
    own = np.random.default_rng(1).multivariate_normal(knockoffs.mean, knockoffs.covariance, 200_000)
    drawn = knockoffs.draw(own, np.random.default_rng(2))
    size = np.abs(knockoffs.joint).max()

    np.testing.assert_allclose(np.cov(np.hstack([own, drawn]).T) / size, knockoffs.joint / size, atol=0.02)
    np.testing.assert_allclose(drawn.mean(0), knockoffs.mean, atol=0.05 * size**0.5)


@given(seed=st.integers(0, 1000), blocks=st.sampled_from(BLOCKS))
def test_no_larger_share_of_the_blocks_would_do(seed: int, blocks: tuple[int, ...]) -> None:
    covariance = np.cov(samples(20, seed).T)
    removed = largest(covariance, blocks)
    share = removed[0, 0] / covariance[0, 0]

    assert 0 < share < 1 and np.linalg.eigvalsh(2 * covariance - removed).min() >= 0
    assert share > 0.999 or np.linalg.eigvalsh(2 * covariance - 1.01 * removed).min() < 0
    assert share > 0.999 or len(blocks) > 1


def test_new_images_have_the_mean_and_covariance_of_the_old_ones() -> None:
    seen = torch.randn(40, 2, 3, 3, generator=torch.Generator().manual_seed(0)).cumsum(2) + 1
    drawn = NewImages.of(seen, 0)(torch.zeros(100_000, 2, 3, 3)).flatten(1).double()
    own = seen.flatten(1).double()

    torch.testing.assert_close(drawn.mean(0), own.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), own.T.cov(), atol=0.1, rtol=0)


def test_patches_of_smooth_images_are_nearly_their_own_knockoffs_and_those_of_noise_are_not() -> None:
    noise = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = functional.avg_pool2d(functional.pad(noise, (3, 3, 3, 3), mode="reflect"), 7, stride=1)

    def alike(images: Tensor) -> float:
        drawn = SwappedPatches.of(images, 0, most_side=4)(images)
        assert drawn.shape == images.shape
        return float(torch.corrcoef(torch.stack([images.flatten(), drawn.flatten()]))[0, 1])

    assert alike(smooth) > 0.95 and alike(noise) < 0.3


class Two(nn.Module):
    """Two convolutions with norms; the second one's output is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)
        self.second, self.other = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.other(self.second(x))).mean((2, 3)))


def shuffled() -> Shuffled:
    """A generator of one's own."""
    return Shuffled()


class Shuffled:
    def __call__(self, images: Tensor) -> Tensor:
        return images.flip(0)


def test_gates_are_those_of_the_networks_forward_written_out() -> None:
    torch.manual_seed(0)
    model = Two().eval()
    network = analyze(model, torch.zeros(1, 2, 5, 5))
    batches = [(torch.randn(6, 2, 5, 5), torch.randint(2, (6,))) for _ in range(2)]
    found = Scop("tests.importance.test_scop:shuffled", steps=5, lr=0.05).scores(model, network, batches, cross_entropy)

    first, second = (torch.full((count,), 0.5, requires_grad=True) for count in (3, 4))
    optimizer = torch.optim.Adam([first, second], lr=0.05, betas=(0.5, 0.9))

    def gated(x: Tensor, gate: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        real, knockoff = x.chunk(2)
        gate = gate[:, None, None]
        x = torch.cat([gate * real + (1 - gate) * knockoff, knockoff])
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        x = (x - mean) / (variance + norm.eps).sqrt()
        return torch.relu(x * norm.weight.detach()[:, None, None] + norm.bias.detach()[:, None, None])

    for step in range(5):
        images, labels = batches[step % 2]
        x = gated(model.first(torch.cat([images, images.flip(0)])).detach(), first, model.norm)
        x = gated(functional.conv2d(x, model.second.weight.detach()), second, model.other)
        outputs = model.head(x.mean((2, 3)))[:6]
        optimizer.zero_grad()
        functional.cross_entropy(outputs, labels).backward()
        optimizer.step()
        with torch.no_grad():
            first.clamp_(0, 1), second.clamp_(0, 1)
    worth = {
        "first": (model.norm.weight.abs() * (2 * first - 1)).detach(),
        "second": (model.other.weight.abs() * (2 * second - 1)).detach(),
    }
    least = min(float(values.min()) for values in worth.values())

    for name, values in worth.items():
        np.testing.assert_allclose(found[name], values.double() - least, atol=2e-4)


def test_a_channel_that_tells_the_classes_apart_is_worth_more_than_noise() -> None:
    torch.manual_seed(0)
    labels = torch.randint(2, (128,))
    images = torch.randn(128, 2, 4, 4)
    images[:, 0] += 3.0 * labels[:, None, None] - 1.5
    model = nn.Sequential(
        nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.view(2, 2).copy_(torch.eye(2))
        model[4].weight.copy_(torch.tensor([[-3.0, 1.0], [3.0, -1.0]]))
    network = analyze(model.eval(), torch.zeros(1, 2, 4, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = Scop(steps=60).scores(model, network, [(images, labels)], cross_entropy)["0"]

    assert scores[0] > scores[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_no_image_or_no_generator_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    network = analyze(model, torch.zeros(1, 4))
    with pytest.raises(DataError, match="needs batches of images"):
        Scop().scores(model, network, [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))], cross_entropy)
    with pytest.raises(HwpruneError, match="knockoffs of the importance"):
        Scop("gan")
    with pytest.raises(HwpruneError, match="steps of the importance"):
        Scop(steps=0)
