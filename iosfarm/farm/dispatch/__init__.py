"""Wanted stages to devices: leases, pools, failures and what they mean, whom to believe."""
