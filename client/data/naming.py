"""A source's names of columns: which one is meant, and whether they may be shown at all.

The first line of a file without a header has a patient's values in place of names, and nothing in
the file says so. What is asked for does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence


def are_names(offered: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether a source's names are such, for all that can be told, and no patient's values.

    None begins with a digit, and one is asked for, whatever its case, blanks and units.

    Args:
        offered: All that the source has.
        asked: What somebody looks for in this source.

    >>> are_names(["Age (years)", "f"], ["age", "sex"]), are_names(["Zaphod", "f"], ["age", "sex"])
    (True, False)
    """
    if any(name.strip().lstrip("+-")[:1].isdigit() for name in offered):
        return False
    return not {_plain(name) for name in offered}.isdisjoint(map(_plain, asked))


def listed(offered: Sequence[str], asked: Sequence[str]) -> str:
    """A source's names for a message, if they are names; see `are_names`.

    >>> listed(["age", "sex"], ["Age"])
    'age, sex'
    >>> listed(["61", "f"], ["age"])
    'names that may be values, not shown: is the first line a record?'
    """
    if are_names(offered, asked):
        return ", ".join(offered)
    return "names that may be values, not shown: is the first line a record?"


def nearest(name: str, offered: Sequence[str]) -> str | None:
    """The offered name that most likely means the same, whatever its case, blanks and units.

    >>> nearest("heart_rate", ["Pulse", "Heart rate (1/min)"])
    'Heart rate (1/min)'
    """
    plain = {other: _plain(other) for other in offered}
    same = [other for other, text in plain.items() if text == _plain(name)]
    whole = [
        other for other, text in plain.items() if text.startswith(_plain(name)) and _plain(name)
    ]
    close = difflib.get_close_matches(_plain(name), plain.values(), n=1)
    alike = [other for other, text in plain.items() if text in close]
    return next(iter((*same, *alike, *sorted(whole, key=len))), None)


def _plain(name: str) -> str:
    """Letters and digits of a name, without a remark in brackets."""
    return re.sub(r"[\W_]", "", re.sub(r"[\[(].*[\])]", "", name)).casefold()
