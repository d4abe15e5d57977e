"""The blocks of a page of docs/ that are to be run, and the output that it shows for them.

What counts as such a block:

- ```python``` is run in the page's namespace. A `text` block right after it is what it prints;
- ```console``` holds commands after "$ ", each followed by what it prints;
- a code block with a caption is a file of that name in the page's folder;
- a comment <!-- ... --> right before a block is a mark: see `MARKS`.

Every other block is only shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from parity.contract import STAGES

__all__ = [
    "DOCS",
    "MARKS",
    "PAGES",
    "Block",
    "Command",
    "blocks",
    "commands",
    "inline_commands",
    "is_as_shown",
    "is_shown",
]

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)

MARKS = {
    "any digits": "no number is compared, nor which tensor is a stage's worst",
    "an example": "only the number of lines is compared",
    "without CUDA": "it is run only where there is no CUDA",
}

_COMMENT = re.compile(r"<!-- (.*?) -->\s*")
_OPTION = re.compile(r":(\w+): *(.*)\n")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: its language, text, caption ("" without), first line in the page, marks, and output shown."""

    language: str
    text: str
    line: int
    caption: str = ""
    marks: frozenset[str] = frozenset()
    output: str = ""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a `console` block and what the page shows that it prints."""

    command: str
    output: str


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, in order; a `text` block that is a Python block's output is part of that."""
    tokens = [token for token in MarkdownIt().parse(text) if token.level == 0]
    shown = {id(after): before for before, after in pairwise(tokens) if _is_output(before, after)}
    outputs = {id(before): after for before, after in pairwise(tokens) if id(after) in shown}
    for before, token in pairwise([Token("", "", 0), *tokens]):
        if token.type == "fence" and id(token) not in shown:
            after = outputs.get(id(token))
            yield _block(token, marks=_marks(before), output=after.content if after else "")


def _is_output(before: Token, after: Token) -> bool:
    return before.type == after.type == "fence" and before.info == "python" and after.info == "text"


def _block(token: Token, *, marks: frozenset[str], output: str) -> Block:
    """A fence as a block; {code-block} has its language behind it, and options before the text."""
    text, options = token.content, {}
    directive, _, language = token.info.partition(" ")
    while directive == "{code-block}" and (option := _OPTION.match(text)):
        options[option[1]] = option[2]
        text = text[option.end() :].lstrip("\n")
    return Block(
        language=language if directive == "{code-block}" else token.info,
        text=text,
        line=token.map[0] + 1 if token.map else 0,
        caption=options.get("caption", ""),
        marks=marks,
        output=output,
    )


def _marks(token: Token) -> frozenset[str]:
    """The marks of a comment; any other comment has none."""
    found = _COMMENT.fullmatch(token.content) if token.type == "html_block" else None
    return frozenset({found[1]} & MARKS.keys()) if found else frozenset()


def commands(block: Block) -> list[Command]:
    """The commands of a `console` block; a line that ends in a backslash goes on in the next."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if parts[0].strip():
        raise ValueError(f"line {block.line}: the block does not begin with '$ '")
    return [_command(part) for part in parts[1:]]


def _command(part: str) -> Command:
    line = re.match(r"(?:.*\\\n)*.*\n?", part)
    assert line  # the pattern matches any text
    return Command(command=line[0].strip(), output=part[line.end() :])


def inline_commands(text: str) -> list[str]:
    """The `parity ...` commands within the text."""
    outside = "".join(token.content + "\n" for token in MarkdownIt().parse(text) if token.type == "inline")
    return [" ".join(found.split()) for found in re.findall(r"`(parity [a-z][^`]*)`", outside)]


_NUMBER = re.compile(r"\d+(?:\.\d+)+(?:\+\w+)?(?:e[+-]\d+)?|\d+e[+-]\d+")
_ANY_NUMBER = re.compile(r"[-+]?\b\d[\d,]*(?:\.\d+)*(?:\+\w+)?(?:e[+-]?\d+)?")
_STAGES = "|".join(stage for stage in STAGES if stage != "activations")
_WORST = re.compile(
    rf"^(?:{_STAGES}), \S+|\((?:{_STAGES}|activations)(?:, [^()]*)?\)|\([\w.]+(?:, step \d+)?\)", re.MULTILINE
)


def is_as_shown(ran_by: Block, shown: str, printed: str) -> bool:
    """Whether a block printed what the page shows, as its marks have it."""
    if "an example" in ran_by.marks:
        return len(shown.splitlines()) == len(printed.splitlines())
    return is_shown(shown, printed, any_digits="any digits" in ran_by.marks)


def is_shown(shown: str, printed: str, *, any_digits: bool = False) -> bool:
    """Whether this is what is printed, but for what differs from machine to machine.

    Numbers with a point or an exponent, versions among them, are compared as "a number", others to the digit; with
    `any_digits` no number is, nor the tensor of a row "stage, tensor". Any white space is as good as any other. "..."
    stands for any text.

    >>> is_shown("loss 2.31 after 40 steps", "loss   2.29 after 40 steps")
    True
    >>> is_shown("loss 2.31 after 40 steps", "loss   2.29 after 41 steps")
    False
    """
    pieces = (_masked(piece, any_digits=any_digits) for piece in shown.split("..."))
    pattern = r"\s*.*?\s*".join(re.escape(piece) for piece in pieces)
    return re.fullmatch(rf"\s*{pattern}\s*", _masked(printed, any_digits=any_digits), re.DOTALL) is not None


def _masked(text: str, *, any_digits: bool) -> str:
    text = _ANY_NUMBER.sub("#", _WORST.sub("#", text)) if any_digits else _NUMBER.sub("#", text)
    return " ".join(text.split())
