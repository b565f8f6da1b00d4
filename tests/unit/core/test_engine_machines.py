"""The same candles give the same bytes on every machine: the golden run of the compiled core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.core import ENGINE_VERSION, build_info

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = {"qfh-2.0.0": "c2e553d24af81d2aecc6069b2e4a8cf63159b4b5b94c07614d7e2f6fe95cda88"}
"""Hash over 20,000 candles, by engine version: a new hash needs a new version."""

PROGRAM = """
import hashlib
from streams.core import CandleStream, build_manifold
from tests.support.engine_market import market

candles = market(20_000, seed=20260101)
digest = hashlib.sha256()

def add(rows):  # by column: the bytes between the fields belong to nobody
    for name in rows.dtype.names:
        digest.update(rows[name].tobytes())

for parameters in ((1500, 60, 2), (129, 1, 0), (5000, 1440, 6)):
    add(CandleStream(*parameters).run(*candles))
batch = build_manifold(*candles.part(0, 3000), precision=3, lookback_minutes=60)
add(batch.signals)
digest.update(repr((batch.sigma_eff, batch.lambda_)).encode())
print(digest.hexdigest())
"""
NO_FMA_NOR_AVX2 = "glibc.cpu.hwcaps=-FMA,-AVX2_Usable,-AVX2,-FMA4"


@pytest.mark.parametrize("tunables", [None, NO_FMA_NOR_AVX2], ids=["as it is", "no FMA, no AVX2"])
def test_the_golden_hash_does_not_depend_on_the_c_library_s_choices(tunables: str | None) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("GLIBC_TUNABLES", None)
    if tunables:
        environment["GLIBC_TUNABLES"] = tunables
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == GOLDEN[ENGINE_VERSION]


def test_the_core_says_how_it_was_compiled() -> None:
    info = build_info()
    assert info.compiler
    assert info.cplusplus >= 201703
    assert info.vector_bits in (128, 256, 512)
    assert (Path(info.headers) / "bindings/bindings.hpp").is_file()
