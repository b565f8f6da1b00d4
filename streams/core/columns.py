"""Candles as arrays, checked before their addresses are passed to the core."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streams.errors import Fatal


class Columns(NamedTuple):
    """Candles as C-contiguous arrays of one length: int64, three float64, int64."""

    bar_ms: NDArray[np.int64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.int64]

    def addresses(self) -> tuple[int, int, int, int, int]:
        """Return the addresses of the arrays' first elements, in the order of the fields."""
        return (
            address_of(self.bar_ms),
            address_of(self.high),
            address_of(self.low),
            address_of(self.close),
            address_of(self.volume),
        )


def address_of(array: NDArray[Any]) -> int:
    """Return the address of an array's first element."""
    # __array_interface__ also describes every field of a structured array: 14 us instead of 1
    return int(array.ctypes.data)


def columns(
    bar_ms: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike
) -> Columns:
    """Return the candles as checked arrays; arrays of the right form are not copied.

    Raises
    ------
    Fatal
        A column is not one-dimensional, or has the wrong type or length.
    """
    checked = Columns(
        _column("bar_ms", bar_ms, "iu", np.int64),
        _column("high", high, "fiu", np.float64),
        _column("low", low, "fiu", np.float64),
        _column("close", close, "fiu", np.float64),
        _column("volume", volume, "iu", np.int64),
    )
    for name, column in zip(Columns._fields, checked, strict=True):
        if len(column) != len(checked.bar_ms):
            raise Fatal(
                f"candles: column {name} has {len(column)} values, bar_ms {len(checked.bar_ms)}"
            )
    return checked


def _column(name: str, values: ArrayLike, kinds: str, dtype: type[Any]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise Fatal(f"candles: column {name} has {array.ndim} dimensions, one is needed")
    if len(array) and array.dtype.kind not in kinds:
        raise Fatal(f"candles: column {name} is of type {array.dtype}, {dtype.__name__} is needed")
    return np.ascontiguousarray(array, dtype=dtype)
