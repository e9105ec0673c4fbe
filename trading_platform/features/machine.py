"""The one compiled loop that runs any program: a table of steps over blocks of columns that stay in the processor's cache.

A program is data (`plan.Plan`), so a new feature set compiles nothing. Batch walks blocks of BLOCK_COLUMNS columns and few rows, every
step of the table over those cells before the next ones; a live row is one block. How the cells are cut changes no bit.
"""

from __future__ import annotations

import numpy as np

from trading_platform.features import blocks
from trading_platform.features.borrowed import array_at, unowned
from trading_platform.features.operators import (
    clock,
    recursive,
    rolling_moments,
    rolling_order,
    rolling_pairs,
    rolling_shape,
    rolling_trend,
    session,
)
from trading_platform.features.operators import elementwise as cell
from trading_platform.features.operators.kernel import kernel, pasted

BLOCK_COLUMNS = 256  # long vectors
BLOCK_CELLS = 4 * BLOCK_COLUMNS  # a slot of 8 KiB: what one step reads and writes fits the first cache

LOAD, COPY, WIDE_LOAD, WIDE_STORE = range(4)
ADD, SUB, MUL, DIV, NEG, ABS, SIGN, LOG, EXP, SQRT, CLIP, MAXIMUM, MINIMUM, LT, LE, EQUAL, WHERE = range(4, 21)
LAG, SMOOTH, BARS_SINCE, SUMS, VARIANCE, EXTREMES, AGES, RANK, SORTED, PAIRS, SHAPE, TREND, DECAY = range(21, 34)
RUNNING_SUM, RUNNING_EXTREME, FIRST, PREVIOUS_LAST, BARS_SINCE_OPEN = range(34, 39)
SUM_OVER, MINUTE_OF_SESSION, SAME_MINUTE_MEAN = range(39, 42)

CODES = {
    cell.add: ADD,
    cell.sub: SUB,
    cell.mul: MUL,
    cell.div: DIV,
    cell.neg: NEG,
    cell.absolute: ABS,
    cell.sign: SIGN,
    cell.log: LOG,
    cell.exp: EXP,
    cell.sqrt: SQRT,
    cell.clip: CLIP,
    cell.maximum: MAXIMUM,
    cell.minimum: MINIMUM,
    cell.less: LT,
    cell.less_or_equal: LE,
    cell.equal: EQUAL,
    cell.where: WHERE,
    recursive.lag: LAG,
    recursive.smooth: SMOOTH,
    recursive.bars_since: BARS_SINCE,
    rolling_moments.sums: SUMS,
    rolling_moments.variance: VARIANCE,
    rolling_order.extremes: EXTREMES,
    rolling_order.extreme_ages: AGES,
    rolling_order.window_rank: RANK,
    rolling_order.sorted_window: SORTED,
    rolling_pairs.pairs: PAIRS,
    rolling_shape.shape: SHAPE,
    rolling_trend.trend: TREND,
    rolling_trend.decay: DECAY,
    session.running_sum: RUNNING_SUM,
    session.running_extreme: RUNNING_EXTREME,
    session.first: FIRST,
    session.previous_last: PREVIOUS_LAST,
    session.bars_since_open: BARS_SINCE_OPEN,
    clock.sum_over: SUM_OVER,
    clock.minute_of_session: MINUTE_OF_SESSION,
    clock.same_minute_mean: SAME_MINUTE_MEAN,
}
"""The code of each kernel that the machine runs; an operator with another kernel is called by the program at full width."""


@pasted
def run_elementwise(code, x, y, z, u, v, out):
    """One step on single cells; u, v: its parameters. Returns how many infinities it made undefined."""
    if code == ADD:
        return cell.add(x, y, out)
    if code == SUB:
        return cell.sub(x, y, out)
    if code == MUL:
        return cell.mul(x, y, out)
    if code == DIV:
        return cell.div(x, y, out)
    if code == NEG:
        return cell.neg(x, out)
    if code == ABS:
        return cell.absolute(x, out)
    if code == SIGN:
        return cell.sign(x, out)
    if code == LOG:
        return cell.log(x, out)
    if code == EXP:
        return cell.exp(x, out)
    if code == SQRT:
        return cell.sqrt(x, out)
    if code == CLIP:
        return cell.clip(x, u, v, out)
    if code == MAXIMUM:
        return cell.maximum(x, y, out)
    if code == MINIMUM:
        return cell.minimum(x, y, out)
    if code == LT:
        return cell.less(x, y, out)
    if code == LE:
        return cell.less_or_equal(x, y, out)
    if code == EQUAL:
        return cell.equal(x, y, out)
    return cell.where(x, y, z, out)


