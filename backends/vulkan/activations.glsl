// act(x), by its place in ACTIVATIONS of backends/_gpu/lower.py.
float sigmoid(float x) { return 1 / (1 + exp(-x)); }

float tanh_(float x) {  // exact near 0, and never inf / inf
    if (abs(x) < 0.05) return x * (1 - x * x * (1.0 / 3 - x * x * (2.0 / 15)));
    return 1 - 2 / (exp(2 * min(x, 40.0)) + 1);
}

// Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26: within 1.5e-7.
float erf_(float x) {
    float t = 1 / (1 + 0.3275911 * abs(x));
    float p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
               + 0.254829592) * t;
    return sign(x) * (1 - p * exp(-x * x));
}

// ln(1 + e) = 2 artanh(e / (2 + e)), whose series keeps the digits of small e.
float softplus(float x) {
    float e = exp(-abs(x)), s = e / (2 + e), z = s * s;
    float p = 1.0 / 9 + z * (1.0 / 11 + z * (1.0 / 13 + z / 15));
    return max(x, 0) + 2 * (s + s * z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * p))));
}

float activate(uint act, float x) {
    switch (act) {
    case 0: return x * sigmoid(x);
    case 1: return 0.5 * x * (1 + tanh_(0.7978845608 * (x + 0.044715 * x * x * x)));
    case 2: return 0.5 * x * (1 + erf_(x * 0.7071067812));
    case 3: return x * sigmoid(1.702 * x);
    case 4: return max(x, 0);
    case 5: return max(x, 0) * max(x, 0);
    case 6: return sigmoid(x);
    case 7: return tanh_(x);
    case 8: return softplus(x);
    }
    return x;
}

// Gated units within bounds, by their place in FORMS of backends/_gpu/lower.py.
float bounded(uint form, float gate, float up, float a, float b) {
    float held = clamp(up, -a, a), low = min(gate, a);
    switch (form) {
    case 0: return low * sigmoid(low) * held;
    case 1: return min(gate * sigmoid(gate), a) * held;
    case 2: return low * sigmoid(b * low) * (held + 1);
    }
    return a * tanh_(gate / a) * sigmoid(gate) * (b > 0 ? b * tanh_(up / b) : up);
}
