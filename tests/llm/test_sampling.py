"""Samplers: by hand, against recorded llama.cpp runs, and for what must always hold."""

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sampling_cases import CASES, DEFAULT, PROMPT, make_logits

from jitllm.llm.sampling import (
    BreakerIndex,
    Candidates,
    SamplerChain,
    SamplingError,
    SamplingParams,
    chain,
    from_letters,
    log_softmax_rows,
    names,
    registry,
    top_logprobs,
)
from jitllm.llm.sampling.order import descending, top_positions
from jitllm.llm.sampling.rng import Mt19937

GOLDEN = Path(__file__).parents[1] / "data" / "sampling_golden.npz"
Floats = NDArray[np.float32]


def logits_of(*probs: float) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.array(probs)), np.float32)


def after(text: str, logits: Floats, seed: int = 1, prompt: tuple[int, ...] = ()) -> Candidates:
    """Apply one sampler in text form."""
    (sampler, *_) = chain(text, seed=seed, n_vocab=len(logits)).samplers
    for token in prompt:
        sampler.accept(token)
    candidates = Candidates(logits)
    sampler.apply(candidates)
    return candidates


def run(sampler_chain: SamplerChain, rows: Floats, n_steps: int) -> list[int]:
    tokens = []
    for step in range(n_steps):
        tokens.append(sampler_chain.sample(rows[step % len(rows)]))
        sampler_chain.accept(tokens[-1])
    return tokens


# recorded llama.cpp


@pytest.mark.parametrize("name", CASES)
def test_same_tokens_and_probabilities_as_llama_cpp(name: str) -> None:
    case = CASES[name]
    rows = make_logits(case)
    ours = chain(*case.samplers, n_vocab=case.n_vocab, seed=case.seed)
    ours.accept_many(PROMPT)
    with np.load(GOLDEN) as golden:
        tokens, ids, probs = (golden[f"{name}.{what}"] for what in ("tokens", "ids", "probs"))
    assert run(ours.clone(), rows, case.n_steps) == tokens.tolist()
    ours.sample(rows[0])
    assert ours.last is not None
    assert len(ours.last) == len(ids)
    if ours.last.probs is not None:  # greedy computes none
        possible = probs > 0  # the order of impossible tokens means nothing
        np.testing.assert_array_equal(ours.last.ids[ours.last.probs > 0], ids[possible])
        np.testing.assert_allclose(ours.last.probs[ours.last.probs > 0], probs[possible], rtol=2e-6)


@pytest.mark.parametrize("seed", [0, 1, 5489, 2**32 - 1])
def test_generator_is_numpys_legacy_stream(seed: int) -> None:
    expected = np.random.RandomState(seed).randint(0, 2**32, size=2000, dtype=np.uint32)
    low, high = expected[0::2].astype(float), expected[1::2].astype(float)
    ours = Mt19937(seed)
    assert [ours.uniform() for _ in range(1000)] == ((low + high * 2.0**32) / 2.0**64).tolist()


def test_a_look_at_the_next_number_changes_nothing() -> None:
    plain, ours = Mt19937(7), Mt19937(7)
    for step in range(900):  # past the end of the generator's 624 words
        if step % 3:
            before = str(ours.state())
            seen = ours.peek()
            assert seen == ours.peek() and str(ours.state()) == before
            if step % 3 == 1:
                ours = Mt19937.from_state(ours.state())
        if step % 7:
            want = plain.uniform()
            assert ours.uniform() == want and (step % 3 == 0 or seen == want)
        else:
            assert ours.uniform_float32() == plain.uniform_float32()
    assert str(ours.state()) == str(plain.state())


def test_first_word_of_the_default_seed_is_the_published_one() -> None:
    expected = np.float32(3499211612) / np.float32(2**32)  # std::mt19937's first output
    assert Mt19937(5489).uniform_float32() == expected


# by hand


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("top_k:2", [1, 3]),
        ("top_k:99", [1, 3, 0, 2]),
        ("top_p:0.4", [1]),
        ("top_p:0.41", [1, 3]),
        ("top_p:0.1:3", [1, 3, 0]),
        ("min_p:0.7", [1, 3]),
        ("min_p:0.7:3", [1, 3, 0]),
        ("xtc:1:0.2", [0, 2]),
        ("xtc:1:0.35", [1, 3, 0, 2]),  # one likely token: nothing to exclude
        ("xtc:1:0.2:3", [1, 3, 0, 2]),  # would leave two
    ],
)
def test_survivors(text: str, kept: list[int]) -> None:
    left = after(text, logits_of(0.2, 0.4, 0.1, 0.3))
    ids = left.ids.tolist()
    assert (ids if left.is_sorted else sorted(ids)) == (kept if left.is_sorted else sorted(kept))


