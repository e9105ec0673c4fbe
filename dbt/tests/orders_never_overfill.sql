-- More lots filled than ordered.
select session_id, side, leg, status from {{ ref('session_orders') }} where filled_lots > lots
