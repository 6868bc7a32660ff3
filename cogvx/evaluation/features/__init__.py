"""Networks that turn clips into vectors, for the distances between sets of clips: one door for all of them."""

from cogvx.evaluation.features.network import NETWORKS, Sampling, VideoNetwork
from cogvx.evaluation.features.open import NetworkSpec, open_video_network

__all__ = ["NETWORKS", "NetworkSpec", "Sampling", "VideoNetwork", "open_video_network"]