def test_typical_p_prefers_the_expected_surprise() -> None:
    p = np.array([0.5, 0.25, 0.125, 0.125])
    # entropy 1.75 bits; surprises 1, 2, 3, 3 bits: distances 0.75, 0.25, 1.25, 1.25
    assert after("typical_p:0.2", logits_of(*p)).ids.tolist() == [1]
    assert after("typical_p:0.7", logits_of(*p)).ids.tolist() == [1, 0]


def test_top_n_sigma_masks_below_the_deviation() -> None:
    logits = np.array([0, 1, 2, 5], dtype=np.float32)  # mean 2, variance 3.5
    left = after("top_n_sigma:2", logits)
    bound = 5 - 2 * math.sqrt(3.5)
    assert left.logits.tolist() == [x if x >= bound else -math.inf for x in (0, 1, 2, 5)]


def test_temperature_divides() -> None:
    left = after("temperature:0.5", np.array([1, -2], dtype=np.float32))
    assert left.logits.tolist() == [2, -4]
    assert chain("temperature:1").samplers[0].name == "dist"  # neutral: left out


def test_temperature_zero_keeps_the_first_maximum() -> None:
    left = after("temperature:0", np.array([1, 3, 3], dtype=np.float32))
    assert left.logits.tolist() == [-math.inf, 3, -math.inf]


def test_dynamic_temperature_at_full_and_no_entropy() -> None:
    even = after("temperature:1:0.5:1", np.ones(4, dtype=np.float32))
    np.testing.assert_allclose(even.logits, 1 / 1.5, rtol=1e-6)
    sure = after("temperature:1:0.5:1", np.array([200, 0], dtype=np.float32))
    np.testing.assert_allclose(sure.logits, [400, 0], rtol=1e-6)


def test_penalties() -> None:
    logits = np.array([2, -2, 2, 2], dtype=np.float32)
    left = after("penalties:64:2:0.25:0.5", logits, prompt=(0, 0, 1))
    # 2/2 - 2*.25 - .5; -2*2 - .25 - .5
    assert left.logits.tolist() == [0, -4.75, 2, 2]
    window = after("penalties:1:2:0:0", logits, prompt=(0, 0, 1))
    assert window.logits.tolist() == [2, -4, 2, 2]
    everything = after("penalties:-1:2:0:0", logits, prompt=(0,) + (1,) * 500)
    assert everything.logits.tolist() == [1, -4, 2, 2]


def test_penalties_ignore_tokens_outside_the_vocabulary() -> None:
    logits = np.ones(3, dtype=np.float32)
    left = after("penalties:64:2:0:0", logits, prompt=(-1, 3, 2))
    assert left.logits.tolist() == [1, 1, 0.5]


def dry_penalties(prompt: tuple[int, ...], **params: Any) -> list[float]:
    built = chain(
        SamplingParams(
            **{"dry_multiplier": 1, "dry_base": 2, "dry_sequence_breakers": (), **params}
        ),
        token_ids_for_text=lambda text: [[int(part) for part in text.split()]],
    )
    sampler = built.samplers[0]
    assert sampler.name == "dry"
    for token in prompt:
        sampler.accept(token)
    candidates = Candidates(np.zeros(8, dtype=np.float32))
    sampler.apply(candidates)
    return [float(-logit) for logit in candidates.logits]


def test_dry_penalizes_what_continues_a_repetition() -> None:
    # a b c c b c y a b c: c would repeat "a b c c" (3 matched), y "b c y" (2), b "c b" (1: free)
    a, b, c, y = 1, 2, 3, 4
    assert dry_penalties((a, b, c, c, b, c, y, a, b, c)) == [0, 0, 0, 2, 1, 0, 0, 0]


def test_dry_stops_at_sequence_breakers() -> None:
    text = (1, 2, 3, 4, 7, 1, 2, 3)
    assert dry_penalties(text)[4] == 2
    assert dry_penalties(text, dry_sequence_breakers=("7",))[4] == 2  # before the repetition
    assert dry_penalties(text, dry_sequence_breakers=("2",))[4] == 0  # only "3" counts: too short
    assert dry_penalties(text, dry_sequence_breakers=("1 2",))[4] == 0
    assert dry_penalties(text, dry_sequence_breakers=("4",))[4] == 0  # never penalized


