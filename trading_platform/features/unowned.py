"""Arrays without an owner, for compiled loops: numba counts references for every view it makes, atomically, and a row of 64 cells is
over before the counting is. The caller must hold the array for as long as the borrowed one is used."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array


def unowned(array: Any) -> Any:
    """The same array; inside compiled code it and its views are not counted."""
    return array


@intrinsic  # type: ignore[untyped-decorator]
def _without_owner(typing_context: Any, array: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        borrowed = make_array(array)(context, builder, value=arguments[0])
        borrowed.meminfo = cgutils.get_null_value(borrowed.meminfo.type)
        borrowed.parent = cgutils.get_null_value(borrowed.parent.type)
        return impl_ret_borrowed(context, builder, array, borrowed._getvalue())

    return array(array), build


@overload(unowned)  # type: ignore[untyped-decorator]
def _compiled_unowned(array):  # numba compares this signature with the inner one: no annotations
    return (lambda array: _without_owner(array)) if isinstance(array, types.Array) else None
