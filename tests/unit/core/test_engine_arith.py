"""exp, log and sine of the core keep the error bounds their header states."""

from __future__ import annotations

import math
import random
from typing import Any

import mpmath
import pytest

from streams.core import load

mpmath.mp.dps = 40
BOUND_ULP = 2.0


@pytest.fixture(scope="module")
def bindings() -> Any:
    return load()


def ulps(found: float, exact: Any) -> float:
    return float(abs(mpmath.mpf(found) - exact) / mpmath.mpf(math.ulp(float(exact))))


def test_exp_is_within_two_ulp(bindings: Any) -> None:
    rng = random.Random(1)
    points = [0.0, -0.0, 1.0, -1.0, 709.0, -708.0, 5e-324, -1e-300, 1e-17, -0.05, math.log(2) / 2]
    points += [rng.uniform(-708, 709) for _ in range(3000)]
    points += [-rng.uniform(0.01, 1.0) for _ in range(3000)]
    points += [rng.choice((-1, 1)) * 10 ** rng.uniform(-20, 0) for _ in range(2000)]
    assert max(ulps(bindings.exp_at(x), mpmath.exp(mpmath.mpf(x))) for x in points) <= BOUND_ULP


def test_exp_of_what_is_too_small_is_zero(bindings: Any) -> None:
    assert [bindings.exp_at(x) for x in (-709.0, -745.0, -1e9)] == [0.0, 0.0, 0.0]
    assert bindings.exp_at(0.0) == 1.0


def test_log_is_within_two_ulp(bindings: Any) -> None:
    rng = random.Random(2)
    half = math.sqrt(0.5)
    points = [2.0, 0.5, 1e-24, 1e24, 2.2250738585072014e-308, 1.7976931348623157e308]
    points += [half, math.nextafter(half, 0), math.nextafter(half, 1), 2 * half]
    points += [math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0), 1 + 1e-9, 1 - 1e-9]
    points += [10 ** rng.uniform(-300, 300) for _ in range(2000)]
    points += [1 + rng.choice((-1, 1)) * 10 ** rng.uniform(-15, -0.5) for _ in range(4000)]
    points += [k / 127 for k in range(1, 127)]
    assert max(ulps(bindings.log_at(x), mpmath.log(mpmath.mpf(x))) for x in points) <= BOUND_ULP
    assert bindings.log_at(1.0) == 0.0


def test_sine_of_a_part_of_a_turn_is_within_a_2_to_the_minus_51(bindings: Any) -> None:
    worst = mpmath.mpf(0)
    for n in (1, 2, 3, 7, 8, 12, 97, 127, 128, 1000, 1024):
        for i in range(n):
            exact = mpmath.sinpi(mpmath.mpf(2 * i) / n)
            worst = max(worst, abs(mpmath.mpf(bindings.sin_turn_at(i, n)) - exact))
    assert worst <= mpmath.mpf(2) ** -51
