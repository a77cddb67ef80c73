"""Golden model: the chip's arithmetic in NumPy, bit for bit."""
