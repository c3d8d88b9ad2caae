"""The largest live set of small graphs, counted by hand."""

from coreml_sd.costs.liveness import Call, largest_live


def test_a_chain_holds_two_tensors_at_once() -> None:
    chain = [Call(["x"], {"a": 5}), Call(["a"], {"b": 7}), Call(["b"], {"c": 1})]
    assert largest_live(chain, ["c"]) == 12


def test_a_tensor_lives_until_its_last_reader() -> None:
    skip = [Call(["x"], {"a": 5}), Call(["a"], {"b": 7}), Call(["b"], {"c": 7})]
    skip.append(Call(["a", "c"], {"d": 5}))
    assert largest_live(skip, ["d"]) == 5 + 7 + 7


def test_outputs_stay_and_what_nobody_reads_goes() -> None:
    calls = [Call([], {"out": 4, "unused": 3}), Call(["x"], {"b": 6})]
    assert largest_live(calls, ["out", "b"]) == 10
    assert largest_live(calls, ["b"]) == 7
    assert largest_live([], []) == 0
