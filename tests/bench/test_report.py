"""A report survives JSON; what changed is said only beyond the intervals; tables fit a terminal."""

import json
from dataclasses import replace

import pytest

from parity.bench.changes import changes, differences
from parity.bench.contender import Memory
from parity.bench.growth import Point, grow, sentence
from parity.bench.interval import median_interval
from parity.bench.judge import Judged
from parity.bench.limits import Limits
from parity.bench.own_cost import Cost, CostReport
from parity.bench.report import BenchReport, Cell, Row, read_report
from parity.bench.scaling import AXES, GrowthCurve, ScalingReport
from parity.contract import InputError
from parity.environment import describe_environment
from parity.render.bench import cell_lines, change_lines, report_lines, throughput_figure
from parity.render.bench_growth import axis_lines, cost_lines, scaling_figure, scaling_lines
from parity.render.figure import draw

ROUNDS = 5


def row(name, step, **more):
    seconds = tuple(100 * step * (1 + 0.01 * number) for number in range(ROUNDS))
    judged = Judged(place="loss", difference=1e-8, allowed=1e-5)
    fields = {"compile_seconds": 1.5, "steps": 100, "seconds": seconds, "cpu_seconds": seconds, "description": name}
    fields["memory"] = Memory(host=500_000_000, device=None)
    return Row(contestant=name, outcome="timed", judged=judged, **{**fields, **more})


def differing(name):
    judged = Judged(place="loss", difference=float("inf"), allowed=1e-5)
    return Row(contestant=name, outcome="differs", reason=judged.line, judged=judged)


def report(*steps, batch_size=4):
    """Contestants a, b, ... with these seconds a step, one that differs, and one that failed."""
    rows = [row(name, step) for name, step in zip("abcdef", steps, strict=False)]
    rows += [differing("other"), Row(contestant="gone", outcome="failed", reason="it ended by signal 11 (SIGSEGV)")]
    limits = Limits(threads=2, operations={"float32": 1.5e11}, bandwidth=1e11, memory_bandwidth=1e10, latency=1e-6)
    cell = Cell(
        dtype="float32",
        batch_size=batch_size,
        device="cpu",
        floor=8.5e-5,
        bound="operations",
        single_floor=1.7e-4,
        rows=tuple(rows),
    )
    return BenchReport(
        command=("parity", "bench"),
        environment=describe_environment(),
        data="images",
        threads=2,
        rounds=ROUNDS,
        load=0.1,
        limits=(limits, replace(limits, threads=1)),
        cells=(cell, replace(cell, dtype="float64", floor=None, bound=None, single_floor=None)),
    )


def test_a_report_is_read_back_as_it_was(tmp_path):
    written = report(1e-3, 2e-3)
    (tmp_path / "r.json").write_text(written.to_json())
    assert read_report(tmp_path / "r.json", argument="compare") == written


def test_the_file_holds_every_round_and_what_follows():
    content = json.loads(report(1e-3, 2e-3).to_json())
    assert (content["format"], content["exit_code"]) == ("parity.bench/1", 1)
    first, second, other, gone = content["cells"][0]["rows"]
    assert len(first["seconds"]) == ROUNDS
    assert first["derived"]["microseconds_a_step"]["median"] == pytest.approx(1020)
    assert first["derived"]["images_per_second"] == pytest.approx(4 / 1.02e-3)
    assert first["derived"]["share_of_the_floor"] == pytest.approx(0.085 / 1.02)
    assert first["derived"]["times_faster_than"]["b"]["median"] == pytest.approx(2)
    assert second["derived"]["times_faster_than"]["a"]["median"] == pytest.approx(0.5)
    assert other["derived"] is gone["derived"] is None
    assert other["judged"]["difference"] == "inf"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is no report"),
        ("[]", "it is no report"),
        ('{"format": "parity.report/1"}', "its format is parity.report/1, not parity.bench/1"),
        ('{"format": "parity.bench/1"}', "it is no report of `parity bench` (KeyError: 'command')"),
    ],
)
def test_another_file_is_refused(text, problem, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_report(tmp_path / "r.json", argument="compare")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("steps", 0, "ValueError: a has 0 steps"),
        ("steps", "100", "ValueError: a has 100 steps"),
        ("seconds", [1.0], "ValueError: a has 1 times in 5 rounds"),
        ("cpu_seconds", [], "ValueError: a has 0 times in 5 rounds"),
        ("seconds", [0.0] * 5, "ValueError: a has times that are not above 0"),
        ("seconds", [float("nan")] * 5, "ValueError: a has times that are not above 0"),
        ("seconds", "abcde", "TypeError: "),
        ("cpu_seconds", [None] * 5, "TypeError: "),
        ("outcome", "fast", "ValueError: a is fast"),
        ("contestant", 5, "ValueError: a contestant 5"),
        ("judged", [1], "TypeError: "),
        ("memory", "much", "TypeError: "),
        ("unheard_of", 1, "TypeError: "),
    ],
)
def test_a_malformed_row_is_a_line(field, value, problem, tmp_path):
    content = json.loads(report(1e-3).to_json())
    content["cells"][0]["rows"][0][field] = value
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_report(tmp_path / "r.json", argument="compare")
    assert f"it is no report of `parity bench` ({problem}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("rows", [[]]), ("rows", 5), ("dtype", ["float32"]), ("device", {}), ("batch_size", "4"), ("batch_size", 0)],
)
def test_a_malformed_cell_is_a_line(field, value, tmp_path):
    content = json.loads(report(1e-3).to_json())
    content["cells"][0][field] = value
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="it is no report of `parity bench`"):
        read_report(tmp_path / "r.json", argument="compare")


