"""The bytes that browsers ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogvx.serving.ranges import wanted_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-30", (70, 100)),
        ("bytes=-300", (0, 100)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=1-2,5-6", None),
        ("items=1-2", None),
        ("bytes=a-b", None),
        ("bytes=1" + "0" * 100 + "-", None),
    ],
)
def test_ranges_of_a_hundred_bytes(header, expected):
    assert wanted_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=500-600", "bytes=-0"])
def test_ranges_behind_the_end(header):
    with pytest.raises(ValueError):
        wanted_range(header, 100)


@given(header=st.text(max_size=40) | st.from_regex(r"bytes=[0-9]*-[0-9]*", fullmatch=True), size=st.integers(0, 1000))
def test_any_header_gives_bytes_of_the_file(header, size):
    try:
        found = wanted_range(header, size)
    except ValueError:
        return
    assert found is None or 0 <= found[0] < found[1] <= size
