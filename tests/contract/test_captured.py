from parity.contract.captured import CapturedGraph


def test_an_operation_is_kept_with_all_its_outputs_and_what_leads_nowhere_is_not():
    graph = CapturedGraph()
    first = graph.add(graph.operation("fc/dot"), 0, ())
    norm = graph.operation("norm")
    out, mean = (graph.add(norm, output, (first,)) for output in (0, 1))
    running = graph.add(graph.operation("mul"), 0, (mean,))
    last = graph.add(graph.operation("fc/dot"), 0, (out, first))
    assert [first, out, mean, running, last] == ["fc/dot", "norm", "norm[1]", "mul", "fc/dot:2"]
    assert graph.leading_to([last]) == [first, out, mean, last]
    assert graph.leading_to([running]) == [first, out, mean, running]
    assert graph.leading_to([]) == []


def test_deep_graphs_are_walked_without_recursion():
    graph, name = CapturedGraph(), ""
    for _ in range(5000):
        name = graph.add(graph.operation("sin"), 0, (name,) if name else ())
    assert len(graph.leading_to([name])) == 5000
