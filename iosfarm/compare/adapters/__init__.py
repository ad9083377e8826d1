"""One module for each framework; the contract is `iosfarm.compare.adapter`."""
