"""What is kept of a line that the program has begun looks the same when it is written again."""

import pytest

from ray.runtime.driver.own_line import OwnLine


def line(*texts):
    own = OwnLine()
    for text in texts:
        own.take(text)
    return own


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["a"], "a"),
        (["a", "b", ""], "ab"),
        (["a\n"], ""),
        (["a\nb"], "b"),
        (["\r10%", "\r20%"], "20%"),
        (["long state", "\rshort"], "long state\rshort"),
        (["long state", "\rshort", "\ra long state"], "a long state"),
        (["bar", "\r   \r"], "   \r"),
        (["bar\r"], "bar\r"),
        (["\r\x1b[32mbar\x1b[0m"], "\x1b[32mbar\x1b[0m"),
        (["wide 日本", "\rwide 12345"], "wide 12345"),
    ],
)
def test_kept(texts, kept):
    own = line(*texts)
    assert (own.text, own.is_known) == (kept, True)


@pytest.mark.parametrize("text", ["a\x1b[1A", "a\tb", "\x1b[K", "\x08", "a" * 5000])
def test_what_moves_the_cursor_is_not_known_before_the_line_ends(text):
    own = line(text, "more")
    assert not own.is_known
    assert not own.fits(80)
    own.take("end\nnext")
    assert (own.text, own.is_known) == ("next", True)


def test_what_takes_more_than_a_row_does_not_fit():
    assert line("a" * 79).fits(80)
    assert not line("a" * 80).fits(80)
    assert line("日" * 39).fits(80)
    assert not line("日" * 40).fits(80)
    assert not line("a" * 80, "\rb").fits(80)


def test_a_bar_begins_anew():
    assert line("\ra").is_bar
    assert not line("a").is_bar
    assert not line("\ra\nb").is_bar
