"""Ctrl-C and SIGTERM, whatever is in hand."""

import os
import signal

import pytest

from muybridge.runtime.signals import stop_signals

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def asked(number):
    os.kill(os.getpid(), number)


def misunderstood(number):
    """As NumPy does, where it compares structured arrays, with whatever is raised there."""
    try:
        asked(number)
    except KeyboardInterrupt:
        raise TypeError("Cannot compare structured arrays unless they have a common dtype") from None


def unheard(number):
    try:
        asked(number)
    except KeyboardInterrupt:
        return


def during(work, *numbers, later=False, at_once=False):
    """Which signals' work was come through."""
    done = []

    def worked():
        for number in numbers:
            work(number)
            done.append(number)

    def stopped_or_not(stop):
        if not later:
            return worked()
        with stop.later():
            if not at_once:
                return worked()
            with stop.at_once():
                worked()
            done.append("the rest")

    try:
        with stop_signals() as stop:
            stopped_or_not(stop)
    except KeyboardInterrupt:
        return [*done, "stopped"]
    assert stop.asked
    return done


@SIGNALS
def test_it_breaks_off_on_the_spot_unless_it_is_to_wait(number):
    assert during(asked, number) == ["stopped"]
    assert during(asked, number, later=True) == [number]
    assert during(asked, number, number, later=True) == [number, "stopped"]
    assert during(asked, number, later=True, at_once=True) == ["stopped"]


@SIGNALS
@pytest.mark.parametrize("at_once", [False, True])
def test_a_library_that_makes_another_error_of_it_does_not_hide_it(number, at_once):
    assert during(misunderstood, number, later=at_once, at_once=at_once) == ["stopped"]


@SIGNALS
@pytest.mark.parametrize("at_once", [False, True])
def test_a_library_that_takes_no_notice_does_not_hide_it(number, at_once):
    assert during(unheard, number, later=at_once, at_once=at_once) == [number, "stopped"]


def test_an_error_nobody_asked_for_stays_itself():
    with pytest.raises(ValueError, match="damaged"), stop_signals() as stop, stop.later(), stop.at_once():
        raise ValueError("damaged")


@SIGNALS
def test_one_that_was_not_heard_is_known_later(number):
    """So that training that began all the same ends at its first step."""
    known = []

    def not_heard():
        with stop_signals() as stop:
            unheard(number)
            with stop.later():
                known.append(stop.asked)

    with pytest.raises(KeyboardInterrupt):
        not_heard()
    assert known == [True]
