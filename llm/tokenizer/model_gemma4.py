"""`gemma4`: BPE over UTF-8 with space marks, lines as words."""

from jitllm.llm.tokenizer import model_gpt2


class Encoder(model_gpt2.Encoder):
    """BPE by the rules of the pre-tokenizer `gemma4`; all special ids come from the file."""

    default_id = None
    pre = "gemma4"
