import pytest
import torch
from films import real_clip

from cogvx.data.video import read_clip, resize_crop
from cogvx.errors import ShapeError
from cogvx.metrics.reconstruction import from_frames
from cogvx.metrics.vmaf import SMALLEST, load_vmaf, vmaf

pytest.importorskip("vmaf_torch")


def test_damage_lowers_it():
    clip = from_frames(resize_crop(read_clip(real_clip("bikes.mp4"), max_frames=3).frames, SMALLEST, SMALLEST))
    noisy = (clip + 0.05 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool3d(clip, (1, 5, 5), 1, (0, 2, 2), count_include_pad=False)
    network = load_vmaf()
    same, less, least = (vmaf(clip, other, network=network).item() for other in (clip, noisy, blurred))
    assert 95 < same <= 100 and same > less > least >= 0


def test_of_several_clips_each_has_its_own():
    clips = torch.rand(2, 3, 2, SMALLEST, SMALLEST, generator=torch.Generator().manual_seed(1))
    other = torch.stack([clips[0], clips[1] * 0.5])
    both = vmaf(clips, other)
    assert both.shape == (2,) and both[0] == vmaf(clips[:1], other[:1])[0] > both[1]


def test_small_frames_are_refused():
    clip = torch.zeros(1, 3, 2, SMALLEST - 1, SMALLEST)
    with pytest.raises(ShapeError, match="128x128"):
        vmaf(clip, clip)
