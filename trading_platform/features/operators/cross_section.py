"""Operators across instruments at one time: over the defined cells of the point-in-time universe, not over what is loaded (T3).

Means add whole numbers, so the result does not depend on the order of the columns or on instruments outside the universe.
"""

from __future__ import annotations

import math

import numpy as np

from trading_platform.features.operators.kernel import LARGEST, NAN, Kind, Operator, defined, is_infinite, kernel

FEW = 40  # names
LOW_63 = (1 << 63) - 1


@kernel
def gather(member, x, t, values, columns):
    """Copy the defined cells of the universe of row t; return how many."""
    count = 0
    for s in range(x.shape[1]):
        if member[t, s] and x[t, s] == x[t, s]:
            values[count], columns[count] = x[t, s], s
            count += 1
    return count


@kernel
def ascending_order(values, scratch):
    """Sort values; `scratch` (4, >= n) int64. Returns which of its rows holds their places in ascending order.

    By radix, a byte at a time, because a comparison sort of a few hundred names takes four times as long; few names by insertion.
    """
    count, now = values.size, 0
    keys, order = scratch[:2], scratch[2:]
    if count <= FEW:
        for k in range(count):
            i = k
            while i > 0 and values[order[0, i - 1]] > values[k]:
                order[0, i] = order[0, i - 1]
                i -= 1
            order[0, i] = k
        return 2
    bits, tallies = values.view(np.int64), np.zeros((8, 256), np.int64)
    for k in range(count):
        key = bits[k] ^ ((bits[k] >> 63) & LOW_63)  # integers in the order of the numbers
        keys[0, k], order[0, k] = key, k
        for byte in range(8):
            tallies[byte, (key >> (8 * byte)) & 255] += 1
    for byte in range(8):
        tally, shift, flip = tallies[byte], 8 * byte, 128 if byte == 7 else 0  # the sign's byte: negative ones first
        if tally[(keys[now, 0] >> shift) & 255] == count:
            continue
        place = 0
        for digit in range(256):
            held = tally[digit ^ flip]
            tally[digit ^ flip] = place
            place += held
        for k in range(count):
            digit = (keys[now, k] >> shift) & 255
            to = tally[digit]
            tally[digit] = to + 1
            keys[1 - now, to], order[1 - now, to] = keys[now, k], order[now, k]
        now = 1 - now
    return 2 + now