def test_dry_penalty_is_finite_after_long_repetitions() -> None:
    penalties = dry_penalties((1,) * 300, dry_penalty_last_n=-1, dry_base=1.75)
    assert 1e30 < penalties[1] < math.inf


def test_breaker_index() -> None:
    pieces = [b"x\n", b"a", b"\n", b"q\r", b"\r\n", b"\r"]
    index = BreakerIndex(pieces, lambda text: [pieces.index(text)])
    assert index("\n") == [(0,), (2,), (4,)]
    assert set(index("\r\n")) == {(4,), (3, 2), (5, 2)}


def test_logit_bias_and_ignore_eos() -> None:
    params = SamplingParams(
        temperature=0, logit_bias={0: 5.0, 2: -math.inf}, ignore_eos=True, seed=0
    )
    built = chain(params, n_vocab=4, eog_ids=[3])
    assert built.sample(np.array([0, 4, 100, 200], dtype=np.float32)) == 0
    with pytest.raises(SamplingError, match="token 9.*0 to 3"):
        chain(SamplingParams(logit_bias={9: 1.0}), n_vocab=4)


def test_adaptive_p_prefers_its_target() -> None:
    logits = logits_of(0.7, 0.2, 0.1)
    left = after("adaptive_p:0.2:0.9", logits)
    assert left.logits.argmax() == 1
    np.testing.assert_allclose(left.logits[1], 5, atol=1e-5)


def test_mirostat_2_cuts_at_mu() -> None:
    left = after("mirostat_v2:0.6:0.1", logits_of(0.5, 0.3, 0.2))  # mu 1.2 bits: p >= 0.435
    assert left.ids.tolist() == [0]


# chains


def test_default_chain_is_llama_cpps() -> None:
    built = chain(
        SamplingParams(
            repetition_penalty=1.1,
            dry_multiplier=1,
            dry_sequence_breakers=(),
            top_n_sigma=1,
            typical_p=0.9,
            xtc_probability=0.5,
            logit_bias={0: 1.0},
        )
    )
    assert [sampler.name for sampler in built.samplers] == [
        "logit_bias",
        "penalties",
        "dry",
        "top_n_sigma",
        "top_k",
        "typical_p",
        "top_p",
        "min_p",
        "xtc",
        "temperature",
        "dist",
    ]
    assert from_letters("edskypmxt") == (
        "penalties",
        "dry",
        "top_n_sigma",
        "top_k",
        "typical_p",
        "top_p",
        "min_p",
        "xtc",
        "temperature",
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"temperature": 0}, ["greedy"]),
        ({"temperature": 0, "presence_penalty": 1}, ["penalties", "greedy"]),
        (
            {"temperature": 0, "dynatemp_range": 1},
            ["top_k", "top_p", "min_p", "temperature", "dist"],
        ),
        (
            {
                "temperature": 0,
                "samplers": ("top_k", "penalties", "temperature"),
                "presence_penalty": 1,
            },
            ["top_k", "penalties", "greedy"],
        ),
        ({"temperature": 0, "samplers": ("top_k",)}, ["top_k", "dist"]),
        ({"mirostat": 1}, ["temperature", "mirostat"]),
        ({"mirostat": 2, "logit_bias": {1: 1}}, ["logit_bias", "temperature", "mirostat_v2"]),
        ({"samplers": ("adaptive_p", "min_p")}, ["min_p", "adaptive_p"]),
        ({"samplers": "temp;nucleus;top-k:3;typp"}, ["temperature", "top_p", "top_k", "dist"]),
    ],
)
def test_chain_from_params(params: dict[str, Any], expected: list[str]) -> None:
    assert [sampler.name for sampler in chain(SamplingParams(**params)).samplers] == expected


@pytest.mark.parametrize("seed", range(4))
def test_greedy_shortcut_equals_the_whole_chain(seed: int) -> None:
    rng = np.random.RandomState(seed)
    rows = rng.standard_normal((6, 3000)).astype(np.float32)
    short = chain(SamplingParams(temperature=0, repetition_penalty=1.3))
    whole = chain("penalties:64:1.3", "top_k:40", "top_p:.95", "min_p:.05", "temperature:0")
    assert run(short, rows, 12) == run(whole, rows, 12)


def test_text_form_equals_params_form() -> None:
    rows = make_logits(CASES["dist"])
    assert run(chain(*DEFAULT, seed=7), rows, 20) == run(chain(SamplingParams(seed=7)), rows, 20)


