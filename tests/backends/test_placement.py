"""Layers on devices, counted as llama.cpp counts them."""

from bisect import bisect_right
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitllm.backends.placement import CPU, layer_of, place

# By hand from llama.cpp's `load_tensors` (i_gpu_start, act_gpu_layers): the device of each layer,
# a bar, that of the output. c is the CPU, G the device.
ONE_DEVICE = [
    (1, 0, "c|c"),
    (1, 1, "c|G"),
    (1, 2, "G|G"),
    (1, 3, "G|G"),
    (1, -1, "G|G"),
    (2, 0, "cc|c"),
    (2, 1, "cc|G"),
    (2, 2, "cG|G"),
    (2, 3, "GG|G"),
    (2, 4, "GG|G"),
    (4, 0, "cccc|c"),
    (4, 1, "cccc|G"),
    (4, 2, "cccG|G"),
    (4, 3, "ccGG|G"),
    (4, 4, "cGGG|G"),
    (4, 5, "GGGG|G"),
    (4, 6, "GGGG|G"),
    (4, 99, "GGGG|G"),
    (4, -1, "GGGG|G"),
    (4, -2, "GGGG|G"),
    (30, 0, "c" * 30 + "|c"),
    (30, 1, "c" * 30 + "|G"),
    (30, 15, "c" * 16 + "G" * 14 + "|G"),
    (30, 29, "cc" + "G" * 28 + "|G"),
    (30, 30, "c" + "G" * 29 + "|G"),
    (30, 31, "G" * 30 + "|G"),
    (30, 32, "G" * 30 + "|G"),
]

# Places i of n that are on devices go to the first device whose share ends behind i / n.
SEVERAL = [
    (4, -1, None, "AAAB|B"),  # 2 devices: 0 .2 .4 | .6 .8
    (3, -1, None, "AAB|B"),  # .5 is not below .5
    (4, 2, None, "cccA|B"),
    (4, 1, None, "cccc|A"),
    (4, -1, (3, 1), "AAAA|B"),
    (4, -1, (1, 3), "AABB|B"),
    (4, -1, (0, 1), "BBBB|B"),
    (4, -1, (1, 0), "AAAA|A"),
    (4, -1, (1,), "AAAA|A"),
    (4, -1, (0, 0), "AAAB|B"),
    (9, 5, (0.6, 0.4), "cccccAAA B|B".replace(" ", "")),
]


def shown(n_layers: int, n_gpu_layers: int, names: str, split: tuple[float, ...] | None) -> str:
    placement = place(n_layers, n_gpu_layers, list(names), split=split)
    devices = (*placement.layers, "|", placement.output)
    return "".join("c" if device == CPU else device for device in devices)


@pytest.mark.parametrize(("n_layers", "n_gpu_layers", "expected"), ONE_DEVICE)
def test_the_last_layers_go_first_and_the_output_is_one(
    n_layers: int, n_gpu_layers: int, expected: str
) -> None:
    assert shown(n_layers, n_gpu_layers, "G", None) == expected
    assert shown(n_layers, n_gpu_layers, "", None) == "c" * n_layers + "|c"


@pytest.mark.parametrize(("n_layers", "n_gpu_layers", "split", "expected"), SEVERAL)
def test_several_devices_share_by_proportion(
    n_layers: int, n_gpu_layers: int, split: tuple[float, ...] | None, expected: str
) -> None:
    assert shown(n_layers, n_gpu_layers, "AB", split) == expected


def test_three_equal_parts_meet_at_float32() -> None:
    assert shown(5, -1, "ABC", None) == "AABBC|C"


def _float32(x: float) -> float:
    return float(unpack("<f", pack("<f", x))[0])


@given(
    st.integers(1, 200),
    st.integers(-2, 210),
    st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=16),
)
def test_places_of_any_model(n_layers: int, n_gpu_layers: int, split: list[float]) -> None:
    names = [f"d{i}" for i in range(len(split))]
    placement = place(n_layers, n_gpu_layers, names, split=split)
    n_placed = n_layers + 1 if n_gpu_layers < 0 else min(n_gpu_layers, n_layers + 1)
    placed = [*placement.layers, placement.output]
    assert placement.n_layers_on_device + placement.output_on_device == n_placed
    assert placed[: len(placed) - n_placed] == [CPU] * (len(placed) - n_placed)
    parts, ends = split if any(split) else [1.0] * len(split), list[float]()
    for part in parts:
        ends.append(_float32(part + (ends[-1] if ends else 0.0)))
    ends = [_float32(end / ends[-1]) for end in ends]
    for i, device in enumerate(placed[len(placed) - n_placed :]):
        assert device == names[bisect_right(ends, _float32(i / n_placed))]


