"""The tests of the pages can fail: a wrong page does not pass."""

from __future__ import annotations

import pytest

from tests.docs.pages import blocks, commands, inline_commands, is_as_shown, is_shown
from tests.docs.refresh import refreshed
from tests.docs.running import run_page


def ran(text, folder):
    return [(one.passed, one.as_shown, one.printed) for one in run_page(text, folder)]


def test_blocks_of_a_page_share_names_and_a_folder(tmp_path):
    page = (
        "```python\nx = 6\nopen('f', 'w').write(str(x))\n```\n\n"
        "```python\nprint(7 * x)\n```\n\n```text\n42\n```\n\n"
        "```console\n$ cat f\n6\n```\n"
    )
    assert ran(page, tmp_path) == [(True, True, ""), (True, True, "42\n"), (True, True, "6")]


@pytest.mark.parametrize(
    ("page", "passed", "as_shown"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", True, False),
        ("```python\nprint(1)\n```\n\nMore.\n", True, False),  # it prints, and nothing is shown
        ("```python\nimport warnings\nwarnings.warn('x')\n```\n", True, False),
        ("```python\n1 / 0\n```\n", False, False),
        ("```console\n$ echo 1\n2\n```\n", True, False),
        ("```console\n$ false\n```\n", False, True),
        ("```console\n$ echo x >&2\n```\n", True, False),
        ("```console\n$ no-such-command-at-all\n...\n```\n", False, True),
    ],
)
def test_a_wrong_page_is_found_out(page, passed, as_shown, tmp_path):
    ((found_passed, found_shown, _),) = ran(page, tmp_path)
    assert (found_passed, found_shown) == (passed, as_shown)


def test_an_exit_code_that_is_shown_may_be_any_but_must_be_right(tmp_path):
    assert ran("```console\n$ (exit 3)\n$ echo $?\n3\n```\n", tmp_path) == [(True, True, ""), (True, True, "3\n")]
    assert ran("```console\n$ (exit 3)\n$ echo $?\n1\n```\n", tmp_path)[1][:2] == (True, False)


def test_commands_of_a_block_share_a_shell(tmp_path):
    page = '```console\n$ mkdir a && cd a\n$ x=\'b c\'\n$ echo \\\n  "$x"; basename "$PWD"\nb c\na\n```\n'
    assert all(passed and shown for passed, shown, _ in ran(page, tmp_path))


def test_a_block_with_a_caption_is_a_file(tmp_path):
    page = "```{code-block} python\n:caption: tests/a.py\n\nx = 5\n```\n\n```console\n$ cat tests/a.py\nx = 5\n```\n"
    assert ran(page, tmp_path) == [(True, True, "x = 5\n")]


def test_a_workflow_fails_with_its_steps(tmp_path):
    page = "```yaml\njobs:\n  a:\n    steps:\n      - run: pip install x\n      - run: {}\n```\n"
    assert [passed for passed, _, _ in ran(page.format("echo 1"), tmp_path)] == [True]
    assert [passed for passed, _, _ in ran(page.format('"false"'), tmp_path)] == [False]


def test_a_mark_holds_for_the_next_block_alone():
    page = "<!-- any digits -->\n\n```python\n1\n```\n\n```text\n2\n```\n\n```python\n3\n```\n"
    first, second = blocks(page)
    assert (first.marks, first.output, second.marks) == ({"any digits"}, "2\n", frozenset())
    assert not next(blocks("<!-- another comment -->\n\n```python\n```\n")).marks


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("loss 2.31", "loss 2.30", True),
        ("loss 2.31", "lass 2.31", False),
        ("after 40 steps", "after 41 steps", False),
        ("a\n...\nz", "a\nb\nc\nz\n", True),
        ("a\n...\nz", "a\nb\n", False),
        ("torch 2.15.0+cu132", "torch 2.11.1", True),
        ("x", "", False),
        ("", "x", False),
    ],
)
def test_what_is_the_same_output(shown, printed, same):
    assert is_shown(shown, printed) is same


def test_of_marked_tables_only_words_are_compared():
    shown = "update, fc1.weight   428   1.1 %   2.4e-04\nverdict: match ... (update, conv1.weight)"
    printed = "update, fc2.bias     1.5   BROKEN\nverdict: match: (logits)"
    assert is_shown(shown, printed.replace("BROKEN", "0.9 %   3e-04"), any_digits=True)
    assert not is_shown(shown, printed, any_digits=True)


def test_of_an_example_only_the_number_of_lines_is_compared():
    (block,) = blocks("<!-- an example -->\n\n```python\n```\n\n```text\na\nb\n```\n")
    assert is_as_shown(block, block.output, "c\nd\n")
    assert not is_as_shown(block, block.output, "c\n")


def test_a_console_block_begins_with_a_command():
    (block,) = blocks("```console\nparity\n```\n")
    with pytest.raises(ValueError, match="line 1"):
        commands(block)


def test_inline_commands_are_found():
    assert inline_commands("Run `parity check a\nb` and `pytest`.\n\n```text\n`parity no`\n```\n") == [
        "parity check a b"
    ]


def test_a_page_is_refreshed_with_what_was_printed(tmp_path):
    page = "```python\nprint(1)\n```\n\n```text\n2\n```\n\n```console\n$ echo 3\n4\n```\n"
    for one in run_page(page, tmp_path):
        page = refreshed(page, one)
    assert page == "```python\nprint(1)\n```\n\n```text\n1\n```\n\n```console\n$ echo 3\n3\n```\n"
