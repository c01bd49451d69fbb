"""Networks as pure functions: arrays in, arrays out.

Everything here works on explicit pytrees and is safe under `jit`, `vmap`, `grad` and `scan`.
"""
