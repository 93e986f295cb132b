// Numbers that are worked out when a kernel is compiled, from the bits that Rust has.
// needs: types.cuh

// The number of a float32's bits, 0 or normal.
constexpr double number_of(u32 bits) {
    double number = 8388608 + (bits & 0x7fffff);
    for (u32 exponent = bits >> 23 & 0xff; exponent < 150; exponent++) number /= 2;
    return (bits & 0x7fffffff) == 0 ? 0.0 : bits >> 31 ? -number : number;
}

// The largest float32 that is no larger than a positive number below 1.
constexpr float round_down(double x) {
    double unit = 1.0 / 8388608;
    while (x < unit * 8388608) unit /= 2;
    return (float)((u32)(x / unit) * unit);
}
