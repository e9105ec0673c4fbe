"""Operators across instruments at one time: over the defined cells of the point-in-time universe, not over what is loaded (T3).

Sums run over the sorted values, so the result does not depend on the order of the columns or on instruments outside the universe.
"""

from __future__ import annotations

import math

import numpy as np

from trading_platform.features.operators.kernel import NAN, Kind, Operator, defined, is_infinite, kernel


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
def ordered_mean(values):
    """Mean of the values, added in ascending order."""
    total = 0.0
    for v in np.sort(values):
        total += v
    return total / values.size


@kernel
def rank(member, x, out):
    """Average rank / count, in (0, 1]."""
    rows, width = x.shape
    values, columns = np.empty(width), np.empty(width, np.int64)
    for t in range(rows):
        out[t, :] = NAN
        count = gather(member, x, t, values, columns)
        order = np.argsort(values[:count])
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
        middle = ordered_mean(values[:count])
        squares = (values[:count] - middle) ** 2
        spread = math.sqrt(ordered_mean(squares) * count / (count - 1.0))
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
            middle = ordered_mean(same[:size])
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
    return ascending[below] * (1.0 - share) + ascending[above] * share


@kernel
def winsorize(member, x, tail, out):
    """x limited to its quantiles tail and 1 - tail, linearly interpolated."""
    rows, width = x.shape
    values, columns = np.empty(width), np.empty(width, np.int64)
    for t in range(rows):
        out[t, :] = NAN
        count = gather(member, x, t, values, columns)
        if count == 0:
            continue
        ascending = np.sort(values[:count])
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
        mine, theirs = values[:count] - ordered_mean(values[:count]), others - ordered_mean(others)
        spread = ordered_mean(theirs * theirs)
        slope = ordered_mean(mine * theirs) / spread if spread > 0.0 else 0.0
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
