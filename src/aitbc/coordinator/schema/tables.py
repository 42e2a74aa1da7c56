"""Every table of the program, in one metadata: what migrations and tests mean by "the schema".

Importing this module imports each slice's models and nothing else of the slice.
"""

from sqlmodel import SQLModel

import aitbc.coordinator.api_keys.models
import aitbc.coordinator.chain.models
import aitbc.coordinator.exchange.models
import aitbc.coordinator.governance.models
import aitbc.coordinator.idempotency.models
import aitbc.coordinator.jobs.models
import aitbc.coordinator.ledger.models
import aitbc.coordinator.marketplace.models
import aitbc.coordinator.miners.models
import aitbc.coordinator.parameters.models
import aitbc.coordinator.payments.models
import aitbc.coordinator.receipts.models
import aitbc.coordinator.users.models  # noqa: F401

metadata = SQLModel.metadata
