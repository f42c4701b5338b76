"""DeepSeek V3 and R1: "deepseek2". Source: transformers, `DeepseekV3ForCausalLM`."""

from jitllm.llm.convert import deepseek_v2

ARCHITECTURE = "deepseek2"
CLASSES = ("DeepseekV3ForCausalLM",)
DEFAULTS = deepseek_v2.DEFAULTS | {
    "max_position_embeddings": 4096, "first_k_dense_replace": 3, "moe_intermediate_size": 2048,
    "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_experts_per_tok": 8, "q_lora_rank": 1536, "routed_scaling_factor": 2.5, "topk_group": 4,
}  # fmt: skip

convert = deepseek_v2.convert
