import pytest
import torch

from cogvx.errors import UsageError
from cogvx.models.rope import apply_rope, fitted_coordinates, rope_table, sliced_coordinates
from cogvx.models.sincos import sincos_table, timestep_sinusoid


def test_time_sinusoid_has_cosines_first():
    values = timestep_sinusoid(torch.tensor([999]), 1920)[0]
    expected = {0: 0.999650, 1: -0.990163, 959: 0.994918, 960: -0.026461, 961: 0.139922, 1919: 0.100692}
    assert {i: values[i].item() for i in expected} == pytest.approx(expected, abs=2e-5)


def test_fixed_table_of_2b():
    table = sincos_table(1920, (2, 30, 45), spatial_scale=1.875, temporal_scale=1.0)
    token = table[1 * 30 * 45 + 2 * 45 + 3]
    expected = {
        0: 0.841471,
        239: 0.000104,
        240: 0.540302,
        480: 0.999574,
        840: -0.029200,
        1200: 0.875595,
        1560: 0.483046,
    }
    assert {i: token[i].item() for i in expected} == pytest.approx(expected, abs=1e-5)


def test_rotary_table_of_5b():
    rows, columns = fitted_coordinates((30, 45), (30, 45))
    assert torch.equal(rows, torch.arange(30.0))
    assert torch.equal(columns, torch.arange(45.0))
    cos, sin = rope_table(64, 2, rows, columns)
    token = 1 * 30 * 45 + 2 * 45 + 3
    expected = {0: 0.540302, 1: 0.540302, 2: 0.950415, 16: -0.416147, 18: 0.599182, 40: -0.989992, 42: 0.177376}
    assert {i: cos[token, i].item() for i in expected} == pytest.approx(expected, abs=1e-5)
    expected = {0: 0.841471, 2: 0.310984, 16: 0.909297, 18: 0.800613, 40: 0.141120, 42: 0.984143}
    assert {i: sin[token, i].item() for i in expected} == pytest.approx(expected, abs=1e-5)


def test_rotation_depends_on_the_distance_only():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 64, generator=generator)
    cos, sin = rope_table(64, 6, torch.tensor([0.0]), torch.tensor([0.0]))

    def score(i, j):
        return (
            apply_rope(q[None], (cos[i : i + 1], sin[i : i + 1]))
            * apply_rope(k[None], (cos[j : j + 1], sin[j : j + 1]))
        ).sum()

    assert torch.allclose(score(1, 3), score(2, 4), atol=1e-5)
    assert not torch.allclose(score(1, 3), score(1, 4), atol=1e-3)


@pytest.mark.parametrize("grid", [(20, 45), (30, 20), (15, 15), (48, 45)])
def test_fitted_coordinates_equal_diffusers(grid):
    pytest.importorskip("diffusers")
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    crops = get_resize_crop_region_for_grid(grid, 45, 30)
    expected = get_3d_rotary_pos_embed(64, crops, grid, 3)
    got = rope_table(64, 3, *fitted_coordinates(grid, (30, 45)))
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_slices_end_at_the_table():
    with pytest.raises(UsageError, match="150x150"):
        sliced_coordinates((151, 10), (150, 150))
