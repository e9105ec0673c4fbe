-- Orders of each session by side, leg and status, and how their fills compare with the limits that were set.
with orders as (
  {{ lake_table(var('orders'), {
      'session_id': 'varchar', 'session': 'date', 'client_order_id': 'varchar', 'instrument_id': 'varchar', 'side': 'varchar',
      'leg': 'varchar', 'status': 'varchar', 'lots': 'bigint', 'limit_price': 'double'}) }}
),
fills as (
  {{ lake_table(var('fills'), {
      'session_id': 'varchar', 'client_order_id': 'varchar', 'lots': 'bigint', 'price': 'double'}) }}
),
filled as (
  -- an order keeps its id for life: sums over all sessions, so a stop filled weeks later belongs to the order that was sent
  select client_order_id, sum(lots) as filled_lots, sum(lots * price) / sum(lots) as average_price
  from fills group by client_order_id
)
select
  o.session_id,
  o.session,
  o.side,
  o.leg,
  o.status,
  count(*) as orders,
  sum(o.lots) as lots,
  coalesce(sum(f.filled_lots), 0) as filled_lots,
  sum(f.filled_lots * f.average_price) as filled_value,
  -- positive: better than the limit
  avg(case when o.limit_price > 0 and f.average_price is not null
      then 1e4 * (o.limit_price - f.average_price) / o.limit_price * case o.side when 'buy' then 1 else -1 end end) as improvement_bps
from orders o left join filled f using (client_order_id)
group by all
order by o.session, o.session_id, o.side, o.leg, o.status
