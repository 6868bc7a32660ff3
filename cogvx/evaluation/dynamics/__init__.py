"""How much happens in clips, and how good clips are at every amount of it (DEVIL's protocol).

The way from videos to numbers of a model is DEVIL's; how much happens in one video is told by a level model of our own,
since DEVIL's is a pickle. So the numbers are called dynamics@cogvx and dynamics_quality@cogvx.

Source: Liao et al.: Evaluation of Text-to-Video Generation Models: A Dynamics Perspective (arXiv 2407.01094).
"""
