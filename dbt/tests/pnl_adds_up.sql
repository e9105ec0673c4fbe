-- Sessions whose parts do not add to the equity change within a cent (T36).
select session_id, total, equity_change from {{ ref('session_pnl') }} where abs(total - equity_change) >= 0.01
