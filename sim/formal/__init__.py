"""Formal proofs of Amaranth components with Yosys and ABC, both from PyPI's ``pyosys``.

A complete example::

    # tests/hdl/test_counter_proof.py
    from hdl.counter import Counter          # its elaborate() has Assert(...) and Cover(...)
    from sim.formal import cover, prove

    def test_counter():
        result = prove(Counter(), depth=20)
        assert result.passed, result         # every assertion holds for ever
        assert cover(Counter(), depth=20)["wrapped"] is not None

What is not in the component's own RTL (rules of a protocol, assumptions on inputs) goes into a
component around it, as ``tests/hdl/sdram/proof.py``.
"""

from sim.formal.prove import Failure, Result, cover, prove

__all__ = ["Failure", "Result", "cover", "prove"]
