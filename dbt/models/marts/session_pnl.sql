-- Profit and loss of each session: the parts of the session reports summed over names, beside the equity change they must add up to.
with pnl as (
  {{ lake_table(var('pnl'), {
      'session_id': 'varchar', 'session': 'date', 'instrument_id': 'varchar', 'equity_before': 'double', 'equity_after': 'double',
      'alpha': 'double', 'delay': 'double', 'cost': 'double', 'fees': 'double', 'dividends': 'double', 'residual': 'double',
      'total': 'double'}) }}
)
select
  session_id,
  any_value(session) as session,
  any_value(equity_before) as equity_before,
  any_value(equity_after) as equity_after,
  sum(alpha) as alpha,
  sum(delay) as delay,
  sum(cost) as cost,
  sum(fees) as fees,
  sum(dividends) as dividends,
  sum(residual) as residual,
  sum(total) as total,
  any_value(equity_after) - any_value(equity_before) as equity_change,
  count(*) filter (where total > 0) as winners,
  count(*) filter (where total < 0) as losers
from pnl
group by session_id
order by session, session_id
