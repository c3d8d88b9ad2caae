"""LiteRT's C library, bound by ctypes.

The wheel's own Python wrapper holds the interpreter's lock while it compiles a model and while it
runs one, so that no other thread can work. ctypes gives the lock back for the length of each call:
one network can be opened while another computes.
"""
