"""What the stages minimize, without networks: the same for a UNet and for an MLP of two numbers.

A network is a callable `(x_t, t, condition) -> v` with timesteps `(B,)`; what a condition is, only
the network knows.
"""