def test_logits_processors_see_the_history_and_never_the_callers_array() -> None:
    seen = []

    def forbid(ids: NDArray[np.int32], logits: Floats) -> None:
        seen.append(ids.tolist())
        logits[ids] = -np.inf

    built = chain(
        SamplingParams(temperature=0),
        logits_processors=[forbid, lambda ids, logits: logits * np.float32(2)],
    )
    logits = np.array([3, 2, 1], dtype=np.float32)
    before = logits.copy()
    assert run(built, logits[None], 3) == [0, 1, 2]
    assert seen == [[], [0], [0, 1]]
    np.testing.assert_array_equal(logits, before)


def test_a_callable_in_the_chain_sees_the_candidates() -> None:
    def prefer_odd(ids: NDArray[np.int32], logits: Floats) -> Floats:
        assert ids.tolist() == [4, 3]
        return np.where(ids % 2 == 1, 100, logits).astype(np.float32)

    logits = np.arange(5, dtype=np.float32)
    assert chain("top_k:2", prefer_odd, "greedy").sample(logits) == 3
    with pytest.raises(SamplingError, match="must return None or"):
        chain(lambda ids, logits: logits[:2]).sample(logits)


def test_samplers_do_not_change_the_callers_logits() -> None:
    for case in CASES.values():
        row = make_logits(case)[0]
        before = row.copy()
        built = chain(*case.samplers, seed=1)
        built.accept_many(PROMPT)
        built.sample(row)
        np.testing.assert_array_equal(row, before)


@pytest.mark.parametrize("name", CASES)
def test_clone_and_state_continue_identically(name: str) -> None:
    case = CASES[name]
    rows = make_logits(case)

    def fresh(seed: int) -> SamplerChain:
        return chain(
            *case.samplers, seed=seed, logits_processors=[lambda ids, logits: logits - len(ids)]
        )

    first = fresh(case.seed)
    first.accept_many(PROMPT)
    start = run(first, rows, 7)
    state = first.state()
    restored = fresh(99)
    restored.load_state(state)
    cloned = first.clone()
    expected = run(first, rows, 12)
    assert run(cloned, rows, 12) == expected
    assert run(restored, rows, 12) == expected
    restored.load_state(state)  # a state is not spent, nor changed by who loaded it
    assert run(restored, rows, 12) == expected
    first.reset()
    first.accept_many(PROMPT)
    assert run(first, rows, 7) == start


def test_state_is_plain_data() -> None:
    built = chain(SamplingParams(mirostat=2, seed=3))
    built.sample(np.ones(5, dtype=np.float32))

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        assert type(value) in (dict, list, int, float, str)
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    through_json = json.loads(json.dumps(plain(built.state())))
    other = chain(SamplingParams(mirostat=2))
    other.load_state(through_json)
    row = np.arange(5, dtype=np.float32)[None]
    assert run(other, row, 20) == run(built, row, 20)


def test_state_of_another_chain_is_refused() -> None:
    state = chain("top_k:4").state()
    with pytest.raises(SamplingError, match="this chain is"):
        chain("min_p:0.1").load_state(state)
    with pytest.raises(SamplingError, match="version"):
        chain("top_k:4").load_state({**state, "version": 99})


# errors


@pytest.mark.parametrize("params", [{}, {"temperature": 0}, {"mirostat": 2}, {"top_k": 0}])
@pytest.mark.parametrize(
    ("value", "message"), [(-math.inf, "all logits are -inf"), (math.nan, "nan"), (math.inf, "inf")]
)
def test_unusable_logits(params: dict[str, Any], value: float, message: str) -> None:
    logits = np.full(300, -np.inf, dtype=np.float32)
    if value != -math.inf:
        logits[:] = 0
        logits[17] = value
    with pytest.raises(SamplingError, match=message):
        chain(SamplingParams(**params)).sample(logits)


