-- Rows whose open or close lies outside their own range, or that stand twice.
select instrument_id, session from {{ ref('bars_daily_rollup') }}
where not (low <= least(open, close) and high >= greatest(open, close) and low > 0)
union all
select instrument_id, session from {{ ref('bars_daily_rollup') }} group by all having count(*) > 1
