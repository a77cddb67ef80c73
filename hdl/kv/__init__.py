"""KV cache: page walk, append, page slots, visits."""

from hdl.kv.records import Operand
from hdl.kv.unit import KVCache, KVUnit

__all__ = ["KVCache", "KVUnit", "Operand"]
