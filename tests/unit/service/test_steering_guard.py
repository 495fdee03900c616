"""When the rules are restored again. tests/e2e/test_steering_guard.py has the real thing."""

from conntrackd_py.service.steering_guard import CONTESTED, LASTING, LONGEST, PATIENT, Attempts


def test_rules_that_last_are_restored_at_once() -> None:
    attempts, now = Attempts(), 100.0
    for _ in range(1000):
        attempts.lost(now)
        assert (attempts.at <= now, attempts.contested) == (True, False)
        attempts.restored(now)
        now += LASTING


def test_rules_that_do_not_last_are_restored_less_often() -> None:
    attempts, now, waits = Attempts(), 100.0, []
    for _ in range(PATIENT + 9):
        attempts.lost(now)
        waits.append(max(attempts.at - now, 0.0))
        now = max(now, attempts.at)
        attempts.restored(now)
        now += LASTING / 2
    assert waits == [0.0] * (PATIENT + 1) + [CONTESTED] * 8


def test_a_fight_that_is_over_is_forgotten() -> None:
    attempts = Attempts()
    for now in range(PATIENT + 9):
        attempts.restored(now + 100.0)
        attempts.lost(now + 100.0)
    attempts.restored(1000.0)
    attempts.lost(1000.0 + LASTING)
    assert (attempts.contested, attempts.at < 1000.0) == (False, True)


def test_a_failure_is_repeated_less_and_less_often() -> None:
    attempts, waits = Attempts(), []
    for _ in range(10):
        attempts.refused(100.0)
        waits.append(attempts.at - 100.0)
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 32, LONGEST, LONGEST]
    attempts.restored(200.0)
    attempts.refused(300.0)
    assert attempts.at == 300.25
