import sys

import pytest

import torch_impl
from parity.contract import InputError
from parity.registry import resolve
from parity.run import resolve_sides
from tests import fakes


def test_finds_the_named_attribute_and_the_default():
    assert resolve("tests.fakes:wrong_lr") is fakes.wrong_lr
    assert resolve("tests.fakes") is fakes.impl
    assert resolve("torch_impl:eager") is torch_impl.eager


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such_module", "module 'no_such_module' does not import"),
        ("", "module '' does not import"),
        (".relative", r"module '\.relative' does not import"),
        ("tests.fakes:nothing", r"has no attribute 'nothing'; name one of: .*honest"),
        ("json:impl", "has no attribute 'impl'; define one"),
        ("tests.fakes:no_momentum", "'no_momentum' has no method 'momentum'"),
        ("tests.fakes:not_an_implementation", "has no method 'describe'"),
        ("tests.fakes:Fake", "'Fake' is a class; name an instance of it"),
    ],
)
def test_refuses(name, problem):
    with pytest.raises(InputError, match=problem):
        resolve(name)


def test_says_why_a_module_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "needs_missing.py").write_text("import surely_missing")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="No module named 'surely_missing'"):
        resolve("needs_missing")
    assert "needs_missing" not in sys.modules


def test_says_how_a_module_breaks_while_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "broken_syntax.py").write_text("def f(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"does not import \(SyntaxError: "):
        resolve("broken_syntax")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("torch_imp", "torch_impl"),
        ("torch_imp:eager", "torch_impl:eager"),
        ("parity.oracel", "parity.oracle"),
        ("tests.fake:honest", "tests.fakes:honest"),
        # The part that is not there is near to nothing, however near the whole is to some name.
        ("tests.fakes_of_nothing_that_is", None),
        ("torch_impl.no_such_part", None),
        # The package is near, but has no such module.
        ("torch_imp.torch_mpl", None),
    ],
)
def test_only_what_is_there_is_suggested(name, meant):
    with pytest.raises(InputError) as refused:
        resolve(name)
    suggested = (
        str(refused.value).rpartition("did you mean ")[2].removesuffix("?")
        if "did you mean" in str(refused.value)
        else None
    )
    assert suggested == meant


def test_equal_names_are_told_apart():
    assert [side.name for side in resolve_sides(["tests.fakes", "tests.fakes"])] == ["tests.fakes#1", "tests.fakes#2"]
    assert [side.name for side in resolve_sides(["tests.fakes", "torch_impl"])] == ["tests.fakes", "torch_impl"]