@pytest.mark.parametrize(
    ("rows", "code"), [([], 0), ([differing("x")], 1), ([Row(contestant="x", outcome="failed")], 2)]
)
def test_the_exit_code_says_the_worst(rows, code):
    base = report(1e-3)
    cells = tuple(replace(cell, rows=(*cell.timed, *rows)) for cell in base.cells)
    assert replace(base, cells=cells).exit_code == code


def test_only_what_is_beyond_the_intervals_has_changed():
    found = {change.contestant: change for change in changes(report(1e-3, 2e-3, 1e-3), report(1.5e-3, 1e-3, 1.005e-3))}
    assert [found[name].word for name in "abc"] == ["slower", "faster", "same"]
    assert found["a"].factor == pytest.approx(1.5)
    assert found["gone"].word == "failed, now failed"


def test_rows_that_come_and_go_are_listed():
    old, new = report(1e-3, 2e-3), report(1e-3)
    assert {c.contestant: c.word for c in changes(old, new)}["b"] == "timed, now not there"
    assert {c.contestant: c.word for c in changes(new, old)}["b"] == "not there, now timed"
    assert len(tuple(changes(old, report(1e-3, 2e-3, batch_size=8)))) == 2 * len(tuple(changes(old, old)))


def test_other_conditions_are_said():
    # Without variables of its own: jax_impl sets one where it is imported first.
    one = report(1e-3)
    where = replace(one.environment, variables={})
    one = replace(one, environment=where)
    assert list(differences(one, one)) == []
    others = {
        "different machines": replace(one, environment=replace(where, processor="another")),
        "a load of 0.1, now 3.0": replace(one, load=3.0),
        "other versions: numpy 1.0 -> 2.0": replace(one, environment=replace(where, packages={"numpy": "2.0"})),
        "other environment variables: XLA_FLAGS none -> x": replace(
            one, environment=replace(where, variables={"XLA_FLAGS": "x"})
        ),
        "data then: images; now: others": replace(one, data="others"),
        "rounds then: 5, now 7": replace(one, rounds=7),
    }
    known = replace(one, environment=replace(where, packages={"numpy": "1.0"}))
    for words, other in others.items():
        (line,) = differences(known if "versions" in words else one, other)
        assert words in line
    gpu = replace(one, limits=tuple(replace(each, name="a GPU") for each in one.limits))
    assert "different machines" in next(differences(one, gpu))


def test_changes_fit_a_terminal_with_both_intervals():
    old, new = report(1e-3, 2e-3, 3e-3), report(1.5e-3, 2e-3, 3e-3)
    lines = list(change_lines(tuple(changes(old, new)), differences=("data then: " + "x " * 60, "rounds")))
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert (
        "slower a, float32, batch 4: 1,020 (1,000-1,040) -> 1,530 (1,500-1,560) us, +50.0 %; beside b +50.0 %" in text
    )
    assert "same b, float32, batch 4: 2,040 (2,000-2,080) -> 2,040 (2,000-2,080) us, +0.0 %; beside " in text
    assert "drift" not in text


def test_a_machine_that_is_slower_as_a_whole_has_changed_no_contestant():
    """All but one are slower by half; where that one is slower by twice, it has changed."""
    old, new = report(1e-3, 2e-3, 3e-3, 4e-3, 5e-3), report(1.5e-3, 3e-3, 4.5e-3, 6e-3, 5e-3)
    found = {c.contestant: c.word for c in changes(old, new) if c.dtype == "float32" and c.new}
    assert found == {"a": "drift", "b": "drift", "c": "drift", "d": "drift", "e": "same"}
    new = report(1.5e-3, 3e-3, 4.5e-3, 6e-3, 10e-3)
    assert {c.contestant: c.word for c in changes(old, new)}["e"] == "slower"
    assert "drift: of the machine's level" in " ".join(change_lines(tuple(changes(old, new))))


