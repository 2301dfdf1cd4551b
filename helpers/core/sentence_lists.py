"""Sentences as a list for a notebook's reader.

In: sentences, which may quote what somebody's table calls a group or a patient. Out: HTML in which
nothing that is quoted is read as markup; Markdown would.
"""

import html
from collections.abc import Iterable

MORE = "   "  # begins a sentence that goes on about the one before


def in_html(sentences: Iterable[str]) -> str:
    """Return sentences as a list; those that begin with `MORE` stand under the one before.

    Args:
        sentences: empty ones are left out.
    """
    items: list[list[str]] = []
    for sentence in filter(None, sentences):
        if not (sentence.startswith(MORE) and items):
            items.append([])
        items[-1].append(html.escape(sentence.strip()))
    return _listed([first + (_listed(more) if more else "") for first, *more in items])


def _listed(items: list[str]) -> str:
    """Return items of HTML as a list, a line each."""
    return "\n".join(["<ul>", *(f"<li>{item}</li>" for item in items), "</ul>"])
