"""What every test run says first: how to repeat its random choices."""

import os


def pytest_report_header() -> str:
    """One line on the benches' seed."""
    seed = os.environ.get("SERRANO_SEED")
    if seed:
        return f"benches: seed {seed} (SERRANO_SEED)"
    return "benches: a fixed seed each; SERRANO_SEED=random draws one, SERRANO_SEED=n repeats it"
