"""An example for each command, shown at the end of its help. A test holds that each one parses."""

from __future__ import annotations

from typing import Any

_OUTPUT = "5a1c3a2e7e0f7b1f6d8c9b0a1e2d3c4b5a69788796a5b4c3d2e1f00112233445:0"
EXAMPLES = {
    "demo": "aitbc demo --once",
    "doctor": "aitbc doctor",
    "init": "aitbc init",
    "login": "aitbc login --url https://coordinator.example --key -",
    "submit": 'aitbc submit --wait --model aitbc-starter "What is a receipt?"',
    "jobs": "aitbc jobs --status pending --limit 50",
    "job show": "aitbc job show 019b7c1e-5a46-7000-8000-000000000002",
    "job cancel": "aitbc job cancel 019b7c1e-5a46-7000-8000-000000000002",
    "job explain": "aitbc job explain 019b7c1e-5a46-7000-8000-000000000002",
    "job events": "aitbc job events 019b7c1e-5a46-7000-8000-000000000002 --json",
    "miners": "aitbc miners",
    "balance": "aitbc balance --json",
    "payment show": "aitbc payment show 019b7c1e-5a46-7000-8000-000000000002",
    "payment open": "aitbc payment open 019b7c1e-5a46-7000-8000-000000000002",
    "payment release": "aitbc payment release 019b7c1e-5a46-7000-8000-000000000002",
    "payment refund": "aitbc payment refund 019b7c1e-5a46-7000-8000-000000000002 --amount 0.5",
    "gpu list": 'aitbc gpu list --available --model "RTX 4090" --max-price 0.5',
    "gpu show": "aitbc gpu show 019b7c1e-5a46-7000-8000-000000000002",
    "gpu register": 'aitbc gpu register "NVIDIA GeForce RTX 4090" --memory 24 --price 0.4 --miner rig-1 --region eu',
    "gpu book": "aitbc gpu book 019b7c1e-5a46-7000-8000-000000000002 2.5 --max-price 1",
    "gpu release": "aitbc gpu release 019b7c1e-5a46-7000-8000-000000000002",
    "gpu orders": "aitbc gpu orders --status active",
    "gpu review": 'aitbc gpu review 019b7c1e-5a46-7000-8000-000000000002 5 --text "quick and quiet"',
    "gpu reviews": "aitbc gpu reviews 019b7c1e-5a46-7000-8000-000000000002",
    "gpu pricing": 'aitbc gpu pricing "RTX 4090"',
    "topup": "aitbc topup 500",
    "statement": "aitbc statement --from 2026-01-01 --to 2026-02-01 --csv",
    "receipt show": "aitbc receipt show 019b7c1e-5d2e-7000-8000-000000000002 --result --save receipt.json",
    "receipt list": "aitbc receipt list --model aitbc-starter --limit 50",
    "receipt verify": "aitbc receipt verify receipt.json --keys keys.json",
    "receipt keys": "aitbc receipt keys --save keys.json",
    "wallet new": "aitbc wallet new",
    "wallet address": "aitbc wallet address",
    "wallet balance": "aitbc wallet balance --url https://coordinator.example",
    "wallet send": "aitbc wallet send ait1qqqq… 2.5",
    "wallet sign": 'aitbc wallet sign "a text of mine"',
    "wallet login": "aitbc wallet login --save-key --url https://coordinator.example",
    "wallet key new": "aitbc wallet key new --role miner --label rig-1",
    "wallet key list": "aitbc wallet key list",
    "wallet key revoke": "aitbc wallet key revoke abcdefghijkl",
    "governance list": "aitbc governance list --status active",
    "governance show": "aitbc governance show 019b7c1e-5a46-7000-8000-000000000002",
    "governance propose": 'aitbc governance propose "A higher fee" --parameter fee_bps --value 300',
    "governance cancel": "aitbc governance cancel 019b7c1e-5a46-7000-8000-000000000002",
    "governance vote": "aitbc governance vote 019b7c1e-5a46-7000-8000-000000000002 for",
    "governance execute": "aitbc governance execute 019b7c1e-5a46-7000-8000-000000000002",
    "governance power": "aitbc governance power alice",
    "governance delegate": "aitbc governance delegate alice",
    "governance delegations": "aitbc governance delegations alice",
    "governance parameters": "aitbc governance parameters",
    "policy new": "aitbc policy new --keys keys.json --witness witness.example/w1+0ad7d35e+… --save policy.json",
    "miner run": "aitbc miner run --coordinator https://coordinator.example --key aitbc_miner_… --price 0.02",
    "miner status": "aitbc miner status",
    "serve": "aitbc serve --host 0.0.0.0 --port 8000",
    "keys create": "aitbc keys create --role client --account alice --limit 100 --limit-period day",
    "keys list": "aitbc keys list --account alice",
    "keys revoke": "aitbc keys revoke abcdefghijkl",
    "keys rotate": "aitbc keys rotate abcdefghijkl",
    "providers approve": "aitbc providers approve alice",
    "providers revoke": "aitbc providers revoke mallory",
    "providers list": "aitbc providers list",
    "ledger mint": 'aitbc ledger mint --to alice --amount 250 --reason "invoice 4711, paid by bank" --id invoice-4711',
    "ledger balance": "aitbc ledger balance alice",
    "ledger accounts": "aitbc ledger accounts --limit 20",
    "exchange status": "aitbc exchange status",
    "exchange unassigned": "aitbc exchange unassigned --json",
    "exchange assign": f"aitbc exchange assign {_OUTPUT} 019b7c1e-5a46-7000-8000-000000000002",
    "exchange owed": "aitbc exchange owed",
    "exchange forgive": f"aitbc exchange forgive {_OUTPUT}",
    "parameter list": "aitbc parameter list",
    "parameter set": 'aitbc parameter set fee_bps 300 --reason "as the members decided in May"',
    "db upgrade": "aitbc db upgrade",
    "db version": "aitbc db version",
    "db check": "aitbc db check",
    "db backup": "aitbc db backup coordinator-backup.db",
    "log head": "aitbc log head --json",
    "log accept": "aitbc log accept",
    "audit": "aitbc audit --url https://coordinator.example --policy policy.json",
    "witness run": "aitbc witness run --name example.com/w1 --log aitbc/ait-devnet+b268f388+… --listen 0.0.0.0:8100",
}
"""By the command's words."""


def add_examples(words: str, command: Any) -> None:
    """Puts the examples of a command, and of those below it, at the end of their help."""
    for name, child in getattr(command, "commands", {}).items():
        add_examples(f"{words} {name}", child)
    example = EXAMPLES.get(words)
    if example is not None and not command.epilog:
        command.epilog = f"Example: {example}"
