"""What selectors mean, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iosfarm.ir.errors import UsageError
from iosfarm.zoo.device_selector import Selector


@pytest.mark.parametrize("text", ["sim:v100?noise=0&noise=1", "cpu?node=a&node=a", "sim:v100?count=1&noise=0&count=2"])
def test_an_option_that_is_given_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is given twice; leave one of them out"):
        Selector.parse(text)


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "日本", "a b", "x" * 300, "50%", "[", "a;b"])
def test_odd_names_are_names(name: str) -> None:
    """A bracket opens no pattern where none closes it."""
    chosen = Selector.parse(f"cpu?node={name.replace('%', '%25')}")
    assert chosen.takes_node("elsewhere", name.upper())
    assert not chosen.takes_node("elsewhere")


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_one_line_of_an_error(text: str) -> None:
    said = ""
    try:
        Selector.parse(text)
    except UsageError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


def test_options_that_begin_with_the_wrong_sign_are_told_so() -> None:
    with pytest.raises(
        UsageError, match=r"sim:v100&count=2&noise=0: options begin with \?; write sim:v100\?count=2&noise=0"
    ):
        Selector.parse("sim:v100&count=2&noise=0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no device is named; use auto, cpu, cuda, "),
        ("  ", "no device is named; use auto, cpu, cuda, "),
        ("?count=2", "?count=2: no device is named; use auto, cpu, cuda, "),
        ("cpu, cuda", "cpu, cuda: a selector names one kind of device; write a list in the zoo, devices: [cpu, cuda]"),
        ("auto?node=x", "auto?node=x: auto takes no options; write cpu?node=x, or cuda"),
        ("CPU", "CPU: unknown device 'CPU'; did you mean cpu?"),
        ("Cuda?count=2", "Cuda?count=2: unknown device 'Cuda'; did you mean cuda?"),
    ],
)
def test_what_is_forgotten_or_guessed_is_told_what_to_write(text: str, said: str) -> None:
    with pytest.raises(UsageError) as told:
        Selector.parse(text)
    assert str(told.value).startswith(said)
