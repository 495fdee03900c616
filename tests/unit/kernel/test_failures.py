"""Our own mistakes in the log."""

from structlog.testing import capture_logs

from conntrackd_py.kernel import failures
from conntrackd_py.kernel.failures import FailureLog, place_of


def mistake(divisor: int) -> Exception:
    try:
        return ValueError(str(1 // divisor))
    except ZeroDivisionError as error:
        return error


def test_a_place_is_logged_once() -> None:
    log = FailureLog("it_failed")
    with capture_logs() as logs:
        for _ in range(1000):
            log.note(mistake(0), what="x")
        log.note(mistake(1))
    assert [(entry["event"], entry.get("what")) for entry in logs] == [("it_failed", "x"), ("it_failed", None)]
    assert logs[0]["place"].startswith(f"{__file__}:")
    assert logs[1]["place"] == "ValueError"


def test_the_places_are_bounded() -> None:
    log = FailureLog("it_failed")
    with capture_logs() as logs:
        for number in range(1000):
            log.note(type(f"Error{number}", (Exception,), {})())
    assert len(logs) == len(log.logged) == failures.PLACES_LOGGED


def test_a_place_is_where_it_was_raised() -> None:
    assert place_of(mistake(0)).startswith(f"{__file__}:")