@kernel
def mean_of(values):
    """Mean that no order of the values can change: they are added as whole multiples of 2^-48 or so of their range.

    Exact for equal values. NaN where a value or the range is not finite.
    """
    low, high = values[0], values[0]
    for v in values:
        low = v if v < low or v != v else low
        high = v if v > high or v != v else high
    span = high - low
    if not 0.0 < span <= LARGEST:
        return low + 0.0 if span == 0.0 else NAN  # never -0.0, whichever zero came first
    bits = 62 - math.frexp(float(values.size))[1] - math.frexp(span)[1]
    first, second = math.ldexp(1.0, bits // 2), math.ldexp(1.0, bits - bits // 2)  # one power alone may overflow
    total = 0
    for v in values:
        total += int((v - low) * first * second)
    return low + float(total) / values.size / first / second


@kernel
def rank(member, x, out):
    """Average rank / count, in (0, 1]."""
    rows, width = x.shape
    values, columns, scratch = np.empty(width), np.empty(width, np.int64), np.empty((4, width), np.int64)
    for t in range(rows):
        out[t, :] = NAN
        count = gather(member, x, t, values, columns)
        if count == 0:
            continue
        order = scratch[ascending_order(values[:count], scratch)]
        i = 0
        while i < count:
            j = i
            while j + 1 < count and values[order[j + 1]] == values[order[i]]:
                j += 1
            for k in range(i, j + 1):
                out[t, columns[order[k]]] = (0.5 * (i + j) + 1.0) / count
            i = j + 1
    return 0


@kernel
def zscore(member, x, out):
    """(x - mean) / sample standard deviation; undefined where all are equal."""
    rows, width = x.shape
    values, columns = np.empty(width), np.empty(width, np.int64)
    made = 0
    for t in range(rows):
        out[t, :] = NAN
        count = gather(member, x, t, values, columns)
        if count < 2:
            continue
        middle = mean_of(values[:count])
        squares = (values[:count] - middle) ** 2
        spread = math.sqrt(mean_of(squares) * count / (count - 1.0))
        for k in range(count):
            v = (values[k] - middle) / spread if spread > 0.0 else NAN
            made += is_infinite(v)
            out[t, columns[k]] = defined(v)
    return made


@kernel
def demean(member, x, group, out):
    """x minus the mean of its group; the groups are the distinct values of `group`, undefined groups give undefined results."""
    rows, width = x.shape
    values, columns, same = np.empty(width), np.empty(width, np.int64), np.empty(width)
    made = 0
    for t in range(rows):
        out[t, :] = NAN
        count = gather(member, x, t, values, columns)
        for k in range(count):
            own = group[t, columns[k]]
            if own != own or out[t, columns[k]] == out[t, columns[k]]:
                continue
            size = 0
            for j in range(count):
                if group[t, columns[j]] == own:
                    same[size] = values[j]
                    size += 1
            middle = mean_of(same[:size])
            for j in range(count):
                if group[t, columns[j]] == own:
                    v = values[j] - middle
                    made += is_infinite(v)
                    out[t, columns[j]] = defined(v)
    return made


@kernel
def between(ascending, place):
    """The value at a place from 0 to n - 1 of n ascending values, linearly interpolated."""
    below = min(int(place), ascending.size - 2) if ascending.size > 1 else 0
    above = min(below + 1, ascending.size - 1)
    share = place - below
    return ascending[below] * (1.0 - share) + ascending[above] * share + 0.0  # never -0.0, whichever zero came first


@kernel
def winsorize(member, x, tail, out):
    """x limited to its quantiles tail and 1 - tail, linearly interpolated."""
    rows, width = x.shape
    values, columns, scratch = np.empty(width), np.empty(width, np.int64), np.empty((4, width), np.int64)
    for t in range(rows):
        out[t, :] = NAN
        count = gather(member, x, t, values, columns)
        if count == 0:
            continue
        ascending = values[:count][scratch[ascending_order(values[:count], scratch)][:count]]
        low, high = between(ascending, tail * (count - 1.0)), between(ascending, (1.0 - tail) * (count - 1.0))
        for k in range(count):
            out[t, columns[k]] = min(max(values[k], low), high)
    return 0


@kernel
def neutralize(member, x, y, out):
    """What is left of x after its regression on y and a constant; x less its mean where y does not move."""
    rows, width = x.shape
    values, columns = np.empty(width), np.empty(width, np.int64)
    made = 0
    for t in range(rows):
        out[t, :] = NAN
        found, count = gather(member, x, t, values, columns), 0
        for k in range(found):
            if y[t, columns[k]] == y[t, columns[k]]:
                values[count], columns[count] = values[k], columns[k]
                count += 1
        if count < 2:
            continue
        others = np.empty(count)
        for k in range(count):
            others[k] = y[t, columns[k]]
        mine, theirs = values[:count] - mean_of(values[:count]), others - mean_of(others)
        spread = mean_of(theirs * theirs)
        slope = mean_of(mine * theirs) / spread if spread > 0.0 else (0.0 if others.min() == others.max() else NAN)
        for k in range(count):
            v = mine[k] - slope * theirs[k]
            made += is_infinite(v)
            out[t, columns[k]] = defined(v)
    return made


OPERATORS = (
    Operator("cs_rank", Kind.CROSS_SECTION, rank, 1, "average rank / count among the universe's defined cells, in (0, 1]"),
    Operator("cs_zscore", Kind.CROSS_SECTION, zscore, 1, "(x - mean) / sample standard deviation over the universe's defined cells"),
    Operator("cs_demean", Kind.CROSS_SECTION, demean, 2, "x minus its group's mean over the universe's defined cells"),
    Operator(
        "cs_winsorize",
        Kind.CROSS_SECTION,
        winsorize,
        1,
        "x limited to its quantiles tail and 1 - tail over the universe's defined cells",
        params=("tail",),
    ),
    Operator("cs_neutralize", Kind.CROSS_SECTION, neutralize, 2, "x less its regression on y over the universe's defined cells"),
)
