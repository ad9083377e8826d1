"""The tables of the IOS paper, counted again, beside the paper's own figures."""
