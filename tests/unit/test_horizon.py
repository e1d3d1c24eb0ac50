"""The horizon: only what was seen a grace ago is old enough, by this process's own clock."""

from app_srvc.messages.horizon import Horizon


def test_only_what_was_seen_a_grace_ago_is_within_the_horizon() -> None:
    moments = iter([0.0, 1.0, 2.0, 2.5, 60.0])
    horizon = Horizon(2.0, clock=lambda: next(moments))
    assert horizon.after_seeing(10) == 0
    assert horizon.after_seeing(20) == 0
    assert horizon.after_seeing(30) == 10
    assert horizon.after_seeing(30) == 10
    assert horizon.after_seeing(40) == 30


def test_without_a_grace_everything_is() -> None:
    assert Horizon(0.0).after_seeing(7) == 7
