"""Rotary position embeddings: the angle per position of every pair, all scaling applied."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rope node needs.

    Attributes
    ----------
    kind : str
        "norm": pairs are columns 2i, 2i + 1 of a head; "neox": columns i, i + n_rot / 2.
    frequencies : float32 [n_rot / 2]
        Radians per position.
    magnitude : float
        Multiplies cosine and sine.
    """

    kind: str
    frequencies: Floats
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How a model was stretched to more positions than it was first trained on.

    Attributes
    ----------
    type : str
        "none", "linear", "yarn" or "longrope"; the last acts through factors only.
    factor : float
        New length / old length.
    attention_factor : float
        Multiplies cosine and sine of all types.
    original_max_position_embeddings : int
        Positions before stretching.
    beta_fast, beta_slow : float
        YaRN: turns over the old length above which a pair is kept, below which it is stretched.
    log_multiplier : float
        YaRN's `mscale_all_dim`; 0 if the model has none.
    """

    type: str = "none"
    factor: float = 1.0
    attention_factor: float = 1.0
    original_max_position_embeddings: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    log_multiplier: float = 0.0


def rotation(
    kind: str,
    n_rot: int,
    theta: float,
    scaling: RopeScaling | None = None,
    factors: Floats | None = None,
) -> Rotation:
    """Return the rotation of heads whose first `n_rot` columns turn.

    Pair i turns by theta^(-2i / n_rot) / factors[i] radians per position (Su et al., "RoFormer",
    2021; `factors` is how Llama 3 and LongRoPE store theirs), divided by the scaling factor for
    linear scaling (Chen et al., "Position Interpolation", 2023), or blended for YaRN.

    Parameters
    ----------
    kind : str
        "norm" or "neox".
    n_rot : int
        Columns that turn, even.
    theta : float
        The base.
    scaling : RopeScaling, optional
    factors : float32 [n_rot / 2], optional
    """
    scaling = scaling or RopeScaling()
    kept = theta ** (-np.arange(0, n_rot, 2, dtype=np.float64) / n_rot)
    if factors is not None:
        kept = kept / factors
    stretched = kept if scaling.type == "none" else kept / scaling.factor
    magnitude = scaling.attention_factor
    if scaling.type == "yarn":
        mix = _yarn_kept(n_rot, theta, scaling)
        stretched = stretched * (1 - mix) + kept * mix
        magnitude *= _yarn_magnitude(scaling)
    return Rotation(kind, stretched.astype(np.float32), magnitude)


def _yarn_kept(n_rot: int, theta: float, scaling: RopeScaling) -> npt.NDArray[np.float64]:
    """Share of each pair's frequency that is kept: 1 for fast pairs, 0 for slow ones.

    Peng et al., "YaRN", 2023, equation 23 and its released code, which rounds the ends outwards.
    """

    def pair_with(turns: float) -> float:  # the pair that turns so often over the old length
        length = scaling.original_max_position_embeddings
        return n_rot * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(0, math.floor(pair_with(scaling.beta_fast)))
    high = min(n_rot - 1, math.ceil(pair_with(scaling.beta_slow)))
    ramp = (np.arange(n_rot // 2) - low) / max(0.001, high - low)
    return np.asarray(1 - np.clip(ramp, 0, 1))


def _yarn_magnitude(scaling: RopeScaling) -> float:
    """0.1 ln(factor) + 1 (YaRN, section 3.4); divided by DeepSeek's `mscale_all_dim` form."""

    def mscale(multiplier: float) -> float:
        return 0.1 * multiplier * math.log(scaling.factor) + 1 if scaling.factor > 1 else 1.0

    return mscale(1.0) / (mscale(scaling.log_multiplier) if scaling.log_multiplier else 1.0)
