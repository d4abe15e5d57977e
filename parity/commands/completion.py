"""Completion in bash, zsh and fish: `parity completion SHELL`, and what may stand where.

No implementation is imported for it, which would take seconds: modules are looked for as files, and what they define is
read from their source.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable, Iterable
from importlib.machinery import PathFinder
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

__all__ = [
    "complete_data",
    "complete_experiments",
    "complete_faults",
    "complete_implementations",
    "complete_peers",
    "complete_schedules",
    "completion",
    "one_of",
]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

VARIABLE = "_PARITY_COMPLETE"
"""Set by the shell's function when it asks; click's name for a program `parity`."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options, implementations, experiments, schedules and files.

    In ~/.bashrc: eval "$(parity completion bash)"; in ~/.zshrc: eval "$(parity completion zsh)"; for fish, once:
    parity completion fish > ~/.config/fish/completions/parity.fish

    Example: parity completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click knows all three; for the type checker
    click.echo(kind(context.find_root().command, {}, "parity", VARIABLE).source())


class _Bash(BashComplete):
    """Click's, for words with : and = in them, which bash takes apart at these: torch_impl:eager."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response completion type value
    response=$(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete $1)
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
            if [[ $value == *[:=] ]]; then
                compopt -o nospace
            fi
        fi
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and that one."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    def format_completion(self, item: CompletionItem) -> str:
        """Bash puts it in place of what follows the last break of the word alone."""
        _, incomplete = self.get_completion_args()
        breaks = [incomplete.rfind(mark) + 1 for mark in ":=" if mark in os.environ.get("COMP_WORDBREAKS", "")]
        begun = incomplete[: max(breaks, default=0)]
        return f"{item.type},{item.value.removeprefix(begun)}"


add_completion_class(_Bash, "bash")


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def one_of(*names: str) -> Completer:
    """For an option that takes one of a few words."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _items(names, incomplete)

    return complete


def complete_data(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The sets by name, and files."""
    return [*_items(("auto", "cifar10", "embedded"), incomplete), CompletionItem(incomplete, type="file")]


def complete_experiments(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The experiments of a study."""
    from parity.study import EXPERIMENTS

    return [CompletionItem(name, help=e.question) for name, e in EXPERIMENTS.items() if name.startswith(incomplete)]


def complete_faults(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The faults of a drill."""
    from parity.drill import BENIGN, CATALOGUE, OUTSIDE

    return _items((fault.key for group in (CATALOGUE, OUTSIDE, BENIGN) for fault in group), incomplete)


def complete_peers(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The peers of a benchmark: the last of a list with commas."""
    from parity.bench.contestants import ALL, PEERS

    before, comma, last = incomplete.rpartition(",")
    return _items(
        (f"{before}{comma}{name}" for name in ((*PEERS,) if comma else (*PEERS, ALL))), f"{before}{comma}{last}"
    )


def complete_schedules(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A schedule's kind, and then its arguments' names: step:step_size=."""
    from parity.commands.schedule import arguments_of, kinds

    kind, colon, rest = incomplete.partition(":")
    if not colon:
        return _items((f"{name}:" for name in kinds()), incomplete)
    if kind not in kinds():
        return []
    before, comma, _ = rest.rpartition(",")
    return _items((f"{kind}:{before}{comma}{name}=" for name in arguments_of(kind)), incomplete)


def complete_implementations(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Modules, and with one of them what it defines: those of this package, and of the working directory."""
    from parity.registry import OURS, modules_in

    module, colon, _ = incomplete.partition(":")
    if colon:
        return _items((f"{module}:{name}" for name in _defined(module)), incomplete)
    names = [name for name in (*OURS, *modules_in(incomplete.rpartition(".")[0])) if name.startswith(incomplete)]
    if len(names) == 1:
        names += [f"{names[0]}:{name}" for name in _defined(names[0])]
    return _items(names, incomplete)


def _defined(module: str) -> tuple[str, ...]:
    """The names that a module assigns to, which instances have; neither private ones nor constants."""
    source = _source(module)
    try:
        body = ast.parse(source.read_bytes()).body if source else []
    except (OSError, SyntaxError, ValueError):  # a file that is being written: there is nothing to complete with
        body = []
    targets = [target for statement in body if isinstance(statement, ast.Assign) for target in statement.targets]
    targets += [statement.target for statement in body if isinstance(statement, ast.AnnAssign)]
    names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return tuple(dict.fromkeys(name for name in names if name[0] != "_" and not name.isupper()))


def _source(module: str) -> Path | None:
    """The module's file, without importing it or the packages that it lies in."""
    top, *inside = module.split(".")
    # Asked for by Python's own finders, as an editable installation is in no folder of the path; then as a command
    # would, in the working directory. A name without dots is looked up without an import.
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    spec = spec or PathFinder.find_spec(top, [str(Path.cwd())])
    if spec is None:
        return None
    if not inside and spec.origin is not None:
        return Path(spec.origin)
    bases = (Path(place, *inside) for place in spec.submodule_search_locations or ())
    return next(
        (found for base in bases for found in (base / "__init__.py", base.with_suffix(".py")) if found.is_file()),
        None,
    )
