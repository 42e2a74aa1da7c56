"""Miners: registration and sessions."""

from aitbc.coordinator.errors.base import AitbcError, NotFound


class MinerNotFound(NotFound):
    code = "MINER_NOT_FOUND"
    template = "There is no such miner: {miner_id}"


class MinerInactive(AitbcError):
    status = 409
    code = "MINER_INACTIVE"
    template = "The miner is not taking jobs: {miner_id}"


class MinerIdInUse(AitbcError):
    """`reason`: KEY_DIFFERS or MACHINE_DIFFERS; `lapses_in_s`: until then, where it is not heard of again."""

    status = 409
    code = "MINER_ID_IN_USE"
    template = (
        "A miner of this id is alive {by}: {miner_id}. Take another id, stop that one, or take it over"
        " (takeover; aitbc miner run --takeover)."
    )


class MinerSessionReplaced(AitbcError):
    status = 409
    code = "MINER_SESSION_REPLACED"
    template = "Another registration of this miner has taken this session's place: {miner_id}"


class TooManyMiners(AitbcError):
    status = 409
    code = "TOO_MANY_MINERS"
    template = "{alive} miners of this account are here, and {limit} may be; deregister one first."


class TooManyOffers(AitbcError):
    """An offer is a model of a miner for one job type; a name that ends in `:latest` is offered without it too."""

    status = 409
    code = "TOO_MANY_OFFERS"
    template = (
        "The registration would make {offers} offers of {of}, and {limit} are allowed: name fewer models."
    )
