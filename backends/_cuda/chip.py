"""What GPUs can do in a clock, by compute capability: products of many rows are chosen by it.

Numbers are those of one multiprocessor. Those of tensor cores follow from NVIDIA's white papers,
which give operations a second, two for each product: divided by the clock and multiprocessors that
stand beside them. `float32` are lanes of the programming guide's table of arithmetic instructions,
"32-bit floating-point add, multiply, multiply-add".
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Chip:
    """A GPU.

    Attributes
    ----------
    float16 : int
        Products of float16 in a clock, added in float32.
    int8 : int
        The same of int8.
    float32 : int
        Multiplications and additions of float32 in a clock.
    multiprocessors : int
    """

    float16: int
    int8: int
    float32: int
    multiprocessors: int = 132


# From the capability on. GPUs of 10.x multiply fastest by instructions that no kernel here uses;
# for mma they are taken to be as fast as 9.0.
CHIPS = {
    (7, 5): Chip(512, 1024, 64),  # Turing: T4, 65 and 130 T/s, 40 at 1.59 GHz
    (8, 0): Chip(1024, 2048, 64),  # Ampere: A100, 312 and 624 T/s, 108 at 1.41 GHz
    (8, 6): Chip(512, 1024, 128),  # Ampere: A40, 149.7 and 299 T/s, 84 at 1.74 GHz
    (8, 9): Chip(512, 1024, 128),  # Ada: L40S, 362 and 733 T/s, 142 at 2.52 GHz
    # Hopper: H100, 989 and 1979 T/s by wgmma, 132 at 1.83 GHz, which is 2048 and 4096; mma reaches
    # 0.62 of it (arXiv 2402.13499, which measured it).
    (9, 0): Chip(1280, 2560, 128),
    (12, 0): Chip(512, 1024, 128),  # Blackwell: RTX PRO 6000, 504 and 1007 T/s, 188 at 2.62 GHz
}
PLANNED = CHIPS[9, 0]  # where there is no device: what a plan counts is the same for all


def chip_of(capability: tuple[int, int], name: str, multiprocessors: int) -> Chip:
    """Return a device's chip; GeForce adds in float32 at half the rate, as the same papers say."""
    chip = CHIPS[max(known for known in CHIPS if known <= capability)]
    halves = 2 if "GeForce" in name else 1
    return replace(chip, float16=chip.float16 // halves, multiprocessors=multiprocessors)
