"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LIKENESS = 0.6
"""How much two words have in common, of 1, for one to be taken for the other misspelt."""

COMPARED_MAX = 5_000
"""Most words that are compared; a misspelt name among more costs too much time."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'tcp'?` if a known word is like this one, else nothing."""
    words = list(dict.fromkeys(known))
    if len(words) > COMPARED_MAX or len(word) > 255:
        return ""
    by_folded = {each.casefold(): each for each in words}
    like = get_close_matches(word.casefold(), by_folded, n=1, cutoff=LIKENESS)
    return f": did you mean {by_folded[like[0]]!r}?" if like else ""