def test_the_tables_fit_a_terminal():
    shown = report(1e-3, 3.3333e-1, 1e-4)
    shown = replace(shown, load=3.0)
    lines = [line for cell in shown.cells for line in cell_lines(cell)] + list(report_lines(shown))
    text = "\n".join(lines)
    assert max(map(len, text.splitlines())) <= 80
    assert "other: differs, not compared: loss differs: inf from the formula's, 1.0e-05 is" in text
    assert "gone: failed, not compared: it ended by signal 11 (SIGSEGV)" in text
    assert "other programs were running (load 3.0)" in text
    assert "no floor was measured" in text


def test_what_is_faster_than_the_floor_is_not_ranked(tmp_path):
    shown = report(1e-5, 1e-3, 2e-3)
    cell, without_floor = shown.cells
    assert [row.contestant for row in cell.timed] == ["b", "c"]
    assert [row.contestant for row in without_floor.timed] == ["a", "b", "c"]
    text = " ".join(" ".join([*cell_lines(cell), *report_lines(shown)]).split())
    assert "a: faster than the floor, not compared: 10.2 us a step, where 85 are the least: not ranked" in text
    assert "verdict: 5 of 10 compute what they should, and were timed, 2 differs, 2 failed, 1 not ranked" in text
    assert [curve.label for curve in throughput_figure(shown).panels[0].curves][:2] == ["b", "c"]
    found = {c.contestant: c.word for c in changes(shown, report(1e-3, 1e-3)) if c.dtype == "float32"}
    assert found["a"] == "faster than the floor, now timed"
    (tmp_path / "r.json").write_text(shown.to_json())
    assert read_report(tmp_path / "r.json", argument="compare") == shown


def test_numbers_that_are_too_wide_for_their_columns_are_named():
    cell = replace(report(1e-3).cells[0], floor=None, batch_size=4096)
    fast = row("a", 3.3e-7, compile_seconds=137_333.3, memory=Memory(host=335_326_000_000, device=None))
    lines = "\n".join(cell_lines(replace(cell, rows=(fast, row("b", 1e-3))))).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines[3:5]).split())
    assert text.startswith("a: us/step 0.3; 95 % 0.3-0.3; images/s 12,168,746,286; times 1.00; floor -; compile 137")
    assert text.endswith("MB 335,326")
    assert lines[5].split()[:2] == ["b", "1,020"]


def test_a_gpus_memory_is_a_column_where_there_is_one():
    cell = report(1e-3).cells[0]
    rows = (row("a", 1e-3, memory=Memory(host=500_000_000, device=1_234_000_000)), row("b", 2e-3))
    on_gpu, on_cpu = (list(cell_lines(replace(cell, rows=rows, device=device))) for device in ("cuda", "cpu"))
    assert on_gpu[2].endswith("MB  GPU MB")
    assert on_gpu[3].split()[-2:] == ["500", "1,234"]
    assert on_gpu[4].split()[-2:] == ["500", "-"]
    assert not any("GPU" in line for line in on_cpu)
    assert max(map(len, "\n".join(on_gpu).splitlines())) <= 80


def test_a_long_name_has_its_own_line():
    cell = report(1e-3).cells[0]
    long = replace(cell, rows=(row("a.long.module.of.somebody:implementation", 1e-3),))
    assert max(map(len, "\n".join(cell_lines(long)).splitlines())) <= 80


def test_what_differs_on_cuda_is_told_how_to_forbid_tf32():
    cell = report(1e-3).cells[0]
    hint = "NVIDIA_TF32_OVERRIDE=0"
    assert hint in " ".join(cell_lines(replace(cell, device="cuda")))
    assert hint not in " ".join(cell_lines(cell))
    assert hint not in " ".join(cell_lines(replace(cell, device="cuda", rows=cell.timed)))


def test_figures_are_drawn():
    figure = throughput_figure(report(1e-3, 2e-3))
    assert [panel.title for panel in figure.panels] == ["float32", "float64"]
    assert [curve.label for curve in figure.panels[0].curves][:2] == ["a", "b"]
    assert figure.panels[0].curves[-1].label == "the floor"
    first = figure.panels[0].curves[0]
    assert first.low[0] < first.y[0] < first.high[0]
    assert draw(figure, "png").startswith(b"\x89PNG")


