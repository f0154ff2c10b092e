"""What numba compiles: sums over edges, cosines and degrees, their threads, loops of sparse features and of Metattack.

``kernels`` is the door: it says whether a loop serves (``available``), runs it, and turns all of them off
(``disabled``). numba is imported where a loop is first run.
"""
