"""The core's own tests pass, and its golden run has one hash, whatever g++ makes of the headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from streams.engine import cpp_dir

SOURCE = Path(__file__).resolve().parents[2] / "cpp" / "tests" / "core_test.cpp"
GOLDEN = "8f278bfe4a997a54"
"""Hash of the golden run. It changes with ENGINE_VERSION and with nothing else."""


def cpu_has(flag: str) -> bool:
    return f" {flag} " in Path("/proc/cpuinfo").read_text().replace("\n", " ")


@pytest.mark.parametrize(
    "flags", [["-O0"], ["-O3", "-march=native"], ["-O2", "-mavx2"]], ids=" ".join
)
def test_own_tests_pass_and_the_golden_hash_holds(flags: list[str], tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    assert compiler, "g++ is needed: the core is a C++ library (install the package g++)"
    program = tmp_path / "core_test"
    subprocess.run(
        [
            *(compiler, "-std=c++17", "-Wall", "-Wextra", "-ffp-contract=off", *flags),
            *(f"-I{cpp_dir()}", str(SOURCE), "-o", str(program)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    if "-mavx2" in flags and not cpu_has("avx2"):
        return  # it compiles; this machine cannot run it
    tests = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (tests.returncode, tests.stdout) == (0, "all good\n")
    golden = subprocess.run([program, "hash"], capture_output=True, text=True, check=True)
    assert golden.stdout.strip() == GOLDEN
