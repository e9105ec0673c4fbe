"""What the venue's account activities mean for the account (T12), by Alpaca's `activity_type`: one table for the runner and the reports.

A kind that stands in no set here is booked as cash of the account's own and named as a break, because nobody has said what it is.
"""

from __future__ import annotations

PAID_FOR_ACTIONS = frozenset({"DIV", "CIL", "DIVCGL", "DIVCGS", "DIVROC", "DIVTXEX"})  # for an action already booked on its ex-date
FLOWS = frozenset({"CSD", "CSW", "JNLC", "ACATC"})  # deposits and withdrawals: no return
SILENT = frozenset({"FILL", "SPLIT", "SSP", "SSO", "REORG"})  # fills have records of their own, splits come as CORPORATE_ACTION
# Cash of the account's own: fees, interest, borrow, what is withheld or passed through.
OWN_CASH = frozenset({"FEE", "CFEE", "INT", "INTNRA", "INTTW", "DIVFEE", "DIVFT", "DIVNRA", "DIVTW", "PTC", "PTR"})
KNOWN = PAID_FOR_ACTIONS | FLOWS | SILENT | OWN_CASH
