import pytest

from cogvx.curation.questions import chosen, default_questions, parse_questions, read_questions
from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.errors import InputError, UsageError

MINE = """
answer = "yes-no"
system = "You judge clips."
user = "{frames} frames at {seconds} s: {labels} Answer like {\\"blur\\": \\"yes\\"} with {form}."
number_form = "a number"
yes_no_form = "yes or no"
again = "No: {error}"
[labels]
blur = '''Is it
blurred?'''
"""


def test_the_questions_that_come_along_ask_for_the_papers_labels():
    questions = default_questions()
    assert tuple(questions.labels) == NEGATIVE_LABELS
    task = questions.task([0.0, 1.25])
    assert all(f"- {label}: " in task for label in NEGATIVE_LABELS)
    assert "2 frames" in task and "0.00, 1.25 seconds" in task and "a number from 0 to 1" in task
    schema = questions.schema()
    assert schema["required"] == list(NEGATIVE_LABELS) and schema["additionalProperties"] is False


def test_own_questions_keep_their_braces_and_lose_their_line_breaks(tmp_path):
    (tmp_path / "q.toml").write_text(MINE)
    questions = read_questions(tmp_path / "q.toml")
    task = questions.task([0.5])
    assert task == '1 frames at 0.50 s: - blur: Is it blurred? Answer like {"blur": "yes"} with yes or no.'
    assert questions.schema()["properties"]["blur"] == {"type": "string", "enum": ["yes", "no"]}
    assert questions.complaint("{labels}") == "No: {labels}"


def test_the_hash_is_that_of_the_words():
    assert parse_questions(MINE, name="a").sha256() == parse_questions(MINE, name="b").sha256()
    assert (
        parse_questions(MINE.replace("blurred", "sharp"), name="a").sha256() != parse_questions(MINE, name="a").sha256()
    )


@pytest.mark.parametrize("value,number", [(0, 0.0), (1, 1.0), (0.25, 0.25), (True, 1.0), ("yes", 1.0), (" No ", 0.0)])
def test_answers_that_can_be_used(value, number):
    questions = chosen(default_questions(), ["text"])
    assert questions.read({"text": value}) == {"text": number}


@pytest.mark.parametrize("value", [1.5, -0.1, "maybe", None, [1], float("nan"), {"p": 1}, "0.5"])
def test_answers_that_cannot(value):
    questions = chosen(default_questions(), ["text"])
    with pytest.raises(InputError, match="text must be a number from 0 to 1, got"):
        questions.read({"text": value})


def test_a_number_is_no_yes():
    with pytest.raises(InputError, match='must be "yes" or "no"'):
        parse_questions(MINE, name="q").read({"blur": 0.7})


def test_keys_must_be_those_that_were_asked_for():
    questions = chosen(default_questions(), ["text", "editing"])
    with pytest.raises(InputError, match="text missing; unknown: blur"):
        questions.read({"editing": 1, "blur": 0})
    with pytest.raises(UsageError, match="no question for the label blur"):
        chosen(default_questions(), ["blur"])


@pytest.mark.parametrize(
    "change,message",
    [
        (("answer", "words"), "answer must be number or yes-no, got maybe"),
        (("blur =", "Blur ="), "small letters"),
        (("{error}", "that"), r"again must have \{error\} in it"),
        (("{labels}", "these"), r"user must have \{labels\} in it"),
        (('system = "You judge clips."', ""), "missing system"),
        (("[labels]", "extra = 1\n[labels]"), "unknown key extra"),
        (("[labels]", "[labels"), "not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_named(change, message):
    text = MINE.replace('"yes-no"', '"maybe"') if change[0] == "answer" else MINE.replace(*change)
    with pytest.raises(UsageError, match=message) as error:
        parse_questions(text, name="mine.toml")
    assert str(error.value).startswith("mine.toml")
