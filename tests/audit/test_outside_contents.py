"""The outsider's audit of parameters, of the fees that follow from them, and of what blocks say is in them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aitbc.audit.explorer import _header
from aitbc.core.log.policy import Policy
from tests.audit.test_outside import (
    HELD,
    POLICY,
    TENTH,
    Change,
    Made,
    Served,
    audited,
    change_of,
    only,
    paid,
    receipt_of,
    served,
)
from tests.support.flows import KEY

__all__ = ["served"]

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

DAY_S = 86_400
AT_MS = 1_767_300_000_000
FIRST = change_of(1, 250, 1)
CHANGES: dict[str, tuple[list[bytes], str]] = {
    "what was in force": ([TENTH, *paid(45, 5), receipt_of()], ""),
    "what was set before there was a history": ([*paid(45, 5), receipt_of(), change_of(1, None, 1000)], ""),
    "no longer, within a day": ([TENTH, change_of(2, 1000, 0, AT_MS - 1), *paid(45, 5), receipt_of()], ""),
    "a day after it": (
        [TENTH, change_of(2, 1000, 0, AT_MS - DAY_S * 1000 - 1), *paid(45, 5), receipt_of()],
        "leaf 6",
    ),
    "not yet": ([*paid(45, 5), receipt_of(), change_of(1, 250, 1000, AT_MS + DAY_S * 1000 + 1)], "leaf 4"),
    "the default": ([*paid(45, 5), receipt_of()], "leaf 4"),
    "a fee that never was": ([TENTH, *paid(44, 6), receipt_of(fee_units=6)], "leaf 5"),
    "a parameter of later": ([change_of(1, 3, 4, name="of_later"), change_of(2, 4, 5, name="of_later")], ""),
    "and what it was not": (
        [change_of(1, 3, 4, name="of_later"), change_of(2, 3, 5, name="of_later")],
        "parameter 2",
    ),
    "a number left out": ([change_of(2, 250, 1)], "parameter 2"),
    "a default that is none": ([change_of(1, 251, 1)], "parameter 1"),
    "another value before": ([FIRST, change_of(2, 250, 2)], "parameter 2"),
    "a fee beyond its bounds": ([change_of(1, 250, 5001)], "parameter 1"),
    "a value that is a number": ([FIRST.replace(b'"1"', b"1")], "leaf 2"),
    "a value with a zero before it": ([FIRST.replace(b'"1"', b'"01"')], "leaf 2"),
    "more to say": ([FIRST.replace(b"}", b',"z":1}')], "leaf 2"),
    "a change without a name": ([FIRST.replace(b'"name":"fee_bps",', b"")], "leaf 2"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parameters_and_the_fees_that_follow_from_them(databases: Any, name: str) -> None:
    policy = Policy("ait-devnet", POLICY.log, (), 0, POLICY.receipt_keys)
    leaves, which = CHANGES[name]
    report = audited(Made([*HELD, *leaves]), policy=policy)
    assert str(report.wrong or "").startswith(which) and report.ok == (not which), report.problems
    if "of_later" in str(leaves) and report.ok:
        assert any(said.startswith("2 changes of parameters") for said in report.not_checked)


def counting(height: int, **counts: Any) -> Change:
    """The key's owner lets one block count its leaves otherwise, and signs it and all that follow anew."""

    def change(_path: str, data: bytes) -> bytes:
        blocks = json.loads(data)
        last = ""
        for block in reversed(blocks if len(blocks) > 1 else []):
            if block["height"] > 0:
                header = replace(_header(block, "ait-devnet"), previous_hash=last)
                header = replace(header, **counts) if block["height"] == height else header
                block.update(
                    previous_hash=last,
                    transactions=header.transactions,
                    receipts=header.receipts,
                    contents=header.contents,
                    hash=header.hash,
                    signature=header.sign(KEY),
                )
            last = block["hash"]
        return json.dumps(blocks).encode()

    return only("/v1/explorer/blocks?", change)


def test_a_block_counts_what_is_in_it(served: Served) -> None:
    """Sums, hashes, signatures and the tree are right: the entries alone tell."""
    assert audited(served).ok
    blocks = json.loads(served.get("/v1/explorer/blocks?limit=100&cursor=100", 0))
    one = next(block for block in blocks if block["height"] == 1)
    transfers, receipts = one["transactions"], one["receipts"]
    assert one["contents"] == {"parameters": 2, "receipts": receipts, "transfers": transfers}
    served.change = counting(1)
    assert audited(served).ok
    for counts, said in (
        (
            {"transactions": transfers - 1, "receipts": receipts + 1},
            f"{transfers - 1} transfers and {receipts + 1} rec",
        ),
        ({"others": (("parameters", 1),), "transactions": transfers + 1}, f"{transfers + 1} transfers and"),
        ({"others": (("wishes", 2),)}, "2 of other kinds"),
    ):
        served.change = counting(1, **counts)
        wrong = audited(served).wrong
        assert wrong is not None and (wrong.kind, wrong.id) == ("block", "1"), wrong
        assert said in wrong.what.partition(", its leaves")[0]
        assert wrong.what.endswith(
            f"its leaves are {transfers} transfers and {receipts} receipts and 2 parameters"
        )
