"""Our docstrings, plain text with `code`, in the form that Sphinx reads.

In: the lines of a docstring. Out: lines of reStructuredText in which indented lists are bullets,
other indented text is literal, and nothing but `code` is markup.
"""

import re
import textwrap

SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Guarantees|Source|Note)s?:")
ITEM = re.compile(r"`?[A-Za-z_][\w`, .*]*: ")


def for_sphinx(lines: list[str]) -> list[str]:
    """Return the docstring's lines with each paragraph in a form that cannot be misread."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    return [line for paragraph in paragraphs for line in [*_form(paragraph), ""]]


def _form(paragraph: str) -> list[str]:
    """Return a paragraph's lines: a section, a list, literal text or plain text."""
    first, *rest = paragraph.split("\n")
    if SECTION.fullmatch(first) and rest:
        body = textwrap.dedent("\n".join(rest)).split("\n")
        if first in ("Returns:", "Yields:"):  # napoleon would take words before a colon for a type
            return [f":{first.lower()}", *(f"    {line}" for line in _bullets(body))]
        return [first, *(f"    {_escaped(line)}" for line in body)]
    body = textwrap.dedent(paragraph).split("\n")
    if paragraph.startswith(" ") and ITEM.match(body[0]):
        return _bullets(body)
    if any(line.startswith(" ") for line in paragraph.split("\n")):
        return ["::", "", *(f"    {line}" for line in body)]
    return [_escaped(line) for line in body]


def _bullets(lines: list[str]) -> list[str]:
    """Return "name: text" items, each with its further lines, as one bullet; or one paragraph."""
    if not ITEM.match(lines[0]):
        return [_escaped(" ".join(line.strip() for line in lines))]
    items: list[str] = []
    for line in lines:
        if ITEM.match(line) or not items:
            items.append(f"- {line}")
        else:
            items[-1] += f" {line.strip()}"
    return [_escaped(item) for item in items]


def _escaped(line: str) -> str:
    """Return a line in which only `code` is markup."""
    pieces = re.split(r"(`[^`]+`)", line)
    return "".join(
        piece
        if piece.startswith("`")
        else re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", re.sub(r"([*|])", r"\\\1", piece))
        for piece in pieces
    )
