"""What the venue's account activities mean for the account (T12), by Alpaca's `activity_type`: one table for the runner and the reports.

A kind that stands in no set here is cash of the account's own: fees, interest, borrow.
"""

from __future__ import annotations

PAID_FOR_ACTIONS = frozenset({"DIV", "CIL", "DIVCGL", "DIVCGS", "DIVROC", "DIVTXEX"})  # for an action already booked on its ex-date
FLOWS = frozenset({"CSD", "CSW", "JNLC", "ACATC"})  # deposits and withdrawals: no return
SILENT = frozenset({"FILL", "SPLIT", "SSP", "SSO", "REORG"})  # fills have records of their own, splits come as CORPORATE_ACTION
