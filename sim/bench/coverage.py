"""Functional coverage: named bins that a bench must hit."""

from collections import Counter

__all__ = ["Coverage"]


class Coverage:
    """Counts hits of bins that are all named beforehand.

    >>> cover = Coverage("empty", "full")
    >>> cover.hit("full")
    >>> cover.assert_complete()
    Traceback (most recent call last):
    AssertionError: coverage: never hit: empty
    """

    def __init__(self, *bins: str):
        self.bins: Counter[str] = Counter(dict.fromkeys(bins, 0))

    def hit(self, name: str, when: object = True) -> None:
        """Count ``name`` if ``when`` is true."""
        if name not in self.bins:
            raise KeyError(f"coverage bin {name!r} was never declared")
        if when:
            self.bins[name] += 1

    def assert_complete(self) -> None:
        """Fail for a bin that nothing hit."""
        missed = [name for name, hits in self.bins.items() if not hits]
        assert not missed, f"coverage: never hit: {', '.join(missed)}"
