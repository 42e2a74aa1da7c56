"""Every table of the program, in one metadata: what migrations and tests mean by "the schema".

Importing this module imports each slice's models and nothing else of the slice.
"""

from sqlmodel import SQLModel

import aitbc.accounts.models
import aitbc.chain.models
import aitbc.idempotency.models
import aitbc.jobs.models
import aitbc.ledger.models
import aitbc.miners.models
import aitbc.parameters.models
import aitbc.payments.models
import aitbc.receipts.models
import aitbc.users.models  # noqa: F401

metadata = SQLModel.metadata
