"""Hooks: what is read is what the model computes with, and what is written is used."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import jitllm
from jitllm.kernels import reference as kernels
from jitllm.llm.hooks import Hook

TEXT = "Once upon a time there was"
N_LAYERS, N_HEADS, N_KV, HEAD_DIM, WIDTH = 5, 8, 4, 8, 64


def test_reading_changes_nothing(stories: jitllm.Model) -> None:
    expected = stories.forward(TEXT)
    logits, cache = stories.run_with_cache(TEXT)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(cache["unembed.hook_out"], expected)
    seen: list[str] = []
    logits = stories.run_with_hooks(TEXT, [("blk.*", lambda x, hook: seen.append(hook.name))])
    np.testing.assert_array_equal(logits, expected)
    assert len(seen) == len(set(seen)) > 50


def test_shapes(stories: jitllm.Model) -> None:
    n_tokens = len(stories.tokenize(TEXT))
    _, cache = stories.run_with_cache(TEXT, lambda name: True)
    shapes = {
        "hook_embed": (n_tokens, WIDTH),
        "blocks.2.hook_resid_pre": (n_tokens, WIDTH),
        "blocks.2.attn.hook_q": (n_tokens, N_HEADS, HEAD_DIM),
        "blocks.2.attn.hook_k": (n_tokens, N_KV, HEAD_DIM),
        "blocks.2.attn.hook_z": (n_tokens, N_HEADS, HEAD_DIM),
        "blocks.2.attn.hook_pattern": (N_HEADS, n_tokens, n_tokens),
        "blocks.2.mlp.hook_post": (n_tokens, 172),
        "blk.2.kqv_out": (n_tokens, N_HEADS * HEAD_DIM),
        "ln_final.hook_out": (n_tokens, WIDTH),
    }
    assert {name: cache[name].shape for name in shapes} == shapes
    assert {array.dtype for array in cache.values()} == {np.dtype(np.float32)}
    assert set(cache) == set(stories.hook_points().names())


def test_values_belong_together(stories: jitllm.Model) -> None:
    _, cache = stories.run_with_cache(TEXT, "blocks.*")
    for i in range(N_LAYERS):
        block = f"blocks.{i}."
        middle = cache[block + "hook_resid_pre"] + cache[block + "hook_attn_out"]
        np.testing.assert_allclose(cache[block + "hook_resid_mid"], middle, atol=1e-5)
        post = cache[block + "hook_resid_mid"] + cache[block + "hook_mlp_out"]
        np.testing.assert_allclose(cache[block + "hook_resid_post"], post, atol=1e-5)
        pattern = cache[block + "attn.hook_pattern"]
        np.testing.assert_allclose(pattern.sum(axis=2), 1, atol=1e-4)
        assert not np.triu(pattern, 1).any()
        v = np.repeat(cache[block + "attn.hook_v"], N_HEADS // N_KV, axis=1)
        z = np.einsum("hqk,khd->qhd", pattern, v)
        np.testing.assert_allclose(cache[block + "attn.hook_z"], z, atol=5e-3)
    np.testing.assert_array_equal(cache["blocks.1.hook_in"], cache["blocks.0.hook_resid_post"])


def test_the_cache_is_the_callers(reference: jitllm.Model) -> None:
    _, cache = reference.run_with_cache(TEXT, "blocks.1.hook_resid_post")
    before = cache["blocks.1.hook_resid_post"].copy()
    reference.forward("something else")
    np.testing.assert_array_equal(cache["blocks.1.hook_resid_post"], before)
    assert list(cache) == ["blocks.1.hook_resid_post"]
    with pytest.raises(KeyError, match="was not kept; near ones: blocks.1.hook_resid_post"):
        cache["blocks.1.hook_resid_pos"]
    assert cache.nbytes == before.nbytes
    assert "1 activations" in repr(cache)


def test_patterns_are_only_kept_when_asked_for(reference: jitllm.Model) -> None:
    _, cache = reference.run_with_cache(TEXT)
    assert "blocks.0.hook_resid_pre" in cache and "blocks.0.attn.hook_z" in cache
    assert not any("pattern" in name for name in cache)
    assert not any(name.startswith("blk.") for name in cache)


def test_an_edit_is_what_the_rest_computes_with(stories: jitllm.Model) -> None:
    def replace(x: NDArray[np.float32], hook: Hook) -> NDArray[np.float64]:
        return np.zeros(x.shape) + 0.25

    _, cache = stories.run_with_cache(TEXT, "blk.4.l_out")
    direction = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    logits = stories.run_with_hooks(TEXT, [("blk.4.l_out", lambda x, hook: x + direction)])
    norm, output = _final_weights(stories)
    expected = kernels.rms_norm(cache["blk.4.l_out"] + direction, norm, 1e-5) @ output.T
    np.testing.assert_allclose(logits, expected, atol=0.02)
    logits = stories.run_with_hooks(TEXT, [("hook_embed", replace)])
    np.testing.assert_allclose(np.ptp(logits, axis=0), 0, atol=0.05)  # all tokens look alike


def _final_weights(model: jitllm.Model) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    from jitllm.llm.loaders.gguf import GGUFFile

    with GGUFFile(model.identity.paths[0]) as file:
        norm = file.data("output_norm.weight").view(np.float32).copy()
        name = "output.weight" if "output.weight" in file.tensors else "token_embd.weight"
        output = file.data(name).view(np.float32).reshape(-1, WIDTH).copy()
    return norm, output


def test_editing_in_place_equals_returning(stories: jitllm.Model) -> None:
    def in_place(z: NDArray[np.float32], hook: Hook) -> None:
        z[:, 3] = 0

    def returned(z: NDArray[np.float32], hook: Hook) -> NDArray[np.float32]:
        z = z.copy()
        z[:, 3] = 0
        return z

    name = "blocks.2.attn.hook_z"
    first = stories.run_with_hooks(TEXT, [(name, in_place)])
    np.testing.assert_array_equal(first, stories.run_with_hooks(TEXT, [(name, returned)]))
    assert np.abs(first - stories.forward(TEXT)).max() > 0.1


def test_patterns_can_be_edited(stories: jitllm.Model) -> None:
    def only_self(pattern: NDArray[np.float32], hook: Hook) -> NDArray[np.float32]:
        n_queries, n_keys = pattern.shape[1:]
        return np.broadcast_to(np.eye(n_queries, n_keys, n_keys - n_queries), pattern.shape)

    kept: dict[str, NDArray[np.float32]] = {}

    def keep(x: NDArray[np.float32], hook: Hook) -> None:
        kept[hook.name] = x.copy()

    stories.run_with_hooks(
        TEXT,
        [
            ("blocks.1.attn.hook_pattern", only_self),
            ("blocks.1.attn.hook_v", keep),
            ("blocks.1.attn.hook_z", keep),
        ],
    )
    v = np.repeat(kept["blocks.1.attn.hook_v"], N_HEADS // N_KV, axis=1)
    np.testing.assert_allclose(kept["blocks.1.attn.hook_z"], v, atol=5e-3)


def test_hooks_run_in_order_and_once_for_each_value(reference: jitllm.Model) -> None:
    calls: list[tuple[str, str]] = []

    def note(which: str) -> Any:
        return lambda x, hook: calls.append((which, hook.name))

    hooks = [("blocks.3.hook_resid_post", note("a")), ("blocks.3.*", note("b"))]
    reference.run_with_hooks(TEXT, hooks)
    at_end = [which for which, name in calls if name == "blocks.3.hook_resid_post"]
    assert at_end == ["a", "b"]
    assert [which for which, name in calls if name.endswith(("hook_out", "resid_post"))] != []
    taps = {name: point.tap for name, point in _points(reference).items()}
    seen = [taps[name] for which, name in calls if which == "b"]
    assert len(seen) == len(set(seen))


def _points(model: jitllm.Model) -> Any:
    from jitllm.llm.graph.hook_names import hook_points

    return hook_points(model.engine.graph)


def test_layer_numbers() -> None:
    assert Hook("blocks.12.attn.hook_z").layer() == 12
    assert Hook("blk.3.l_out").layer() == 3
    with pytest.raises(jitllm.HookError, match="of a layer, got 'hook_embed'"):
        Hook("hook_embed").layer()


def test_block_affects_generation_and_ends(stories: jitllm.Model) -> None:
    plain = stories.generate(TEXT, max_tokens=8, temperature=0)

    def push(x: NDArray[np.float32], hook: Hook) -> NDArray[np.float32]:
        x[:] = 0
        x[:, 450] = 10
        return x

    with stories.hooks({"unembed.hook_out": push}) as inside:
        assert inside is stories
        hooked = stories.generate(TEXT, max_tokens=3, temperature=0)
    assert hooked.token_ids == [450] * 3
    assert stories.generate(TEXT, max_tokens=8, temperature=0).token_ids == plain.token_ids


def test_recording_sees_the_edits_of_a_block(reference: jitllm.Model) -> None:
    with reference.hooks({"blocks.0.hook_resid_post": lambda x, hook: x * 0}):
        _, cache = reference.run_with_cache(TEXT, ["blocks.0.hook_resid_post"])
    assert not cache["blocks.0.hook_resid_post"].any()


@pytest.mark.parametrize("names", ["blocks.1.hook_resid_pots", "blocks.*.nothing", 7])
def test_unknown_names(reference: jitllm.Model, names: Any) -> None:
    with pytest.raises(jitllm.HookError, match="expected (a|the name of a) hook point"):
        reference.run_with_cache(TEXT, [names])
    if isinstance(names, str) and "pots" in names:
        with pytest.raises(jitllm.HookError, match="near ones: blocks.1.hook_resid_post"):
            reference.run_with_hooks(TEXT, [(names, lambda x, hook: None)])


def test_wrong_functions(stories: jitllm.Model) -> None:
    name = "blocks.1.attn.hook_z"
    expected = stories.forward(TEXT)
    with pytest.raises(jitllm.HookError, match=re.escape("of shape [")):
        stories.run_with_hooks(TEXT, [(name, lambda z, hook: z[:1])])
    with pytest.raises(jitllm.HookError, match="got <U1"):
        stories.run_with_hooks(TEXT, [(name, lambda z, hook: "x")])
    with pytest.raises(jitllm.HookError, match="expected a function"):
        stories.run_with_hooks(TEXT, [(name, 5)])  # type: ignore[list-item]
    with pytest.raises(ZeroDivisionError):
        stories.run_with_hooks(TEXT, [(name, lambda z, hook: 1 / 0)])
    with pytest.raises(jitllm.HookError, match="cannot run the model"):
        stories.run_with_hooks(TEXT, [(name, lambda z, hook: stories.forward("a"))])
    with pytest.raises(jitllm.HookError, match="cannot close the model"):
        stories.run_with_hooks(TEXT, [(name, lambda z, hook: stories.close())])
    np.testing.assert_array_equal(stories.forward(TEXT), expected)


def test_long_prompts_are_joined() -> None:
    from models import model_path

    ids = [1] + [300 + i % 100 for i in range(599)]
    with jitllm.load(
        model_path("stories260K"), device="cpu", n_ctx=640, kv_dtype="f32", progress=False
    ) as model:
        names = ["blocks.0.attn.hook_pattern", "blocks.4.hook_resid_post"]
        _, cache = model.run_with_cache(ids, names)
        assert cache["blocks.4.hook_resid_post"].shape == (600, WIDTH)
        pattern = cache["blocks.0.attn.hook_pattern"]
        assert pattern.shape == (N_HEADS, 600, 600)
        np.testing.assert_allclose(pattern.sum(axis=2), 1, atol=1e-4)


def test_table(reference: jitllm.Model) -> None:
    points = reference.hook_points()
    by_name = {info.name: info for info in points}
    assert by_name["blocks.0.attn.hook_q"].shape == "[T, 8, 8]"
    assert by_name["blk.0.attn_q"].shape == "[T, 64]"
    assert by_name["unembed.hook_out"].shape == "[O, 512]"
    assert by_name["blk.0.kqv_out.pattern"].shape == "[heads, T, keys]"
    assert by_name["blk.0.attn_q"].bytes_per_token == 4 * 64
    assert by_name["blk.0.kqv_out.pattern"].bytes_per_token == 4 * 8
    assert "computed" in by_name["blk.0.kqv_out.pattern"].extra_cost
    assert len(repr(points).splitlines()) == len(points) + 1
    html = points._repr_html_()
    assert html.count("<tr>") == len(points) + 1


def test_hooks_as_a_mapping(reference: jitllm.Model) -> None:
    pairs = [("blocks.1.hook_resid_post", lambda x, hook: 0 * x)]
    expected = reference.run_with_hooks("Once upon", pairs)
    np.testing.assert_array_equal(reference.run_with_hooks("Once upon", dict(pairs)), expected)


def test_numbers_beyond_float32_are_refused(reference: jitllm.Model) -> None:
    for value in (1e39, -1e300):
        hook = ("blocks.0.hook_resid_post", lambda x, hook, value=value: np.full(x.shape, value))
        with pytest.raises(jitllm.HookError, match="float32 can hold, up to 3.403e.38, got float6"):
            reference.run_with_hooks("Once", [hook])
    inf = ("blk.0.attn_norm", lambda x, hook: x.astype(float))
    assert np.isfinite(reference.run_with_hooks("Once", [inf])).all()
