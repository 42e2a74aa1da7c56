"""Whom a waiting job is kept from: a short set in one column, so that a claim passes it over in the index.

Members stand between spaces: a miner's id; `@` and an account, for all its miners; NEWCOMERS, for miners that
have not proven themselves; SECOND_OPINION, which keeps nobody away: the job was called hopeless, and ends
where nobody else comes to try it. A set is the empty text where nobody is kept away.
"""

from collections.abc import Iterable

NEWCOMERS = "?"
SECOND_OPINION = "!"
MOST = 16  # members; a job that is tried more often is kept from those that failed it last


def set_of(members: Iterable[str]) -> str:
    """The set as it is stored: the last MOST of `members`, each once."""
    last = list(dict.fromkeys(members))[-MOST:]
    return f" {' '.join(last)} " if last else ""


def member(name: str) -> str:
    """A member as it stands in a set."""
    return f" {name} "


def account(account_id: str) -> str:
    """The member that stands for all miners of an account."""
    return f"@{account_id}"


def keeps_away(excluded: str, miner_id: str, account_id: str, proven: bool) -> bool:
    """Whether the set keeps this miner away. The queue's SQL says the same (`jobs.claims`)."""
    return excluded != "" and (
        member(miner_id) in excluded
        or member(account(account_id)) in excluded
        or (not proven and member(NEWCOMERS) in excluded)
    )


def awaits_opinion(excluded: str) -> bool:
    """Whether a miner called the job hopeless and another is to say so too."""
    return member(SECOND_OPINION) in excluded