def test_peers_stand_behind_who_was_named():
    cell = report().cells[0]
    rows = tuple(row(name, 1e-3) for name in ("nnx", "torch_impl", "tutorial", "jax_impl"))
    figure = throughput_figure(replace(report(), cells=(replace(cell, rows=rows),)))
    looks = [(curve.label, curve.thin, curve.color) for curve in figure.panels[0].curves[:-1]]
    own, peers = [("torch_impl", False, 0), ("jax_impl", False, 1)], [("nnx", True, 2), ("tutorial", True, 3)]
    assert looks == own + peers


def growth(axis, name):
    points = tuple(Point(x=w, work=w, seconds=1e-3 + 1e-4 * w) for w in (1, 4, 16))
    words = sentence(name, AXES[axis], points)
    return GrowthCurve(axis=axis, contestant=name, points=points, line=grow(points), sentence=words)


def test_growth_is_a_table_sentences_and_a_figure():
    curves = (growth("batch", "a"), growth("batch", "b"), GrowthCurve(axis="batch", contestant="c", reason="gone"))
    lines = list(axis_lines(curves))
    assert lines[1].split() == ["images", "in", "a", "step", "a", "b"]
    assert lines[2].split() == ["1", "1,100", "us", "1,100", "us"]
    assert lines[-1] == "c: failed gone"
    assert max(map(len, lines)) <= 80
    whole = ScalingReport(
        command=(),
        environment=describe_environment(),
        data="images",
        dtype="float32",
        device="cpu",
        threads=1,
        rounds=3,
        curves=curves,
    )
    assert whole.exit_code == 2
    assert json.loads(whole.to_json())["curves"][0]["points"][0]["x"] == 1
    assert draw(scaling_figure(whole), "svg").startswith(b"<?xml")


def test_growth_shows_its_intervals_and_what_was_disturbed():
    def point(x, *rounds):
        found = median_interval(rounds)
        return Point(x=x, work=x, seconds=found.median, interval=found, rounds=rounds)

    calm, rough = point(1, *[1e-3] * 4, 1.02e-3), point(4, 1e-3, 1e-3, 2e-3, 3e-3, 3e-3)
    curve = replace(growth("batch", "a"), points=(calm, rough))
    lines = list(axis_lines([curve]))
    assert lines[2].split() == ["1", "1,000", "us", "±2%"]
    assert lines[3].split() == ["4", "2,000", "us", "±50%!"]
    assert max(map(len, [*lines, *scaling_lines()])) <= 80


def test_a_cell_whose_rounds_spread_says_so():
    cell = report(1e-3).cells[0]
    rough = row("rough", 1e-3, seconds=(0.1, 0.1, 0.12, 0.14, 0.15))
    mixed = replace(cell, rows=(*cell.timed, rough))
    assert "disturbed: the interval is wider than 25 % of the median of rough" in list(cell_lines(mixed))[-1]
    assert not any("disturbed" in line for line in cell_lines(replace(cell, rows=cell.timed)))
    assert [mixed.derived(each)["disturbed"] for each in mixed.timed] == [False, True]


def test_growth_of_many_with_long_names_fits_a_terminal():
    names = [f"somebodys.long.package:contestant_{number}" for number in range(4)]
    lines = list(axis_lines([growth("batch", name) for name in names]))
    assert max(map(len, lines)) <= 80
    heads = [word for line in lines for word in line.split() if word.startswith("...")]
    assert [head[-12:] for head in heads] == [name[-12:] for name in names]
    assert max(map(len, scaling_lines())) <= 80
    assert "not judged" in "".join(scaling_lines())


def test_where_nothing_was_timed_there_is_no_panel():
    failed = tuple(GrowthCurve(axis=axis, contestant="c", reason="gone") for axis in ("batch", "data"))
    assert list(axis_lines(failed[:1])) == ["", "c: failed gone"]
    whole = ScalingReport(
        command=(),
        environment=describe_environment(),
        data="images",
        dtype="float32",
        device="cpu",
        threads=1,
        rounds=3,
        curves=failed,
    )
    assert scaling_figure(whole).panels == ()
    assert throughput_figure(report()).panels == ()


def test_a_cost_over_its_bar_is_exit_code_1():
    over = Cost(name="check", unit="s", value=median_interval([21.0, 22.0]), bar=20.0, detail="of the two")
    whole = CostReport(
        command=(), environment=describe_environment(), names=("a", "b"), data="images", threads=1, costs=(over,)
    )
    assert whole.exit_code == 1
    assert json.loads(whole.to_json())["costs"][0]["bar"] == 20.0
    assert list(cost_lines(over)) == ["check: 21.5 s (21 to 22), OVER 20: of the two"]
    assert replace(whole, costs=(replace(over, bar=30.0), replace(over, bar=None))).exit_code == 0
