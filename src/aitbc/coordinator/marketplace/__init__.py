"""GPUs by the hour: what is on offer, and who has booked it."""
