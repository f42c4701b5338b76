// What the 4-bit codes of IQ4_NL and IQ4_XS stand for.
const float LEVELS[16] = float[](-127, -104, -83, -65, -49, -35, -22, -10,
                                 1, 13, 25, 38, 53, 69, 89, 113);
