"""What holds for every test: how to repeat its random choices, how long it may take."""

import os

import pytest


def pytest_report_header() -> str:
    """One line on the benches' seed."""
    seed = os.environ.get("SERRANO_SEED")
    if seed:
        return f"benches: seed {seed} (SERRANO_SEED)"
    return "benches: a fixed seed each; SERRANO_SEED=random draws one, SERRANO_SEED=n repeats it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only quick tests have a limit of time."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(0))
