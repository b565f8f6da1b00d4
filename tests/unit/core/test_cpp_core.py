"""The core's own tests pass, and its golden run has one hash, whatever g++ makes of the headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from streams.core import cpp_dir

TESTS = Path(__file__).resolve().parents[3] / "cpp" / "tests"
GOLDEN = {"core_test": "8f278bfe4a997a54", "gate_test": "5a3aa5fd404a3ebb"}
"""Hashes of the golden runs. They change with ENGINE_VERSION and with nothing else."""


def cpu_has(flag: str) -> bool:
    return f" {flag} " in Path("/proc/cpuinfo").read_text(encoding="utf-8").replace("\n", " ")


def compiled(name: str, flags: list[str], directory: Path) -> Path:
    compiler = shutil.which("g++")
    assert compiler, "g++ is needed: the core is a C++ library (install the package g++)"
    program = directory / name
    subprocess.run(
        [
            *(compiler, "-std=c++17", "-Wall", "-Wextra", "-ffp-contract=off", *flags),
            *(f"-I{cpp_dir()}", str(TESTS / f"{name}.cpp"), "-o", str(program)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return program


@pytest.mark.parametrize(
    "flags", [["-O0"], ["-O3", "-march=native"], ["-O2", "-mavx2"]], ids=" ".join
)
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_own_tests_pass_and_the_golden_hash_holds(
    name: str, flags: list[str], tmp_path: Path
) -> None:
    program = compiled(name, flags, tmp_path)
    if "-mavx2" in flags and not cpu_has("avx2"):
        return  # it compiles; this machine cannot run it
    tests = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (tests.returncode, tests.stdout) == (0, "all good\n")
    golden = subprocess.run([program, "hash"], capture_output=True, text=True, check=True)
    assert golden.stdout.strip() == GOLDEN[name]


def test_frames_of_records_are_never_read_beyond_their_end(tmp_path: Path) -> None:
    sanitized = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = compiled("frames_test", sanitized, tmp_path)
    tests = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (tests.returncode, tests.stdout) == (0, "all good\n"), tests.stderr
