"""Which tensor gets which type, by llama-quantize's own records and by hand."""

import json
import lzma
import re
from collections.abc import Iterator
from typing import Any

import gguf
import pytest
from recorders.quantize_types import TARGET

from jitllm.llm.quantize import ftypes
from jitllm.llm.quantize.places import in_order, place
from jitllm.llm.quantize.rules import ModelFacts, Rules, fitting_type, needs_imatrix

# Types that llama-quantize chose for real models; recorded by recorders/quantize_types.py.
SNAPSHOTS = json.loads(lzma.decompress(TARGET.read_bytes()))
SHAPE = {"2": (256,), "3": (4, 256)}


def spread(places: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Tensor names and what stands for them; layers are written like "0-3 7"."""
    for suffix, parts in places.items():
        for value, layers in parts.items():
            for first, last in re.findall(r"(\d+)(?:-(\d+))?", layers):
                for i in range(int(first), int(last or first) + 1):
                    yield f"blk.{i}.{suffix}", value
            if not layers:
                yield suffix, value


@pytest.mark.parametrize("model", SNAPSHOTS)
def test_types_are_those_of_llama_quantize(model: str) -> None:
    known = SNAPSHOTS[model]
    tensors = dict(spread(known["tensors"]))
    facts = ModelFacts(
        known["architecture"], known["n_layers"], known["n_expert"], known["n_gqa"],
        n_values=sum(place(name) == "value" for name in tensors),
        tied="output.weight" not in tensors, is_70b="70b" in model,
    )  # fmt: skip
    for name in known["types"]:
        ftype = ftypes.get(name)
        expected = {n: ftype.type_name for n in tensors} | dict(spread(known["types"][name]))
        rules, got = Rules(ftype, facts), {}
        for tensor in in_order(list(tensors)):
            dims, columns = tensors[tensor].split()
            chosen = rules.choose(tensor, (*SHAPE[dims], int(columns)))
            got[tensor] = fitting_type(chosen, int(columns))
        assert got == expected, name


def test_all_ftypes_are_known_or_later_than_the_snapshots() -> None:
    recorded = set(SNAPSHOTS["qwen3-0.6b"]["types"])
    assert len(SNAPSHOTS) == 12 and all(set(m["types"]) == recorded for m in SNAPSHOTS.values())
    assert set(ftypes.names()) - recorded == {"F32", "F16", "BF16", "Q1_0", "Q2_0"}
    assert recorded < set(ftypes.names()) and len(ftypes.names()) == 35


def test_names_and_numbers_of_ftypes() -> None:
    assert ftypes.get("iq2_s") == ("IQ2_S", 28, "IQ2_XS") == ftypes.get("28")
    assert ftypes.get("q4_k") == ftypes.get("15") == ("Q4_K_M", 15, "Q4_K")
    assert ftypes.get("0").name == "F32" and ftypes.get("copy") is ftypes.COPY
    numbers = [ftypes.get(name).number for name in ftypes.names()]
    known = {f"MOSTLY_{name}": n for name, n in zip(ftypes.names(), numbers, strict=True)}
    for kind in gguf.LlamaFileType:
        name = kind.name.replace("ALL_F32", "MOSTLY_F32")
        assert known.get(name, kind.value) == kind.value
    with pytest.raises(ValueError, match="or its number, got '4'"):
        ftypes.get("4")


@pytest.mark.parametrize(
    ("ftype", "facts", "name", "expected"),
    [
        ("Q4_K_M", {"n_expert": 8}, "blk.0.attn_v.weight", "Q8_0"),
        ("Q4_K_M", {"n_expert": 8}, "blk.0.attn_k.weight", "Q8_0"),
        ("Q4_K_M", {"n_expert": 8}, "blk.0.attn_output.weight", "Q5_K"),
        ("Q4_0", {"has_imatrix": True}, "blk.0.ffn_down.weight", "Q4_1"),
        ("Q4_0", {}, "blk.0.ffn_down.weight", "Q4_0"),
        ("IQ4_XS", {"has_imatrix": True}, "blk.0.ffn_down.weight", "IQ4_XS"),
        ("IQ4_XS", {}, "blk.0.ffn_down.weight", "Q5_K"),
        ("Q4_K_M", {"architecture": "falcon"}, "blk.0.ffn_down.weight", "Q6_K"),
        ("Q3_K_L", {"architecture": "falcon"}, "blk.0.attn_output.weight", "Q4_K"),
        ("Q4_K_M", {"architecture": "falcon"}, "output.weight", "Q8_0"),
        ("TQ1_0", {}, "token_embd.weight", "Q4_K"),
        ("Q2_0", {}, "token_embd.weight", "Q4_K"),
        ("Q2_0", {}, "output.weight", "Q6_K"),
        ("Q1_0", {}, "token_embd.weight", "Q1_0"),
        ("Q4_K_M", {"architecture": "glm5-next"}, "blk.0.attn_q_a.weight", "Q8_0"),
        ("IQ2_XS", {"n_expert": 8}, "blk.0.attn_v.weight", "Q4_K"),
        ("IQ2_XS", {"n_expert": 8}, "blk.0.attn_k.weight", "Q4_K"),
        ("IQ2_XS", {"n_expert": 8}, "blk.0.attn_output.weight", "Q5_K"),
        ("IQ3_XS", {"n_expert": 8}, "blk.0.attn_output.weight", "Q5_K"),
        ("IQ1_S", {"architecture": "falcon"}, "blk.0.attn_output.weight", "IQ2_XXS"),
        ("IQ3_M", {"architecture": "falcon"}, "blk.0.attn_output.weight", "IQ3_S"),
        ("IQ3_M", {"n_expert": 8}, "blk.31.ffn_down_exps.weight", "Q4_K"),
        ("IQ3_M", {}, "blk.31.ffn_down.weight", "Q4_K"),  # the first one that is counted
        ("IQ3_XXS", {"has_imatrix": True}, "blk.0.ffn_down.weight", "IQ3_XXS"),
        ("IQ3_XXS", {"has_imatrix": True}, "blk.0.attn_v.weight", "IQ3_XXS"),
        ("IQ3_XS", {"n_expert": 2}, "blk.4.ffn_gate.weight", "IQ3_XXS"),
        ("IQ3_XS", {"n_expert": 2}, "blk.28.ffn_gate.weight", "IQ3_S"),
    ],
)
def test_rules_by_hand(ftype: str, facts: dict[str, Any], name: str, expected: str) -> None:
    known = ModelFacts(**{"architecture": "llama", "n_layers": 32, "n_values": 32, **facts})
    assert Rules(ftypes.get(ftype), known).choose(name, (256, 256)) == expected


@pytest.mark.parametrize(
    ("name", "type_name", "ftype", "expected"),
    [
        ("blk.0.ffn_up.weight", "IQ2_XS", "IQ2_S", True),
        ("blk.0.ffn_up.weight", "IQ3_XXS", "IQ3_XS", True),
        ("blk.0.ffn_up.weight", "IQ3_S", "IQ3_S", False),
        ("blk.0.ffn_up.weight", "Q2_K", "Q2_K_S", True),
        ("blk.0.ffn_up.weight", "Q2_K", "Q2_K", False),
        ("token_embd.weight", "Q2_K", "Q2_K_S", False),
        ("output.weight", "IQ1_S", "Q4_0", False),
    ],
)
def test_what_needs_importance(name: str, type_name: str, ftype: str, expected: bool) -> None:
    assert needs_imatrix(name, type_name, ftype) == expected


@pytest.mark.parametrize(
    ("type_name", "columns", "expected"),
    [
        ("IQ1_S", 512, "IQ1_S"), ("IQ1_S", 96, "IQ4_NL"), ("IQ3_S", 128, "IQ4_NL"),
        ("Q2_0", 96, "Q4_0"), ("Q1_0", 64, "F16"), ("Q4_K", 100, "F16"), ("TQ2_0", 32, "Q4_0"),
    ],
)  # fmt: skip
def test_what_does_not_fit(type_name: str, columns: int, expected: str) -> None:
    assert fitting_type(type_name, columns) == expected
