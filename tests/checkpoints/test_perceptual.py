import sys
from importlib.util import find_spec

import pytest
import torch

from cogvx.checkpoints.perceptual import load_distance
from cogvx.errors import MissingError, ShapeError
from cogvx.models.st_lpips import STLPIPS

packaged = pytest.mark.skipif(find_spec("stlpips_pytorch") is None, reason="needs the package stlpips-pytorch")


def picture(seed, size=64):
    """A smooth picture in [-1, 1]."""
    coarse = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)


def test_none_is_none():
    assert load_distance("none") is None


@pytest.mark.parametrize("name,module", [("lpips", "lpips"), ("st-lpips", "stlpips_pytorch")])
def test_a_missing_package_is_named(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=f"pip install.*{module.replace('_', '-').split('-')[0]}|pip install.*cogvx"):
        load_distance(name)


def test_equal_pictures_have_no_distance_and_gradients_flow():
    torch.manual_seed(0)
    network = STLPIPS()
    x = picture(0).requires_grad_()
    assert network(picture(0), picture(0)).item() == 0
    network(picture(1), x).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_equal_pictures_have_finite_gradients():
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    STLPIPS()(torch.zeros(1, 3, 32, 32), x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("size", [21, 22, 37])
def test_small_pictures(size):
    assert STLPIPS()(torch.zeros(2, 3, size, size), torch.zeros(2, 3, size, size)).shape == (2,)


def test_pictures_that_are_too_small_are_named():
    with pytest.raises(ShapeError, match="21x21"):
        STLPIPS()(torch.zeros(1, 3, 20, 64), torch.zeros(1, 3, 20, 64))


@packaged
def test_the_weights_of_the_package_rank_distortions():
    distance = load_distance("st-lpips")
    x, noise = picture(0), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    weak, strong = (distance(x, x + strength * noise).item() for strength in (0.05, 0.4))
    assert distance(x, x).item() == 0
    assert 0 < weak < strong
    assert distance(x, x.roll(1, dims=3)).item() < strong
