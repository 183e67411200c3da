"""Pure values and rules of the product: no I/O, no clock, no third party."""
