"""ALiBi: how much each head lowers the score of a key by the distance to it."""

import math

import numpy as np
import numpy.typing as npt


def alibi_slopes(n_heads: int, max_bias: float) -> npt.NDArray[np.float32]:
    """Return the slopes of all heads, float32 [n_heads].

    For n_heads = 2^m they are 2^(-max_bias / n_heads) to the powers 1, 2, ..., n_heads. Other
    counts take those of the power of two below, then every second one of the power above. Source:
    Press, Smith and Lewis, "Train Short, Test Long", 2021, whose max_bias is 8.
    """
    below = 1 << int(math.log2(n_heads))
    powers = [(h + 1) / below for h in range(below)]
    powers += [(2 * h + 1) / (2 * below) for h in range(n_heads - below)]
    return (2.0 ** (-max_bias * np.array(powers))).astype(np.float32)
