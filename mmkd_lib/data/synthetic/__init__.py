"""Stand-ins that are drawn here, and the exact posterior of everything in them."""
