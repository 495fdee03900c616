"""The arguments of a request: looked up and checked, with a sentence for each mistake."""

from collections.abc import Mapping, Sequence

from conntrackd_py.control.query import shown


class RequestError(ValueError):
    """What is wrong with a request, in words for the one who sent it."""


def table_of(request: Mapping[str, object], tables: Sequence[str]) -> str:
    """The request's table. Raises RequestError when it is none of these."""
    table = request.get("table", "conntrack")
    if not isinstance(table, str) or table not in tables:
        raise RequestError(f"unknown table {shown(table)}, one of {', '.join(tables)}")
    return table


def object_of(request: Mapping[str, object], key: str) -> Mapping[str, object]:
    """A part of the request. Raises RequestError when it is absent or no object."""
    value = request.get(key)
    if not isinstance(value, dict):
        raise RequestError(f"{request.get('command')} needs {key}, a JSON object, not {shown(value)}")
    return value


def yes(request: Mapping[str, object], key: str) -> bool:
    """A switch of the request, off when it is absent. Raises RequestError when it is neither true nor false."""
    value = request.get(key, False)
    if not isinstance(value, bool):
        raise RequestError(f"{key} is true or false, not {shown(value)}")
    return value


def without(request: Mapping[str, object], key: str) -> None:
    """Raises RequestError for an argument that has no meaning with this table."""
    if key in request:
        raise RequestError(f"{request.get('command')} of {request.get('table', 'conntrack')} takes no {key}")