def test_tensors_follow_their_layer() -> None:
    placement = place(3, 2, ["gpu"])
    expected = {
        "token_embd.weight": CPU,
        "position_embd.weight": CPU,
        "per_layer_token_embd.weight": CPU,
        "token_embd_norm.weight": CPU,  # of the first layer
        "blk.0.attn_q.weight": CPU,
        "blk.1.attn_q.weight": CPU,
        "blk.2.attn_q.weight": "gpu",
        "enc.blk.2.ffn_up.weight": "gpu",
        "blk.2.nextn.eh_proj.weight": "gpu",
        "output_norm.weight": "gpu",
        "output.weight": "gpu",
    }
    assert {name: placement.device_of(name) for name in expected} == expected
    assert placement.device_of("token_embd.weight", as_output=True) == "gpu"
    assert placement.cache_of("blk.2.attn") == "gpu" and placement.cache_of("blk.1.attn") == CPU
    assert place(3, -1, ["gpu"]).device_of("token_embd_norm.weight") == "gpu"
    assert [layer_of(name) for name in ("dec.blk.12.x", "blk.3", "output")] == [12, None, None]


def test_the_first_expression_that_matches_decides() -> None:
    rules = [(r"blk\.1\.ffn_up", "b"), (r"ffn_", CPU), (r"ffn_up", "a")]
    placement = place(2, -1, ["a", "b"], split=(1, 0), overrides=rules)
    names = ("blk.1.ffn_up.weight", "blk.0.ffn_up.weight", "blk.11.ffn_up.weight", "blk.0.attn_q.w")
    assert [placement.device_of(name) for name in names] == ["b", CPU, CPU, "a"]


def test_experts_on_the_cpu() -> None:
    experts = ("ffn_up_exps", "ffn_gate_exps", "ffn_down_exps", "ffn_gate_up_exps", "ffn_up_chexps")
    dense = ("ffn_up", "ffn_gate", "ffn_down", "ffn_up_shexp", "ffn_gate_inp", "attn_q")

    def left(layer: int, names: tuple[str, ...], **options: bool | int) -> list[str]:
        placement = place(12, -1, ["gpu"], **options)  # type: ignore[arg-type]
        full = {name: f"blk.{layer}.{name}.weight" for name in names}
        return [name for name in names if placement.device_of(full[name]) == CPU]

    both = experts + dense
    assert left(11, both, cpu_moe=True) == list(experts)
    assert left(1, both, n_cpu_moe=2) == list(experts)
    assert left(2, both, n_cpu_moe=2) == left(11, both, n_cpu_moe=2) == []
    assert left(0, both, n_cpu_ffn=1) == ["ffn_up", "ffn_gate", "ffn_down"]
    assert left(10, both, n_cpu_ffn=1) == []


def test_caches_stay_when_told() -> None:
    assert place(2, -1, ["gpu"]).caches == ("gpu", "gpu")
    assert place(2, -1, ["gpu"], offload_kv=False).caches == (CPU, CPU)
    assert place(2, 2, ["gpu"]).caches == (CPU, "gpu")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        place(0, 1, ["gpu"])
    with pytest.raises(ValueError, match="a split of at most 1"):
        place(2, 1, ["gpu"], split=(1, 2))
    with pytest.raises(ValueError, match="a split of at most 2"):
        place(2, 1, ["a", "b"], split=(1, -2))
    with pytest.raises(ValueError, match="a device among"):
        place(2, 1, ["a"], overrides=[("x", "b")])
    with pytest.raises(ValueError, match="expected an expression"):
        place(2, 1, ["a"], overrides=[("(", "a")])
    with pytest.raises(ValueError, match="numbers of layers"):
        place(2, 1, ["a"], n_cpu_moe=-1)
    with pytest.raises(ValueError, match="a layer below 2"):
        place(2, 1, ["a"]).device_of("blk.2.attn_q.weight")