@pasted
def run_window(code, present, seen, aligned, places, lo, state, x, y, n, u, out):
    """One step over the last present bars; n: its window, u: its further parameter. Returns how many infinities it made undefined."""
    if code == LAG:
        return recursive.lag(present, seen, aligned, places, lo, state, x, n, out)
    if code == SMOOTH:
        return recursive.smooth(present, seen, aligned, places, lo, state, x, n, u, out)
    if code == BARS_SINCE:
        return recursive.bars_since(present, seen, aligned, places, lo, state, x, out)
    if code == SUMS:
        return rolling_moments.sums(present, seen, aligned, places, lo, state, x, n, u, out)
    if code == VARIANCE:
        return rolling_moments.variance(present, seen, aligned, places, lo, state, x, n, u > 0.0, out)
    if code == EXTREMES:
        return rolling_order.extremes(present, seen, aligned, places, lo, state, x, n, u, out)
    if code == AGES:
        return rolling_order.extreme_ages(present, seen, aligned, places, lo, state, x, n, u, out)
    if code == RANK:
        return rolling_order.window_rank(present, seen, aligned, places, lo, state, x, n, out)
    if code == SORTED:
        return rolling_order.sorted_window(present, seen, aligned, places, lo, state, x, n, u, out)
    if code == PAIRS:
        return rolling_pairs.pairs(present, seen, aligned, places, lo, state, x, y, n, int(u), out)
    if code == SHAPE:
        return rolling_shape.shape(present, seen, aligned, places, lo, state, x, n, u > 0.0, out)
    if code == TREND:
        return rolling_trend.trend(present, seen, aligned, places, lo, state, x, n, int(u), out)
    return rolling_trend.decay(present, seen, aligned, places, lo, state, x, n, out)


@pasted
def run_session(code, present, opens, lo, state, x, u, out):
    """One step within the exchange session; u: its parameter. Returns how many infinities it made undefined."""
    if code == RUNNING_SUM:
        return session.running_sum(present, opens, lo, state, x, out)
    if code == RUNNING_EXTREME:
        return session.running_extreme(present, opens, lo, state, x, u, out)
    if code == FIRST:
        return session.first(present, opens, lo, state, x, out)
    if code == PREVIOUS_LAST:
        return session.previous_last(present, opens, lo, state, x, out)
    return session.bars_since_open(present, opens, lo, state, out)


@pasted
def run_clock(code, present, minutes, steps, lo, state, x, n, u, v, out):
    """One step that knows the time; n, u, v: its parameters. Returns how many infinities it made undefined."""
    if code == SUM_OVER:
        return clock.sum_over(present, minutes, steps, lo, state, x, n, out)
    if code == MINUTE_OF_SESSION:
        return clock.minute_of_session(present, minutes, steps, lo, state, out)
    return clock.same_minute_mean(present, minutes, steps, lo, state, x, n, u, v, out)