def test_bias_that_forbids_everything() -> None:
    params = SamplingParams(logit_bias={0: -math.inf, 1: -math.inf})
    with pytest.raises(SamplingError, match="all logits are -inf"):
        chain(params).sample(np.zeros(2, dtype=np.float32))


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros(4, dtype=np.float64),
        np.zeros((1, 4), dtype=np.float32),
        np.zeros(3, dtype=np.float32),
        np.zeros(0, dtype=np.float32),
        [0.0] * 4,
    ],
)
def test_wrong_logits_array(logits: Any) -> None:
    with pytest.raises(SamplingError, match=r"expected float32 logits \[4\]"):
        chain("greedy", n_vocab=4).sample(logits)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: chain("top_kk:3"), "did you mean 'top_k'"),
        (lambda: chain("base"), "unknown sampler 'base'"),
        (lambda: chain("../x"), "unknown sampler"),
        (lambda: chain("top_k:abc"), "top_k must be an integer, got 'abc'"),
        (lambda: chain("top_k:1:2"), "at most 1 arguments"),
        (lambda: chain("greedy", "dist"), "only one sampler"),
        (lambda: chain(SamplingParams(), "top_k:1"), "one SamplingParams alone"),
        (lambda: chain(cast(Any, 3)), "expected a sampler's name"),
        (lambda: chain("top_k:1", seed=-1), "seed"),
        (lambda: chain(SamplingParams(dry_multiplier=1)), "token_ids_for_text"),
        (lambda: from_letters("ez"), "unknown sampler letter 'z'"),
    ],
)
def test_chain_errors(build: Any, message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        build()


# parameters


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_p", 1.5, r"top_p must be finite in \[0, 1\], got 1.5"),
        ("temperature", math.nan, "temperature must be finite, got nan"),
        ("temperature", "0.8", "temperature must be a number, got '0.8'"),
        ("top_k", 1.5, "top_k must be an integer, got 1.5"),
        ("top_k", True, "got True"),
        ("seed", -1, r"seed .*None for a random one"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("n", 0, r"n must be an integer in \[1, 4294967295\], got 0"),
        ("max_tokens", -1, r"integer in \[0, 4294967295\] \(None for no limit\), got -1"),
        ("max_tokens", 2**40, r"integer in \[0, 4294967295\]"),
        ("mirostat", 3, "mirostat"),
        ("stop", ["a", ""], "non-empty strings"),
        ("stop_token_ids", 5, "must be a sequence"),
        ("logit_bias", {1: math.inf}, "logit_bias value"),
        ("logit_bias", {"x": 1}, "logit_bias token"),
        ("logit_bias", [1], "must map token ids"),
        ("ignore_eos", 1, "must be True or False"),
        ("top_p", None, "top_p must be a number"),
    ],
)
def test_params_are_checked(name: str, value: Any, message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        SamplingParams(**{name: value})


def test_params_are_normalized() -> None:
    values: dict[str, Any] = {"temperature": np.float32(0.5), "top_k": np.int64(3), "stop": "x"}
    params = SamplingParams(**values, logit_bias=cast(Any, {"7": 1}))
    assert (params.temperature, params.top_k, params.stop) == (0.5, 3, ("x",))
    assert params.logit_bias == {7: 1.0}
    assert type(params.temperature) is float and type(params.top_k) is int


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("temprature", "temperature"),
        ("temp", "temperature"),
        ("repeat_penalty", "repetition_p"),
        ("max_new_tokens", "max_tokens"),
    ],
)
def test_unknown_parameter_suggests_a_name(wrong: str, right: str) -> None:
    with pytest.raises(SamplingError, match=f"did you mean '{right}"):
        SamplingParams.create(**{wrong: 1})


def test_metadata_counts_where_the_user_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    metadata = {
        "general.sampling.temp": 0.6,
        "general.sampling.top_k": np.int32(20),
        "general.sampling.top_p": np.float32(0.9),
        "general.sampling.penalty_repeat": 1.05,
        "general.sampling.sequence": "top_k;unheard_of;temp",
        "general.name": "x",
    }
    params = SamplingParams.from_metadata(metadata, top_k=5, temperature=None, min_p=None)
    assert params == SamplingParams(
        temperature=0.6,
        top_k=5,
        top_p=float(np.float32(0.9)),
        repetition_penalty=1.05,
        samplers=("top_k", "temp"),
    )
    assert "unheard_of" in caplog.text
    assert SamplingParams.from_metadata({}) == SamplingParams()
    with pytest.raises(SamplingError, match=r"general.sampling.top_p of the model file"):
        SamplingParams.from_metadata({"general.sampling.top_p": 7.0})


# registry


def test_every_sampler_file_is_found_by_its_name() -> None:
    assert {"top_k", "dist", "mirostat_v2", "logit_bias"} <= set(names())
    for name in names():
        found = registry.find(name)
        assert found.name == name
        assert found.__module__.rsplit(".", 1)[1] == name


