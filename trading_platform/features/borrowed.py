"""Arrays without an owner, for compiled loops. Whoever calls the loop must hold the memory for as long as it runs.

Numba counts references for every view it makes, atomically, and a row of 64 cells is over before the counting is (`unowned`). And a
function that took the panel's fields as arrays would be compiled anew for each number of fields, so it takes their addresses (`array_at`).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array, populate_array


def unowned(array: Any) -> Any:
    """The same array; inside compiled code it and its views are not counted."""
    return array


def array_at(address: int, rows: int, columns: int) -> Any:
    """The C-contiguous float64 (rows, columns) array at an address (`array.ctypes.data`)."""
    return np.ctypeslib.as_array(ctypes.cast(int(address), ctypes.POINTER(ctypes.c_double)), (rows, columns))


@intrinsic  # type: ignore[untyped-decorator]
def _without_owner(typing_context: Any, array: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        borrowed = make_array(array)(context, builder, value=arguments[0])
        borrowed.meminfo = cgutils.get_null_value(borrowed.meminfo.type)
        borrowed.parent = cgutils.get_null_value(borrowed.parent.type)
        return impl_ret_borrowed(context, builder, array, borrowed._getvalue())

    return array(array), build


@intrinsic  # type: ignore[untyped-decorator]
def _array_at(typing_context: Any, address: Any, rows: Any, columns: Any) -> Any:
    array = types.Array(types.float64, 2, "C")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = make_array(array)(context, builder)
        at, height, width = (context.cast(builder, value, kind, types.intp) for value, kind in zip(arguments, signature.args, strict=True))
        size = context.get_constant(types.intp, 8)
        strides = [builder.mul(width, size), size]
        populate_array(made, builder.inttoptr(at, made.data.type), [height, width], strides, size, None)
        return impl_ret_borrowed(context, builder, array, made._getvalue())

    return array(address, rows, columns), build


@overload(unowned)  # type: ignore[untyped-decorator]
def _compiled_unowned(array):  # numba compares this signature with the inner one: no annotations
    return (lambda array: _without_owner(array)) if isinstance(array, types.Array) else None


@overload(array_at)  # type: ignore[untyped-decorator]
def _compiled_array_at(address, rows, columns):
    return lambda address, rows, columns: _array_at(address, rows, columns)
