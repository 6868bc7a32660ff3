"""JSON out of what language models write."""

import pytest

from cogvx.errors import InputError
from cogvx.language.json_answer import read_object


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        ' \n{"a": 1}\n',
        '```json\n{"a": 1}\n```',
        'Sure! {not this} but {"a": 1}. And {"a": 2} too.',
        '{"a": 1} trailing }',
    ],
)
def test_the_first_object_is_found(text):
    assert read_object(text) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["", "no", "[1, 2]", '{"a": 1', '{"a": NaN}', "{" * 100_000, '{"a":' * 100_000, "\x1b[31m{"]
)
def test_everything_else_is_refused(text):
    with pytest.raises(InputError, match="no JSON object") as caught:
        read_object(text)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 300