@kernel
def run_steps(
    table, numbers, fields, wide, minutes, steps, start, columns, lo, present, opens, seen, shifted, aligned, places, state, values
):  # fmt: skip
    """The whole table over one block: the chunk's `columns` from row `start`, the state's from `lo`. Returns how many infinities it made
    undefined.

    shifted (w,) float64: scratch, for windows count from their own phase (plan.phase_of). Never pasted into its caller: that holds the
    arrays which are borrowed here.
    """
    table, numbers, wide = unowned(table), unowned(numbers), unowned(wide)
    present, opens, seen, places = unowned(present), unowned(opens), unowned(seen), unowned(places)
    state, values, minutes, steps, columns = unowned(state), unowned(values), unowned(minutes), unowned(steps), unowned(columns)
    made, flat = 0, values.reshape(values.shape[0], present.size)
    stop, shifted = start + present.shape[0], unowned(shifted)
    for k in range(table.shape[0]):
        code, a, b, c, to, first, last, at, phase = table[k]
        if code == LOAD:
            made += b * blocks.load_field(array_at(fields[a], wide.shape[1], wide.shape[2])[start:stop], columns, present, values[to])
        elif code == COPY:
            values[to] = values[a]
        elif code == WIDE_LOAD:
            blocks.load_columns(wide[a, start:stop], columns, values[to])
        elif code == WIDE_STORE:
            blocks.store_columns(values[a], columns, wide[to, start:stop])
        elif code <= WHERE:
            made += run_elementwise(code, flat[a], flat[b], flat[c], numbers[at], numbers[at + 1], flat[to])
        elif code <= DECAY:
            n, u, held = int(numbers[at]), numbers[at + 1], state[first:last]
            for s in range(shifted.size):
                shifted[s] = seen[s] + phase
            made += run_window(code, present, shifted, aligned, places, lo, held, values[a], values[b], n, u, values[to])
        elif code <= BARS_SINCE_OPEN:
            made += run_session(code, present, opens, lo, state[first:last], values[a], numbers[at], values[to])
        else:
            n, u, v, held = int(numbers[at]), numbers[at + 1], numbers[at + 2], state[first:last]
            made += run_clock(code, present, minutes[start:stop], steps[start : stop + 1], lo, held, values[a], n, u, v, values[to])
    return made


@kernel
def one_number(values):
    """True if all values are equal."""
    for s in range(1, values.size):  # noqa: SIM110  (a kernel: numba knows loops)
        if values[s] != values[0]:
            return False
    return True


@kernel
def advance(
    table, numbers, constants, slots, fields, present, sessions, minutes, steps, rows_seen, last_session, state, wide, work, narrow, broad,
    columns,
):  # fmt: skip
    """Run one table over a strip: all T rows of a chunk, some of its columns.

    columns (W,) uint64: their places in the chunk; rows_seen, last_session (W,) and the state (R, >= W) are those of the strip.
    table, numbers, constants, slots: see plan. fields (.,) int64: addresses of the chunk's fields, each float64 (T, S). present (T, S),
    sessions (T,), minutes (T,), steps (T + 1,), wide (., T, S): the chunk's, see operators.kernel. rows_seen, last_session int64: as
    of the row before the chunk; not written. state: advanced. work: float64 scratch for `slots` blocks. narrow, broad (T, S, F):
    float32 or float64 feature matrix; the one not wanted (and before the last level both) has F = 0. Returns how many infinities were made
    undefined.
    """
    rows, made = present.shape[0], 0
    width = columns.size if rows == 1 else min(columns.size, BLOCK_COLUMNS)
    height = max(1, BLOCK_CELLS // width)
    for a in range(0, columns.size, width):
        b = min(a + width, columns.size)
        these = columns[a:b]
        seen, shifted = rows_seen[a:b].astype(np.float64), np.empty(b - a)
        days, places = last_session[a:b].copy(), np.empty(b - a, np.int64)
        for start in range(0, rows, height):
            stop = min(start + height, rows)
            shape = (stop - start, b - a)
            here, opens = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
            dense = blocks.load_present(present[start:stop], these, sessions[start:stop], days, here, opens)
            aligned = dense and one_number(seen)
            values = work[: slots * shape[0] * shape[1]].reshape(slots, shape[0], shape[1])
            for k in range(constants.shape[0]):
                values[int(constants[k, 0])] = constants[k, 1]
            made += run_steps(
                table, numbers, fields, wide, minutes, steps, start, these, a, here, opens, seen, shifted, aligned, places, state, values
            )
            if narrow.shape[2]:
                stack = values[: narrow.shape[2]]
                made += blocks.keep_within(stack, blocks.LARGEST_FLOAT32)
                blocks.write_features(stack, these, narrow[start:stop])
            if broad.shape[2]:
                blocks.write_features(values[: broad.shape[2]], these, broad[start:stop])
            for t in range(shape[0]):
                cells = here[t]
                for s in range(shape[1]):
                    seen[s] += 1.0 if cells[s] else 0.0
    return made
