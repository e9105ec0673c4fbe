-- Minute bars rolled up to sessions: what a daily bar of the regular hours would have been.
with minutes as (
  {{ lake_table(var('minute_bars'), {
      'instrument_id': 'varchar', 'timestamp': 'timestamptz', 'session': 'date',
      'open': 'double', 'high': 'double', 'low': 'double', 'close': 'double', 'volume': 'double'}) }}
)
select
  instrument_id,
  session,
  arg_min(open, "timestamp") as open,
  max(high) as high,
  min(low) as low,
  arg_max(close, "timestamp") as close,
  sum(volume) as volume,
  -- vwap is NULL for a session without any volume, not 0/0
  sum(volume * (high + low + close) / 3) / nullif(sum(volume), 0) as vwap,
  count(*) as minutes,
  min("timestamp") as first_minute,
  max("timestamp") as last_minute
from minutes
group by instrument_id, session
order by session, instrument_id