def test_samplers_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def load(self) -> type:
            return type("Other", (registry.find("greedy"),), {"name": "other"})

    caches = registry._lookup, registry._all
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point()])
    for cached in caches:
        cached.cache_clear()
    try:
        assert chain("other").sample(np.arange(3, dtype=np.float32)) == 2
    finally:
        for cached in caches:
            cached.cache_clear()


# properties

values = st.floats(-50, 50, width=32) | st.just(-math.inf)
vectors = (
    st.integers(1, 3000)
    .flatmap(lambda n: arrays(np.float32, n, elements=values))
    .filter(lambda x: bool((x > -math.inf).any()))
)


@settings(max_examples=60, deadline=None)
@given(vectors, st.integers(1, 400))
def test_top_positions_is_a_stable_sort(logits: Floats, k: int) -> None:
    expected = np.argsort(-logits, kind="stable")
    np.testing.assert_array_equal(top_positions(logits, min(k, len(logits))), expected[:k])
    np.testing.assert_array_equal(descending(logits), expected)


@pytest.mark.parametrize("k", [1, 40, 3000, 20000])
@pytest.mark.parametrize("n_possible", [10, 65537])
def test_top_positions_of_a_vocabulary(k: int, n_possible: int) -> None:
    rng = np.random.RandomState(0)
    logits = np.full(65537, -np.inf, dtype=np.float32)
    logits[rng.permutation(65537)[:n_possible]] = np.round(rng.standard_normal(n_possible), 2)
    expected = np.argsort(-logits, kind="stable")[:k]
    np.testing.assert_array_equal(top_positions(logits, k), expected)


chains = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.05, 3),
        "top_k": st.integers(-1, 50),
        "top_p": st.floats(0, 1),
        "min_p": st.floats(0, 1),
        "typical_p": st.floats(0.01, 1),
        "top_n_sigma": st.floats(-1, 3),
        "repetition_penalty": st.floats(0.5, 2),
        "dry_multiplier": st.floats(0, 2),
        "xtc_probability": st.floats(0, 1),
        "dynatemp_range": st.floats(0, 2),
        "min_keep": st.integers(0, 5),
        "mirostat": st.integers(0, 2),
        "seed": st.integers(0, 2**32 - 1),
        "samplers": st.permutations(from_letters("edskypmxt")).map(tuple),
    }
)


@settings(max_examples=150, deadline=None)
@given(chains, vectors)
def test_a_chain_leaves_a_distribution(params: dict[str, Any], logits: Floats) -> None:
    built = chain(SamplingParams(**params, dry_sequence_breakers=()))
    for _ in range(3):
        token = built.sample(logits)
        left = built.last
        assert left is not None and left.probs is not None
        assert logits[token] > -math.inf
        assert not np.isnan(left.logits).any() and not np.isnan(left.probs).any()
        assert abs(float(left.probs.sum(dtype=np.float64)) - 1) < 1e-4
        assert len(set(left.ids.tolist())) == len(left) <= len(logits)
        if left.is_sorted:
            assert (np.diff(left.probs) <= 0).all()
        if params["mirostat"] == 0 and params["top_k"] <= 0:
            assert len(left) >= min(params["min_keep"], len(logits))
        built.accept(token)


# logprobs


def test_log_softmax_and_top_logprobs() -> None:
    rng = np.random.RandomState(0)
    logits = (rng.standard_normal((3, 500)) * 4).astype(np.float32)
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    rows = log_softmax_rows(logits)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, exact, atol=2e-6)
    ids = np.array([4, 0, 499])
    chosen, top_ids, top = top_logprobs(logits, ids, 5)
    np.testing.assert_allclose(chosen, exact[np.arange(3), ids], atol=2e-6)
    np.testing.assert_array_equal(top_ids, np.argsort(-logits, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(top, np.sort(exact, axis=1)[:, :-6:-1], atol=2e-6)
    assert top_logprobs(logits, ids, 0)[2].shape == (3, 0)


def test_logprobs_errors() -> None:
    logits = np.zeros((2, 4), dtype=np.float32)
    with pytest.raises(SamplingError, match="one per row"):
        top_logprobs(logits, np.array([0, 4]), 1)
    with pytest.raises(SamplingError, match=r"0\.\.4, got 5"):
        top_logprobs(logits, np.array([0, 1]), 5)
    with pytest.raises(SamplingError, match="-inf as its largest"):
        log_softmax_rows(np.full((1, 3), -np.inf, dtype=np.float32))
