"""Order statistics over the last n present bars: extremes by the two-block scheme, rank and quantiles by a sorted window."""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, StateShapes, defined, kernel, share_one_place


@kernel
def larger(a, b):
    """The larger of two values, NaN if either is."""
    return b if b > a or b != b else a


@kernel
def close_extremes(ring, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix maxima."""
    for j in range(n - 2, -1, -1):
        below, above = ring[j, lo:hi], ring[j + 1, lo:hi]
        for s in range(below.size):
            below[s] = larger(below[s], above[s])


@kernel
def extremes(present, dense, lo, ring, run, head, full, x, n, side, out):
    """Window maximum of side * x, times side (side -1 gives the minimum). ring (n, S), run (S,) as in rolling_moments."""
    rows, width = x.shape
    hi = lo + width
    if dense and share_one_place(head, full, lo, hi):
        p, f, running = head[lo], full[lo], run[lo:hi]
        for t in range(rows):
            values, result, cells, suffix = x[t], out[t], ring[p, lo:hi], ring[min(p + 1, n - 1), lo:hi]
            for s in range(width):
                v = side * values[s]
                best = v if p == 0 else larger(running[s], v)
                running[s] = best
                whole = best if p + 1 == n else larger(best, suffix[s])
                cells[s] = v
                result[s] = defined(side * whole) if f or p + 1 == n else NAN
            p += 1
            if p == n:
                close_extremes(ring, lo, hi, n)
                p, f = 0, 1
        for s in range(lo, hi):
            head[s], full[s] = p, f
        return 0
    for s in range(width):
        c = lo + s
        p, f, best = head[c], full[c], run[c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = side * x[t, s]
            best = v if p == 0 else larger(best, v)
            whole = best if p + 1 == n else larger(best, ring[p + 1, c])
            ring[p, c] = v
            out[t, s] = defined(side * whole) if f or p + 1 == n else NAN
            p += 1
            if p == n:
                close_extremes(ring, c, c + 1, n)
                p, f = 0, 1
        head[c], full[c], run[c] = p, f, best
    return 0


def _extreme_state(params: Params) -> StateShapes:
    return {"ring": ((int(params["n"]),), "f8"), "run": ((), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _n_less_one(params: Params) -> int:
    return int(params["n"]) - 1


def _windowed(name: str, kernel_function, summary: str, state, extra) -> Operator:
    return Operator(name, Kind.WINDOW, kernel_function, 1, summary, ("n",), extra=extra, state=state, warm_up=_n_less_one)


OPERATORS = (
    _windowed("max", extremes, "largest of the last n present bars", _extreme_state, lambda params: (1.0,)),
    _windowed("min", extremes, "smallest of the last n present bars", _extreme_state, lambda params: (-1.0,)),
)
