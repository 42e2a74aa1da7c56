"""Payments that their payer steers: escrowed before a job is dispatched, released or refunded after it."""
