"""What the system or a library has against a file is a sentence at each door."""

import pyarrow as pa
import pytest

from rnn_crosscheck.harness.errors import CrosscheckError, UsageError, in_a_sentence


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "a/report.md"), r"No space left on device: 'a/report\.md'\."),
        (MemoryError(), r"there isn't memory enough\."),
        (RecursionError("maximum recursion depth exceeded"), r"nested too deeply\."),
        (pa.ArrowInvalid("Not a Parquet file\nat line 1"), r"Not a Parquet file\."),
    ],
)
def test_it_says_what_could_not_be_done_and_why(error: Exception, said: str) -> None:
    with pytest.raises(CrosscheckError, match=rf"^It can't be read: .*{said}$"), in_a_sentence("It can't be read"):
        raise error


@pytest.mark.parametrize("error", [KeyError("ours"), UsageError("A sentence.")])
def test_a_mistake_of_ours_and_what_is_a_sentence_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, in_a_sentence("It can't be read"):
        raise error
    assert caught.value is error
